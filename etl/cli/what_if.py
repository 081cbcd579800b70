"""`creditvillage whatif`: what a candidate policy would change, in the terminal, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from etl import pipeline
from etl.cli import tables
from etl.cli.releases import print_gates
from etl.ledger.records import Report
from etl.local.postgres import database
from etl.reports.migration import total
from etl.reports.what_if_page import CAUSE_LABELS, LIST_LABELS, ORDER, what_if_html
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace


def try_policy(
    settings: Settings,
    policy: Path,
    period: str,
    *,
    out: Path | None,
    movers: Path | None,
    now: datetime,
    console: Console,
    as_json: bool,
) -> int:
    """Try a policy file on a month, keep the report in the ledger, show it; 1 where a gate would hold the release.

    Raises ConfigurationError for a file that is not there or no policy, before anything is graded.
    """
    if not policy.is_file():
        raise ConfigurationError(
            policy, "", "no such file", "name a policy file, such as a copy of config/policy/household.yml"
        )
    with database(settings) as found:
        Workspace(found).ledger.migrate()
        report = pipeline.what_if(found, policy, period, now=now, movers_path=movers)
    if out:
        out.write_text(what_if_html(report), encoding="utf-8")
    if as_json:
        whole = {
            "report_hash": report.report_hash,
            "period": period,
            "verdict": report.verdict,
            "inputs": report.inputs,
        }
        console.out(tables.as_json_text({**whole, **report.content}), highlight=False)
    else:
        _print(report, console)
    return int(report.verdict == "block")


def _print(report: Report, console: Console) -> None:
    content = report.content
    _print_matrix(content, report.period, console)
    _print_reasons(content["reasons"], console)
    _print_lists(content, console)
    print_gates(console, f"{report.period} 门槛 Gates", content)
    console.print(f"报告 report [bold]{report.report_hash}[/]", soft_wrap=True, highlight=False)
    console.print(f"批准 approve: creditvillage release approve {report.report_hash[:12]} --reason …", highlight=False)


def _print_matrix(content: Mapping[str, Any], period: str, console: Console) -> None:
    cells, movers, policy = total(content["matrix"], "overall", ""), content["movers"], content["policy"]
    labels = [*ORDER[:-1], "不评 n/r"]
    columns = [f"{period} 现行 now ↓", *labels]
    rows = [
        [label, *(cells.get((before, after), 0) or "·" for after in ORDER)]
        for label, before in zip(labels, ORDER, strict=True)
    ]
    caption = f"变动 move {movers['households']:,}: 升 up {movers['up']:,}, 降 down {movers['down']:,}; {policy['file']} 示意 illustrative"
    tables.show(
        console, "试算 What if (列：试算办法 columns: candidate)", columns, rows, numbers=columns[1:], caption=caption
    )


def _print_reasons(reasons: Mapping[str, Any], console: Console) -> None:
    columns = ["原因 cause", "户 households", "升 up", "降 down"]
    rows = [
        [" ".join(CAUSE_LABELS[one["cause"]]), one["households"], one["up"], one["down"]] for one in reasons["causes"]
    ]
    tables.show(console, "变动原因 Why they move", columns, rows, numbers=columns[1:])
    columns = ["指标 indicator", "户 households", "升分 gained", "降分 lost", "等级变动 movers"]
    keys = ("indicator", "households", "points_gained", "points_lost", "movers")
    rows = [[one[key] for key in keys] for one in reasons["indicators"]]
    tables.show(console, "指标得分变化 Points by indicator", columns, rows, numbers=columns[1:])


def _print_lists(content: Mapping[str, Any], console: Console) -> None:
    columns = ["名单 list", "现行 now", "试算 candidate", "新增 gained", "退出 lost"]
    rows = [
        [
            " ".join(LIST_LABELS[name]),
            *(sum(row[key] for row in found) for key in ("before", "after", "gained", "lost")),
        ]
        for name, found in content["lists"].items()
    ]
    caption = f"村镇等级变动 villages and towns whose grade changes: {len(content['places'])}"
    tables.show(console, "名单增减 Lists", columns, rows, numbers=columns[1:], caption=caption)
