"""Cases in the ledger: opened once, steps only added, clocks by the calendar, what people wrote encrypted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from etl.caseload import Caseload
from etl.ledger import cases
from etl.ledger.cases import Case, NewCase, Note, Step
from etl.ledger.repository import Ledger
from etl.period import Period

NOW = datetime(2024, 4, 10, 3, tzinfo=UTC)
OPENED = date(2024, 4, 10)
ASKED = NewCase("objection", "h1", "2024-03", "first", grade_before="AA")


def _open(ledger: Ledger, new: NewCase = ASKED, on: date = OPENED) -> Case:
    sealed = cases.open_case(
        ledger, new, account="zhang", on=on, texts={"request": "不是我的贷款"}, seal=lambda _, text: text.encode()[::-1], now=NOW
    )  # fmt: skip
    return sealed[0]


def _add(ledger: Ledger, case: Case, step: str, on: date, verdict: str | None = None) -> Case:
    assert cases.add_step(ledger, case.case_id, Step(step, on, "li", verdict), now=NOW)
    return cases.case_of(ledger, case.case_id)


def test_one_cause_opens_one_case_however_many_say_so(ledger: Ledger) -> None:
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: _open(ledger), range(12)))
    assert {case.case_id for case in opened} == {"case-2024-00001"}
    assert _open(ledger, replace(ASKED, origin="second")).case_id == "case-2024-00002"
    assert _open(ledger, replace(ASKED, origin="third"), on=date(2025, 1, 2)).case_id == "case-2025-00001"
    assert len(cases.all_cases(ledger)) == 3


def test_steps_are_only_added(ledger: Ledger) -> None:
    case = _open(ledger)
    assert not cases.add_step(ledger, case.case_id, Step("opened", OPENED, "li"), now=NOW)
    for statement in ("UPDATE ledger.case_steps SET account = 'x'", "DELETE FROM ledger.case_steps"):
        with pytest.raises(sa.exc.DBAPIError, match="only added to"), ledger.engine.begin() as connection:
            connection.execute(sa.text(statement))
    assert cases.case_of(ledger, case.case_id).steps == {"opened": Step("opened", OPENED, "zhang")}


def test_what_people_wrote_is_kept_sealed(ledger: Ledger) -> None:
    case = _open(ledger)
    assert cases.sealed_texts(ledger, case.case_id) == {"request": "不是我的贷款".encode()[::-1]}


@pytest.mark.parametrize(
    ("day", "is_marked", "told"),
    [
        (date(2024, 4, 11), False, []),
        (date(2024, 4, 12), False, ["told_unmarked"]),
        (date(2024, 4, 24), True, []),
        (date(2024, 4, 25), True, ["told_due"]),
        (date(2024, 4, 30), True, ["told_due"]),
        (date(2024, 5, 1), True, ["told_due", "told_overdue"]),
        (date(2024, 5, 1), False, ["told_unmarked", "told_due", "told_overdue"]),
    ],
)
def test_clocks_run_by_the_calendar(ledger: Ledger, day: date, is_marked: bool, told: list[str]) -> None:
    """Opened on 10 April: marked until the 11th, alert from the 25th, answered until the 30th; weekends count."""
    case = _open(ledger)
    assert case.answer_due_on == date(2024, 4, 30)
    if is_marked:
        case = _add(ledger, case, "marked", OPENED)
    assert case.breaches(day) == told


def test_an_answer_stops_the_clocks_and_an_opt_out_has_none(ledger: Ledger) -> None:
    case = _add(ledger, _open(ledger), "answered", date(2024, 4, 30), "refused")
    assert (case.state, case.verdict, case.breaches(date(2025, 1, 1))) == ("answered", "refused", [])
    assert _open(ledger, NewCase("opt_out", "h1", "2024-03", "x")).breaches(date(2025, 1, 1)) == []
    assert _open(ledger, NewCase("repair", "h1", "2024-03", "y")).breaches(date(2024, 4, 13)) == []


# ---- what a month has to know ----------------------------------------------------------------------------------------


def _seen(ledger: Ledger, period: str) -> list[tuple[str, date | None]]:
    return [(row["case_id"], row["closed_on"]) for row in Caseload(ledger, Period.parse(period)).cases]


def test_a_step_counts_for_the_months_that_are_worked_on_when_it_happens(ledger: Ledger) -> None:
    """Raised in April, closed in June: March and April are disputed, May sees the end, July nothing."""
    case = _open(ledger)
    closed_on = date(2024, 6, 3)
    _add(ledger, _add(ledger, case, "answered", date(2024, 4, 20), "refused"), "closed", closed_on)
    assert _seen(ledger, "2024-02") == []
    assert _seen(ledger, "2024-03") == _seen(ledger, "2024-04") == [(case.case_id, None)]
    assert _seen(ledger, "2024-05") == _seen(ledger, "2024-06") == [(case.case_id, closed_on)]
    assert _seen(ledger, "2024-07") == []


def test_a_question_to_a_bank_changes_no_months_inputs_before_it_is_answered(ledger: Ledger) -> None:
    asked = _open(ledger, NewCase("bank_confirmation", "h1", "2024-03", "z", bank_code="a"))
    march = Caseload(ledger, Period.parse("2024-03"))
    assert march.mark() == [[], [], [], []]
    answer = Step("answered", date(2024, 4, 12), "a", "mistaken")
    notes = [Note("l1", True, 0, "normal"), Note("l2", False)]
    assert cases.answer_notes(ledger, asked.case_id, answer, notes, now=NOW)
    assert not cases.answer_notes(ledger, asked.case_id, answer, notes, now=NOW)
    march = Caseload(ledger, Period.parse("2024-03"))
    assert [row["verdict"] for row in march.cases] == ["mistaken"]
    assert march.mended_notes == [{"bank_code": "a", "loan_key": "l1", "overdue_days": 0, "five_class": "normal"}]
    assert Caseload(ledger, Period.parse("2024-04")).mended_notes == []


def test_alerts_and_notices_change_no_months_inputs(ledger: Ledger) -> None:
    case = _open(ledger)
    before = Caseload(ledger, Period.parse("2024-03")).mark()
    for step in ("told_unmarked", "told_due", "told_overdue", "notified"):
        _add(ledger, case, step, OPENED + timedelta(days=30))
    assert Caseload(ledger, Period.parse("2024-03")).mark() == before


def test_a_months_grades_are_reviewed_and_noticed_once(ledger: Ledger) -> None:
    said = {"on": OPENED, "account": "li", "now": NOW}
    assert cases.note_grades(ledger, "2024-03", "reviewed", **said)
    assert not cases.note_grades(ledger, "2024-03", "reviewed", **said)
    assert Caseload(ledger, Period.parse("2024-03")).grade_stages == [{"stage": "reviewed", "happened_on": OPENED}]
    assert Caseload(ledger, Period.parse("2024-04")).grade_stages == []
