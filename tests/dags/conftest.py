"""A real scheduler over the stand-in pipeline, one for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from etl.local.airflow import AirflowClient, AirflowStack
from etl.local.postgres import EmbeddedPostgres
from tests.dags import stand_in

CLOCK = datetime(2025, 1, 5, 9, 30, tzinfo=UTC)


@dataclass
class Orchestra:
    """The running Airflow and the tables of the stand-in."""

    client: AirflowClient
    stack: AirflowStack
    tables: psycopg.Connection[Any]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.tables.execute(query, values).fetchall()

    def run(self, dag_id: str, **how: Any) -> str:
        """Trigger a run and wait until it has succeeded."""
        run_id = self.client.trigger(dag_id, **how)
        self.client.wait_for_runs(dag_id, [run_id], timeout_seconds=60)
        return run_id

    def await_released(self, periods: list[str], timeout_seconds: float = 200) -> None:
        query = "SELECT count(*) FROM gradings WHERE released AND period = ANY(%s)"
        wanted = [(len(periods),)]
        self.client.wait_until(lambda: self.rows(query, periods) == wanted, "release", timeout_seconds=timeout_seconds)


@pytest.fixture(scope="module")
def orchestra(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestra]:
    postgres.ensure_databases(["stand_in"])
    url = postgres.url("stand_in").replace("+psycopg", "")
    stack = AirflowStack(
        tmp_path_factory.mktemp("orchestra"),
        postgres.url("airflow"),
        environment={stand_in.URL: url, "PYTHONPATH": str(Path(__file__).parent)},
        preload=["stand_in"],
    )
    with psycopg.connect(url, autocommit=True) as tables, stack.running() as client:
        tables.execute(stand_in.TABLES)
        client.set_clock(CLOCK)
        yield Orchestra(client, stack, tables)
