"""Shared fixtures: one embedded PostgreSQL server per test run, one fresh database per test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from etl.ledger.repository import Ledger
from etl.local import postgres as embedded
from etl.local.binaries import SHARED_FOLDER_VARIABLE
from etl.local.postgres import EmbeddedPostgres

TEMPLATE = "template_for_tests"
os.environ["COLUMNS"] = "160"  # tables look the same whatever terminal, or none, the tests run in


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the server, so that `-m "not postgres"` leaves it out."""
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, _servers_leave_nothing: None) -> Iterator[EmbeddedPostgres]:
    """A server of the test run's own, without waiting for the disk; erased at the end."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "home")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embedded, "CLUSTER", (*embedded.CLUSTER, "--no-sync"))
            patch.setitem(embedded.CONFIGURATION, "fsync", "off")
            server.start()
        yield server
    finally:
        server.erase()


@pytest.fixture(scope="session")
def template_database(postgres: EmbeddedPostgres) -> str:
    """The database every `database_url` is copied from: the ledger's tables are in it, and empty."""
    postgres.ensure_databases([TEMPLATE])
    ledger = Ledger(postgres.url(TEMPLATE))
    ledger.migrate()
    ledger.close()  # a database in use cannot be copied
    return TEMPLATE


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, template_database: str) -> Iterator[str]:
    """URL of a fresh warehouse database of this test's own, ledger migrated; dropped afterwards."""
    yield from fresh_database(postgres, template_database)


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """URL of a fresh database with nothing in it; dropped afterwards."""
    yield from fresh_database(postgres, "template1")


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """The ledger of a fresh database."""
    ledger = Ledger(database_url)
    yield ledger
    ledger.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A place for `$CREDITVILLAGE_HOME`; not yet created."""
    return tmp_path / "home"


def fresh_database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    administer(server, f"CREATE DATABASE {name} OWNER creditvillage TEMPLATE {template}")
    yield server.url(name)
    administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def administer(server: EmbeddedPostgres, *statements: str) -> None:
    """Run statements as the superuser, each on its own."""
    url = server.url("postgres", "postgres").replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(sql.SQL(statement))  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home away from the operator's data; the caller's overlays, databases and keys are forgotten."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("CREDITVILLAGE_", "AIRFLOW_"))]:
            patch.delenv(name)
        patch.setenv("CREDITVILLAGE_HOME", str(home))
        patch.setenv("AIRFLOW_HOME", str(home / "airflow"))
        patch.setenv("GX_ANALYTICS_ENABLED", "false")
        yield


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of the project."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _servers_leave_nothing(_private_home: None) -> Iterator[None]:
    """What servers of throw-away homes keep outside them (as root, in /var/lib) goes with the test run."""
    with tempfile.TemporaryDirectory(prefix="creditvillage-tests-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(SHARED_FOLDER_VARIABLE, folder)
        yield
