"""Questions to banks: about a deep fall that rests on one bank alone (DESIGN 9.7), and about rows that a household disputes.

Each question is a case of its own, `outbox/<bank>/cases/<case>.{csv,xlsx}`: the bank's own loan number, what it delivered,
and columns for the answer. It holds nothing but the bank's own rows, of borrowers who let it inform the county. A question
about a fall that is gone before the bank answered lapses.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from etl import months
from etl.deliveries import subject_of
from etl.engine.duck import DuckEngine, literal
from etl.examination import typed_pieces
from etl.intake.case_answer import COLUMNS, FOLDER
from etl.intake.receipt import csv_bytes, put_file
from etl.intake.spreadsheet import Sheet, write_workbook
from etl.ledger import cases as ledger
from etl.ledger.cases import DISPUTES, Case, NewCase, Step
from etl.ledger.records import Delivery, Grading
from etl.period import Period
from etl.tokens import token_sql
from etl.vocabulary import CreditVillageError
from etl.workspace import Workspace

SYSTEM: Final = "system"
QUESTION: Final = "bank_confirmation"
_MONTHS_BACK: Final = 12
_TABLES: Final = ("core_household_grades", "core_loans", "core_members")
_log = logging.getLogger("creditvillage.cases")

# A note is a household's by its borrower or co-borrower; adverse as in sql/features/feature_loans.sql.
_NOTES = """
WITH people AS (
  SELECT m.person_key, m.household_key FROM core_members AS m SEMI JOIN ({households}) AS h ON h.household_key = m.household_key
)
SELECT
  p.household_key, l.bank_code, l.loan_key, l.overdue_days, l.is_overdue, l.five_class,
  coalesce(l.is_overdue OR l.overdue_days > 0 OR l.note_state = 'written_off'
           OR l.five_class IN ('substandard', 'doubtful', 'loss'), FALSE) AS is_adverse
FROM core_loans AS l INNER JOIN people AS p ON p.person_key = l.person_key
UNION
SELECT
  p.household_key, l.bank_code, l.loan_key, l.overdue_days, l.is_overdue, l.five_class,
  coalesce(l.is_overdue OR l.overdue_days > 0 OR l.note_state = 'written_off'
           OR l.five_class IN ('substandard', 'doubtful', 'loss'), FALSE) AS is_adverse
FROM core_loans AS l INNER JOIN people AS p ON p.person_key = l.co_person_key
"""
_ON_HOLD = "SELECT household_key FROM core_household_grades WHERE hold_reason = 'awaiting_bank_confirmation'"
_HELD = (
    f"SELECT household_key, min(bank_code) AS bank_code FROM ({_NOTES.format(households=_ON_HOLD)}) AS notes "
    "WHERE is_adverse GROUP BY household_key ORDER BY household_key"
)
_ASKED = (
    "SELECT loan_key, overdue_days, is_overdue, five_class FROM "
    f"({_NOTES.format(households='SELECT $household_key AS household_key')}) AS notes "
    "WHERE bank_code = $bank_code AND (is_adverse OR $is_whole) ORDER BY loan_key"
)


@dataclass(frozen=True)
class _Note:
    loan_key: str
    overdue_days: int | None
    is_overdue: bool
    five_class: str | None


def ask(ws: Workspace, *, now: datetime) -> list[Case]:
    """Open the questions that the last graded month raises, let go those it no longer raises, write what is not written.

    Returns the cases whose files were written. Doing it again changes nothing.
    """
    gradings = ws.ledger.last_gradings()
    if not gradings:
        return []
    graded, today = gradings[max(gradings)], now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    with ws.ledger.lock("ask"), ws.engine() as engine:
        _register(engine, ws, graded)
        held = {(str(key), str(bank)) for key, bank in engine.fetch(_HELD)}
        _open_questions(ws, graded.period, held, today, now)
        _let_go(ws, held, today, now)
    unasked = [case for case in ledger.all_cases(ws.ledger) if case.case_kind == QUESTION and case.state == "opened"]
    banks = sorted({str(case.bank_code) for case in unasked} & ws.registry.banks.keys())
    return [
        case
        for bank in banks
        for case in _ask_bank(ws, gradings, bank, [one for one in unasked if one.bank_code == bank], today, now)
    ]


def _register(engine: DuckEngine, ws: Workspace, graded: Grading) -> None:
    for table in _TABLES:
        months.register_staged(engine, ws, table, table, [graded])


def _open_questions(ws: Workspace, period: str, held: Iterable[tuple[str, str]], today: date, now: datetime) -> None:
    known = ledger.all_cases(ws.ledger)
    open_ones = {(case.household_key, case.bank_code) for case in known if case.case_kind == QUESTION and case.is_open}
    new = [
        NewCase(QUESTION, key, period, f"hold/{key}/{bank}/{period}", bank_code=bank, concerns="hold")
        for key, bank in sorted(held)
        if (key, bank) not in open_ones
    ]
    disputed = [case for case in known if case.case_kind in DISPUTES and case.bank_code and case.verdict is None]
    new += [
        NewCase(QUESTION, case.household_key, case.period, f"about/{case.case_id}", bank_code=case.bank_code,
                concerns=case.case_id)
        for case in disputed if case.is_open
    ]  # fmt: skip
    for one in new:
        ledger.open_case(
            ws.ledger, one, account=SYSTEM, on=today, texts={}, seal=lambda _, text: text.encode(), now=now
        )


def _let_go(ws: Workspace, held: set[tuple[str, str]], today: date, now: datetime) -> None:
    """End questions about falls that are gone: a better delivery came, or the arrears were paid."""
    for case in ledger.all_cases(ws.ledger):
        is_about_a_fall = case.case_kind == QUESTION and case.origin.startswith("hold/")
        if is_about_a_fall and case.verdict is None and (case.household_key, case.bank_code) not in held:
            for step in (Step("answered", today, SYSTEM, "lapsed"), Step("closed", today, SYSTEM)):
                ledger.add_step(ws.ledger, case.case_id, step, now=now)


# -- files for one bank -----------------------------------------------------------------------------------------------


def _ask_bank(
    ws: Workspace, gradings: dict[str, Grading], bank: str, cases: Sequence[Case], today: date, now: datetime
) -> Iterator[Case]:
    """Write the files of one bank's cases; what cannot be read now is tried again by the next sweep."""
    asked = {case.case_id: _notes_of(ws, gradings[case.period], case) for case in cases if case.period in gradings}
    wanted: dict[str, set[str]] = {}
    for case in cases:
        wanted.setdefault(case.period, set()).update(note.loan_key for note in asked.get(case.case_id, ()))
    try:
        numbers = {period: _loan_numbers(ws, bank, period, keys) for period, keys in wanted.items()}
    except CreditVillageError as error:
        _log.warning("%s: questions wait: %s", bank, error)
        return
    for case in cases:
        notes = [note for note in asked.get(case.case_id, ()) if note.loan_key in numbers[case.period]]
        if notes:
            _write(ws, case, notes, numbers[case.period])
            ledger.ask_notes(
                ws.ledger, case.case_id, Step("asked", today, SYSTEM), [n.loan_key for n in notes], now=now
            )
            yield case


def _notes_of(ws: Workspace, graded: Grading, case: Case) -> list[_Note]:
    """The notes a question is about: the adverse ones of a fall, all of the household at that bank of a dispute."""
    asked = {"household_key": case.household_key, "bank_code": case.bank_code, "is_whole": case.concerns != "hold"}
    with ws.engine() as engine:
        _register(engine, ws, graded)
        return [_Note(*row) for row in engine.fetch(_ASKED, asked)]


def _loan_numbers(ws: Workspace, bank: str, period: str, wanted: set[str]) -> dict[str, str]:
    """{token: the bank's own number}, from the landed bytes of the deliveries in force, newest first."""
    found: dict[str, str] = {}
    for back in range(_MONTHS_BACK):
        month = str(Period.parse(period).shift(-back))
        for delivery in ws.ledger.in_force(month):
            if (delivery.supplier, delivery.dataset) == (bank, "loans") and wanted - found.keys():
                found = _numbers_in(ws, delivery, wanted) | found
    return found


def _numbers_in(ws: Workspace, delivery: Delivery, wanted: set[str]) -> dict[str, str]:
    key = token_sql("loan", literal(delivery.supplier), "t.loan_no")
    query = f"SELECT w.loan_key, t.loan_no FROM typed AS t INNER JOIN wanted AS w ON w.loan_key = {key}"
    found: dict[str, str] = {}
    with ws.engine() as engine:
        engine.register_arrow("wanted", pa.table({"loan_key": pa.array(sorted(wanted), pa.string())}))
        for _ in typed_pieces(engine, ws, subject_of(ws, delivery)):
            found |= {str(key): str(number) for key, number in engine.fetch(query, ws.token_key.params())}
    return found


def _write(ws: Workspace, case: Case, notes: Sequence[_Note], numbers: dict[str, str]) -> None:
    """The question as CSV, to be filled in and dropped, and as a sheet to read."""
    folder = ws.settings.outbox / str(case.bank_code) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    classes = ws.registry.codes.values("five_class")
    rows = [_row(case, note, numbers[note.loan_key], classes) for note in notes]
    table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in COLUMNS})
    encoding = ws.registry.banks[str(case.bank_code)].receipt_encoding
    put_file(folder / f"{case.case_id}.csv", csv_bytes(table, encoding))
    sheet = folder / f"{case.case_id}.xlsx"
    if not sheet.exists():
        headings = [f"{label['zh']} {name}" for name, label in COLUMNS.items()]
        write_workbook(sheet, [Sheet("核实 Question", table, headings, [24] * len(COLUMNS))])


def _row(case: Case, note: _Note, loan_no: str, classes: dict[str, dict[str, str]]) -> dict[str, Any]:
    days = note.overdue_days if note.overdue_days is not None else ("逾期" if note.is_overdue else "0")
    return {
        "case": case.case_id,
        "period": case.period,
        "loan_no": loan_no,
        "overdue_days": str(days),
        "five_class": classes[note.five_class]["zh"] if note.five_class else None,
        "answer_due_on": str(case.answer_due_on),
    }
