"""The encrypted container of landed bytes: framed AES-256-GCM, one key per delivery, readable from any position.

Layout: header (magic, frame size, nonce prefix) | frames of 1 MiB | index frame | length of the index frame. Every
frame is authenticated together with the header, its number and whether it is the index, so that a frame changed, moved,
repeated or cut off is noticed. The index (JSON) says which parts lie where and what their SHA-256 is. The key of a
delivery is random and stored only wrapped by the master key; destroying the wrapped key deletes the delivery for good
(DESIGN section 9.8). The framing follows the STREAM construction (Hoang et al. 2015): nonce = random prefix + counter.
"""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from etl.vocabulary import ConfigurationError, DataError

FRAME_BYTES = 1 << 20
_MAGIC = b"CVLAND01"
_HEADER = struct.Struct(">8sI8s")
_FOOTER = struct.Struct(">I")
_TAG_BYTES = 16
_NONCE_BYTES = 12
_KEY_BYTES = 32
_MAX_INDEX_BYTES = 1 << 20
_CACHED_FRAMES = 4
_MASTER_MEND = "restore the master key from the county's safe; without it no landed file can be read"


class LandingDamagedError(DataError):
    """A landed file is not what was written: changed, truncated, or opened with another key."""

    def __init__(self, path: Path, problem: str) -> None:
        mend = "restore it from backup, or ask the supplier to send it again"
        super().__init__(f"landed file {path.name}: {problem}", mend)


@dataclass(frozen=True)
class LandedPart:
    """One file of a delivery inside the container; offsets and sizes in bytes of plain text."""

    name: str
    offset: int
    size: int
    sha256: str


def create_master_key(path: Path) -> bytes:
    """The 32 bytes of the master key, written with mode 0600 if there is none yet."""
    if not path.exists():
        _write_key_once(path)
    return read_master_key(path)


def read_master_key(path: Path) -> bytes:
    """Read the master key; raises ConfigurationError when it is absent, malformed or readable by others."""
    try:
        mode = path.stat().st_mode & 0o077
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(path, "master key", f"unreadable ({type(error).__name__})", _MASTER_MEND) from None
    if mode:
        raise ConfigurationError(path, "master key", "readable by other users", f"run: chmod 600 {path}")
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(path, "master key", f"{len(key)} bytes instead of {_KEY_BYTES}", _MASTER_MEND)
    return key


def _write_key_once(path: Path) -> None:
    """Linking a finished temporary file makes the key appear whole, and only for the first of two processes."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def wrap_key(key: bytes, master: bytes, header: bytes) -> bytes:
    """The delivery's key under the master key, bound to the header of its file (60 bytes)."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(master).encrypt(nonce, key, header)


def _unwrap_key(wrapped: bytes, master: bytes, header: bytes, path: Path) -> bytes:
    try:
        return AESGCM(master).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], header)
    except (InvalidTag, ValueError):
        raise LandingDamagedError(path, "its key does not open it (another master key, or another file)") from None


def seal_text(text: str, master: bytes, bound_to: str) -> bytes:
    """A short text under the master key, bound to the name of what it belongs to."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(master).encrypt(nonce, text.encode(), bound_to.encode())


def open_text(sealed: bytes, master: bytes, bound_to: str) -> str:
    """The text again; raises DataError when another key, or another owner's name, is tried."""
    try:
        plain = AESGCM(master).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode())
    except (InvalidTag, ValueError):
        raise DataError(f"text of {bound_to}: its key does not open it", _MASTER_MEND) from None
    return plain.decode()


def _bound(header: bytes, number: int, *, is_index: bool) -> bytes:
    return header + struct.pack(">QB", number, is_index)


class SealedWriter:
    """Encrypts parts one after another into a file opened for writing; `finish` completes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._cipher = AESGCM(self._key)
        self.prefix = secrets.token_bytes(8)
        self.header = _HEADER.pack(_MAGIC, FRAME_BYTES, self.prefix)
        self._pending = bytearray()
        self._frames = 0
        self.position = 0
        file.write(self.header)

    def write(self, data: bytes | memoryview) -> None:
        self.position += len(data)
        if not self._pending and len(data) == FRAME_BYTES:
            self._seal(data)
            return
        self._pending += data
        while len(self._pending) >= FRAME_BYTES:
            self._seal(bytes(self._pending[:FRAME_BYTES]))
            del self._pending[:FRAME_BYTES]

    def finish(self, parts: Sequence[LandedPart], master: bytes) -> bytes:
        """Write the index and return the wrapped key."""
        if self._pending:
            self._seal(bytes(self._pending))
        index = json.dumps({"bytes": self.position, "parts": [asdict(part) for part in parts]}).encode()
        sealed = self._seal(index, is_index=True)
        self._file.write(_FOOTER.pack(sealed))
        return wrap_key(self._key, master, self.header)

    def _seal(self, data: bytes | bytearray | memoryview, *, is_index: bool = False) -> int:
        nonce = self.prefix + struct.pack(">I", self._frames)
        sealed = self._cipher.encrypt(nonce, data, _bound(self.header, self._frames, is_index=is_index))
        self._file.write(sealed)
        self._frames += 1
        return len(sealed)


class SealedReader:
    """Random access to the plain text of a landed file; holds a few decrypted frames. Raises LandingDamagedError."""

    def __init__(self, path: Path, wrapped_key: bytes, master: bytes) -> None:
        self.path = path
        self._file = _open_for_reading(path)
        try:
            self._header = self._file.read(_HEADER.size)
            self._prefix = _parse_header(self._header, path)
            self._cipher = AESGCM(_unwrap_key(wrapped_key, master, self._header, path))
            self.parts, self.size = self._read_index()
        except BaseException:
            self._file.close()
            raise
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def _read_index(self) -> tuple[tuple[LandedPart, ...], int]:
        end = self._file.seek(0, os.SEEK_END) - _FOOTER.size
        if end < _HEADER.size:
            raise LandingDamagedError(self.path, "truncated")
        self._file.seek(end)
        (length,) = _FOOTER.unpack(self._file.read(_FOOTER.size))
        data_bytes = end - length - _HEADER.size
        if length > _MAX_INDEX_BYTES or data_bytes < 0:
            raise LandingDamagedError(self.path, "truncated or its index is damaged")
        self._frames = -(-data_bytes // (FRAME_BYTES + _TAG_BYTES))
        self._file.seek(end - length)
        index = json.loads(self._open(self._file.read(length), self._frames, is_index=True))
        if index["bytes"] != data_bytes - self._frames * _TAG_BYTES:
            raise LandingDamagedError(self.path, "its length does not agree with its index")
        return tuple(LandedPart(**part) for part in index["parts"]), int(index["bytes"])

    def _open(self, sealed: bytes, number: int, *, is_index: bool = False) -> bytes:
        nonce = self._prefix + struct.pack(">I", number)
        try:
            return self._cipher.decrypt(nonce, sealed, _bound(self._header, number, is_index=is_index))
        except InvalidTag:
            raise LandingDamagedError(self.path, f"frame {number + 1} is changed, missing or out of place") from None

    def frame(self, number: int) -> bytes:
        """The plain text of one frame (0-based), from the cache if it is there."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        self._file.seek(_HEADER.size + number * (FRAME_BYTES + _TAG_BYTES))
        wanted = min(FRAME_BYTES, self.size - number * FRAME_BYTES) + _TAG_BYTES
        plain = self._open(self._file.read(wanted), number)
        self._cache[number] = plain
        if len(self._cache) > _CACHED_FRAMES:
            self._cache.popitem(last=False)
        return plain

    def close(self) -> None:
        self._cache.clear()
        self._file.close()


def _open_for_reading(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise LandingDamagedError(path, f"cannot be opened ({type(error).__name__})") from None


def _parse_header(header: bytes, path: Path) -> bytes:
    if len(header) != _HEADER.size:
        raise LandingDamagedError(path, "truncated")
    magic, frame_bytes, prefix = _HEADER.unpack(header)
    if magic != _MAGIC or frame_bytes != FRAME_BYTES:
        raise LandingDamagedError(path, "not a landed file of this version")
    return bytes(prefix)


class PartFile(io.RawIOBase):
    """One part of a landed file as a seekable, read-only file."""

    def __init__(self, reader: SealedReader, part: LandedPart) -> None:
        super().__init__()
        self._reader, self._part, self._position = reader, part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "negative seek position")  # as a file on disk does; zipfile relies on it
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        target = memoryview(buffer).cast("B")
        wanted = min(len(target), max(0, self._part.size - self._position))
        done = 0
        while done < wanted:
            number, start = divmod(self._part.offset + self._position + done, FRAME_BYTES)
            piece = memoryview(self._reader.frame(number))[start : start + wanted - done]
            target[done : done + len(piece)] = piece
            done += len(piece)
        self._position += done
        return done

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
        super().close()
