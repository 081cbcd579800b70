"""A contract that gains a column: old months keep their files and content, every reader sees the column."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from etl.contract.model import load_contracts
from etl.engine.duck import DuckEngine
from etl.publish.catalog import open_catalog
from etl.publish.manifest import Facts
from etl.publish.partition import write_partition
from etl.publish.release import Publisher
from etl.vocabulary import ConfigurationError
from tests.publish.conftest import MART, write_contracts
from tests.publish.tables import credit

pytestmark = pytest.mark.postgres
WIDER = MART.replace("balance_yuan: }", "balance_yuan: , town_code: }")


def publish_mart(publisher: Publisher, rows: pa.Table, period: str, facts: Facts, now: datetime) -> None:
    with DuckEngine() as engine:
        engine.register_arrow("rows", rows)
        files = write_partition(engine, publisher.contracts["mart_household_credit"], "rows", period, publisher.lake)
    assert publisher.publish(files, period=period, facts=facts, now=now) is not None


def test_a_new_column_is_null_in_old_months_everywhere(
    publisher: Publisher, tmp_path: Path, facts: Facts, now: datetime
) -> None:
    publish_mart(publisher, credit("2024-02"), "2024-02", facts, now)
    wider = replace(publisher, contracts=write_contracts(tmp_path / "wider", mart_household_credit=WIDER))
    rows = credit("2024-03").append_column("town_code", pa.array(["341181100000"] * 15))
    publish_mart(wider, rows, "2024-03", facts, now)
    expected = [("2024-02", 15, 0), ("2024-03", 15, 15)]
    query = "SELECT period, count(*), count(town_code) FROM mart_household_credit GROUP BY 1 ORDER BY 1"
    with duckdb.connect() as connection:
        connection.execute((publisher.lake / "catalog.duckdb.sql").read_text(encoding="utf-8"))
        assert connection.execute(query).fetchall() == expected
        scanned = (
            open_catalog(publisher.url, publisher.lake).load_table("curated.mart_household_credit").scan().to_arrow()
        )
        connection.execute("DROP VIEW mart_household_credit")
        connection.register("mart_household_credit", scanned)
        assert connection.execute(query).fetchall() == expected
    assert wider.verify() == []
    wider.rollback("2024-02-001", now=now)
    assert wider.verify() == []


def test_a_changed_type_is_refused_with_file_and_column(
    publisher: Publisher, tmp_path: Path, facts: Facts, now: datetime
) -> None:
    publish_mart(publisher, credit("2024-02"), "2024-02", facts, now)
    folder = tmp_path / "changed"
    write_contracts(folder, mart_household_credit=MART)
    fields = folder / "fields.yml"
    fields.write_text(fields.read_text(encoding="utf-8").replace("decimal(18,2)", "decimal(12,2)"), encoding="utf-8")
    changed = replace(publisher, contracts=load_contracts([folder]))
    with pytest.raises(ConfigurationError, match=r"mart_household_credit.yml: balance_yuan: type decimal\(12,2\)"):
        publish_mart(changed, credit("2024-03"), "2024-03", facts, now)
    assert publisher.verify() == []
