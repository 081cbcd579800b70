"""An advice reaches the grade it names: what it says is done to the core tables, and the naive policy grades them again.

The engine finds the advice among features; here the same is done to notes, cases and reviews, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from etl.grading import load_policies
from etl.reports.advice import Advice, Step, advise
from etl.reports.explain_guide import Guide, load_guide
from etl.vocabulary import ConfigurationError
from tests.grading import naive
from tests.grading.county import DIMENSIONS, graded_month, random_county
from tests.grading.test_second_opinion import second_month
from tests.sql.month import MODELS, ROOT, Month

HOUSEHOLDS = 300
GUIDE = load_guide([ROOT / "config"])
Facts = Any


@pytest.fixture(scope="module")
def month() -> Month:
    """The second of two months in which everything happens."""
    county = random_county(11, HOUSEHOLDS)
    return graded_month("2024-03", second_month(county, 12), before=graded_month("2024-02", county))


@pytest.fixture(scope="module")
def tables(month: Month) -> naive.Tables:
    return naive.read_tables(month)


def advice_for(month: Month, key: str, guide: Guide = GUIDE, *, notice_days: int = 0) -> Advice:
    policies = load_policies([ROOT / "config"], month.period)
    with undone(month):
        return advise(
            month.engine, policies, MODELS, guide, key,
            lambda statement: month.engine.run_model(statement.name, statement.sql, month.params), notice_days=notice_days,
        )  # fmt: skip


@contextmanager
def undone(month: Month) -> Iterator[None]:
    """What is done inside is taken back: advising puts twins in the household's place."""
    month.engine.con.execute("BEGIN")
    try:
        yield
    finally:
        month.engine.con.execute("ROLLBACK")


def followed(tables: naive.Tables, key: str, steps: tuple[Step, ...]) -> dict[str, Any]:
    """How the naive policy grades the household once it has done what the steps say."""
    changed = naive.Tables(
        tables.policy, tables.end, {name: [dict(row) for row in rows] for name, rows in tables.rows.items()}
    )
    for step in steps:
        _DONE[step.indicator](naive._Facts(changed), changed, key, step.bound)
    row = next(row for row in changed.of("core_households") if row["household_key"] == key)
    return naive._grade_one(naive._Facts(changed), row)


def reaches(found: dict[str, Any], target: str | None) -> bool:
    """Whether a household is graded this well, and nothing holds it back; no target is never reached."""
    wanted = naive.ORDER[: naive.ORDER.index(target) + 1] if target else ()
    return found["hold"] is None and found["computed"] in wanted


def _pay_on_time(facts: Facts, tables: naive.Tables, key: str, bound: Decimal) -> None:
    for note in (*facts.notes[key], *facts.past[key]):
        if facts.arrears(note) > bound:
            note["overdue_days"], note["is_overdue"] = int(bound), bound > 0
            note["note_state"] = "repaid" if note["note_state"] == "written_off" else note["note_state"]


def _repay_arrears(facts: Facts, tables: naive.Tables, key: str, bound: Decimal) -> None:
    """Of what is overdue, keep at most the bound's share of the whole balance in one part of a note."""
    notes = [note for note in facts.notes[key] if note["note_state"] in ("active", "ended_unknown")]
    left = int(sum(note["balance_yuan"] for note in notes) * bound) // 100
    for note in notes:
        if note["is_overdue"] and note["balance_yuan"] > left:
            tables.rows["core_loans"].append({**note, "balance_yuan": note["balance_yuan"] - left, "is_overdue": False})
            note["balance_yuan"] = Decimal(left)
        left -= int(note["balance_yuan"]) if note["is_overdue"] else 0
        note["is_overdue"] = note["is_overdue"] and note["balance_yuan"] > 0


def _repay_debt(facts: Facts, tables: naive.Tables, key: str, bound: Decimal) -> None:
    """Repay notes until the balance is down, those in good order first."""
    [income] = [row["annual_income_yuan"] for row in tables.of("core_households") if row["household_key"] == key]
    notes = [note for note in facts.notes[key] if note["note_state"] in ("active", "ended_unknown")]
    excess = sum(note["balance_yuan"] for note in notes) - int(income * bound) // 100
    for note in sorted(notes, key=lambda note: bool(note["is_overdue"])):
        paid = min(note["balance_yuan"], max(excess, Decimal(0)))
        note["balance_yuan"] -= paid
        excess -= paid


def _be_reviewed(facts: Facts, tables: naive.Tables, key: str, bound: Decimal) -> None:
    """A later round, in which three reviewers give the household what is aimed at in every dimension."""
    period = f"{tables.end:%Y-%m}"
    tables.rows["core_civility_ballots"] += [
        {"period": period, "round": "9999", "household_key": key, "reviewer_key": f"new-{number}", "dimension": name,
         "mark": int(bound) // 10, "is_informed": True, "is_own_family": False}
        for number in range(3)
        for name in DIMENSIONS
    ]  # fmt: skip


def _help_to_mediate(facts: Facts, tables: naive.Tables, key: str, bound: Decimal) -> None:
    [head] = [row["head_person_key"] for row in tables.of("core_households") if row["household_key"] == key]
    period = tables.of("core_mediation_cases")[0]["period"]
    for number in range(int(bound) - facts.helped[key]):
        case = {
            **tables.of("core_mediation_cases")[0],
            "case_key": f"helped-{number}",
            "result": "success",
            "performance": None,
        }
        party = {"period": period, "case_key": f"helped-{number}", "party_role": "helper", "person_key": head}
        tables.rows["core_mediation_cases"].append(case)
        tables.rows["core_mediation_parties"].append(party)


def _perform(facts: Facts, tables: naive.Tables, key: str, bound: Decimal) -> None:
    parties = (*tables.of("core_mediation_parties"), *tables.of("history_core_mediation_parties"))
    cases = {party["case_key"] for party in parties if facts.home.get(party["person_key"]) == key}
    for case in (*tables.of("core_mediation_cases"), *tables.of("history_core_mediation_cases")):
        if case["case_key"] in cases:
            case["performance"] = "performed"


_DONE: dict[str, Any] = {
    "repayment_conduct": _pay_on_time, "current_arrears_share_pct": _repay_arrears, "debt_to_income_pct": _repay_debt,
    "civility_review": _be_reviewed, "mediation_help": _help_to_mediate, "agreement_performed": _perform,
}  # fmt: skip
KEYS = st.sampled_from([f"h{number:06d}" for number in range(HOUSEHOLDS)])
LOOK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def single_steps(tables: naive.Tables, key: str) -> list[Step]:
    """Every band of every advisable indicator the household could be brought into, one at a time."""
    facts = naive._Facts(tables)
    row = next(row for row in tables.of("core_households") if row["household_key"] == key)
    found = []
    for indicator in tables.policy["indicators"]:
        name = indicator["id"]
        may = indicator["advisable"] and "bands" in indicator
        may = may and (name == "civility_review" or naive._VALUES[name](facts, row)[1] == "present")
        for band in indicator["bands"] if may else ():
            if "else" not in band:
                found.append(Step(name, Decimal(str(band.get("at_most", band.get("at_least")))), 1))
    return found


def is_rated(month: Month, key: str) -> bool:
    query = "SELECT 1 FROM core_household_grades WHERE household_key = $key AND score IS NOT NULL"
    return bool(month.engine.fetch(query, {"key": key}))


@LOOK
@given(key=KEYS)
def test_an_advice_reaches_the_grade_and_nothing_reaches_it_with_less(
    month: Month, tables: naive.Tables, key: str
) -> None:
    assume(is_rated(month, key))
    advice = advice_for(month, key)
    assert not reaches(followed(tables, key, ()), advice.target)
    alone = [step for step in single_steps(tables, key) if reaches(followed(tables, key, (step,)), advice.target)]
    if advice.outcome == "found":
        assert reaches(followed(tables, key, advice.steps), advice.target), advice
        assert len(advice.steps) == 1 or not alone, (advice, alone)
    else:
        assert not alone, (advice, alone)
        best = {step.indicator: step for step in reversed(single_steps(tables, key))}
        assert not reaches(followed(tables, key, tuple(best.values())), advice.target), advice


def test_every_outcome_occurs(month: Month) -> None:
    """Else the property above would prove little."""
    kinds = "SELECT min(household_key) FROM core_household_grades GROUP BY effective_grade, input_state"
    found = {advice_for(month, key).outcome for (key,) in month.engine.fetch(f"{kinds} ORDER BY 1 LIMIT 12")}
    assert found >= {"found", "best_grade", "not_rated", "on_hold"}


def test_where_nothing_advisable_suffices_it_is_said(month: Month) -> None:
    """Only the review could be bettered, and it is at its best already."""
    guide = GUIDE.model_copy(update={"indicators": {"civility_review": GUIDE.indicators["civility_review"]}})
    [(key,)] = month.engine.fetch(
        "SELECT min(p.household_key) FROM core_household_points AS p INNER JOIN core_household_grades AS g "
        "ON g.household_key = p.household_key AND g.input_state = 'complete' AND g.computed_grade = 'A' "
        "AND g.hold_reason IS NULL WHERE p.indicator = 'civility_review' AND p.points = p.max_points"
    )
    advice = advice_for(month, key, guide)
    assert (advice.outcome, advice.target, advice.steps) == ("out_of_reach", "AA", ())


def test_a_grade_that_has_to_be_noticed_first_is_reached_too(month: Month) -> None:
    [(key,)] = month.engine.fetch(
        "SELECT min(household_key) FROM core_household_grades "
        "WHERE computed_grade = 'B' AND input_state = 'complete' AND hold_reason IS NULL AND veto_ids IS NULL AND "
        "household_key IN (SELECT household_key FROM previous_core_household_grades WHERE effective_grade = 'B')"
    )
    at_once, noticed = advice_for(month, key), advice_for(month, key, notice_days=7)
    assert (at_once.outcome, at_once.steps) == (noticed.outcome, noticed.steps) == ("found", at_once.steps)
    assert noticed.graded is not None and noticed.graded.hold_reason == "awaiting_notice"


def test_nothing_is_advised_that_the_policy_does_not_call_advisable(month: Month) -> None:
    """Events have no band to aim at: how items of the lists end is told apart (test_endings.py)."""
    version = load_policies([ROOT / "config"], month.period).household
    advised = {name for name, guidance in GUIDE.indicators.items() if guidance.advice}
    assert advised == {one.id for one in version.indicators if one.advisable and not one.events}


def test_a_veto_that_cannot_be_lifted_is_said(month: Month) -> None:
    """The agreement stays unperformed where no advice speaks of it: then the cap holds whatever else is done."""
    [(key,)] = month.engine.fetch(
        "SELECT min(household_key) FROM core_household_grades WHERE veto_ids = 'confirmed_agreement_unperformed' "
        "AND input_state = 'complete' AND score >= 55 AND hold_reason IS NULL"
    )
    silent = GUIDE.indicators["agreement_performed"].model_copy(update={"advice": None})
    guide = GUIDE.model_copy(update={"indicators": {**GUIDE.indicators, "agreement_performed": silent}})
    assert advice_for(month, key, guide).outcome == "vetoed"
    assert "agreement_performed" in {step.indicator for step in advice_for(month, key).steps}


def test_a_fact_the_features_do_not_hold_is_a_configuration_error(month: Month) -> None:
    review = GUIDE.indicators["civility_review"]
    assert review.advice is not None
    strange = review.model_copy(update={"advice": review.advice.model_copy(update={"facts": {"no_such_fact": "1"}})})
    guide = GUIDE.model_copy(update={"indicators": {"civility_review": strange}})
    [(key,)] = month.engine.fetch("SELECT min(household_key) FROM core_household_grades WHERE effective_grade = 'B'")
    with pytest.raises(ConfigurationError, match=r"explain.yml: indicators.civility_review.advice.facts.no_such_fact"):
        advice_for(month, key, guide)
