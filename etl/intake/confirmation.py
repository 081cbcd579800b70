"""A bank's confirmation of warnings: `<original name>.<delivery_id>.confirm.csv`, read strictly.

The first line is `rule,row,key`, each further line one warning as the receipt names it: the rule's id, the row's number,
the bank's own number of the row (in full, or masked as in the receipt). UTF-8, or the bank's receipt encoding. A file
with anything else in it is refused as a whole, and answered line by line without repeating what stands there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

CONFIRMS: Final = ".confirm.csv"
HEADER: Final = ("rule", "row", "key")
MAX_BYTES: Final = 20_000_000
MAX_LINES: Final = 200_000
MAX_PROBLEMS: Final = 1_000
_RULE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_ROW: Final = re.compile(r"[1-9][0-9]{0,11}")


@dataclass(frozen=True)
class Confirming:
    """A settled confirmation file of a drop zone, as the scan saw it."""

    supplier: str
    address: str
    name: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Entry:
    """One line of a confirmation."""

    line: int
    rule: str
    row: int
    key: str


@dataclass(frozen=True)
class Problem:
    """What is wrong with a confirmation; `line` is None for the file as a whole. No text from the file stands in it."""

    line: int | None
    message_zh: str
    message_en: str
    fix_zh: str


def named_delivery(name: str) -> tuple[str, str] | None:
    """The original name and the delivery id in the name of a confirmation; None if it names none.

    >>> named_delivery("loans_202403.csv.bank-loans-2024-03-001.confirm.csv")
    ('loans_202403.csv', 'bank-loans-2024-03-001')
    """
    original, dot, delivery_id = name.removesuffix(CONFIRMS).rpartition(".")
    return (original, delivery_id) if name.endswith(CONFIRMS) and dot and original and delivery_id else None


def parse(content: bytes, encoding: str) -> tuple[list[Entry], list[Problem]]:
    """The lines of a confirmation, and what is wrong with them (at most MAX_PROBLEMS)."""
    text = decoded(content, encoding)
    if text is None:
        return [], [_whole("文件编码无法识别", "the encoding is not known", "请另存为 UTF-8 的 CSV")]
    try:
        lines = list(_lines(text))
    except csv.Error:
        return [], [_whole("不是 CSV 文件", "not a CSV file", "请检查引号和分隔符")]
    if not lines or tuple(lines[0][1]) != HEADER:
        return [], [_whole("首行应为 rule,row,key", "the first line must be rule,row,key", "请按回执中的说明填写首行")]
    if len(lines) - 1 > MAX_LINES:
        return [], [_whole(f"超过 {MAX_LINES} 行", f"more than {MAX_LINES} lines", "请分成几个文件确认")]
    if len(lines) == 1:
        return [], [_whole("没有要确认的行", "no line confirms anything", "每条提示写一行")]
    return _entries(lines[1:])


def decoded(content: bytes, encoding: str) -> str | None:
    """The text in UTF-8 or the bank's encoding; None if it is in neither."""
    for name in ("utf-8-sig", encoding):
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    for cells in reader:
        yield reader.line_num, cells


def _entries(lines: Sequence[tuple[int, list[str]]]) -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: set[tuple[str, int, str]] = set()
    for line, cells in lines:
        found = _entry(line, cells)
        if isinstance(found, Entry) and (found.rule, found.row, found.key) in seen:
            found = Problem(line, "与前面的行重复", "a line before says the same", "请删除重复的行")
        if isinstance(found, Problem):
            problems.append(found)
            if len(problems) == MAX_PROBLEMS:
                break
        else:
            seen.add((found.rule, found.row, found.key))
            entries.append(found)
    return entries, problems


def _entry(line: int, cells: Sequence[str]) -> Entry | Problem:
    if len(cells) != len(HEADER):
        return Problem(line, "应有 3 列", "three columns are needed", "每行填写规则、数据行号、本行编号")
    rule, row, key = (cell.strip() for cell in cells)
    if not _RULE.fullmatch(rule):
        return Problem(line, "规则号写法不对", "the rule id is not written right", "照抄回执中的规则号，如 L301")
    if not _ROW.fullmatch(row):
        return Problem(line, "数据行号不是正整数", "the row is not a whole number", "照抄回执中的数据行号")
    if not key:
        return Problem(line, "缺少本行编号", "the key is missing", "照抄回执中的本行编号")
    return Entry(line, rule, int(row), key)


def _whole(zh: str, en: str, fix_zh: str) -> Problem:
    return Problem(None, zh, en, fix_zh)
