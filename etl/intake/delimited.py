"""Read delimited text (CSV, `|` files) into strings: strict decoding, exact row and line numbers, bounded memory.

The bytes are fed to pyarrow as UTF-8 (see decoding). Its streaming reader without threads numbers the lines it rejects,
so a bad line keeps its own number and does not shift the others.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

import numpy as np
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
from etl.registry import Feed, Layout

BLOCK_BYTES: Final = 1 << 20
MAX_BAD_CHARACTERS: Final = 64 << 20
_HEADER_BYTES: Final = 1 << 16


class _Numbering:
    """Row and line numbers of good rows, given that the rows pyarrow skipped keep theirs."""

    def __init__(self, header_lines: int) -> None:
        self._header_lines = header_lines
        self._good = 0
        self._line_breaks = 0
        self.bad_rows: list[int] = []
        self.bad_texts: list[str] = []
        self._bad_breaks: list[int] = []
        self._broken_rows: list[tuple[Rows, Rows]] = []
        self.is_full = False
        self._room = MAX_BAD_CHARACTERS

    def skip(self, row: pa_csv.InvalidRow) -> str:
        """pyarrow's handler: note the line and go on, up to a bound."""
        if len(self.bad_rows) >= MAX_BAD_LINES:
            self.is_full = True
            return "error"
        text = row.text.rstrip("\r\n")
        self.bad_rows.append(row.number)
        kept = text[:MAX_RAW_CHARACTERS] if self._room > 0 else ""
        self._room -= len(kept)
        self.bad_texts.append(kept)
        self._bad_breaks.append(text.count("\n"))
        return "skip"

    def rows_of(self, count: int) -> Rows:
        """Row numbers of the next good rows: the j-th good row stands after all bad rows b_i with b_i - i < j."""
        ordinal = np.arange(self._good + 1, self._good + count + 1, dtype=np.int64)
        self._good += count
        if not self.bad_rows:
            return ordinal
        gaps = np.asarray(self.bad_rows, dtype=np.int64) - np.arange(len(self.bad_rows), dtype=np.int64)
        return ordinal + np.searchsorted(gaps, ordinal, side="right")

    def lines_of(self, rows: Rows, breaks: Rows | None) -> Rows:
        """Line numbers of good rows, `breaks` being the line breaks inside each of them (None: none)."""
        lines = rows + (self._header_lines + self._line_breaks)
        if breaks is not None:
            lines = lines + (np.cumsum(breaks) - breaks)
            self._line_breaks += int(breaks.sum())
            self._broken_rows.append((rows[breaks > 0], breaks[breaks > 0]))
        if any(self._bad_breaks):
            lines = lines + _sum_before(rows, self.bad_rows, self._bad_breaks)
        return lines

    def lines_at(self, rows: Rows) -> Rows:
        """Line numbers of any rows, once everything has been read."""
        lines = rows + self._header_lines + _sum_before(rows, self.bad_rows, self._bad_breaks)
        for good_rows, breaks in self._broken_rows:
            lines = lines + _sum_before(rows, good_rows, breaks)
        return lines


def _sum_before(rows: Rows, at: Sequence[int] | Rows, amounts: Sequence[int] | Rows) -> Rows:
    """For each row the sum of the amounts that stand at an earlier row (`at` ascending)."""
    total = np.concatenate(([0], np.cumsum(np.asarray(amounts, dtype=np.int64)))).astype(np.int64)
    return total[np.searchsorted(np.asarray(at, dtype=np.int64), rows, side="left")]


def read_delimited(
    raw: MeteredStream, member: str, feed: Feed, layout: Layout, *, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """Batches of the strings relation of one member; findings and counts go to `readout`.

    Raises UnreadableError (P104, P107). When a column is missing (P105) rows are counted but none is handed on.
    """
    decoding = decoding_for(layout)
    stream = Utf8Stream(raw, decoding, member)
    if not stream.peek(1) and (not layout.header or feed.accept.empty == "accepted"):
        return
    columns, header_lines = _columns(stream, decoding, member, layout, readout)
    readout.note_columns(columns)
    numbering = _Numbering(header_lines)
    is_usable = not any(finding.rule == "P105" for finding in readout.file_findings)
    blanks: list[Rows] = []
    last_row = 0
    for batch in _parse(stream, member, columns, layout, numbering):
        rows = numbering.rows_of(batch.num_rows)
        lines = numbering.lines_of(rows, _breaks(batch) if layout.quote != "none" else None)
        if stream.has_blank_lines and len(columns) > 1:
            batch, rows, lines, blank = _without_blanks(batch, rows, lines)
            blanks.append(blank)
        last_row = int(rows[-1]) if len(rows) else last_row
        texts = _decoded(batch, lines, member, decoding)
        if is_usable and len(rows):
            cells = {name: texts[place] for place, name in enumerate(columns) if name}
            yield frame(cells, layout, delivery_id=delivery_id, member=member, rows=rows, lines=lines)
    _conclude(numbering, blanks, last_row, member, decoding, readout)


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
    return [name.strip(" \t") for name in names], len(taken) or 1


def _header_reader(lines: Iterator[str], layout: Layout) -> Iterator[list[str]]:
    if layout.quote == "none":
        return csv.reader(lines, delimiter=layout.delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=layout.delimiter, quotechar=layout.quote)


def _noting(text: str, taken: list[str]) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        taken.append(line)
        yield line


def _parse(
    stream: Utf8Stream, member: str, columns: Sequence[str | None], layout: Layout, numbering: _Numbering
) -> Iterator[pa.RecordBatch]:
    if not stream.peek(1):
        return
    try:
        with closing(pa_csv.open_csv(stream, *_options(columns, layout, numbering))) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise _parse_problem(member, str(error), numbering) from None


def _options(
    columns: Sequence[str | None], layout: Layout, numbering: _Numbering
) -> tuple[pa_csv.ReadOptions, pa_csv.ParseOptions, pa_csv.ConvertOptions]:
    places = [str(place) for place in range(len(columns))]
    has_quotes = layout.quote != "none"
    return (
        pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=places),
        pa_csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char=layout.quote if has_quotes else False,
            double_quote=has_quotes,
            escape_char=False,
            newlines_in_values=has_quotes,
            ignore_empty_lines=False,
            invalid_row_handler=numbering.skip,
        ),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False, null_values=[], check_utf8=False
        ),
    )


def _parse_problem(member: str, problem: str, numbering: _Numbering) -> UnreadableError:
    if numbering.is_full:
        zh = f"超过 {MAX_BAD_LINES} 行字段个数不符"
        en = f"more than {MAX_BAD_LINES} lines with a wrong number of fields"
        return broken(member, zh, en, "检查分隔符是否为约定的字符")
    if "straddling" in problem:
        mib = BLOCK_BYTES >> 20
        zh = f"有超过 {mib} MiB 的行（引号不成对或换行符缺失）"
        en = f"a line of more than {mib} MiB (unbalanced quote, or no line breaks)"
        return broken(member, zh, en, "检查引号是否成对、换行符是否存在")
    return broken(member, "无法按约定的分隔格式解析", "it cannot be parsed as agreed", "检查分隔符、引号与换行符")


def _breaks(batch: pa.RecordBatch) -> Rows | None:
    """Line breaks inside the cells of each row; None when there are none, which is seen from the bytes at once."""
    found = [column for column in batch.columns if _has_break(column)]
    if not found:
        return None
    counts = [pc.count_substring_regex(column, "\r\n|\r|\n").to_numpy(zero_copy_only=False) for column in found]
    return np.sum(counts, axis=0, dtype=np.int64)  # type: ignore[no-any-return]


def _has_break(column: pa.Array) -> bool:
    data = column.buffers()[2]
    octets = data.to_pybytes() if data is not None else b""
    return b"\n" in octets or b"\r" in octets


def _without_blanks(batch: pa.RecordBatch, rows: Rows, lines: Rows) -> tuple[pa.RecordBatch, Rows, Rows, Rows]:
    """The batch without its blank lines, and their row numbers: pyarrow reads a blank line as a row of empty cells."""
    is_blank = np.ones(batch.num_rows, dtype=bool)
    for column in batch.columns:
        is_blank &= pc.equal(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
        if not is_blank.any():
            return batch, rows, lines, rows[:0]
    return batch.filter(pa.array(~is_blank)), rows[~is_blank], lines[~is_blank], rows[is_blank]


def _decoded(batch: pa.RecordBatch, lines: Rows, member: str, decoding: Decoding) -> list[pa.Array]:
    """The columns as text. Raises UnreadableError (P104) with the line of the first cell that is not."""
    try:
        return [decoding.column(column) for column in batch.columns]
    except UnicodeDecodeError:
        line = min(_first_undecodable(column, lines, decoding) for column in batch.columns)
        raise undecodable(member, line, decoding) from None


def _first_undecodable(column: pa.Array, lines: Rows, decoding: Decoding) -> int:
    for line, text in zip(lines, column.to_pylist(), strict=True):
        try:
            decoding.cell(text)
        except UnicodeDecodeError:
            return int(line)
    return sys.maxsize


def _conclude(
    numbering: _Numbering, blanks: list[Rows], last_row: int, member: str, decoding: Decoding, readout: Readout
) -> None:
    """Bad lines become P201, blank lines too unless nothing follows them; those at the end are no rows."""
    readout.rows_read = max([last_row, *numbering.bad_rows[-1:]])
    lines = numbering.lines_at(np.asarray(numbering.bad_rows, dtype=np.int64))
    found = []
    for row, line, text in zip(numbering.bad_rows, lines, numbering.bad_texts, strict=True):
        found.append(bad_line(member, row, int(line), _line_text(text, int(line), member, decoding)))
    blank_rows = np.concatenate(blanks) if blanks else np.empty(0, np.int64)
    inside = blank_rows[blank_rows < readout.rows_read]
    blank_lines = numbering.lines_at(inside)
    found += [bad_line(member, int(row), int(line), "") for row, line in zip(inside, blank_lines, strict=True)]
    readout.row_findings += sorted(found, key=lambda finding: finding.row)


def _line_text(text: str, line: int, member: str, decoding: Decoding) -> str:
    is_cut = len(text) == MAX_RAW_CHARACTERS  # perhaps inside a character
    try:
        return decoding.cell(text, "ignore" if is_cut else "strict")
    except UnicodeDecodeError:
        raise undecodable(member, line, decoding) from None
