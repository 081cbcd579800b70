"""A release is the same for psql, PyIceberg and DuckDB; doing anything twice changes nothing; nobody leaks."""

from __future__ import annotations

import subprocess
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
    published = {path.name for path in (county.settings.lake / "current").iterdir() if path.is_dir()}
    assert set(ws.contracts) - published == {"control_totals", "village_requests"}  # never published
    for table in sorted(published):
        expected = in_warehouse(county, ws, table)
        assert in_lake(county, ws, table) == expected, table
        assert in_iceberg(catalog.load_table(f"curated.{table}").scan().to_arrow(), ws, table) == expected, table
        if table != "core_cases":  # nobody objected to anything
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


def as_text(county: County, folder: Path) -> None:
    """What Parquet and PostgreSQL hold, as text files below `folder`."""
    for path in sorted((county.home / "lake" / "data").rglob("*.parquet")):
        place = folder / path.relative_to(county.home / "lake").with_suffix(".csv")
        place.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as con:
            con.execute(f"COPY (FROM read_parquet('{path}')) TO '{place}' (FORMAT csv)")
    dump = [str(county.server.psql().with_name("pg_dump")), "--file", str(folder / "warehouse.sql")]
    subprocess.run(dump, env=county.server.environment(), check=True)


def files_with(canaries: list[str], folders: list[Path], scratch: Path) -> list[str]:
    """Files that hold one of the texts, in UTF-8 or GB18030."""
    patterns = scratch / "patterns"
    patterns.write_bytes(b"\n".join({c.encode(code) for c in canaries for code in ("utf-8", "gb18030")}) + b"\n")
    command = ["grep", "-rlaF", "-f", str(patterns), *map(str, folders)]
    found = subprocess.run(command, env={"LC_ALL": "C"}, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    return found.stdout.splitlines()


def test_no_identity_leaves_the_restricted_zone(county: County, tmp_path: Path) -> None:
    canaries = sorted({value for period in PERIODS for value in county.canaries(period)})
    assert len(canaries) > 500
    texts = tmp_path / "texts"
    texts.mkdir()
    as_text(county, texts)
    written = [county.home / name for name in ("outbox", "data_docs", "lake", "staging")]
    assert files_with(canaries, [*written, texts], tmp_path) == []
    assert files_with(canaries, [county.settings.drop], tmp_path) != []  # the search does find what is there
