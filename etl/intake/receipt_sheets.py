"""The receipt as a workbook: a summary, and every finding in a row of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from etl.intake.receipt_words import COLUMN_LABELS, Facing, Line, diff_says, summary_lines
from etl.intake.spreadsheet import Sheet

_WIDTHS: Final[Mapping[str, int]] = {
    "rule": 8, "family": 10, "action": 12, "member": 22, "row": 10, "line": 10, "column_no": 8,
    "column_as_delivered": 18, "field": 18, "key": 26, "value": 18, "message_zh": 40, "message_en": 40, "fix_zh": 40,
}  # fmt: skip


def receipt_sheets(document: Mapping[str, Any], findings: pa.Table, facing: Facing) -> list[Sheet]:
    """Summary, findings by rule, and all findings in the columns of the CSV."""
    headings = [f"{COLUMN_LABELS[name]['zh']} {COLUMN_LABELS[name]['en']}" for name in findings.column_names]
    widths = [_WIDTHS[name] for name in findings.column_names]
    return [_summary(document, facing), Sheet("问题明细 Findings", findings, headings, widths)]


def _summary(document: Mapping[str, Any], facing: Facing) -> Sheet:
    lines = [*summary_lines(document, facing), *diff_says(document)]
    if facing.is_synthetic:
        lines.insert(0, Line("合成数据", "synthetic data", "演示用，非真实业务 for demonstration, not real business"))
    lines += [
        Line("问题数", "open findings", f"{rule}: {count:,}") for rule, count in document["counts_by_rule"].items()
    ]
    lines += [
        Line("可能的原因", "likely cause", f"{cause['message_zh']} → {cause['repair_zh']} ({cause['message_en']})")
        for cause in document["diagnoses"]
    ]
    lines += _settled("已确认", "confirmed", document["settled"]["confirmed"], {})
    lines += _settled("已知例外", "known exception", document["settled"]["known"], facing.known)
    if document["not_checked"]:
        lines.append(Line("未检查的规则", "rules not checked", " ".join(document["not_checked"])))
    table = pa.table(
        {
            "item": pa.array([f"{line.zh} {line.en}" for line in lines], pa.string()),
            "value": pa.array([line.value for line in lines], pa.string()),
        }
    )
    return Sheet("概要 Summary", table, ["项目 item", "内容 value"], [30, 80])


def _settled(zh: str, en: str, counts: Mapping[str, int], reasons: Mapping[str, str]) -> Sequence[Line]:
    return [Line(zh, en, f"{rule}: {count:,} {reasons.get(rule, '')}".strip()) for rule, count in counts.items()]
