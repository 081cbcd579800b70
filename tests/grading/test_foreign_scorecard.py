"""Somebody else's scorecard is a policy file and a SELECT: weights of evidence, half-open bins, a base score, cut-offs."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from math import log
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.engine.duck import DuckEngine
from etl.engine.models import load_models
from etl.grading import grading_plan, load_policies
from etl.period import Period
from tests.sql.month import MODELS, ROOT

FOREIGN = Path(__file__).parent / "foreign"
PERIOD = Period.parse("2024-03")
# good and bad loans per bin, as printed by the documentation the policy file names
PUBLISHED = {
    "credit_amount": {"below 1400": (185, 82), "at_least 1400 below 1800": (87, 18), "at_least 1800 below 4000": (287, 95),
                      "at_least 4000 below 9200": (120, 76), "at_least 9200": (21, 29)},
    "housing": {"equals rent": (109, 70), "equals own": (527, 186), "equals for free": (64, 44)},
}  # fmt: skip
# amount, housing -> score and grade, added up by hand
BY_HAND: list[tuple[str | None, str | None, int, str]] = [
    ("0.00", "own", 449 - 2 + 14, "AA"), ("1399.99", "own", 449 - 2 + 14, "AA"), ("1400.00", "own", 449 + 53 + 14, "AAA"),
    ("1799.99", "rent", 449 + 53 - 29, "AA"), ("1800.00", "rent", 449 + 19 - 29, "A"), ("3999.99", "for free", 449 + 19 - 34, "A"),
    ("4000.00", "for free", 449 - 28 - 34, "D"), ("9199.99", "own", 449 - 28 + 14, "A"), ("9200.00", "own", 449 - 84 + 14, "D"),
    ("1500.00", None, 449 + 53, "AAA"), (None, "own", 449 + 14, "AA"), (None, None, 449, "A"), ("2000.00", "boat", 449 + 19, "AA"),
]  # fmt: skip


@pytest.fixture(scope="module")
def graded() -> Iterator[DuckEngine]:
    policies = load_policies([FOREIGN, ROOT / "config"], PERIOD)
    models = {**MODELS, **load_models([FOREIGN / "sql"])}
    with DuckEngine(memory_limit="500MB", threads=1) as engine:
        engine.con.execute(
            "CREATE TABLE applications (applicant_key VARCHAR, town_code VARCHAR, village_code VARCHAR, "
            "credit_amount DECIMAL(18,2), housing VARCHAR)"
        )
        engine.con.execute(
            "CREATE TABLE previous_core_applicant_points (applicant_key VARCHAR, indicator VARCHAR, points DECIMAL(7,2))"
        )
        for number, (amount, housing, *_) in enumerate(BY_HAND):
            row = [f"a{number:02d}", None, None, amount, housing]
            engine.con.execute("INSERT INTO applications VALUES (?, ?, ?, ?, ?)", row)
        for statement in grading_plan(policies, models):
            if "applicant" in statement.name:
                engine.run_model(statement.name, statement.sql, {"period": str(PERIOD), "period_end": PERIOD.end})
        yield engine


@pytest.mark.parametrize("number", range(len(BY_HAND)))
def test_scores_are_those_added_up_by_hand(graded: DuckEngine, number: int) -> None:
    key = f"'a{number:02d}'"
    [found] = graded.fetch(f"SELECT score, computed_grade FROM core_applicant_grades WHERE applicant_key = {key}")
    assert found == BY_HAND[number][2:]
    [(total,)] = graded.fetch(f"SELECT sum(points) FROM core_applicant_points WHERE applicant_key = {key}")
    assert total == Decimal(BY_HAND[number][2])


def test_points_are_the_published_weights_of_evidence() -> None:
    """-slope * ln((bad / 300) / (good / 700)), slope = 50 / ln 2; base = 600 - slope * ln 19 - slope * ln(300 / 700)."""
    slope = 50 / log(2)
    [policy] = yaml.safe_load((FOREIGN / "policy/applicant.yml").read_text(encoding="utf-8"))["versions"]
    assert policy["base"] == round(600 - slope * log(19) - slope * log(300 / 700))
    for entry in policy["indicators"]:
        given = {_label(band): band["points"] for band in entry["bands"] if "else" not in band}
        assert given == {
            bin_: round(-slope * log((bad / 300) / (good / 700)))
            for bin_, (good, bad) in PUBLISHED[entry["id"]].items()
        }


def _label(band: dict[str, Any]) -> str:
    return " ".join(f"{name} {bound}" for name, bound in band.items() if name != "points")
