"""When a delivery is due: the Nth working day of the month after its period, from the county's own calendar file.

Working days in China follow a yearly arrangement of the State Council with make-up days at weekends, published each
autumn for the next year. A day the file does not know makes the answer `unknown`: nothing is computed from weekdays.
Lines such as `# 2024: 国办发明电〔2023〕7号` at the top of the file name the arrangement each year was taken from.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as day_time
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

from etl.period import Period
from etl.registry import Due, overlay_file
from etl.vocabulary import ConfigurationError

_WORDS: Final = {"true": True, "false": False}
_SOURCE: Final = re.compile(r"#\s*(\d{4})\s*[:：]\s*(.+)")
Punctuality = Literal["early", "on_time", "late", "unknown"]
Standing = Literal["unknown", "expected", "early", "on_time", "late", "missing"]


@dataclass(frozen=True)
class DueDate:
    """`state` is known, or unknown when the calendar lacks a day that decides it; then the other fields are None."""

    state: Literal["known", "unknown"]
    on: date | None
    at: datetime | None


UNKNOWN: Final = DueDate("unknown", None, None)


@dataclass(frozen=True)
class WorkCalendar:
    """Working days by date; `sources` says by year where they stand, `version` is a mark of the file's content."""

    is_working_day: Mapping[date, bool]
    sources: Mapping[int, str] = field(default_factory=dict)
    version: str = ""

    @property
    def years(self) -> list[int]:
        """The years of which the file knows at least one day."""
        return sorted({day.year for day in self.is_working_day})

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


def arrived_at(mtime_ns: int, claimed_at: datetime) -> datetime:
    """When a file lay in the drop zone: its own time, but never after it was claimed; a pull arrives when claimed."""
    own = datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    return min(own, claimed_at) if mtime_ns else claimed_at


def standing(due: DueDate, period: Period, arrived: datetime | None, now: datetime) -> Standing:
    """How a delivery stands at `now`: come early, on time or late; expected; missing past its due time; not decidable."""
    if arrived is not None:
        return punctuality(arrived, due, period)
    if due.at is None:
        return "unknown"
    return "expected" if now <= due.at else "missing"


def load_calendar(folders: Sequence[Path]) -> WorkCalendar:
    """Read calendar.csv (date,is_working_day,note); raises ConfigurationError naming file, line and mend."""
    path = overlay_file(folders, "calendar.csv")
    text = path.read_text(encoding="utf-8")
    numbered = list(enumerate(text.splitlines(), start=1))
    said = [found for _, line in numbered if (found := _SOURCE.match(line))]
    days = _days(path, [(number, line) for number, line in numbered if not line.startswith("#")])
    version = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12]
    return WorkCalendar(days, {int(found[1]): found[2].strip() for found in said}, version)


def _days(path: Path, lines: Sequence[tuple[int, str]]) -> dict[date, bool]:
    days: dict[date, bool] = {}
    for (number, _), row in zip(lines[1:], csv.DictReader(line for _, line in lines), strict=True):
        try:
            day, works = date.fromisoformat(row["date"]), _WORDS[row["is_working_day"]]
        except (KeyError, TypeError, ValueError):
            mend = "write date,is_working_day,note as 2024-02-18,true,调休上班"
            raise ConfigurationError(path, f"line {number}", "not a day of the calendar", mend) from None
        if day in days:
            raise ConfigurationError(path, f"line {number}", f"{day} stands twice", "keep one of the two")
        days[day] = works
    return days
