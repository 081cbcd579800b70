"""One month in a DuckDB database for tests: every input as an empty typed relation, filled by the test's rows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from etl.contract.casts import duckdb_type
from etl.contract.model import Contracts, load_contracts
from etl.contract.predicates import accepted_columns, rejected_columns
from etl.engine.duck import DuckEngine
from etl.engine.models import Model, load_models, order, wrap
from etl.grading import Policies, grading_plan, load_policies
from etl.period import Period

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS: Contracts = load_contracts([ROOT / "expectations"])
MODELS: Mapping[str, Model] = load_models([ROOT / "sql"])
KEYS = {"households": "household_key", "members": "member_key", "consents": "consent_key"}
HISTORIES = ("core_loans", "core_mediation_cases", "core_mediation_parties")
OWN_INPUTS = {
    "expected_inputs": {"supplier": "VARCHAR", "dataset": "VARCHAR", "state": "VARCHAR"},
    "bank_confirmations": {"household_key": "VARCHAR", "bank_code": "VARCHAR"},
    "period_deliveries": {
        "supplier": "VARCHAR", "dataset": "VARCHAR", "revision": "INTEGER", "outcome": "VARCHAR", "in_force": "BOOLEAN",
        "is_on_time": "BOOLEAN", "rows_read": "BIGINT", "rows_accepted": "BIGINT", "rows_rejected": "BIGINT",
        "warnings": "BIGINT",
    },
}  # fmt: skip
Row = Mapping[str, Any]


def published_columns(table: str) -> dict[str, str]:
    """Column -> DuckDB type of a published table."""
    return {column.name: duckdb_type(column.type) for column in CONTRACTS[table].published}


def input_columns() -> dict[str, dict[str, str]]:
    """Every relation the month's SQL may read from outside, with its columns."""
    inputs: dict[str, dict[str, str]] = dict(OWN_INPUTS)
    inputs["accepted_places"] = {name: kind for name, kind in published_columns("core_places").items() if name != "period"}
    for contract in CONTRACTS.values():
        inputs[f"previous_{contract.table}"] = published_columns(contract.table)
        if contract.dataset:
            inputs[f"accepted_{contract.dataset}"] = accepted_columns(contract)
            inputs[f"rejected_{contract.dataset}"] = rejected_columns(contract)
    for dataset, key in KEYS.items():
        inputs[f"keys_{dataset}"] = {key: "VARCHAR"}
    for table in HISTORIES:
        inputs[f"history_{table}"] = published_columns(table)
    return inputs


class Month:
    """A private database; `given` fills relations, `build` runs models, `grade` runs the grading plan."""

    def __init__(self, period: str = "2024-02", *, round_: str = "2024", memory_limit: str = "1GB") -> None:
        self.period = Period.parse(period)
        self.engine = DuckEngine(memory_limit=memory_limit, threads=1)
        self.params = {
            "period": period, "period_start": self.period.start, "period_end": self.period.end,
            "previous_period_end": self.period.start - timedelta(days=1), "round": round_,
        }  # fmt: skip
        self.columns = input_columns()
        for name, columns in self.columns.items():
            self._create(name, columns)

    def close(self) -> None:
        self.engine.close()

    def given(self, relations: Mapping[str, Sequence[Row]], *, seed: int | None = None) -> None:
        """Fill relations with rows; with a seed in a shuffled order. A relation not known as input replaces a model."""
        for name, rows in relations.items():
            columns = self.columns.get(name) or self._columns_of_model(name, rows)
            if name not in self.columns:
                self._create(name, columns)
            self._insert(name, columns, rows, seed)

    def build(self, wanted: Iterable[str], *, replaced: Iterable[str] = ()) -> None:
        """Run models in dependency order, those replaced by given rows left out."""
        known = {name: model for name, model in MODELS.items() if name not in set(replaced)}
        for model in order(known, [name for name in wanted if name in known]):
            sql = wrap(model, CONTRACTS[model.name]) if model.name in CONTRACTS else model.sql
            self.engine.run_model(model.name, sql, self.params)

    def grade(self, policies: Policies | None = None) -> None:
        """Run the grading plan over core tables that were built or given."""
        policies = policies or load_policies([ROOT / "config"], self.period)
        for statement in grading_plan(policies, MODELS):
            if statement.name not in self.columns:
                self.engine.run_model(statement.name, statement.sql, self.params)

    def rows(self, relation: str, columns: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a relation in a fixed order."""
        picked = ", ".join(columns) if columns else "*"
        return self.engine.fetch(f"SELECT {picked} FROM {relation} ORDER BY ALL")

    def _create(self, name: str, columns: Mapping[str, str]) -> None:
        spelled = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        self.engine.con.execute(f'CREATE OR REPLACE TABLE "{name}" ({spelled})')

    def _columns_of_model(self, name: str, rows: Sequence[Row]) -> dict[str, str]:
        if name in CONTRACTS:
            return published_columns(name)
        return {column: _kind(rows, column) for column in sorted({column for row in rows for column in row})}

    def _insert(self, name: str, columns: Mapping[str, str], rows: Sequence[Row], seed: int | None) -> None:
        ordered = list(rows)
        if seed is not None:
            random.Random(seed).shuffle(ordered)
        for row in ordered:
            unknown = sorted(set(row) - set(columns))
            if unknown:
                raise AssertionError(f"{name} has no column {unknown[0]}")
            marks = ", ".join(f"CAST(? AS {columns[column]})" for column in row)
            names = ", ".join(f'"{column}"' for column in row)
            values = [str(value) if _is_text_like(value) else value for value in row.values()]
            self.engine.con.execute(f'INSERT INTO "{name}" ({names}) VALUES ({marks})', values)


def _kind(rows: Sequence[Row], column: str) -> str:
    value = next((row[column] for row in rows if row.get(column) is not None), "")
    kinds = {bool: "BOOLEAN", int: "BIGINT", float: "DECIMAL(18,2)", date: "DATE"}
    return kinds.get(type(value), "VARCHAR")


def _is_text_like(value: Any) -> bool:
    return isinstance(value, float | date)
