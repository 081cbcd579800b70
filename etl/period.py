"""A period is a month `YYYY-MM`: the unit in which data are delivered, graded and published."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)


@dataclass(frozen=True, order=True)
class Period:
    """One calendar month; ordered and hashable.

    >>> Period.parse("2024-02").end
    datetime.date(2024, 2, 29)
    >>> str(Period.parse("2024-12").next())
    '2025-01'
    """

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read `YYYY-MM`; raises ValueError with the form expected."""
        found = _MONTH.fullmatch(text)
        if not found or not 1 <= int(found[2]) <= 12 or int(found[1]) == 0:
            raise ValueError(f"{text!r} is not a period; write a month as YYYY-MM, for example 2024-03")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def range(cls, first: Period, last: Period) -> Iterator[Period]:
        """All periods from first to last, both included."""
        current = first
        while current <= last:
            yield current
            current = current.next()

    @property
    def start(self) -> date:
        return date(self.year, self.month, 1)

    @property
    def end(self) -> date:
        return self.next().start - timedelta(days=1)

    def shift(self, months: int) -> Period:
        """The period so many months later (earlier when negative)."""
        years, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Period(years, month + 1)

    def next(self) -> Period:
        return self.shift(1)

    def previous(self) -> Period:
        return self.shift(-1)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"
