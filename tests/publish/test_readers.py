"""Readers during a switch: all old or all new over catalog and tables, never blocked, never a mix."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pytest

from etl.publish.lake import DataFile
from etl.publish.manifest import Facts
from etl.publish.release import Publisher
from tests.publish.tables import credit, loans

pytestmark = pytest.mark.postgres
Write = Callable[..., list[DataFile]]
Seen = tuple[Any, ...]

CATALOG = "SELECT table_name, metadata_location FROM iceberg_tables ORDER BY 1"
LOANS = "SELECT count(*), sum(balance_yuan) FROM core_loans"
CREDIT = "SELECT count(*), sum(balance_yuan) FROM mart_household_credit"


class Town:
    """Publishes months that differ in every table, and reads them as an analyst's long transaction does."""

    def __init__(self, publisher: Publisher, written: Write, facts: Facts, now: datetime) -> None:
        self.publisher, self.written, self.facts, self.now = publisher, written, facts, now
        self.address = publisher.url.replace("+psycopg", "")

    def publish(self, period: str, shift: int) -> None:
        files = self.written(
            period,
            core_loans=loans(period, "baiyun_rcb", count=20 + shift, add=str(shift)),
            mart_household_credit=credit(period, count=15 + shift, add=str(shift)),
        )
        assert self.publisher.publish(files, period=period, facts=self.facts, now=self.now) is not None

    @contextmanager
    def one_snapshot(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.address) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield connection

    def everything(self) -> Seen:
        with self.one_snapshot() as connection:
            return look(connection, 0)


def look(connection: psycopg.Connection, pause_seconds: float) -> Seen:
    """Catalog first, then each table, with time in between for a switch to happen."""
    seen = []
    for query in (CATALOG, LOANS, CREDIT):
        seen.append(tuple(connection.execute(query).fetchall()))
        time.sleep(pause_seconds)
    return tuple(seen)


@pytest.fixture
def town(publisher: Publisher, written: Write, facts: Facts, now: datetime) -> Town:
    return Town(publisher, written, facts, now)


@pytest.mark.parametrize("period", ["2024-02", "2024-03"])
def test_a_transaction_begun_before_the_switch_sees_only_the_old(town: Town, period: str) -> None:
    """Both for a period replaced and for one that is new: the reader has not yet touched the tables."""
    town.publish("2024-02", 0)
    before = town.everything()
    with town.one_snapshot() as reader:
        catalog = tuple(reader.execute(CATALOG).fetchall())
        town.publish(period, 3)
        tables = tuple(tuple(reader.execute(query).fetchall()) for query in (LOANS, CREDIT))
    assert (catalog, *tables) == before
    assert town.everything() != before


def test_a_reader_that_holds_the_tables_does_not_hold_up_a_release(town: Town) -> None:
    town.publish("2024-02", 0)
    with town.one_snapshot() as reader:
        look(reader, 0)
        started = time.monotonic()
        town.publish("2024-02", 1)
        town.publish("2024-03", 1)
        assert time.monotonic() - started < 20


def test_readers_in_a_loop_see_all_old_or_all_new(town: Town) -> None:
    town.publish("2024-02", 0)
    released = {town.everything()}
    seen: list[Seen] = []
    waits: list[float] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with town.one_snapshot() as connection:
                started = time.monotonic()
                seen.append(look(connection, 0.05))
                waits.append(time.monotonic() - started)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for shift, period in enumerate(["2024-02", "2024-03", "2024-02", "2024-03"], start=1):
        town.publish(period, shift)
        released.add(town.everything())
    done.set()
    for reader in readers:
        reader.join()
    assert set(seen) <= released
    assert len(set(seen)) >= 3, "the readers must have met several releases"
    assert max(waits) < 5
