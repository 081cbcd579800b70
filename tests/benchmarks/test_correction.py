"""A correction in the benchmark gives what computing the whole month gives, and writes only files it touches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import correction
from etl.months import Staged
from etl.publish import partition
from etl.publish.lake import contents_of

HOUSEHOLDS = 3_000


@pytest.fixture(scope="module", autouse=True)
def several_files() -> Iterator[None]:
    """Files hold fewer rows, so that also a small county has several of each table."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partition, "RANGE_ROWS", 2_048)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("correction")
    correction.write_accepted(made, HOUSEHOLDS)
    return made


def test_the_correction_gives_what_the_whole_gives(folder: Path) -> None:
    in_part = correction.corrected(folder)
    whole = correction.computed_whole(folder)
    assert contents_of(in_part.staged.files) == contents_of(whole.files)
    assert in_part.affected == correction.CORRECTED
    assert len(whole.files) > 50
    assert ranges(in_part.staged) == ranges(whole)


def ranges(staged: Staged) -> set[tuple[object, ...]]:
    """Which rows each file holds."""
    return {(file.table, file.source, file.part, file.span, file.content) for file in staged.files}
