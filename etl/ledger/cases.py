"""Cases in the ledger. Every function is one short transaction; what people wrote is kept apart, and encrypted.

A case is what was asked; everything that happened since is a step, and steps are only ever added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from etl.ledger.models import CaseNoteRow, CaseRow, CaseStepRow, CaseTargetRow, CaseTextRow, GradeNoticeRow
from etl.ledger.repository import Ledger
from etl.vocabulary import CASE_STEP_LABELS, DataError

MARK_WITHIN: Final = timedelta(days=1)
ANSWER_WITHIN: Final = timedelta(days=20)  # 征信业管理条例 25: twenty days, counted by the calendar
ALERT_AFTER: Final = timedelta(days=15)
DISPUTES: Final = ("objection", "correction")
TOLD: Final = ("told_unmarked", "told_due", "told_overdue")
Seal = Callable[[str, str], bytes]
STATES: Final = ("opened", "marked", "asked", "proposed", "answered", "closed")


@dataclass(frozen=True)
class Step:
    """One thing that happened to a case; `verdict` only where it was answered."""

    step: str
    happened_on: date
    account: str
    verdict: str | None = None


@dataclass(frozen=True)
class NewCase:
    """What a case asks; the columns are described in `etl.ledger.models.CaseRow`."""

    case_kind: str
    household_key: str
    period: str
    origin: str
    bank_code: str | None = None
    concerns: str | None = None
    grade_before: str | None = None
    override_grade: str | None = None
    expires_on: date | None = None
    grading_id: int | None = None


@dataclass(frozen=True)
class Case(NewCase):
    """A case with its steps by name."""

    case_id: str = ""
    answer_due_on: date = date.max
    steps: Mapping[str, Step] = field(default_factory=dict)

    def on(self, step: str) -> date | None:
        """The day of a step; None while it has not happened."""
        return self.steps[step].happened_on if step in self.steps else None

    @property
    def opened_on(self) -> date:
        return self.steps["opened"].happened_on

    @property
    def verdict(self) -> str | None:
        return self.steps["answered"].verdict if "answered" in self.steps else None

    @property
    def is_open(self) -> bool:
        return "closed" not in self.steps

    @property
    def state(self) -> str:
        """The last state reached; alerts and notices are none."""
        return next(state for state in reversed(STATES) if state in self.steps)

    def breaches(self, today: date) -> list[str]:
        """What is to be told on a day: not marked in time, the answer falls due, the answer is overdue."""
        if "answered" in self.steps or not self.is_open or self.case_kind == "opt_out":
            return []
        must_be_marked = self.case_kind in DISPUTES and "marked" not in self.steps
        passed = {
            "told_unmarked": must_be_marked and today > self.opened_on + MARK_WITHIN,
            "told_due": today >= self.opened_on + ALERT_AFTER,
            "told_overdue": today > self.answer_due_on,
        }
        return [step for step in TOLD if passed[step]]


@dataclass(frozen=True)
class CaseAlert:
    """A clock of a case that ran out, or is about to."""

    case: Case
    breach: str

    def __str__(self) -> str:
        label = CASE_STEP_LABELS[self.breach]
        due = "" if self.breach not in TOLD else f" (答复期限 answer due {self.case.answer_due_on})"
        return f"{self.case.case_id}: {label['zh']} {label['en']}{due}"


@dataclass(frozen=True)
class Note:
    """What a bank answered about one note; the last two only if it was mistaken, and NULL where nothing stands."""

    loan_key: str
    is_mistaken: bool
    overdue_days: int | None = None
    five_class: str | None = None


@dataclass(frozen=True)
class Target:
    """The row a case is about; the columns are described in `etl.ledger.models.CaseTargetRow`."""

    dataset: str
    row_key: str
    bank_code: str | None = None
    delivery_sha256: str | None = None
    needs_second: bool = True
    expires_on: date | None = None


def open_case(
    ledger: Ledger, new: NewCase, *, account: str, on: date, texts: Mapping[str, str], seal: Seal, now: datetime
) -> tuple[Case, bool]:
    """The case of this origin, and whether it was opened just now. `texts` are sealed by `seal(case_id, text)`."""
    with ledger.lock("cases"), Session(ledger.engine) as session, session.begin():
        found = session.scalar(select(CaseRow.case_id).where(CaseRow.origin == new.origin))
        case_id = found or _number(session, on)
        if not found:
            session.add(CaseRow(**_values(new), case_id=case_id, answer_due_on=on + ANSWER_WITHIN))
            session.flush()
            session.add(_step_row(case_id, Step("opened", on, account), now))
            session.add_all(
                CaseTextRow(case_id=case_id, part=part, sealed=seal(case_id, text)) for part, text in texts.items()
            )
    return case_of(ledger, case_id), not found


def _number(session: Session, on: date) -> str:
    prefix = f"case-{on.year}-"
    count = session.scalar(select(func.count()).select_from(CaseRow).where(CaseRow.case_id.startswith(prefix))) or 0
    return f"{prefix}{count + 1:05d}"


def _values(new: NewCase) -> dict[str, object]:
    return {each.name: getattr(new, each.name) for each in fields(NewCase)}


def _step_row(case_id: str, step: Step, now: datetime) -> CaseStepRow:
    return CaseStepRow(case_id=case_id, **vars(step), recorded_at=now)


def add_step(ledger: Ledger, case_id: str, step: Step, *, now: datetime) -> bool:
    """Add a step; False if the case has it already."""
    row = {"case_id": case_id, **vars(step), "recorded_at": now}
    with Session(ledger.engine) as session, session.begin():
        added = upsert(CaseStepRow).values(row).on_conflict_do_nothing().returning(CaseStepRow.step_id)
        return session.scalar(added) is not None


def answer_notes(ledger: Ledger, case_id: str, step: Step, notes: Sequence[Note], *, now: datetime) -> bool:
    """A bank's answer and what it says of each note; False, and nothing kept, if the case was answered before."""
    row = {"case_id": case_id, **vars(step), "recorded_at": now}
    with Session(ledger.engine) as session, session.begin():
        added = upsert(CaseStepRow).values(row).on_conflict_do_nothing().returning(CaseStepRow.step_id)
        if session.scalar(added) is None:
            return False
        for note in notes:
            session.execute(
                upsert(CaseNoteRow)
                .values(case_id=case_id, **vars(note))
                .on_conflict_do_update(index_elements=["case_id", "loan_key"], set_=vars(note))
            )
        return True


def ask_notes(ledger: Ledger, case_id: str, step: Step, loan_keys: Sequence[str], *, now: datetime) -> None:
    """The bank is asked about these notes; nothing is mistaken until it says so."""
    row = {"case_id": case_id, **vars(step), "recorded_at": now}
    notes = [{"case_id": case_id, "loan_key": key, "is_mistaken": False} for key in loan_keys]
    with Session(ledger.engine) as session, session.begin():
        session.execute(upsert(CaseStepRow).values(row).on_conflict_do_nothing())
        session.execute(upsert(CaseNoteRow).on_conflict_do_nothing(), notes)


def propose(
    ledger: Ledger, case_id: str, target: Target, step: Step, sealed: Mapping[str, bytes], *, now: datetime
) -> bool:
    """Name the row a case is about, with its sealed texts; False, and nothing kept, if one was named before."""
    row = {"case_id": case_id, **vars(step), "recorded_at": now}
    with Session(ledger.engine) as session, session.begin():
        added = upsert(CaseStepRow).values(row).on_conflict_do_nothing().returning(CaseStepRow.step_id)
        if session.scalar(added) is None:
            return False
        session.add(CaseTargetRow(case_id=case_id, **vars(target)))
        session.add_all(CaseTextRow(case_id=case_id, part=part, sealed=text) for part, text in sealed.items())
        return True


def targets_of(ledger: Ledger) -> dict[str, Target]:
    """{case: the row it is about}."""
    with Session(ledger.engine) as session:
        rows = session.scalars(select(CaseTargetRow).order_by(CaseTargetRow.case_id))
        return {row.case_id: Target(**{each.name: getattr(row, each.name) for each in fields(Target)}) for row in rows}


def case_of(ledger: Ledger, case_id: str) -> Case:
    """One case; raises DataError for an unknown one."""
    found = _cases(ledger, [case_id])
    if not found:
        raise DataError(f"{case_id}: no such case", "see the numbers in use: creditvillage case list")
    return found[0]


def all_cases(ledger: Ledger) -> list[Case]:
    """Every case, in the order of their numbers."""
    return _cases(ledger, None)


def _cases(ledger: Ledger, case_ids: Iterable[str] | None) -> list[Case]:
    cases, steps = select(CaseRow).order_by(CaseRow.case_id), select(CaseStepRow).order_by(CaseStepRow.step_id)
    if case_ids is not None:
        wanted = list(case_ids)
        cases, steps = cases.where(CaseRow.case_id.in_(wanted)), steps.where(CaseStepRow.case_id.in_(wanted))
    with Session(ledger.engine) as session:
        taken: dict[str, dict[str, Step]] = {}
        for row in session.scalars(steps):
            taken.setdefault(row.case_id, {})[row.step] = Step(row.step, row.happened_on, row.account, row.verdict)
        return [
            Case(
                **{each.name: getattr(row, each.name) for each in fields(NewCase)},
                case_id=row.case_id,
                answer_due_on=row.answer_due_on,
                steps=taken[row.case_id],
            )
            for row in session.scalars(cases)
        ]


def notes_of(ledger: Ledger) -> dict[str, list[Note]]:
    """{case: what the bank answered about its notes}."""
    found: dict[str, list[Note]] = {}
    with Session(ledger.engine) as session:
        for row in session.scalars(select(CaseNoteRow).order_by(CaseNoteRow.case_id, CaseNoteRow.loan_key)):
            note = Note(row.loan_key, row.is_mistaken, row.overdue_days, row.five_class)
            found.setdefault(row.case_id, []).append(note)
    return found


def sealed_texts(ledger: Ledger, case_id: str) -> dict[str, bytes]:
    """{part: sealed text} of a case."""
    query = select(CaseTextRow.part, CaseTextRow.sealed).where(CaseTextRow.case_id == case_id)
    with Session(ledger.engine) as session:
        return dict(iter(session.execute(query)))


def sealed_texts_of(ledger: Ledger, case_ids: Iterable[str]) -> dict[str, dict[str, bytes]]:
    """{case: {part: sealed text}} of several cases; one without texts is left out."""
    query = select(CaseTextRow).where(CaseTextRow.case_id.in_(list(case_ids))).order_by(CaseTextRow.case_id)
    found: dict[str, dict[str, bytes]] = {}
    with Session(ledger.engine) as session:
        for row in session.scalars(query):
            found.setdefault(row.case_id, {})[row.part] = row.sealed
    return found


def keep_text(ledger: Ledger, case_id: str, part: str, sealed: bytes) -> None:
    """Keep one text; the first of a part stays."""
    row = {"case_id": case_id, "part": part, "sealed": sealed}
    with Session(ledger.engine) as session, session.begin():
        session.execute(upsert(CaseTextRow).values(row).on_conflict_do_nothing())


def note_grades(ledger: Ledger, period: str, stage: str, *, on: date, account: str, now: datetime) -> bool:
    """A month's grades were reviewed, or noticed; False if that was recorded before."""
    row = {"period": period, "stage": stage, "happened_on": on, "account": account, "recorded_at": now}
    with Session(ledger.engine) as session, session.begin():
        added = upsert(GradeNoticeRow).values(row).on_conflict_do_nothing().returning(GradeNoticeRow.stage)
        return session.scalar(added) is not None


def grade_stages(ledger: Ledger, period: str) -> dict[str, date]:
    """{stage: day} of a month's grades."""
    query = select(GradeNoticeRow.stage, GradeNoticeRow.happened_on).where(GradeNoticeRow.period == period)
    with Session(ledger.engine) as session:
        return dict(iter(session.execute(query)))
