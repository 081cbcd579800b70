"""`creditvillage grade`: the grade of anyone on a day, as it was known on another."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime

from rich.console import Console

from etl import history
from etl.cli import tables
from etl.history import KnownGrade
from etl.local.postgres import database
from etl.settings import Settings
from etl.workspace import Workspace

_TITLE = "等级 Grade {number}（有效日 on {valid_on}，认知时点 known {known_at:%Y-%m-%d %H:%M}）"
_COLUMNS = {
    "period": "期间 period",
    "effective_grade": "生效等级 grade",
    "not_rated_reason": "未评级原因 not rated",
    "veto_ids": "一票否决 vetoes",
    "valid_from_on": "有效自 valid from",
    "valid_to_on": "至 to",
    "known_from_at": "认知自 known from",
    "known_to_at": "至 to (known)",
    "policy_version": "办法 policy",
    "release_id": "发布 release",
}


def show_grade(
    settings: Settings,
    number: str,
    *,
    subject: str,
    valid_on: date | None,
    known_on: date | None,
    whole_history: bool,
    now: datetime,
    console: Console,
    as_json: bool = False,
) -> None:
    """One grade in both times, or with `whole_history` all that was ever known; raises DataError when nothing was."""
    with database(settings) as found:
        ws = Workspace(found)
        ws.ledger.migrate()
        key = history.key_of(ws, number, subject=subject)
        known_at = history.end_of_day(ws, known_on) if known_on else now
        day = valid_on or history.day_of(ws, known_at)
        if whole_history:
            grades = history.grade_history(ws, key, subject=subject)
        else:
            one = history.grade_as_of(ws, key, day, known_at, subject=subject)
            grades = [history.require_known(one, number, day, known_at)]
    title = f"{number}" if whole_history else _TITLE.format(number=number, valid_on=day, known_at=known_at)
    _show(grades, title, console, as_json=as_json)


def _show(grades: list[KnownGrade], title: str, console: Console, *, as_json: bool) -> None:
    if as_json:
        console.out(tables.as_json_text([asdict(one) for one in grades]), highlight=False)
        return
    rows = [[_cell(getattr(one, name)) for name in _COLUMNS] for one in grades]
    tables.show(console, title, list(_COLUMNS.values()), rows)


def _cell(value: object) -> object:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value
