"""Read a delivery of any format into strings: the one place that knows which reader serves which format."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from etl.findings import UNREADABLE_RULES, FileFinding, unreadable
from etl.intake import package
from etl.intake.decoding import damaged, read_raw
from etl.intake.delimited import read_delimited
from etl.intake.fixed_width import read_fixed_width
from etl.intake.json_lines import read_json_lines
from etl.intake.package import Member, MeteredStream, check_promise
from etl.intake.pulled import read_pulled
from etl.intake.strings import Readout, Strings, UnreadableError, strings_schema
from etl.intake.trailer import Control
from etl.intake.workbook import MAX_FILE_BYTES, read_workbook
from etl.registry import Feed, Layout

_ROWS_UNKNOWN = UNREADABLE_RULES | {"P105", "P123"}
_Reader = Callable[..., Iterator[pa.RecordBatch]]
_SEQUENTIAL: dict[str, _Reader] = {
    "delimited": read_delimited,
    "fixed_width": read_fixed_width,
    "json_lines": read_json_lines,
}
_SEEKING: dict[str, _Reader] = {"workbook": read_workbook, "database": read_pulled}


@dataclass
class Reading:
    """A delivery being read: `pieces` gives its rows once, `result` what became known of it after the last piece."""

    package: package.Package
    feed: Feed
    layout: Layout
    delivery_id: str
    readout: Readout = field(default_factory=Readout)

    def pieces(self, max_rows: int) -> Iterator[pa.Table]:
        """The strings relation in pieces of about `max_rows` rows of one member each; none for a broken package.

        Whoever takes pieces must discard them when `result` has file findings: those rows are not what was meant.
        """
        if unreadable(self.package.findings):
            return
        for member in self.package.members:
            yield from _pieces(read_batches([member], self.feed, self.layout, self.delivery_id, self.readout), max_rows)

    def result(self, table: pa.Table | None = None) -> Strings:
        """The delivery with its findings and those of its rows that are still wanted; no row of an unreadable one."""
        nothing = strings_schema(self.layout).empty_table()
        findings = [*self.package.findings, *self.readout.file_findings]
        if any(finding.rule in _ROWS_UNKNOWN for finding in findings):
            rows_read = 0 if unreadable(findings) else self.readout.rows_read
            return Strings(nothing, rows_read, findings, [], self.readout.column_no)
        rows = nothing if table is None else table
        return Strings(rows, self.readout.rows_read, findings, self.readout.row_findings, self.readout.column_no)


def _pieces(batches: Iterator[pa.RecordBatch], max_rows: int) -> Iterator[pa.Table]:
    """Batches gathered, or cut, to pieces of up to twice `max_rows` rows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        for start in range(0, batch.num_rows, max_rows):
            held.append(batch.slice(start, max_rows))
            if sum(each.num_rows for each in held) >= max_rows:
                yield pa.Table.from_batches(held)
                held = []
    if held:
        yield pa.Table.from_batches(held)


@contextmanager
def open_delivery(
    delivery_file: BinaryIO,
    name: str,
    feed: Feed,
    layout: Layout,
    delivery_id: str,
    *,
    sidecar: bytes | None = None,
    sha256: str | None = None,
    keyring: Path | None = None,
    scratch: Path | None = None,
    others: Sequence[tuple[BinaryIO, str]] = (),
) -> Iterator[Reading]:
    """Look into a delivery's package; its rows are read when they are asked for.

    `delivery_file` is the landed file (seekable), `name` the supplier's name for it; `sidecar` and `sha256` serve the
    package kind `sidecar`, `keyring` (the GnuPG home with the county's key) and `scratch` (a private folder) the kinds
    that are unpacked; `others` are further files, with their names, that came with it as parts of one delivery. Faults
    of the supplier's bytes are findings; a fault of our copy raises LandingDamagedError, a key or program that is
    missing here ConfigurationError.
    """
    opened = package.members(
        delivery_file, feed, name, sidecar=sidecar, sha256=sha256, keyring=keyring, scratch=scratch
    )
    opened.members.extend(package.whole(file, part) for file, part in others)
    with closing(opened):
        yield Reading(opened, feed, layout, delivery_id)


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
    control = Control(layout)
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(member.open_raw())
        except package.BROKEN_ZIP as error:
            readout.file_findings.append(damaged(member.name, error).finding)
            return
        stream = stack.enter_context(MeteredStream(raw, with_md5=member.promise is not None))
        reader = (_SEEKING | _SEQUENTIAL)[layout.format]
        try:
            source = _seekable(raw, member.name) if layout.format in _SEEKING else stream
            for batch in reader(source, member.name, feed, layout, delivery_id=delivery_id, readout=readout):
                control.add(batch)
                yield batch
            readout.file_findings += _kept_control(control, member, feed, readout, stream.size_bytes)
        except UnreadableError as error:
            stops.append(error.finding)
        readout.file_findings += stops
        is_whole = not any(finding.rule == "P107" for finding in stops)
        if layout.format in _SEQUENTIAL and is_whole:
            readout.file_findings += _kept_promise(member, stream, None if stops else readout.rows_read)
    if stops:
        readout.rows_read = 0


def _seekable(raw: BinaryIO, member: str) -> BinaryIO:
    """The member itself, or what a package gives of it in memory; raises UnreadableError (P107) when it is damaged."""
    if raw.seekable():
        return raw
    content = bytearray()
    with MeteredStream(raw, with_md5=False) as stream:
        while len(content) <= MAX_FILE_BYTES and (block := read_raw(stream, member, package.READ_BYTES)):
            content += block
    return io.BytesIO(content)


def _kept_control(control: Control, member: Member, feed: Feed, readout: Readout, size_bytes: int) -> list[FileFinding]:
    """The trailer against the rows; where columns are missing nobody can tell, and a legal empty file has none."""
    is_empty_by_right = size_bytes == 0 and readout.rows_read == 0 and feed.accept.empty == "accepted"
    is_unknown = any(finding.rule in _ROWS_UNKNOWN for finding in readout.file_findings)
    return [] if is_empty_by_right or is_unknown else control.findings(member.name, readout)


def _kept_promise(member: Member, stream: MeteredStream, rows_read: int | None) -> list[FileFinding]:
    """Compare with the log; after a stop the rest is read so that MD5 and size are those of the whole member."""
    if member.promise is None:
        return []
    try:
        stream.drain()
    except package.BROKEN_ZIP:
        return []
    return check_promise(member, stream, rows_read)
