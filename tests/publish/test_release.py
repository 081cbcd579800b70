"""One release over lake, catalog, warehouse and ledger: published together, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text

from etl.publish import catalog as iceberg
from etl.publish import partition, warehouse
from etl.publish import release as release_module
from etl.publish.catalog import open_catalog
from etl.publish.lake import DataFile, released_files
from etl.publish.manifest import Facts, Manifest
from etl.publish.release import Publisher
from etl.vocabulary import DataError
from tests.publish.tables import credit, households, loans

pytestmark = pytest.mark.postgres
Write = Callable[..., list[DataFile]]
Publish = Callable[..., Manifest | None]

# 2 banks × 20 notes of n × 1000.01 yuan (n = 0 … 19, n = 3 is null), by hand: (190 − 3) × 1000 + 19 × 0.01
BALANCES = 2 * (Decimal(187_000) + Decimal("0.19"))


@pytest.fixture
def publish(publisher: Publisher, written: Write, facts: Facts, now: datetime) -> Publish:
    minutes = count()

    def do(period: str, audit: release_module.Audit = release_module.no_audit, **tables: Any) -> Manifest | None:
        later = now + timedelta(minutes=next(minutes))
        return publisher.publish(written(period, **tables), period=period, facts=facts, now=later, audit=audit)

    return do


def rows(url: str, sql: str, role: str | None = None) -> list[tuple[Any, ...]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        if role:
            connection.execute(text(f"SET ROLE {role}"))
        found = [tuple(row) for row in connection.execute(text(sql))]
    engine.dispose()
    return found


def in_duckdb(lake: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute((lake / "catalog.duckdb.sql").read_text(encoding="utf-8"))
        return connection.execute(sql).fetchall()


SUMS = (
    "SELECT count(*), sum(balance_yuan), sum(annual_rate_pct), sum(overdue_days), min(issued_on), max(loan_key)"
    " FROM core_loans"
)


def test_warehouse_lake_and_iceberg_hold_the_same_rows_to_the_fen(publisher: Publisher, publish: Publish) -> None:
    release = publish("2024-03")
    assert release is not None and release.release_id == "2024-03-001"
    [in_warehouse] = rows(publisher.url, SUMS)
    assert in_warehouse[:2] == (40, BALANCES)
    assert in_duckdb(publisher.lake, SUMS) == [in_warehouse]
    scanned = open_catalog(publisher.url, publisher.lake).load_table("curated.core_loans").scan().to_arrow()
    with duckdb.connect() as connection:
        connection.register("core_loans", scanned)
        assert connection.execute(SUMS).fetchall() == [in_warehouse]
    assert publisher.verify() == []


def test_the_manifest_names_every_file_with_rows_bytes_and_content(publisher: Publisher, publish: Publish) -> None:
    release = publish("2024-03")
    assert release is not None
    folder = publisher.lake / "releases" / "2024-03-001"
    said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {key: said[key] for key in ("release_id", "period", "previous", "ruleset", "key_version", "synthetic")} == {
        "release_id": "2024-03-001",
        "period": "2024-03",
        "previous": None,
        "ruleset": "r1",
        "key_version": "k1",
        "synthetic": "合成数据",
    }
    assert said["policy"]["status"] == "illustrative" and said["notes"] == {"notice_days": 0}
    part = said["tables"]["core_loans"]["2024-03"]
    assert part["rows"] == 40 and len(part["files"]) == 2
    linked = {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.parquet")}
    assert linked == {file.release_name for file in release.files}
    assert Manifest.of((folder / "manifest.json").read_text(encoding="utf-8")) == release


def test_a_table_in_several_files_is_the_same_everywhere(
    publisher: Publisher, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "RANGE_ROWS", 2_048)
    release = publish("2024-03", mart_household_credit=credit("2024-03", count=5_000))
    assert release is not None
    files = release.files_of(("mart_household_credit", "2024-03"))
    assert [(file.part, file.rows) for file in files] == [(1, 2_048), (2, 2_048), (3, 904)]
    paths = released_files(publisher.lake, "mart_household_credit", "2024-03")
    read = [key for path in paths for key in pq.read_table(path).column("household_key").to_pylist()]
    assert (len(read), read) == (5_000, sorted(read))
    assert rows(publisher.url, "SELECT count(*) FROM mart_household_credit") == [(5_000,)]
    assert publisher.verify() == []
    folder = publisher.lake / "releases" / "2024-03-001"
    assert Manifest.of((folder / "manifest.json").read_text(encoding="utf-8")) == release
    changed = publish("2024-03", mart_household_credit=credit("2024-03", count=4_999))
    assert changed is not None
    assert publisher.verify() == publisher.verify("2024-03-001") == []


def test_the_same_content_publishes_nothing(publisher: Publisher, publish: Publish) -> None:
    assert publish("2024-03") is not None
    before = sorted(path.name for path in (publisher.lake / "iceberg").rglob("*"))
    assert publish("2024-03") is None
    assert len(publisher.list()) == 1
    assert sorted(path.name for path in (publisher.lake / "iceberg").rglob("*")) == before


def test_a_period_is_replaced_and_the_others_stay(publisher: Publisher, publish: Publish) -> None:
    publish("2024-02")
    publish("2024-03")
    third = publish("2024-02", core_loans=loans("2024-02", "baiyun_rcb", add="1.00"))
    assert third is not None and (third.release_id, third.previous) == ("2024-02-002", "2024-03-001")
    balances = rows(publisher.url, "SELECT period, count(*), sum(balance_yuan) FROM core_loans GROUP BY 1 ORDER BY 1")
    assert balances == [("2024-02", 20, BALANCES / 2 + 19), ("2024-03", 40, BALANCES)]
    assert in_duckdb(publisher.lake, "SELECT period, count(*) FROM core_loans GROUP BY 1 ORDER BY 1") == [
        ("2024-02", 20),
        ("2024-03", 40),
    ]
    [difference] = publisher.diff("2024-03-001", "2024-02-002")
    assert (difference.table, difference.period) == ("core_loans", "2024-02")
    assert [row.status for row in publisher.list()] == ["superseded", "superseded", "current"]
    assert publisher.verify() == []


def test_every_table_bears_every_releases_tag_and_old_ones_stay_readable(
    publisher: Publisher, publish: Publish
) -> None:
    publish("2024-03")
    publish("2024-03", mart_household_credit=credit("2024-03", add="0.01"))
    catalog = open_catalog(publisher.url, publisher.lake)
    sums = {}
    for table in ("core_loans", "core_households", "mart_household_credit"):
        held = catalog.load_table(f"curated.{table}")
        assert {"2024-03-001", "2024-03-002"} <= held.refs().keys()
        for tag in ("2024-03-001", "2024-03-002"):
            scan = held.scan(snapshot_id=held.snapshot_by_name(tag).snapshot_id)
            sums[table, tag] = scan.to_arrow().num_rows
    assert len({sums["core_loans", tag] for tag in ("2024-03-001", "2024-03-002")}) == 1
    assert publisher.verify("2024-03-001") == []
    assert len(catalog.load_table("curated.core_loans").snapshots()) == 1, "an unchanged table gets a tag, no snapshot"


def test_a_table_without_rows_is_readable_everywhere(publisher: Publisher, publish: Publish) -> None:
    publish("2024-03", core_households=households("2024-03", count=0))
    assert in_duckdb(publisher.lake, "SELECT count(*) FROM core_households") == [(0,)]
    assert rows(publisher.url, "SELECT count(*) FROM core_households") == [(0,)]
    table = open_catalog(publisher.url, publisher.lake).load_table("curated.core_households")
    assert table.scan().to_arrow().num_rows == 0 and "2024-03-001" in table.refs()
    assert publisher.verify() == []


def test_the_audit_sees_the_staged_rows_and_can_forbid_the_release(publisher: Publisher, publish: Publish) -> None:
    publish("2024-03")
    seen: dict[str, int] = {}

    def audit(staged: Any) -> list[str]:
        for table, relation in staged.items():
            [(seen[table],)] = rows(publisher.url, f"SELECT count(*) FROM {relation}")
        return ["core_loans: G401: too few rows"]

    before = state(publisher)
    with pytest.raises(DataError, match="G401"):
        publish("2024-03", audit=audit, core_loans=loans("2024-03", "baiyun_rcb", count=7))
    assert seen == {"core_loans": 7, "core_households": 15, "mart_household_credit": 15}
    assert state(publisher) == before
    assert rows(publisher.url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'stage'") == [(0,)]


def state(publisher: Publisher) -> dict[str, Any]:
    """Everything a reader can see of the lake, the catalog, the warehouse and the ledger."""
    return {
        "lake": sorted(str(path) for path in publisher.lake.glob("releases/*/*/*/*")),
        "folders": sorted(path.name for path in (publisher.lake / "releases").iterdir()),
        "current": str((publisher.lake / "current").readlink()),
        "catalog": sorted(rows(publisher.url, "SELECT table_name, metadata_location FROM iceberg_tables")),
        "loans": rows(publisher.url, SUMS),
        "mart": rows(publisher.url, "SELECT count(*), sum(balance_yuan) FROM mart_household_credit"),
        "releases": [(row.release_id, row.status) for row in publisher.list()],
    }


def broken(*_: Any, **__: Any) -> None:
    raise ConnectionError("broke off")


@pytest.mark.parametrize("place", ["catalog", "warehouse", "ledger", "link"])
def test_a_failure_anywhere_leaves_all_three_as_they_were(
    publisher: Publisher, publish: Publish, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    publish("2024-03")
    before = state(publisher)
    with monkeypatch.context() as patched:
        if place == "catalog":
            patched.setattr(iceberg, "register_release", broken)
        elif place == "warehouse":
            patched.setattr(warehouse, "switch_period", broken)
        elif place == "ledger":
            patched.setattr(publisher.ledger, "breaks", True)
        else:
            patched.setattr(release_module.files_of_lake, "build_release", broken)
        with pytest.raises(ConnectionError):
            publish("2024-03", core_loans=loans("2024-03", "baiyun_rcb", add="5"))
    assert state(publisher) == before
    assert publisher.verify() == []
    again = publish("2024-03", core_loans=loans("2024-03", "baiyun_rcb", add="5"))
    assert again is not None and again.release_id == "2024-03-002"
    assert publisher.verify() == []


def test_duplicate_keys_forbid_the_release_and_are_told_without_values(publisher: Publisher, publish: Publish) -> None:
    publish("2024-03")
    before = state(publisher)
    doubled = loans("2024-03", "baiyun_rcb", "baiyun_rcb")
    with pytest.raises(DataError, match="core_loans, period 2024-03: the key is not unique") as failure:
        publish("2024-03", core_loans=doubled)
    assert "0037" not in str(failure.value)
    assert state(publisher) == before


def test_a_death_between_commit_and_link_is_healed(
    publisher: Publisher, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("2024-03")
    with monkeypatch.context() as patched:
        patched.setattr(release_module.files_of_lake, "switch_current", broken)
        with pytest.raises(ConnectionError):
            publish("2024-03", core_loans=loans("2024-03", "baiyun_rcb", add="5"))
    assert in_duckdb(publisher.lake, SUMS)[0][0] == 40
    assert publisher.verify() == ["lake/current points at 2024-03-001, not at 2024-03-002"]
    assert publisher.heal() is True
    assert in_duckdb(publisher.lake, SUMS) == rows(publisher.url, SUMS)
    assert publisher.heal() is False
    assert publisher.verify() == []


def test_publishing_heals_first(publisher: Publisher, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(release_module.files_of_lake, "switch_current", broken)
        with pytest.raises(ConnectionError):
            publish("2024-03")
    assert publish("2024-03") is None
    assert publisher.verify() == []


def test_rollback_restores_the_older_release_everywhere(publisher: Publisher, publish: Publish, now: datetime) -> None:
    publish("2024-02")
    first = state(publisher)
    publish("2024-03")
    publish("2024-02", core_loans=loans("2024-02", "baiyun_rcb", add="5"), core_households=households("2024-02", 9))
    target = publisher.rollback("2024-02-001", now=now)
    assert target.release_id == "2024-02-001"
    after = state(publisher)
    assert {key: after[key] for key in ("current", "loans", "mart")} == {
        key: first[key] for key in ("current", "loans", "mart")
    }
    assert [(row.release_id, row.status) for row in publisher.list()] == [
        ("2024-02-001", "current"),
        ("2024-03-001", "superseded"),
        ("2024-02-002", "rolled_back"),
    ]
    assert in_duckdb(publisher.lake, "SELECT DISTINCT period FROM core_loans") == [("2024-02",)]
    scan = open_catalog(publisher.url, publisher.lake).load_table("curated.core_loans").scan()
    assert set(scan.to_arrow().column("period").to_pylist()) == {"2024-02"}
    assert publisher.verify() == []
    again = publish("2024-03")
    assert again is not None and again.release_id == "2024-03-002", "an identifier is never used twice"
    assert publisher.verify() == []


def test_rollback_refuses_an_unknown_or_damaged_release(publisher: Publisher, publish: Publish, now: datetime) -> None:
    first = publish("2024-03")
    publish("2024-03", core_loans=loans("2024-03", "baiyun_rcb", add="5"))
    before = state(publisher)
    with pytest.raises(DataError, match="no release 2024-09-001"):
        publisher.rollback("2024-09-001", now=now)
    assert first is not None
    damage(publisher.lake / first.files[0].path)
    with pytest.raises(DataError, match="its bytes have changed"):
        publisher.rollback("2024-03-001", now=now)
    assert state(publisher) == before


def damage(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(20)
        file.write(b"\x00\x00")


def test_verify_names_what_was_changed_behind_our_back(publisher: Publisher, publish: Publish) -> None:
    release = publish("2024-03")
    assert release is not None
    engine = create_engine(publisher.url)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE core.core_loans SET balance_yuan = balance_yuan + 0.01 WHERE loan_key = '0037'")
        )
        connection.execute(text("DELETE FROM mart.mart_household_credit WHERE household_key = 'h001'"))
    engine.dispose()
    assert publisher.verify() == [
        "warehouse: core_loans, period 2024-03: other values in its 40 rows",
        "warehouse: mart_household_credit, period 2024-03: 14 rows instead of 15",
    ]
    (publisher.lake / "releases" / "2024-03-001" / "core_loans" / "period=2024-03" / "stray.parquet").touch()
    (publisher.lake / "current" / release.files[-1].release_name).unlink()
    problems = publisher.verify()
    assert any("stray.parquet: a file the manifest does not name" in problem for problem in problems)
    assert any("mart_household_credit" in problem and "missing" in problem for problem in problems)


def test_analysts_read_parents_by_bare_name_and_nothing_else(publisher: Publisher, publish: Publish) -> None:
    publish("2024-03")
    assert rows(publisher.url, "SELECT count(*) FROM core_loans") == [(40,)]
    grants = rows(
        publisher.url,
        "SELECT c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('core', 'mart', 'part', 'stage')"
        " AND has_schema_privilege('analyst', n.oid, 'USAGE') AND has_table_privilege('analyst', c.oid, 'SELECT')"
        " ORDER BY 1",
    )
    assert grants == [("core_households", "core"), ("core_loans", "core"), ("mart_household_credit", "mart")]


def test_tables_and_columns_have_comments(publisher: Publisher, publish: Publish) -> None:
    publish("2024-03")
    silent = rows(
        publisher.url,
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 AND NOT a.attisdropped"
        " WHERE n.nspname IN ('core', 'mart') AND c.relkind = 'p' AND col_description(c.oid, a.attnum) IS NULL",
    )
    assert silent == []


def test_the_folder_of_an_attempt_that_died_before_it_committed_is_not_taken_over(
    publisher: Publisher, publish: Publish
) -> None:
    leftover = publisher.lake / "releases" / "2024-03-001" / "core_loans" / "period=2024-03"
    leftover.mkdir(parents=True)
    (leftover / "stray.parquet").touch()
    assert publish("2024-03") is not None
    assert publisher.verify() == []


def test_before_the_first_release_there_is_nothing_to_verify(publisher: Publisher) -> None:
    assert publisher.current() is None and publisher.heal() is False
    with pytest.raises(DataError, match="nothing is released yet"):
        publisher.verify()


def test_periods_of_one_release_are_not_mixed(
    publisher: Publisher, written: Write, facts: Facts, now: datetime
) -> None:
    with pytest.raises(DataError, match="2024-02"):
        publisher.publish(written("2024-02"), period="2024-03", facts=facts, now=now)
