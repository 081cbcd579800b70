"""Due dates: who delivered early, on time, late or not at all, what follows from it, and where a supplier reads it.

A due date is looked at while its month is open. A breach is told once, whoever looks; what is missing past its due time
is carried forward where an earlier month has something to carry, so that one bank never holds up a county.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from etl.intake.calendar import DueDate, Standing, WorkCalendar, arrived_at, load_calendar, standing
from etl.ledger.records import Alert, Delivery, Waiting
from etl.period import Period
from etl.registry import Bilingual, Expected, Feed, Source, Supplier
from etl.vocabulary import BREACH_LABELS
from etl.workspace import Workspace

OPEN_PERIODS: Final = 3
AHEAD: Final = 2
CALENDAR_FILE: Final = "calendar.txt"
STANDINGS: Final[Mapping[Standing, Bilingual]] = {
    "expected": Bilingual(zh="待报送", en="expected"),
    "early": Bilingual(zh="提前收到", en="early"),
    "on_time": Bilingual(zh="按时收到", en="on time"),
    "late": Bilingual(**BREACH_LABELS["late"]),
    "missing": Bilingual(**BREACH_LABELS["missing"]),
    "unknown": Bilingual(zh="截止日未知", en="due date unknown"),
}
NOTHING_TO_CARRY: Final = Bilingual(
    zh="无上期可沿用，该月等待此文件", en="no earlier month to carry forward: the month waits for this file"
)
_WEEKDAYS: Final = ("周一", "周二", "周三", "周四", "周五", "周六", "周日")
_COUNTED: Final = ("accepted", "accepted_with_warnings", None)


@dataclass(frozen=True)
class Appointment:
    """One expected delivery and how it stands; instants are timezone-aware.

    What counts as arrived is the first delivery that was accepted or is still under way: a later revision makes nobody
    late, and a file that was refused is as good as none. `refused` counts those. `has_nothing_to_carry`: it is missing, and
    no earlier month has a state that could stay in force in its place.
    """

    period: Period
    expected: Expected
    due: DueDate
    state: Standing
    arrived_at: datetime | None
    delivery_id: str | None
    is_under_way: bool
    is_carried: bool
    has_nothing_to_carry: bool
    refused: int


class Timetable:
    """What is due in some months, read from registry, calendar and ledger once."""

    def __init__(self, ws: Workspace, now: datetime) -> None:
        self.ws, self.now = ws, now
        self.zone = ZoneInfo(ws.registry.county.timezone)

    @cached_property
    def calendar(self) -> WorkCalendar:
        return load_calendar(self.ws.settings.config)

    @property
    def this_month(self) -> Period:
        today = self.now.astimezone(self.zone)
        return Period(today.year, today.month)

    def appointments(self, period: Period) -> list[Appointment]:
        """Every delivery the month needs, in the order of supplier and dataset."""
        deliveries = self.ws.ledger.deliveries(str(period))
        carried = {(entry.supplier, entry.dataset) for entry in self.ws.ledger.carried(str(period))}
        lying = [one for one in self.ws.ledger.waiting() if one.period == str(period) and not one.reason]
        return [
            self._appointment(period, expected, deliveries, lying, carried)
            for expected in self.ws.registry.expected(period)
        ]

    def _appointment(
        self,
        period: Period,
        expected: Expected,
        deliveries: Sequence[Delivery],
        lying: Sequence[Waiting],
        carried: set[tuple[str, str]],
    ) -> Appointment:
        """A complete file that lies in the drop zone has arrived, whatever keeps us from taking it."""
        of_it = [d for d in deliveries if (d.supplier, d.dataset) == (expected.supplier, expected.dataset)]
        held = [one for one in lying if (one.supplier, one.dataset) == (expected.supplier, expected.dataset)]
        counted = [delivery for delivery in of_it if delivery.outcome in _COUNTED]
        first = min(counted, key=lambda one: arrived_at(one.mtime_ns, one.claimed_at), default=None)
        times = [arrived_at(first.mtime_ns, first.claimed_at)] if first else []
        times += [arrived_at(one.mtime_ns, one.first_seen_at) for one in held]
        arrived = min(times).astimezone(self.zone) if times else None
        due = self.due(period, expected)
        state = standing(due, period, arrived, self.now)
        is_carried = (expected.supplier, expected.dataset) in carried
        return Appointment(
            period=period,
            expected=expected,
            due=due,
            state=state,
            arrived_at=arrived,
            delivery_id=first.delivery_id if first else None,
            is_under_way=first.outcome is None if first else bool(held),
            is_carried=is_carried,
            has_nothing_to_carry=state == "missing" and not is_carried and not self._was_in_force(period, expected),
            refused=sum(one.outcome in ("rejected", "unreadable") for one in of_it),
        )

    def _was_in_force(self, period: Period, expected: Expected) -> bool:
        """Whether a delivery of an earlier month is in force."""
        earlier = (one for one in self.ws.ledger.deliveries(supplier=expected.supplier) if one.period < str(period))
        return any(one.in_force and one.dataset == expected.dataset for one in earlier)

    def due(self, period: Period, expected: Expected) -> DueDate:
        owner = self.owner(expected)
        return self.calendar.due(period, owner.due, self.ws.registry.county.timezone)

    def owner(self, expected: Expected) -> Supplier | Source:
        return self.ws.registry.owner(expected.supplier, expected.dataset)

    def open_months(self) -> Iterator[Period]:
        """Ended months that are still open to some supplier; oldest first."""
        longest = max([OPEN_PERIODS, *(bank.open_periods for bank in self.ws.registry.banks.values())])
        first = max(self.ws.registry.county.first_period, self._first_open(longest))
        yield from Period.range(first, self.this_month.previous())

    def is_open(self, appointment: Appointment) -> bool:
        """Whether the month is one for which this supplier may still deliver by itself."""
        owner = self.owner(appointment.expected)
        months = owner.open_periods if isinstance(owner, Supplier) else OPEN_PERIODS
        return appointment.period >= self._first_open(months)

    def _first_open(self, months: int) -> Period:
        """The first of so many months up to the present one; the last ended month is always looked at."""
        return self.this_month.shift(-max(months - 1, 1))


def watch(ws: Workspace, *, now: datetime) -> list[Alert]:
    """Tell of due dates that were missed, carry forward what is missing, bring the calendars of suppliers up to date.

    Returns the alerts nobody has told before. Doing it again changes nothing.
    """
    timetable = Timetable(ws, now)
    new: list[Alert] = []
    for period in timetable.open_months():
        for appointment in timetable.appointments(period):
            if timetable.is_open(appointment):
                new += _alerted(ws, appointment, now)
                _carry(ws, appointment, now)
    write_calendars(timetable)
    return new


def _alerted(ws: Workspace, appointment: Appointment, now: datetime) -> list[Alert]:
    if appointment.due.at is None or appointment.state not in ("late", "missing"):
        return []
    who = appointment.expected
    alert = Alert(str(appointment.period), who.supplier, who.dataset, appointment.state, appointment.due.at, now)
    return [alert] if ws.ledger.raise_alert(alert) else []


def _carry(ws: Workspace, appointment: Appointment, now: datetime) -> None:
    """The deadline passed: the month does without, if an earlier month has a state that can stay in force."""
    who, due = appointment.expected, appointment.due.at
    if appointment.state != "missing" or appointment.is_carried or appointment.has_nothing_to_carry or due is None:
        return
    reason = f"截止 {due:%Y-%m-%d %H:%M} 仍未收到，自动沿用上期 not there at the deadline, carried forward"
    ws.ledger.carry_forward(str(appointment.period), who.supplier, who.dataset, reason, now=now)


# -- the calendar of one supplier -------------------------------------------------------------------------------------


def write_calendars(timetable: Timetable) -> list[Path]:
    """Write `outbox/<supplier>/calendar.txt` of everybody who sends files, where it changed; returns what was written."""
    months = [timetable.this_month.shift(back) for back in range(-OPEN_PERIODS, AHEAD + 1)]
    first = timetable.ws.registry.county.first_period
    by_supplier: dict[str, list[Appointment]] = {}
    for period in (month for month in months if month >= first):
        for appointment in timetable.appointments(period):
            if appointment.expected.kind != "database":
                by_supplier.setdefault(appointment.expected.supplier, []).append(appointment)
    written = (_write(timetable, supplier, listed) for supplier, listed in by_supplier.items())
    return [path for path in written if path is not None]


def _write(timetable: Timetable, supplier: str, listed: Sequence[Appointment]) -> Path | None:
    """One rename makes the new text appear; a text that says the same stays as it is."""
    owner = timetable.owner(listed[0].expected)
    content = calendar_text(timetable, supplier, listed).encode(owner.receipt_encoding, "replace")
    path = timetable.ws.settings.outbox / supplier / CALENDAR_FILE
    if path.is_file() and path.read_bytes() == content:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    scratch.write_bytes(content)
    scratch.replace(path)
    return path


def calendar_text(timetable: Timetable, supplier: str, listed: Sequence[Appointment]) -> str:
    """The due dates of one supplier, Chinese first; it changes only when a due date or a state does."""
    owner, county = timetable.owner(listed[0].expected), timetable.ws.registry.county
    who = owner.name.zh if supplier == owner.code else f"{owner.name.zh} {supplier}"
    lines = [
        f"{who} 报送日历 Delivery calendar of {owner.name.en}",
        f"截止时间为 {county.timezone} 时间；每期截止：次月第 {owner.due.workday} 个工作日 {owner.due.time} "
        f"due on working day {owner.due.workday} of the next month",
        *(f"工作日历 work calendar {year}: {source}" for year, source in timetable.calendar.sources.items()),
        f"联系 contact: {county.contact.zh} {county.contact.phone}",
        "",
        "\t".join(("月份 period", "数据 dataset", "截止 due", "状态 state", "文件名 file name")),
        *(_line(timetable, one) for one in listed),
    ]
    return "\r\n".join(lines) + "\r\n"


def _line(timetable: Timetable, one: Appointment) -> str:
    state = STANDINGS[one.state]
    words = [state.zh, state.en]
    if one.arrived_at is not None:
        words.append(f"{one.arrived_at:%Y-%m-%d %H:%M}")
    if one.is_carried:
        words.append("（已沿用上期 carried forward）")
    if one.has_nothing_to_carry:
        words.append(f"（{NOTHING_TO_CARRY.zh} {NOTHING_TO_CARRY.en}）")
    if one.refused:
        words.append(f"（退回 {one.refused} 份 refused）")
    feed = timetable.owner(one.expected).feeds[one.expected.dataset]
    name = file_name(feed, one.period, one.expected.supplier)
    return "\t".join((str(one.period), one.expected.dataset, due_text(one), " ".join(words), name))


def due_text(one: Appointment) -> str:
    """A due date to read; where the calendar does not reach, it says so."""
    if one.due.at is None:
        year = one.period.next().year
        return f"未知：工作日历未收录 {year} 年 unknown: the calendar lacks {year}"
    return f"{one.due.at:%Y-%m-%d} {_WEEKDAYS[one.due.at.weekday()]} {one.due.at:%H:%M}"


def file_name(feed: Feed, period: Period, supplier: str) -> str:
    """A feed's name pattern for one month: what is free in it keeps its `*`."""
    pattern = (feed.files or "").replace("{supplier}", supplier)
    before, _, rest = pattern.partition("{period:")
    form, _, after = rest.partition("}")
    return f"{before}{period.start.strftime(form)}{after}" if rest else pattern
