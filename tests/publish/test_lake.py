"""Data files: one per source, named by their bytes, published columns only, never rewritten."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.contract.model import Contracts
from etl.engine.duck import DuckEngine
from etl.publish import lake as shelf
from etl.publish.lake import DataFile, sha256_of
from etl.publish.partition import write_partition
from etl.vocabulary import DataError
from tests.publish.tables import credit, loans


def write(contracts: Contracts, table: str, rows: pa.Table, lake: Path, period: str = "2024-03") -> list[DataFile]:
    with DuckEngine() as engine:
        engine.register_arrow("rows_to_write", rows)
        return write_partition(engine, contracts[table], "rows_to_write", period, lake)


def test_one_file_per_bank_with_published_columns_in_key_order(contracts: Contracts, tmp_path: Path) -> None:
    files = write(contracts, "core_loans", loans("2024-03", "qinghe", "baiyun"), tmp_path)
    assert [(file.source, file.rows) for file in files] == [("baiyun", 20), ("qinghe", 20)]
    assert [file.path.rpartition("/")[0] for file in files] == [
        "data/core_loans/period=2024-03/source=baiyun",
        "data/core_loans/period=2024-03/source=qinghe",
    ]
    read = pq.read_table(tmp_path / files[0].path)
    assert read.column_names == [column.name for column in contracts["core_loans"].published]
    assert "restricted_note" not in read.column_names
    keys = read.column("loan_key").to_pylist()
    assert keys == sorted(keys)
    assert {str(read.schema.field(name).type) for name in ("balance_yuan", "overdue_days", "issued_on")} == {
        "decimal128(18, 2)",
        "int32",
        "date32[day]",
    }


def test_the_name_says_the_bytes_and_the_same_rows_give_the_same_file(contracts: Contracts, tmp_path: Path) -> None:
    rows = loans("2024-03", "qinghe")
    [first] = write(contracts, "core_loans", rows, tmp_path)
    path = tmp_path / first.path
    assert (path.stem, first.sha256) == (sha256_of(path)[:16], sha256_of(path))
    before = path.stat()
    [again] = write(contracts, "core_loans", rows.take(list(reversed(range(20)))), tmp_path)
    assert again == first
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(path.parent.iterdir()) == [path]


def test_written_files_cannot_be_written_to(contracts: Contracts, tmp_path: Path) -> None:
    [file] = write(contracts, "mart_household_credit", credit("2024-03"), tmp_path)
    assert (tmp_path / file.path).stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("table", ["core_loans", "mart_household_credit"])
def test_a_table_without_rows_gives_one_empty_file(contracts: Contracts, tmp_path: Path, table: str) -> None:
    rows = (loans if table == "core_loans" else credit)("2024-03", *(["x"] if table == "core_loans" else []), count=0)
    [file] = write(contracts, table, rows, tmp_path)
    assert (file.source, file.rows, str(file.content)) == ("county", 0, "0:0")
    assert pq.read_table(tmp_path / file.path).num_rows == 0


def test_rows_of_another_period_are_refused(contracts: Contracts, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="15 rows of another period than 2024-03"):
        write(contracts, "mart_household_credit", credit("2024-02"), tmp_path)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("bank", ["../up", "a/b", "银行", None])
def test_a_source_that_is_no_folder_name_is_refused(contracts: Contracts, tmp_path: Path, bank: str) -> None:
    with pytest.raises(DataError, match="cannot name a folder"):
        write(contracts, "core_loans", loans("2024-03", bank), tmp_path)


def test_release_folder_links_the_files_and_the_switch_is_one_rename(contracts: Contracts, tmp_path: Path) -> None:
    files = write(contracts, "core_loans", loans("2024-03", "qinghe", "baiyun"), tmp_path)
    for release in ("2024-03-001", "2024-03-002"):
        shelf.build_release(tmp_path, release, files, "{}\n")
        shelf.switch_current(tmp_path, release, ["core_loans"])
        assert shelf.linked_release(tmp_path) == release
    linked = sorted((tmp_path / "current" / "core_loans" / "period=2024-03").glob("*.parquet"))
    assert [path.name for path in linked] == [f"{file.source}-{file.sha256[:16]}.parquet" for file in files]
    assert linked[0].samefile(tmp_path / files[0].path)
    assert shelf.released_files(tmp_path, "core_loans", "2024-03") == [
        path.resolve().parent / path.name for path in linked
    ]
    assert shelf.released_files(tmp_path, "core_loans", "2024-02") == []
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["2024-03-001", "2024-03-002"]


def test_views_work_from_any_directory(contracts: Contracts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = tmp_path / "a lake's place"
    files = write(contracts, "core_loans", loans("2024-03", "qinghe", "baiyun"), lake)
    shelf.build_release(lake, "2024-03-001", files, "{}\n")
    shelf.switch_current(lake, "2024-03-001", ["core_loans"])
    monkeypatch.chdir("/")
    with duckdb.connect() as connection:
        connection.execute((lake / "catalog.duckdb.sql").read_text(encoding="utf-8"))
        assert connection.execute("SELECT count(*), count(DISTINCT bank_code) FROM core_loans").fetchone() == (40, 2)


def test_a_release_folder_appears_complete_or_not_at_all(contracts: Contracts, tmp_path: Path) -> None:
    [file] = write(contracts, "mart_household_credit", credit("2024-03"), tmp_path)
    (tmp_path / file.path).unlink()
    with pytest.raises(FileNotFoundError):
        shelf.build_release(tmp_path, "2024-03-001", [file], "{}\n")
    assert list((tmp_path / "releases").iterdir()) == []
