"""Whatever is stuck comes to an outcome, with one receipt; what somebody is at work on is left alone."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl import answers, deliveries, examination, pipeline
from etl.ledger.records import Delivery
from etl.ledger.repository import Ledger
from etl.settings import Settings
from tests.intake.bankdesk import LOANS, NOW, put, put_flagged, receipts, settings_at, small_world

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next((small_world(tmp_path_factory.mktemp("world")) / "drop" / "baiyun_rcb").glob("*.csv"))


@pytest.fixture
def settings(home: Path, database_url: str) -> Settings:
    return settings_at(home, database_url)


@pytest.fixture
def claimed(settings: Settings, source: Path) -> Delivery:
    put_flagged(settings, "baiyun_rcb", source)
    [claimed] = pipeline.scan(settings, now=NOW)
    return claimed


def ended(settings: Settings, minutes: float) -> list[tuple[str, str | None]]:
    """(delivery, outcome) of what one round of the watchdog ended, so many minutes after the scan."""
    return [(one.delivery_id, one.outcome) for one in pipeline.watchdog(settings, now=NOW + minutes * MINUTE)]


def breaks(*_: Any, **__: Any) -> Any:
    raise OSError("broken on purpose")


def test_what_nobody_began_is_handed_on_first_and_then_taken_in(settings: Settings, claimed: Delivery) -> None:
    assert ended(settings, 16) == []
    assert [one.delivery_id for one in pipeline.stuck(settings, now=NOW + 16 * MINUTE)] == [claimed.delivery_id]
    assert ended(settings, 61) == [(claimed.delivery_id, "accepted_with_warnings")]
    assert len(receipts(settings)) == 1


def test_a_failure_is_tried_again_ever_more_seldom_and_expires_in_the_end(
    settings: Settings, claimed: Delivery, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    monkeypatch.setattr(examination, "examine", breaks)
    with pytest.raises(OSError, match="on purpose"):
        pipeline.take_in(settings, claimed.delivery_id, now=NOW)
    attempts = []
    for minutes in range(1, 16 * 15, 15):
        assert ended(settings, minutes) == []
        attempts.append(ledger.delivery(claimed.delivery_id).attempts)
    assert attempts == [1, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5]
    assert ended(settings, 241) == [(claimed.delivery_id, "expired")]
    [receipt] = receipts(settings)
    assert (receipt["outcome"], receipt["counts_by_rule"], receipt["in_force"]) == ("expired", {"P127": 1}, False)
    last = ledger.transitions(claimed.delivery_id)[-1]
    assert (last.to_state, last.cause, last.at) == (
        "expired", "the county could not finish its work on the file", NOW + 241 * MINUTE,
    )  # fmt: skip
    assert ended(settings, 10_000) == [], "one outcome, once"


def test_a_failure_that_passes_costs_only_time(
    settings: Settings, claimed: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(answers, "answer", breaks)
        with pytest.raises(OSError, match="on purpose"):
            pipeline.take_in(settings, claimed.delivery_id, now=NOW)
    assert ended(settings, 16) == [(claimed.delivery_id, "accepted_with_warnings")]


def test_a_receipt_that_is_out_stands(
    settings: Settings, claimed: Delivery, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "finish", breaks)
        for _ in range(pipeline.MAX_ATTEMPTS):
            with pytest.raises(OSError, match="on purpose"):
                pipeline.take_in(settings, claimed.delivery_id, now=NOW)
    assert ended(settings, 241) == [(claimed.delivery_id, "accepted_with_warnings")]
    assert [one["outcome"] for one in receipts(settings)] == ["accepted_with_warnings"]


def test_one_that_cannot_be_helped_does_not_hold_up_the_others(
    settings: Settings, claimed: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(settings, "xinhe_vb", "贷款台账2024-03.xlsx", b"no workbook")
    [other] = pipeline.scan(settings, now=NOW)
    land = deliveries.land

    def breaks_for_one(ws: Any, delivery: Delivery, *, now: datetime) -> Delivery:
        return breaks() if delivery.supplier == "baiyun_rcb" else land(ws, delivery, now=now)

    monkeypatch.setattr(deliveries, "land", breaks_for_one)
    assert ended(settings, 61) == [(other.delivery_id, "unreadable")]


def test_what_somebody_is_at_work_on_is_left_alone(settings: Settings, claimed: Delivery, ledger: Ledger) -> None:
    with ledger.lock(f"take_in/{claimed.supplier}/{claimed.dataset}/{claimed.period}"):
        assert ended(settings, 61) == []
    assert ledger.delivery(claimed.delivery_id).attempts == 0
    assert len(ended(settings, 61)) == 1


def test_a_file_whose_flag_never_comes_is_answered_after_three_days(settings: Settings, source: Path) -> None:
    put(settings, "baiyun_rcb", LOANS, source.read_bytes())
    assert pipeline.scan(settings, now=NOW) == []
    assert ended(settings, 72 * 60) == []
    [(delivery_id, outcome)] = ended(settings, 72 * 60 + 1)
    assert outcome == "expired"
    [receipt] = receipts(settings)
    assert (receipt["delivery_id"], receipt["counts_by_rule"]) == (delivery_id, {"P126": 1})
    assert pipeline.scan(settings, now=NOW + timedelta(days=4)) == []


def test_a_file_that_came_again_with_its_flag_is_a_new_delivery(settings: Settings, source: Path) -> None:
    put(settings, "baiyun_rcb", LOANS, source.read_bytes())
    pipeline.scan(settings, now=NOW)
    assert len(ended(settings, 72 * 60 + 1)) == 1
    place, later = put_flagged(settings, "baiyun_rcb", source), NOW + timedelta(days=4)
    os.utime(place, (later.timestamp(), later.timestamp()))
    [again] = pipeline.scan(settings, now=later)
    assert pipeline.take_in(settings, again.delivery_id, now=NOW).outcome == "accepted_with_warnings"
