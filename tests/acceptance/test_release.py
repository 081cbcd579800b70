"""A release is the same for psql, PyIceberg and DuckDB; doing anything twice changes nothing; nobody leaks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from etl import months, pipeline
from etl.contract.ddl import schema_of
from etl.publish.catalog import open_catalog
from etl.workspace import Workspace
from tests.acceptance.county import NOW, PERIODS, County

pytestmark = pytest.mark.acceptance
Totals = dict[str, tuple[Any, ...]]


def decimal_columns(ws: Workspace, table: str) -> list[str]:
    return [column.name for column in ws.contracts[table].published if column.type.startswith("decimal")]


def in_warehouse(county: County, ws: Workspace, table: str) -> tuple[Any, ...]:
    sums = "".join(f", coalesce(sum({name}), 0)" for name in decimal_columns(ws, table))
    return county.rows(f"SELECT count(*){sums} FROM {schema_of(table)}.{table}")[0]


def in_lake(county: County, ws: Workspace, table: str) -> tuple[Any, ...]:
    files = county.settings.lake / "current" / table / "*" / "*.parquet"
    sums = "".join(f", coalesce(sum({name}), 0)" for name in decimal_columns(ws, table))
    with duckdb.connect() as con:
        return con.execute(f"SELECT count(*){sums} FROM read_parquet('{files}')").fetchone()


def in_iceberg(rows: pa.Table, ws: Workspace, table: str) -> tuple[Any, ...]:
    return (rows.num_rows, *(pc.sum(rows[name]).as_py() or 0 for name in decimal_columns(ws, table)))


def test_warehouse_lake_and_iceberg_hold_the_same_to_the_fen(county: County) -> None:
    ws = Workspace(county.settings)
    catalog = open_catalog(str(county.settings.warehouse_url), county.settings.lake)
    for table in ws.contracts:
        expected = in_warehouse(county, ws, table)
        assert in_lake(county, ws, table) == expected, table
        assert in_iceberg(catalog.load_table(f"curated.{table}").scan().to_arrow(), ws, table) == expected, table
        if table not in ("core_merchants",):
            assert expected[0] > 0, table


def test_the_release_verifies_itself(county: County) -> None:
    assert list(months.publisher(Workspace(county.settings)).verify()) == []


def test_views_work_from_any_directory(county: County, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as con:
        con.execute((county.settings.lake / "catalog.duckdb.sql").read_text(encoding="utf-8"))
        [(rows,)] = con.execute("SELECT count(*) FROM mart_household_credit").fetchall()
    assert rows == in_warehouse(county, Workspace(county.settings), "mart_household_credit")[0]


def test_running_the_month_again_changes_nothing(county: County) -> None:
    before = [release.release_id for release in county.ledger.releases()]
    grading = pipeline.grade_period(county.settings, PERIODS[-1], now=NOW)
    assert (grading.changed, grading.staged) == (False, None)
    assert pipeline.publish_period(county.settings, PERIODS[-1], now=NOW) is None
    assert [release.release_id for release in county.ledger.releases()] == before
    assert pipeline.ready_periods(county.settings, now=NOW, again=True) == []


def test_readers_have_names_comments_and_no_right_to_write(county: County) -> None:
    uncommented = county.rows(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns "
        "WHERE table_schema IN ('core', 'mart', 'audit', 'ledger') AND col_description("
        "format('%I.%I', table_schema, table_name)::regclass, ordinal_position) IS NULL"
    )
    assert uncommented == []
    analyst = county.server.environment(role="analyst")
    refused = psql(county, analyst, "DELETE FROM mart_household_credit")
    assert "permission denied" in refused.stderr
    assert psql(county, analyst, "SELECT count(*) > 0 FROM mart_household_credit").stdout.strip() == "t"


def psql(county: County, environment: dict[str, str], query: str) -> subprocess.CompletedProcess[str]:
    command = [str(county.server.psql()), "-X", "-At", "-c", query]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def everything_written(county: County) -> Iterator[tuple[str, bytes]]:
    """Every file outside the restricted zone, Parquet decoded, and a dump of the whole warehouse."""
    for folder in ("outbox", "data_docs", "lake", "staging"):
        for path in sorted((county.home / folder).rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes()
                if path.suffix == ".parquet":
                    with duckdb.connect() as con:
                        yield (
                            str(path),
                            con.execute(f"SELECT string_agg(CAST(t AS VARCHAR), chr(10)) FROM '{path}' t")
                            .fetchone()[0]
                            .encode()
                            if con.execute(f"SELECT count(*) FROM '{path}'").fetchone()[0]
                            else b"",
                        )
    dump = county.server.psql().with_name("pg_dump")
    environment = county.server.environment(role="creditvillage")
    yield "warehouse", subprocess.run([str(dump)], env=environment, capture_output=True, check=True).stdout


def test_no_identity_leaves_the_restricted_zone(county: County) -> None:
    canaries = sorted({value for period in PERIODS for value in county.canaries(period)})
    assert len(canaries) > 500
    leaks = {}
    for place, content in everything_written(county):
        text = content.decode("utf-8", "replace") + content.decode("gb18030", "replace")
        found = [value for value in canaries if value in text]
        if found:
            leaks[place] = len(found)
    assert leaks == {}
