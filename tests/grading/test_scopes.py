"""A town's own version of the household policy: its households are graded as if the whole county had it, all others not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.grading import Policies, load_policies
from etl.grading.plan import grading_plan
from etl.period import Period
from etl.registry import load_registry
from etl.vocabulary import ConfigurationError
from tests.grading.county import TOWNS, graded_month, random_county
from tests.grading.test_second_opinion import second_month
from tests.sql.month import MODELS, ROOT, Month

CONFIG = ROOT / "config"
SEED, HOUSEHOLDS = 11, 200
TABLES = {"core_household_grades": "household_key", "core_household_points": "household_key, indicator"}


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONFIG / "policy/household.yml").read_text(encoding="utf-8"))
    return found


def own_version(scope: str) -> dict[str, Any]:
    """Other weights, cut-offs, peers and a rule on falls, and one indicator fewer."""
    version = copy.deepcopy(document()["versions"][-1]) | {"version": "town-1", "scope": scope}
    version["indicators"] = [entry for entry in version["indicators"] if entry["id"] != "farmland_mu"]
    for entry in version["indicators"]:
        if entry["id"] == "civility_review":
            entry["bands"][0]["points"], entry["max"] = 20, 20
        if "peer" in entry:
            entry["peer"] = {"of": entry["peer"]["of"], "within": "village", "minimum_sample": 5, "otherwise": "county"}
    version["grades"] = [
        {**cut, "at_least": cut["at_least"] + 3} if "at_least" in cut else cut for cut in version["grades"]
    ]
    version["single_source_fall"]["grades"] = 1
    return version


def policies(folder: Path, *versions: dict[str, Any]) -> Policies:
    path = folder / "policy/household.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        yaml.safe_dump({"policy": "household", "versions": list(versions)}, allow_unicode=True), encoding="utf-8"
    )
    return load_policies([folder, CONFIG], Period.parse("2024-03"))


def two_months(given: Policies) -> Month:
    first = graded_month("2024-02", random_county(SEED, HOUSEHOLDS), given)
    second = graded_month("2024-03", second_month(random_county(SEED, HOUSEHOLDS), SEED + 1), given, before=first)
    first.close()
    return second


def rows(month: Month, table: str, condition: str) -> list[tuple[Any, ...]]:
    town = "household_key IN (SELECT household_key FROM core_households WHERE {})"
    return month.engine.fetch(f"SELECT * FROM {table} WHERE {town.format(condition)} ORDER BY {TABLES[table]}")


def test_each_town_is_graded_by_its_own_version(tmp_path: Path) -> None:
    county = document()["versions"]
    mixed = two_months(policies(tmp_path, *county, own_version(TOWNS[1])))
    alone = two_months(policies(tmp_path, *county))
    everywhere = two_months(policies(tmp_path, own_version("county")))
    inside, outside = f"town_code = '{TOWNS[1]}'", f"town_code <> '{TOWNS[1]}'"
    for table in TABLES:
        assert rows(mixed, table, inside) == rows(everywhere, table, inside) != []
        assert rows(mixed, table, outside) == rows(alone, table, outside) != []
    assert rows(alone, "core_household_grades", inside) != rows(everywhere, "core_household_grades", inside)
    whole = mixed.engine.fetch("SELECT household_key, indicator FROM core_household_points")
    assert whole == sorted(whole)
    for month in (mixed, alone, everywhere):
        month.close()


def test_versions_are_named_by_town(tmp_path: Path) -> None:
    given = policies(tmp_path, *document()["versions"], own_version(TOWNS[1]))
    assert given.versions[f"household@{TOWNS[1]}"] == "town-1"
    assert given.versions["household"] == "2024.1"
    assert given.household.version == "2024.1"


def test_a_scope_is_a_town_of_the_county(tmp_path: Path) -> None:
    policies(tmp_path, *document()["versions"], own_version("999999999999"))
    with pytest.raises(ConfigurationError, match=r"999999999999 is no town.*places\.csv"):
        load_policies([tmp_path, CONFIG], Period.parse("2024-03"), load_registry([CONFIG]))


def test_shared_features_have_one_value_of_a_parameter(tmp_path: Path) -> None:
    other = own_version(TOWNS[1])
    for entry in other["indicators"]:
        if "coarser" in entry:
            entry["coarser"]["value"] = 90
    with pytest.raises(ConfigurationError, match="feature_loans would need two values"):
        grading_plan(policies(tmp_path, *document()["versions"], other), MODELS)
