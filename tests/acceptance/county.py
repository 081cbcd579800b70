"""A small county lived through in this process: simulated, delivered, taken in, graded, released."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from etl import pipeline
from etl.cli.demo import drop_files
from etl.ledger.records import Delivery
from etl.local.postgres import EmbeddedPostgres, database
from etl.settings import PROJECT_ROOT, Settings
from etl.workspace import Workspace
from simulator import government, simulate

PERIODS = ("2024-02", "2024-03")
SEED = 341181
NOW = datetime(2024, 4, 5, 3, 0, tzinfo=UTC)
DELIVERED = {
    "2024-02": datetime(2024, 3, 4, 1, 0, tzinfo=UTC),
    "2024-03": datetime(2024, 4, 3, 1, 0, tzinfo=UTC),
    "2024-04": datetime(2024, 5, 6, 1, 0, tzinfo=UTC),
}


@dataclass
class County:
    """One home with its databases, and the simulator's truth by month."""

    settings: Settings
    server: EmbeddedPostgres
    worlds: Path
    households: int

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(str(self.settings.warehouse_url))
        self.ledger = Workspace(self.settings).ledger
        self.ledger.migrate()

    @property
    def home(self) -> Path:
        return self.settings.home

    def truth(self, period: str) -> Mapping[str, Any]:
        """What the simulator planted in a month."""
        text = (self.worlds / period / "truth.json").read_text(encoding="utf-8")
        return json.loads(text)["periods"][period]

    def canaries(self, period: str) -> list[str]:
        """Identity numbers, names and phones that must not be found outside the restricted zone."""
        text = (self.worlds / period / "truth.json").read_text(encoding="utf-8")
        return [value for values in json.loads(text)["canaries"].values() for value in values]

    def simulate(self, period: str) -> Path:
        """Write a month of the synthetic county, once."""
        if not (self.worlds / period).exists():
            simulate(self.worlds / period, period, self.households, SEED, config=self.settings.config[0])
        return self.worlds / period

    def deliver(self, period: str) -> None:
        """Put the register's state and everybody's files in place."""
        world = self.simulate(period)
        government.load(self.server.url("government"), world / "government")
        drop_files(world / "drop", self.settings.drop, DELIVERED[period])

    def take_in(self, period: str) -> list[Delivery]:
        """Pull, scan and collect a month; returns every delivery of the month."""
        pipeline.pull(self.settings, "government", period, now=NOW)
        for delivery in pipeline.scan(self.settings, now=NOW, quiet_seconds=0.0):
            pipeline.take_in(self.settings, delivery.delivery_id, now=NOW)
        pipeline.collect_files(self.settings, "mediation", period, now=NOW)
        pipeline.collect_occasional(self.settings, period, now=NOW)
        return self.ledger.deliveries(period)

    def live(self, period: str) -> None:
        """A whole month, from delivery to release."""
        self.deliver(period)
        self.take_in(period)
        pipeline.grade_period(self.settings, period, now=NOW)
        pipeline.publish_period(self.settings, period, now=NOW)

    def rows(self, query: str, **params: Any) -> list[tuple[Any, ...]]:
        """Rows of a query on the warehouse."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query), params)]


def three_towns(folder: Path) -> Path:
    """The shipped configuration with three towns only: a small county costs a test less time."""
    shutil.copytree(PROJECT_ROOT / "config", folder)
    lines = (folder / "places.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("3411811") or line.startswith(("341181100", "341181101"))]
    kept = [line for line in kept if not line.startswith("341181004")]
    (folder / "places.csv").write_text("".join(kept), encoding="utf-8")
    return folder


@contextmanager
def county_at(
    home: Path,
    households: int,
    *,
    worlds: Path | None = None,
    token_key: Path | None = None,
    config: Path | None = None,
) -> Iterator[County]:
    """A county with servers of its own; everything is gone afterwards."""
    environment = {"CREDITVILLAGE_HOME": str(home), "CREDITVILLAGE_QUIET_SECONDS": "0"}
    if token_key:
        environment["CREDITVILLAGE_TOKEN_KEY"] = str(token_key)
    if config:
        environment["CREDITVILLAGE_CONFIG"] = str(config)
    server = EmbeddedPostgres(home)
    try:
        with database(Settings.from_environment(environment)) as settings:
            county = County(settings, server, worlds or home / "worlds", households)
            yield county
            county.engine.dispose()
    finally:
        server.erase()
