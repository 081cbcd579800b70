"""What a month's grades have to know of cases: the ledger's cases as relations, without text and identity.

A step counts for a month if it happened until the end of the month after it: that is when the month is worked on. So an
objection to March's grades, raised in April, bears on March, and one raised in May does not. A question to a bank counts
once it is answered; until then `hold_reason` says that it waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from etl.ledger import cases as ledger
from etl.ledger.cases import Case
from etl.ledger.repository import Ledger
from etl.period import Period

_STEPS = ("opened", "marked", "asked", "answered", "closed")
_CASES = pa.schema(
    [
        *((name, pa.string()) for name in ("case_id", "case_kind", "household_key", "bank_code", "concerns")),
        *((f"{step}_on", pa.date32()) for step in _STEPS),
        ("answer_due_on", pa.date32()),
        ("verdict", pa.string()),
        ("override_grade", pa.string()),
        ("expires_on", pa.date32()),
    ]
)
_NOTES = pa.schema(
    [("bank_code", pa.string()), ("loan_key", pa.string()), ("overdue_days", pa.int32()), ("five_class", pa.string())]
)
_REPAIRED = pa.schema([("event_key", pa.string()), ("repaired_on", pa.date32())])
_STAGES = pa.schema([("stage", pa.string()), ("happened_on", pa.date32())])


@dataclass(frozen=True)
class Caseload:
    """The cases of one month as the ledger knows them now."""

    ledger: Ledger
    period: Period

    @cached_property
    def cases(self) -> list[dict[str, Any]]:
        """`accepted_cases`: cases open in the month, or closed in it or after."""
        return [self._row(case) for case in ledger.all_cases(self.ledger) if self._bears(case)]

    @cached_property
    def mended_notes(self) -> list[dict[str, Any]]:
        """`mended_notes`: notes of the month that their bank had delivered wrongly, as they should have been."""
        return sorted(self._mends(), key=lambda note: (note["bank_code"], note["loan_key"]))

    @cached_property
    def repaired_items(self) -> list[dict[str, Any]]:
        """`repaired_items`: list items that a decided repair ends, with the day of the decision."""
        return sorted(self._repairs(), key=lambda one: (one["event_key"], one["repaired_on"]))

    @cached_property
    def grade_stages(self) -> list[dict[str, Any]]:
        """`grade_stages`: when the month's grades were reviewed and noticed."""
        stages = ledger.grade_stages(self.ledger, str(self.period))
        return [{"stage": stage, "happened_on": day} for stage, day in sorted(stages.items())]

    def relations(self) -> dict[str, pa.Table]:
        """All of it, by the names the models read."""
        return {
            "accepted_cases": pa.Table.from_pylist(self.cases, _CASES),
            "mended_notes": pa.Table.from_pylist(self.mended_notes, _NOTES),
            "repaired_items": pa.Table.from_pylist(self.repaired_items, _REPAIRED),
            "grade_stages": pa.Table.from_pylist(self.grade_stages, _STAGES),
        }

    def mark(self) -> list[Any]:
        """What the month's fingerprint holds of it."""
        return [self.cases, self.mended_notes, self.repaired_items, self.grade_stages]

    def _bears(self, case: Case) -> bool:
        closed_on = case.on("closed")
        if case.opened_on > self._last_day or (closed_on is not None and closed_on < self.period.start):
            return False
        is_question = case.case_kind == "bank_confirmation"
        return not is_question or (self._counted(case, "answered") is not None and case.verdict != "lapsed")

    def _row(self, case: Case) -> dict[str, Any]:
        row = {name: getattr(case, name, None) for name in _CASES.names}
        days = {f"{step}_on": self._counted(case, step) for step in _STEPS}
        return {**row, **days, "verdict": case.verdict if days["answered_on"] else None}

    def _counted(self, case: Case, step: str) -> Any:
        day = case.on(step)
        return day if day is not None and day <= self._last_day else None

    @property
    def _last_day(self) -> Any:
        return self.period.next().end

    def _repairs(self) -> Iterator[dict[str, Any]]:
        """A repair holds from its decision on, in every month; so it never leaves what a month reads."""
        targets = ledger.targets_of(self.ledger)
        for case in ledger.all_cases(self.ledger) if targets else ():
            decided_on = self._counted(case, "answered") if case.verdict == "upheld" else None
            if case.case_kind == "repair" and case.case_id in targets and decided_on is not None:
                yield {"event_key": targets[case.case_id].row_key, "repaired_on": decided_on}

    def _mends(self) -> Iterator[dict[str, Any]]:
        notes = ledger.notes_of(self.ledger)
        for case in ledger.all_cases(self.ledger) if notes else ():
            if case.period == str(self.period):
                for note in notes.get(case.case_id, ()):
                    if note.is_mistaken:
                        days, five_class = note.overdue_days, note.five_class
                        yield {
                            "bank_code": case.bank_code,
                            "loan_key": note.loan_key,
                            "overdue_days": days,
                            "five_class": five_class,
                        }
