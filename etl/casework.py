"""Work on cases: objections, corrections, repairs, overrides and opt-outs from opening to notice, with their clocks.

A case is opened for a household of the register as last graded. Days are handed in and counted by the calendar. What
people write, and the household's number, is sealed; everything else is open to readers of the ledger, by token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from etl import months
from etl.grading.policy import load_policies
from etl.intake.sealing import create_master_key, open_text, seal_text
from etl.ledger import cases as ledger
from etl.ledger.cases import Case, CaseAlert, NewCase, Step
from etl.ledger.records import Grading
from etl.mended import HEALED, Sources, mends, state_of
from etl.period import Period
from etl.tokens import token
from etl.vocabulary import GRADE_STAGES, ConfigurationError, DataError
from etl.workspace import Workspace

BY_HAND: Final = ("objection", "correction", "repair", "override", "opt_out")
VERDICTS_BY_HAND: Final = ("upheld", "refused")
SYSTEM: Final = "system"
# what a household is told of a row that another one disputed: nothing of the other
_SAID_BESIDE: Final = {
    "upheld": "涉及本户的一条记录经核实已更正 a record that concerns your household too was set right",
    "refused": "涉及本户的一条记录经核实维持不变 a record that concerns your household too stands as it was",
}
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


def open_case(ws: Workspace, request: Request, *, account: str, on: date, origin: str = "", now: datetime) -> Case:
    """Open a case, once for each `origin` (default: the same request on the same day).

    Raises DataError for a household that is not in the register, and ConfigurationError for a request that cannot be.
    """
    _require_account(account)
    graded = graded_month(ws, request.period)
    _require_possible(ws, request, graded.period, on)
    key = token(ws.token_key, "household", request.household_no.strip())
    standing = standing_of(ws, graded, key)
    if standing is None:
        mend = "check the number; a household that is new is graded with its first month"
        raise DataError(f"{graded.period}: the household is not in the register", mend)
    new = NewCase(
        case_kind=request.kind,
        household_key=key,
        period=graded.period,
        origin=origin or token(ws.token_key, "case", request.kind, key, str(request.concerns), str(on)),
        bank_code=request.bank,
        concerns=request.concerns,
        grade_before=standing.effective_grade,
        override_grade=request.grade,
        expires_on=request.until_on,
        grading_id=graded.grading_id,
    )
    texts = {"household_no": request.household_no.strip(), "request": request.text}
    case, _ = ledger.open_case(ws.ledger, new, account=account, on=on, texts=texts, seal=sealer(ws), now=now)
    return case


def graded_month(ws: Workspace, period: str | None) -> Grading:
    """The last grading of a month, or of the newest month; raises DataError where there is none."""
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


def sealer(ws: Workspace) -> ledger.Seal:
    """Encrypts a text for one case."""
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
    """Answer a case; of an override, a correction or the repair of a veto, approve or refuse what another asked for.

    Raises ConfigurationError for another verdict, DataError for the one who asked, a bank's case, or a repair that names
    no item.
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
    if verdict == "upheld":
        _require_approvable(ws, case, account)
    for one in (*_beside(ws, case, "answered"), case):
        _step(ws, one.case_id, Step("answered", on, account, verdict), now=now)
        why = text if one is case else _SAID_BESIDE[verdict]
        ledger.keep_text(ws.ledger, one.case_id, "answer", sealer(ws)(one.case_id, why))
    return ledger.case_of(ws.ledger, case_id)


def _require_approvable(ws: Workspace, case: Case, account: str) -> None:
    """Raise DataError where what would be decided is not named, or was asked for by the one who decides."""
    target = ledger.targets_of(ws.ledger).get(case.case_id)
    if case.case_kind == "repair" and target is None:
        mend = f"creditvillage case repair {case.case_id} --event … --document …"
        raise DataError(f"{case.case_id}: nobody has said which list item it ends", mend)
    if target is not None and target.needs_second and case.steps["proposed"].account == account:
        raise DataError(
            f"{case.case_id}: {account} proposed it and cannot approve it", "a second person has to approve"
        )


def _beside(ws: Workspace, case: Case, step: str) -> list[Case]:
    """Cases of the other households of the same row, before a step: what is decided about the row is decided for them."""
    own = [one for one in ledger.all_cases(ws.ledger) if one.origin.startswith(origin_beside(case.case_id))]
    return [one for one in own if one.is_open and step not in one.steps]


def origin_beside(case_id: str) -> str:
    """How the origin begins of cases that were opened because a row of this case concerns other households too."""
    return f"row/{case_id}/"


def close(ws: Workspace, case_id: str, *, account: str, on: date, now: datetime) -> Case:
    """End a case. An objection, correction or repair is answered first; an override or opt-out may end at any time."""
    case = ledger.case_of(ws.ledger, case_id)
    if case.verdict is None and case.case_kind not in ("override", "opt_out"):
        raise DataError(f"{case_id}: not answered yet", "answer it first: creditvillage case answer")
    for one in (*_beside(ws, case, "closed"), case):
        _step(ws, one.case_id, Step("closed", on, account), now=now)
    return ledger.case_of(ws.ledger, case_id)


def _step(ws: Workspace, case_id: str, step: Step, *, now: datetime) -> Case:
    """Add a step in its order; raises DataError for one that came before, or after the end."""
    require_next(ledger.case_of(ws.ledger, case_id), step)
    ledger.add_step(ws.ledger, case_id, step, now=now)
    return ledger.case_of(ws.ledger, case_id)


def require_next(case: Case, step: Step) -> None:
    """Raise DataError where a step came before, comes after the end, or on a day before the last one."""
    _require_account(step.account)
    case_id = case.case_id
    last = max(one.happened_on for one in case.steps.values() if one.step in ledger.STATES)
    is_late = step.step in ("marked", "proposed") and case.verdict is not None
    if not case.is_open or step.step in case.steps or is_late:
        raise DataError(f"{case_id}: {case.state} already", "see its steps: creditvillage case list --json")
    if step.happened_on < last:
        raise DataError(f"{case_id}: {step.happened_on} is before its last step on {last}", "give a later --on")


def note_grades(ws: Workspace, period: str, stage: str, *, account: str, on: date, now: datetime) -> None:
    """Record that a month's grades were reviewed, or noticed (which needs the review first).

    Raises DataError for a month without grades, or out of order.
    """
    _require_account(account)
    graded, known = graded_month(ws, period), ledger.grade_stages(ws.ledger, period)
    before = [known.get(one) for one in GRADE_STAGES[: GRADE_STAGES.index(stage)]]
    if None in before or any(day is not None and on < day for day in before):
        raise DataError(f"{period}: grades are {stage} after they were {GRADE_STAGES[0]}", "record the review first")
    if on <= Period.parse(graded.period).end:
        raise DataError(f"{period}: {on} is before the month is over", "give the day on which it happened")
    if not ledger.note_grades(ws.ledger, period, stage, on=on, account=account, now=now):
        raise DataError(f"{period}: its grades were {stage} on {known[stage]}", "a notice is given once")


# -- clocks -----------------------------------------------------------------------------------------------------------


def watch(ws: Workspace, *, now: datetime) -> list[CaseAlert]:
    """Tell of clocks that ran out or are about to, and of corrections whose source says otherwise now, each once."""
    today = now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    due = [(case, breach) for case in ledger.all_cases(ws.ledger) for breach in case.breaches(today)]
    due += [(ledger.case_of(ws.ledger, case_id), "told_healed") for case_id in _healed(ws)]
    return [
        CaseAlert(case, breach)
        for case, breach in due
        if ledger.add_step(ws.ledger, case.case_id, Step(breach, today, SYSTEM), now=now)
    ]


def _healed(ws: Workspace) -> list[str]:
    """Corrections of which nobody was told yet that the source no longer says what they correct."""
    return [
        line["case_id"]
        for line in corrections(ws)
        if line["state"] == HEALED and "told_healed" not in ledger.case_of(ws.ledger, line["case_id"]).steps
    ]


def corrections(ws: Workspace) -> list[dict[str, Any]]:
    """Every approved correction with what became of it in the month graded last; no values."""
    approved = mends(ws)
    if not approved:
        return []
    period = Period.parse(graded_month(ws, None).period)
    with ws.engine() as engine:
        sources = Sources(ws, engine)
        return [
            {
                "case_id": one.case_id,
                "dataset": one.target.dataset,
                "bank_code": one.target.bank_code,
                "columns": list(one.cells),
                "since": str(one.first),
                "expires_on": one.target.expires_on,
                "period": str(period),
                "state": state_of(sources, one, period),
            }
            for one in approved
        ]


# -- lists ------------------------------------------------------------------------------------------------------------


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
