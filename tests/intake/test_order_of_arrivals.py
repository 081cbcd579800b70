"""In whatever order files arrive and are worked on, the core tables of the month come out the same."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from etl import months, pipeline
from etl.ledger.repository import Ledger
from etl.local.postgres import EmbeddedPostgres
from etl.registry import load_registry
from etl.settings import PROJECT_ROOT, Settings
from etl.workspace import Workspace
from simulator import government
from tests.conftest import administer, fresh_database
from tests.intake.bankdesk import NOW, PERIOD, WRITTEN_AT, put, settings_at, small_world

pytestmark = pytest.mark.slow

TABLES = ("core_loans", "core_loan_flows")
File = tuple[str, str, bytes]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world") / "county")


@pytest.fixture(scope="module")
def files(world: Path) -> list[File]:
    """A month of three banks, and one file that is dropped twice under two names."""
    banks = [world / "drop" / code for code in load_registry([PROJECT_ROOT / "config"]).banks]
    found = [(zone.name, path.name, path.read_bytes()) for zone in banks for path in sorted(zone.iterdir())]
    [again] = [content for _, name, content in found if name == "贷款台账2024-03.xlsx"]
    return [*found, ("xinhe_vb", "贷款台账2024-03-again.xlsx", again)]


@pytest.fixture(scope="module")
def register(
    world: Path, tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres, template_database: str
) -> Iterator[Settings]:
    """A home that has pulled the household register, and waits for the banks."""
    for government_url in fresh_database(postgres, "template1"):
        government.load(government_url, world / "government")
        for url in fresh_database(postgres, template_database):
            settings = settings_at(tmp_path_factory.mktemp("register") / "home", url, GOVERNMENT_URL=government_url)
            pipeline.pull(settings, "government", PERIOD, now=NOW)
            leave = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
            administer(postgres, leave.format(make_url(url).database))  # a database in use cannot be copied
            yield settings


@pytest.fixture(scope="module")
def orders(
    files: list[File], register: Settings, tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> Iterator[list[tuple[dict[str, Any], list[str]]]]:
    """What the files came to in three orders: core tables, and the outcomes."""
    found, template = [], str(make_url(str(register.warehouse_url)).database)
    for seed in (1, 2, 3):
        for url in fresh_database(postgres, template):
            home = shutil.copytree(register.home, tmp_path_factory.mktemp("order") / "home")
            settings = replace(register, home=home, warehouse_url=url)
            live(settings, files, random.Random(seed))
            found.append((core(settings), outcomes(settings)))
    yield found


def live(settings: Settings, files: list[File], chance: random.Random) -> None:
    """Drop files, scan and take in by turns, all three in an order of chance; in the end everything is answered."""
    arriving, moment = chance.sample(files, len(files)), 0
    while arriving:
        for zone, name, content in arriving[:3]:
            put(settings, zone, name, content, WRITTEN_AT)
        arriving, moment = arriving[3:], moment + 1
        pipeline.scan(settings, now=NOW + timedelta(minutes=moment))
        take_in_some(settings, chance, share=0.5)
    pipeline.scan(settings, now=NOW + timedelta(minutes=moment + 1))
    take_in_some(settings, chance, share=1.0)


def take_in_some(settings: Settings, chance: random.Random, *, share: float) -> None:
    waiting = pipeline.waiting(settings)
    for one in chance.sample(waiting, round(len(waiting) * share)):
        pipeline.take_in(settings, one.delivery_id, now=NOW)


def core(settings: Settings) -> dict[str, Any]:
    """Rows and checksum of the core tables that rest on the banks' files."""
    ws, contents = Workspace(settings), {}
    inputs = months.inputs_of(ws, PERIOD)
    with ws.engine() as engine:
        months.register_inputs(engine, inputs)
        months.conform(engine, inputs)
        for table in TABLES:
            contents[table] = engine.content(table, [row[0] for row in engine.fetch(f"DESCRIBE {table}")])
    ws.ledger.close()
    return contents


def outcomes(settings: Settings) -> list[str]:
    ledger = Ledger(str(settings.warehouse_url))
    found = sorted(str(one.outcome) for one in ledger.deliveries() if one.supplier != "government")
    ledger.close()
    return found


def test_the_core_tables_are_the_same(orders: list[tuple[dict[str, Any], list[str]]]) -> None:
    first, *others = [contents for contents, _ in orders]
    assert others == [first, first]
    assert first["core_loans"].rows > 20
    assert first["core_loan_flows"].rows > 0


def test_every_file_has_the_same_fate_but_for_which_of_two_equals_is_the_duplicate(
    orders: list[tuple[dict[str, Any], list[str]]],
) -> None:
    first, *others = [came_to for _, came_to in orders]
    assert others == [first, first]
    assert (len(first), first.count("duplicate"), first.count("None")) == (5, 1, 0)
