"""Our side, on the files the floor decodes: the whole command for a county, the bare verbs for all else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.workloads import PERIOD, WORKLOADS


def run(workload: str, folder: Path, home: Path) -> dict[str, Any]:
    """One month of a workload from an empty home; gives counts of what was done. Raises SystemExit if it fails."""
    if workload == "county":
        return _county()
    if workload == "precheck":
        return _precheck(folder)
    if WORKLOADS[workload].profile == "accepted":
        from benchmarks import correction

        return correction.run(folder)
    if WORKLOADS[workload].profile == "core":
        from benchmarks import grading

        return grading.run(folder, home)
    if WORKLOADS[workload].profile == "drops":
        from benchmarks import intake

        return intake.run(home)
    from benchmarks import province

    return province.run(folder, home)


def _county() -> dict[str, int]:
    """What `creditvillage run` does: landing, two opinions on every delivery, receipts, grades, release."""
    from etl.cli.app import run as creditvillage

    code = creditvillage(["run", "--period", str(PERIOD)])
    if code != 0:
        raise SystemExit(code)
    return {}


def _precheck(folder: Path) -> dict[str, int]:
    """What a bank types before it sends its file."""
    from etl.cli.app import run as creditvillage

    [path] = (folder / "drop").glob("*/*.csv")
    code = creditvillage(["precheck", str(path), "--bank", path.parent.name])
    if code not in (0, 1):
        raise SystemExit(code)
    return {}
