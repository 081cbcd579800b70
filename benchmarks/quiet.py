"""A month that asks no ledger: nobody has objected to anything, and no earlier month is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from benchmarks.workloads import PERIOD
from etl.caseload import Caseload
from etl.ledger.records import Delivery
from etl.ledger.repository import Ledger
from etl.mended import Mend, MendedMonth
from etl.months import MonthInputs
from etl.workspace import Workspace


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
