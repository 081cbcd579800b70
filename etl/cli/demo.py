"""`make demo`: two synthetic months through the real DAGs under a real scheduler, then a summary. Nothing stays running."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from etl.cli.stack import stack_of
from etl.cli.summary import print_summary
from etl.intake.arrivals import file_pattern
from etl.ledger.repository import Ledger
from etl.local.airflow import AirflowClient, AirflowError
from etl.local.postgres import EmbeddedPostgres, database
from etl.period import Period
from etl.registry import Expected, load_registry
from etl.settings import Settings

PERIODS = ("2024-02", "2024-03")
TIMEOUT_SECONDS = 900.0
_LOOK_SECONDS = 0.5
_DELIVERED_ON_DAY = 4


def run_demo(settings: Settings, *, households: int, seed: int, console: Console) -> None:
    """Simulate, deliver, wait for the releases, summarise. Raises AirflowError when a run fails or takes too long."""
    begun = time.monotonic()
    settings = replace(settings, quiet_seconds=0.0)
    server = EmbeddedPostgres(settings.home)
    with _progress(console) as progress, server.held(), database(settings) as found:
        Ledger(str(found.warehouse_url)).migrate()
        with _simulated(settings, households, seed, progress) as worlds:
            starting = progress.add_task("Airflow", total=None, note="")
            stack = stack_of(found, server, with_pages=False)
            with stack.running(lambda text: progress.update(starting, description=f"Airflow: {text}")) as client:
                progress.update(starting, description="Airflow 已就绪 is up", total=1, completed=1)
                month = _Month(found, server, client, progress)
                for period in PERIODS:
                    month.deliver(period, worlds[period].result())
                month.await_release(PERIODS[-1])
        print_summary(found, PERIODS, console)
    console.print(
        f"\n{households:,} 户 households, {time.monotonic() - begun:.0f} 秒 seconds. 已全部停止 nothing is left running."
    )


def _progress(console: Console) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, TimeElapsedColumn(), console=console)


@contextmanager
def _simulated(settings: Settings, households: int, seed: int, progress: Progress) -> Iterator[dict[str, Future[Path]]]:
    """The months of the synthetic county, written by another process while Airflow starts."""
    folder = settings.home / "simulation"
    shutil.rmtree(folder, ignore_errors=True)
    task = progress.add_task(f"合成县 synthetic county ({households:,} 户)", total=len(PERIODS), note="")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        worlds = {}
        for period in PERIODS:
            worlds[period] = pool.submit(_write_world, folder, period, households, seed)
            worlds[period].add_done_callback(lambda _: progress.advance(task))
        yield worlds


def _write_world(folder: Path, period: str, households: int, seed: int) -> Path:
    """One month of the synthetic county below `folder/<period>`; its truth goes to `folder/truth.json`."""
    from simulator import simulate

    simulate(folder / period, period, households, seed)
    return folder / period


class _Month:
    """Plays government and banks for one month after the other, and watches the ledger."""

    def __init__(self, settings: Settings, server: EmbeddedPostgres, client: AirflowClient, progress: Progress) -> None:
        self.settings, self.server, self.client, self.progress = settings, server, client, progress
        self.ledger = Ledger(str(settings.warehouse_url))
        self.registry = load_registry(settings.config)

    def deliver(self, period: str, world: Path) -> None:
        """Put a month's files and register state in place, trigger its sources, wait for every outcome."""
        from simulator import government

        delivered_at = self._delivered_at(period)
        government.load(self.server.url("government"), world / "government")
        drop_files(world / "drop", self.settings.drop, delivered_at)
        self.client.set_clock(delivered_at + timedelta(hours=1))
        for dag_id in ("household_records", "mediation_logs", "village_life"):
            self.client.trigger(dag_id, partition_key=period)
        self.client.trigger("intake")
        expected = {(entry.supplier, entry.dataset) for entry in self._awaited(period, world)}
        task = self.progress.add_task(f"{period} 收件 deliveries", total=len(expected), note="")
        self._await(lambda: self._count(period, expected, task) >= len(expected), f"the deliveries of {period}")

    def _awaited(self, period: str, world: Path) -> Iterator[Expected]:
        """Deliveries that the month needs, and the occasional ones whose files lie in the synthetic county."""
        names = [path.name for path in (world / "drop").rglob("*")]
        for entry in self.registry.possible(Period.parse(period)):
            feed = self.registry.feed(entry.supplier, entry.dataset)
            if not feed.occasional or any(file_pattern(str(feed.files)).fullmatch(name) for name in names):
                yield entry

    def await_release(self, period: str) -> None:
        """Wait until the current release holds the month as graded from all that was delivered."""
        from etl import months
        from etl.workspace import Workspace

        ws = Workspace(self.settings)
        task = self.progress.add_task(f"{period} 评级与发布 grades and release", total=1, note="")
        self._await(
            lambda: self._is_released(period, task) and not months.ready_periods(ws), f"the release of {period}"
        )
        self.progress.update(task, completed=1)

    def _delivered_at(self, period: str) -> datetime:
        day = Period.parse(period).next().start.replace(day=_DELIVERED_ON_DAY)
        return datetime.combine(day, datetime.min.time(), ZoneInfo(self.registry.county.timezone)) + timedelta(hours=9)

    def _count(self, period: str, expected: set[tuple[str, str]], task: TaskID) -> int:
        deliveries = self.ledger.deliveries(period)
        settled = {(d.supplier, d.dataset) for d in deliveries if d.in_force} & expected
        rows = sum(delivery.rows_read or 0 for delivery in deliveries)
        self.progress.update(task, completed=len(settled), note=f"{rows:,} 行 rows")
        return len(settled)

    def _is_released(self, period: str, task: TaskID) -> bool:
        current = self.ledger.current_release()
        graded = self.ledger.last_gradings(PERIODS)
        self.progress.update(task, note=f"已评 graded: {', '.join(sorted(graded)) or '–'}")
        return current is not None and current.period == period

    def _await(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not ready():
            self._require_health(what, deadline)
            time.sleep(_LOOK_SECONDS)

    def _require_health(self, what: str, deadline: float) -> None:
        failed = self.client.failures()
        if failed:
            raise AirflowError(f"{failed[0].dag_id}: task {failed[0].task_id} failed — see {failed[0].log}")
        if time.monotonic() > deadline:
            raise AirflowError(
                f"{what}: not finished after {TIMEOUT_SECONDS:.0f} s — see {self.settings.airflow_home}/logs"
            )


def drop_files(source: Path, target: Path, delivered_at: datetime) -> None:
    """Deliver files as banks and villages do: complete, with the time of delivery; flags come after their files."""
    files = sorted(
        (path for path in source.rglob("*") if path.is_file()), key=lambda path: (path.suffix == ".ok", path)
    )
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_name(f".{place.name}.part")
        shutil.copyfile(path, scratch)
        os.utime(scratch, (delivered_at.timestamp(), delivered_at.timestamp()))
        scratch.replace(place)
