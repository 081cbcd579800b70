"""`creditvillage run`: the verbs for one month in this process, with a progress bar and the step table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from etl import pipeline
from etl.cli import tables
from etl.cli.releases import gate_line
from etl.ledger.records import Delivery
from etl.period import Period
from etl.registry import Source, Supplier
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

Step = tuple[str, Callable[[], dict[str, Any]]]
Verb = Callable[..., list[Delivery]]


def run_month(
    settings: Settings,
    period: str,
    *,
    dataset: str | None,
    bank: str | None,
    now: datetime,
    console: Console,
    as_json: bool,
) -> int:
    """Take in what is there for the month; grade and publish it once it is complete.

    Returns 1 when a delivery of the month was refused as a whole and none took its place. Raises ConfigurationError
    for a bank or dataset that nobody configured.
    """
    ws = Workspace(settings)
    _require_known(ws, dataset, bank)
    ws.ledger.migrate()
    done: list[dict[str, Any]] = []
    with _progress(console, quiet=as_json) as progress:
        task = progress.add_task(period, total=None)
        for name, step in _steps(ws, period, dataset=dataset, bank=bank, now=now):
            progress.update(task, description=f"{period} {name}")
            begun = time.perf_counter()
            result = step()
            done.append({"step": name, **result, "seconds": f"{time.perf_counter() - begun:.1f}"})
            progress.advance(task)
    tables.print_steps(console, done, as_json=as_json)
    expected = [(entry.supplier, entry.dataset) for entry in ws.registry.expected(Period.parse(period))]
    lacking = set(ws.ledger.missing(period, expected))
    return tables.exit_code([one for one in ws.ledger.deliveries(period) if (one.supplier, one.dataset) in lacking])


def _require_known(ws: Workspace, dataset: str | None, bank: str | None) -> None:
    owners: list[Supplier | Source] = [*ws.registry.banks.values(), *ws.registry.sources.values()]
    datasets = sorted({name for owner in owners for name in owner.feeds})
    if bank is not None and bank not in ws.registry.banks:
        raise ConfigurationError("--bank", bank, "no such bank", f"use one of {', '.join(sorted(ws.registry.banks))}")
    if dataset is not None and dataset not in datasets:
        raise ConfigurationError("--dataset", dataset, "no such dataset", f"use one of {', '.join(datasets)}")


def _progress(console: Console, *, quiet: bool) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet)


def _steps(ws: Workspace, period: str, *, dataset: str | None, bank: str | None, now: datetime) -> Iterator[Step]:
    """The steps of a month; one is only looked for when the one before it is done."""
    for code, source in ws.registry.sources.items():
        if bank is None and (dataset is None or dataset in source.feeds):
            verb = pipeline.pull if source.kind == "database" else pipeline.collect_files
            yield f"{verb.__name__.split('_')[0]} {code}", partial(_sourced, verb, ws, code, period, now)
    pipeline.scan(ws.settings, now=now, quiet_seconds=0.0, closed_too=True)
    for delivery in _waiting(ws, period, dataset, bank):
        yield f"take in {delivery.dataset}", partial(_taken, ws, delivery, now)
    if dataset is None and bank is None:
        yield "grade", partial(_graded, ws, period, now)
        yield "publish", partial(_published, ws, period, now)


def _waiting(ws: Workspace, period: str, dataset: str | None, bank: str | None) -> list[Delivery]:
    return [
        delivery
        for delivery in ws.ledger.deliveries(period, bank)
        if delivery.outcome is None and delivery.supplier in ws.registry.banks and dataset in (None, delivery.dataset)
    ]


def _sourced(verb: Verb, ws: Workspace, code: str, period: str, now: datetime) -> dict[str, Any]:
    return _counted(code, verb(ws.settings, code, period, now=now))


def _taken(ws: Workspace, delivery: Delivery, now: datetime) -> dict[str, Any]:
    return _counted(delivery.name, [pipeline.take_in(ws.settings, delivery.delivery_id, now=now)])


def _counted(what: str, taken: list[Delivery]) -> dict[str, Any]:
    return {
        "what": f"{what} ({len(taken)} 份 files)" if len(taken) != 1 else f"{what}: {taken[0].outcome}",
        "rows_in": sum(delivery.rows_read or 0 for delivery in taken),
        "rows_out": sum(delivery.rows_accepted or 0 for delivery in taken),
        "rows_rejected": sum(delivery.rows_rejected or 0 for delivery in taken),
    }


def _graded(ws: Workspace, period: str, now: datetime) -> dict[str, Any]:
    grading = pipeline.grade_period(ws.settings, period, now=now)
    graded = ws.ledger.last_grading(period)
    contents = graded.contents if graded else {}
    households = int(str(contents.get("core_household_grades", "0:0")).split(":")[0])
    return {"what": f"{period} ({'new' if grading.changed else 'unchanged'})", "rows_out": households}


def _published(ws: Workspace, period: str, now: datetime) -> dict[str, Any]:
    manifest = pipeline.publish_period(ws.settings, period, now=now)
    if manifest is None:
        return {"what": "没有新内容 nothing new"}
    what = f"{manifest.release_id} · {gate_line(manifest.facts[manifest.period]['gates'])}"
    return {"what": what, "rows_out": sum(file.rows for file in manifest.files if file.period == period)}
