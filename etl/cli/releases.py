"""`creditvillage release …`: what was published, what is in it, and whether it still holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from etl import approval, gates, months
from etl.cli import tables
from etl.local.postgres import database
from etl.settings import Settings
from etl.vocabulary import VERDICT_LABELS, DataError
from etl.workspace import Workspace

_COLOURS: Final = {"pass": "green", "unjudged": "dim", "warn": "yellow", "block": "red"}


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
    """Rows and content of every table and period of one release, and how its month passed the gates."""
    with database(settings) as found:
        release = months.publisher(_opened(found)).show(release_id)
    columns = ["表 table", "期间 period", "行 rows", "内容 content"]
    rows = [[*place, content.rows, str(content)] for place, content in sorted(release.contents.items())]
    passed = release.facts.get(release.period, {}).get("gates", {})
    if as_json:
        contents = [dict(zip(columns, row, strict=True)) for row in rows]
        console.out(tables.as_json_text({"contents": contents, "gates": passed}), highlight=False)
        return
    tables.show(console, f"{release_id}", columns, rows, numbers=columns[2:3])
    console.print(gate_line(passed), highlight=False)


def gate_line(passed: Mapping[str, Any]) -> str:
    """How a month passed its gates, in one line: verdicts, approvals, the report's hash."""
    if not passed:
        return "门槛 gates: 未检查 not examined"
    verdicts = [f"{VERDICT_LABELS[one]['zh']} {VERDICT_LABELS[one]['en']} {n}" for one, n in passed["counts"].items()]
    approved = f", 批准 approvals {passed['approvals']}" if passed["approvals"] else ""
    return f"门槛 gates: {', '.join(verdicts)}{approved} ({passed['report_hash'][:12]})"


def show_gates(settings: Settings, period: str, console: Console, *, as_json: bool = False) -> int:
    """Every gate of a month as it is graded now; 1 when its release is held and too few have approved it."""
    with database(settings) as found:
        ws = _opened(found)
        report = gates.standing_report(ws, period)
        missing = gates.approvers_missing(ws, report)
    if as_json:
        whole = {"report_hash": report.report_hash, "verdict": report.verdict, "approvers_missing": missing}
        console.out(tables.as_json_text({**whole, "inputs": report.inputs, **report.content}), highlight=False)
        return int(missing > 0)
    print_gates(console, f"{period} 门槛 Gates ({report.report_hash[:12]})", report.content)
    if missing:
        console.print(f"[red]待批准 held[/]: 尚需 {missing} 人 more to approve", highlight=False)
    return int(missing > 0)


def print_gates(console: Console, title: str, content: Mapping[str, Any]) -> None:
    """What stands out gate by gate, and how many there are of the rest."""
    columns = ["门槛 gate", "范围 group", "户 households", "值 value", "提示线 warn", "拦截线 hold", "结果 verdict"]
    shown = [gate for gate in content["gates"] if gate["kind"] == "overall" or gate["verdict"] in ("warn", "block")]
    rows = [_gate_row(gate) for gate in shown]
    hidden = len(content["gates"]) - len(shown)
    compared = content["compared_with"] or "无 nothing (首次发布 first release)"
    caption = f"对比 compared with: {compared}; 另有 {hidden} 项通过或不判 others pass or are not judged"
    tables.show(console, title, columns, rows, numbers=columns[2:6], caption=caption)


def _gate_row(gate: Mapping[str, Any]) -> list[object]:
    label, verdict = gates.LABELS[gate["gate"]], gate["verdict"]
    bounds = {name.partition("_")[0]: bound for name, bound in gate["bounds"].items()}
    group = "全县 overall" if gate["kind"] == "overall" else gate["code"]
    said = Text.assemble((VERDICT_LABELS[verdict]["zh"], _COLOURS[verdict]), f" {VERDICT_LABELS[verdict]['en']}")
    return [
        f"{label['zh']} {label['en']}", group, gate["households"], gate["value"], bounds.get("warn"), bounds["block"], said,
    ]  # fmt: skip


def approve(settings: Settings, what: str, by: str, reason: str, now: datetime, console: Console) -> None:
    """Approve the report of a month's gates as it stands in the ledger, or the one report of a hash."""
    with database(settings) as found:
        ws = _opened(found)
        report = gates.approve(ws, what, by, reason, now=now)
        missing = approval.approvers_missing(ws, report.report_hash)
    rest = f"，尚需 {missing} 人 more to approve" if missing else ""
    console.print(
        f"已批准 approved: {report.kind} {report.period} {report.report_hash[:12]} ({by}){rest}", highlight=False
    )


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
