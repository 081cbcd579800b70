"""Read JSON Lines into strings: one flat object per line; numbers keep the text they were written in.

Made for the files of villages and towns (thousands of lines): it takes the lines one by one, within bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import numpy as np
import pyarrow as pa

from etl.intake.decoding import Utf8Stream, whole_text
from etl.intake.package import READ_BYTES, MeteredStream
from etl.intake.strings import MAX_BAD_LINES, Readout, bad_line, broken, classify, frame
from etl.registry import Feed, Layout

MAX_LINE_BYTES: Final = 1 << 20
BATCH_ROWS: Final = 50_000
_WORDS: Final = {None: "", True: "true", False: "false"}
Cells = dict[str, str]


def read_json_lines(
    raw: MeteredStream, member: str, feed: Feed, layout: Layout, *, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """Batches of the strings relation. A key that is absent is an empty cell, an unknown key P106, a bad line P201.

    Raises UnreadableError: P104, P107 (a line beyond MAX_LINE_BYTES, more than MAX_BAD_LINES bad lines).
    """
    columns = {source: name for source, name in layout.source_to_canonical.items() if source not in layout.ignore}
    strange: dict[str, None] = {}
    pending: list[tuple[int, Cells]] = []
    for row, line in _numbered(Utf8Stream(raw, whole_text(layout.encoding), member), member):
        readout.rows_read = row
        cells = _parse(line)
        if cells is None:
            _note_bad(member, row, line, readout)
            continue
        strange.update(dict.fromkeys(key for key in cells if key not in columns and key not in layout.ignore))
        pending.append((row, cells))
        if len(pending) == BATCH_ROWS:
            yield _batch(pending, columns, layout, delivery_id, member)
            pending = []
    if strange:
        readout.file_findings += _unknown_keys([*columns, *strange], layout, member)
    if pending:
        yield _batch(pending, columns, layout, delivery_id, member)


def _unknown_keys(keys: list[str], layout: Layout, member: str) -> list[Any]:
    return [finding for finding in classify(keys, layout, member)[1] if finding.rule == "P106"]


def _numbered(stream: Utf8Stream, member: str) -> Iterator[tuple[int, bytes]]:
    """Line number and bytes of each line; empty lines at the end are none."""
    blank: list[int] = []
    for number, line in enumerate(_lines(stream, member), start=1):
        text = line.rstrip(b"\r")
        if not text:
            blank.append(number)
            continue
        yield from ((missing, b"") for missing in blank)
        blank = []
        yield number, text


def _lines(stream: Utf8Stream, member: str) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(READ_BYTES):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
        if len(rest) > MAX_LINE_BYTES:
            raise broken(member, "有过长的行", "a line is too long", "每行写一个 JSON 对象")
    if rest:
        yield rest


def _parse(line: bytes) -> Cells | None:
    """The cells of one line, or None when it is not one flat JSON object with each key once."""
    try:
        content = json.loads(
            line, parse_int=str, parse_float=str, parse_constant=_refuse, object_pairs_hook=_flat_object
        )
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _flat_object(pairs: list[tuple[str, Any]]) -> Cells:
    cells = {key: _cell(value) for key, value in pairs}
    if len(cells) != len(pairs):
        raise ValueError("a key twice")
    return cells


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        raise ValueError("a nested value")
    return _WORDS[value]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _note_bad(member: str, row: int, line: bytes, readout: Readout) -> None:
    if len(readout.row_findings) >= MAX_BAD_LINES:
        raise broken(member, "无法解析的行过多", "too many lines are not JSON", "每行写一个 JSON 对象")
    readout.row_findings.append(bad_line(member, row, row, line.decode("utf-8", "replace")))


def _batch(
    pending: list[tuple[int, Cells]], columns: dict[str, str], layout: Layout, delivery_id: str, member: str
) -> pa.RecordBatch:
    rows = np.fromiter((row for row, _ in pending), dtype=np.int64, count=len(pending))
    cells = {
        name: pa.array([entry.get(source, "") for _, entry in pending], pa.string()) for source, name in columns.items()
    }
    return frame(cells, layout, delivery_id=delivery_id, member=member, rows=rows, lines=rows)
