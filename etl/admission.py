"""Who may send what, and when it is taken: the step between a drop zone and a claim, and what is refused unread.

The drop zone says whose a file is. Beyond a bank's limits for the day, in a month that is closed, or when the landing
disk runs low, files wait unclaimed where they lie; the bank is told once, and other banks go on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from datetime import time as day_time
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from etl import answering, confirming
from etl.deliveries import Verdict
from etl.findings import FILE_RULES, Arrival, FileFinding
from etl.intake import arrivals, notices
from etl.intake.bundles import is_whole
from etl.intake.case_answer import ANSWERS
from etl.ledger.confirmations import answered_files
from etl.ledger.records import DailyLimits, Delivery, LimitReachedError, Waiting
from etl.period import Period
from etl.registry import Feed, Limits
from etl.workspace import Workspace

WAITS_AT_MOST: Final = timedelta(hours=72)
COMPANION_MISSING: Final = frozenset({"flag_missing", "sidecar_missing", "parts_missing"})
NOT_BEGUN, TOO_LARGE, NEVER_COMPLETE, NOT_FINISHED = "P120", "P125", "P126", "P127"
_FIX_ZH: Final = {
    NOT_BEGUN: "请核对文件名中的月份，月末之后再报送",
    TOO_LARGE: "请拆分为多个文件，或先与县里约定更高的上限",
    NEVER_COMPLETE: "请附齐标志、校验文件或全部分文件，连同数据文件重新投递",
    NOT_FINISHED: "文件本身不必修改；请与县里联系，或稍后重新投递同一文件",
}
_log = logging.getLogger("creditvillage.intake")


@dataclass
class _Door:
    """What one scan claims, holds back and has found out on the way."""

    ws: Workspace
    now: datetime
    closed_too: bool
    claimed: list[Delivery] = field(default_factory=list)
    held: list[tuple[Arrival, str]] = field(default_factory=list)
    used_up: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.room_bytes = room_bytes(self.ws)

    def offer(self, arrival: Arrival) -> None:
        """Claim a file, or hold it back with a reason."""
        reason = self._why_hold(arrival)
        if not reason:
            try:
                claimed = self.ws.ledger.claim(arrival, now=self.now, limits=self._limits(arrival.supplier))
                if claimed is not None:
                    self.claimed.append(claimed)
                    self.room_bytes -= arrival.size_bytes
            except LimitReachedError as reached:
                reason = self.used_up[arrival.supplier] = reached.limit
        if reason:
            self.held.append((arrival, reason))

    def _why_hold(self, arrival: Arrival) -> str:
        if not self.closed_too and is_closed(self.ws, arrival.supplier, arrival.period, self.now):
            return "period_closed"
        if arrival.size_bytes > self.room_bytes:
            return "disk_low"
        return self.used_up.get(arrival.supplier, "")

    def _limits(self, supplier: str) -> DailyLimits | None:
        bank = self.ws.registry.banks.get(supplier)
        return daily_limits(bank.limits, self.now, self.ws.registry.county.timezone) if bank else None


def claim(
    ws: Workspace,
    suppliers: set[str],
    *,
    now: datetime,
    period: str | None = None,
    drop: Path | None = None,
    quiet_seconds: float | None = None,
    closed_too: bool = False,
) -> list[Delivery]:
    """Claim what has settled in the drop zones of these suppliers; what waits is kept in the ledger for the next scan.

    Months that are closed for a bank are left out, unless `closed_too`: the operator asks for them.
    """
    quiet = ws.settings.quiet_seconds if quiet_seconds is None else quiet_seconds
    patience = arrivals.Patience(quiet_seconds=quiet, single_scan_after_seconds=quiet)
    seen = {one.address: _observation(one) for one in ws.ledger.waiting()}
    taken = ws.ledger.already_seen() | answered_files(ws.ledger)
    found = arrivals.scan(ws.registry, ws.settings, now=now, seen=seen, taken=taken, patience=patience, drop=drop)
    ws.ledger.remember(found.looks, found.reached, now=now)
    door = _Door(ws, now, closed_too)
    for arrival in found.arrivals:
        if arrival.supplier in suppliers and period in (None, arrival.period):
            door.offer(arrival)
    for confirmation in found.confirmations:
        if confirmation.supplier in suppliers:
            by = answering if confirmation.name.endswith(ANSWERS) else confirming
            by.answer(ws, confirmation, now=now)
    _tell(door, found, suppliers)
    return door.claimed


def _observation(waiting: Waiting) -> arrivals.Observation:
    return arrivals.Observation(waiting.size_bytes, waiting.mtime_ns, waiting.unchanged_since_at.isoformat())


def _tell(door: _Door, found: arrivals.Scan, suppliers: set[str]) -> None:
    """Bring the notes of these suppliers up to date, and write the notices that are new."""
    ws = door.ws
    owners = suppliers | {
        code for code, one in ws.registry.sources.items() if suppliers & {*ws.registry.suppliers_of(one)}
    }
    found.waiting.extend(arrivals.NotTaken(one.supplier, one.address, one.name, reason) for one, reason in door.held)
    arrivals.write_notes(ws.settings.outbox, found, owners)
    note_arrivals(ws, suppliers)
    _notify(ws, door.held, door.now)


def note_arrivals(ws: Workspace, suppliers: set[str]) -> None:
    """Bring up to date what these suppliers are told of the files that are being worked on."""
    in_progress = ws.ledger.in_progress(suppliers)
    said = [(one.supplier, one.name, one.step, one.delivery_id) for one in in_progress]
    notices.write_arrival_notes(ws.settings.outbox, suppliers, said)


def _notify(ws: Workspace, held: Iterable[tuple[Arrival, str]], now: datetime) -> None:
    day = now.astimezone(ZoneInfo(ws.registry.county.timezone)).date().isoformat()
    names: dict[tuple[str, str, str], list[str]] = {}
    for arrival, reason in held:
        occasion = arrival.period if reason == "period_closed" else day
        names.setdefault((arrival.supplier, occasion, reason), []).append(arrival.name)
    contact = ws.registry.county.contact.model_dump()
    for (supplier, occasion, reason), waiting in names.items():
        if notices.write_notice(ws.settings.outbox, supplier, occasion, reason, waiting, contact):
            _log.warning("%s: %d files wait (%s)", supplier, len(waiting), reason)


def is_closed(ws: Workspace, supplier: str, period: str, now: datetime) -> bool:
    """Whether a bank's month has left its `open_periods`: the current month of the county and those before it."""
    bank = ws.registry.banks.get(supplier)
    if bank is None:
        return False
    return Period.parse(period) < _this_month(ws, now).shift(1 - bank.open_periods)


def _this_month(ws: Workspace, now: datetime) -> Period:
    today = now.astimezone(ZoneInfo(ws.registry.county.timezone))
    return Period(today.year, today.month)


def daily_limits(limits: Limits, now: datetime, timezone: str) -> DailyLimits:
    """What a bank may send on the day of the county that `now` falls into."""
    zone = ZoneInfo(timezone)
    today = now.astimezone(zone).date()
    since = datetime.combine(today, day_time.min, zone)
    until = datetime.combine(today + timedelta(days=1), day_time.min, zone)
    return DailyLimits(since, until, limits.files_per_day, limits.bytes_per_day, limits.findings)


def room_bytes(ws: Workspace) -> int:
    """What may still be claimed: free on the landing disk, less its reserve and all that is claimed and not landed."""
    landing = ws.settings.landing
    place = next(folder for folder in (landing, *landing.parents) if folder.exists())
    return shutil.disk_usage(place).free - ws.ledger.pending_bytes() - ws.settings.landing_reserve_bytes


def refused_unlanded(ws: Workspace, delivery: Delivery) -> Verdict | None:
    """The verdict over a file larger than a day's volume, or whose flag or other parts never came; None for all others."""
    if delivery.landed_path:
        return None
    bank = ws.registry.banks.get(delivery.supplier)
    if bank and delivery.size_bytes > bank.limits.bytes_per_day:
        return refusal(TOO_LARGE, delivery)
    is_complete = _is_complete(ws.registry.feed(delivery.supplier, delivery.dataset), delivery)
    return None if is_complete else refusal(NEVER_COMPLETE, delivery, outcome="expired")


def _is_complete(feed: Feed, delivery: Delivery) -> bool:
    """Whether everything that has to lie beside the file was claimed with it."""
    if feed.has_loose_parts:
        return is_whole([delivery.name, *(address.rpartition("/")[2] for address in delivery.parts)])
    return feed.package not in arrivals.COMPANIONS or bool(delivery.parts)


def refused_unread(ws: Workspace, delivery: Delivery, *, now: datetime) -> Verdict | None:
    """The verdict over a bank's file for a month that has not begun; None for all others."""
    is_bank = delivery.supplier in ws.registry.banks
    return refusal(NOT_BEGUN, delivery) if is_bank and Period.parse(delivery.period) > _this_month(ws, now) else None


def refusal(rule: str, delivery: Delivery, *, outcome: str = "rejected") -> Verdict:
    """The verdict over a delivery that nobody reads, with the one rule that says why."""
    says = FILE_RULES[rule]
    found = FileFinding(rule, delivery.name, says["zh"], says["en"], _FIX_ZH[rule])
    return Verdict(outcome=outcome, counts_by_rule={rule: 1}, file_findings=[found])


def claim_hopeless(ws: Workspace, *, now: datetime) -> list[Delivery]:
    """Claim, without the flag or the parts they lack, the files that have waited for it too long: so they can be answered."""
    claimed = []
    for one in ws.ledger.waiting():
        if one.reason in COMPANION_MISSING and one.unchanged_since_at < now - WAITS_AT_MOST:
            arrival = Arrival(
                one.supplier, one.dataset, one.period, one.address, one.name, one.size_bytes, one.mtime_ns
            )
            claimed.append(ws.ledger.claim(arrival, now=now))
    return [delivery for delivery in claimed if delivery is not None]
