"""Who may send what, and when: the zone says whose a file is, limits hold it back, and the bank is told once."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl import pipeline
from etl.ledger.repository import Ledger
from etl.settings import Settings
from tests.intake.bankdesk import (
    NOW,
    configured,
    put,
    put_flagged,
    receipts,
    settings_at,
    small_world,
    take_in_all,
)

BANK, OTHER = "xinhe_vb", "qinghe_rcb"
BEFORE_MIDNIGHT = datetime(2024, 4, 5, 15, 59, tzinfo=UTC)
AFTER_MIDNIGHT = datetime(2024, 4, 5, 16, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world")) / "drop"


def with_limits(tmp_path: Path, home: Path, url: str, **limits: object) -> Settings:
    agreed = {"files_per_day": 2, "bytes_per_day": "1MB", "findings": 1000, **limits}
    return settings_at(home, url, CONFIG=configured(tmp_path / "config", BANK, limits=agreed))


def scanned(settings: Settings, now: datetime = NOW) -> list[str]:
    return [f"{one.supplier}/{one.name}" for one in pipeline.scan(settings, now=now)]


def notices(settings: Settings, bank: str = BANK) -> list[str]:
    return sorted(path.name for path in (settings.outbox / bank / "notices").glob("*"))


def test_a_bank_over_its_limit_waits_is_told_once_and_disturbs_nobody(
    tmp_path: Path, home: Path, database_url: str
) -> None:
    settings = with_limits(tmp_path, home, database_url)
    for number in range(4):
        put(settings, BANK, f"贷款台账2024-03-{number}.xlsx", b"x", NOW.timestamp() - 3600 + number)
    put(settings, OTHER, "CLGRDK_20240331.zip", b"no zip")
    assert scanned(settings, BEFORE_MIDNIGHT - timedelta(minutes=5)) == [
        f"{OTHER}/CLGRDK_20240331.zip", f"{BANK}/贷款台账2024-03-0.xlsx", f"{BANK}/贷款台账2024-03-1.xlsx",
    ]  # fmt: skip
    [notice] = notices(settings)
    assert notice == "2024-04-05.files_per_day.txt"
    text = (settings.outbox / BANK / "notices" / notice).read_text("utf-8")
    assert "- 贷款台账2024-03-2.xlsx\n- 贷款台账2024-03-3.xlsx\n" in text
    assert "当日文件数上限" in text
    before = (settings.outbox / BANK / "notices" / notice).stat()
    assert scanned(settings, BEFORE_MIDNIGHT) == []
    assert notices(settings) == [notice], "told once, not at every scan"
    assert (settings.outbox / BANK / "notices" / notice).stat().st_mtime_ns == before.st_mtime_ns
    assert "贷款台账2024-03-2.xlsx\t已达当日文件数上限" in (settings.outbox / BANK / "not_taken.txt").read_text("utf-8")
    assert scanned(settings, AFTER_MIDNIGHT) == [f"{BANK}/贷款台账2024-03-{number}.xlsx" for number in (2, 3)]
    assert not (settings.outbox / BANK / "not_taken.txt").exists()


def test_findings_close_the_door_for_the_day(tmp_path: Path, home: Path, database_url: str) -> None:
    settings = with_limits(tmp_path, home, database_url, findings=1)
    put(settings, BANK, "贷款台账2024-03-0.xlsx", b"no workbook")
    [answered] = take_in_all(settings)
    assert sum(answered.counts_by_rule.values()) == 1
    put(settings, BANK, "贷款台账2024-03-1.xlsx", b"no workbook either")
    assert scanned(settings) == []
    assert notices(settings) == ["2024-04-05.findings.txt"]


def test_a_file_larger_than_a_day_is_answered_and_never_landed(tmp_path: Path, home: Path, database_url: str) -> None:
    settings = with_limits(tmp_path, home, database_url, bytes_per_day="1KB")
    put(settings, BANK, "贷款台账2024-03-0.xlsx", bytes(1001))
    put(settings, BANK, "贷款台账2024-03-1.xlsx", bytes(1000))
    refused, taken = take_in_all(settings)
    assert (refused.outcome, dict(refused.counts_by_rule)) == ("rejected", {"P125": 1})
    assert taken.sha256 is not None
    [receipt] = [one for one in receipts(settings) if one["delivery_id"] == refused.delivery_id]
    assert [(one["rule"], one["fix_zh"]) for one in receipt["findings"]] == [
        ("P125", "请拆分为多个文件，或先与县里约定更高的上限")
    ]
    assert len(list(settings.landing.rglob("*.landed"))) == 1


def test_a_low_disk_holds_everybody_until_there_is_room(home: Path, database_url: str, world: Path) -> None:
    settings = settings_at(home, database_url)
    put_flagged(settings, "baiyun_rcb", next((world / "baiyun_rcb").glob("*.csv")))
    put(settings, BANK, "贷款台账2024-03.xlsx", b"x")
    full = replace(settings, landing_reserve_bytes=shutil.disk_usage(home).free + 10**12)
    assert scanned(full) == scanned(full) == []
    assert notices(full) == notices(full, "baiyun_rcb") == ["2024-04-05.disk_low.txt"]
    assert len(scanned(settings)) == 2


def test_room_is_kept_for_what_is_claimed_and_not_landed(tmp_path: Path, home: Path, database_url: str) -> None:
    """Two files of 60 % of what is free: each has room, both have not. They are holes and take none here."""
    settings = with_limits(tmp_path, home, database_url, bytes_per_day="1000TB")
    for number in range(2):
        place = put(settings, BANK, f"贷款台账2024-03-{number}.xlsx", b"")
        os.truncate(place, int(shutil.disk_usage(home).free * 0.6))
        os.utime(place, (NOW.timestamp() - 3600 + number, NOW.timestamp() - 3600 + number))
    assert scanned(settings) == [f"{BANK}/贷款台账2024-03-0.xlsx"]
    assert notices(settings) == ["2024-04-05.disk_low.txt"]


def test_a_closed_month_waits_for_the_operator(tmp_path: Path, home: Path, database_url: str) -> None:
    settings = settings_at(home, database_url)
    for month in ("2024-01", "2024-02", "2024-04"):
        put(settings, BANK, f"贷款台账{month}.xlsx", b"x")
    assert scanned(settings) == [f"{BANK}/贷款台账2024-02.xlsx", f"{BANK}/贷款台账2024-04.xlsx"]
    assert scanned(settings) == []
    assert notices(settings) == ["2024-01.period_closed.txt"]
    assert [one.name for one in pipeline.scan(settings, now=NOW, closed_too=True)] == ["贷款台账2024-01.xlsx"]


def test_a_month_that_has_not_begun_is_refused(home: Path, database_url: str) -> None:
    settings = settings_at(home, database_url)
    put(settings, BANK, "贷款台账2024-05.xlsx", b"x")
    [refused] = take_in_all(settings)
    assert (refused.outcome, dict(refused.counts_by_rule)) == ("rejected", {"P120": 1})
    assert refused.sha256 is not None
    assert len(receipts(settings)) == 1


def test_the_month_begins_by_the_countys_clock(home: Path, database_url: str) -> None:
    """16:00 UTC on 30 April is midnight in the county: May has begun."""
    settings = settings_at(home, database_url)
    put(settings, BANK, "贷款台账2024-05.xlsx", b"x")
    begun = datetime(2024, 4, 30, 16, 0, tzinfo=UTC)
    assert [dict(one.counts_by_rule) for one in take_in_all(settings, begun)] == [{"P107": 1}]


def test_the_zone_says_whose_a_file_is(tmp_path: Path, home: Path, database_url: str, world: Path) -> None:
    """Baiyun's file in a zone of another bank with the same layout is that bank's file, and its rows are foreign."""
    config = configured(tmp_path / "config", "baiyun_rcb")
    ours = (config / "banks" / "baiyun_rcb.yml").read_text("utf-8")
    stranger = ours.replace("baiyun_rcb", "heihe_rcb").replace("99000000000022", "99000000000099")
    (config / "banks" / "heihe_rcb.yml").write_text(stranger, "utf-8")
    settings = settings_at(home, database_url, CONFIG=config)
    put_flagged(settings, "heihe_rcb", next((world / "baiyun_rcb").glob("*.csv")))
    [delivery] = take_in_all(settings)
    assert (delivery.supplier, delivery.outcome, delivery.in_force) == ("heihe_rcb", "rejected", False)
    assert delivery.counts_by_rule["L202"] == delivery.rows_read == delivery.rows_rejected
    assert [path.name for path in settings.outbox.iterdir()] == ["heihe_rcb"]


def test_content_of_another_month_than_the_name_is_rejected(home: Path, database_url: str, world: Path) -> None:
    settings = settings_at(home, database_url)
    put_flagged(settings, "baiyun_rcb", next((world / "baiyun_rcb").glob("*.csv")), "农户贷款借据_202402.csv")
    [delivery] = take_in_all(settings)
    assert (delivery.period, delivery.outcome) == ("2024-02", "rejected")
    assert delivery.counts_by_rule["L201"] == delivery.rows_read


def test_a_note_says_within_one_scan_what_has_arrived(home: Path, database_url: str) -> None:
    settings = settings_at(home, database_url)
    put(settings, BANK, "贷款台账2024-03.xlsx", b"x")
    [claimed] = pipeline.scan(settings, now=NOW)
    note = settings.outbox / BANK / "arrived.txt"
    assert note.read_text("utf-8") == f"贷款台账2024-03.xlsx\t已受理 claimed\t{claimed.delivery_id}\n"
    take_in_all(settings)
    assert not note.exists()


def test_looking_for_town_logs_leaves_the_notes_of_banks_alone(tmp_path: Path, home: Path, database_url: str) -> None:
    settings = with_limits(tmp_path, home, database_url, files_per_day=1)
    for number in range(2):
        put(settings, BANK, f"贷款台账2024-03-{number}.xlsx", b"x")
    put(settings, "village_logs", "mediation_999999999999_202403.jsonl", b"{}")
    pipeline.scan(settings, now=NOW)
    pipeline.collect_late(settings, now=NOW)
    assert "已达当日文件数上限" in (settings.outbox / BANK / "not_taken.txt").read_text("utf-8")
    assert (settings.outbox / BANK / "arrived.txt").exists()
    assert "乡镇代码未登记" in (settings.outbox / "mediation" / "not_taken.txt").read_text("utf-8")


def test_a_second_look_needs_no_memory_of_the_first_process(home: Path, database_url: str) -> None:
    """What a scan saw is kept in the ledger: any process may take the second look."""
    settings = replace(settings_at(home, database_url), quiet_seconds=60.0)
    put(settings, BANK, "贷款台账2024-03.xlsx", b"x", NOW.timestamp())
    assert scanned(settings, NOW) == scanned(settings, NOW + timedelta(seconds=59)) == []
    [claimed] = pipeline.scan(settings, now=NOW + timedelta(seconds=60))
    ledger = Ledger(database_url)
    ways = [each.to_state for each in ledger.transitions(claimed.delivery_id)]
    ledger.close()
    assert ways == ["arrived", "settling", "claimed"]
