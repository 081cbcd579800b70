"""`creditvillage calendar`: who delivers what by when, and how it stands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from etl.cli import tables
from etl.deadlines import NOTHING_TO_CARRY, STANDINGS, Appointment, Timetable, due_text
from etl.period import Period
from etl.settings import Settings
from etl.workspace import Workspace

_COLOURS = {"early": "green", "on_time": "green", "late": "yellow", "missing": "red", "unknown": "magenta"}


def show_calendar(settings: Settings, period: str, *, now: datetime, console: Console, as_json: bool) -> int:
    """Print every delivery the month needs with its due date and state; returns 1 when one is missing or late."""
    ws = Workspace(settings)
    ws.ledger.migrate()
    timetable = Timetable(ws, now)
    listed = timetable.appointments(Period.parse(period))
    if as_json:
        console.out(tables.as_json_text([_document(one) for one in listed]), highlight=False)
    else:
        _print(console, timetable, period, listed)
    return int(any(one.state in ("late", "missing") for one in listed))


def _document(one: Appointment) -> dict[str, Any]:
    return {
        "period": str(one.period),
        "supplier": one.expected.supplier,
        "dataset": one.expected.dataset,
        "kind": one.expected.kind,
        "due_at": one.due.at.isoformat() if one.due.at else None,
        "state": one.state,
        "arrived_at": one.arrived_at.isoformat() if one.arrived_at else None,
        "delivery_id": one.delivery_id,
        "under_way": one.is_under_way,
        "carried_forward": one.is_carried,
        "nothing_to_carry": one.has_nothing_to_carry,
        "refused": one.refused,
    }


def _print(console: Console, timetable: Timetable, period: str, listed: list[Appointment]) -> None:
    columns = ["报送方 supplier", "数据 dataset", "截止 due", "状态 state", "到达 arrived", "退回 refused"]
    rows = [
        [
            one.expected.supplier,
            one.expected.dataset,
            due_text(one),
            _state(one),
            f"{one.arrived_at:%Y-%m-%d %H:%M}" if one.arrived_at else "",
            one.refused or "",
        ]
        for one in listed
    ]
    known = "；".join(f"{year}: {source}" for year, source in timetable.calendar.sources.items())
    caption = f"工作日历 work calendar {known or timetable.calendar.years}（版本 version {timetable.calendar.version}）"
    tables.show(console, f"{period} 报送日历 Calendar", columns, rows, numbers=columns[5:], caption=caption)


def _state(one: Appointment) -> Text:
    label = STANDINGS[one.state]
    more = "，已沿用上期 carried forward" if one.is_carried else ""
    if one.has_nothing_to_carry:
        more = f"，{NOTHING_TO_CARRY.zh} {NOTHING_TO_CARRY.en}"
    return Text(f"{label.zh} {label.en}{more}", style=_COLOURS.get(one.state, "default"))
