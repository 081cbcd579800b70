"""Every SQL model against cases a person can check: `tests/sql/<model>.yml`, also with the rows in another order."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.engine.models import lint_models
from tests.sql.month import CONTRACTS, MODELS, Month

FOLDER = Path(__file__).parent
SHUFFLES = (None, 1, 2)


def _cases() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("*.yml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            found += [pytest.param(path.stem, case, seed, id=f"{path.stem}-{case['case']}-{seed}") for seed in SHUFFLES]
    return found


@pytest.mark.parametrize(("model", "case", "seed"), _cases())
def test_model_gives_the_expected_rows(model: str, case: dict[str, Any], seed: int | None) -> None:
    month = Month(case.get("period", "2024-03"))
    month.given(case["given"], seed=seed)
    month.build([model])
    columns = list(case["expect"][0]) if case["expect"] else ["count(*)"]
    found = [tuple(_plain(value) for value in row) for row in month.rows(model, columns)]
    expected = [tuple(_plain(row[column]) for column in columns) for row in case["expect"]] or [("0",)]
    month.close()
    assert sorted(found, key=str) == sorted(expected, key=str)


def _plain(value: Any) -> str | None:
    """Values as text: decimals without trailing zeros, dates ISO, booleans lower case."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal | int | float):
        return format(Decimal(str(value)).normalize(), "f")
    return str(value)


def test_every_model_has_a_case() -> None:
    assert set(MODELS) - {path.stem for path in FOLDER.glob("*.yml")} == set()


def test_every_model_keeps_to_the_dialect() -> None:
    assert lint_models(MODELS) == []


@pytest.mark.parametrize("name", sorted(name for name in MODELS if MODELS[name].layer in ("core", "marts")))
def test_published_models_have_a_contract_of_their_columns(name: str) -> None:
    month = Month()
    month.build_layer("core")
    month.grade()
    month.build([name])
    columns = [str(row[0]) for row in month.engine.fetch(f"DESCRIBE {name}")]
    month.close()
    assert columns == [column.name for column in CONTRACTS[name].published]
