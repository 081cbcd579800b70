"""Work on cases: objections, corrections, repairs, overrides and opt-outs from opening to notice, with their clocks.

A case is opened for a household of the register as last graded. Days are handed in and counted by the calendar. What
people write, and the household's number, is sealed; everything else is open to readers of the ledger, by token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from etl import months
from etl.grading.policy import load_policies
from etl.intake.sealing import create_master_key, open_text, seal_text
from etl.ledger import cases as ledger
from etl.ledger.cases import Case, CaseAlert, NewCase, Step
from etl.ledger.records import Grading
from etl.period import Period
from etl.tokens import token
from etl.vocabulary import CASE_KIND_LABELS, CASE_VERDICT_LABELS, GRADE_STAGES, ConfigurationError, DataError
from etl.workspace import Workspace

BY_HAND: Final = ("objection", "correction", "repair", "override", "opt_out")
VERDICTS_BY_HAND: Final = ("upheld", "refused")
SYSTEM: Final = "system"
_ACCOUNT: Final = re.compile(r"[a-z][a-z0-9_.-]{1,31}")
_REGISTER, _GRADES = "core_households", "core_household_grades"


@dataclass(frozen=True)
class Request:
    """What somebody asks for a household; `until_on` and `grade` for overrides only."""

    kind: str
    household_no: str
    text: str
    bank: str | None = None
    concerns: str | None = None
    grade: str | None = None
    until_on: date | None = None
    period: str | None = None


@dataclass(frozen=True)
class Standing:
    """Where a household stands in a grading."""

    period: str
    village_code: str
    effective_grade: str | None
    not_rated_reason: str | None
    hold_reason: str | None


def open_case(
    ws: Workspace,
    request: Request,
    *,
    account: str,
    on: date,
    origin: str = "",
    is_registered: bool = True,
    now: datetime,
) -> Case:
    """Open a case, once for each `origin` (default: the same request on the same day).

    Raises DataError for a household that is not in the register, if it must be (`is_registered`), and ConfigurationError
    for a request that cannot be.
    """
    _require_account(account)
    graded = _graded(ws, request.period)
    _require_possible(ws, request, graded.period, on)
    key = token(ws.token_key, "household", request.household_no.strip())
    standing = standing_of(ws, graded, key)
    if standing is None and is_registered:
        mend = "check the number; a household that is new is graded with its first month"
        raise DataError(f"{graded.period}: the household is not in the register", mend)
    new = NewCase(
        case_kind=request.kind,
        household_key=key,
        period=graded.period,
        origin=origin or token(ws.token_key, "case", request.kind, key, str(request.concerns), str(on)),
        bank_code=request.bank,
        concerns=request.concerns,
        grade_before=standing.effective_grade if standing else None,
        override_grade=request.grade,
        expires_on=request.until_on,
    )
    texts = {"household_no": request.household_no.strip(), "request": request.text}
    case, _ = ledger.open_case(ws.ledger, new, account=account, on=on, texts=texts, seal=_sealer(ws), now=now)
    return case


def _graded(ws: Workspace, period: str | None) -> Grading:
    gradings = ws.ledger.last_gradings()
    graded = gradings.get(period or max(gradings, default=""))
    if graded is None:
        raise DataError(f"{period or 'no month'}: not graded yet", "a case speaks of a grade: grade the month first")
    return graded


def _require_possible(ws: Workspace, request: Request, period: str, on: date) -> None:
    """Raise ConfigurationError for a kind, bank, grade or expiry that cannot be."""
    grades = [
        cut.grade for cut in load_policies(ws.settings.config, Period.parse(period), ws.registry).household.grades
    ]
    is_override = request.kind == "override"
    checks = (
        ("--kind", request.kind, request.kind in BY_HAND, f"use one of {', '.join(BY_HAND)}"),
        ("--bank", request.bank, request.bank is None or request.bank in ws.registry.banks, "use a bank's code"),
        ("--grade", request.grade, (request.grade in grades) if is_override else request.grade is None,
         f"only an override names a grade, one of {', '.join(grades)}"),
        ("--until", request.until_on, (request.until_on is not None and request.until_on > on) if is_override
         else request.until_on is None, "an override, and nothing else, needs a last day after today"),
        ("--text", "", bool(request.text.strip()), "say in a sentence what is asked and why"),
    )  # fmt: skip
    for option, value, is_right, mend in checks:
        if not is_right:
            raise ConfigurationError(f"case {option}", str(value or ""), "not possible here", mend)


def _require_account(account: str) -> None:
    if not _ACCOUNT.fullmatch(account):
        mend = "name the account that acts: small letters, digits, . _ -"
        raise ConfigurationError("case --by", "", "not the name of an account", mend)


def _sealer(ws: Workspace) -> ledger.Seal:
    master = create_master_key(ws.master_key_path)
    return lambda case_id, text: seal_text(text, master, case_id)


def text_of(ws: Workspace, case: Case, part: str) -> str | None:
    """A sealed text of a case in the clear, for its notice; None where there is none."""
    sealed = ledger.sealed_texts(ws.ledger, case.case_id).get(part)
    return None if sealed is None else open_text(sealed, create_master_key(ws.master_key_path), case.case_id)


def standing_of(ws: Workspace, graded: Grading, household_key: str) -> Standing | None:
    """Where a household stands in a grading; None if it is not in its register."""
    query = (
        f"SELECT h.village_code, g.effective_grade, g.not_rated_reason, g.hold_reason FROM {_REGISTER} AS h "
        f"LEFT JOIN {_GRADES} AS g ON g.household_key = h.household_key WHERE h.household_key = $key"
    )
    with ws.engine() as engine:
        for table in (_REGISTER, _GRADES):
            months.register_staged(engine, ws, table, table, [graded])
        found = engine.fetch(query, {"key": household_key})
    return Standing(graded.period, *found[0]) if found else None


# -- steps ------------------------------------------------------------------------------------------------------------


def mark(ws: Workspace, case_id: str, *, account: str, on: date, now: datetime) -> Case:
    """Note that what is disputed bears its mark; the law gives a day."""
    return _step(ws, case_id, Step("marked", on, account), now=now)


def answer(ws: Workspace, case_id: str, verdict: str, text: str, *, account: str, on: date, now: datetime) -> Case:
    """Answer a case; of an override, approve or refuse it, which nobody does for a case of his own.

    Raises ConfigurationError for another verdict, DataError for the one who opened it or a bank's case.
    """
    case = ledger.case_of(ws.ledger, case_id)
    if verdict not in VERDICTS_BY_HAND:
        raise ConfigurationError("case --verdict", verdict, "no verdict", f"use one of {', '.join(VERDICTS_BY_HAND)}")
    if case.case_kind == "bank_confirmation":
        raise DataError(f"{case_id}: only its bank can answer", f"wait for its file, {case_id}.answer.csv")
    if case.case_kind == "override" and case.steps["opened"].account == account:
        raise DataError(f"{case_id}: {account} opened it and cannot approve it", "a second person has to approve")
    if not text.strip():
        raise ConfigurationError("case --text", "", "an answer gives its reason", "say in a sentence why")
    case = _step(ws, case_id, Step("answered", on, account, verdict), now=now)
    ledger.keep_text(ws.ledger, case_id, "answer", _sealer(ws)(case_id, text))
    return case


def close(ws: Workspace, case_id: str, *, account: str, on: date, now: datetime) -> Case:
    """End a case. An objection, correction or repair is answered first; an override or opt-out may end at any time."""
    case = ledger.case_of(ws.ledger, case_id)
    if case.verdict is None and case.case_kind not in ("override", "opt_out"):
        raise DataError(f"{case_id}: not answered yet", "answer it first: creditvillage case answer")
    return _step(ws, case_id, Step("closed", on, account), now=now)


def _step(ws: Workspace, case_id: str, step: Step, *, now: datetime) -> Case:
    """Add a step in its order; raises DataError for one that came before, or after the end."""
    _require_account(step.account)
    case = ledger.case_of(ws.ledger, case_id)
    last = max(one.happened_on for one in case.steps.values() if one.step in ledger.STATES)
    if not case.is_open or step.step in case.steps or (step.step == "marked" and case.verdict):
        raise DataError(f"{case_id}: {case.state} already", "see its steps: creditvillage case list --json")
    if step.happened_on < last:
        raise DataError(f"{case_id}: {step.happened_on} is before its last step on {last}", "give a later --on")
    ledger.add_step(ws.ledger, case_id, step, now=now)
    return ledger.case_of(ws.ledger, case_id)


def note_grades(ws: Workspace, period: str, stage: str, *, account: str, on: date, now: datetime) -> None:
    """Record that a month's grades were reviewed, or noticed (which needs the review first).

    Raises DataError for a month without grades, or out of order.
    """
    _require_account(account)
    graded, known = _graded(ws, period), ledger.grade_stages(ws.ledger, period)
    before = [known.get(one) for one in GRADE_STAGES[: GRADE_STAGES.index(stage)]]
    if None in before or any(day is not None and on < day for day in before):
        raise DataError(f"{period}: grades are {stage} after they were {GRADE_STAGES[0]}", "record the review first")
    if on <= Period.parse(graded.period).end:
        raise DataError(f"{period}: {on} is before the month is over", "give the day on which it happened")
    if not ledger.note_grades(ws.ledger, period, stage, on=on, account=account, now=now):
        raise DataError(f"{period}: its grades were {stage} on {known[stage]}", "a notice is given once")


# -- clocks -----------------------------------------------------------------------------------------------------------


def watch(ws: Workspace, *, now: datetime) -> list[CaseAlert]:
    """Tell of clocks that ran out or are about to, each once."""
    today = now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    return [
        CaseAlert(case, breach)
        for case in ledger.all_cases(ws.ledger)
        for breach in case.breaches(today)
        if ledger.add_step(ws.ledger, case.case_id, Step(breach, today, SYSTEM), now=now)
    ]


# -- notices ----------------------------------------------------------------------------------------------------------


def notify(ws: Workspace, *, now: datetime) -> list[Path]:
    """Write the notices of cases that have ended, once the grades that follow from them are there."""
    waiting = [case for case in ledger.all_cases(ws.ledger) if _is_settled(case) and "notified" not in case.steps]
    if not waiting:
        return []
    graded = _graded(ws, None)
    if months.inputs_of(ws, graded.period).fingerprint != graded.fingerprint:
        return []
    written = (_notice(ws, case, graded, now=now) for case in waiting)
    return [path for path in written if path is not None]


def _is_settled(case: Case) -> bool:
    return not case.is_open or (case.case_kind == "override" and case.verdict is not None)


def _notice(ws: Workspace, case: Case, graded: Grading, *, now: datetime) -> Path | None:
    """One notice in the folder of the household's village; None where nobody gave its number."""
    today = now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    household_no = text_of(ws, case, "household_no")
    standing = standing_of(ws, graded, case.household_key)
    path = None
    if household_no is not None and standing is not None:
        path = ws.settings.outbox / standing.village_code / "notices" / f"{case.case_id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = notice_text(ws, case, household_no, standing, why=text_of(ws, case, "answer"))
        path.write_text(text, encoding="utf-8-sig", newline="\r\n")
    ledger.add_step(ws.ledger, case.case_id, Step("notified", today, SYSTEM), now=now)
    return path


def notice_text(ws: Workspace, case: Case, household_no: str, standing: Standing, *, why: str | None) -> str:
    """What the household and its village read: grade before, after, and why. Chinese first."""
    county = ws.registry.county
    kind, verdict = CASE_KIND_LABELS[case.case_kind], CASE_VERDICT_LABELS.get(case.verdict or "", {"zh": "", "en": ""})
    lines = [
        *(["合成数据 synthetic data"] if county.synthetic else []),
        f"{county.name.zh}信用等级事项办理结果通知 Outcome of a case about a credit grade",
        "",
        f"事项编号 case: {case.case_id}（{kind['zh']} {kind['en']}）",
        f"户号 household: {household_no}",
        f"受理日期 opened on: {case.opened_on}",
        f"答复日期 answered on: {case.on('answered') or '—'}",
        f"结论 outcome: {verdict['zh']} {verdict['en']}".rstrip(),
        f"办理前等级 grade before: {_said(case.grade_before, None)}",
        f"办理后等级 grade after: {_said(standing.effective_grade, standing.not_rated_reason)}（{standing.period}）",
        f"理由 why: {why or '—'}",
        "",
        f"如有不同意见，可再次提出异议 You may object again: {county.contact.zh} {county.contact.phone}",
    ]
    return "\n".join(lines) + "\n"


def _said(grade: str | None, reason: str | None) -> str:
    return grade or f"不予评定 not rated{f' ({reason})' if reason else ''}"


def rows(ws: Workspace, today: date) -> list[Mapping[str, Any]]:
    """Every case with its state and clock, without text, for a table or JSON."""
    return [
        {
            "case_id": case.case_id,
            "case_kind": case.case_kind,
            "household_key": case.household_key,
            "period": case.period,
            "bank_code": case.bank_code,
            "concerns": case.concerns,
            "state": case.state,
            "opened_on": case.opened_on,
            "answer_due_on": case.answer_due_on,
            "days_left": (case.answer_due_on - today).days if case.verdict is None and case.is_open else None,
            "verdict": case.verdict,
            "grade_before": case.grade_before,
            "breaches": case.breaches(today),
            "steps": [{**vars(step)} for step in case.steps.values()],
        }
        for case in ledger.all_cases(ws.ledger)
    ]
