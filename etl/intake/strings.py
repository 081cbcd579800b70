"""The strings relation: every cell as delivered, with where it stood. What all readers share.

Columns: `_delivery`, `_member` text; `_row` the 1-based data row in its member; `_line` the 1-based line or sheet row;
then the layout's canonical columns, all text, nothing trimmed, empty cell = ''; columns of `defaults` as constants.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.findings import WRONG_FIELD_COUNT, FileFinding, RowFinding
from etl.registry import Layout

MAX_BAD_LINES = 1_000_000
MAX_RAW_CHARACTERS = 4_096
_MAX_NAMES = 10
_MAX_NAME_CHARACTERS = 30
_ALIKE = 0.6

Rows = npt.NDArray[np.int64]


class UnreadableError(Exception):
    """The member cannot be read further; carries the finding. Caught inside intake."""

    def __init__(self, finding: FileFinding) -> None:
        super().__init__(finding.rule)
        self.finding = finding


@dataclass
class Readout:
    """What became known while reading; complete only when the last batch has been taken."""

    rows_read: int = 0
    file_findings: list[FileFinding] = field(default_factory=list)
    row_findings: list[RowFinding] = field(default_factory=list)
    column_no: dict[str, int] = field(default_factory=dict)
    raw_characters: int = 0
    trailer: list[str] | None = None

    def note_columns(self, columns: Sequence[str | None]) -> None:
        """Remember the 1-based place of each canonical column as it was delivered."""
        self.column_no = {name: place for place, name in enumerate(columns, start=1) if name}


@dataclass(frozen=True)
class Strings:
    """A delivery as strings. `table` is empty when a file finding made its rows meaningless (P104, P105, P107).

    `column_no` is the 1-based place of each canonical column as it was delivered (of the last member). Where only some
    rows were kept in `table`, `beginning` has the first ones as they came.
    """

    table: pa.Table
    rows_read: int
    file_findings: list[FileFinding]
    row_findings: list[RowFinding]
    column_no: dict[str, int] = field(default_factory=dict)
    beginning: pa.Table | None = None


def strings_schema(layout: Layout) -> pa.Schema:
    """The schema of the strings relation under a layout."""
    places = [("_delivery", pa.string()), ("_member", pa.string()), ("_row", pa.int64()), ("_line", pa.int64())]
    return pa.schema([*places, *((name, pa.string()) for name in layout.canonical)])


def frame(
    cells: Mapping[str, pa.Array], layout: Layout, *, delivery_id: str, member: str, rows: Rows, lines: Rows
) -> pa.RecordBatch:
    """A batch of the strings relation from canonical columns; defaults are filled in, absent columns are ''."""
    count = len(rows)
    arrays = [pa.repeat(delivery_id, count), pa.repeat(member, count), pa.array(rows), pa.array(lines)]
    for name in layout.canonical:
        given = cells.get(name)
        arrays.append(pa.repeat(layout.defaults.get(name, ""), count) if given is None else given)
    return pa.record_batch(arrays, schema=strings_schema(layout))


def bad_line(member: str, row: int, line: int, raw: str) -> RowFinding:
    """P201 for a line that cannot be split into its columns; the raw text is cut to a bounded length."""
    return RowFinding(WRONG_FIELD_COUNT, member, row, line, raw[:MAX_RAW_CHARACTERS])


def broken(member: str, zh: str, en: str, fix_zh: str, *, rule: str = "P107") -> UnreadableError:
    return UnreadableError(FileFinding(rule, member, zh, en, fix_zh))


def row_findings_table(findings: Sequence[RowFinding]) -> pa.Table:
    """Row findings as a table: _member, _row, _line, rule, raw."""
    columns = {
        "_member": pa.array([finding.member for finding in findings], pa.string()),
        "_row": pa.array([finding.row for finding in findings], pa.int64()),
        "_line": pa.array([finding.line for finding in findings], pa.int64()),
        "rule": pa.array([finding.rule for finding in findings], pa.string()),
        "raw": pa.array([finding.raw for finding in findings], pa.string()),
    }
    return pa.table(columns)


def classify(delivered: Sequence[str], layout: Layout, member: str) -> tuple[list[str | None], list[FileFinding]]:
    """Canonical name (None: ignored) of each delivered column, and P105/P106 for what is missing or unknown.

    The order of columns is free. Nothing is guessed: a name neither mapped nor named under `ignore` stops the file.
    """
    known = layout.source_to_canonical
    mapped = [known.get(name) if name not in layout.ignore else None for name in delivered]
    missing = [name for name in known if name not in layout.ignore and name not in delivered]
    strange = [name for name in delivered if name not in known and name not in layout.ignore]
    twice = sorted({name for name in delivered if delivered.count(name) > 1 and name in known})
    if strange and len(strange) * 2 > len(delivered):
        return mapped, [_no_header(member)]
    findings = []
    if missing:
        findings.append(
            _column_finding("P105", member, missing, "缺少字段", "columns missing", "按约定的表头补齐后重报")
        )
    if strange or twice:
        fix = "删除该列，或先与县里约定后再增加"
        zh, en = "未约定或重复的字段", "columns unknown or repeated"
        renamed = _renamed(strange, missing)
        findings.append(_column_finding("P106", member, strange + twice, zh, en, fix, renamed))
    return mapped, findings


def _renamed(strange: Sequence[str], missing: Sequence[str]) -> dict[str, str]:
    """Unknown names that look like a missing one (blanks, width or case apart, or alike): said, never acted upon."""
    plain = {_plain(name): name for name in missing}
    found = {name: difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_ALIKE) for name in strange[:_MAX_NAMES]}
    return {name: plain[likeness[0]] for name, likeness in found.items() if likeness}


def _plain(name: str) -> str:
    """A heading without blanks, width, case, and what it says in brackets (a unit)."""
    text = unicodedata.normalize("NFKC", name[:_MAX_NAME_CHARACTERS]).casefold()
    return "".join(re.sub(r"\([^()]*\)", "", text).split())


def delivered_columns(layout: Layout) -> list[str | None]:
    """Canonical name of each column of a layout without a header (None: ignored)."""
    return [None if source in layout.ignore else name for source, name in layout.source_to_canonical.items()]


def _no_header(member: str) -> FileFinding:
    """The names are not shown: a file without its header would show a person's data in their place."""
    en = "the first line is not the agreed header"
    return FileFinding("P105", member, "首行不是约定的表头", en, "第一行请使用约定的字段名")


def _column_finding(
    rule: str,
    member: str,
    names: Sequence[str],
    zh: str,
    en: str,
    fix_zh: str,
    renamed: Mapping[str, str] | None = None,
) -> FileFinding:
    """The names in question, each with the missing one that it may be."""
    meant = renamed or {}
    rest = "…" if len(names) > _MAX_NAMES else ""
    zh_names = [_harmless(n) + (f"（疑似“{meant[n]}”改名）" if n in meant else "") for n in names[:_MAX_NAMES]]
    en_names = [_harmless(n) + (f" (perhaps {meant[n]} renamed)" if n in meant else "") for n in names[:_MAX_NAMES]]
    return FileFinding(rule, member, f"{zh}：{'、'.join(zh_names)}{rest}", f"{en}: {'、'.join(en_names)}{rest}", fix_zh)


def _harmless(name: str) -> str:
    """A name from the file, short, without control characters and long digits."""
    text = "".join(character for character in name if character.isprintable())[:_MAX_NAME_CHARACTERS]
    return re.sub(r"\d{5,}", "*****", text) or "（无标题）"
