"""Policies as data: what is wrong with one ends in one line that names file, key and mend."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.engine.models import Model, load_models
from etl.grading import grading_plan, load_policies
from etl.grading.policy import Policies
from etl.period import Period
from etl.registry import load_registry
from etl.vocabulary import ConfigurationError
from tests.grading.county import graded_month, random_county
from tests.sql.month import MODELS, ROOT

CONFIG = ROOT / "config"
MARCH = Period.parse("2024-03")
Document = dict[str, Any]


def shipped(name: str) -> Document:
    document: Document = yaml.safe_load((CONFIG / f"policy/{name}.yml").read_text(encoding="utf-8"))
    return document


def load_changed(
    tmp_path: Path, change: Callable[[Document], None], name: str = "household", **options: Any
) -> Policies:
    """The shipped policies with one changed in an overlay folder."""
    document = copy.deepcopy(shipped(name))
    change(document)
    path = tmp_path / f"policy/{name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return load_policies([tmp_path, CONFIG], MARCH, **options)


def indicator(document: Document, name: str) -> Document:
    return next(entry for entry in document["versions"][0]["indicators"] if entry["id"] == name)


def put(name: str, key: str, value: Any) -> Callable[[Document], None]:
    return lambda document: indicator(document, name).update({key: value})


def version(key: str, value: Any) -> Callable[[Document], None]:
    return lambda document: document["versions"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (version("colour", 1), "colour"),
        (put("farmland_mu", "weight", 1), "weight"),
        (lambda document: indicator(document, "farmland_mu").pop("missing"), "missing"),
        (put("farmland_mu", "bands", [{"at_least": 8, "points": 4}, {"at_least": 9, "points": 3}, {"else": 0}]), "overlap"),
        (put("farmland_mu", "bands", [{"at_least": 8, "points": 4}, {"at_least": 8, "points": 3}, {"else": 0}]), "overlap"),
        (put("farmland_mu", "bands", [{"at_least": 8, "points": 4}]), "gap"),
        (put("farmland_mu", "bands", [{"else": 4}, {"at_least": 8, "points": 4}]), "overlap"),
        (put("farmland_mu", "bands", [{"at_least": 8, "points": 4}, {"at_most": 3, "points": 1}, {"else": 0}]), "overlap"),
        (put("farmland_mu", "bands", [{"below": 3, "points": 1}, {"at_least": 4, "points": 4}]), "gap or overlap"),
        (put("farmland_mu", "bands", [{"at_least": 0, "below": 3, "points": 1}, {"at_least": 3, "points": 4}]), "gap"),
        (put("stable_income", "bands", [{"equals": "true", "points": 6}, {"equals": "true", "points": 2}, {"else": 0}]), "overlap"),
        (put("stable_income", "bands", [{"equals": "true", "points": 6}]), "gap"),
        (put("farmland_mu", "max", 5), "best band"),
        (put("farmland_mu", "missing", 5), "more than max"),
        (put("farmland_mu", "withheld", "zero"), "hold"),
        (put("farmland_mu", "block", "land"), "unknown block"),
        (put("farmland_mu", "id", "labour_force"), "stands twice"),
        (version("total", 99), "sum to 100"),
        (version("scope", "341181103000"), "none is in force"),
        (version("scope", "town"), "scope"),
        (version("grades", [{"grade": "A", "at_least": 60}, {"grade": "AA", "at_least": 70}, {"grade": "C"}, {"grade": "D"}]), "at_least"),
        (version("grades", [{"grade": "AAA", "at_least": 60}, {"grade": "AA", "at_least": 70}, {"grade": "D"}]), "descending"),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_refused_in_one_line(tmp_path: Path, change: Callable[[Document], None], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_changed(tmp_path, change)
    assert says in str(caught.value)
    assert "policy/household.yml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unreadable_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/household.yml").write_text("policy: [household\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="line 2"):
        load_policies([tmp_path, CONFIG], MARCH)


def test_a_month_before_the_first_version_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"none is in force in 2023-12"):
        load_policies([CONFIG], Period.parse("2023-12"))


def test_the_newest_version_in_force_is_used(tmp_path: Path) -> None:
    def add_later(document: Document) -> None:
        later = copy.deepcopy(document["versions"][0]) | {"version": "2024.2", "from": "2024-03"}
        future = copy.deepcopy(document["versions"][0]) | {"version": "2024.3", "from": "2024-04"}
        document["versions"] += [future, later]

    assert load_changed(tmp_path, add_later).household.version == "2024.2"
    assert load_policies([tmp_path, CONFIG], Period.parse("2024-02")).household.version == "2024.1"


# ---- what feeds provide ----------------------------------------------------------------------------------------------


def test_the_shipped_policy_fits_the_shipped_feeds() -> None:
    shipped = {"business", "collective", "credit_line", "household", "merchant", "town", "village"}
    assert load_policies([CONFIG], MARCH, load_registry([CONFIG])).versions == dict.fromkeys(shipped, "2024.1")


def test_an_indicator_no_feed_can_supply_is_refused(tmp_path: Path) -> None:
    def without_coarser(document: Document) -> None:
        del indicator(document, "repayment_conduct")["coarser"]

    with pytest.raises(ConfigurationError, match=r"qinghe_rcb does not provide overdue_days"):
        load_changed(tmp_path, without_coarser, registry=load_registry([CONFIG]))


def test_an_indicator_over_a_dataset_nobody_delivers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no feed delivers weather"):
        load_changed(tmp_path, put("farmland_mu", "requires", {"weather": "rain"}), registry=load_registry([CONFIG]))


# ---- what the SQL provides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("farmland_mu", "sql", "nowhere"), "sql/indicators/nowhere.sql"),
        (put("farmland_mu", "sql", "core_places"), "household_key, value, state, evidence"),
        (version("not_rated", [{"reason": "absent", "when": "moved_to = 'moon'"}]), "moved_to"),
        (version("not_rated", [{"reason": "absent", "when": "residence_status ="}]), "not an SQL condition"),
        (lambda document: indicator(document, "repayment_conduct").pop("coarser"), "overdue_flag_days"),
        (lambda document: document["versions"][0]["parameters"].update(round=1), "taken"),
        (
            lambda document: document["versions"][0]["blocks"].update(luck={"zh": "运", "en": "luck"}),
            "luck_input_state",
        ),
    ],
)
def test_sql_that_the_policy_asks_for_must_exist(tmp_path: Path, change: Callable[[Document], None], says: str) -> None:
    policies = load_changed(tmp_path, change)
    with pytest.raises(ConfigurationError) as caught:
        grading_plan(policies, MODELS)
    assert says in str(caught.value)


def test_village_shares_name_existing_columns(tmp_path: Path) -> None:
    def misspell(document: Document) -> None:
        document["versions"][0]["shares"]["bad_of_balance"]["numerator"] = "bad_balance_fen"

    with pytest.raises(ConfigurationError, match="bad_balance_fen"):
        grading_plan(load_changed(tmp_path, misspell, "village"), MODELS)


# ---- a policy of someone else ----------------------------------------------------------------------------------------


def test_an_indicator_of_its_own_sql_and_bins_needs_no_code(tmp_path: Path) -> None:
    """Overlay: one indicator in half-open bins over a SELECT that is no projection of the features."""
    (tmp_path / "indicators").mkdir()
    (tmp_path / "indicators/youngest.sql").write_text(
        "SELECT household_key, CAST(count(*) AS DECIMAL(18, 2)) AS value, 'present' AS state, "
        "concat('core_members:', min(person_key)) AS evidence FROM core_members GROUP BY household_key",
        encoding="utf-8",
    )

    def only_members(document: Document) -> None:
        entry = copy.deepcopy(indicator(document, "labour_force")) | {
            "id": "household_size", "sql": "youngest", "max": 100,
            "bands": [{"below": 2, "points": 40}, {"at_least": 2, "below": 4, "points": 62.5}, {"at_least": 4, "points": 100}],
        }  # fmt: skip
        document["versions"][0]["indicators"] = [entry]
        document["versions"][0]["parameters"]["overdue_flag_days"] = 60

    models: dict[str, Model] = {**MODELS, **load_models([tmp_path])}
    month = graded_month("2024-03", random_county(3, 60))
    for statement in grading_plan(load_changed(tmp_path, only_members), models):
        month.engine.run_model(statement.name, statement.sql, month.params)
    found = month.engine.fetch(
        "SELECT DISTINCT size, CAST(points AS VARCHAR), band, computed_grade FROM core_household_points AS p "
        "INNER JOIN core_household_grades AS g USING (household_key) "
        "INNER JOIN (SELECT household_key, count(*) AS size FROM core_members GROUP BY ALL) AS m USING (household_key) "
        "WHERE veto_ids IS NULL ORDER BY ALL"
    )
    assert found == [
        (1, "40.00", "below 2", "C"), (2, "62.50", "at_least 2 below 4", "A"), (3, "62.50", "at_least 2 below 4", "A"),
        (4, "100.00", "at_least 4", "AAA"), (5, "100.00", "at_least 4", "AAA"),
    ]  # fmt: skip
    evidence = month.engine.fetch("SELECT count(*) FROM core_household_points WHERE evidence LIKE 'core_members:p%'")
    assert evidence == month.engine.fetch("SELECT count(*) FROM core_household_points")
    month.close()
