"""One benchmark run: input once per workload, then floor and ours in turn, each in a fresh process and folder."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks import report
from benchmarks.measure import Measurement, RunError, measure
from benchmarks.workloads import WORKLOADS, Workload, generate
from etl.settings import PROJECT_ROOT

SIDES = ("floor", "ours")
_DONE = ".generated"
RESULTS = PROJECT_ROOT / "benchmarks" / "results"


@dataclass
class Result:
    """All runs of one workload."""

    workload: Workload
    households: int
    runs: dict[str, list[Measurement]] = field(default_factory=lambda: {side: [] for side in SIDES})

    @property
    def rows(self) -> int:
        """Input rows, as counted by the floor."""
        return int(self.runs["floor"][0].said["rows"])

    @property
    def input_bytes(self) -> int:
        return int(self.runs["floor"][0].said["bytes"])


def run_all(given: argparse.Namespace) -> int:
    """Measure the workloads asked for; 0 if all ran and every promise made at this size is kept, else 1."""
    console = Console()
    results: list[Result] = []
    with _scratch(given.scratch) as scratch:
        for name in given.workload or WORKLOADS:
            try:
                results.append(_run_workload(WORKLOADS[name], given, scratch, console))
            except RunError as failure:
                console.print(f"[red]{name}[/]: {failure}", soft_wrap=True, highlight=False)
                return 1
    report.show(results, console)
    console.print(f"figures kept in {report.keep(results, RESULTS, given.date)}")
    return 1 if report.broken_promises(results) else 0


@contextmanager
def _scratch(given: Path | None) -> Iterator[Path]:
    """The folder for input and output: the one given, kept, or a temporary one in the home's file system."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    home = Path(os.environ.get("CREDITVILLAGE_HOME", ".creditvillage")).resolve()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=home) as folder:
        yield Path(folder)


def _run_workload(workload: Workload, given: argparse.Namespace, scratch: Path, console: Console) -> Result:
    households = given.households or workload.households
    result = Result(workload, households)
    folder = scratch / f"{workload.name}-{households}"
    with console.status(f"{workload.name}: generating the input") as status:
        if not (folder / _DONE).is_file():
            generate(workload, folder, households=households)
            (folder / _DONE).touch()
        for number in range(1, given.runs + 1):
            for side in SIDES:
                status.update(f"{workload.name}: {side}, run {number} of {given.runs}")
                result.runs[side].append(_run_once(side, workload, folder, scratch / "out"))
                console.print(
                    f"  {workload.name} {side} {number}: {result.runs[side][-1].seconds:.1f} s", highlight=False
                )
    return result


def _run_once(side: str, workload: Workload, folder: Path, out: Path) -> Measurement:
    """One side once, in an empty folder removed afterwards; what it needs beside it is up before the clock starts."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        side,
        "--workload",
        workload.name,
        "--input",
        str(folder),
        "--out",
        str(out),
    ]
    environment = {"CREDITVILLAGE_HOME": str(out), "CREDITVILLAGE_QUIET_SECONDS": "0", "PYTHONPATH": str(PROJECT_ROOT)}
    beside: list[int] = []
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, out, ignore_errors=True)
        if side == "ours":
            if (folder / "drop").is_dir():
                _link_tree(folder / "drop", out / "drop")
            if (folder / "config").is_dir():
                environment["CREDITVILLAGE_CONFIG"] = str(folder / "config")
            if workload.with_database:
                urls, beside = stack.enter_context(_databases(out, folder / "government"))
                environment |= urls
        return measure(command, environment=environment, beside=beside)


def _link_tree(source: Path, target: Path) -> None:
    """The supplier's files in a drop zone of their own, without copying them."""
    shutil.copytree(source, target, copy_function=os.link)


@contextmanager
def _databases(home: Path, government: Path) -> Iterator[tuple[dict[str, str], list[int]]]:
    """An empty warehouse and a filled government database; gives their addresses and the server's process."""
    from etl.local.postgres import EmbeddedPostgres
    from simulator.government import load

    server = EmbeddedPostgres(home)
    try:
        server.start()
        urls = {
            "CREDITVILLAGE_WAREHOUSE_URL": server.url("creditvillage"),
            "CREDITVILLAGE_GOVERNMENT_URL": server.url("government"),
        }
        if government.is_dir():
            load(urls["CREDITVILLAGE_GOVERNMENT_URL"], government)
        yield urls, _listeners(server.port())
    finally:
        server.erase()


def _listeners(port: int) -> list[int]:
    """The processes that listen on a local port; none where the system does not tell."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.Error:
        return []
    return sorted({each.pid for each in found if each.laddr and each.laddr.port == port and each.pid})
