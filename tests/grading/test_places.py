"""Villages and towns are graded from counts of what lies in them, at the exact borders of the published shares."""

from __future__ import annotations

from typing import Any

import pytest

from etl.grading import load_policies
from etl.grading.shares import credit_line_sql, share_grades_sql
from etl.period import Period
from tests.sql.month import MODELS, ROOT, Month

ZERO = {
    "registered_households": 1000, "rated_households": 900, "credited_households": 700, "aa_plus_households": 0,
    "borrower_households": 100, "non_arrears_households": 85, "open_balance_yuan": "1000.00", "bad_balance_yuan": "49.99",
    "unsettled_households": 0, "town_code": "t", "village_code": "v",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "grade", "reason", "state"),
    [
        ({}, "A", None, "complete"),
        ({"credited_households": 699}, "B", None, "complete"),
        ({"non_arrears_households": 84}, "B", None, "complete"),
        ({"bad_balance_yuan": "50.00"}, "B", None, "complete"),
        ({"credited_households": 800, "non_arrears_households": 90, "bad_balance_yuan": "29.99"}, "AA", None, "complete"),
        ({"credited_households": 800, "non_arrears_households": 90, "bad_balance_yuan": "30.00"}, "A", None, "complete"),
        ({"credited_households": 900, "non_arrears_households": 95, "bad_balance_yuan": "19.99"}, "AAA", None, "complete"),
        ({"borrower_households": 0, "non_arrears_households": 0, "open_balance_yuan": 0, "bad_balance_yuan": 0}, "A", None, "complete"),
        ({"registered_households": 9, "rated_households": 9, "credited_households": 9}, None, "incomplete", "complete"),
        ({"registered_households": 10, "credited_households": 7, "unsettled_households": 1}, "A", None, "carried_forward"),
    ],
)  # fmt: skip
def test_village_grade(change: dict[str, Any], grade: str | None, reason: str | None, state: str) -> None:
    month = Month("2024-03")
    month.given({"village_features": [ZERO | change]})
    sql = share_grades_sql(load_policies([ROOT / "config"], Period.parse("2024-03")), "village", MODELS)
    month.engine.run_model("core_village_grades", sql, month.params)
    found = month.rows("core_village_grades", ["village_grade", "not_rated_reason", "input_state", "policy_status"])
    month.close()
    assert found == [(grade, reason, state, "illustrative")]


TOWN = {
    "villages": 20, "programme_villages": 20, "rated_villages": 20, "credited_villages": 10, "registered_households": 1000,
    "rated_households": 700, "credited_households": 500, "aa_plus_households": 0, "borrower_households": 100,
    "non_arrears_households": 90, "open_balance_yuan": "1000.00", "bad_balance_yuan": "0.00", "unsettled_households": 0,
    "town_code": "t",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "grade", "reason", "state"),
    [
        ({}, "A", None, "complete"),
        ({"credited_villages": 9}, "B", None, "complete"),
        ({"non_arrears_households": 89}, "B", None, "complete"),
        ({"rated_households": 699}, "B", None, "complete"),
        ({"credited_villages": 13, "non_arrears_households": 93, "rated_households": 800}, "AA", None, "complete"),
        ({"credited_villages": 12, "non_arrears_households": 93, "rated_households": 800}, "A", None, "complete"),
        ({"credited_villages": 16, "non_arrears_households": 95, "rated_households": 900}, "AAA", None, "complete"),
        ({"borrower_households": 0, "non_arrears_households": 0}, "A", None, "complete"),
        ({"programme_villages": 0, "credited_villages": 0}, "B", None, "complete"),
        ({"registered_households": 9, "rated_households": 9}, None, "incomplete", "complete"),
        ({"unsettled_households": 1}, "A", None, "carried_forward"),
    ],
)  # fmt: skip
def test_town_grade(change: dict[str, Any], grade: str | None, reason: str | None, state: str) -> None:
    month = Month("2024-03")
    month.given({"town_features": [TOWN | change]})
    sql = share_grades_sql(load_policies([ROOT / "config"], Period.parse("2024-03")), "town", MODELS)
    month.engine.run_model("core_town_grades", sql, month.params)
    found = month.rows("core_town_grades", ["town_grade", "not_rated_reason", "input_state", "policy_status"])
    month.close()
    assert found == [(grade, reason, state, "illustrative")]


def test_credit_line_terms_are_whole_yuan() -> None:
    month = Month("2024-03")
    month.engine.run_model(
        "lines", credit_line_sql(load_policies([ROOT / "config"], Period.parse("2024-03")).credit_line)
    )
    found = month.rows("lines", ["grade", "base_yuan", "assets_pct", "income_pct", "cap_yuan"])
    month.close()
    assert found == [("A", 50_000, 10, 30, 200_000), ("AA", 80_000, 10, 30, 200_000), ("AAA", 100_000, 10, 30, 200_000)]
