"""Tables in the terminal, Chinese first; the same rows as JSON when asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from etl.vocabulary import OUTCOME_LABELS, STEP_LABELS

OUTCOME_NOTE = "* 有提示或拒收行 with warnings or refused rows"
PLAIN_WIDTH = 150
_COLOURS = {"accepted": "green", "accepted_with_warnings": "yellow", "rejected": "red", "unreadable": "red"}


def make_console(*, stderr: bool = False) -> Console:
    """A console; where nobody's window limits it (a file, a pipe), wide enough for every table."""
    console = Console(stderr=stderr)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(stderr=stderr, width=PLAIN_WIDTH)


def as_json_text(rows: object) -> str:
    """Rows as JSON; decimals and dates as text, Chinese readable."""
    return json.dumps(rows, ensure_ascii=False, indent=2, default=_json_value)


def _json_value(value: object) -> str | float:
    if isinstance(value, Decimal | date | datetime):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def show(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    as_json: bool = False,
    numbers: Sequence[str] = (),
    caption: str | None = None,
) -> None:
    """Print rows as a table (`numbers` are set flush right), or as a JSON list of objects."""
    listed = [list(row) for row in rows]
    if as_json:
        console.out(as_json_text([dict(zip(columns, row, strict=True)) for row in listed]), highlight=False)
        return
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold cyan",
        caption=caption,
        caption_justify="left",
    )
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in listed:
        table.add_row(*(cell(value) for value in row))
    console.print(table)


def cell(value: object) -> str | Text:
    """One value as people read it: thousands grouped, nothing for null; a supplier's text is never markup."""
    if isinstance(value, Text):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "是 yes" if value else "否 no"
    return f"{value:,}" if isinstance(value, int | Decimal) else escape(str(value))


def outcome_text(outcome: str | None, step: str | None = None) -> Text:
    """An outcome with its colour and both languages; * stands for warnings or refused rows (see OUTCOME_NOTE).

    While there is none, the step reached.
    """
    if outcome is None:
        label = STEP_LABELS.get(step or "", {"zh": "", "en": ""})
        return Text(f"… {label['zh']} {label['en']}".rstrip(), style="dim")
    label = OUTCOME_LABELS["accepted" if outcome == "accepted_with_warnings" else outcome]
    star = "*" if outcome == "accepted_with_warnings" else ""
    return Text.assemble((f"{label['zh']}{star}", _COLOURS.get(outcome, "default")), f" {label['en']}{star}")


def bar(share: float, width: int = 20) -> str:
    """A share between 0 and 1 as a bar of blocks."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return "█" * filled + "░" * (width - filled)


def print_deliveries(console: Console, deliveries: Sequence[Any], *, as_json: bool = False) -> None:
    """One line a delivery: who, what, when, outcome, rows."""
    columns = [
        "报送方 supplier",
        "数据 dataset",
        "期间 period",
        "文件 file",
        "结果 outcome",
        "行 rows",
        "拒收 rejected",
    ]
    rows = [
        [
            entry.supplier,
            entry.dataset,
            entry.period,
            entry.name,
            entry.outcome if as_json else outcome_text(entry.outcome, entry.step),
            entry.rows_read,
            entry.rows_rejected,
        ]
        for entry in deliveries
    ]
    show(console, "收件 Deliveries", columns, rows, as_json=as_json, numbers=columns[5:], caption=OUTCOME_NOTE)


def exit_code(deliveries: Sequence[Any]) -> int:
    """1 when a delivery was refused as a whole, 0 otherwise."""
    return int(any(entry.outcome in ("rejected", "unreadable", "expired") for entry in deliveries))


def print_steps(console: Console, steps: Sequence[Mapping[str, Any]], *, as_json: bool = False) -> None:
    """The step table of a run: rows in, out, rejected, seconds."""
    columns = ["步骤 step", "对象 what", "读入 rows in", "产出 rows out", "拒收 rejected", "秒 seconds"]
    keys = ("step", "what", "rows_in", "rows_out", "rows_rejected", "seconds")
    rows = [[step.get(key) for key in keys] for step in steps]
    show(console, "步骤 Steps", columns, rows, as_json=as_json, numbers=columns[2:])
