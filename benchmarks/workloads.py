"""What is measured, at which size, and where the input comes from."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etl.period import Period
from etl.registry import Feed, Layout, Registry, load_registry
from etl.settings import PROJECT_ROOT

SEED = 341181
PERIOD = Period.parse("2024-02")


@dataclass(frozen=True)
class Workload:
    """One size of the job. `profile` is the simulator's; `max_ratio` and the like are the promise, if any.

    The profile `drops` has `banks` files with `households` loan notes each and a configuration of its own; `core` has core
    tables instead of files, `accepted` rows as taken in, and the month graded from them.
    """

    name: str
    says: str
    households: int
    profile: str
    with_database: bool
    banks: int = 0
    max_ratio: float | None = None
    max_peak_bytes: int | None = None
    max_seconds: float | None = None
    min_rows_per_second: int | None = None

    @property
    def promises_anything(self) -> bool:
        return any((self.max_ratio, self.max_peak_bytes, self.max_seconds, self.min_rows_per_second))


WORKLOADS = {
    "county": Workload(
        "county", "3 banks, register, 16 town logs → release in lake and PostgreSQL", 178_000, "county",
        with_database=True,
    ),
    "province": Workload(
        "province", "5 M households, 5 M loan notes in 20 GB18030 files → graded Parquet", 5_000_000, "province",
        with_database=False,
        max_ratio=3.0, max_peak_bytes=4 << 30,
    ),
    "grading_county": Workload(
        "grading_county", "core tables of a county → all points and grades", 178_000, "core",
        with_database=False,
        max_ratio=3.0, max_peak_bytes=3 << 30,
    ),
    "grading": Workload(
        "grading", "core tables of 5 M households → all points and grades", 5_000_000, "core",
        with_database=False,
        max_ratio=3.0, max_peak_bytes=3 << 30,
    ),
    "correction": Workload(
        "correction", "ten notes corrected in a graded month of 5 M households, against computing it as a whole", 5_000_000,
        "accepted",
        with_database=False,
        max_ratio=0.02, max_peak_bytes=3 << 30,
    ),
    "intake": Workload(
        "intake", "200 banks with 20,000 notes each → outcomes, receipts, ledger", 20_000, "drops",
        with_database=True, banks=200,
        min_rows_per_second=250_000,
    ),
    "large": Workload(
        "large", "one CSV of 2 GB → outcome, receipt, ledger", 9_000_000, "drops",
        with_database=True, banks=1,
        max_peak_bytes=1 << 30,
    ),
    "precheck": Workload(
        "precheck", "one CSV of 1 M notes checked on the bank's own machine", 1_000_000, "drops",
        with_database=False, banks=1,
        max_seconds=6.0, max_peak_bytes=600 * 10**6,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Input:
    """One delivered file, and how the configuration says it is laid out."""

    path: Path
    supplier: str
    dataset: str
    layout: Layout


def generate(workload: Workload, folder: Path, *, households: int | None = None) -> None:
    """Let the simulator write the input of one month; the same bytes every time."""
    if workload.profile == "drops":
        from simulator import drops

        drops.write(folder, PERIOD, workload.banks, households or workload.households, SEED, PROJECT_ROOT / "config")
        return
    if workload.profile == "core":
        from benchmarks import grading

        grading.write_core(folder, households or workload.households)
        return
    if workload.profile == "accepted":
        from benchmarks import correction

        correction.write_accepted(folder, households or workload.households)
        return
    from simulator import simulate

    simulate(folder, str(PERIOD), households or workload.households, SEED, profile=workload.profile)


def registry(folder: Path) -> Registry:
    """The configuration of an input: its own, or what the project ships."""
    own = folder / "config"
    return load_registry((own if own.is_dir() else PROJECT_ROOT / "config",))


def inputs(folder: Path, configured: Registry) -> list[Input]:
    """All files of a simulated month that hold rows, the largest first."""
    found = [*_bank_files(folder, configured), *_source_files(folder, configured)]
    return sorted(found, key=lambda each: (-each.path.stat().st_size, each.path))


def _bank_files(folder: Path, configured: Registry) -> Iterator[Input]:
    for bank in configured.banks.values():
        for dataset, feed in bank.feeds.items():
            for path in _matching(folder / "drop" / bank.code, feed):
                yield Input(path, bank.code, dataset, feed.layout_for(PERIOD, path.name))


def _source_files(folder: Path, configured: Registry) -> Iterator[Input]:
    for source in configured.sources.values():
        for dataset, feed in source.feeds.items():
            if source.kind == "database":
                table = (feed.relation or dataset).rpartition(".")[2]
                paths = [path for path in [folder / source.code / f"{table}.csv"] if path.is_file()]
            else:
                paths = _matching(folder / "drop" / (source.drop or "").rpartition("/")[2], feed)
            for path in paths:
                yield Input(path, source.code, dataset, feed.layout_for(PERIOD, path.name))


def _matching(folder: Path, feed: Feed) -> list[Path]:
    pattern = re.sub(r"\{[^}]*\}", "*", feed.files or "")
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and fnmatch.fnmatch(path.name, pattern)]
