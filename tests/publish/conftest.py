"""A small shelf of tables to publish: three contracts, a ledger, a lake, the embedded PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Connection

from etl.contract.model import Contracts, load_contracts
from etl.engine.duck import DuckEngine
from etl.ledger.repository import Ledger
from etl.publish.lake import DataFile
from etl.publish.manifest import Facts
from etl.publish.partition import write_partition
from etl.publish.release import Publisher
from tests.publish.tables import credit, households, loans

NOW = datetime(2024, 4, 8, 12, 0, tzinfo=UTC)
FIELDS = """
period:        {type: text, privacy: open, label: {zh: 期间, en: "period, 100% of it"}}
bank_code:     {type: text, privacy: open, label: {zh: 银行代码, en: bank code}}
loan_key:      {type: text, privacy: personal, label: {zh: 借据令牌, en: loan key}}
balance_yuan:  {type: "decimal(18,2)", unit: yuan, privacy: personal, label: {zh: 贷款余额, en: balance}}
annual_rate_pct: {type: "decimal(9,5)", privacy: personal, label: {zh: 年利率, en: annual rate}}
issued_on:     {type: date, privacy: personal, label: {zh: 发放日期, en: issue date}}
is_overdue:    {type: boolean, privacy: personal, label: {zh: 是否逾期, en: overdue}}
overdue_days:  {type: integer, privacy: personal, label: {zh: 逾期天数, en: days overdue}}
people_count:  {type: bigint, privacy: open, label: {zh: 人数, en: people}}
household_key: {type: text, privacy: personal, label: {zh: 农户令牌, en: household key}}
town_code:     {type: text, privacy: open, label: {zh: 乡镇代码, en: town code}}
"""
LOANS = """
table: core_loans
says: {zh: 借据, en: "loan notes: 100% of them"}
key: [period, bank_code, loan_key]
partition_by: bank_code
columns:
  {period: , bank_code: , loan_key: , balance_yuan: , annual_rate_pct: , issued_on: , is_overdue: , overdue_days: }
"""
HOUSEHOLDS = """
table: core_households
says: {zh: 农户, en: households}
key: [period, household_key]
columns: {period: , household_key: , town_code: , people_count: }
"""
MART = """
table: mart_household_credit
says: {zh: 户信用, en: credit of households}
key: [period, household_key]
columns: {period: , household_key: , balance_yuan: }
"""


def write_contracts(folder: Path, **tables: str) -> Contracts:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fields.yml").write_text(FIELDS, encoding="utf-8")
    for table, yaml in tables.items():
        (folder / f"{table}.yml").write_text(yaml, encoding="utf-8")
    return load_contracts([folder])


@pytest.fixture
def contracts(tmp_path: Path) -> Contracts:
    return write_contracts(
        tmp_path / "expectations", core_loans=LOANS, core_households=HOUSEHOLDS, mart_household_credit=MART
    )


class BreakableLedger(Ledger):
    """The real ledger, which can break off in the middle of the publisher's transaction."""

    breaks = False

    def record_release(self, connection: Connection, **facts: Any) -> None:
        super().record_release(connection, **facts)
        if self.breaks:
            raise ConnectionError("the ledger broke off")


@pytest.fixture
def ledger(database_url: str) -> Iterator[BreakableLedger]:
    opened = BreakableLedger(database_url)
    yield opened
    opened.close()


@pytest.fixture
def publisher(tmp_path: Path, database_url: str, ledger: BreakableLedger, contracts: Contracts) -> Publisher:
    return Publisher(tmp_path / "lake", database_url, ledger, contracts)


Written = Callable[..., list[DataFile]]


@pytest.fixture
def written(publisher: Publisher) -> Written:
    """Writes the files of a period: `written("2024-03", core_loans=table, …)`, missing tables from defaults."""

    def write(period: str, **tables: pa.Table) -> list[DataFile]:
        given = {
            "core_loans": loans(period, "baiyun_rcb", "a_bank_with_a_very_long_code"),
            "core_households": households(period),
            "mart_household_credit": credit(period),
            **tables,
        }
        with DuckEngine(memory_limit="512MB") as engine:
            files = []
            for table, rows in given.items():
                if table in publisher.contracts:
                    engine.register_arrow(table, rows)
                    files += write_partition(engine, publisher.contracts[table], table, period, publisher.lake)
            return files

    return write


@pytest.fixture
def facts() -> Facts:
    return Facts(
        policy={"household": "2024.1", "status": "illustrative"},
        ruleset="r1",
        key_version="k1",
        inputs=[{"delivery_id": "baiyun_rcb-loans-2024-03-0001"}],
        completeness={"carried_forward": []},
        synthetic=True,
        notes={"notice_days": 0},
    )


@pytest.fixture
def now() -> datetime:
    return NOW
