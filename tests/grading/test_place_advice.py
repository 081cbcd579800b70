"""What would lift a village or town: the smallest numbers that do, by the policy's own statements, hand-calculated here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.grading import load_policies
from etl.grading.policy import COUNTY
from etl.period import Period
from etl.reports.explain_guide import load_guide
from etl.reports.places import Criterion, PlaceAdvice, Twins, advice_of, criteria_of
from etl.vocabulary import ConfigurationError
from tests.sql.month import MODELS, ROOT, Month, published_columns

PERIOD = Period.parse("2024-03")
POLICIES = load_policies([ROOT / "config"], PERIOD)
GUIDE = load_guide([ROOT / "config"])
VILLAGE = {
    "period": "2024-03", "town_code": "t", "village_code": "v", "registered_households": 1000, "rated_households": 900,
    "credited_households": 700, "aa_plus_households": 0, "borrower_households": 100, "non_arrears_households": 85,
    "open_balance_yuan": "1000.00", "bad_balance_yuan": "49.99", "unsettled_households": 0, "village_grade": "A",
}  # fmt: skip
SOUND = {"non_arrears_households": 99, "bad_balance_yuan": "0"}
SMALL = {"registered_households": 13, "rated_households": 8, "village_grade": "B"}
NO_LOANS = {"borrower_households": 0, "non_arrears_households": 0, "village_grade": "B"}
TOWN = {
    "period": "2024-03", "town_code": "t", "villages": 20, "programme_villages": 20, "rated_villages": 20, "credited_villages": 10,
    "registered_households": 1000, "rated_households": 700, "credited_households": 500, "aa_plus_households": 0,
    "borrower_households": 100, "non_arrears_households": 90, "open_balance_yuan": "1000.00", "bad_balance_yuan": "0.00",
    "unsettled_households": 0, "town_grade": "A",
}  # fmt: skip


@pytest.fixture(scope="module")
def month() -> Iterator[Month]:
    found = Month(str(PERIOD))
    for place in ("village", "town"):
        found._create(f"core_{place}_grades", published_columns(f"core_{place}_grades"))
    yield found
    found.close()


def explained(month: Month, place: str, row: dict[str, Any]) -> tuple[list[Criterion], PlaceAdvice]:
    table = f"core_{place}_grades"
    month.engine.con.execute(f"DELETE FROM {table}")
    month._insert(table, published_columns(table), row)
    version = POLICIES.shares[place][COUNTY]
    twins = Twins(month.engine, POLICIES, version, MODELS, GUIDE.shares[place], place, row[f"{place}_code"])
    criteria = criteria_of(twins)
    return criteria, advice_of(twins, row, criteria)


@pytest.mark.parametrize(
    ("change", "outcome", "target", "steps", "after"),
    [
        # AA: 80 % of 1,000 is 100 households more, 90 % of 100 borrowers is 5 more; 49.99 of 1,000 is bad, 30 must not be reached:
        # (49.99 - n) / (1000 - n) < 0.03 from n = 21 on, as 28.99 < 29.37 but 29.99 > 29.40
        ({}, "found", "AA", {"credited_of_register": 100, "non_arrears_of_borrowers": 5, "bad_of_balance": 21}, "AA"),
        (SOUND | {"credited_households": 799}, "found", "AA", {"credited_of_register": 1}, "AA"),
        ({"credited_households": 697, "village_grade": "B"}, "found", "A", {"credited_of_register": 3}, "A"),
        (SMALL | {"credited_households": 8}, "found", "A", {"credited_of_register": 2}, "A"),  # 70 % of 13 is 9.1
        (SOUND | {"credited_households": 960, "village_grade": "AAA"}, "best_grade", None, None, None),
        ({"village_grade": None}, "not_rated", None, None, None),
        (NO_LOANS | {"credited_households": 699}, "found", "A", {"credited_of_register": 1}, "A"),
    ],
)  # fmt: skip
def test_a_village_learns_the_smallest_numbers(
    month: Month,
    change: dict[str, Any],
    outcome: str,
    target: str | None,
    steps: dict[str, int] | None,
    after: str | None,
) -> None:
    _, advice = explained(month, "village", VILLAGE | change)
    assert (advice.outcome, advice.target, advice.steps, advice.grade_after) == (outcome, target, steps, after)


@pytest.mark.parametrize(
    ("change", "outcome", "target", "steps", "after"),
    [
        # AA: 65 % of 20 villages is 13, 93 of 100 borrowers, 80 % of 1,000 households
        ({}, "found", "AA", {"credited_of_villages": 3, "non_arrears_of_borrowers": 3, "rated_of_register": 100}, "AA"),
        ({"credited_villages": 9, "town_grade": "B"}, "found", "A", {"credited_of_villages": 1}, "A"),
        ({"programme_villages": 0, "credited_villages": 0, "town_grade": "B"}, "out_of_reach", "A", {}, None),
    ],
)  # fmt: skip
def test_a_town_learns_the_smallest_numbers(
    month: Month, change: dict[str, Any], outcome: str, target: str | None, steps: dict[str, int], after: str | None
) -> None:
    _, advice = explained(month, "town", TOWN | change)
    assert (advice.outcome, advice.target, advice.steps, advice.grade_after) == (outcome, target, steps, after)


def test_every_condition_says_whether_it_is_met_and_by_how_much_it_is_not(month: Month) -> None:
    """70 % of the register for A is met exactly; AA lacks 100 households, AAA 200; 85 % of the borrowers, and so on."""
    criteria, _ = explained(month, "village", VILLAGE)
    assert [(one.grade, one.share, one.is_met, one.short_by) for one in criteria] == [
        ("AAA", "credited_of_register", False, 200), ("AAA", "non_arrears_of_borrowers", False, 10), ("AAA", "bad_of_balance", False, 31),
        ("AA", "credited_of_register", False, 100), ("AA", "non_arrears_of_borrowers", False, 5), ("AA", "bad_of_balance", False, 21),
        ("A", "credited_of_register", True, 0), ("A", "non_arrears_of_borrowers", True, 0), ("A", "bad_of_balance", True, 0),
    ]  # fmt: skip
    assert (criteria[0].numerator, criteria[0].denominator) == (Decimal(700), Decimal(1000))


SHARES = yaml.safe_load((ROOT / "config/policy/village.yml").read_text(encoding="utf-8"))["versions"][0]


def graded_by_hand(row: dict[str, Any]) -> str:
    """The village policy once more, in fractions."""

    def holds(condition: dict[str, Any]) -> bool:
        share = SHARES["shares"][condition["share"]]
        over, under = Decimal(row[share["numerator"]]), Decimal(row[share["denominator"]])
        if under == 0:
            return bool(share["empty"] == "met")
        if "at_least" in condition:
            return over * 100 >= condition["at_least"] * under
        return over * 100 < condition["below"] * under

    return str(next(grade["grade"] for grade in SHARES["grades"] if all(holds(one) for one in grade["all"])))


def followed(row: dict[str, Any], steps: dict[str, int]) -> dict[str, Any]:
    bad = min(Decimal(row["bad_balance_yuan"]), Decimal(steps.get("bad_of_balance", 0)))
    return {
        **row, "credited_households": row["credited_households"] + steps.get("credited_of_register", 0),
        "non_arrears_households": row["non_arrears_households"] + steps.get("non_arrears_of_borrowers", 0),
        "bad_balance_yuan": Decimal(row["bad_balance_yuan"]) - bad, "open_balance_yuan": Decimal(row["open_balance_yuan"]) - bad,
    }  # fmt: skip


@st.composite
def villages(draw: st.DrawFn) -> dict[str, Any]:
    registered = draw(st.integers(10, 3_000))
    borrowers = draw(st.integers(0, registered))
    balance = draw(st.integers(0, 10**11))
    credited = draw(st.integers(0, registered))
    row = {
        "registered_households": registered, "rated_households": draw(st.integers(credited, registered)), "credited_households": credited,
        "borrower_households": borrowers, "non_arrears_households": draw(st.integers(0, borrowers)),
        "open_balance_yuan": Decimal(balance) / 100, "bad_balance_yuan": Decimal(balance * draw(st.integers(0, 100)) // 1_000) / 100,
    }  # fmt: skip
    return {**VILLAGE, **row, "village_grade": graded_by_hand(row)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=villages())
def test_with_an_advice_the_grade_is_reached_and_with_one_less_it_is_not(month: Month, row: dict[str, Any]) -> None:
    _, advice = explained(month, "village", row)
    order = [grade["grade"] for grade in SHARES["grades"]]
    if row["village_grade"] == "AAA":
        assert advice.outcome == "best_grade"
        return
    assert (advice.outcome, advice.target) == ("found", order[order.index(row["village_grade"]) - 1])
    steps = dict(advice.steps or {})
    wanted = order[: order.index(advice.target or "") + 1]
    assert graded_by_hand(followed(row, steps)) in wanted
    for share, count in steps.items():
        assert graded_by_hand(followed(row, {**steps, share: count - 1})) not in wanted, share


def test_a_share_over_counts_that_are_not_published_is_a_configuration_error(month: Month) -> None:
    version = POLICIES.shares["village"][COUNTY]
    share = version.shares["credited_of_register"].model_copy(update={"numerator": "grade_aaa_households"})
    other = version.model_copy(update={"shares": {**version.shares, "credited_of_register": share}})
    with pytest.raises(
        ConfigurationError, match=r"village.yml: shares.credited_of_register: grade_aaa_households is not published"
    ):
        Twins(month.engine, POLICIES, other, MODELS, GUIDE.shares["village"], "village", "v")


def test_guidance_about_a_column_there_is_not_is_a_configuration_error(month: Month) -> None:
    guidance = GUIDE.shares["village"]["bad_of_balance"].model_copy(update={"facts": {"no_such_count": "1"}})
    version = POLICIES.shares["village"][COUNTY]
    with pytest.raises(ConfigurationError, match=r"explain.yml: shares.village.bad_of_balance.facts.no_such_count"):
        Twins(month.engine, POLICIES, version, MODELS, {"bad_of_balance": guidance}, "village", "v")


def test_a_towns_own_version_is_asked_for_its_own_twins(month: Month) -> None:
    """A twin bears no code of a town; yet a town's own 12 of 20 villages is 60 %, its own bound for AA."""
    county = POLICIES.shares["town"][COUNTY]
    own = county.model_copy(update={"scope": "341181100000", "grades": [
        grade.model_copy(update={"all": [
            one.model_copy(update={"at_least": Decimal(60)}) if one.at_least == 65 else one for one in grade.all
        ]})
        for grade in county.grades
    ]})  # fmt: skip
    both = replace(POLICIES, in_force={**POLICIES.in_force, "town": {COUNTY: county, "341181100000": own}})
    row = {**TOWN, "town_code": "341181100000"}
    explained(month, "town", row)
    twins = Twins(month.engine, both, own, MODELS, GUIDE.shares["town"], "town", "341181100000")
    assert (advice_of(twins, row, criteria_of(twins)).steps or {})["credited_of_villages"] == 2
