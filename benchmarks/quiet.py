"""A month that asks no ledger: nobody has objected to anything, and no earlier month is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

from benchmarks.workloads import PERIOD
from etl.caseload import Caseload
from etl.ledger.records import Delivery
from etl.ledger.repository import Ledger
from etl.mended import Mend, MendedMonth
from etl.months import MonthInputs
from etl.workspace import Workspace

NOW = datetime(2024, 3, 6, 1, 0, tzinfo=UTC)


@dataclass(frozen=True)
class NoCases(Caseload):
    """What a ledger without cases would say."""

    @cached_property
    def cases(self) -> list[dict[str, Any]]:
        return []

    @cached_property
    def mended_notes(self) -> list[dict[str, Any]]:
        return []

    @cached_property
    def repaired_items(self) -> list[dict[str, Any]]:
        return []

    @cached_property
    def grade_stages(self) -> list[dict[str, Any]]:
        return []


class NothingMended(MendedMonth):
    """What a ledger without corrections would say."""

    def _counted(self) -> list[Mend]:
        return []


@dataclass(frozen=True)
class QuietMonth(MonthInputs):
    """A month without cases."""

    @cached_property
    def caseload(self) -> Caseload:
        return NoCases(cast(Ledger, None), self.period)

    @cached_property
    def mended(self) -> MendedMonth:
        return NothingMended(self.ws, self.period, self.in_force, self.carried)


def quiet_month(ws: Workspace, taken: Sequence[Delivery] = ()) -> QuietMonth:
    """The month of the benchmarks with these deliveries in force; whatever else is expected is carried forward."""
    expected = ws.registry.expected(PERIOD)
    there = {(delivery.supplier, delivery.dataset) for delivery in taken}
    return QuietMonth(
        ws=ws,
        period=PERIOD,
        expected=expected,
        in_force=taken,
        all_deliveries=taken,
        carried=frozenset((each.supplier, each.dataset) for each in expected) - there,
        earlier={},
    )


def quiet_delivery(supplier: str, dataset: str, number: int) -> Delivery:
    """What the ledger would hold of an accepted delivery whose rows were made without any file."""
    return Delivery(
        delivery_id=f"{supplier}-{dataset}-{PERIOD}-{number:04d}",
        supplier=supplier, dataset=dataset, period=str(PERIOD), sequence=number, revision=1,
        name=dataset, address="", parts=(), mtime_ns=0, size_bytes=0,
        sha256=None, landed_path=None, wrapped_key=None, step="answered", outcome="accepted", in_force=True,
        superseded_by=None, rows_read=None, rows_accepted=None, rows_rejected=None, counts_by_rule={}, not_checked=(),
        ruleset=None, content=None, details={}, cutoff_at=None, claimed_at=NOW, stepped_at=NOW, finished_at=NOW,
        attempts=1,
    )  # fmt: skip
