"""Which state a delivery may go to from which, and the version of the software that sends it there."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Final

from etl.ledger.records import IllegalTransitionError

_ANSWERED_UNREAD: Final = frozenset({"duplicate", "rejected", "unreadable", "expired"})
ALLOWED: Final[dict[str, frozenset[str]]] = {
    "arrived": frozenset({"settling", "claimed", "expired"}),
    "settling": frozenset({"claimed", "expired"}),
    "claimed": frozenset({"landed", "rejected", "unreadable", "expired"}),
    "landed": frozenset({"validating"}) | _ANSWERED_UNREAD,
    "validating": frozenset({"accepted", "accepted_with_warnings"}) | _ANSWERED_UNREAD,
}


def require_allowed(delivery_id: str, state: str, wanted: str) -> None:
    """Raise IllegalTransitionError unless `wanted` may follow `state`; nothing follows an outcome."""
    if wanted not in ALLOWED.get(state, frozenset()):
        raise IllegalTransitionError(delivery_id, state, wanted)


@cache
def code_version() -> str:
    """What did it: the installed version and the first 12 hex digits of the code's own checksum.

    `0.1.0+3f2a…`; two builds of one version that differ in a line of Python differ here, with or without a repository.
    Read once for each process.
    """
    try:
        version = importlib.metadata.version("creditvillage")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return f"{version}+{checksum_of_code(Path(__file__).resolve().parents[1])}"


def checksum_of_code(package: Path) -> str:
    """First 12 hex digits of the SHA-256 over names and contents of all Python files of a package, in order."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]
