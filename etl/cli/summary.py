"""What a released month looks like in the terminal: what came in, what was refused and why, grades, movers, places."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.panel import Panel

from etl.cli import tables
from etl.cli.releases import gate_line
from etl.contract.model import load_contracts
from etl.findings import FILE_RULES, WRONG_FIELD_COUNT, WRONG_FIELD_COUNT_SAYS
from etl.settings import Settings
from etl.vocabulary import GRADES

_DELIVERIES = """
SELECT supplier, dataset, period, name, outcome, rows_read, rows_rejected
FROM ledger.deliveries WHERE period = ANY(:periods)
ORDER BY period, dataset, supplier, delivery_id
"""
_RULES = """
SELECT f.rule, f.action, count(*) AS hits, string_agg(DISTINCT f.supplier, ', ' ORDER BY f.supplier) AS suppliers
FROM audit.findings AS f JOIN ledger.deliveries AS d USING (delivery_id)
WHERE d.period = :period AND f.action <> 'shadow'
GROUP BY f.rule, f.action ORDER BY hits DESC, f.rule LIMIT :top
"""
_TOWNS = """
SELECT town_name, effective_grade, count(*) AS households FROM mart.mart_household_credit
WHERE period = :period GROUP BY town_name, town_code, effective_grade ORDER BY town_code
"""
_MOVERS = """
SELECT before.effective_grade AS was, after.effective_grade AS now, count(*) AS households
FROM core.core_household_grades AS after
JOIN core.core_household_grades AS before USING (household_key)
WHERE before.period = :before AND after.period = :period
GROUP BY 1, 2
"""
_QUERIES = (
    "SELECT town_name, effective_grade, count(*) FROM mart_household_credit WHERE period = '{period}' GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT period, bank_code, rows_read, rows_rejected, linked_share_pct FROM mart_bank_scorecard ORDER BY 1, 2",
)
_NOT_RATED = "不评 n/r"


def print_summary(settings: Settings, periods: Sequence[str], console: Console) -> None:
    """Print the whole summary for the last of the periods, compared with the one before."""
    period, before = periods[-1], periods[-2] if len(periods) > 1 else None
    engine = sa.create_engine(str(settings.warehouse_url), hide_parameters=True)
    try:
        with engine.connect() as connection:
            _print_deliveries(connection, list(periods), console)
            _print_rules(connection, settings, period, console)
            _print_towns(connection, period, console)
            if before:
                _print_movers(connection, before, period, console)
            _print_places(connection, settings, period, console)
    finally:
        engine.dispose()


def _rows(connection: sa.Connection, query: str, **params: Any) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(query), params).mappings()]


def _print_deliveries(connection: sa.Connection, periods: list[str], console: Console) -> None:
    rows = _rows(connection, _DELIVERIES, periods=periods)
    columns = [
        "期间 period",
        "数据 dataset",
        "报送方 supplier",
        "文件 file",
        "结果 outcome",
        "行 rows",
        "拒收 rejected",
    ]
    shown = [
        [
            r["period"],
            r["dataset"],
            r["supplier"],
            r["name"],
            tables.outcome_text(r["outcome"]),
            r["rows_read"],
            r["rows_rejected"],
        ]
        for r in _fold_towns(rows)
    ]
    tables.show(console, "收件 What came in", columns, shown, numbers=columns[5:], caption=tables.OUTCOME_NOTE)


def _fold_towns(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The sixteen town logs of a month as one line, so that the table stays readable."""
    folded: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        is_town = row["dataset"] == "mediation"
        key = (
            (row["period"], row["dataset"], row["outcome"] or "")
            if is_town
            else (row["period"], row["dataset"], str(len(folded)))
        )
        entry = folded.setdefault(key, {**row, "rows_read": 0, "rows_rejected": 0, "files": 0})
        entry["files"] += 1
        entry["rows_read"] += row["rows_read"] or 0
        entry["rows_rejected"] += row["rows_rejected"] or 0
        if is_town:
            entry["supplier"], entry["name"] = "各镇 towns", f"{entry['files']} 份 files"
    return list(folded.values())


def _print_rules(connection: sa.Connection, settings: Settings, period: str, console: Console) -> None:
    says = _reasons(settings)
    rows = _rows(connection, _RULES, period=period, top=12)
    columns = ["规则 rule", "处理 action", "次数 hits", "报送方 suppliers", "原因 why"]
    shown = []
    for row in rows:
        shown.append([row["rule"], row["action"], row["hits"], row["suppliers"], says.get(row["rule"], "")])
    tables.show(
        console, f"{period} 退回与提示 What was refused, and why (top rules)", columns, shown, numbers=columns[2:3]
    )


def _reasons(settings: Settings) -> dict[str, str]:
    """What each rule says, in both languages."""
    contracts = load_contracts(settings.expectations)
    of_rows = {rule.id: f"{rule.says.zh} {rule.says.en}" for contract in contracts.values() for rule in contract.rules}
    of_files = {rule: f"{says['zh']} {says['en']}" for rule, says in FILE_RULES.items()}
    return of_rows | of_files | {WRONG_FIELD_COUNT: f"{WRONG_FIELD_COUNT_SAYS['zh']} {WRONG_FIELD_COUNT_SAYS['en']}"}


def _print_towns(connection: sa.Connection, period: str, console: Console) -> None:
    counts: dict[str, dict[str, int]] = {}
    for row in _rows(connection, _TOWNS, period=period):
        counts.setdefault(row["town_name"], {})[row["effective_grade"] or _NOT_RATED] = row["households"]
    columns = ["乡镇 town", *GRADES, _NOT_RATED, "AA+", "占已评 of rated"]
    shown = [
        [town, *(found.get(name, 0) for name in (*GRADES, _NOT_RATED)), *_share(found)]
        for town, found in counts.items()
    ]
    tables.show(
        console, f"{period} 各镇等级 Grades by town (生效等级 effective)", columns, shown, numbers=columns[1:-1]
    )


def _share(found: Mapping[str, int]) -> tuple[str, str]:
    rated = sum(found.get(grade, 0) for grade in GRADES)
    top = found.get("AAA", 0) + found.get("AA", 0)
    return (f"{top / rated:.1%}", tables.bar(top / rated)) if rated else ("", "")


def _print_movers(connection: sa.Connection, before: str, period: str, console: Console) -> None:
    moves = {(r["was"], r["now"]): r["households"] for r in _rows(connection, _MOVERS, before=before, period=period)}
    order: list[str | None] = [*GRADES, None]
    columns = [f"{before} → {period}", *(grade or _NOT_RATED for grade in order)]
    shown = [[was or _NOT_RATED, *(moves.get((was, now), 0) or "·" for now in order)] for was in order]
    tables.show(
        console, "等级变动 Movers (行：上期；列：本期 rows: before, columns: now)", columns, shown, numbers=columns[1:]
    )


def _print_places(connection: sa.Connection, settings: Settings, period: str, console: Console) -> None:
    [current] = _rows(connection, "SELECT release_id, manifest FROM ledger.releases WHERE status = 'current'")
    release, passed = current["release_id"], current["manifest"].get("gates", {})
    program = _program()
    lines = [
        f"发布 release       [bold]{release}[/]  （合成数据 synthetic data; 评定办法为示意 policy is illustrative）",
        gate_line(passed),
        f"回执 receipts      {settings.outbox}/<bank>/<period>/*.receipt.html|xlsx|csv|json",
        f"Parquet            {settings.lake}/current/<table>/period=<P>/*.parquet",
        f"视图 views         {settings.lake}/catalog.duckdb.sql (DuckDB)",
        f"校验文档 Data Docs {settings.audit_docs}/site/index.html",
        f"仓库 warehouse     {program} sql",
    ]
    console.print(Panel("\n".join(lines), title="在哪里 Where things are", title_align="left", expand=False))
    console.print("试一试 try:", style="bold")
    for query in _QUERIES:
        console.print(f'  {program} sql analyst -c "{query.format(period=period)}"', soft_wrap=True, highlight=False)


def _program() -> str:
    """The command as it can be typed here: on the PATH, or below the project."""
    if shutil.which("creditvillage"):
        return "creditvillage"
    path = Path(sys.executable).with_name("creditvillage")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
