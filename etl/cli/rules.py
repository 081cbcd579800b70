"""Commands about rules in time: requalify, backtest, corrections, across."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from etl import across
from etl.backtest import Backtest, Hits
from etl.backtest import backtest as run_backtest
from etl.cli import tables
from etl.contract.corrections import CORRECTED, HEALED, Correction
from etl.ledger.records import Delivery
from etl.period import Period
from etl.requalify import STATES, Requalified
from etl.requalify import requalify as run_requalify
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace


def parse_range(text: str) -> tuple[Period | None, Period | None]:
    """`A..B`, `A..`, `..B` or one month; raises ConfigurationError that shows the form."""
    first, dots, last = text.partition("..")
    try:
        start = Period.parse(first) if first else None
        end = (Period.parse(last) if last else None) if dots else start
    except ValueError as error:
        raise ConfigurationError("--periods", text, str(error), "write 2024-01..2024-06") from None
    if start is None and end is None:
        raise ConfigurationError("--periods", text, "names no month", "write 2024-01..2024-06")
    return start, end


def requalify(
    settings: Settings,
    rule: str,
    *,
    bank: str | None,
    period: str | None,
    now: datetime,
    console: Console,
    as_json: bool,
) -> None:
    """Examine again what a change concerns, and say what became of each delivery."""
    results = run_requalify(settings, rule, bank=bank, period=period, now=now)
    columns = ["报送方 supplier", "数据 dataset", "期间 period", "原回执 delivery", "结果 result", "新回执 new receipt"]
    columns += ["接收 accepted before", "now"]
    rows = [_requalified_row(one, as_json=as_json) for one in results]
    tables.show(console, f"重新检查 Requalified: {rule}", columns, rows, as_json=as_json, numbers=columns[6:])
    if not as_json and not any(one.revision for one in results):
        console.print("没有报送受影响，未作任何改动。 No delivery is affected; nothing was done.")


def _requalified_row(one: Requalified, *, as_json: bool) -> list[object]:
    says = STATES[one.state]
    new = one.revision
    return [
        one.base.supplier,
        one.base.dataset,
        one.base.period,
        one.base.delivery_id,
        one.state if as_json else f"{says['zh']} {says['en']}",
        f"{new.delivery_id} ({new.outcome})" if new else None,
        one.base.rows_accepted,
        new.rows_accepted if new else None,
    ]


def backtest(settings: Settings, rule: str, *, periods: str | None, console: Console, as_json: bool) -> None:
    """What a rule would have found in accepted history, by bank and month."""
    first, last = parse_range(periods) if periods else (None, None)
    done = run_backtest(settings, rule, first=first, last=last)
    if as_json:
        results = [_hits_json(one) for one in done.results]
        console.out(
            tables.as_json_text({"rule": done.rule, "action": done.action, "results": results}), highlight=False
        )
        return
    columns = ["报送方 supplier", "期间 period", "接收行 rows", "命中 hits", "占比 %", "依据 ran on"]
    rows = [
        [one.supplier, one.period, one.rows, one.hits, one.share_pct, one.ran_on]
        for one in done.results
        if one.hits is not None
    ]
    title = f"规则回测 Backtest: {done.rule} ({done.action})"
    tables.show(console, title, columns, rows, numbers=columns[2:5], caption=_total(done))
    _print_not_run(console, done.not_run)


def _hits_json(one: Hits) -> dict[str, object]:
    return {
        "supplier": one.supplier,
        "period": one.period,
        "delivery_id": one.delivery_id,
        "rows": one.rows,
        "hits": one.hits,
        "share_pct": one.share_pct,
        "ran_on": one.ran_on or None,
        "not_run": one.note or None,
    }


def _total(done: Backtest) -> str:
    ran = [one for one in done.results if one.hits is not None]
    hits, rows = sum(one.hits or 0 for one in ran), sum(one.rows for one in ran)
    return f"合计 total: {hits:,} / {rows:,}"


def _print_not_run(console: Console, not_run: Sequence[Hits]) -> None:
    if not_run:
        rows = [[one.supplier, one.period, one.note] for one in not_run]
        tables.show(console, "未能运行 Could not run", ["报送方 supplier", "期间 period", "原因 why"], rows)


def corrections(settings: Settings, *, console: Console, as_json: bool) -> int:
    """What each correction has mended in the deliveries in force; 1 when the source of one has healed."""
    ws = Workspace(settings)
    held = [one for one in ws.ledger.deliveries() if one.in_force]
    lines = [line for one in ws.corrections for line in _correction_lines(one, held)]
    columns = [
        "更正 correction",
        "报送方 supplier",
        "数据 dataset",
        "字段 column",
        "期间 period",
        "更正行 rows",
        "状态 state",
    ]
    tables.show(console, "已知上游错误 Corrections", columns, lines, as_json=as_json, numbers=columns[5:6])
    healed = sorted({str(line[0]) for line in lines if line[6] == HEALED})
    if healed and not as_json:
        names = ", ".join(healed)
        console.print(
            f"来源已修复 the source has healed: {names} — 请在 config/corrections.yml 中填写 to: set its last month"
        )
    return int(bool(healed))


def _correction_lines(one: Correction, held: Sequence[Delivery]) -> list[list[object]]:
    head = [one.id, one.bank, one.dataset, one.column]
    ours = [each for each in held if one.is_for(each.supplier, each.dataset, Period.parse(each.period))]
    lines = [[*head, each.period, *_correction_state(one, each)] for each in ours]
    return lines or [[*head, None, None, "unused"]]


def _correction_state(one: Correction, delivery: Delivery) -> list[object]:
    """Rows mended, and whether this was so: a delivery answered before the correction was written knows nothing of it."""
    if one.id in delivery.details.get(HEALED, []):
        return [0, HEALED]
    rows = delivery.details.get(CORRECTED, {}).get(one.id)
    return [rows, CORRECTED if rows else "requalify"]


def cross_check(settings: Settings, period: str, *, bank: str | None, console: Console, as_json: bool) -> None:
    """Run the rules across files of a month again and print what they found."""
    ws = Workspace(settings)
    if bank is not None and bank not in ws.registry.banks:
        raise ConfigurationError("--bank", bank, "no such bank", f"use one of {', '.join(sorted(ws.registry.banks))}")
    lines = across.run_month(ws, period, supplier=bank)
    columns = ["规则 rule", "报送方 supplier", "命中 findings", "说明 says"]
    rows = [[one.rule.id, one.supplier or "*", one.count, _line_text(one)] for one in lines]
    tables.show(
        console, f"跨文件规则 Rules across files {period}", columns, rows, as_json=as_json, numbers=columns[2:3]
    )


def _line_text(line: across.Line) -> str:
    return line.rule.says.zh if line.count is not None else "缺少相关文件 a file it reads is not in force"
