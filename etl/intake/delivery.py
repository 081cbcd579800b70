"""Land: copy a supplier's bytes while hashing them, encrypted, write-once, and read the copy back before it counts.

The supplier's file is only ever opened for reading: never renamed, linked, locked or touched. A file that changes while
it is copied is refused, so that the hash in the receipt is the hash of what the supplier meant to send.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from etl.intake.drops import Drops, Zone
from etl.intake.sealing import (
    FRAME_BYTES,
    LandedPart,
    LandingDamagedError,
    PartFile,
    SealedReader,
    SealedWriter,
    create_master_key,
    read_master_key,
)
from etl.vocabulary import CreditVillageError, DataError

_BUFFER_BYTES = 1 << 18
PartWriter = Callable[[BinaryIO], None]
_Digest = Any


@dataclass(frozen=True)
class Landed:
    """What the ledger keeps of a landing.

    `sha256` and `size_bytes` are those of the supplier's file without the parts beside it; of a pull, or of several files
    that are one delivery, of all parts.
    """

    path: Path
    sha256: str
    size_bytes: int
    wrapped_key: bytes
    parts: tuple[LandedPart, ...]


class SourceChangedError(DataError):
    """The supplier's file is not (or no longer) what the scan saw."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}", "leave it in the drop zone; the next scan takes it when it is complete")


def land(
    address: str,
    parts: Sequence[str],
    folder: Path,
    master_key_file: Path,
    *,
    delivery_id: str,
    size_bytes: int | None = None,
    mtime_ns: int | None = None,
    is_bundle: bool = False,
    owner: str = "",
    drops: Drops | None = None,
) -> Landed:
    """Land a file of a drop zone of `owner` and the parts beside it (any fsspec addresses).

    `size_bytes` and `mtime_ns` are what the scan saw, of a bundle (whose parts are data like the file itself) the sum
    and the newest; another size or time before or after the copy raises
    SourceChangedError. Raises LandingDamagedError when the copy does not read back with the same hash, and
    DropUnreachableError when a remote zone does not answer.
    """
    zone, main = (drops or Drops()).zone_of_file(owner, address)
    names = [main, *(part.rpartition("/")[2] for part in parts)]
    try:
        counted = names if is_bundle else [main]
        before = _signature(zone, counted)
        _require_unchanged(main, before, size_bytes, mtime_ns)
        writers = [(name, _copier(zone, name)) for name in names]
        landed = land_written(writers, folder, master_key_file, delivery_id=delivery_id, hash_all_parts=is_bundle)
        if _signature(zone, counted) != before or landed.size_bytes != before[0]:
            landed.path.unlink()
            raise SourceChangedError(main, "it changed while it was copied")
        return landed
    finally:
        zone.close()


def land_written(
    writers: Sequence[tuple[str, PartWriter]],
    folder: Path,
    master_key_file: Path,
    *,
    delivery_id: str,
    hash_all_parts: bool = False,
) -> Landed:
    """Land parts that are written by functions, as one write-once file named by its SHA-256 and the delivery.

    Each function gets a file open for writing and nothing it writes touches a disk unencrypted. The hash is that of the
    first part, or of all parts joined where a delivery is the sum of its parts (a pull). Raises LandingDamagedError
    when the copy does not read back with the same hashes.
    """
    master = create_master_key(master_key_file)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = folder / f".{delivery_id}.{secrets.token_hex(4)}.part"
    try:
        sealed = _seal_all(writers, temporary, master)
        sha256 = sealed.sha256_of_all if hash_all_parts else sealed.parts[0].sha256
        path = _final_path(folder, sha256, delivery_id, sealed.mark)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    verify_landed(path, sealed.wrapped_key, master)
    size_bytes = sum(part.size for part in sealed.parts) if hash_all_parts else sealed.parts[0].size
    return Landed(path, sha256, size_bytes, sealed.wrapped_key, tuple(sealed.parts))


def remove_leftovers(folder: Path, delivery_id: str) -> None:
    """Erase what landings of a delivery left behind that died before the ledger knew of them: nobody has their keys."""
    for leftover in (*folder.glob(f".{delivery_id}.*.part"), *folder.glob(f"??/*.{delivery_id}.*.landed")):
        leftover.unlink(missing_ok=True)


def open_landed(path: Path, wrapped_key: bytes, master: bytes | Path, *, part: int = 0) -> BinaryIO:
    """One part of a landed file, decrypted as it is read: binary, buffered, seekable. Raises LandingDamagedError."""
    reader = SealedReader(path, wrapped_key, _master_bytes(master))
    try:
        chosen = reader.parts[part]
    except IndexError:
        reader.close()
        raise LandingDamagedError(path, f"has no part {part + 1}") from None
    return io.BufferedReader(PartFile(reader, chosen), _BUFFER_BYTES)


def landed_parts(path: Path, wrapped_key: bytes, master: bytes | Path) -> tuple[LandedPart, ...]:
    """Names, sizes and hashes of the parts of a landed file. Raises LandingDamagedError."""
    reader = SealedReader(path, wrapped_key, _master_bytes(master))
    reader.close()
    return reader.parts


def _signature(zone: Zone, names: Sequence[str]) -> tuple[int, int]:
    """Bytes of all files and the newest modification time in ns; raises SourceChangedError when one is gone."""
    signatures = [_signature_of_one(zone, name) for name in names]
    return sum(size for size, _ in signatures), max(time for _, time in signatures)


def _signature_of_one(zone: Zone, name: str) -> tuple[int, int]:
    try:
        return zone.signature(name)
    except FileNotFoundError:
        raise SourceChangedError(name, "it is no longer there") from None


def _require_unchanged(name: str, now: tuple[int, int], size_bytes: int | None, mtime_ns: int | None) -> None:
    if size_bytes is not None and now[0] != size_bytes:
        raise SourceChangedError(name, f"it has {now[0]} bytes, the scan saw {size_bytes}")
    if mtime_ns is not None and now[1] != mtime_ns:
        raise SourceChangedError(name, "it was written again after the scan")


class _PartSink(io.RawIOBase):
    """A write-only file that hashes and seals what is written to it."""

    def __init__(self, writer: SealedWriter, whole: _Digest) -> None:
        super().__init__()
        self._writer, self._whole = writer, whole
        self._offset, self._digest = writer.position, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._writer.position - self._offset

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        octets = memoryview(data).cast("B")
        self._digest.update(octets)
        if self._whole is not None:
            self._whole.update(octets)
        self._writer.write(octets)
        return len(octets)

    def part(self, name: str) -> LandedPart:
        return LandedPart(name, self._offset, self.tell(), self._digest.hexdigest())


@dataclass(frozen=True)
class _Sealed:
    parts: list[LandedPart]
    wrapped_key: bytes
    sha256_of_all: str
    mark: str


def _copier(zone: Zone, name: str) -> PartWriter:
    def write(sink: BinaryIO) -> None:
        with opened(zone, name) as source:
            while chunk := source.read(FRAME_BYTES):
                sink.write(chunk)

    return write


def opened(zone: Zone, name: str) -> BinaryIO:
    """The file, open for reading; raises SourceChangedError when it is gone, a link, or no regular file."""
    try:
        return zone.open(name)
    except OSError as error:
        if isinstance(error, CreditVillageError):  # the zone, not the file
            raise
        raise SourceChangedError(name, f"it cannot be opened ({type(error).__name__})") from None


def _seal_all(writers: Sequence[tuple[str, PartWriter]], temporary: Path, master: bytes) -> _Sealed:
    whole = hashlib.sha256() if len(writers) > 1 else None
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        writer = SealedWriter(file)
        parts = [_seal_part(writer, whole, name, write) for name, write in writers]
        wrapped_key = writer.finish(parts, master)
        file.flush()
        os.fsync(file.fileno())
    sha256_of_all = whole.hexdigest() if whole is not None else parts[0].sha256
    return _Sealed(parts, wrapped_key, sha256_of_all, writer.prefix.hex()[:8])


def _seal_part(writer: SealedWriter, whole: _Digest, name: str, write: PartWriter) -> LandedPart:
    sink = _PartSink(writer, whole)
    write(cast(BinaryIO, sink))
    return sink.part(name)


def _final_path(folder: Path, sha256: str, delivery_id: str, mark: str) -> Path:
    """Named by content and delivery; the mark keeps a landing repeated after a crash from overwriting the first."""
    shelf = folder / sha256[:2]
    shelf.mkdir(exist_ok=True, mode=0o700)
    return shelf / f"{sha256}.{delivery_id}.{mark}.landed"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify_landed(path: Path, wrapped_key: bytes, master: bytes | Path) -> None:
    """Read every part of a landed file back; raises LandingDamagedError when one is not what was landed."""
    with _closing(SealedReader(path, wrapped_key, _master_bytes(master))) as reader, ExitStack() as stack:
        for part in reader.parts:
            file = io.BufferedReader(PartFile(reader, part), _BUFFER_BYTES)
            stack.callback(file.close)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != part.sha256:
                raise LandingDamagedError(path, f"part {part.name} reads back with another hash")


@contextmanager
def _closing(reader: SealedReader) -> Iterator[SealedReader]:
    try:
        yield reader
    finally:
        reader.close()


def _master_bytes(master: bytes | Path) -> bytes:
    return read_master_key(master) if isinstance(master, Path) else master
