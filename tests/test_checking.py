"""Pieces side by side keep their order; a column cast by its distinct cells is cast as if it were cast row by row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from etl.checking import Caster, _encoded, side_by_side
from etl.deliveries import Subject
from etl.engine.duck import DuckEngine
from etl.reports.precheck import unsent
from tests.contract.delivery import PERIOD, REGISTRY, SAMPLES, Sample, checked, strings

ODD = ("", " ", "x", "0", "-1", " 1.5", "20240229", "2024-02-29", "99991231", "341181198001010016")


def worker(seconds: float) -> Callable[[int], int]:
    own = threading.Lock()

    def work(piece: int) -> int:
        assert own.acquire(blocking=False), "one piece at a time"
        time.sleep(seconds)
        own.release()
        return piece * 10

    return work


def test_results_come_in_the_order_of_the_pieces() -> None:
    assert list(side_by_side(iter(range(12)), [worker(0.02), worker(0.0)])) == [piece * 10 for piece in range(12)]
    assert list(side_by_side(iter(()), [worker(0.0)])) == []


def test_what_a_worker_raises_is_raised_in_its_turn() -> None:
    def work(piece: int) -> int:
        return 6 // (2 - piece)

    results = side_by_side(iter(range(4)), [work, work])
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def subject_of(sample: Sample) -> Subject:
    delivery = unsent(sample.supplier, sample.dataset, str(PERIOD), sample.file_name)
    feed = REGISTRY.feed(sample.supplier, sample.dataset)
    return Subject(delivery, feed, sample.layout, sample.contract, sample.context, REGISTRY.codes, "")


@pytest.mark.parametrize("kind", ["pboc", "east", "workbook", "household", "case"])
def test_distinct_cells_are_cast_as_all_cells_are(kind: str) -> None:
    sample = SAMPLES[kind]
    names = list(sample.good)
    rows = [sample.row(**{names[n // 2 % len(names)]: ODD[n % len(ODD)]} if n % 2 else {}) for n in range(600)]
    given = strings(sample, rows)
    assert sum(_encoded(given[name]) is not None for name in names) > len(names) / 2
    expected = checked(sample, rows).typed.sort_by("_row")
    with DuckEngine() as engine:
        Caster(engine, subject_of(sample)).cast(given)
        found = engine.arrow("SELECT * FROM typed ORDER BY _row")
    assert set(found.column_names) == set(expected.column_names)
    assert found.select(expected.column_names).to_pylist() == expected.to_pylist()
