"""`creditvillage case …`: cases of households, their steps, clocks and list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.text import Text

from etl import casework, proposing
from etl.casework import Request
from etl.cli import tables
from etl.ledger.cases import Case
from etl.local.postgres import database
from etl.period import Period
from etl.reports import notice
from etl.reports.request_form import blank_form
from etl.settings import Settings
from etl.vocabulary import CASE_KIND_LABELS, CASE_STEP_LABELS, CASE_VERDICT_LABELS, ConfigurationError
from etl.workspace import Workspace

Verb = Callable[..., Case]
STATES = {
    "applied": "适用 applied",
    "healed": "来源已不同 the source says otherwise",
    "expired": "已到期 expired",
    "waiting": "待该月 from a later month on",
}
VERBS: dict[str, Verb] = {"mark": casework.mark, "answer": casework.answer, "close": casework.close}


@contextmanager
def _opened(settings: Settings) -> Iterator[Workspace]:
    """A workspace whose ledger is up to date."""
    with database(settings) as found:
        ws = Workspace(found)
        ws.ledger.migrate()
        yield ws


def _day(ws: Workspace, text: str | None, now: datetime) -> date:
    """A day as given, or today in the county; raises ConfigurationError for what is no day."""
    if text is None:
        return now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("case --on", text, "no day", "write it as YYYY-MM-DD") from None


def open_one(
    settings: Settings, request: Request, *, until: str | None, by: str, on: str | None, now: datetime, console: Console
) -> None:
    """Open a case and say its number."""
    with _opened(settings) as ws:
        wanted = replace(request, until_on=_day(ws, until, now) if until else None)
        _say(console, casework.open_case(ws, wanted, account=by, on=_day(ws, on, now), now=now))


def take_step(
    settings: Settings, verb: str, case_id: str, *given: str, by: str, on: str | None, now: datetime, console: Console
) -> None:
    """Mark, answer or close a case; write the notices that are due."""
    with _opened(settings) as ws:
        _say(console, VERBS[verb](ws, case_id, *given, account=by, on=_day(ws, on, now), now=now))
        for path in notice.notify(ws, now=now):
            console.print(f"通知已写入 notice written: {path}", soft_wrap=True)


def correct(
    settings: Settings,
    case_id: str,
    wanted: proposing.Wanted,
    *,
    until: str,
    by: str,
    on: str | None,
    now: datetime,
    console: Console,
) -> None:
    """Name the cells a case shall set right."""
    with _opened(settings) as ws:
        wanted = replace(wanted, until=_day(ws, until, now))
        _say(console, proposing.correct(ws, case_id, wanted, account=by, on=_day(ws, on, now), now=now))


def repair(
    settings: Settings,
    case_id: str,
    event: str,
    document: str,
    *,
    by: str,
    on: str | None,
    now: datetime,
    console: Console,
) -> None:
    """Name the list item a repair ends."""
    with _opened(settings) as ws:
        _say(console, proposing.repair(ws, case_id, event, document, account=by, on=_day(ws, on, now), now=now))


def cells(columns: list[str], delivered: list[str], right: list[str]) -> dict[str, tuple[str, str]]:
    """{column: (as delivered, right)}; raises ConfigurationError unless each column has both values, once."""
    if not len(columns) == len(set(columns)) == len(delivered) == len(right):
        mend = "write --column, --delivered and --right once for each column"
        raise ConfigurationError(
            "case correct", "--column", f"{len(columns)} columns, {len(delivered)} and {len(right)} values", mend
        )
    return dict(zip(columns, zip(delivered, right, strict=True), strict=True))


def show_corrections(settings: Settings, *, console: Console, as_json: bool) -> int:
    """One line for each approved correction; returns 1 when the source of one says otherwise now."""
    with _opened(settings) as ws:
        listed = casework.corrections(ws)
    if as_json:
        console.out(tables.as_json_text(listed), highlight=False)
    else:
        columns = [
            "事项 case",
            "数据 dataset",
            "银行 bank",
            "列 columns",
            "起 since",
            "至 until",
            "期间 period",
            "状态 state",
        ]
        lines = [
            [one["case_id"], one["dataset"], one["bank_code"] or "", ", ".join(one["columns"]), one["since"],
             one["expires_on"], one["period"], STATES[one["state"]]]
            for one in listed
        ]  # fmt: skip
        tables.show(console, "更正 Corrections", columns, lines)
    return int(any(one["state"] == "healed" for one in listed))


def write_form(settings: Settings, out: Path, period: Period, console: Console) -> None:
    """Write the villages' blank form into a new file."""
    if out.exists():
        raise ConfigurationError("--out", str(out), "the file exists", "name a new file")
    out.write_bytes(blank_form(Workspace(settings), period))
    console.print(f"空白申请表已写入 blank form written: {out}", soft_wrap=True)


def note_grades(
    settings: Settings, period: str, stage: str, *, by: str, on: str | None, now: datetime, console: Console
) -> None:
    """Record that a month's grades were reviewed or noticed."""
    with _opened(settings) as ws:
        happened_on = _day(ws, on, now)
        casework.note_grades(ws, period, stage, account=by, on=happened_on, now=now)
    label = {"reviewed": "等级已复核 grades reviewed", "noticed": "等级已公示 grades noticed"}[stage]
    console.print(f"{period}: {label} {happened_on}")


def show_all(
    settings: Settings, *, open_only: bool, on: str | None, now: datetime, console: Console, as_json: bool
) -> int:
    """One line a case; returns 1 when an answer is overdue."""
    with _opened(settings) as ws:
        listed = [row for row in casework.rows(ws, _day(ws, on, now)) if not open_only or row["state"] != "closed"]
    if as_json:
        console.out(tables.as_json_text(listed), highlight=False)
    else:
        columns = ["事项 case", "类别 kind", "期间 period", "状态 state", "受理 opened", "答复期限 due", "剩余天数 days left",
                   "银行 bank", "结论 outcome"]  # fmt: skip
        tables.show(console, "事项 Cases", columns, [_line(row) for row in listed], numbers=columns[6:7])
    return int(any("told_overdue" in row["breaches"] for row in listed))


def _line(row: Mapping[str, Any]) -> list[object]:
    kind, state = CASE_KIND_LABELS[row["case_kind"]], CASE_STEP_LABELS[row["state"]]
    verdict = CASE_VERDICT_LABELS.get(row["verdict"], {"zh": "", "en": ""})
    breach = row["breaches"][-1] if row["breaches"] else None
    label = CASE_STEP_LABELS[breach] if breach else state
    told = Text(f"{label['zh']} {label['en']}", style="red" if breach else "default")
    left = "" if row["days_left"] is None else row["days_left"]
    outcome = f"{verdict['zh']} {verdict['en']}".strip()
    return [row["case_id"], f"{kind['zh']} {kind['en']}", row["period"], told, row["opened_on"], row["answer_due_on"], left,
            row["bank_code"] or "", outcome]  # fmt: skip


def _say(console: Console, case: Case) -> None:
    state = CASE_STEP_LABELS[case.state]
    console.print(
        f"{case.case_id}: {state['zh']} {state['en']}，答复期限 answer due {case.answer_due_on}", soft_wrap=True
    )
