"""When a delivery is due: the Nth working day of the month after its period, from the county's own calendar file.

Working days in China follow a yearly arrangement of the State Council with make-up days at weekends, published each
autumn for the next year. A day the file does not know makes the answer `unknown`: nothing is computed from weekdays.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as day_time
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

from etl.period import Period
from etl.registry import Due, overlay_file
from etl.vocabulary import ConfigurationError

_WORDS: Final = {"true": True, "false": False}
Punctuality = Literal["early", "on_time", "late", "unknown"]


@dataclass(frozen=True)
class DueDate:
    """`state` is known, or unknown when the calendar lacks a day that decides it; then the other fields are None."""

    state: Literal["known", "unknown"]
    on: date | None
    at: datetime | None


UNKNOWN: Final = DueDate("unknown", None, None)


@dataclass(frozen=True)
class WorkCalendar:
    """Working days by date."""

    is_working_day: Mapping[date, bool]

    def nth_working_day(self, first: date, nth: int) -> date | None:
        """The nth working day from `first` on (itself included); None when a day on the way is not in the file."""
        day, found = first, 0
        while day in self.is_working_day:
            found += self.is_working_day[day]
            if found == nth:
                return day
            day += timedelta(days=1)
        return None

    def due(self, period: Period, due: Due, timezone: str) -> DueDate:
        """When a delivery for the period is due, in the county's time zone."""
        on = self.nth_working_day(period.next().start, due.workday)
        if on is None:
            return UNKNOWN
        return DueDate("known", on, datetime.combine(on, day_time.fromisoformat(due.time), ZoneInfo(timezone)))


def punctuality(arrived_at: datetime, due: DueDate, period: Period) -> Punctuality:
    """Whether an arrival was early (before the period ended), on time, late, or not decidable."""
    if due.at is None:
        return "unknown"
    if arrived_at.astimezone(due.at.tzinfo).date() <= period.end:
        return "early"
    return "on_time" if arrived_at <= due.at else "late"


def load_calendar(folders: Sequence[Path]) -> WorkCalendar:
    """Read calendar.csv (date,is_working_day,note); raises ConfigurationError naming file, line and mend."""
    path = overlay_file(folders, "calendar.csv")
    days: dict[date, bool] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                day, works = date.fromisoformat(row["date"]), _WORDS[row["is_working_day"]]
            except (KeyError, TypeError, ValueError):
                mend = "write date,is_working_day,note as 2024-02-18,true,调休上班"
                raise ConfigurationError(path, f"line {line}", "not a day of the calendar", mend) from None
            if day in days:
                raise ConfigurationError(path, f"line {line}", f"{day} stands twice", "keep one of the two")
            days[day] = works
    return WorkCalendar(days)
