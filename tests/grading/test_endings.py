"""What a household's grade would be once a list item has ended: graded again by the policy, calculated by hand here.

The household all others differ from has 75 points, 4 of them for lists without an item, and grade AA.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from etl.grading import grading_plan, load_policies
from etl.reports.endings import Endings, endings_of
from tests.grading import test_cases
from tests.sql.month import MODELS, ROOT, Month

PERIOD = "2024-03"
CASES: list[dict[str, Any]] = [
    {"case": "a veto", "items": [{"item": "veto_enforcement", "published": "2024-06-30"}]},
    {"case": "a penalty that costs a grade", "civility": 79,
     "items": [{"item": "negative_waste", "from": "2020-01-01", "to": "2021-02-28"}]},
    {"case": "two that reach the floor", "items": [{"item": "negative_contract"}, {"item": "negative_fees"}]},
    {"case": "two vetoes", "items": [{"item": "veto_enforcement"}, {"item": "veto_crime"}]},
    {"case": "a veto and a penalty", "items": [{"item": "veto_enforcement"}, {"item": "negative_waste"}]},
    {"case": "a veto of a member", "items": [{"item": "veto_enforcement", "by": "member"}]},
    {"case": "a good deed", "items": [{"item": "positive_rescue"}]},
    {"case": "nothing", "items": []},
    {"case": "not rated", "refused": "grading", "items": [{"item": "veto_enforcement"}]},
]  # fmt: skip
KEYS = {case["case"]: f"case{number:03d}" for number, case in enumerate(CASES)}


@pytest.fixture(scope="module")
def month() -> Iterator[Month]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_cases, "CASES", [case | {"month": PERIOD} for case in CASES])
        found = test_cases._graded(PERIOD)
    yield found
    found.close()


def endings(month: Month, case: str, *, lists: tuple[str, ...] = ("negative",)) -> Endings:
    statements = grading_plan(load_policies([ROOT / "config"], month.period), MODELS)
    return endings_of(
        month.engine, statements, KEYS[case], lambda one: month.engine.run_model(one.name, one.sql, month.params), lists=lists
    )  # fmt: skip


def told(found: Endings) -> list[tuple[str, date | None, int, str | None]]:
    """Item, its last day, and score and grade without it."""
    return [
        (one.item.item_code, one.item.counts_until_on, int(one.graded.score or 0), one.graded.computed_grade)
        for one in found.each
    ]


@pytest.mark.parametrize(
    ("case", "each", "together"),
    [
        ("a veto", [("veto_enforcement", date(2024, 6, 30), 75, "AA")], None),
        # civility 79 gives 7 points in place of 12, the penalty takes 2: 68, grade A; without it 70
        ("a penalty that costs a grade", [("negative_waste", date(2026, 2, 28), 70, "AA")], None),
        # 4 - 4 - 2 is floored to 0: without the judgment 2 points, without the fees still none
        ("two that reach the floor", [("negative_contract", None, 73, "AA"), ("negative_fees", None, 71, "AA")], (75, "AA")),
        ("two vetoes", [("veto_enforcement", None, 75, "D"), ("veto_crime", None, 75, "D")], (75, "AA")),
        ("a veto and a penalty", [("veto_enforcement", None, 73, "AA"), ("negative_waste", None, 75, "D")], (75, "AA")),
        ("a veto of a member", [], None),
        ("a good deed", [], None),
        ("nothing", [], None),
        ("not rated", [], None),
    ],
)  # fmt: skip
def test_each_item_is_told_with_the_grade_without_it(
    month: Month, case: str, each: list[Any], together: tuple[int, str] | None
) -> None:
    found = endings(month, case)
    assert told(found) == each
    assert (found.together and (int(found.together.score or 0), found.together.computed_grade)) == together


def test_what_the_policy_does_not_call_advisable_is_not_told_but_a_veto_is(month: Month) -> None:
    assert [one.item.item_code for one in endings(month, "a veto and a penalty", lists=()).each] == ["veto_enforcement"]


def test_afterwards_the_month_is_as_it_was(month: Month) -> None:
    query = "SELECT household_key, score, computed_grade, veto_ids FROM core_household_grades ORDER BY ALL"
    before = month.engine.fetch(query)
    endings(month, "a veto and a penalty")
    assert month.engine.fetch(query) == before
    assert month.engine.fetch("SELECT count(*) FROM core_credit_events WHERE is_in_force")[0][0] == 11
