"""The table a run ends with, and the file of its figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measurement

if TYPE_CHECKING:
    from benchmarks.harness import Result

BAR_WIDTH = 40
_DIGITS = "#.3g"
GIB = 1 << 30


def median_seconds(runs: Sequence[Measurement]) -> float:
    return median(run.seconds for run in runs)


def peak_bytes(runs: Sequence[Measurement]) -> int:
    return max(run.peak_bytes for run in runs)


def ratio(result: Result) -> float:
    """Median of ours over median of the floor."""
    return median_seconds(result.runs["ours"]) / median_seconds(result.runs["floor"])


def ratios(result: Result) -> list[float]:
    """Ours over floor, pair by pair: neighbours in time, so a slow minute of the machine hits both."""
    pairs = zip(result.runs["ours"], result.runs["floor"], strict=True)
    return [ours.seconds / floor.seconds for ours, floor in pairs]


def show(results: Sequence[Result], console: Console) -> None:
    """Print one table for all workloads, bars, a line on the machine, and every promise with its verdict."""
    table = Table(
        title="ours against the floor: the same files, the same run",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in ("workload", "side"):
        table.add_column(heading, no_wrap=True)
    for heading in ("median s", "min–max", "CPU s", "rows/s", "peak GiB", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        _add_rows(table, result)
    console.print(table)
    for result in results:
        _say_more(result, console)
    console.print(f"machine: {machine()}", highlight=False)


def _add_rows(table: Table, result: Result) -> None:
    for side, runs in result.runs.items():
        seconds = [run.seconds for run in runs]
        table.add_row(
            result.workload.name,
            side,
            f"{median(seconds):.1f}",
            f"{min(seconds):.1f}–{max(seconds):.1f}",
            f"{median(run.cpu_seconds for run in runs):.1f}",
            f"{result.rows / median(seconds):,.0f}",
            f"{peak_bytes(runs) / GIB:.2f}",
            f"{ratio(result):{_DIGITS}}" if side == "ours" else "1",
            end_section=side == "ours",
        )


def _say_more(result: Result, console: Console) -> None:
    size = f"{result.rows:,} rows, {result.input_bytes / 1e6:,.0f} MB, {result.households:,} households"
    console.print(f"{result.workload.name}: {result.workload.says} ({size})", highlight=False)
    slowest = max(median_seconds(runs) for runs in result.runs.values())
    for side, runs in result.runs.items():
        middle = median_seconds(runs)
        bar = "█" * max(1, round(BAR_WIDTH * middle / slowest))
        console.print(f"  {side:5} {bar} {middle:.1f} s", highlight=False)
    for promise in promises(result):
        console.print(f"  {promise}", highlight=False)


def _scale(result: Result) -> str:
    banks = result.workload.banks
    return f"{banks} files of {result.households:,}" if banks else f"{result.households:,} households"


def promises(result: Result) -> list[str]:
    """What was promised of this workload and whether it held; nothing is promised of another size."""
    wanted = result.workload
    if result.households != wanted.households:
        return ["no promise at this size"] if wanted.promises_anything else []
    found = []
    if wanted.max_ratio is not None:
        found.append(
            _verdict(f"ratio {ratio(result):{_DIGITS}} ≤ {wanted.max_ratio:g}", ratio(result) <= wanted.max_ratio)
        )
    if wanted.max_peak_bytes is not None:
        peak = peak_bytes(result.runs["ours"])
        text = f"peak memory {peak / GIB:.2f} ≤ {wanted.max_peak_bytes / GIB:g} GiB"
        found.append(_verdict(text, peak <= wanted.max_peak_bytes))
    if wanted.max_seconds is not None:
        seconds = median_seconds(result.runs["ours"])
        found.append(_verdict(f"{seconds:.1f} ≤ {wanted.max_seconds:g} s", seconds <= wanted.max_seconds))
    if wanted.min_rows_per_second is not None:
        rate = result.rows / median_seconds(result.runs["ours"])
        text = f"{rate:,.0f} ≥ {wanted.min_rows_per_second:,} rows/s"
        found.append(_verdict(text, rate >= wanted.min_rows_per_second))
    return found


def _verdict(text: str, kept: bool) -> str:
    return f"{'kept' if kept else 'BROKEN'}: {text}"


def broken_promises(results: Sequence[Result]) -> list[str]:
    return [promise for result in results for promise in promises(result) if promise.startswith("BROKEN")]


def machine() -> str:
    memory = psutil.virtual_memory().total / GIB
    return f"{psutil.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.machine()}"


def figures(result: Result) -> dict[str, Any]:
    """One workload as plain data."""
    sides = {
        side: {
            "seconds": [round(run.seconds, 3) for run in runs],
            "median_seconds": round(median_seconds(runs), 3),
            "cpu_seconds": [round(run.cpu_seconds, 3) for run in runs],
            "rows_per_second": round(result.rows / median_seconds(runs)),
            "peak_bytes": peak_bytes(runs),
            "said": runs[-1].said,
        }
        for side, runs in result.runs.items()
    }
    return {
        "workload": result.workload.name, "households": result.households, "rows": result.rows,
        "input_bytes": result.input_bytes, "ratio": round(ratio(result), 4),
        "ratios": [round(each, 4) for each in ratios(result)], "promises": promises(result), "sides": sides,
    }  # fmt: skip


def keep(results: Sequence[Result], folder: Path, date: str | None) -> Path:
    """Write the figures beside the earlier ones; `latest` unless a date was handed in."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date or 'latest'}.json"
    content = {"date": date, "machine": machine(), "workloads": [figures(result) for result in results]}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
