"""Two months of one small county, written once for all tests of the simulator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etl.period import Period
from simulator import CONFIG, simulate
from tests.simulator.second_opinion import Book, File, read_all

HOUSEHOLDS = 2_000
SEED = 341181


@dataclass(frozen=True)
class Month:
    """A delivered month: its folder, its truth and its files as read by the second opinion."""

    period: Period
    folder: Path
    truth: dict[str, Any]
    files: list[File]

    def file(self, supplier: str, dataset: str) -> File:
        return next(file for file in self.files if (file.supplier, file.dataset) == (supplier, dataset))


@pytest.fixture(scope="session")
def book() -> Book:
    return Book(CONFIG)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 2024-02 and 2024-03; the register in it is that of 2024-03."""
    folder = tmp_path_factory.mktemp("world")
    for period in ("2024-02", "2024-03"):
        simulate(folder / period, period, HOUSEHOLDS, SEED)
    return folder


@pytest.fixture(scope="session")
def february(world: Path, book: Book) -> Month:
    return _month(world, book, "2024-02")


@pytest.fixture(scope="session")
def march(world: Path, book: Book) -> Month:
    return _month(world, book, "2024-03")


def _month(world: Path, book: Book, period: str) -> Month:
    folder = world / period
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return Month(Period.parse(period), folder, truth["periods"][period], list(read_all(book, folder, period)))
