"""What a household's grade would be once a list item has ended: graded again by the policy, calculated by hand here.

The household all others differ from has 75 points, 4 of them for lists without an item, and grade AA.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import Any

import pytest

from etl.grading import Statement, grading_plan, load_policies
from etl.reports.endings import Endings, endings_of
from tests.grading import naive, test_cases
from tests.grading.county import graded_month, random_county
from tests.grading.test_second_opinion import second_month
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
    return endings_of(month.engine, statements, KEYS[case], partial(_run, month), lists=lists)


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


@pytest.fixture(scope="module")
def random_month() -> Iterator[Month]:
    """The second of two months in which everything happens, items of every list among it."""
    county = random_county(11, 300)
    found = graded_month(PERIOD, second_month(county, 12), before=graded_month("2024-02", county))
    yield found
    found.close()


def test_the_naive_policy_grades_the_same_without_the_item(random_month: Month) -> None:
    """The item's row is taken out of the core table, and everybody else's way of counting is asked."""
    tables = naive.read_tables(random_month)
    statements = grading_plan(load_policies([ROOT / "config"], random_month.period), MODELS)
    keys = [key for (key,) in random_month.engine.fetch(
        "SELECT DISTINCT i.household_key FROM feature_list_items AS i INNER JOIN core_household_grades AS g "
        "ON g.household_key = i.household_key AND g.score IS NOT NULL WHERE i.list_kind <> 'positive' ORDER BY 1 LIMIT 12"
    )]  # fmt: skip
    told = []
    for key in keys:
        found = endings_of(random_month.engine, statements, key, partial(_run, random_month))
        told += [(key, one) for one in found.each]
    assert len(told) >= 8 and {one.item.list_kind for _, one in told} == {"negative", "veto"}
    assert any(one.graded.computed_grade != "D" for _, one in told if one.item.list_kind == "veto")
    for key, one in told:
        without = [row for row in tables.of("core_credit_events") if row["event_key"] != one.item.event_key]
        changed = naive.Tables(tables.policy, tables.end, {**tables.rows, "core_credit_events": without})
        row = next(row for row in changed.of("core_households") if row["household_key"] == key)
        by_hand = naive._grade_one(naive._Facts(changed), row)
        assert (one.graded.score, one.graded.computed_grade, one.graded.effective_grade) == (
            by_hand["score"], by_hand["computed"], by_hand["effective"],
        ), (key, one)  # fmt: skip


def _run(month: Month, statement: Statement) -> None:
    month.engine.run_model(statement.name, statement.sql, month.params)
