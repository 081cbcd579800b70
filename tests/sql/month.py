"""One month in a DuckDB database for tests: every input as an empty typed relation, filled by the test's rows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache
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
HISTORIES = (
    "core_loans",
    "core_civility_ballots",
    "core_mediation_cases",
    "core_mediation_parties",
    "mart_bank_scorecard",
)
POLICY_PARAMETERS = {
    "overdue_flag_days": 60, "in_charge_flag_days": 60, "civility_minimum_reviewers": 3, "civility_trim_pct": 20,
    "civility_copied_households": 3,
}  # fmt: skip
OWN_INPUTS = {
    "expected_inputs": {
        "supplier": "VARCHAR", "dataset": "VARCHAR", "state": "VARCHAR", "kind": "VARCHAR", "is_due_known": "BOOLEAN",
    },
    "accepted_cases": dict.fromkeys(
        ("case_id", "case_kind", "household_key", "bank_code", "concerns", "verdict", "override_grade"), "VARCHAR"
    ) | dict.fromkeys(
        ("opened_on", "marked_on", "asked_on", "answered_on", "closed_on", "answer_due_on", "expires_on"), "DATE"
    ),
    "mended_notes": {"bank_code": "VARCHAR", "loan_key": "VARCHAR", "overdue_days": "INTEGER", "five_class": "VARCHAR"},
    "repaired_items": {"event_key": "VARCHAR", "repaired_on": "DATE"},
    "grade_stages": {"stage": "VARCHAR", "happened_on": "DATE"},
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


@cache
def input_columns() -> dict[str, dict[str, str]]:
    """Every relation the month's SQL may read from outside, with its columns."""
    inputs: dict[str, dict[str, str]] = dict(OWN_INPUTS)
    inputs["accepted_places"] = {
        name: kind for name, kind in published_columns("core_places").items() if name != "period"
    }
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


@cache
def computed_columns() -> dict[str, dict[str, str]]:
    """Column -> type of every relation a month computes, read from a month without rows."""
    month = Month()
    month.build(name for name, model in MODELS.items() if model.layer == "core")
    month.grade()
    month.build_layer("features")
    names = month.engine.fetch("SELECT table_name FROM duckdb_tables()")
    found = {str(name): _described(month, str(name)) for (name,) in names if name not in input_columns()}
    month.close()
    return found


def _described(month: Month, name: str) -> dict[str, str]:
    return {str(row[0]): str(row[1]) for row in month.engine.fetch(f"DESCRIBE {name}")}


class Month:
    """A private database; `given` fills relations, `build` runs models, `grade` runs the grading plan."""

    def __init__(self, period: str = "2024-02", *, round_: str = "2024", notice_days: int = 0) -> None:
        self.notice_days = notice_days
        self.period = Period.parse(period)
        self.engine = DuckEngine(memory_limit="1GB", threads=1)
        self.params = {
            "period": period, "period_start": self.period.start, "period_end": self.period.end,
            "previous_period_end": self.period.start - timedelta(days=1), "round": round_, **POLICY_PARAMETERS,
        }  # fmt: skip
        self.replaced: set[str] = set()
        for name, columns in input_columns().items():
            self._create(name, columns)

    def close(self) -> None:
        self.engine.close()

    def given(self, relations: Mapping[str, Sequence[Row]], *, seed: int | None = None) -> None:
        """Fill relations with rows, with a seed in a shuffled order; a computed relation is given instead of built."""
        for name, rows in relations.items():
            columns = input_columns().get(name)
            if columns is None:
                columns = computed_columns()[name]
                self._create(name, columns)
                self.replaced.add(name)
            ordered = list(rows)
            if seed is not None:
                random.Random(seed).shuffle(ordered)
            for row in ordered:
                self._insert(name, columns, row)

    def load(self, relations: Mapping[str, Any]) -> None:
        """Fill relations from Arrow tables or pandas frames by column name."""
        for name, table in relations.items():
            self.engine.con.register("loading", table)
            self.engine.con.execute(f"INSERT INTO {name} BY NAME SELECT * FROM loading")
            self.engine.con.unregister("loading")

    def build(self, wanted: Iterable[str]) -> None:
        """Run models in dependency order, except those given."""
        known = {name: model for name, model in MODELS.items() if name not in self.replaced}
        for model in order(known, [name for name in wanted if name in known]):
            sql = wrap(model, CONTRACTS[model.name]) if model.name in CONTRACTS else model.sql
            self.engine.run_model(model.name, sql, self.params)

    def build_layer(self, layer: str) -> None:
        self.build([name for name, model in MODELS.items() if model.layer == layer])

    def grade(self, policies: Policies | None = None) -> None:
        """Run the grading plan over core tables that were built or given; the others are empty, so nobody has a case."""
        there = {str(name) for (name,) in self.engine.fetch("SELECT table_name FROM duckdb_tables()")}
        core = {name for name, model in MODELS.items() if model.layer == "core"} | {"core_cases"}
        for name in sorted(core - there):
            self._create(name, published_columns(name))
        plan = grading_plan(
            policies or load_policies([ROOT / "config"], self.period), MODELS, notice_days=self.notice_days
        )
        for statement in plan:
            self.engine.run_model(statement.name, statement.sql, self.params)
            self.replaced.add(statement.name)

    def rows(self, relation: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """All rows of a relation in a fixed order."""
        picked = ", ".join(columns)
        return self.engine.fetch(f"SELECT {picked} FROM {relation} ORDER BY ALL")

    def _create(self, name: str, columns: Mapping[str, str]) -> None:
        spelled = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        self.engine.con.execute(f'CREATE OR REPLACE TABLE "{name}" ({spelled})')

    def _insert(self, name: str, columns: Mapping[str, str], row: Row) -> None:
        unknown = sorted(set(row) - set(columns))
        if unknown:
            raise AssertionError(f"{name} has no column {unknown[0]}")
        marks = ", ".join(f"CAST(? AS {columns[column]})" for column in row)
        names = ", ".join(f'"{column}"' for column in row)
        values = [value if value is None or isinstance(value, bool) else str(value) for value in row.values()]
        self.engine.con.execute(f'INSERT INTO "{name}" ({names}) VALUES ({marks})', values)
