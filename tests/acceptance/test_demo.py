"""`creditvillage demo` from outside: real DAGs, real scheduler; twice; and the same content without Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from etl.local.postgres import EmbeddedPostgres, database
from etl.settings import Settings
from etl.workspace import Workspace
from tests.acceptance.county import PERIODS, county_at

pytestmark = [pytest.mark.acceptance, pytest.mark.airflow, pytest.mark.slow]
HOUSEHOLDS = 1_000
PROGRAM = Path(sys.executable).with_name("creditvillage")


def run_demo(home: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), "demo", "--households", str(HOUSEHOLDS)]
    environment = {**os.environ, "CREDITVILLAGE_HOME": str(home), "COLUMNS": "180"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    """A finished demo and what it printed."""
    home = tmp_path_factory.mktemp("demo") / "home"
    try:
        yield home, run_demo(home)
    finally:
        EmbeddedPostgres(home).erase()


def contents_of(home: Path) -> dict[str, dict[str, str]]:
    """Contents of the current release, by period and table."""
    with database(Settings.from_environment({"CREDITVILLAGE_HOME": str(home)})) as settings:
        gradings = Workspace(settings).ledger.last_gradings(PERIODS)
    return {period: dict(graded.contents) for period, graded in gradings.items()}


@pytest.mark.timeout(900)
def test_the_demo_ends_well_and_shows_what_happened(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, done = demo
    assert done.returncode == 0, done.stderr[-2000:]
    for shown in ("What came in", "Grades by town", "Movers", "2024-03-001", "receipts"):
        assert shown in done.stdout
    assert (home / "outbox" / "qinghe_rcb" / "latest.txt").is_file()
    assert list((home / "lake" / "current" / "mart_household_credit").glob("period=2024-0[23]/*.parquet"))


def test_nothing_is_left_running(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, _ = demo
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "environ"])
        if str(home) in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid()
    ]
    assert left == []


def test_no_identity_in_task_logs_or_in_what_tasks_hand_on(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, done = demo
    canaries: set[str] = set()
    for period in PERIODS:
        truth = json.loads((home / "simulation" / period / "truth.json").read_text(encoding="utf-8"))
        canaries.update(value for values in truth["canaries"].values() for value in values)
    texts = {
        str(path): path.read_text("utf-8", "replace")
        for path in (home / "airflow" / "logs").rglob("*")
        if path.is_file()
    }
    texts["printed"] = done.stdout + done.stderr
    with EmbeddedPostgres(home).held() as server:
        dump = [str(server.psql().with_name("pg_dump")), "--schema=public"]
        environment = server.environment("airflow")
        texts["xcom and metadata"] = subprocess.run(
            dump, env=environment, capture_output=True, text=True, check=True
        ).stdout
    assert len(canaries) > 300
    assert {
        place: [c for c in canaries if c in text] for place, text in texts.items() if any(c in text for c in canaries)
    } == {}


@pytest.mark.timeout(900)
def test_without_airflow_the_content_is_the_same(
    demo: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    home, _ = demo
    with county_at(
        tmp_path / "home", HOUSEHOLDS, worlds=home / "simulation", token_key=home / "secrets" / "token.key"
    ) as county:
        for period in PERIODS:
            county.live(period)
        alone = {period: dict(graded.contents) for period, graded in county.ledger.last_gradings(PERIODS).items()}
    assert alone == contents_of(home)


@pytest.mark.timeout(900)
def test_a_second_demo_works_on_top_and_changes_nothing(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, _ = demo
    before = contents_of(home)
    again = run_demo(home)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "2024-03-001" in again.stdout
    assert contents_of(home) == before
