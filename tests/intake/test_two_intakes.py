"""Two intakes at work at once on one home: each file is claimed exactly once, each delivery answered exactly once."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from etl import pipeline
from etl.ledger.repository import Ledger
from etl.settings import Settings
from tests.intake.bankdesk import NOW, configured, final_state, put, receipts, settings_at, take_in_all

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

SPAWN = multiprocessing.get_context("spawn")
FILES = 500
MANY = {"files_per_day": 2 * FILES, "bytes_per_day": "2GB", "findings": 1_000_000}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configured(tmp_path / "config", "xinhe_vb", limits=MANY)


def _claim(settings: Settings, gate: Any, answers: Any) -> None:
    """Scan again and again until a scan finds nothing: what one process claims, the other must not."""
    Ledger(str(settings.warehouse_url)).releases()
    gate.wait(60)
    claimed: list[str] = []
    while found := pipeline.scan(settings, now=NOW):
        claimed += [one.delivery_id for one in found]
    answers.put(claimed)


def _take_in(settings: Settings, gate: Any, answers: Any) -> None:
    Ledger(str(settings.warehouse_url)).releases()
    gate.wait(60)
    answers.put([one.delivery_id for one in take_in_all(settings)])


def both(work: Any, settings: Settings) -> list[list[str]]:
    """What two processes answer that begin the same work at the same moment."""
    gate, answers = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [SPAWN.Process(target=work, args=(settings, gate, answers), daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    said = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    return said


def test_500_files_are_claimed_exactly_once(home: Path, config: Path, database_url: str) -> None:
    settings = settings_at(home, database_url, CONFIG=config)
    for number in range(FILES):
        put(settings, "xinhe_vb", f"贷款台账2024-03-{number:03d}.xlsx", b"%d" % number)
    claims = both(_claim, settings)
    taken = Counter(delivery_id for each in claims for delivery_id in each)
    ledger = Ledger(database_url)
    known = ledger.deliveries()
    assert len(taken) == FILES
    assert set(taken.values()) == {1}
    assert len({one.name for one in known}) == len(known) == FILES
    assert [one.sequence for one in known] == list(range(1, FILES + 1)), "numbered without a gap"
    assert ledger.waiting() == []
    ledger.close()


def test_deliveries_taken_in_twice_at_once_are_answered_once(home: Path, config: Path, database_url: str) -> None:
    settings = settings_at(home, database_url, CONFIG=config)
    for number in range(6):
        put(settings, "xinhe_vb", f"贷款台账2024-03-{number}.xlsx", b"no workbook %d" % number)
    both(_take_in, settings)
    state = final_state(settings)
    assert [one["outcome"] for one in state["deliveries"]] == ["unreadable"] * 6
    assert set(map(tuple, state["ways"].values())) == {("arrived", "claimed", "landed", "validating", "unreadable")}
    assert len({one["delivery_id"] for one in receipts(settings)}) == len(receipts(settings)) == 6
    assert (state["landed"], state["half landed"]) == (6, 0)
