"""What intake hands to the other parts: a file that has arrived, and what is wrong with its bytes or lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FILE_RULES: Final[Mapping[str, Mapping[str, str]]] = {
    "P101": {"zh": "校验值不符", "en": "the checksum does not match"},
    "P102": {"zh": "文件大小不符", "en": "the size does not match"},
    "P103": {"zh": "记录数不符", "en": "the number of records does not match"},
    "P104": {"zh": "编码无法解码", "en": "bytes are not valid in the declared encoding"},
    "P105": {"zh": "缺少字段", "en": "a column is missing"},
    "P106": {"zh": "未约定的字段", "en": "a column is not part of the layout"},
    "P107": {"zh": "文件无法读取", "en": "the file cannot be read"},
    "P109": {"zh": "该月份没有约定的格式", "en": "no layout is agreed for this month"},
    "P108": {"zh": "文件包不完整", "en": "the package is incomplete"},
    "P120": {"zh": "文件名中的月份尚未开始", "en": "the month in the name has not begun"},
    "P121": {"zh": "缺少尾行或尾行无法读取", "en": "the trailer is missing or cannot be read"},
    "P122": {"zh": "控制数与数据不符", "en": "a control count or total does not match"},
    "P123": {"zh": "工作表含需要推断的单元格", "en": "cells of the sheet whose value would have to be guessed"},
    "P124": {"zh": "没有数据行", "en": "there are no rows"},
    "P125": {"zh": "文件超过约定的每日数据量", "en": "the file is larger than the volume agreed for a day"},
    "P126": {
        "zh": "文件长时间未写完，或缺少标志文件、分文件",
        "en": "the file was not complete, or its flag or another part not there, for days",
    },
    "P127": {"zh": "县里多次处理未能完成", "en": "the county could not finish its work on the file"},
    "P190": {"zh": "拒收行超过约定，整份退回", "en": "more rows are refused than agreed; the file is refused"},
    "P191": {"zh": "比在用的报送少了过多的行，整份退回", "en": "too many rows of the delivery in force are missing"},
}
WRONG_FIELD_COUNT: Final = "P201"
WRONG_FIELD_COUNT_SAYS: Final[Mapping[str, str]] = {
    "zh": "该行字段个数与约定不符",
    "en": "the line does not have the agreed number of fields",
}
WRONG_FIELD_COUNT_FIX: Final[Mapping[str, str]] = {
    "zh": "检查该行是否缺少分隔符、被换行截断，或文本中含有分隔符",
    "en": "look for a missing separator, a line break inside the line, or a separator inside a text",
}
UNKNOWN_HOUSEHOLD: Final = "Q301"
UNKNOWN_HOUSEHOLD_SAYS: Final[Mapping[str, str]] = {
    "zh": "户号不在农户信息库中，事项尚未受理",
    "en": "the register holds no household of this number; no case is opened yet",
}
UNKNOWN_HOUSEHOLD_FIX: Final[Mapping[str, str]] = {
    "zh": "请核对户号，有误的用新申请编号重报；新登记的农户入库评定后自动受理，无需重报",
    "en": "check the number and, if it is wrong, send the request again under a new one; a household that is new gets its "
    "case once it is registered and graded, without asking again",
}
UNREADABLE_RULES: Final = frozenset({"P101", "P102", "P104", "P107"})


@dataclass(frozen=True)
class Arrival:
    """A file that lies complete in a drop zone and belongs to one feed.

    `period` is `YYYY-MM`; `address` any fsspec address; `mtime_ns` the supplier's modification time in nanoseconds
    since 1970-01-01 UTC; `parts` the addresses of the files that came with it (`.ok` flag, `.sha256` sidecar, further
    parts of numbered ones: then size and time are those of all together).
    """

    supplier: str
    dataset: str
    period: str
    address: str
    name: str
    size_bytes: int
    mtime_ns: int
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileFinding:
    """One thing wrong with a whole file or one of its members; texts hold names and counts, never cells."""

    rule: str
    member: str
    message_zh: str
    message_en: str
    fix_zh: str
    family: str = "syntax"
    action: str = "reject_file"


@dataclass(frozen=True)
class RowFinding:
    """A line that could not be split into its columns.

    `row` and `line` are 1-based; `raw` goes to quarantine only.
    """

    rule: str
    member: str
    row: int
    line: int
    raw: str


def unreadable(findings: list[FileFinding]) -> bool:
    """Whether the bytes are not what was sent, or cannot be read: outcome `unreadable` instead of `rejected`."""
    return any(finding.rule in UNREADABLE_RULES for finding in findings)
