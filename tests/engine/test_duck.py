"""The engine: content is what the rows say, bytes are what content and order say, and threads change neither."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.engine.base import Content, Engine
from etl.engine.duck import ROW_GROUP_ROWS, DuckEngine

SCHEMA = pa.schema(
    [
        ("household_key", pa.string()),
        ("balance_yuan", pa.decimal128(18, 2)),
        ("rate_pct", pa.decimal128(9, 5)),
        ("overdue_days", pa.int32()),
        ("people", pa.int64()),
        ("issued_on", pa.date32()),
        ("is_overdue", pa.bool_()),
    ]
)
TEXTS = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["", "\x1f", "\x1e", "𠮷", "合成", "'; --"]))
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.none() | st.decimals(min_value=-(10**15), max_value=10**15, places=2),
        st.none() | st.decimals(min_value=-999, max_value=999, places=5),
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.dates(date(1900, 1, 1), date(2099, 12, 31)),
        st.none() | st.booleans(),
    ),
    max_size=30,
)


@pytest.fixture
def engine() -> Iterator[DuckEngine]:
    with DuckEngine(memory_limit="512MB") as opened:
        yield opened


def text_of(value: Any) -> str:
    if value is None:
        return "\x1e"
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def content_by_python(rows: Sequence[Sequence[Any]]) -> str:
    """DESIGN section 2, written a second time."""
    digests = (hashlib.md5("\x1f".join(map(text_of, row)).encode()).hexdigest() for row in rows)
    return f"{len(rows)}:{sum(int(digest[:15], 16) for digest in digests)}"


def as_arrow(rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 1000))
def test_content_equals_python_and_ignores_the_order_of_rows(rows: list[tuple[Any, ...]], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    with DuckEngine() as engine:
        engine.register_arrow("as_given", as_arrow(rows))
        engine.register_arrow("shuffled", as_arrow(shuffled))
        assert str(engine.content("as_given", SCHEMA.names)) == content_by_python(rows)
        assert engine.content("shuffled", SCHEMA.names) == engine.content("as_given", SCHEMA.names)


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 30))
def test_contents_of_two_parts_add_up(rows: list[tuple[Any, ...]], cut: int) -> None:
    with DuckEngine() as engine:
        for name, part in (("whole", rows), ("head", rows[:cut]), ("tail", rows[cut:])):
            engine.register_arrow(name, as_arrow(part))
        whole, head, tail = (engine.content(name, SCHEMA.names) for name in ("whole", "head", "tail"))
        assert head + tail == whole
        assert Content.parse(str(whole)) == whole


def test_content_sees_one_changed_fen_and_tells_null_from_empty(engine: DuckEngine) -> None:
    row = ("k", Decimal("10.00"), Decimal("4.35000"), 0, 1, date(2024, 3, 31), False)
    engine.register_arrow("one", as_arrow([row]))
    engine.register_arrow("fen", as_arrow([(row[0], Decimal("10.01"), *row[2:])]))
    engine.register_arrow("blank", as_arrow([("", *row[1:])]))
    engine.register_arrow("null", as_arrow([(None, *row[1:])]))
    contents = {str(engine.content(name, SCHEMA.names)) for name in ("one", "fen", "blank", "null")}
    assert len(contents) == 4


def write(folder: Path, name: str, threads: int) -> bytes:
    rows = 2 * ROW_GROUP_ROWS + 1000
    with DuckEngine(threads=threads, memory_limit="1GB") as engine:
        engine.run_model(
            "notes",
            "SELECT md5(i::VARCHAR) AS loan_key, CAST(i * 7 % 1000 AS DECIMAL(18, 2)) AS balance_yuan,"
            " CASE WHEN i % 5 = 0 THEN NULL ELSE i % 20 END AS days FROM range($rows) AS r (i)",
            {"rows": rows},
        )
        assert engine.write_parquet("SELECT * FROM notes ORDER BY loan_key", folder / name) == rows
    return (folder / name).read_bytes()


def test_bytes_depend_neither_on_threads_nor_on_the_run(tmp_path: Path) -> None:
    written = {
        hashlib.sha256(write(tmp_path, f"{n}.parquet", threads)).hexdigest() for n, threads in enumerate((1, 2, 4, 1))
    }
    assert len(written) == 1


def test_files_are_zstd_in_fixed_row_groups(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", 2)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert [metadata.row_group(n).num_rows for n in range(3)] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 1000]
    assert {metadata.row_group(0).column(n).compression for n in range(3)} == {"ZSTD"}


def test_a_view_over_files_has_exactly_the_columns_asked_for(engine: DuckEngine, tmp_path: Path) -> None:
    engine.write_parquet("SELECT 1 AS a, 'x' AS b", tmp_path / "old.parquet")
    columns = {"b": "text", "newer": "decimal(9,5)", "a": "bigint"}
    engine.register_parquet("seen", [tmp_path / "old.parquet"], columns)
    assert engine.fetch("SELECT * FROM seen") == [("x", None, 1)]
    described = engine.fetch("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'seen'")
    assert described == [("b", "VARCHAR"), ("newer", "DECIMAL(9,5)"), ("a", "BIGINT")]


def test_no_files_give_an_empty_typed_view(engine: DuckEngine) -> None:
    engine.register_parquet("nothing", [], {"issued_on": "date", "balance_yuan": "decimal(18,2)"})
    assert engine.fetch("SELECT * FROM nothing") == []
    assert str(engine.content("nothing", ["issued_on", "balance_yuan"])) == "0:0"


def test_a_model_may_replace_what_it_reads_and_name_few_of_the_parameters(engine: DuckEngine) -> None:
    engine.register_arrow("cases", pa.table({"x": [1, 2, 3]}))
    engine.run_model(
        "cases", "SELECT x * $factor AS x FROM cases WHERE x >= $least", {"factor": 10, "least": 2, "spare": 0}
    )
    assert engine.fetch("SELECT x FROM cases ORDER BY x") == [(20,), (30,)]


def test_a_failed_model_leaves_the_former_rows(engine: DuckEngine) -> None:
    engine.run_model("kept", "SELECT 1 AS x")
    with pytest.raises(Exception, match="no_such_table"):
        engine.run_model("kept", "SELECT * FROM no_such_table")
    assert engine.fetch("SELECT x FROM kept") == [(1,)]


def test_duckdb_is_an_engine(engine: DuckEngine) -> None:
    assert isinstance(engine, Engine)
