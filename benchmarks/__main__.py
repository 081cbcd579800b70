"""`python -m benchmarks run`: measure both sides and print the table. `floor` and `ours` are what it starts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.workloads import WORKLOADS


def main(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    if given.command == "run":
        from benchmarks.harness import run_all

        return run_all(given)
    said = _floor(given) if given.command == "floor" else _ours(given)
    print(json.dumps(said))
    return 0


def _floor(given: argparse.Namespace) -> dict[str, Any]:
    if WORKLOADS[given.workload].profile == "accepted":
        from benchmarks import correction

        return correction.whole(given.input, given.out)
    if WORKLOADS[given.workload].profile == "core":
        from benchmarks import grading

        return grading.rewrite(given.input, given.out)
    from benchmarks import floor

    return floor.run(given.input, given.out)


def _ours(given: argparse.Namespace) -> dict[str, Any]:
    from benchmarks import ours

    return ours.run(given.workload, given.input, given.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description="ours against the floor, on the same files")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="generate the input, measure both sides, print and keep the figures")
    run.add_argument("--workload", choices=[*WORKLOADS], action="append", help="default: all")
    run.add_argument("--runs", type=_positive, default=3)
    run.add_argument(
        "--households", type=_positive, help="a smaller (or larger) county or province than the promise is about"
    )
    run.add_argument(
        "--scratch", type=Path, help="where input and output go; default: a temporary folder, removed at the end"
    )
    run.add_argument("--date", help="names the file of results; nothing here reads the clock for it")
    for side in ("floor", "ours"):
        child = commands.add_parser(side, help=f"one run of {side}, unmeasured")
        child.add_argument("--workload", choices=[*WORKLOADS], required=True)
        child.add_argument("--input", type=Path, required=True)
        child.add_argument("--out", type=Path, required=True)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
