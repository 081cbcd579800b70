"""Read a delivery of any format into strings: the one place that knows which reader serves which format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

import pyarrow as pa

from etl.findings import UNREADABLE_RULES, FileFinding, unreadable
from etl.intake import package
from etl.intake.database import read_pulled
from etl.intake.delimited import read_delimited
from etl.intake.json_lines import read_json_lines
from etl.intake.package import Member, MeteredStream, check_promise
from etl.intake.strings import Readout, Strings, UnreadableError, broken, strings_schema
from etl.intake.workbook import read_workbook
from etl.registry import Feed, Layout

_ROWS_UNKNOWN = UNREADABLE_RULES | {"P105"}
_Reader = Callable[..., Iterator[pa.RecordBatch]]
_SEQUENTIAL: dict[str, _Reader] = {"delimited": read_delimited, "json_lines": read_json_lines}
_SEEKING: dict[str, _Reader] = {"workbook": read_workbook, "database": read_pulled}


def read_delivery(
    delivery_file: BinaryIO,
    name: str,
    feed: Feed,
    layout: Layout,
    delivery_id: str,
    *,
    sidecar: bytes | None = None,
    sha256: str | None = None,
) -> Strings:
    """A whole delivery as strings, with the findings of its package, its members and its lines.

    `delivery_file` is the landed file (seekable), `name` the supplier's name for it; `sidecar` and `sha256` serve the
    package kind `sidecar`. Faults of the supplier's bytes are findings; a fault of our copy raises LandingDamagedError.
    """
    opened = package.members(delivery_file, feed, name, sidecar=sidecar, sha256=sha256)
    if unreadable(opened.findings):
        return Strings(strings_schema(layout).empty_table(), 0, opened.findings, [])
    read = read_strings(opened.members, feed, layout, delivery_id)
    return replace(read, file_findings=opened.findings + read.file_findings)


def read_strings(members: Sequence[Member], feed: Feed, layout: Layout, delivery_id: str) -> Strings:
    """The members of a delivery as one table. Rows are numbered within each member; members keep their order."""
    readout = Readout()
    table = pa.Table.from_batches(
        list(read_batches(members, feed, layout, delivery_id, readout)), strings_schema(layout)
    )
    if any(finding.rule in _ROWS_UNKNOWN for finding in readout.file_findings):
        rows_read = 0 if unreadable(readout.file_findings) else readout.rows_read
        return Strings(table.slice(0, 0), rows_read, readout.file_findings, [], readout.column_no)
    return Strings(table, readout.rows_read, readout.file_findings, readout.row_findings, readout.column_no)


def read_batches(
    members: Sequence[Member], feed: Feed, layout: Layout, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """The same as a stream of batches, for files larger than memory.

    `readout` is complete only after the last batch. Whoever streams must discard what was taken when `readout` ends
    with P101, P102, P104, P105 or P107: those rows are not what the supplier meant.
    """
    for member in members:
        read = Readout()
        yield from _read_member(member, feed, layout, delivery_id, read)
        readout.rows_read += read.rows_read
        readout.file_findings += read.file_findings
        readout.row_findings += read.row_findings
        readout.column_no = read.column_no


def _read_member(
    member: Member, feed: Feed, layout: Layout, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    stops: list[FileFinding] = []
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(member.open_raw())
        except package.BROKEN_ZIP as error:  # its own header says otherwise than the directory
            en = f"the zip is damaged ({type(error).__name__})"
            readout.file_findings.append(broken(member.name, "压缩包内容损坏", en, "重新压缩后再报送").finding)
            return
        if layout.format in _SEEKING:
            stream: BinaryIO | MeteredStream = raw
        else:
            stream = stack.enter_context(MeteredStream(raw, with_md5=member.promise is not None))
        reader = (_SEEKING | _SEQUENTIAL)[layout.format]
        try:
            yield from reader(stream, member.name, feed, layout, delivery_id=delivery_id, readout=readout)
        except UnreadableError as error:
            stops.append(error.finding)
        readout.file_findings += stops
        is_whole = not any(finding.rule == "P107" for finding in stops)
        if isinstance(stream, MeteredStream) and is_whole:
            readout.file_findings += _kept_promise(member, stream, None if stops else readout.rows_read)
    if stops:
        readout.rows_read = 0


def _kept_promise(member: Member, stream: MeteredStream, rows_read: int | None) -> list[FileFinding]:
    """Compare with the log; after a stop the rest is read so that MD5 and size are those of the whole member."""
    if member.promise is None:
        return []
    try:
        stream.drain()
    except package.BROKEN_ZIP:
        return []
    return check_promise(member, stream, rows_read)
