"""Numbered files side by side are one delivery, taken once all of them are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from etl import pipeline
from etl.intake.bundles import is_whole
from tests.intake.one_bank import NOW, OneBank, csv_of, note, one_bank

pytestmark = pytest.mark.postgres
ROWS = [note(number) for number in range(9)]


@pytest.fixture
def bank(home: Path, database_url: str) -> Iterator[OneBank]:
    with one_bank(home, database_url, parts="numbered") as opened:
        yield opened


def put_parts(bank: OneBank, numbers: Sequence[int], count: int = 3) -> None:
    for number in numbers:
        bank.put(f"loans_202403_{number}of{count}.csv", csv_of(ROWS[number - 1 :: count]))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_all_parts_are_one_delivery(bank: OneBank, order: tuple[int, ...]) -> None:
    for number in order[:-1]:
        put_parts(bank, [number])
        assert bank.scan() == []
    assert "等待其余分文件" in (bank.outbox / "not_taken.txt").read_text(encoding="utf-8")
    put_parts(bank, order[-1:])
    [claimed] = bank.scan()
    taken = pipeline.take_in(bank.settings, claimed.delivery_id, now=NOW)
    assert (taken.outcome, taken.rows_read, taken.name) == ("accepted", 9, "loans_202403_1of3.csv")
    assert taken.size_bytes == sum(path.stat().st_size for path in bank.zone.iterdir())
    assert bank.scan() == []


def test_a_finding_names_the_part_it_stands_in(bank: OneBank) -> None:
    put_parts(bank, [1, 3])
    bank.put("loans_202403_2of3.csv", csv_of([ROWS[1], note(100, five_class="?")]))
    [claimed] = bank.scan()
    taken = pipeline.take_in(bank.settings, claimed.delivery_id, now=NOW)
    [found] = [one for one in bank.receipt(taken)["findings"] if one["row"] is not None]
    assert (found["member"], found["row"], found["line"]) == ("loans_202403_2of3.csv", 2, 3)


def test_a_key_that_stands_in_two_parts_is_found(bank: OneBank) -> None:
    put_parts(bank, [1, 3])
    bank.put("loans_202403_2of3.csv", csv_of([ROWS[1], ROWS[0]]))
    [claimed] = bank.scan()
    taken = pipeline.take_in(bank.settings, claimed.delivery_id, now=NOW)
    assert sum(taken.counts_by_rule.values()) == 2


def test_one_part_written_anew_is_a_revision_of_the_whole(bank: OneBank) -> None:
    put_parts(bank, [1, 2, 3])
    [first] = bank.scan()
    pipeline.take_in(bank.settings, first.delivery_id, now=NOW)
    bank.put("loans_202403_2of3.csv", csv_of(ROWS[1:7:3]))
    [second] = bank.scan()
    taken = pipeline.take_in(bank.settings, second.delivery_id, now=NOW)
    assert (taken.revision, taken.rows_read, taken.details["diff"]["removed"]) == (2, 8, 1)


def test_a_part_that_goes_away_before_landing_leaves_nothing_behind(bank: OneBank) -> None:
    put_parts(bank, [1, 2, 3])
    [claimed] = bank.scan()
    (bank.zone / "loans_202403_3of3.csv").unlink()
    assert pipeline.take_in(bank.settings, claimed.delivery_id, now=NOW).outcome == "expired"


def test_parts_that_never_come_are_answered_once(bank: OneBank) -> None:
    put_parts(bank, [1, 3])
    assert bank.scan() == []
    later = NOW + timedelta(hours=73)
    ended = pipeline.watchdog(bank.settings, now=later)
    assert [(one.outcome, dict(one.counts_by_rule)) for one in ended] == [("expired", {"P126": 1})]
    put_parts(bank, [2])
    [claimed] = pipeline.scan(bank.settings, now=later, quiet_seconds=0)
    assert pipeline.take_in(bank.settings, claimed.delivery_id, now=later).outcome == "accepted"


def test_a_file_without_a_number_stands_for_itself(bank: OneBank) -> None:
    assert bank.deliver(ROWS).rows_read == 9


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        (["a_2of2.csv"], False),
        (["a_01of2.csv", "a_2of2.csv"], True),
        (["a_1of1.csv"], True),
        (["a_1of2.csv", "a_01of2.csv"], False),
        (["a_0of1.csv", "a_1of1.csv"], False),
    ],
)
def test_what_makes_a_whole(names: list[str], whole: bool) -> None:
    assert is_whole(names) == whole
