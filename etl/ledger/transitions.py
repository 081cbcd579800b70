"""Which state a delivery may go to from which, and the version of the software that sends it there."""

from __future__ import annotations

import importlib.metadata
from functools import cache
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
    """Version of the installed software; `unknown` when it runs from a bare folder."""
    try:
        return importlib.metadata.version("creditvillage")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
