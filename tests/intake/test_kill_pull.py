"""A pull of the register that is killed comes to the same end when it is done again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl import pipeline
from etl.local.postgres import EmbeddedPostgres
from etl.settings import Settings
from simulator import government
from tests.conftest import fresh_database
from tests.intake.bankdesk import NOW, PERIOD, final_state, settings_at, small_world
from tests.intake.killing import Step, run

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

STEPS: list[Step] = [
    ("etl.intake.delivery", "verify_landed", "before", 1),
    ("etl.ledger.repository:Ledger", "pulled", "after", 2),
    ("etl.ledger.repository:Ledger", "landed", "after", 3),
]


def pull(settings: Settings) -> None:
    pipeline.pull(settings, "government", PERIOD, now=NOW)


@pytest.fixture(scope="module")
def government_url(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    for url in fresh_database(postgres, "template1"):
        government.load(url, small_world(tmp_path_factory.mktemp("world") / "county") / "government")
        yield url


@pytest.fixture(scope="module")
def undisturbed(
    government_url: str, tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres, template_database: str
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The token key, and what the pull comes to when nothing happens."""
    home = tmp_path_factory.mktemp("calm") / "home"
    for url in fresh_database(postgres, template_database):
        settings = settings_at(home, url, GOVERNMENT_URL=government_url)
        assert run(pull, settings) == 0
        yield settings.token_key_path, final_state(settings)


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{when}-{call}-{name}" for _, name, when, call in STEPS])
def test_a_killed_pull_is_done_again(
    step: int, government_url: str, undisturbed: tuple[Path, dict[str, Any]], home: Path, database_url: str
) -> None:
    token_key, expected = undisturbed
    settings = settings_at(home, database_url, GOVERNMENT_URL=government_url, TOKEN_KEY=token_key)
    assert run(pull, settings, STEPS, step) == -signal.SIGKILL
    assert run(pull, settings) == 0
    came_to = final_state(settings)
    assert (came_to["landed"], came_to["half landed"]) == (3, 0)
    assert came_to == expected
