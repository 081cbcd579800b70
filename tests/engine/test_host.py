"""Many engines in one DuckDB: each sees its own relations only, and leaves nothing behind."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from etl.engine.duck import DuckHost


def test_engines_of_one_host_see_nothing_of_each_other() -> None:
    host = DuckHost(memory_limit="200MB", threads=1)
    with host.engine() as one, host.engine() as other:
        one.run_model("t", "SELECT 1 AS x")
        one.register_arrow("given", pa.table({"x": [3]}))
        other.run_model("t", "SELECT 2 AS x")
        assert (one.fetch("SELECT x FROM t"), other.fetch("SELECT x FROM t")) == ([(1,)], [(2,)])
        with pytest.raises(duckdb.CatalogException):
            other.fetch("SELECT x FROM given")


def test_nothing_is_left_of_an_engine_that_was_closed() -> None:
    host = DuckHost(memory_limit="200MB", threads=1)
    first = host.engine()
    first.run_model("t", "SELECT 1 AS x")
    first.close()
    first.close()
    with host.engine() as second:
        assert second.fetch("SELECT count(*) FROM duckdb_tables()") == [(0,)]
