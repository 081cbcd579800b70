"""From computed to effective: what input that is not complete, one bank alone, and a split household may do to a grade."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grading.county import BANKS, County, effective_ranks, graded_month, key_lists, random_county
from tests.sql.month import Month

GRADE = {"town_code": "t", "village_code": "v", "round": "2024", "status": "effective", "input_state": "complete"}
CONFIRMED = {"case_id": "c1", "case_kind": "bank_confirmation", "household_key": "h", "bank_code": "a", "verdict": "confirmed",
             "answered_on": "2024-04-08", "closed_on": "2024-04-08", "is_open": False}  # fmt: skip
COLUMNS = ["household_key", "computed_grade", "effective_grade", "hold_reason", "status", "effective_from_on"]


def _month(features: dict[str, Any], before: dict[str, Any] | None, **relations: Any) -> Month:
    """One household h with one bank block, graded after `before`."""
    month = Month("2024-03")
    household = {"household_key": "h", "head_person_key": "p", "village_code": "v", "input_state": "complete"}
    given_rows: dict[str, list[dict[str, Any]]] = {
        "core_places": [], "core_households": [household | features], "core_mediation_cases": [], "core_mediation_parties": [],
        "core_members": [{"person_key": "p", "member_key": "m", "household_key": "h", "age_band": "16-59", "input_state": "complete"}],
        "core_consents": [
            {"person_key": "p", "recipient": "county", "purpose": purpose, "is_in_force": True} for purpose in ("grading", "bank_data")
        ],
        "core_loans": relations.get("core_loans", []),
    }  # fmt: skip
    if before:
        given_rows["previous_core_household_grades"] = [
            GRADE | {"household_key": "h", "effective_from_on": "2024-02-29"} | before
        ]
    given_rows |= {name: rows for name, rows in relations.items() if name != "core_loans"}
    month.given(given_rows)
    month.grade()
    return month


def _note(bank: str, days: int, key: str = "l1") -> dict[str, Any]:
    return {"bank_code": bank, "loan_key": key, "person_key": "p", "household_key": "h", "issued_on": "2022-01-01",
            "balance_yuan": 1000, "five_class": "normal", "is_overdue": days > 0, "overdue_days": days, "note_state": "active",
            "input_state": "complete"}  # fmt: skip


def _points_before(bank: int) -> list[dict[str, Any]]:
    """Last month's points: those of the bank block in one indicator."""
    return [
        {"period": "2024-02", "household_key": "h", "indicator": "repayment_conduct", "block": "bank", "points": bank}
    ]


def _grades(month: Month) -> list[tuple[Any, ...]]:
    rows = [
        tuple(None if value is None else str(value) for value in row)
        for row in month.rows("core_household_grades", COLUMNS)
    ]
    month.close()
    return rows


GOOD = {"civility_score": 95, "has_stable_income": True, "farmland_mu": 9}
# without income and property consents: debt 4, labour 2, income 5, assets 4, stable 4, land 4, civility 20, help 0, agreements 6 = 49


def test_an_unchanged_grade_keeps_its_date() -> None:
    month = _month(GOOD, {"computed_grade": "AA", "effective_grade": "AA"})
    assert _grades(month) == [("h", "AA", "AA", None, "effective", "2024-02-29")]


def test_a_changed_grade_takes_effect_at_the_period_end() -> None:
    month = _month(GOOD, {"computed_grade": "A", "effective_grade": "A"})
    assert _grades(month) == [("h", "AA", "AA", None, "effective", "2024-03-31")]


def test_carried_input_cannot_raise() -> None:
    month = _month(GOOD | {"input_state": "carried_forward"}, {"computed_grade": "A", "effective_grade": "A"})
    assert _grades(month) == [("h", "AA", "A", "awaiting_input", "computed", "2024-02-29")]


def test_carried_input_may_fall() -> None:
    month = _month(
        GOOD | {"input_state": "carried_forward", "civility_score": 50},
        {"computed_grade": "AA", "effective_grade": "AA"},
    )
    assert _grades(month) == [("h", "B", "B", None, "effective", "2024-03-31")]


def test_a_deep_fall_by_one_bank_waits() -> None:
    """95 days: conduct 0, arrears 0, record 6 (49 + 10 - 4 of the missing debt … = 55, B) from AAA."""
    month = _month(
        GOOD, {"effective_grade": "AAA"}, core_loans=[_note("a", 95)], previous_core_household_points=_points_before(40)
    )
    assert _grades(month) == [("h", "B", "AAA", "awaiting_bank_confirmation", "computed", "2024-02-29")]


def test_it_takes_effect_when_the_bank_confirms() -> None:
    month = _month(
        GOOD, {"effective_grade": "AAA"}, core_loans=[_note("a", 95)], previous_core_household_points=_points_before(40),
        core_cases=[CONFIRMED],
    )  # fmt: skip
    assert _grades(month) == [("h", "B", "B", None, "effective", "2024-04-08")]


def test_another_banks_word_is_no_confirmation() -> None:
    month = _month(
        GOOD, {"effective_grade": "AAA"}, core_loans=[_note("a", 95)], previous_core_household_points=_points_before(40),
        core_cases=[CONFIRMED | {"bank_code": "b"}, CONFIRMED | {"household_key": "other"}],
    )  # fmt: skip
    assert _grades(month)[0][3] == "awaiting_bank_confirmation"


def test_two_banks_need_no_confirmation() -> None:
    notes = [_note("a", 95), _note("b", 2, "l2")]
    month = _month(
        GOOD, {"effective_grade": "AAA"}, core_loans=notes, previous_core_household_points=_points_before(40)
    )
    assert _grades(month) == [("h", "B", "B", None, "effective", "2024-03-31")]


def test_a_fall_of_one_grade_does_not_wait() -> None:
    month = _month(
        GOOD, {"effective_grade": "A"}, core_loans=[_note("a", 95)], previous_core_household_points=_points_before(40)
    )
    assert _grades(month) == [("h", "B", "B", None, "effective", "2024-03-31")]


def test_a_fall_for_other_reasons_does_not_wait() -> None:
    """With last month's points of the bank block the fall would be as deep: the bank is not the reason."""
    month = _month(
        GOOD, {"effective_grade": "AAA"}, core_loans=[_note("a", 95)], previous_core_household_points=_points_before(10)
    )
    assert _grades(month) == [("h", "B", "B", None, "effective", "2024-03-31")]


def test_a_fall_stays_on_hold_while_the_bank_is_silent() -> None:
    """A month later last month's points already hold the arrears; the hold does not end by waiting."""
    before = {"effective_grade": "AAA", "computed_grade": "B", "hold_reason": "awaiting_bank_confirmation"}
    month = _month(GOOD, before, core_loans=[_note("a", 125)], previous_core_household_points=_points_before(10))
    assert _grades(month) == [("h", "B", "AAA", "awaiting_bank_confirmation", "computed", "2024-02-29")]


def test_a_fall_that_a_veto_alone_brings_does_not_wait_for_the_bank() -> None:
    """Without the bank's arrears the household would stand at AAA or AA, and the veto would bring it to D all the same."""
    veto = {"event_key": "e", "person_key": "p", "list_kind": "veto", "is_in_force": True, "input_state": "complete"}
    month = _month(
        GOOD, {"effective_grade": "AAA"}, core_loans=[_note("a", 95)], previous_core_household_points=_points_before(40),
        core_credit_events=[veto],
    )  # fmt: skip
    assert _grades(month) == [("h", "D", "D", None, "effective", "2024-03-31")]


def test_a_split_household_takes_over_what_stood() -> None:
    """The new household's rows are not settled, so it cannot rise above the grade of the one it came from."""
    features = GOOD | {"former_household_key": "old", "input_state": "carried_forward"}
    month = _month(features, {"household_key": "old", "effective_grade": "A"})
    assert _grades(month) == [("h", "AA", "A", "awaiting_input", "computed", "2024-02-29")]


def test_a_new_round_dates_the_grade_anew() -> None:
    month = _month(GOOD, {"computed_grade": "AA", "effective_grade": "AA", "round": "2023"})
    assert _grades(month) == [("h", "AA", "AA", None, "effective", "2024-03-31")]


# ---- dropping, rejecting or delaying rows never raises a grade -------------------------------------------------------


@pytest.fixture(scope="module")
def county() -> County:
    return random_county(21, 200)


@pytest.fixture(scope="module")
def february(county: County) -> Month:
    return graded_month("2024-02", county)


def _march(county: County, seed: int) -> County:
    """Good and bad news for everyone; incomes stay, so that peers' medians do."""
    rng = np.random.default_rng(seed)
    households, loans, consents = county.households.copy(), county.loans.copy(), county.consents.copy()
    households["civility_score"] = rng.choice([60.0, 75.0, 85.0, 95.0], len(households))
    loans["overdue_days"] = [
        None if bank == "gamma" else int(rng.choice([0, 0, 20, 60, 120])) for bank in loans["supplier"]
    ]
    late = loans["overdue_days"].fillna(0) > 0
    flagged = (loans["supplier"] == "gamma") & (rng.random(len(loans)) < 0.4)
    loans["loan_status"] = np.where(late | flagged, "overdue", "normal")
    consents.loc[rng.random(len(consents)) < 0.1, "withdrawn_on"] = date(2024, 3, 2)
    cases = county.mediation.assign(case_key=county.mediation["case_key"] + "-march")
    return replace(
        county, households=households, loans=loans, consents=consents, mediation=cases, keys=key_lists(county)
    )


REFUSED = {
    "loans": ["supplier", "loan_key", "person_key", "co_person_key"], "households": ["supplier", "household_key"],
    "members": ["supplier", "member_key", "household_key"], "consents": ["supplier", "consent_key", "person_key"],
    "mediation": ["supplier", "case_key", "applicant_key", "respondent_key", "helper_key"],
}  # fmt: skip
GOVERNMENT = ("households", "members", "consents")


def _incomplete(march: County, seed: int) -> County:
    """The same month with rows of every dataset rejected, notes dropped, and perhaps a supplier late.

    A row that only tells of a change, and never came, leaves no trace: that is no property of grading.
    """
    rng = np.random.default_rng(seed)
    left, refused = {}, {}
    for dataset, columns in REFUSED.items():
        rows = getattr(march, dataset)
        fate = rng.random(len(rows))
        left[dataset] = rows[fate >= (0.2 if dataset == "loans" else 0.1)]
        refused[dataset] = rows.loc[fate < 0.1, columns]
    late = frozenset(rng.choice([*BANKS, *GOVERNMENT], 1)) if rng.random() < 0.5 else frozenset()
    return replace(march, **left, rejected=refused, late=late)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_incomplete_input_never_raises_a_grade(county: County, february: Month, seed: int) -> None:
    march = _march(county, seed)
    complete = graded_month("2024-03", march, before=february)
    incomplete = graded_month("2024-03", _incomplete(march, seed + 1), before=february)
    before, full, less = effective_ranks(february), effective_ranks(complete), effective_ranks(incomplete)
    worse = 9
    raised = [
        key for key, rank in less.items() if rank is not None and rank < min(full[key] or worse, before[key] or worse)
    ]
    complete.close()
    incomplete.close()
    assert [(key, before[key], full[key], less[key]) for key in raised] == []


def test_rows_and_arrival_order_do_not_matter(county: County, february: Month) -> None:
    march = _incomplete(_march(county, 5), 6)
    plain = graded_month("2024-03", march, before=february)
    shuffled = graded_month("2024-03", march, before=february, shuffle=11)
    for relation in ("core_household_points", "core_household_grades", "core_loans", "core_village_grades"):
        columns = [str(row[0]) for row in plain.engine.fetch(f"DESCRIBE {relation}")]
        assert plain.rows(relation, columns) == shuffled.rows(relation, columns)


def test_points_come_in_the_order_of_their_key(february: Month) -> None:
    rows = february.engine.fetch("SELECT household_key, indicator FROM core_household_points")
    assert rows == sorted(rows)
    assert len(rows) == len(set(rows))
