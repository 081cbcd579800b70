"""Whoever takes a delivery in may be killed at any step: the next one comes to the same end, with one receipt."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl import pipeline
from etl.ledger.repository import Ledger
from tests.conftest import fresh_database
from tests.intake.bankdesk import final_state, put_flagged, settings_at, small_world, take_in_all
from tests.intake.killing import Step, run

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

STEPS: list[Step] = [
    ("etl.ledger.repository:Ledger", "claim", "after", 1),
    ("etl.ledger.repository:Ledger", "begin_attempt", "after", 1),
    ("etl.intake.delivery:_PartSink", "write", "after", 1),
    ("etl.intake.delivery", "verify_landed", "before", 1),
    ("etl.ledger.repository:Ledger", "landed", "before", 1),
    ("etl.ledger.repository:Ledger", "landed", "after", 1),
    ("etl.ledger.repository:Ledger", "step", "after", 1),
    ("etl.examination:_Work", "take", "after", 1),
    ("etl.deliveries", "judge", "after", 1),
    ("etl.examination:_Work", "keep", "before", 1),
    ("etl.examination:_Work", "keep", "after", 1),
    ("etl.ledger.repository:Ledger", "save_findings", "after", 1),
    ("os", "link", "before", 2),
    ("os", "link", "after", 2),
    ("etl.answers", "answer", "after", 1),
    ("etl.ledger.repository:Ledger", "finish", "after", 1),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next((small_world(tmp_path_factory.mktemp("world")) / "drop" / "baiyun_rcb").glob("*.csv"))


@pytest.fixture(scope="module")
def token_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("key") / "token.key"


@pytest.fixture(scope="module")
def undisturbed(
    source: Path, token_key: Path, tmp_path_factory: pytest.TempPathFactory, postgres: Any, template_database: str
) -> Iterator[dict[str, Any]]:
    """What the delivery comes to when nothing happens."""
    for url in fresh_database(postgres, template_database):
        settings = settings_at(tmp_path_factory.mktemp("calm") / "home", url, TOKEN_KEY=token_key)
        put_flagged(settings, "baiyun_rcb", source)
        assert run(take_in_all, settings) == 0
        yield final_state(settings)


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{when}-{call}-{name}" for _, name, when, call in STEPS])
def test_killed_at_a_step_and_started_again(
    step: int, source: Path, token_key: Path, undisturbed: dict[str, Any], home: Path, database_url: str
) -> None:
    settings = settings_at(home, database_url, TOKEN_KEY=token_key)
    put_flagged(settings, "baiyun_rcb", source)
    assert run(take_in_all, settings, STEPS, step) == -signal.SIGKILL
    assert run(take_in_all, settings) == 0
    came_to = final_state(settings)
    assert [one["outcome"] for one in came_to["deliveries"]] == ["accepted_with_warnings"]
    assert len([name for name in came_to["receipts"] if name.endswith(".json")]) == 1
    assert came_to == undisturbed


def test_the_lock_of_a_killed_process_is_free(source: Path, home: Path, database_url: str) -> None:
    """Nobody has to be told that it died: what it was at work on can be taken up at once."""
    settings = settings_at(home, database_url)
    put_flagged(settings, "baiyun_rcb", source)
    assert run(take_in_all, settings, STEPS, STEPS.index(("etl.deliveries", "judge", "after", 1))) == -signal.SIGKILL
    [left] = pipeline.waiting(settings)
    ledger = Ledger(database_url)
    with ledger.lock_if_free(f"take_in/{left.supplier}/{left.dataset}/{left.period}") as is_free:
        assert is_free
    ledger.close()
