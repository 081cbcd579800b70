"""Whenever the scans happen to look, a file that is still being written is never taken."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.intake.arrivals import Listed, Observation, Patience, Scan, observe, scan, settled
from etl.registry import Registry, load_registry
from etl.settings import PROJECT_ROOT, Settings
from tests.intake.bankdesk import NOW, make_zones

QUIET_SECONDS = 30.0
BEGUN_AT = NOW.timestamp()
NAME = "贷款台账2024-03.xlsx"


@dataclass(frozen=True)
class Writing:
    """When a supplier writes (seconds from the start) and how large the file is after each write."""

    at: list[float]
    size_bytes: list[int]

    @property
    def finished_at(self) -> float:
        return self.at[-1]

    def state(self, moment: float) -> tuple[int, float]:
        """Size and time of the last write at a moment."""
        last = max(index for index, at in enumerate(self.at) if at <= moment)
        return self.size_bytes[last], self.at[last]


@st.composite
def writings(draw: st.DrawFn) -> Writing:
    """A writer that never rests for the quiet period; some writes leave the size as it is."""
    longest = st.just(QUIET_SECONDS - 0.01)
    gaps = draw(st.lists(longest | st.floats(0.01, QUIET_SECONDS - 0.01), min_size=1, max_size=8))
    grown = draw(st.lists(st.sampled_from([0, 0, 1, 4096]), min_size=len(gaps), max_size=len(gaps)))
    at, sizes = [0.0], [1]
    for gap, more in zip(gaps, grown, strict=True):
        at.append(at[-1] + gap)
        sizes.append(sizes[-1] + more)
    return Writing(at, sizes)


looks = st.lists(st.integers(0, 300).map(float) | st.floats(0.0, 300.0), min_size=1, max_size=25).map(sorted)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry([PROJECT_ROOT / "config"])


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.from_environment({"CREDITVILLAGE_HOME": home})
        make_zones(settings)
        yield settings


def _write(place: Path, size_bytes: int, at: float) -> None:
    place.write_bytes(b"x" * size_bytes)
    os.utime(place, (at, at))


@given(writing=writings(), moments=looks)
def test_on_this_machine(registry: Registry, settings: Settings, writing: Writing, moments: list[float]) -> None:
    place, seen = settings.drop / "xinhe_vb" / NAME, Scan()
    patience = Patience(quiet_seconds=QUIET_SECONDS, single_scan_after_seconds=QUIET_SECONDS)
    for moment in [*moments, 600.0]:
        size_bytes, written_at = writing.state(moment)
        _write(place, size_bytes, BEGUN_AT + written_at)
        now = NOW + timedelta(seconds=moment)
        seen = scan(registry, settings, now=now, seen=seen.observations, patience=patience)
        if seen.arrivals:
            assert moment >= writing.finished_at, "taken while it was written"
    assert [arrival.name for arrival in seen.arrivals] == [NAME], "and in the end it is taken"


@given(writing=writings(), moments=looks, clock_error=st.floats(-7200.0, 7200.0))
def test_on_a_server_whose_clock_is_wrong_and_knows_whole_seconds(
    writing: Writing, moments: list[float], clock_error: float
) -> None:
    patience = Patience(quiet_seconds=QUIET_SECONDS, single_scan_after_seconds=QUIET_SECONDS)
    before: dict[str, Observation] = {}
    taken = False
    for moment in [*moments, 600.0, 640.0]:
        now = NOW + timedelta(seconds=moment)
        listed = _on_server(writing, moment, clock_error)
        taken = settled(before, [listed], now=now, patience=patience) != set()
        before = observe(before, [listed], now=now)
        assert not taken or moment >= writing.finished_at, "taken while it was written"
    assert taken, "and in the end it is taken"


def _on_server(writing: Writing, moment: float, clock_error: float) -> Listed:
    size_bytes, written_at = writing.state(moment)
    whole_second = int(BEGUN_AT + written_at + clock_error)
    address = f"sftp://bank/{NAME}"
    return Listed(address, NAME, size_bytes, whole_second * 10**9, grain_seconds=1.0, is_remote=True)


def test_a_rewrite_within_the_same_second_is_not_mistaken_for_rest() -> None:
    """Written at 10.1 s and, with the same size, at 10.9 s: the server says 10 both times."""
    writing = Writing([0.1, 0.9, 30.5], [5, 5, 9])
    patience, before, moments = Patience(quiet_seconds=QUIET_SECONDS), {}, (0.2, 30.3)
    for moment in moments:
        now = NOW + timedelta(seconds=moment)
        listed = _on_server(writing, moment, 0.0)
        assert settled(before, [listed], now=now, patience=patience) == set()
        before = observe(before, [listed], now=now)


def test_nothing_of_another_machine_is_taken_at_first_sight() -> None:
    old = Listed("s3://bank/x", "x", 1, 0, is_remote=True)
    at_once = Patience(quiet_seconds=0.0, single_scan_after_seconds=0.0)
    assert settled({}, [old], now=NOW, patience=at_once) == set()
    seen = observe({}, [old], now=NOW)
    assert settled(seen, [old], now=datetime.fromtimestamp(BEGUN_AT + 1, NOW.tzinfo), patience=at_once) == {
        "s3://bank/x"
    }
