"""Whoever takes a delivery in may be killed at any step: the next one comes to the same end, with one receipt."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etl import deliveries, pipeline
from etl.intake import delivery as landing
from etl.ledger.repository import Ledger
from etl.settings import Settings
from tests.conftest import fresh_database
from tests.intake.bankdesk import final_state, put_flagged, settings_at, small_world, take_in_all

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

# One clean process imports everything once; each child is forked from it, and so is a process of its own.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["etl.pipeline", "great_expectations", "tests.intake.bankdesk"])
STEPS: list[tuple[object, str, str, int]] = [
    (Ledger, "claim", "after", 1),
    (Ledger, "begin_attempt", "after", 1),
    (landing._PartSink, "write", "after", 1),
    (landing, "_verify", "before", 1),
    (Ledger, "landed", "before", 1),
    (Ledger, "landed", "after", 1),
    (Ledger, "step", "after", 1),
    (deliveries, "read", "after", 1),
    (deliveries, "check", "after", 1),
    (deliveries, "keep", "before", 1),
    (deliveries, "keep", "after", 1),
    (Ledger, "save_findings", "after", 1),
    (os, "link", "before", 2),
    (os, "link", "after", 2),
    (deliveries, "answer", "after", 1),
    (Ledger, "finish", "after", 1),
]


def die(owner: Any, name: str, when: str, call: int) -> None:
    """Make this process kill itself before or after that call of a function."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def last(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **more)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, last)


def _live(settings: Settings, step: int | None) -> None:
    """What a child does: take everything in, to the end or to the step at which it dies."""
    if step is not None:
        die(*STEPS[step])
    take_in_all(settings)


def run(settings: Settings, step: int | None = None) -> int | None:
    child = CHILDREN.Process(target=_live, args=(settings, step), daemon=True)
    child.start()
    child.join(120)
    return child.exitcode


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
        assert run(settings) == 0
        yield final_state(settings)


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{when}-{call}-{name}" for _, name, when, call in STEPS])
def test_killed_at_a_step_and_started_again(
    step: int, source: Path, token_key: Path, undisturbed: dict[str, Any], home: Path, database_url: str
) -> None:
    settings = settings_at(home, database_url, TOKEN_KEY=token_key)
    put_flagged(settings, "baiyun_rcb", source)
    assert run(settings, step) == -signal.SIGKILL
    assert run(settings) == 0
    came_to = final_state(settings)
    assert [one["outcome"] for one in came_to["deliveries"]] == ["accepted_with_warnings"]
    assert len([name for name in came_to["receipts"] if name.endswith(".json")]) == 1
    assert came_to == undisturbed


def test_the_lock_of_a_killed_process_is_free(source: Path, home: Path, database_url: str) -> None:
    """Nobody has to be told that it died: what it was at work on can be taken up at once."""
    settings = settings_at(home, database_url)
    put_flagged(settings, "baiyun_rcb", source)
    assert run(settings, STEPS.index((deliveries, "read", "after", 1))) == -signal.SIGKILL
    [left] = pipeline.waiting(settings)
    ledger = Ledger(database_url)
    with ledger.lock_if_free(f"take_in/{left.delivery_id}") as is_free:
        assert is_free
    ledger.close()
