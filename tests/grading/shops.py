"""A subject that no file of the project knows: shops, with features, events and a policy that a test writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from etl.engine.duck import DuckEngine
from etl.engine.models import load_models
from etl.grading import Policies, grading_plan, load_policies
from etl.grading.plan import Statement
from etl.period import Period
from tests.sql.month import MODELS, ROOT

PERIOD = Period.parse("2024-03")
TOWN, OTHER_TOWN = "341181100000", "341181101000"
COLUMNS = {
    "shop_key": "VARCHAR", "town_code": "VARCHAR", "village_code": "VARCHAR", "branch": "VARCHAR", "staff": "INTEGER",
    "sales_yuan": "DECIMAL(18,2)", "debt_yuan": "DECIMAL(18,2)", "has_tax_consent": "BOOLEAN", "bank_data_consent": "VARCHAR",
    "is_closed": "BOOLEAN", "trade_input_state": "VARCHAR", "debt_evidence": "VARCHAR",
}  # fmt: skip
DEFAULTS = {
    "town_code": TOWN, "village_code": "v1", "has_tax_consent": True, "bank_data_consent": "in_force", "is_closed": False,
    "trade_input_state": "complete",
}  # fmt: skip
EVENT_COLUMNS = {"shop_key": "VARCHAR", "happened_on": "DATE", "kind": "VARCHAR", "evidence": "VARCHAR"}
HELD_COLUMNS = {"shop_key": "VARCHAR", "indicator": "VARCHAR", "points": "DECIMAL(7,2)"}
FEATURES = f"SELECT {', '.join(f's.{name}' for name in COLUMNS)} FROM core_shops AS s"
EVENTS = "SELECT shop_key, happened_on, kind, evidence FROM core_shop_events"
Row = Mapping[str, Any]
Document = dict[str, Any]


def indicator(name: str, **said: Any) -> Document:
    """An indicator with what every one needs; by default its points are 0 or 10."""
    return {
        "id": name, "block": "trade", "max": 10, "label": {"zh": name, "en": name}, "missing": 4, "withheld": "hold",
        "advisable": False, "clause": "shop (1)",
    } | said  # fmt: skip


def version(*indicators: Document, **said: Any) -> Document:
    return {
        "version": "1", "scope": "county", "from": "2024-01", "status": "illustrative",
        "total": sum(each["max"] for each in indicators), "blocks": {"trade": {"zh": "经营", "en": "trade"}},
        "indicators": list(indicators), "grades": [{"grade": "AAA", "at_least": 8}, {"grade": "A", "at_least": 4}, {"grade": "B"}],
    } | said  # fmt: skip


@dataclass(frozen=True)
class Graded:
    """What came out: rows of grades and of points, as dicts."""

    grades: dict[str, Row]
    points: dict[tuple[str, str], Row]

    def of(self, shop: str, name: str, column: str = "points") -> Any:
        return self.points[shop, name][column]


def shop_policies(folder: Path, *versions: Document) -> Policies:
    """The shipped policies and one of shops."""
    path = folder / "policy/shop.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        yaml.safe_dump({"policy": "shop", "versions": list(versions)}, allow_unicode=True), encoding="utf-8"
    )
    return load_policies([folder, ROOT / "config"], PERIOD)


def shop_plan(folder: Path, *versions: Document, sql: Mapping[str, str] = {}) -> list[Statement]:
    """The statements of the plan that make shops' relations; `sql` are more models, `layer/name` to SELECT."""
    for name, select in {"features/shop_features": FEATURES, "features/shop_events": EVENTS, **sql}.items():
        path = folder / f"sql/{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(select, encoding="utf-8")
    models = {**MODELS, **load_models([folder / "sql"])}
    return [one for one in grading_plan(shop_policies(folder, *versions), models) if "shop" in one.name]


def grade_shops(
    folder: Path,
    *versions: Document,
    shops: Sequence[Row],
    events: Sequence[Row] = (),
    before: Sequence[Row] = (),
    sql: Mapping[str, str] = {},
) -> Graded:
    """Grade shops by a policy; every row needs a shop_key, the rest has defaults."""
    with DuckEngine(memory_limit="500MB", threads=1) as engine:
        _given(engine, "core_shops", COLUMNS, [DEFAULTS | row for row in shops])
        _given(engine, "core_shop_events", EVENT_COLUMNS, events)
        _given(engine, "previous_core_shop_points", HELD_COLUMNS, before)
        for statement in shop_plan(folder, *versions, sql=sql):
            engine.run_model(statement.name, statement.sql, {"period": "2024-03", "period_end": PERIOD.end})
        grades = engine.arrow("SELECT * FROM core_shop_grades").to_pylist()
        points = engine.arrow("SELECT * FROM core_shop_points").to_pylist()
    assert points == sorted(points, key=lambda row: (row["shop_key"], row["indicator"]))
    return Graded(
        {row["shop_key"]: row for row in grades}, {(row["shop_key"], row["indicator"]): row for row in points}
    )


def _given(engine: DuckEngine, name: str, columns: Mapping[str, str], rows: Sequence[Row]) -> None:
    engine.con.execute(f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
    for row in rows:
        marks = ", ".join("?" for _ in row)
        engine.con.execute(f"INSERT INTO {name} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
