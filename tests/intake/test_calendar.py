"""Due dates: counted in working days of the county's calendar, unknown where the calendar ends."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pytest

from etl.intake.calendar import UNKNOWN, load_calendar, punctuality
from etl.period import Period
from etl.registry import Due
from etl.vocabulary import ConfigurationError

FIFTH = Due(workday=5, time="18:00")
ZONE = "Asia/Shanghai"


@pytest.mark.parametrize(
    ("period", "workday", "due_on"),
    [
        ("2024-01", 5, date(2024, 2, 6)),  # Sunday the 4th is a make-up day: 1, 2, 4, 5, 6
        ("2024-01", 8, date(2024, 2, 9)),
        ("2024-01", 9, date(2024, 2, 18)),  # after the Spring Festival, on a make-up Sunday
        ("2024-03", 5, date(2024, 4, 8)),  # 1, 2, 3, then Qingming, the make-up Sunday 7, 8
        ("2024-09", 1, date(2024, 10, 8)),  # after the National Day holidays
        ("2024-11", 5, date(2024, 12, 6)),
        ("2025-01", 5, date(2025, 2, 10)),  # after the Spring Festival: 5, 6, 7, the make-up Saturday 8, 10
        ("2025-03", 5, date(2025, 4, 8)),  # 1, 2, 3, then Qingming, 7, 8
        ("2025-09", 3, date(2025, 10, 11)),  # 9, 10, and the make-up Saturday
    ],
)
def test_the_shipped_calendar_follows_the_arrangements_of_the_state_council(
    period: str, workday: int, due_on: date, project_root: Path
) -> None:
    calendar = load_calendar([project_root / "config"])
    found = calendar.due(Period.parse(period), Due(workday=workday, time="18:00"), ZONE)
    assert (found.state, found.on) == ("known", due_on)
    assert found.at is not None
    assert found.at.isoformat() == f"{due_on}T18:00:00+08:00"


@pytest.mark.parametrize(("year", "days", "working"), [(2024, 366, 251), (2025, 365, 248)])
def test_working_days_of_a_year(year: int, days: int, working: int, project_root: Path) -> None:
    calendar = load_calendar([project_root / "config"])
    of_year = [works for day, works in calendar.is_working_day.items() if day.year == year]
    assert (len(of_year), sum(of_year)) == (days, working)
    assert f"{year}年部分节假日安排" in calendar.sources[year]


@pytest.mark.parametrize("period", ["2023-11", "2025-12", "2031-05"])
def test_a_year_the_calendar_does_not_know_is_unknown(period: str, project_root: Path) -> None:
    assert load_calendar([project_root / "config"]).due(Period.parse(period), FIFTH, ZONE) == UNKNOWN


def test_a_gap_in_the_calendar_is_unknown_too(tmp_path: Path) -> None:
    (tmp_path / "calendar.csv").write_text("date,is_working_day,note\n2024-04-01,true,\n2024-04-03,true,\n")
    calendar = load_calendar([tmp_path])
    assert calendar.nth_working_day(date(2024, 4, 1), 1) == date(2024, 4, 1)
    assert calendar.nth_working_day(date(2024, 4, 1), 2) is None


@pytest.mark.parametrize(
    ("arrived", "word"),
    [("2024-03-31T15:00+00:00", "early"), ("2024-03-31T16:00+00:00", "on_time"), ("2024-04-08T18:00+08:00", "on_time"),
     ("2024-04-08T18:01+08:00", "late")],
)  # fmt: skip
def test_punctuality_is_judged_in_the_countys_time(arrived: str, word: str, project_root: Path) -> None:
    period = Period.parse("2024-03")
    due = load_calendar([project_root / "config"]).due(period, FIFTH, ZONE)
    assert punctuality(datetime.fromisoformat(arrived), due, period) == word
    assert punctuality(datetime.fromisoformat(arrived), UNKNOWN, period) == "unknown"


@pytest.mark.parametrize(
    "row", ["2024-13-01,true,", "2024-04-01,yes,", "2024-04-01", "2024-04-01,true,\n2024-04-01,false,"]
)
def test_a_bad_calendar_names_file_line_and_mend(row: str, tmp_path: Path) -> None:
    (tmp_path / "calendar.csv").write_text(f"date,is_working_day,note\n{row}\n")
    with pytest.raises(ConfigurationError, match=r"calendar\.csv: line [23]: .* — "):
        load_calendar([tmp_path])
