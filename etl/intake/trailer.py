"""Trailers: the last line of a file that says how many rows there are and what columns add up to.

A trailer is never a row. It is cut off before anything parses the text, and held against what was read: one that is
missing or cannot be read is P121, a count or total that differs is P122. Totals are exact decimals in the delivered unit.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.findings import FileFinding
from etl.intake.strings import Readout
from etl.registry import Layout, Trailer

_HELD_BYTES: Final = 1 << 16
_NUMBER: Final = "^[+-]?[0-9]{1,18}([.][0-9]{1,8})?$"
_STATED: Final = re.compile("[+-]?[0-9]{1,18}([.][0-9]+)?")
_SUM_TYPE: Final = pa.decimal128(38, 8)
_WORKBOOK_DECIMALS: Final = Decimal("0.000001")  # a sum made in binary floating point ends in noise
_FIX: Final = "重新生成尾行（合计行）后整份再报"


class TailCut:
    """Hands text on but for its last line, if that is the trailer; `cells` are then the trailer's, as delivered.

    What is fed is what a parser is fed: UTF-8 that `to_text` turns into text, or for fixed widths the bytes of the file.
    A line feed is a line feed in all of them.
    """

    def __init__(self, layout: Layout, to_text: Callable[[str], str] = str) -> None:
        self._layout, self._to_text = layout, to_text
        self._held = b""
        self.cells: list[str] | None = None

    def feed(self, text: bytes, *, is_last: bool) -> bytes:
        """What may be parsed by now."""
        text = self._held + text
        if not is_last:
            place = max(len(text) - _HELD_BYTES, 0)
            self._held = text[place:]
            return text[:place]
        end = len(text.rstrip(b"\r\n"))
        start = max(text.rfind(b"\n", 0, end), text.rfind(b"\r", 0, end)) + 1
        self.cells = trailer_cells(self._split(text[start:end]), self._layout)
        return text if self.cells is None else text[:start]

    def _split(self, line: bytes) -> list[str]:
        """The cells of a line; none when it is not text."""
        try:
            if self._layout.format == "fixed_width":
                return _cut(line, self._layout)
            return _parsed(self._to_text(line.decode("utf-8")), self._layout)
        except (UnicodeError, csv.Error):
            return []


def trailer_cells(cells: Sequence[str], layout: Layout) -> list[str] | None:
    """The cells if they are those of the agreed trailer: their first that is not empty is its marker."""
    trimmed = [cell.strip() for cell in cells]
    first = next((cell for cell in trimmed if cell), None)
    return trimmed if layout.trailer and first == layout.trailer.marker else None


def _cut(line: bytes, layout: Layout) -> list[str]:
    cells, place = [], 0
    for width in layout.trailer.widths if layout.trailer else ():
        cells.append(line[place : place + width].decode(layout.encoding).strip(layout.padding))
        place += width
    return cells if place == len(line) else []


def _parsed(line: str, layout: Layout) -> list[str]:
    if layout.quote == "none":
        return line.split(layout.delimiter)
    return next(csv.reader([line], delimiter=layout.delimiter, quotechar=layout.quote), [])


class Control:
    """Adds up the rows of one member and holds its trailer against them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums = dict.fromkeys(layout.trailer.totals if layout.trailer else (), Decimal(0))
        self._unread = dict.fromkeys(self._sums, 0)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in a batch of the strings relation; cells that are no numbers are counted, blank ones are none."""
        for name in self._sums:
            cells = pc.utf8_trim_whitespace(batch.column(name))
            is_number = pc.match_substring_regex(cells, _NUMBER)
            is_blank = pc.is_in(cells, pa.array(["", *self._layout.nulls], pa.string()))
            read = cells.filter(pc.and_not(is_number, is_blank))
            self._sums[name] += pc.sum(read.cast(_SUM_TYPE)).as_py() or Decimal(0)
            self._unread[name] += len(cells) - len(read) - int(pc.sum(is_blank).as_py() or 0)

    def findings(self, member: str, readout: Readout) -> list[FileFinding]:
        """P121 and P122 of a member that has been read to its end; none without an agreed trailer."""
        trailer, cells = self._layout.trailer, readout.trailer
        if trailer is None:
            return []
        if cells is None:
            zh, en = f"缺少以“{trailer.marker}”开头的尾行", f"no trailer that begins with {trailer.marker}"
            return [FileFinding("P121", member, zh, en, "补全尾行，检查文件是否被截断")]
        unreadable = [place for place in _places(trailer) if _stated(cells, place) is None]
        if unreadable:
            zh, en = f"尾行第 {unreadable[0]} 格不是数字", f"cell {unreadable[0]} of the trailer is no number"
            return [FileFinding("P121", member, zh, en, _FIX)]
        return [*self._count(member, trailer, cells, readout.rows_read), *self._totals(member, trailer, cells)]

    def _count(self, member: str, trailer: Trailer, cells: Sequence[str], rows: int) -> list[FileFinding]:
        stated = _stated(cells, trailer.rows) if trailer.rows else rows
        if stated == rows:
            return []
        zh, en = f"尾行记录数为 {stated}，实际 {rows} 行", f"the trailer counts {stated} rows, there are {rows}"
        return [FileFinding("P122", member, zh, en, _FIX)]

    def _totals(self, member: str, trailer: Trailer, cells: Sequence[str]) -> list[FileFinding]:
        found = []
        for name, place in trailer.totals.items():
            if self._rounded(_stated(cells, place) or Decimal(0)) != self._rounded(self._sums[name]):
                shown, unread = self._as_delivered(name), self._unread[name]
                zh = f"“{shown}”的合计与尾行不符" + (f"（有 {unread} 个单元格不是数字）" if unread else "")
                en = f"{shown} does not add up to the trailer's total" + (f" ({unread} no numbers)" if unread else "")
                found.append(FileFinding("P122", member, zh, en, _FIX))
        return found

    def _rounded(self, value: Decimal) -> Decimal:
        return value.quantize(_WORKBOOK_DECIMALS) if self._layout.format == "workbook" else value

    def _as_delivered(self, name: str) -> str:
        return next(source for source, canonical in self._layout.source_to_canonical.items() if canonical == name)


def _places(trailer: Trailer) -> list[int]:
    return [*([trailer.rows] if trailer.rows else []), *trailer.totals.values()]


def _stated(cells: Sequence[str], place: int) -> Decimal | None:
    """The number in a cell of the trailer (from 1), or None."""
    text = cells[place - 1] if place <= len(cells) else ""
    return Decimal(text) if _STATED.fullmatch(text) else None
