"""Private folders and files, and locks between processes that share one home."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.vocabulary import CreditVillageError

POLL_SECONDS = 0.05


def private_folder(path: Path) -> Path:
    """Create `path` with mode 0700 (its missing parents as usual) and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write `text` so that nobody else can read it at any moment and no reader sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class FileLock:
    """An advisory lock on a file (flock): exclusive, or shared by any number of holders.

    The kernel drops it when the process ends, however it ends, so a crash never leaves a lock behind.
    Each instance opens the file anew: two instances in one process exclude each other as well.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock without waiting; False if somebody else's lock forbids it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def locked(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold `path` exclusively; raises CreditVillageError if it does not come free in time."""
    lock = FileLock(path)
    deadline = time.monotonic() + timeout_seconds
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            raise CreditVillageError(
                f"{path}: another process has held this lock for {timeout_seconds:.0f} s — wait for it, or end it"
            )
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()
