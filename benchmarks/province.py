"""Our verbs on a province, without ledger, scheduler, receipts and database: files in, graded Parquet out.

land → read → cast → check (one process per core, a file each) → conform → grade → Parquet. Every function called is the
one `etl.pipeline` calls; only what needs the ledger is left out, and Great Expectations, which serves counties.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from benchmarks.quiet import quiet_month
from benchmarks.workloads import PERIOD, Input, inputs
from etl import deliveries, months
from etl.contract.predicates import keys_columns
from etl.deliveries import Subject
from etl.engine.duck import DuckEngine
from etl.examination import examine
from etl.intake.delivery import land
from etl.intake.sealing import create_master_key
from etl.ledger.records import Delivery
from etl.registry import Layout
from etl.settings import Settings
from etl.tokens import TokenKey
from etl.workspace import Workspace

NOW = datetime(2024, 3, 6, 1, 0, tzinfo=UTC)
TAKING_MEMORY = "500MB"
GRADING_MEMORY = "2600MB"


@dataclass(frozen=True)
class Task:
    """One file and the delivery it is."""

    given: Input
    delivery: Delivery


def run(folder: Path, home: Path) -> dict[str, int]:
    """The whole month; gives rows read, rows of all published tables, and whole seconds of both halves."""
    ws = Workspace(Settings.from_environment())
    tasks = [Task(given, _delivery(given, number)) for number, given in enumerate(inputs(folder, ws.registry), start=1)]
    _make_keys(ws)
    started = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        taken = list(pool.map(take_in, tasks))
    halfway = time.perf_counter()
    published = _grade(ws, taken)
    return {
        "rows": sum(delivery.rows_read or 0 for delivery in taken),
        "rejected": sum(delivery.rows_rejected or 0 for delivery in taken),
        "published": published,
        "intake_seconds": round(halfway - started),
        "grading_seconds": round(time.perf_counter() - halfway),
    }


def _make_keys(ws: Workspace) -> None:
    """Both keys of the home, made once before the workers want them."""
    create_master_key(ws.master_key_path)
    TokenKey.create(ws.settings.token_key_path)


def _delivery(given: Input, number: int) -> Delivery:
    """What the ledger would hold of a file just claimed."""
    found = given.path.stat()
    return Delivery(
        delivery_id=f"{given.supplier}-{given.dataset}-{PERIOD}-{number:04d}",
        supplier=given.supplier, dataset=given.dataset, period=str(PERIOD), sequence=number, revision=1,
        name=given.path.name, address=str(given.path), parts=(), mtime_ns=found.st_mtime_ns, size_bytes=found.st_size,
        sha256=None, landed_path=None, wrapped_key=None, step="claimed", outcome=None, in_force=False,
        superseded_by=None, rows_read=None, rows_accepted=None, rows_rejected=None, counts_by_rule={}, not_checked=(),
        ruleset=None, content=None, details={}, cutoff_at=None, claimed_at=NOW, stepped_at=NOW, finished_at=None,
        attempts=0,
    )  # fmt: skip


def take_in(task: Task) -> Delivery:
    """Land, read, cast and check one file, and keep what is accepted."""
    ws = _workspace()
    subject = deliveries.subject_of(ws, _landed(ws, task.delivery))
    subject = replace(subject, layout=_as_file(subject.layout))
    with ws.engine() as engine:
        engine.con.execute("SET threads = 1")
        verdict, _ = examine(engine, ws, subject)
        if not verdict.is_accepted:
            raise SystemExit(f"{task.given.path.name}: {verdict.outcome} {json.dumps(dict(verdict.counts_by_rule))}")
        _keep_no_keys(engine, ws, subject)
    return replace(
        subject.delivery,
        outcome=verdict.outcome,
        in_force=True,
        rows_read=verdict.rows_read,
        rows_accepted=verdict.rows_accepted,
        rows_rejected=verdict.rows_rejected,
        ruleset=subject.ruleset,
    )


def _keep_no_keys(engine: DuckEngine, ws: Workspace, subject: Subject) -> None:
    """The register's CSV comes without the key list of a pull: an empty one, as nothing was there before."""
    if subject.feed.key:
        columns = keys_columns(subject.contract, subject.feed.key)
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
        engine.write_parquet(f"SELECT {nothing} WHERE FALSE", deliveries.path_of(ws, "keys", subject.delivery))


@cache
def _workspace() -> Workspace:
    """Settings, configuration and contracts, read once per worker."""
    return Workspace(replace(Settings.from_environment(), memory_limit=TAKING_MEMORY))


def _landed(ws: Workspace, delivery: Delivery) -> Delivery:
    landed = land(delivery.address, (), ws.settings.landing, ws.master_key_path, delivery_id=delivery.delivery_id)
    return replace(
        delivery, sha256=landed.sha256, landed_path=str(landed.path), wrapped_key=landed.wrapped_key, step="landed"
    )


def _as_file(layout: Layout) -> Layout:
    """The register comes as CSV here: there is no database to pull from."""
    return layout.model_copy(update={"format": "delimited"}) if layout.format == "database" else layout


def _grade(ws: Workspace, taken: list[Delivery]) -> int:
    """Conform and grade the month and write every published table; gives the rows written."""
    month = quiet_month(ws, taken)
    with Workspace(replace(ws.settings, memory_limit=GRADING_MEMORY)).engine() as engine:
        months.register_inputs(engine, month)
        months.conform(engine, month)
        months.grade(engine, month)
        return sum(file.rows for file in months.write_tables(engine, month))
