"""Read fixed-width text into strings: columns are counted in bytes of the file's encoding, never in characters.

A line of another width is a P201 and does not shift its neighbours. A cell whose edge goes through a character is not
text of the declared encoding (P104). Line feed is no part of any character in UTF-8 and GB18030, so lines are cut first
and cells are decoded after, column by column; each distinct value of a GB18030 column once.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.intake.decoding import mark_of, read_raw, undecodable_line
from etl.intake.package import READ_BYTES, MeteredStream
from etl.intake.strings import (
    MAX_BAD_LINES,
    MAX_RAW_CHARACTERS,
    Readout,
    Rows,
    UnreadableError,
    bad_line,
    broken,
    delivered_columns,
    frame,
)
from etl.intake.trailer import TailCut
from etl.registry import Feed, Layout

MAX_LINE_BYTES: Final = 1 << 20
MAX_BAD_CHARACTERS: Final = 64 << 20
_LEADING_ZEROS: Final = "^([+-]?)0+([0-9])"
_FIX: Final = "按约定的字节宽度导出，每行一条记录"
Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Lines:
    """Where the lines of a piece stand (byte positions, without line ends), and the number of the first."""

    text: bytes
    starts: Rows
    sizes: Rows
    first: int

    @property
    def numbers(self) -> Rows:
        return np.arange(self.first, self.first + len(self.starts), dtype=np.int64)

    def line(self, place: int) -> bytes:
        start = int(self.starts[place])
        return self.text[start : start + int(self.sizes[place])]


def read_fixed_width(
    raw: MeteredStream, member: str, feed: Feed, layout: Layout, *, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """Batches of the strings relation of one member; `_row` and `_line` are the same, for there is no header.

    Raises UnreadableError: P104 undecodable, P107 a NUL byte, no line ends, more than MAX_BAD_LINES bad lines.
    """
    readout.note_columns(delivered_columns(layout))
    tail = TailCut(layout) if layout.trailer else None
    sifter = _Sifter(member, layout, readout)
    for lines in _pieces(raw, member, layout, tail):
        good = sifter.good_lines(lines)
        if len(good):
            cells = _cells(lines, good, member, layout)
            rows = lines.numbers[good]
            yield frame(cells, layout, delivery_id=delivery_id, member=member, rows=rows, lines=rows)
    readout.trailer = tail.cells if tail else None


def _pieces(raw: MeteredStream, member: str, layout: Layout, tail: TailCut | None) -> Iterator[_Lines]:
    """The member cut into whole lines, without byte order mark and trailer."""
    rest, first, is_start, is_last = b"", 1, True, False
    while not is_last:
        block = read_raw(raw, member, READ_BYTES)
        is_last = not block
        if is_start and block:
            block, is_start = block[mark_of(block, layout.encoding, member) :], False
        text = rest + (tail.feed(block, is_last=is_last) if tail else block)
        end = len(text) if is_last else text.rfind(b"\n") + 1
        if end:
            lines = _cut_lines(text[:end], first)
            _refuse_nul(lines, member)
            yield lines
            first += len(lines.starts)
        rest = text[end:]
        if len(rest) > MAX_LINE_BYTES:
            en = f"line {first}: more than {MAX_LINE_BYTES >> 20} MiB without a line end"
            raise broken(member, f"第 {first} 行起没有换行符", en, _FIX)


def _cut_lines(text: bytes, first: int) -> _Lines:
    octets = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(octets == ord("\n")).astype(np.int64)
    if not text.endswith(b"\n"):
        ends = np.append(ends, len(text))
    starts = np.concatenate(([0], ends[:-1] + 1))
    has_return = (ends > starts) & (octets[np.maximum(ends - 1, 0)] == ord("\r"))
    return _Lines(text, starts, ends - starts - has_return, first)


def _refuse_nul(lines: _Lines, member: str) -> None:
    place = lines.text.find(b"\0")
    if place >= 0:
        line = lines.first + lines.text.count(b"\n", 0, place)
        raise broken(member, f"第 {line} 行含空字节（NUL）", f"line {line}: a NUL byte", "重新导出为纯文本")


class _Sifter:
    """Tells good lines from bad ones across pieces; blank lines are bad unless nothing follows them."""

    def __init__(self, member: str, layout: Layout, readout: Readout) -> None:
        self._member, self._layout, self._readout = member, layout, readout
        self._width = sum(layout.widths)
        self._blank_from = 1

    def good_lines(self, lines: _Lines) -> Rows:
        """Places in the piece of the lines that have the agreed width; the others become findings."""
        filled = np.flatnonzero(lines.sizes > 0)
        if not len(filled):
            return filled
        is_good = lines.sizes == self._width
        waiting = lines.first - self._blank_from
        inside = np.flatnonzero(~is_good[: filled[-1] + 1])
        if len(self._readout.row_findings) + waiting + len(inside) > MAX_BAD_LINES:
            zh, en = f"超过 {MAX_BAD_LINES} 行宽度不符", f"more than {MAX_BAD_LINES} lines of another width"
            raise broken(self._member, zh, en, _FIX)
        for line in range(self._blank_from, lines.first):
            self._note(line, b"")
        for place in inside:
            self._note(lines.first + int(place), lines.line(int(place)))
        self._readout.rows_read = lines.first + int(filled[-1])
        self._blank_from = self._readout.rows_read + 1
        return np.flatnonzero(is_good)

    def _note(self, line: int, raw: bytes) -> None:
        text = self._line_text(raw, line)[:MAX_RAW_CHARACTERS]
        kept = text if self._readout.raw_characters < MAX_BAD_CHARACTERS else ""
        self._readout.raw_characters += len(kept)
        self._readout.row_findings.append(bad_line(self._member, line, line, kept))

    def _line_text(self, raw: bytes, line: int) -> str:
        """A line that was cut off may end inside a character; elsewhere it is text of the encoding, or P104."""
        decoder = codecs.getincrementaldecoder(self._layout.encoding)("strict")
        try:
            return decoder.decode(raw, final=False)
        except UnicodeDecodeError:
            raise undecodable_line(self._member, line, self._layout.encoding) from None


def _cells(lines: _Lines, good: Rows, member: str, layout: Layout) -> dict[str, pa.Array]:
    """The good lines as columns of text, without padding."""
    edges = np.cumsum([0, *layout.widths])
    octets = np.frombuffer(lines.text, dtype=np.uint8)
    block = octets[lines.starts[good][:, None] + np.arange(edges[-1])]
    cells, cut = {}, []
    for name, start, end in zip(delivered_columns(layout), edges[:-1], edges[1:], strict=True):
        column = np.ascontiguousarray(block[:, start:end])
        text = _decoded(column, layout.encoding)
        if text is None:
            cut.append(int(lines.numbers[good][_first_undecodable(column, layout.encoding)]))
        elif name:
            cells[name] = _without_padding(text, layout, is_zero_padded=name in layout.zero_padded)
    if cut:
        raise _cut_character(member, min(cut), layout.encoding)
    return cells


def _decoded(column: Octets, encoding: str) -> pa.StringArray | None:
    """Cells of one width as text, or None when one of them is not of the encoding."""
    count, width = column.shape
    offsets = pa.py_buffer(np.arange(0, (count + 1) * width, width, dtype=np.int32))
    data = pa.py_buffer(column)
    if encoding != "utf-8" and int(column.max()) > 0x7F:
        return _decoded_by_value(pa.BinaryArray.from_buffers(pa.binary(), count, [None, offsets, data]), encoding)
    text = pa.StringArray.from_buffers(count, offsets, data)
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return text


def _decoded_by_value(column: pa.BinaryArray, encoding: str) -> pa.StringArray | None:
    """Each distinct value once, all in one decode: a line feed between them completes no character."""
    encoded = column.dictionary_encode()
    one_list = pa.ListArray.from_arrays(pa.array([0, len(encoded.dictionary)], pa.int32()), encoded.dictionary)
    try:
        texts = pc.binary_join(one_list, b"\n")[0].as_py().decode(encoding).split("\n")
    except UnicodeDecodeError:
        return None
    return pa.array(texts, pa.string()).take(encoded.indices)


def _first_undecodable(column: Octets, encoding: str) -> int:
    return next(place for place, cell in enumerate(column) if not _is_text(cell.tobytes(), encoding))


def _is_text(cell: bytes, encoding: str) -> bool:
    try:
        cell.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _cut_character(member: str, line: int, encoding: str) -> UnreadableError:
    name = encoding.upper()
    zh = f"第 {line} 行有单元格不是 {name} 编码，或按字节宽度截断了汉字"
    en = f"line {line}: a cell is not {name}, or its width cuts a character in two"
    return broken(member, zh, en, f"用 {name} 编码导出，不要从汉字中间截断", rule="P104")


def _without_padding(text: pa.StringArray, layout: Layout, *, is_zero_padded: bool) -> pa.StringArray:
    trimmed = pc.utf8_trim(text, layout.padding)
    return pc.replace_substring_regex(trimmed, _LEADING_ZEROS, r"\1\2") if is_zero_padded else trimmed
