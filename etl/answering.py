"""A bank answers a question about its notes: its file is read, matched with the question, kept, and answered by a receipt.

All or nothing, like a confirmation of warnings: one wrong line and nothing is kept, but every wrong line is named, in
`outbox/<bank>/cases/<file name>.<confirmation_id>.receipt.{json,csv}`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from etl.confirming import read_settled, write_answer
from etl.intake.case_answer import ANSWERS, FOLDER, AnsweredNote, parse
from etl.intake.confirmation import MAX_BYTES, Confirming, Problem
from etl.intake.delivery import SourceChangedError
from etl.ledger import cases, confirmations
from etl.ledger.cases import Case, Note, Step
from etl.tokens import token
from etl.vocabulary import CASE_VERDICT_LABELS, DataError
from etl.workspace import Workspace

_SENT_AGAIN = "请更正后以同名文件重新投递"


@dataclass(frozen=True)
class _Opinion:
    """What an answer comes to: with problems it is refused."""

    sha256: str | None
    case: Case | None
    notes: Sequence[Note] = ()
    problems: Sequence[Problem] = ()

    @property
    def verdict(self) -> str:
        return "mistaken" if any(note.is_mistaken for note in self.notes) else "confirmed"


def answer(ws: Workspace, confirming: Confirming, *, now: datetime) -> None:
    """Take one settled file; what changes meanwhile waits for a later scan. Done again, it is the same."""
    with ws.ledger.lock(f"confirm/{confirming.supplier}"):
        mark = (confirming.supplier, confirming.address, confirming.name, confirming.size_bytes, confirming.mtime_ns)
        claimed = confirmations.claim_file(ws.ledger, *mark, now=now)
        if claimed.is_accepted is not None:
            return
        try:
            opinion = _opinion(ws, confirming)
        except SourceChangedError:
            return
        document = _document(ws, confirming, claimed.confirmation_id, opinion)
        write_answer(ws, confirming, claimed.confirmation_id, FOLDER, opinion.problems, document)
        _record(ws, confirming.supplier, opinion, now=now)
        is_accepted = not opinion.problems
        confirmations.settle_file(
            ws.ledger, claimed.confirmation_id, sha256=opinion.sha256, is_accepted=is_accepted, now=now
        )


def _opinion(ws: Workspace, confirming: Confirming) -> _Opinion:
    case_id = confirming.name.removesuffix(ANSWERS)
    if confirming.size_bytes > MAX_BYTES:
        too_large = _whole(f"文件超过 {MAX_BYTES:,} 字节", f"larger than {MAX_BYTES:,} bytes")
        return _Opinion(None, None, problems=[too_large])
    content = read_settled(ws, confirming)
    sha256 = hashlib.sha256(content).hexdigest()
    case = _case_of(ws, confirming.supplier, case_id)
    if case is None or case.verdict is not None:
        en = "the name is not <case>.answer.csv of a question to you that is not answered yet"
        return _Opinion(sha256, None, problems=[_whole("文件名不是待本行答复的 <事项编号>.answer.csv", en)])
    encoding = ws.registry.banks[confirming.supplier].receipt_encoding
    answered, problems = parse(content, encoding, case_id, ws.registry.codes.values("five_class"))
    return _matched(ws, sha256, case, answered, problems)


def _case_of(ws: Workspace, bank: str, case_id: str) -> Case | None:
    """The question with this number; one to another bank is as good as none."""
    try:
        case = cases.case_of(ws.ledger, case_id)
    except DataError:
        return None
    return case if case.case_kind == "bank_confirmation" and case.bank_code == bank and "asked" in case.steps else None


def _matched(
    ws: Workspace, sha256: str, case: Case, answered: Sequence[AnsweredNote], problems: Sequence[Problem]
) -> _Opinion:
    """Every note of the question has its line, and no other note has one."""
    keys = [token(ws.token_key, "loan", str(case.bank_code), one.loan_no) for one in answered]
    asked = {note.loan_key for note in cases.notes_of(ws.ledger).get(case.case_id, ())}
    strange = [
        Problem(one.line, "该借据不在本事项中", "the note is not of this question", "照抄核实文件中的借据号")
        for one, key in zip(answered, keys, strict=True)
        if key not in asked
    ]
    if not problems and not strange and asked - set(keys):
        strange = [_whole("有借据未答复", "not every note is answered")]
    if problems or strange:
        return _Opinion(sha256, case, problems=[*problems, *strange])
    notes = [
        Note(key, one.is_mistaken, one.overdue_days, one.five_class) for key, one in zip(keys, answered, strict=True)
    ]
    return _Opinion(sha256, case, notes)


def _whole(zh: str, en: str) -> Problem:
    return Problem(None, zh, en, _SENT_AGAIN)


def _document(ws: Workspace, confirming: Confirming, confirmation_id: str, opinion: _Opinion) -> dict[str, Any]:
    return {
        "confirmation_id": confirmation_id,
        "case": opinion.case.case_id if opinion.case else None,
        "bank": confirming.supplier,
        "period": opinion.case.period if opinion.case else None,
        "outcome": "rejected" if opinion.problems else "accepted",
        "sha256": opinion.sha256,
        "rows_read": len(opinion.notes),
        "verdict": None if opinion.problems else CASE_VERDICT_LABELS[opinion.verdict],
        "problems": [vars(problem) for problem in opinion.problems],
        "contact": ws.registry.county.contact.model_dump(),
    }


def _record(ws: Workspace, bank: str, opinion: _Opinion, *, now: datetime) -> None:
    if opinion.problems or opinion.case is None:
        return
    today = now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    answered = Step("answered", today, bank, opinion.verdict)
    cases.answer_notes(ws.ledger, opinion.case.case_id, answered, opinion.notes, now=now)
    cases.add_step(ws.ledger, opinion.case.case_id, Step("closed", today, bank), now=now)
