"""The figures of a run: medians, ratios and promises, calculated by hand."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.harness import Result
from benchmarks.measure import Measurement
from benchmarks.workloads import WORKLOADS

GIB = 1 << 30


def _result(ours: list[float], peak_gib: float = 2.0, households: int = 5_000_000) -> Result:
    floor = [Measurement(seconds, GIB, 6.0, {"rows": 9_000_000, "bytes": 10**9}) for seconds in (4.0, 5.0, 20.0)]
    mine = [Measurement(seconds, int(peak_gib * GIB)) for seconds in ours]
    return Result(WORKLOADS["province"], households, {"floor": floor, "ours": mine})


def test_the_ratio_is_that_of_the_medians() -> None:
    result = _result([10.0, 14.0, 60.0])
    assert report.ratio(result) == pytest.approx(14 / 5)
    assert report.ratios(result) == pytest.approx([2.5, 2.8, 3.0])


def test_the_peak_is_the_worst_of_all_runs() -> None:
    result = _result([10.0, 10.0, 10.0])
    result.runs["ours"][1] = Measurement(10.0, 5 * GIB)
    assert report.peak_bytes(result.runs["ours"]) == 5 * GIB


@pytest.mark.parametrize(
    ("ours", "peak_gib", "broken"),
    [([14.0] * 3, 4.0, 0), ([15.0] * 3, 4.0, 0), ([15.1] * 3, 4.0, 1), ([14.0] * 3, 4.1, 1), ([16.0] * 3, 5.0, 2)],
)
def test_promises_are_held_against_the_figures(ours: list[float], peak_gib: float, broken: int) -> None:
    assert len(report.broken_promises([_result(ours, peak_gib)])) == broken


def test_nothing_is_promised_at_another_size() -> None:
    result = _result([100.0] * 3, households=20_000)
    assert report.broken_promises([result]) == []
    assert report.promises(result) == ["no promise at this size"]


def test_the_county_is_measured_without_a_promise() -> None:
    result = dataclasses.replace(_result([100.0] * 3), workload=WORKLOADS["county"], households=178_000)
    assert report.promises(result) == []


def test_the_table_shows_both_sides_and_the_verdict() -> None:
    text = io.StringIO()
    report.show([_result([10.0, 14.0, 60.0])], Console(file=text, width=160))
    shown = text.getvalue()
    for part in (
        "10.0–60.0",
        "2.80",
        "1,800,000",
        "642,857",
        "kept: ratio 2.80 ≤ 3",
        "kept: peak memory 2.00 ≤ 4 GiB",
    ):
        assert part in shown


def test_figures_are_kept_under_the_date_handed_in(tmp_path: Path) -> None:
    path = report.keep([_result([10.0, 14.0, 60.0])], tmp_path, "2024-03-06")
    kept = json.loads(path.read_text("utf-8"))
    assert path.name == "2024-03-06.json"
    assert kept["workloads"][0]["ratio"] == 2.8
    assert kept["workloads"][0]["sides"]["ours"]["seconds"] == [10.0, 14.0, 60.0]
