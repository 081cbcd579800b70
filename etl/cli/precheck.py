"""`creditvillage precheck`: what would be found in a file, before it is sent. Nothing is stored."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from etl.cli import tables
from etl.intake.receipt import SHOWN_PER_RULE, csv_bytes
from etl.reports import page
from etl.reports.precheck import Prechecked, precheck
from etl.settings import Settings
from etl.vocabulary import OUTCOME_LABELS, ConfigurationError
from etl.workspace import Workspace

FORMATS: Final = ("table", "json", "csv")
_SHOWN_IN_TABLE: Final = 5
_ACTIONS: Final = {"reject_file": "整份退回", "reject_row": "拒收该行", "warn": "提示", "shadow": "仅统计"}


def precheck_files(
    settings: Settings,
    files: Sequence[Path],
    bank: str,
    *,
    dataset: str | None,
    period: str | None,
    form: str,
    html_path: Path | None,
    console: Console,
) -> int:
    """Print the findings of some files; returns 0 when there are none, 1 otherwise.

    Raises ConfigurationError for a file, bank, dataset or month that is not known, before anything is printed.
    """
    if form not in FORMATS:
        raise ConfigurationError("--format", form, "no such format", f"use one of {', '.join(FORMATS)}")
    if html_path is not None and not html_path.resolve().parent.is_dir():
        raise ConfigurationError("--html", str(html_path), "no such folder", "name a file in a folder that is there")
    ws = Workspace(settings)
    per_rule = None if form == "csv" else SHOWN_PER_RULE
    done = [precheck(ws, file, bank, dataset=dataset, period=period, per_rule=per_rule) for file in files]
    if html_path is not None:
        html_path.write_text(as_page(done), encoding="utf-8")
    if form == "json":
        console.out(tables.as_json_text([one.document() for one in done]), highlight=False)
    elif form == "csv":
        sys.stdout.buffer.write(csv_bytes(pa.concat_tables([one.findings for one in done]), done[0].encoding))
        sys.stdout.buffer.flush()
    else:
        for one in done:
            _print(one, console)
    return int(any(not one.is_clean for one in done))


def _print(one: Prechecked, console: Console) -> None:
    label = tables.outcome_text(one.outcome)
    head = Text.assemble(
        (f"{one.file}  ", "bold"), f"{one.bank} / {one.dataset} / {one.period}  → ", label, f"  规则集 {one.ruleset}"
    )
    console.print(head, soft_wrap=True)
    console.print(_counts(one), soft_wrap=True, highlight=False)
    for note in one.notes:
        console.print(Text(f"! {note.zh} {note.en}", style="yellow"), soft_wrap=True)
    columns = ["规则 rule", "处理 action", "次数 hits", "行 rows", "字段 column", "说明与改法 what and mend"]
    tables.show(console, "发现 Findings", columns, _rows_by_rule(one), numbers=columns[2:3])
    causes = [[cause["message_zh"], cause["message_en"], cause["repair_zh"]] for cause in one.diagnoses]
    tables.show(console, "可能的原因 Likely causes", ["原因", "cause", "建议 repair"], causes)
    rest = [[each.rule or "—", each.zh, each.en] for each in one.not_run]
    tables.show(console, "未能检查 Not checked here", ["规则 rule", "原因", "why"], rest)


def _counts(one: Prechecked) -> str:
    zh = f"读取 {one.rows_read:,} 行，将接收 {one.rows_accepted:,} 行，拒收 {one.rows_rejected:,} 行"
    en = f"{one.rows_read:,} rows read, {one.rows_accepted:,} would be accepted, {one.rows_rejected:,} refused"
    if one.stopped_at_row is None:
        return f"{zh}。{en}"
    return f"{zh}。{en}；发现过多，只检查到第 {one.stopped_at_row:,} 行 stopped there: too many findings"


def _rows_by_rule(one: Prechecked) -> list[list[object]]:
    """One line a rule: what concerns the whole file, then the most frequent; where it fires and how to mend it."""
    by_rule: dict[str, list[dict[str, Any]]] = {rule: [] for rule in one.counts_by_rule}
    for found in one.findings.to_pylist():
        by_rule[found["rule"]].append(found)
    lines = []
    for rule, of_rule in sorted(by_rule.items(), key=lambda entry: _weight(one, *entry)):
        hits = one.counts_by_rule[rule]
        rows = [str(found["row"]) for found in of_rule if found["row"] is not None]
        first = of_rule[0] if of_rule else {}
        more = " …" if hits > _SHOWN_IN_TABLE else ""
        lines.append(
            [
                rule,
                _ACTIONS.get(str(first.get("action")), ""),
                hits,
                " ".join(rows[:_SHOWN_IN_TABLE]) + more,
                first.get("column_as_delivered"),
                f"{first.get('message_zh')}。{first.get('fix_zh')}\n{first.get('message_en')}",
            ]
        )
    return lines


def _weight(one: Prechecked, rule: str, found: Sequence[dict[str, Any]]) -> tuple[bool, int, str]:
    concerns_rows = bool(found) and found[0]["row"] is not None
    return concerns_rows, -one.counts_by_rule[rule], rule


def as_page(done: Sequence[Prechecked]) -> str:
    """The answers as one HTML page."""
    parts = [
        page.Markup("<h1>报送文件预检 <small>Pre-check before sending</small></h1>"),
        page.paragraph(
            "预检与正式受理使用同一套规则；预检不上传、不保存任何数据。",
            "The rules are those of intake; nothing is sent.",
        ),
    ]
    for one in done:
        parts += _page_parts(one)
    return page.page("报送文件预检", parts)


def _causes(one: Prechecked) -> list[page.Markup]:
    if not one.diagnoses:
        return []
    rows = [
        [page.both(cause["message_zh"], cause["message_en"]), page.both(cause["repair_zh"], cause["repair_en"])]
        for cause in one.diagnoses
    ]
    return [page.heading(3, "可能的原因", "likely causes"), page.table(["原因", "建议"], rows)]


def _page_parts(one: Prechecked) -> list[page.Markup]:
    label = OUTCOME_LABELS[one.outcome]
    listed = one.findings.to_pylist()
    header = ["规则", "处理", "文件", "行", "字段", "编号", "原值", "说明", "改法"]
    rows = [
        [
            page.code(found["rule"]),
            _ACTIONS.get(found["action"], found["action"]),
            found["member"],
            found["row"],
            found["column_as_delivered"],
            found["key"],
            found["value"],
            page.both(found["message_zh"], found["message_en"]),
            found["fix_zh"],
        ]
        for found in listed
    ]
    return [
        page.heading(2, one.file, f"{one.bank} / {one.dataset} / {one.period}"),
        page.facts(
            [
                ("若此时报送 outcome", f"{label['zh']} {label['en']}"),
                ("行数 rows", _counts(one)),
                ("文件 SHA-256", page.code(one.sha256)),
                ("规则集 ruleset", page.code(one.ruleset)),
                *(("注意 note", page.both(note.zh, note.en)) for note in one.notes),
            ]
        ),
        *_causes(one),
        page.heading(3, "按规则汇总", "findings by rule"),
        page.table(
            ["规则", "处理", "次数", "行", "字段", "说明与改法"],
            [[*row[:-1], page.both(*str(row[-1]).split("\n"))] for row in _rows_by_rule(one)],
        ),
        page.heading(3, f"明细（每条规则最多 {SHOWN_PER_RULE} 行）", f"at most {SHOWN_PER_RULE} rows a rule"),
        page.table(header, rows),
        page.heading(3, "未能检查", "not checked here"),
        page.table(["规则", "原因"], [[page.code(each.rule), page.both(each.zh, each.en)] for each in one.not_run]),
    ]
