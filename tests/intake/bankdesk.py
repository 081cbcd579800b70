"""Homes with real bank files: what tests of a delivery's whole way start from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from etl import pipeline
from etl.ledger.records import Delivery
from etl.ledger.repository import Ledger
from etl.registry import load_registry
from etl.settings import PROJECT_ROOT, Settings
from simulator import simulate

PERIOD = "2024-03"
NOW = datetime(2024, 4, 5, 3, 0, tzinfo=UTC)
WRITTEN_AT = NOW.timestamp() - 3600
LOANS = "农户贷款借据_202403.csv"
BY_TIME = ("claimed_at", "stepped_at", "finished_at", "attempts", "landed_path", "wrapped_key", "address", "parts")


def small_world(folder: Path, period: str = PERIOD) -> Path:
    """A month of a small synthetic county."""
    simulate(folder, period, 300, 341181)
    return folder


def make_zones(settings: Settings) -> None:
    """The drop zones that are configured, empty."""
    registry = load_registry(settings.config)
    for owner in (*registry.banks.values(), *registry.sources.values()):
        if owner.drop and owner.drop.startswith("{drop}"):
            Path(owner.drop.format(drop=settings.drop)).mkdir(parents=True, exist_ok=True)


def settings_at(home: Path, url: str, **more: object) -> Settings:
    """Settings of a home whose drop zones exist and are empty."""
    environment = {"HOME": home, "WAREHOUSE_URL": url, "QUIET_SECONDS": 0, "LANDING_RESERVE_BYTES": 0, **more}
    settings = Settings.from_environment({f"CREDITVILLAGE_{name}": str(value) for name, value in environment.items()})
    make_zones(settings)
    return settings


def configured(folder: Path, bank: str, **changes: object) -> Path:
    """The shipped configuration with some keys of one bank changed; `None` removes a key."""
    shutil.copytree(PROJECT_ROOT / "config", folder, dirs_exist_ok=True)
    place = folder / "banks" / f"{bank}.yml"
    content = {**yaml.safe_load(place.read_text(encoding="utf-8")), **changes}
    place.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return folder


def put(settings: Settings, zone: str, name: str, content: bytes, written_at: float = WRITTEN_AT) -> Path:
    """A file in a drop zone, last written at that time."""
    place = settings.drop / zone / name
    place.write_bytes(content)
    os.utime(place, (written_at, written_at))
    return place


def put_flagged(settings: Settings, zone: str, source: Path, name: str = LOANS) -> Path:
    """A copy of a file and its flag."""
    place = put(settings, zone, name, source.read_bytes())
    put(settings, zone, f"{name}.ok", b"")
    return place


def take_in_all(settings: Settings, now: datetime = NOW) -> list[Delivery]:
    """Scan, and take in whatever is claimed and has no outcome."""
    pipeline.scan(settings, now=now)
    return [pipeline.take_in(settings, one.delivery_id, now=now) for one in pipeline.waiting(settings)]


def final_state(settings: Settings) -> dict[str, Any]:
    """All that a delivery leaves behind and that somebody may rely on, without times."""
    ledger = Ledger(str(settings.warehouse_url))
    deliveries = ledger.deliveries()
    ways = {one.delivery_id: [each.to_state for each in ledger.transitions(one.delivery_id)] for one in deliveries}
    ledger.close()
    outbox = settings.outbox
    return {
        "deliveries": [_lasting(one) for one in deliveries],
        "ways": ways,
        "receipts": {str(path.relative_to(outbox)): _said(path) for path in sorted(outbox.rglob("*.receipt.*"))},
        "accepted": {path.name: pq.read_table(path).to_pylist() for path in settings.restricted.rglob("*.parquet")},
        "landed": len(list(settings.landing.rglob("*.landed"))),
        "half landed": len(list(settings.landing.rglob("*.part"))),
    }


def _said(path: Path) -> Any:
    """What a file of a receipt says; every home signs with a key of its own, which its readable forms name."""
    if path.suffix == ".json":
        return {name: value for name, value in json.loads(path.read_text("utf-8")).items() if name != "signature"}
    return path.read_bytes() if path.suffix == ".csv" else None


def _lasting(delivery: Delivery) -> Mapping[str, Any]:
    return {name: value for name, value in vars(delivery).items() if name not in BY_TIME}


def receipts(settings: Settings) -> list[dict[str, Any]]:
    """The JSON receipts in the outbox."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(settings.outbox.rglob("*.receipt.json"))]
