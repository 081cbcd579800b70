"""What the readable forms of a receipt say: every sentence in Chinese and English, each in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from etl.vocabulary import OUTCOME_LABELS

_NOTHING: Final[Mapping[str, str]] = {"zh": "", "en": ""}
ACTION_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    "reject_file": {"zh": "整份退回", "en": "file refused"},
    "reject_row": {"zh": "该行拒收", "en": "row refused"},
    "warn": {"zh": "提示", "en": "warning"},
    "confirmed": {"zh": "已确认", "en": "confirmed"},
    "known": {"zh": "已知例外", "en": "known exception"},
    "corrected": {"zh": "县里已更正", "en": "corrected by the county"},
    "notice": {"zh": "告知", "en": "notice"},
}
OUTCOME_SAYS: Final[Mapping[str, Mapping[str, str]]] = {
    "accepted": {"zh": "已全部接收，无需处理。", "en": "Accepted as a whole; there is nothing to do."},
    "accepted_with_warnings": {
        "zh": "已接收。拒收的行请更正后重报，提示请核对。",
        "en": "Accepted. Correct refused rows and deliver again; look at the warnings.",
    },
    "rejected": {
        "zh": "整份退回，请按下列问题更正后重报。",
        "en": "Refused as a whole: correct what is listed below and deliver again.",
    },
    "duplicate": {
        "zh": "与在用的报送完全相同，无需处理。",
        "en": "The same bytes as the delivery in force; there is nothing to do.",
    },
    "unreadable": {
        "zh": "文件无法读取，请按下列问题重新生成后重报。",
        "en": "The file cannot be read: make it anew as said below and deliver again.",
    },
    "expired": {
        "zh": "文件未能受理完毕（已被更改、移走或超时），请重新投递。",
        "en": "The file could not be taken in (changed, taken away, or out of time): drop it again.",
    },
}
COLUMN_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    "rule": {"zh": "规则", "en": "rule"},
    "family": {"zh": "类别", "en": "family"},
    "action": {"zh": "处理", "en": "action"},
    "member": {"zh": "包内文件", "en": "member"},
    "row": {"zh": "数据行号", "en": "row"},
    "line": {"zh": "文件行号", "en": "line"},
    "column_no": {"zh": "列号", "en": "column no"},
    "column_as_delivered": {"zh": "字段（原名）", "en": "column as delivered"},
    "field": {"zh": "标准字段", "en": "field"},
    "key": {"zh": "本行编号", "en": "key"},
    "value": {"zh": "值", "en": "value"},
    "message_zh": {"zh": "问题", "en": "message (zh)"},
    "message_en": {"zh": "问题（英文）", "en": "message (en)"},
    "fix_zh": {"zh": "如何更正", "en": "fix (zh)"},
}


@dataclass(frozen=True)
class Facing:
    """What people see of a receipt besides its document: names, and why known exceptions are known."""

    supplier: Mapping[str, str] = field(default_factory=lambda: dict(_NOTHING))
    dataset: Mapping[str, str] = field(default_factory=lambda: dict(_NOTHING))
    is_synthetic: bool = False
    can_confirm: bool = True
    known: Mapping[str, str] = field(default_factory=dict)
    file_name: str = ""
    receipt_name: str = ""
    key_id: str = ""

    def of(self, file_name: str, receipt_name: str, key_id: str) -> Facing:
        """The same for one file, its receipt, and the key that signs it."""
        return replace(self, file_name=file_name, receipt_name=receipt_name, key_id=key_id)


@dataclass(frozen=True)
class Line:
    """One line of the summary."""

    zh: str
    en: str
    value: str


def summary_lines(document: Mapping[str, Any], facing: Facing) -> Iterator[Line]:
    """Who delivered what, and what became of it, line by line."""
    label = OUTCOME_LABELS[document["outcome"]]
    yield Line("结果", "outcome", f"{label['zh']} {label['en']}")
    yield Line("报送单位", "supplier", f"{facing.supplier['zh']} {facing.supplier['en']} ({document['bank']})".strip())
    yield Line("数据", "dataset", f"{facing.dataset['zh']} {facing.dataset['en']}".strip())
    yield Line("月份", "period", document["period"])
    yield Line("文件", "file", visible(facing.file_name))
    yield Line("受理号", "delivery", document["delivery_id"])
    yield Line("第几次报送", "revision", str(document["revision"]))
    yield Line("读入行", "rows read", f"{document['rows_read']:,}")
    yield Line("接收行", "rows accepted", f"{document['rows_accepted']:,}")
    yield Line("拒收行", "rows rejected", f"{document['rows_rejected']:,}")
    force = in_force_says(document)
    yield Line("是否在用", "in force", f"{force['zh']} {force['en']}")
    due = next_due_says(document)
    yield Line("下次报送", "next delivery", f"{due['zh']} {due['en']}")
    contact = document["contact"]
    yield Line("联系人", "contact", " ".join(str(contact[name]) for name in ("zh", "en", "phone") if contact.get(name)))
    yield Line("规则集", "rule set", str(document["ruleset"] or ""))
    yield Line("原文件 SHA-256", "SHA-256 of the file", str(document["sha256"] or ""))
    yield Line("签名密钥", "signing key", facing.key_id)


def in_force_says(document: Mapping[str, Any]) -> Mapping[str, str]:
    """Which delivery the county goes by for the month."""
    standing = document["stays_in_force"]
    if document["in_force"]:
        return {"zh": "本次报送已生效。", "en": "This delivery is in force."}
    if standing:
        return {"zh": f"此前接收的 {standing} 继续有效。", "en": f"{standing}, accepted before, stays in force."}
    return {"zh": "该月份尚无生效的报送。", "en": "Nothing is in force for this month yet."}


def next_due_says(document: Mapping[str, Any]) -> Mapping[str, str]:
    """What is expected next, and by when."""
    due = document["contact"].get("next_due") or {}
    if not due:
        return {"zh": "按约定", "en": "as agreed"}
    if due["state"] == "unknown":
        return {
            "zh": f"{due['period']} 月份，截止日待工作日历公布。",
            "en": f"{due['period']}; its due date waits for the calendar of working days.",
        }
    at = due["at"].replace("T", " ")[:16]
    return {"zh": f"{due['period']} 月份，请于 {at} 前报送。", "en": f"{due['period']}, due by {at}."}


def diff_says(document: Mapping[str, Any]) -> list[Line]:
    """What a revision changes; empty for a first delivery."""
    diff = document["diff"]
    named = (
        ("added", "新增行", "rows added"),
        ("changed", "变更行", "rows changed"),
        ("removed", "减少行", "rows removed"),
        ("fixed", "已改正的问题", "findings fixed"),
        ("new", "新出现的问题", "new findings"),
    )
    return [Line(zh, en, f"{diff[key]:,}") for key, zh, en in named if diff.get(key) is not None]


def visible(name: str) -> str:
    """A supplier's text without characters that cannot be seen or that turn the direction of what follows."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)
