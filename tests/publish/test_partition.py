"""A table in files by ranges of its key: in order across files, and exchanging rows of some owners gives what writing all gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.engine.duck import DuckEngine
from etl.publish import lake as shelf
from etl.publish import partition
from etl.publish.lake import DataFile, contents_of
from etl.publish.partition import Exchange, Shape, exchange_rows, write_shape
from tests.publish.tables import loans

PERIOD, COUNT = "2024-03", 9_000
COLUMNS = {
    "period": "text",
    "bank_code": "text",
    "loan_key": "text",
    "balance_yuan": "decimal(18,2)",
    "overdue_days": "integer",
}
SHAPE = Shape("core_loans", COLUMNS, ("loan_key",), "bank_code")


def with_column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


ROWS = with_column(
    loans(PERIOD, "baiyun", "qinghe", count=COUNT),
    "loan_key",
    pa.array([f"{n * 37 % COUNT:05d}" for n in range(COUNT)] * 2),
)


@pytest.fixture(scope="module", autouse=True)
def small_ranges() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partition, "RANGE_ROWS", 2_048)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranges")


@pytest.fixture(scope="module")
def held(home: Path) -> list[DataFile]:
    return write(ROWS, home)


def write(rows: pa.Table, lake: Path, threads: int = 2) -> list[DataFile]:
    with DuckEngine(threads=threads) as engine:
        engine.register_arrow("rows_to_write", rows)
        return write_shape(engine, SHAPE, "rows_to_write", PERIOD, lake)


def exchanged(
    held: list[DataFile], lake: Path, before: pa.Table, now: pa.Table, owners: list[str]
) -> list[DataFile] | None:
    """Let the rows of some notes be as they are in `now`."""
    with DuckEngine() as engine:
        engine.register_arrow("owners", pa.table({"loan_key": pa.array(owners, pa.string())}))
        engine.register_arrow("before", before.filter(pc.is_in(before["loan_key"], pa.array(owners, pa.string()))))
        engine.register_arrow("now", now)
        exchange = Exchange("loan_key", "owners", "before", "now")
        return exchange_rows(engine, SHAPE, held, exchange, lake)


def test_files_of_a_source_are_read_in_the_order_of_the_key(held: list[DataFile], home: Path) -> None:
    of_bank = [file for file in held if file.source == "baiyun"]
    assert [file.rows for file in of_bank] == [2_048, 2_048, 2_048, 2_048, 808]
    assert [file.part for file in of_bank] == [1, 2, 3, 4, 5]
    shelf.build_release(home, "2024-03-001", held, "{}\n")
    linked = sorted((home / "releases" / "2024-03-001" / "core_loans" / f"period={PERIOD}").glob("baiyun-*.parquet"))
    keys = [key for path in linked for key in pq.read_table(path).column("loan_key").to_pylist()]
    assert (len(keys), keys) == (COUNT, sorted(keys))
    assert [file.span for file in of_bank] == [
        (keys[at], keys[min(at + 2_047, COUNT - 1)]) for at in range(0, COUNT, 2_048)
    ]


def test_the_same_rows_give_the_same_files_whatever_the_threads(held: list[DataFile], tmp_path: Path) -> None:
    again = write(ROWS.take(list(reversed(range(len(ROWS))))), tmp_path, threads=1)
    assert again == held


def test_only_the_files_with_the_owners_rows_are_written_anew(held: list[DataFile], home: Path) -> None:
    owners = [key for key in sorted(ROWS["loan_key"].to_pylist()) if key][100:102]
    is_theirs = pc.is_in(ROWS["loan_key"], pa.array(owners))
    days = pc.if_else(is_theirs, pa.scalar(99, ROWS["overdue_days"].type), ROWS["overdue_days"])
    now = with_column(ROWS, "overdue_days", days)
    found = exchanged(held, home, ROWS, now, owners)
    assert found == write(now, home)
    changed = {file.path for file in found} - {file.path for file in held}
    assert 1 <= len(changed) <= 2


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_any_exchange_gives_what_writing_everything_gives(
    held: list[DataFile], home: Path, data: st.DataObject
) -> None:
    keys = sorted(set(ROWS["loan_key"].to_pylist()))
    gone = data.draw(st.lists(st.sampled_from(keys), max_size=3, unique=True))
    new = data.draw(
        st.lists(st.sampled_from(["", "0", "00", "zz", *(f"{key}x" for key in keys[::997])]), max_size=3, unique=True)
    )
    left = ROWS.filter(pc.invert(pc.is_in(ROWS["loan_key"], pa.array(gone, pa.string()))))
    added = ROWS.slice(0, len(new)).set_column(
        ROWS.column_names.index("loan_key"), "loan_key", pa.array(new, pa.string())
    )
    now = pa.concat_tables([left, added])
    found = exchanged(held, home, ROWS, now, sorted([*gone, *new]))
    if not gone and not new:
        assert found == held
        return
    assert found is not None
    assert contents_of(found) == contents_of(write(now, home))
    for source in ("baiyun", "qinghe"):
        paths = [home / file.path for file in found if file.source == source]
        read = [key for path in paths for key in pq.read_table(path).column("loan_key").to_pylist()]
        assert read == sorted(read)


def test_a_source_that_comes_or_goes_is_no_exchange(held: list[DataFile], home: Path) -> None:
    stranger = ROWS.slice(0, 1).set_column(ROWS.column_names.index("bank_code"), "bank_code", pa.array(["xinhe"]))
    owners = stranger["loan_key"].to_pylist()
    assert exchanged(held, home, ROWS, pa.concat_tables([ROWS, stranger]), owners) is None
