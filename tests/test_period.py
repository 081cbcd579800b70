"""Months: parsing, ends, order."""

from __future__ import annotations

from datetime import date

import pytest

from etl.period import Period


def test_a_month_has_its_days() -> None:
    assert (Period.parse("2024-02").start, Period.parse("2024-02").end) == (date(2024, 2, 1), date(2024, 2, 29))


def test_neighbours_cross_the_year() -> None:
    assert str(Period.parse("2024-01").previous()) == "2023-12"
    assert [str(p) for p in Period.range(Period.parse("2023-11"), Period.parse("2024-02"))] == [
        "2023-11", "2023-12", "2024-01", "2024-02",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["2024-13", "2024-1", "202401", "2024-00", "二〇二四-01", "", "2024-01-01"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="YYYY-MM"):
        Period.parse(text)
