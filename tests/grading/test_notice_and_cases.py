"""A grade on its way to effect: notice, objection, override, opt-out; households that split, merge and move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from tests.sql.month import Month

Rows = list[dict[str, Any]]
PLACE = {"town_code": "t1", "village_code": "v1"}
SEEN = ("computed_grade", "effective_grade", "status", "hold_reason", "effective_from_on", "effective_to_on")
# One household without consents to income and property, with good standing of 49 points (debt 4, labour 2, income 5,
# assets 4, stable 4, land 4, civility 20, agreements 6) and neutral 23 for loans: AA. Civility 50 takes 20 points: B.
GOOD, POOR = 95, 50
OBJECTION = {"case_id": "c1", "case_kind": "objection", "household_key": "h", "is_open": True}
OVERRIDE = {"case_id": "c2", "case_kind": "override", "household_key": "h", "is_open": True, "is_override_in_force": True,
            "override_grade": "AAA", "answered_on": "2024-04-03", "verdict": "upheld", "expires_on": "2024-09-30"}  # fmt: skip


def _household(key: str, civility: int, **more: Any) -> dict[str, Any]:
    own = {"household_key": key, "head_person_key": f"p-{key}", "civility_score": civility, "has_stable_income": True,
           "farmland_mu": 9, "input_state": "complete"}  # fmt: skip
    return own | PLACE | more


def _month(
    period: str,
    households: Rows,
    *,
    cases: Sequence[dict[str, Any]] = (),
    days: int = 0,
    stages: Sequence[dict[str, Any]] = (),
    before: Month | None = None,
) -> Month:
    month = Month(period, notice_days=days)
    keys = [str(one["household_key"]) for one in households]
    agreed = [(f"p-{key}", purpose) for key in keys for purpose in ("grading", "bank_data")]
    month.given(
        {
            "core_places": [], "core_loans": [], "core_mediation_cases": [], "core_mediation_parties": [],
            "core_households": households,
            "core_members": [
                {"person_key": f"p-{key}", "member_key": f"m-{key}", "household_key": key, "age_band": "16-59", "input_state": "complete"}
                for key in keys
            ],
            "core_consents": [
                {"person_key": person, "recipient": "county", "purpose": purpose, "is_in_force": True} for person, purpose in agreed
            ],
            "core_cases": cases, "grade_stages": stages,
        }
    )  # fmt: skip
    if before is not None:
        for table in ("core_household_grades", "core_household_points"):
            month.load({f"previous_{table}": before.engine.con.sql(f"SELECT * FROM {table}").to_arrow_table()})
    month.grade()
    return month


def _grades(month: Month, key: str = "h") -> tuple[str | None, ...]:
    [row] = [row[1:] for row in month.rows("core_household_grades", ["household_key", *SEEN]) if row[0] == key]
    return tuple(None if value is None else str(value) for value in row)


def _close(months: Iterable[Month]) -> None:
    for month in months:
        month.close()


def _noticed(day: str) -> Rows:
    return [{"stage": "reviewed", "happened_on": day}, {"stage": "noticed", "happened_on": day}]


# ---- notice ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def february() -> Iterable[Month]:
    """h stands at AA since the end of February."""
    month = _month("2024-02", [_household("h", GOOD)])
    assert _grades(month) == ("AA", "AA", "effective", None, "2024-02-29", None)
    yield month
    month.close()


@pytest.mark.parametrize(
    ("stages", "status", "until"),
    [
        ([], "computed", None),
        ([{"stage": "reviewed", "happened_on": "2024-04-06"}], "reviewed", None),
        (_noticed("2024-04-08"), "noticed", "2024-04-14"),
    ],
)
def test_until_the_notice_has_run_out_the_former_grade_stands(
    february: Month, stages: Rows, status: str, until: str | None
) -> None:
    march = _month("2024-03", [_household("h", POOR)], days=7, stages=stages, before=february)
    assert _grades(march) == ("B", "AA", status, "awaiting_notice", "2024-02-29", until)
    march.close()


def test_a_noticed_grade_is_in_effect_so_many_days_later(february: Month) -> None:
    march = _month("2024-03", [_household("h", POOR)], days=7, stages=_noticed("2024-04-08"), before=february)
    april = _month("2024-04", [_household("h", POOR)], days=7, before=march)
    assert _grades(april) == ("B", "B", "effective", None, "2024-04-15", None)
    _close([march, april])


def test_a_notice_that_runs_beyond_the_month_waits_one_more(february: Month) -> None:
    march = _month("2024-03", [_household("h", POOR)], days=7, stages=_noticed("2024-04-24"), before=february)
    april = _month("2024-04", [_household("h", POOR)], days=7, stages=_noticed("2024-05-06"), before=march)
    assert _grades(april)[1:4] == ("AA", "noticed", "awaiting_notice")
    _close([march, april])


def test_a_grade_that_was_never_noticed_lapses(february: Month) -> None:
    march = _month("2024-03", [_household("h", POOR)], days=7, before=february)
    april = _month("2024-04", [_household("h", GOOD)], days=7, before=march)
    assert _grades(april) == ("AA", "AA", "effective", None, "2024-02-29", None)
    _close([march, april])


def test_a_first_grade_waits_for_its_notice_too() -> None:
    march = _month("2024-03", [_household("h", GOOD)], days=7, stages=_noticed("2024-04-08"))
    assert _grades(march) == ("AA", None, "noticed", "awaiting_notice", None, None)
    april = _month("2024-04", [_household("h", GOOD)], days=7, before=march)
    assert _grades(april) == ("AA", "AA", "effective", None, "2024-04-15", None)
    _close([march, april])


# ---- objections ------------------------------------------------------------------------------------------------------


def test_open_freeze_answer_notice_effective(february: Month) -> None:
    """The whole way of a fall that was disputed and turned out right."""
    bad = [_household("h", POOR)]
    march = _month("2024-03", bad, days=7, stages=_noticed("2024-04-08"), cases=[OBJECTION], before=february)
    assert _grades(march) == ("B", "AA", "frozen", "disputed", "2024-02-29", None)
    closed = OBJECTION | {"is_open": False, "closed_on": "2024-04-25"}
    april = _month("2024-04", bad, days=7, stages=_noticed("2024-05-08"), cases=[closed], before=march)
    assert _grades(april) == ("B", "AA", "noticed", "awaiting_notice", "2024-02-29", "2024-05-14")
    may = _month("2024-05", bad, days=7, before=april)
    assert _grades(may) == ("B", "B", "effective", None, "2024-05-15", None)
    _close([march, april, may])


def test_an_objection_stops_a_fall_that_is_on_notice(february: Month) -> None:
    bad = [_household("h", POOR)]
    march = _month("2024-03", bad, days=7, stages=_noticed("2024-04-08"), before=february)
    april = _month("2024-04", bad, days=7, cases=[OBJECTION], before=march)
    assert _grades(april) == ("B", "AA", "frozen", "disputed", "2024-02-29", None)
    _close([march, april])


def test_an_objection_keeps_nobody_from_rising() -> None:
    march = _month("2024-03", [_household("h", POOR)])
    april = _month("2024-04", [_household("h", GOOD)], cases=[OBJECTION], before=march)
    assert _grades(april) == ("AA", "AA", "effective", None, "2024-04-30", None)
    assert april.rows("core_household_grades", ["is_disputed"]) == [(True,)]
    _close([march, april])


def test_without_notice_a_fall_takes_effect_on_the_day_the_objection_is_closed(february: Month) -> None:
    closed = OBJECTION | {"is_open": False, "closed_on": "2024-04-20"}
    march = _month("2024-03", [_household("h", POOR)], cases=[closed], before=february)
    assert _grades(march) == ("B", "B", "effective", None, "2024-04-20", None)
    march.close()


def test_the_mark_reaches_the_mart(february: Month) -> None:
    march = _month("2024-03", [_household("h", POOR)], cases=[OBJECTION], before=february)
    march.build(["mart_household_credit"])
    assert march.rows("mart_household_credit", ["effective_grade", "status", "is_disputed"]) == [("AA", "frozen", True)]
    march.close()


# ---- overrides and opt-outs ------------------------------------------------------------------------------------------


def test_an_override_holds_until_it_expires(february: Month) -> None:
    march = _month("2024-03", [_household("h", POOR)], cases=[OVERRIDE], days=7, before=february)
    assert _grades(march) == ("B", "AAA", "effective", "overridden", "2024-04-03", "2024-09-30")
    april = _month("2024-04", [_household("h", POOR)], cases=[OVERRIDE], days=7, before=march)
    assert _grades(april) == ("B", "AAA", "effective", "overridden", "2024-04-03", "2024-09-30")
    ended = OVERRIDE | {"is_override_in_force": False}
    may = _month("2024-05", [_household("h", POOR)], cases=[ended], before=april)
    assert _grades(may) == ("B", "B", "effective", None, "2024-05-31", None)
    _close([march, april, may])


def test_who_opts_out_is_not_rated_whatever_else_is_open(february: Month) -> None:
    opted_out = {"case_id": "c3", "case_kind": "opt_out", "household_key": "h", "is_open": True}
    march = _month("2024-03", [_household("h", POOR)], cases=[opted_out, OBJECTION, OVERRIDE], before=february)
    assert _grades(march)[:3] == (None, None, "effective")
    assert march.rows("core_household_grades", ["not_rated_reason"]) == [("opted_out",)]
    march.close()


# ---- splits, merges, moves -------------------------------------------------------------------------------------------


def test_a_household_that_was_split_off_takes_the_objection_along(february: Month) -> None:
    both = [_household("h", POOR), _household("n", POOR, former_household_key="h")]
    march = _month("2024-03", both, cases=[OBJECTION], before=february)
    assert _grades(march, "n") == ("B", "AA", "frozen", "disputed", "2024-02-29", None)
    still = _month("2024-04", both, cases=[OBJECTION], before=march)
    assert _grades(still, "n") == ("B", "AA", "frozen", "disputed", "2024-02-29", None)
    answered = _month("2024-05", both, before=still)
    assert _grades(answered, "n") == ("B", "B", "effective", None, "2024-05-31", None)
    _close([march, still, answered])


def test_where_two_became_one_the_worse_of_both_stands() -> None:
    """h (AA) takes b (B) in; with rows outstanding the joint household cannot rise above B."""
    march = _month("2024-03", [_household("h", GOOD), _household("b", POOR)])
    joint = _household("h", GOOD, former_household_key="b", input_state="carried_forward")
    april = _month("2024-04", [joint], before=march)
    assert _grades(april) == ("AA", "B", "computed", "awaiting_input", "2024-03-31", None)
    settled = _month("2024-05", [joint | {"input_state": "complete"}], before=april)
    assert _grades(settled) == ("AA", "AA", "effective", None, "2024-05-31", None)
    _close([march, april, settled])


def test_a_household_that_merely_split_keeps_its_own_standing() -> None:
    """h came from b once, and b is still there: no merger."""
    march = _month("2024-03", [_household("h", GOOD), _household("b", POOR)])
    apart = _household("h", GOOD, former_household_key="b", input_state="carried_forward")
    april = _month("2024-04", [apart, _household("b", POOR)], before=march)
    assert _grades(april) == ("AA", "AA", "effective", None, "2024-03-31", None)
    _close([march, april])


def test_a_move_changes_the_place_and_nothing_else(february: Month) -> None:
    moved = _household("h", GOOD, town_code="t2", village_code="v9")
    march = _month("2024-03", [moved], before=february)
    assert _grades(march) == ("AA", "AA", "effective", None, "2024-02-29", None)
    assert march.rows("core_household_grades", ["town_code", "village_code"]) == [("t2", "v9")]
    march.close()
