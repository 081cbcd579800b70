"""Run a command and watch it: wall seconds and the peak memory of its whole process tree."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.05


class RunError(Exception):
    """The command ended with another exit code than 0; the message is the end of what it said."""


@dataclass(frozen=True)
class Measurement:
    """One run. `peak_bytes` is the highest sum, over all processes alive at one instant, of resident memory.

    `cpu_seconds` is what the command and its children used; servers beside it are not in it. Of a command that says both
    itself, only the work it timed counts, not what it did before.
    """

    seconds: float
    peak_bytes: int
    cpu_seconds: float = 0.0
    said: dict[str, Any] = field(default_factory=dict)


def resident_bytes(process: psutil.Process) -> int:
    """Memory of one process, pages shared with others counted in proportion (PSS) where the kernel tells.

    Plain RSS would count the shared buffers of a database server once for every one of its processes.
    """
    try:
        return _proportional_bytes(process.pid)
    except (OSError, ValueError):
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _proportional_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(pid)


def tree_bytes(roots: Sequence[int]) -> int:
    """Memory of processes and all their descendants; one that has just ended counts nothing."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            found.update({each.pid: each for each in (process, *process.children(recursive=True))})
        except psutil.Error:
            continue
    return sum(resident_bytes(process) for process in found.values())


class Watch(threading.Thread):
    """Samples the memory of process trees until told to end."""

    def __init__(self, roots: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self._roots = roots
        self._ended = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, tree_bytes(self._roots))

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.peak_bytes


def measure(command: Sequence[str], *, environment: Mapping[str, str], beside: Sequence[int] = ()) -> Measurement:
    """Run a command to its end. `beside` are servers that work for it and whose memory counts too.

    The last line the command writes to its standard output is taken as JSON. Raises RunError.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        started, spent = time.perf_counter(), _cpu_of_children()
        process = subprocess.Popen(command, stdout=said, stderr=complained, env={**os.environ, **environment})
        watch = Watch([process.pid, *beside])
        watch.start()
        try:
            code = process.wait()
        finally:
            process.kill()
        seconds = time.perf_counter() - started
        peak = watch.end()
        if code != 0:
            raise RunError(f"{' '.join(command[1:4])} ended with {code}: {_end_of(complained)}")
        last = _last_json(said)
        timed = last.get("seconds", seconds), last.get("cpu_seconds", _cpu_of_children() - spent)
        return Measurement(timed[0], peak, timed[1], last)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end_of(stream: Any) -> str:
    stream.seek(0)
    return " / ".join(stream.read().strip().splitlines()[-3:])


def _last_json(stream: Any) -> dict[str, Any]:
    stream.seek(0)
    lines = stream.read().strip().splitlines()
    try:
        return dict(json.loads(lines[-1]))
    except (IndexError, ValueError):
        return {}
