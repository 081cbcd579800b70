"""Bounded samples of what was landed: the beginning, the end, and the first place that is not plain ASCII.

Whatever the size of a file, at most SCAN_BYTES of a member are read and HEAD_BYTES + TAIL_BYTES + WINDOW_BYTES kept.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from etl.intake import package
from etl.intake.package import BROKEN_ZIP, Member, Promise
from etl.registry import Feed

SCAN_BYTES: Final = 16 << 20
HEAD_BYTES: Final = 256 << 10
TAIL_BYTES: Final = 64 << 10
WINDOW_BYTES: Final = 64 << 10
_READ_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class Sample:
    """Pieces of one member, or of a package that cannot be opened (`is_member` false).

    `is_whole`: the scan reached its end, so that size and line count are the member's. `tail` is empty where the end
    cannot be reached without unpacking everything before it.
    """

    member: str
    head: bytes
    tail: bytes
    window: bytes
    size_bytes: int
    line_ends: int
    is_whole: bool
    promise: Promise | None = None
    is_member: bool = True

    @property
    def is_all_head(self) -> bool:
        return self.is_whole and self.size_bytes <= len(self.head)


def sample_delivery(
    open_landed: Callable[[], BinaryIO], name: str, feed: Feed, *, keyring: Path | None, scratch: Path | None
) -> list[Sample]:
    """Samples of every member, or of the file itself where its package cannot be opened."""
    with open_landed() as file, closing(package.members(file, feed, name, keyring=keyring, scratch=scratch)) as opened:
        if opened.members:
            return [sample_member(member) for member in opened.members]
        file.seek(0)
        return [replace(_scan(file, name, None), is_member=False)]


def sample_member(member: Member) -> Sample:
    """A sample of one member; what cannot be unpacked ends the scan."""
    try:
        with closing(member.open_raw()) as raw:
            return _scan(raw, member.name, member.promise)
    except BROKEN_ZIP:
        return Sample(member.name, b"", b"", b"", 0, 0, is_whole=False, promise=member.promise)


def _scan(raw: BinaryIO, member: str, promise: Promise | None) -> Sample:
    head, tail, window, size, line_ends, is_whole = b"", b"", b"", 0, 0, False
    while size < SCAN_BYTES:
        chunk = _next(raw)
        if not chunk:
            is_whole = chunk is not None
            break
        head += chunk[: HEAD_BYTES - len(head)]
        window = _grown(window, tail, chunk)
        tail = (tail + chunk)[-TAIL_BYTES:]
        size += len(chunk)
        line_ends += chunk.count(b"\n")
    tail = tail if is_whole else _end_of(raw)
    return Sample(member, head, tail, window, size, line_ends, is_whole, promise)


def _end_of(raw: BinaryIO) -> bytes:
    """The last bytes of a file that can be sought; inside a zip that would mean to unpack it all."""
    if isinstance(raw, zipfile.ZipExtFile) or not raw.seekable():
        return b""
    raw.seek(max(raw.seek(0, io.SEEK_END) - TAIL_BYTES, 0))
    return raw.read(TAIL_BYTES)


def _next(raw: BinaryIO) -> bytes | None:
    """The next chunk; None when it cannot be unpacked."""
    try:
        return raw.read(_READ_BYTES)
    except BROKEN_ZIP:
        return None


def _grown(window: bytes, before: bytes, chunk: bytes) -> bytes:
    """The window, opened at the start of the first line that is not plain ASCII."""
    if window:
        return window + chunk[: WINDOW_BYTES - len(window)]
    if chunk.isascii():
        return b""
    at = len(chunk) - len(chunk.lstrip(bytes(range(128))))
    start = chunk.rfind(b"\n", 0, at) + 1
    lead = before[before.rfind(b"\n") + 1 :] if start == 0 else b""
    return (lead + chunk[start:])[:WINDOW_BYTES]
