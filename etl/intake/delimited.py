"""Read delimited text (CSV, `|` files) into strings: strict decoding, exact row and line numbers, bounded memory.

The text is parsed by pyarrow in pieces that end where a row ends, each from memory and on the calling thread: Arrow's own
threads must never hold a Python file, because one that is released while the interpreter ends hangs or aborts it. Read
without threads, pyarrow numbers the lines it rejects, so a bad line keeps its number and does not shift the others.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from etl.intake.decoding import Decoding, Utf8Stream, decoding_for, undecodable
from etl.intake.package import MeteredStream
from etl.intake.strings import (
    MAX_BAD_LINES,
    MAX_RAW_CHARACTERS,
    Readout,
    Rows,
    UnreadableError,
    bad_line,
    broken,
    classify,
    delivered_columns,
    frame,
)
from etl.intake.trailer import TailCut
from etl.registry import Feed, Layout

BLOCK_BYTES: Final = 2 << 20
MAX_ROW_BYTES: Final = 1 << 20
MAX_BAD_CHARACTERS: Final = 64 << 20
_HEADER_BYTES: Final = 1 << 16
_SENTINELS: Final = ("\x02\x02\x02", "\x03\x03\x03", "\x04\x04\x04")
_LINE_END: Final = "\r\n|\r|\n"
_FIX_DELIMITER: Final = "检查分隔符是否为约定的字符"


@dataclass
class _Rejects:
    """The lines pyarrow rejected in one piece: 1-based row in the piece, text, line breaks inside."""

    limit: int
    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    is_full: bool = False

    def take(self, row: pa_csv.InvalidRow) -> str:
        """pyarrow's handler: note the line and go on, up to the limit."""
        if len(self.rows) >= self.limit:
            self.is_full = True
            return "error"
        self.rows.append(row.number)
        self.texts.append(row.text.rstrip("\r\n"))
        return "skip"

    def breaks(self) -> list[int]:
        return [len(re.findall(_LINE_END, text)) for text in self.texts]


@dataclass(frozen=True)
class _Piece:
    """A parsed piece: its good rows and their numbers, its bad rows; `taken` bytes of the text belong to it."""

    batch: pa.RecordBatch
    rows: Rows
    lines: Rows
    bad_rows: Rows
    bad_lines: Rows
    bad_texts: list[str]
    line_count: int
    taken: int

    @property
    def row_count(self) -> int:
        return len(self.rows) + len(self.bad_rows)


class _Parser:
    """Cuts a stream into pieces and numbers rows and lines across them."""

    def __init__(self, stream: Utf8Stream, member: str, width: int, layout: Layout, header_lines: int) -> None:
        self._stream, self._member, self._layout = stream, member, layout
        self._names = [str(place) for place in range(width)]
        self._has_quotes = layout.quote != "none"
        self._sentinel = next(mark for mark in _SENTINELS if mark[0] not in (layout.delimiter, layout.quote))
        self._rows, self._lines, self._bad = 0, header_lines, 0

    def pieces(self) -> Iterator[_Piece]:
        """Raises UnreadableError (P107): a row beyond MAX_ROW_BYTES, too many bad lines, text that is no table."""
        rest = b""
        is_last = False
        while not is_last:
            block = self._stream.read(BLOCK_BYTES)
            is_last = len(block) < BLOCK_BYTES
            text = rest + block
            cut = len(text) if is_last else _last_line_end(text)
            taken = 0
            if cut:
                piece = self._parse(text[:cut], is_last=is_last)
                taken = piece.taken
                yield piece
            rest = text[taken:]
            if len(rest) > MAX_ROW_BYTES and not is_last:
                raise self._endless_row()

    def _parse(self, text: bytes, *, is_last: bool) -> _Piece:
        """A piece may end inside a quoted cell; a row put after it shows whether it does."""
        is_guarded = self._has_quotes and not is_last and self._layout.quote.encode() in text
        batch, rejects = self._read(text + self._guard() if is_guarded else text)
        breaks, is_bad = self._breaks(batch, rejects)
        taken = len(text)
        if is_guarded:
            swallowed = not self._ends_in_guard(batch, is_bad)
            batch, rejects, breaks, is_bad = _without_last_row(batch, rejects, breaks, is_bad)
            taken = _end_of_lines(text, len(breaks) + int(breaks.sum())) if swallowed else taken
        return self._numbered(batch, rejects, breaks, is_bad, taken)

    def _numbered(
        self, batch: pa.RecordBatch, rejects: _Rejects, breaks: Rows, is_bad: npt.NDArray[np.bool_], taken: int
    ) -> _Piece:
        rows = np.arange(self._rows + 1, self._rows + len(breaks) + 1, dtype=np.int64)
        lines = rows - self._rows + self._lines + np.cumsum(breaks) - breaks
        line_count = len(breaks) + int(breaks.sum())
        piece = _Piece(
            batch, rows[~is_bad], lines[~is_bad], rows[is_bad], lines[is_bad], rejects.texts, line_count, taken
        )
        self._rows += len(rows)
        self._lines += line_count
        self._bad += len(rejects.rows)
        return piece

    def _guard(self) -> bytes:
        return (self._sentinel + self._layout.delimiter * (len(self._names) - 1) + "\n").encode()

    def _ends_in_guard(self, batch: pa.RecordBatch, is_bad: npt.NDArray[np.bool_]) -> bool:
        return not is_bad[-1] and batch.column(0)[-1].as_py() == self._sentinel

    def _breaks(self, batch: pa.RecordBatch, rejects: _Rejects) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Line breaks inside each row of the piece, and which rows are bad."""
        count = batch.num_rows + len(rejects.rows)
        is_bad = np.zeros(count, dtype=bool)
        is_bad[np.asarray(rejects.rows, dtype=np.int64) - 1] = True
        breaks = np.zeros(count, dtype=np.int64)
        if self._has_quotes:
            breaks[is_bad] = rejects.breaks()
            breaks[~is_bad] = _breaks_in_cells(batch)
        return breaks, is_bad

    def _read(self, text: bytes) -> tuple[pa.RecordBatch, _Rejects]:
        rejects = _Rejects(MAX_BAD_LINES - self._bad)
        try:
            table = pa_csv.read_csv(_native(text), *self._options(len(text), rejects))
        except pa.ArrowInvalid:
            raise self._unparsable(rejects) from None
        return table.combine_chunks().to_batches()[0] if table.num_rows else _no_rows(self._names), rejects

    def _options(
        self, size: int, rejects: _Rejects
    ) -> tuple[pa_csv.ReadOptions, pa_csv.ParseOptions, pa_csv.ConvertOptions]:
        return (
            pa_csv.ReadOptions(use_threads=False, block_size=size + 1, column_names=self._names),
            pa_csv.ParseOptions(
                delimiter=self._layout.delimiter,
                quote_char=self._layout.quote if self._has_quotes else False,
                double_quote=self._has_quotes,
                escape_char=False,
                newlines_in_values=self._has_quotes,
                ignore_empty_lines=False,
                invalid_row_handler=rejects.take,
            ),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(self._names, pa.string()),
                strings_can_be_null=False,
                null_values=[],
                check_utf8=False,
            ),
        )

    def _unparsable(self, rejects: _Rejects) -> UnreadableError:
        if not rejects.is_full:
            return broken(self._member, "无法按约定的分隔格式解析", "it cannot be parsed as agreed", _FIX_DELIMITER)
        zh = f"超过 {MAX_BAD_LINES} 行字段个数不符"
        en = f"more than {MAX_BAD_LINES} lines with a wrong number of fields"
        return broken(self._member, zh, en, _FIX_DELIMITER)

    def _endless_row(self) -> UnreadableError:
        line, mib = self._lines + 1, MAX_ROW_BYTES >> 20
        zh = f"第 {line} 行起有超过 {mib} MiB 的行（引号不成对或换行符缺失）"
        en = f"line {line}: a row of more than {mib} MiB (unbalanced quote, or no line breaks)"
        return broken(self._member, zh, en, "检查引号是否成对、换行符是否存在")


def read_delimited(
    raw: MeteredStream, member: str, feed: Feed, layout: Layout, *, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """Batches of the strings relation of one member; findings and counts go to `readout`.

    Raises UnreadableError (P104, P107). When a column is missing (P105) rows are counted but none is handed on.
    """
    decoding = decoding_for(layout)
    tail = TailCut(layout, decoding.cell) if layout.trailer else None
    stream = Utf8Stream(raw, decoding, member, tail)
    is_empty = not stream.peek(1)
    readout.trailer = tail.cells if tail else None
    if is_empty and (not layout.header or (feed.accept.empty == "accepted" and not readout.trailer)):
        return
    columns, header_lines = _columns(stream, decoding, member, layout, readout)
    readout.note_columns(columns)
    is_usable = not any(finding.rule == "P105" for finding in readout.file_findings)
    blanks = _Blanks()
    for piece in _Parser(stream, member, len(columns), layout, header_lines).pieces():
        texts = _decoded(piece, member, decoding)
        kept = blanks.sift(piece) if stream.has_blank_lines and len(columns) > 1 else None
        _note_bad_lines(piece, member, decoding, readout)
        blanks.note_rows(piece.rows if kept is None else piece.rows[kept], piece.bad_rows)
        if is_usable and len(piece.rows):
            cells = {name: texts[place] for place, name in enumerate(columns) if name}
            batch = frame(cells, layout, delivery_id=delivery_id, member=member, rows=piece.rows, lines=piece.lines)
            yield batch if kept is None else batch.filter(pa.array(kept))
    readout.rows_read = blanks.last_row
    readout.trailer = tail.cells if tail else None
    _note_blank_lines(blanks, member, readout)


def _columns(
    stream: Utf8Stream, decoding: Decoding, member: str, layout: Layout, readout: Readout
) -> tuple[list[str | None], int]:
    """Canonical names by position and the number of lines the header takes."""
    if not layout.header:
        return delivered_columns(layout), 0
    names, header_lines = _take_header(stream, member, layout)
    try:
        names = [decoding.cell(name) for name in names]
    except UnicodeDecodeError:
        raise undecodable(member, 1, decoding) from None
    columns, findings = classify(names, layout, member)
    readout.file_findings += findings
    return columns, header_lines


def _take_header(stream: Utf8Stream, member: str, layout: Layout) -> tuple[list[str], int]:
    head = stream.peek(_HEADER_BYTES)[:_HEADER_BYTES]
    text = head.decode("utf-8", "ignore")
    taken: list[str] = []
    try:
        names = next(_header_reader(_noting(text, taken), layout), [])
    except csv.Error:
        names = []
    size = sum(len(line.encode()) for line in taken)
    if size >= _HEADER_BYTES:
        raise broken(member, "首行过长", "the first line is too long", "检查换行符与分隔符")
    stream.read(size)
    if taken and not names:
        names = [""]  # a blank first line is a line of one empty cell, so that the lines below it are counted
    return [name.strip(" \t") for name in names], len(taken) or 1


def _header_reader(lines: Iterator[str], layout: Layout) -> Iterator[list[str]]:
    if layout.quote == "none":
        return csv.reader(lines, delimiter=layout.delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=layout.delimiter, quotechar=layout.quote)


def _noting(text: str, taken: list[str]) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        taken.append(line)
        yield line


class _Blanks:
    """Blank lines, which pyarrow reads as rows of empty cells: no rows at the end of the text, bad lines before it."""

    def __init__(self) -> None:
        self.last_row = 0
        self._rows: list[Rows] = []
        self._lines: list[Rows] = []

    def sift(self, piece: _Piece) -> npt.NDArray[np.bool_] | None:
        """Which good rows are not blank; None when none is blank."""
        is_blank = np.ones(piece.batch.num_rows, dtype=bool)
        for column in piece.batch.columns:
            is_blank &= pc.equal(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
            if not is_blank.any():
                return None
        self._rows.append(piece.rows[is_blank])
        self._lines.append(piece.lines[is_blank])
        return ~is_blank

    def note_rows(self, rows: Rows, bad_rows: Rows) -> None:
        self.last_row = int(max([self.last_row, *rows[-1:], *bad_rows[-1:]]))

    def inside(self) -> list[tuple[int, int]]:
        """Row and line of each blank line that another row follows."""
        pairs = [
            (int(row), int(line))
            for rows, lines in zip(self._rows, self._lines, strict=True)
            for row, line in zip(rows, lines, strict=True)
        ]
        return [(row, line) for row, line in pairs if row < self.last_row]


def _note_bad_lines(piece: _Piece, member: str, decoding: Decoding, readout: Readout) -> None:
    for row, line, text in zip(piece.bad_rows, piece.bad_lines, piece.bad_texts, strict=True):
        kept = text[:MAX_RAW_CHARACTERS] if readout.raw_characters < MAX_BAD_CHARACTERS else ""
        readout.raw_characters += len(kept)
        raw = _line_text(kept, int(line), member, decoding)
        readout.row_findings.append(bad_line(member, int(row), int(line), raw))


def _line_text(text: str, line: int, member: str, decoding: Decoding) -> str:
    is_cut = len(text) == MAX_RAW_CHARACTERS  # perhaps inside a character
    try:
        return decoding.cell(text, "ignore" if is_cut else "strict")
    except UnicodeDecodeError:
        raise undecodable(member, line, decoding) from None


def _note_blank_lines(blanks: _Blanks, member: str, readout: Readout) -> None:
    blank = [bad_line(member, row, line, "") for row, line in blanks.inside()]
    if blank:
        readout.row_findings = sorted([*readout.row_findings, *blank], key=lambda finding: finding.row)


def _native(text: bytes) -> pa.BufferReader:
    """The text in memory of Arrow's own: no thread of its needs the interpreter to let go of it."""
    sink = pa.BufferOutputStream()
    sink.write(text)
    return pa.BufferReader(sink.getvalue())


def _no_rows(names: Sequence[str]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], pa.string()) for _ in names], names=list(names))


def _last_line_end(text: bytes) -> int:
    """The position after the last line end; a carriage return at the very end may yet be followed by a line feed."""
    at = text.rfind(b"\n") + 1
    return at or text.rfind(b"\r", 0, len(text) - 1) + 1


def _end_of_lines(text: bytes, count: int) -> int:
    """The position after the first `count` lines (line feed, carriage return, or both)."""
    if count == 0:
        return 0
    octets = np.frombuffer(text, dtype=np.uint8)
    is_return = octets == 13
    is_return[:-1] &= octets[1:] != 10
    return int(np.flatnonzero((octets == 10) | is_return)[count - 1]) + 1


def _without_last_row(
    batch: pa.RecordBatch, rejects: _Rejects, breaks: Rows, is_bad: npt.NDArray[np.bool_]
) -> tuple[pa.RecordBatch, _Rejects, Rows, npt.NDArray[np.bool_]]:
    if is_bad[-1]:
        rejects.rows.pop()
        rejects.texts.pop()
    else:
        batch = batch.slice(0, batch.num_rows - 1)
    return batch, rejects, breaks[:-1], is_bad[:-1]


def _breaks_in_cells(batch: pa.RecordBatch) -> Rows:
    """Line breaks inside the cells of each row; that there are none is seen from the bytes at once."""
    found = [column for column in batch.columns if _has_break(column)]
    if not found:
        return np.zeros(batch.num_rows, dtype=np.int64)
    counts = [pc.count_substring_regex(column, _LINE_END).to_numpy(zero_copy_only=False) for column in found]
    return np.sum(counts, axis=0, dtype=np.int64)  # type: ignore[no-any-return]


def _has_break(column: pa.Array) -> bool:
    data = column.buffers()[2]
    octets = data.to_pybytes() if data is not None else b""
    return b"\n" in octets or b"\r" in octets


def _decoded(piece: _Piece, member: str, decoding: Decoding) -> list[pa.Array]:
    """The columns as text. Raises UnreadableError (P104) with the line of the first cell that is not."""
    try:
        return [decoding.column(column) for column in piece.batch.columns]
    except UnicodeDecodeError:
        line = min(_first_undecodable(column, piece.lines, decoding) for column in piece.batch.columns)
        raise undecodable(member, line, decoding) from None


def _first_undecodable(column: pa.Array, lines: Rows, decoding: Decoding) -> int:
    for line, text in zip(lines, column.to_pylist(), strict=True):
        try:
            decoding.cell(text)
        except UnicodeDecodeError:
            return int(line)
    return sys.maxsize
