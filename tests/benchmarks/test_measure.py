"""A measurement that misses a grandchild or a crash would flatter whoever is measured."""

from __future__ import annotations

import sys

import pytest

from benchmarks.measure import RunError, measure

MIB = 1 << 20
HOLD = "import time; block = bytearray({size}); block[::4096] = bytes(len(block[::4096])); time.sleep({seconds})"


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_last_line_said_is_read_as_json() -> None:
    run = measure(_python("print('working'); print('{\"rows\": 7}')"), environment={})
    assert run.said == {"rows": 7}


def test_saying_nothing_is_no_error() -> None:
    assert measure(_python("pass"), environment={}).said == {}


def test_seconds_are_wall_seconds() -> None:
    assert measure(_python("import time; time.sleep(0.6)"), environment={}).seconds == pytest.approx(0.8, abs=0.3)


def test_the_work_of_children_counts_and_waiting_does_not() -> None:
    busy = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    run = measure(
        _python(f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {busy!r}]); time.sleep(0.5)"),
        environment={},
    )
    assert 0.5 <= run.cpu_seconds < 0.9


def test_the_memory_of_children_counts_with_that_of_the_parent() -> None:
    child = HOLD.format(size=150 * MIB, seconds=1.0)
    parent = f"import subprocess, sys; block = bytearray({100 * MIB}); block[::4096] = bytes(len(block[::4096])); "
    parent += f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    peak = measure(_python(parent), environment={}).peak_bytes
    assert 250 * MIB < peak < 400 * MIB


def test_memory_given_back_before_the_end_still_counts() -> None:
    code = HOLD.format(size=200 * MIB, seconds=0.3) + "; del block; time.sleep(0.4)"
    assert measure(_python(code), environment={}).peak_bytes > 200 * MIB


def test_a_crash_is_an_error_with_the_end_of_what_was_said() -> None:
    with pytest.raises(RunError, match="ended with 3: no input"):
        measure(_python("import sys; sys.stderr.write('no input'); sys.exit(3)"), environment={})


def test_the_environment_is_handed_on() -> None:
    code = "import json, os; print(json.dumps({'home': os.environ['CREDITVILLAGE_HOME']}))"
    assert measure(_python(code), environment={"CREDITVILLAGE_HOME": "here"}).said == {"home": "here"}
