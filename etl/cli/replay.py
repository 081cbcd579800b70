"""`creditvillage replay` and `creditvillage forget`: a past release computed again, and deletion by law."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from etl.cli import tables
from etl.deletion import forget
from etl.local.postgres import database
from etl.replay import CANNOT, DIFFERS, EQUAL, Line, Report, Tell, replay
from etl.settings import Settings
from etl.workspace import Workspace

_VERDICTS = {EQUAL: ("一致", "green"), DIFFERS: ("不一致", "red"), CANNOT: ("无法比较", "yellow")}


def replay_release(settings: Settings, release_id: str, console: Console, *, as_json: bool = False) -> int:
    """Compute a release again and print what came of it; 0 when all that the law left is equal, 1 otherwise."""
    with database(settings) as found:
        Workspace(found).ledger.migrate()
        with _progress(console, quiet=as_json) as tell:
            report = replay(found, release_id, tell=tell)
    if as_json:
        console.out(tables.as_json_text({**asdict(report), "is_equal": report.is_equal}), highlight=False)
    else:
        _print(report, console)
    return 0 if report.is_equal else 1


@contextmanager
def _progress(console: Console, *, quiet: bool) -> Iterator[Tell]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, of: progress.update(task, description=escape(what), completed=done, total=of)


def _print(report: Report, console: Console) -> None:
    columns = ["表 table", "期间 period", "结论 verdict", "行 rows", "相同行 alike", "一致的来源 equal", "说明 because"]
    rows = [
        [one.table, one.period, _verdict(one), one.rows, one.rows_alike, ", ".join(one.equal_sources), one.because]
        for one in report.lines
    ]
    tables.show(console, f"重算 Replay {report.release_id}", columns, rows, numbers=columns[3:5])
    for deleted in report.deleted:
        told = f"{deleted.delivery_id} {deleted.sha256} {deleted.deleted_at:%Y-%m-%d}: {deleted.reason}"
        console.print(f"[yellow]依法删除 deleted by law[/] {escape(told)}", soft_wrap=True, highlight=False)
    for fault in report.faults:
        console.print(f"[red]✗[/] {escape(fault)}", soft_wrap=True, highlight=False)
    if report.code_then != report.code_now:
        told = f"{report.code_then} → {report.code_now}"
        console.print(f"程序版本不同 another version of the code: {escape(told)}", soft_wrap=True, highlight=False)
    counts = Counter(one.verdict for one in report.lines)
    told = "，".join(f"{_VERDICTS[verdict][0]} {verdict} {counts[verdict]}" for verdict in _VERDICTS)
    console.print(f"{'[green]✓[/]' if report.is_equal else '[red]✗[/]'} {told}")


def _verdict(line: Line) -> Text:
    label, colour = _VERDICTS[line.verdict]
    return Text.assemble((label, colour), f" {line.verdict}")


def forget_delivery(settings: Settings, delivery_id: str, reason: str, now: datetime, console: Console) -> None:
    """Destroy the key of a delivery and say what is left of it."""
    with database(settings) as found:
        ws = Workspace(found)
        ws.ledger.migrate()
        deleted = forget(ws, delivery_id, reason, now=now)
    for one in deleted:
        told = f"{one.delivery_id} sha256 {one.sha256}: {one.reason}"
        console.print(f"密钥已销毁 key destroyed: {escape(told)}", soft_wrap=True, highlight=False)
