"""`creditvillage release …`: what was published, what is in it, and whether it still holds."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console

from etl import months
from etl.cli import tables
from etl.local.postgres import database
from etl.settings import Settings
from etl.vocabulary import DataError
from etl.workspace import Workspace


def _opened(settings: Settings) -> Workspace:
    """A workspace whose ledger is up to date, be it empty."""
    ws = Workspace(settings)
    ws.ledger.migrate()
    return ws


def show_all(settings: Settings, console: Console, *, as_json: bool = False) -> None:
    """One line a release, oldest first."""
    with database(settings) as found:
        releases = _opened(found).ledger.releases()
    columns = ["发布 release", "期间 period", "状态 status", "发布时间 published at", "前一版 previous"]
    rows = [
        [r.release_id, r.period, r.status, f"{r.published_at:%Y-%m-%d %H:%M:%S %Z}", r.previous_id] for r in releases
    ]
    tables.show(console, "发布 Releases", columns, rows, as_json=as_json)


def show_one(settings: Settings, release_id: str, console: Console, *, as_json: bool = False) -> None:
    """Rows and content of every table and period of one release."""
    with database(settings) as found:
        contents = months.publisher(_opened(found)).show(release_id).contents
    columns = ["表 table", "期间 period", "行 rows", "内容 content"]
    rows = [[table, period, content.rows, str(content)] for (table, period), content in sorted(contents.items())]
    tables.show(console, f"{release_id}", columns, rows, as_json=as_json, numbers=columns[2:3])


def show_difference(settings: Settings, older: str, newer: str, console: Console, *, as_json: bool = False) -> None:
    """Tables and periods in which two releases differ."""
    with database(settings) as found:
        differences = months.publisher(_opened(found)).diff(older, newer)
    columns = ["表 table", "期间 period", older, newer]
    rows = [[one.table, one.period, str(one.before or ""), str(one.after or "")] for one in differences]
    tables.show(console, "差异 Differences (rows:checksum)", columns, rows, as_json=as_json)


def verify_one(settings: Settings, release_id: str | None, console: Console, *, as_json: bool = False) -> int:
    """Check a release (the current one if none is named); 0 when all of it holds, 1 otherwise."""
    with database(settings) as found:
        ws = _opened(found)
        if release_id is None and ws.ledger.current_release() is None:
            raise DataError(
                "nothing has been released yet", "run `creditvillage demo` or `creditvillage run --period …`"
            )
        problems = months.publisher(ws).verify(release_id)
    if as_json:
        console.out(tables.as_json_text(list(problems)), highlight=False)
    elif problems:
        console.print("\n".join(f"[red]✗[/] {problem}" for problem in problems))
    else:
        console.print("[green]✓[/] 文件、Iceberg 与数仓一致 files, Iceberg and warehouse hold the same")
    return 1 if problems else 0


def roll_back(settings: Settings, release_id: str, now: datetime, console: Console) -> None:
    """Make an older release the current one, in lake, Iceberg, warehouse and ledger at once."""
    with database(settings) as found:
        months.publisher(_opened(found)).rollback(release_id, now=now)
    console.print(f"现行版本 current release: [bold]{release_id}[/]")
