"""What the ledger hands out: plain, immutable records that outlive the database session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from etl.findings import Arrival
from etl.vocabulary import BREACH_LABELS, CreditVillageError, DataError

__all__ = [
    "Alert",
    "Approval",
    "Arrival",
    "Carried",
    "DailyLimits",
    "Delivery",
    "Grading",
    "IllegalTransitionError",
    "LimitReachedError",
    "LockTimeoutError",
    "Release",
    "Report",
    "Transition",
    "UnknownDeliveryError",
    "Waiting",
]


class IllegalTransitionError(CreditVillageError):
    """A delivery was to take a step that its state does not allow."""

    def __init__(self, delivery_id: str, state: str, wanted: str) -> None:
        super().__init__(
            f"{delivery_id}: {state} → {wanted} is not a step a delivery can take — look at its transitions"
        )


class LockTimeoutError(CreditVillageError):
    """Somebody else held a lock for too long."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"lock {name!r} was held by somebody else for {seconds:.0f} s — wait for that run, or end it")


class LimitReachedError(CreditVillageError):
    """A supplier has used up what is agreed for a day; `limit` is files_per_day, bytes_per_day or findings."""

    def __init__(self, supplier: str, limit: str) -> None:
        self.supplier, self.limit = supplier, limit
        super().__init__(f"{supplier}: {limit} is used up for today — its files wait, or raise limits.{limit}")


class UnknownDeliveryError(DataError):
    """There is no such delivery."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(f"no delivery {delivery_id!r}", "see `creditvillage intake` for those there are")


@dataclass(frozen=True)
class Delivery:
    """One delivery as the ledger knows it; the columns are described in `etl.ledger.models.DeliveryRow`."""

    delivery_id: str
    supplier: str
    dataset: str
    period: str
    sequence: int
    revision: int
    name: str
    address: str
    parts: tuple[str, ...]
    mtime_ns: int
    size_bytes: int
    sha256: str | None
    landed_path: str | None
    wrapped_key: bytes | None
    step: str
    outcome: str | None
    in_force: bool
    superseded_by: str | None
    rows_read: int | None
    rows_accepted: int | None
    rows_rejected: int | None
    counts_by_rule: Mapping[str, int]
    not_checked: tuple[str, ...]
    ruleset: str | None
    content: str | None
    details: Mapping[str, Any]
    cutoff_at: datetime | None
    attempts: int
    claimed_at: datetime
    stepped_at: datetime
    finished_at: datetime | None
    requalifies: str | None = None
    snapshot: str | None = None

    @property
    def state(self) -> str:
        """The outcome, or, while there is none, the step."""
        return self.outcome or self.step


@dataclass(frozen=True)
class DailyLimits:
    """What one supplier may send from `since` until before `until` (a day of the county): files, bytes, findings."""

    since: datetime
    until: datetime
    files_per_day: int
    bytes_per_day: int
    findings: int


@dataclass(frozen=True)
class Waiting:
    """A file in a drop zone that is not claimed yet; the columns are described in `etl.ledger.models.ArrivalRow`."""

    address: str
    supplier: str
    dataset: str
    period: str
    name: str
    size_bytes: int
    mtime_ns: int
    step: str
    reason: str
    first_seen_at: datetime
    settling_at: datetime | None
    unchanged_since_at: datetime


@dataclass(frozen=True)
class Transition:
    """One change of a delivery's state."""

    delivery_id: str
    from_state: str | None
    to_state: str
    at: datetime
    cause: str
    code_version: str


@dataclass(frozen=True)
class Carried:
    """A delivery a month does without."""

    period: str
    supplier: str
    dataset: str
    reason: str
    carried_at: datetime


@dataclass(frozen=True)
class Alert:
    """A due date that was missed; `breach` is missing or late."""

    period: str
    supplier: str
    dataset: str
    breach: str
    due_at: datetime
    raised_at: datetime

    def __str__(self) -> str:
        label = BREACH_LABELS[self.breach]
        what = f"{self.period} {self.supplier}/{self.dataset}"
        return f"{what}: {label['zh']} {label['en']} (截止 due {self.due_at.isoformat()})"


@dataclass(frozen=True)
class Grading:
    """One computation of a month's grades; `contents` is {table: rows:checksum}."""

    period: str
    fingerprint: str
    staged_path: str
    contents: Mapping[str, Any]
    graded_at: datetime
    grading_id: int = 0
    basis: Mapping[str, Any] | None = None
    code_version: str = ""


@dataclass(frozen=True)
class Release:
    """One release; `status` is current, superseded or rolled_back, since `status_at`."""

    release_id: str
    period: str
    sequence: int
    status: str
    previous_id: str | None
    manifest: Mapping[str, Any]
    published_at: datetime
    status_at: datetime
    code_version: str = ""


@dataclass(frozen=True)
class Report:
    """What gates or a what-if found; `kind` is gates or what_if, `verdict` one of VERDICTS."""

    report_hash: str
    kind: str
    period: str
    verdict: str
    inputs: Mapping[str, Any]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Approval:
    """One person's approval of one report."""

    report_hash: str
    approved_by: str
    reason: str
    approved_at: datetime
