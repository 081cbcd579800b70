"""Due dates against a real ledger: states, one alert a breach, carrying forward, each supplier's calendar.

Due dates of 2024-03 by hand, from the shipped calendar: working days of April are 1, 2, 3, 7 (a make-up Sunday), 8, 9, 10.
The register is due on the third (April 3), banks on the fifth (April 8), xinhe_vb on the seventh (April 10), 18:00 each.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from etl import deadlines, pipeline
from etl.deadlines import Timetable, file_name
from etl.findings import Arrival
from etl.ledger.repository import Ledger
from etl.period import Period
from etl.settings import PROJECT_ROOT, Settings
from etl.workspace import Workspace

SHANGHAI = ZoneInfo("Asia/Shanghai")
MARCH = Period.parse("2024-03")
Deliver = Callable[..., str]


def at(month: int, day: int, hour: int = 9, minute: int = 0) -> datetime:
    return datetime(2024, month, day, hour, minute, tzinfo=SHANGHAI)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """The shipped configuration with two towns."""
    config = tmp_path / "config"
    shutil.copytree(PROJECT_ROOT / "config", config)
    lines = (config / "places.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("34118110") or line.startswith("341181100")]
    (config / "places.csv").write_text("".join(kept), encoding="utf-8")
    environment = {"CREDITVILLAGE_HOME": str(tmp_path / "home"), "CREDITVILLAGE_CONFIG": str(config)}
    return replace(Settings.from_environment(environment), warehouse_url=database_url)


@pytest.fixture
def deliver(ledger: Ledger) -> Deliver:
    """Put a delivery with its outcome into the ledger: who, what, month, when it lay there."""

    def delivered(
        supplier: str,
        dataset: str,
        period: str,
        when: datetime,
        outcome: str | None = "accepted",
        in_force: bool = True,
    ) -> str:
        name = f"{supplier}-{dataset}-{period}-{when.isoformat()}"
        arrival = Arrival(supplier, dataset, period, f"/drop/{name}", name, 1, int(when.timestamp() * 1e9))
        claimed = ledger.claim(arrival, now=max(when, at(4, 1)))
        assert claimed is not None
        if outcome is not None:
            ledger.landed(claimed.delivery_id, "0" * 64, f"/landing/{name}", b"key", 1, now=when)
            ledger.step(claimed.delivery_id, "validating", now=when)
            accepted = in_force and outcome.startswith("accepted")
            ledger.finish(claimed.delivery_id, outcome, now=when, in_force=accepted)
        return claimed.delivery_id

    return delivered


def states(settings: Settings, now: datetime, period: Period = MARCH) -> dict[tuple[str, str], str]:
    table = Timetable(Workspace(settings), now)
    return {(one.expected.supplier, one.expected.dataset): one.state for one in table.appointments(period)}


def test_a_complete_file_that_we_hold_back_has_arrived(settings: Settings, ledger: Ledger) -> None:
    """Limits of a day, or a full disk here, never make a bank late; a file without its flag is not there yet."""
    lay = int(at(4, 8, 17).timestamp() * 1e9)
    held = Arrival("baiyun_rcb", "loans", "2024-03", "/drop/baiyun_rcb/held.csv", "held.csv", 1, lay)
    unflagged = Arrival("xinhe_vb", "loans", "2024-03", "/drop/xinhe_vb/unflagged.xlsx", "unflagged.xlsx", 1, lay)
    looks = [(held, ""), (unflagged, "growing")]
    ledger.remember(looks, ["/drop/baiyun_rcb", "/drop/xinhe_vb"], now=at(4, 8, 17, 30))
    after = states(settings, at(4, 11))
    assert after[("baiyun_rcb", "loans")] == "on_time"
    assert after[("xinhe_vb", "loans")] == "missing"
    breaches = {(who, what) for month, who, what, _ in told(settings, at(4, 11)) if month == "2024-03"}
    assert ("xinhe_vb", "loans") in breaches and ("baiyun_rcb", "loans") not in breaches


def told(settings: Settings, now: datetime) -> list[tuple[str, str, str, str]]:
    found = pipeline.watch_deadlines(settings, now=now)
    return [(one.period, one.supplier, one.dataset, one.breach) for one in found]


def test_states_before_and_after_the_deadline(settings: Settings, deliver: Deliver) -> None:
    deliver("qinghe_rcb", "loans", "2024-03", at(3, 31, 23))
    deliver("qinghe_rcb", "loan_flows", "2024-03", at(4, 8, 18))
    deliver("baiyun_rcb", "loans", "2024-03", at(4, 8, 18, 1))
    before, after = states(settings, at(4, 8, 17)), states(settings, at(4, 9))
    assert before[("xinhe_vb", "loans")] == after[("xinhe_vb", "loans")] == "expected"
    assert after[("qinghe_rcb", "loans")] == "early"
    assert after[("qinghe_rcb", "loan_flows")] == "on_time"
    assert after[("baiyun_rcb", "loans")] == "late"
    assert states(settings, at(4, 3, 18))[("government", "households")] == "expected"
    assert states(settings, at(4, 3, 18, 1))[("government", "households")] == "missing"
    assert states(settings, at(4, 10, 18, 1))[("xinhe_vb", "loans")] == "missing"


def test_a_refused_file_is_as_good_as_none_and_a_revision_makes_nobody_late(
    settings: Settings, deliver: Deliver
) -> None:
    deliver("baiyun_rcb", "loans", "2024-03", at(4, 2), "rejected")
    deliver("qinghe_rcb", "loans", "2024-03", at(4, 2))
    deliver("qinghe_rcb", "loans", "2024-03", at(4, 20))
    deliver("xinhe_vb", "loans", "2024-03", at(4, 2), None)
    found = states(settings, at(4, 21))
    assert found[("baiyun_rcb", "loans")] == "missing"
    assert found[("qinghe_rcb", "loans")] == "on_time"
    assert found[("xinhe_vb", "loans")] == "on_time"  # still under way
    table = Timetable(Workspace(settings), at(4, 21)).appointments(MARCH)
    assert {one.expected.supplier: one.refused for one in table if one.refused} == {"baiyun_rcb": 1}


def test_a_year_the_calendar_lacks_is_unknown_and_never_a_breach(settings: Settings, deliver: Deliver) -> None:
    now = datetime(2027, 2, 20, tzinfo=UTC)
    december = Period.parse("2026-12")
    deliver("qinghe_rcb", "loans", "2026-12", datetime(2027, 1, 30, tzinfo=UTC))
    assert set(states(settings, now, december).values()) == {"unknown"}
    assert [one for one in told(settings, now) if one[0] >= "2026-12"] == []
    assert [one.period for one in Workspace(settings).ledger.carried("2026-12")] == []
    text = (settings.outbox / "qinghe_rcb" / "calendar.txt").read_text(encoding="utf-8")
    assert "未知：工作日历未收录 2027 年 unknown: the calendar lacks 2027" in text


def test_a_breach_is_told_once(settings: Settings, deliver: Deliver) -> None:
    deliver("qinghe_rcb", "loans", "2024-03", at(4, 2))
    assert [one for one in told(settings, at(4, 8, 18)) if one[0] == "2024-03" and one[1] == "qinghe_rcb"] == []
    first = [one for one in told(settings, at(4, 8, 18, 1)) if one[1].endswith("rcb")]
    assert first == [("2024-03", "baiyun_rcb", "loans", "missing"), ("2024-03", "qinghe_rcb", "loan_flows", "missing")]
    assert told(settings, at(4, 8, 18, 2)) == []
    deliver("baiyun_rcb", "loans", "2024-03", at(4, 9))
    assert told(settings, at(4, 9, 10)) == []
    assert states(settings, at(4, 9, 10))[("baiyun_rcb", "loans")] == "late"


def test_a_file_seen_first_when_it_had_come_late_is_told_as_late(settings: Settings, deliver: Deliver) -> None:
    deliver("baiyun_rcb", "loans", "2024-03", at(4, 9))
    assert ("2024-03", "baiyun_rcb", "loans", "late") in told(settings, at(4, 9, 12))


def test_what_is_missing_is_carried_forward_if_there_is_something_to_carry(
    settings: Settings, deliver: Deliver, ledger: Ledger
) -> None:
    deliver("qinghe_rcb", "loans", "2024-02", at(3, 5))
    deliver("baiyun_rcb", "loans", "2024-02", at(3, 5))
    deliver("baiyun_rcb", "loans", "2024-03", at(4, 2), None)
    told(settings, at(4, 8, 18))
    assert ledger.carried("2024-03") == []
    told(settings, at(4, 8, 18, 1))
    [carried] = ledger.carried("2024-03")
    assert (carried.supplier, carried.dataset) == ("qinghe_rcb", "loans")  # baiyun is under way
    told_xinhe = (settings.outbox / "xinhe_vb" / "calendar.txt").read_text("gb18030")
    assert "无上期可沿用，该月等待此文件" in told_xinhe, "it has no earlier month"
    assert "2024-04-08 18:00" in carried.reason
    told(settings, at(4, 8, 19))
    assert len(ledger.carried("2024-03")) == 1
    deliver("qinghe_rcb", "loans", "2024-03", at(4, 9))
    assert ledger.carried("2024-03") == []
    assert ledger.carried("2024-02") == []


def test_months_that_are_closed_are_left_alone(settings: Settings, deliver: Deliver, ledger: Ledger) -> None:
    deliver("qinghe_rcb", "loans", "2024-02", at(3, 5))
    path = settings.config[0] / "banks/xinhe_vb.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("open_periods: 3", "open_periods: 1"), encoding="utf-8")
    in_august = told(settings, at(8, 20))
    assert {one[0] for one in in_august if one[1] == "qinghe_rcb"} == {"2024-06", "2024-07"}
    assert {one[0] for one in in_august if one[1] == "xinhe_vb"} == {"2024-07"}
    assert ledger.carried("2024-03") == ledger.carried("2024-05") == []
    assert [one.dataset for one in ledger.carried("2024-06")] == ["loans"]


def test_each_supplier_finds_its_due_dates(settings: Settings, deliver: Deliver) -> None:
    deliver("baiyun_rcb", "loans", "2024-03", at(4, 2, 10, 30))
    told(settings, at(4, 5))
    raw = (settings.outbox / "baiyun_rcb" / "calendar.txt").read_bytes()
    text = raw.decode("gb18030")
    lines = text.split("\r\n")
    assert lines[0].startswith("白云农商行（合成） 报送日历")
    assert "国办发明电〔2023〕7号" in text
    assert "2024-03\tloans\t2024-04-08 周一 18:00\t按时收到 on time 2024-04-02 10:30\t农户贷款借据_202403*.csv" in lines
    assert "2024-04\tloans\t2024-05-10 周五 18:00\t待报送 expected\t农户贷款借据_202404*.csv" in lines
    assert "qinghe" not in text
    assert not (settings.outbox / "government").exists()
    town = (settings.outbox / "341181100000" / "calendar.txt").read_text(encoding="utf-8")
    assert "mediation_341181100000_202403*.{jsonl,xlsx}" in town


def test_a_calendar_is_written_only_when_it_says_something_new(settings: Settings, deliver: Deliver) -> None:
    told(settings, at(4, 5))
    path = settings.outbox / "qinghe_rcb" / "calendar.txt"
    before = path.stat().st_ino
    assert deadlines.write_calendars(Timetable(Workspace(settings), at(4, 5, 12))) == []
    assert path.stat().st_ino == before
    deliver("qinghe_rcb", "loans", "2024-03", at(4, 6))
    [written] = deadlines.write_calendars(Timetable(Workspace(settings), at(4, 6, 12)))
    assert written == path
    assert [one.name for one in path.parent.iterdir()] == ["calendar.txt"]


def test_a_name_pattern_of_one_month() -> None:
    registry = Workspace(Settings.from_environment({})).registry
    feeds = registry.banks["qinghe_rcb"].feeds
    assert file_name(feeds["loans"], MARCH, "qinghe_rcb") == "CLGRDK_202403*.zip"
