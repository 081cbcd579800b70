"""Processes that kill themselves at a step of the pipeline, as `kill -9` would."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
from collections.abc import Callable
from typing import Any

from etl.settings import Settings

# One clean process imports everything once; each child is forked from it, and so is a process of its own.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["etl.pipeline", "great_expectations", "tests.intake.bankdesk"])
# Where the function stands, its name, whether to die before or after it, and at which call.
Step = tuple[str, str, str, int]


def die(place: str, name: str, when: str, call: int) -> None:
    """Make this process kill itself before or after that call of a function."""
    owner = pkgutil.resolve_name(place)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def last(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **more)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, last)


def _live(work: Callable[[Settings], Any], settings: Settings, steps: list[Step], number: int | None) -> None:
    if number is not None:
        die(*steps[number])
    work(settings)


def run(
    work: Callable[[Settings], Any], settings: Settings, steps: list[Step] | None = None, number: int | None = None
) -> int | None:
    """The exit code of a process of its own that does the work, to the end or to the step at which it dies."""
    child = CHILDREN.Process(target=_live, args=(work, settings, steps or [], number), daemon=True)
    child.start()
    child.join(120)
    return child.exitcode
