"""A small county lived through in this process: simulated, delivered, taken in, graded, released."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

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
SMALL = 600
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
    """The shipped configuration with three towns only and no second opinion on deliveries: it costs a test less time."""
    shutil.copytree(PROJECT_ROOT / "config", folder)
    lines = (folder / "places.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("3411811") or line.startswith(("341181100", "341181101"))]
    kept = [line for line in kept if not line.startswith("341181004")]
    (folder / "places.csv").write_text("".join(kept), encoding="utf-8")
    terms = (folder / "county.yml").read_text(encoding="utf-8")
    assert "share_pct: 100" in terms
    (folder / "county.yml").write_text(terms.replace("share_pct: 100", "share_pct: 0"), encoding="utf-8")
    return folder


class SmallCounty:
    """600 households in three towns, lived through once; a test module gets them back as they were after a step.

    Paths are part of what a home remembers, so the copy is put back where it was, one module at a time. The world, the
    configuration and the token key can also be read from the copy, by counties of their own beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._kept = folder / "county", folder / "kept"
        self._home = self._folder / "home"

    @property
    def beginnings(self) -> dict[str, Any]:
        """What another county at another place needs to become the same: `county_at(home, **beginnings)`."""
        self._reach("february")
        kept = self._kept / "february" / "county"
        key = Settings.from_environment({"CREDITVILLAGE_HOME": str(kept / "home")}).token_key_path
        return {"households": SMALL, "worlds": kept / "home" / "worlds", "token_key": key, "config": kept / "config"}

    @contextmanager
    def after(self, step: Literal["february", "march"]) -> Iterator[County]:
        """`february`: released; `march`: taken in besides, and neither graded nor released."""
        self._reach(step)
        self._put_back(step)
        with county_at(self._home, SMALL, config=self._folder / "config") as county:
            yield county

    def _reach(self, step: str) -> None:
        before = None
        for name, live in _STEPS.items():
            if not (self._kept / name).exists():
                self._put_back(before) if before else three_towns(self._folder / "config")
                with _opened(self._home, SMALL, config=self._folder / "config") as county:
                    live(county)
                self._keep(name)
            if name == step:
                return
            before = name

    def _keep(self, step: str) -> None:
        for place in self._places():
            _copy(place, self._kept / f"{step}.part" / place.name)
        (self._kept / f"{step}.part").rename(self._kept / step)

    def _put_back(self, step: str) -> None:
        for place in self._places():
            shutil.rmtree(place, ignore_errors=True)
            _copy(self._kept / step / place.name, place)

    def _places(self) -> list[Path]:
        """The home with its configuration, and the server's data where they lie outside it."""
        server = EmbeddedPostgres(self._home)._server_folder
        outside = [server.with_name(f"{server.name}.id"), server] if not server.is_relative_to(self._home) else []
        return [self._folder, *outside]


def _february(county: County) -> None:
    county.live(PERIODS[0])


def _march(county: County) -> None:
    county.deliver(PERIODS[1])
    county.take_in(PERIODS[1])


_STEPS = {"february": _february, "march": _march}


def _copy(source: Path, target: Path) -> None:
    """With owners and times: the server's files belong to another account, and a file's time tells whether it is settled."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


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
    try:
        with _opened(home, households, worlds=worlds, token_key=token_key, config=config) as county:
            yield county
    finally:
        EmbeddedPostgres(home).erase()


@contextmanager
def _opened(
    home: Path,
    households: int,
    *,
    worlds: Path | None = None,
    token_key: Path | None = None,
    config: Path | None = None,
) -> Iterator[County]:
    """A county with servers of its own, which stop afterwards."""
    environment = {"CREDITVILLAGE_HOME": str(home), "CREDITVILLAGE_QUIET_SECONDS": "0"}
    if token_key:
        environment["CREDITVILLAGE_TOKEN_KEY"] = str(token_key)
    if config:
        environment["CREDITVILLAGE_CONFIG"] = str(config)
    with database(Settings.from_environment(environment)) as settings:
        county = County(settings, EmbeddedPostgres(home), worlds or home / "worlds", households)
        yield county
        county.engine.dispose()
