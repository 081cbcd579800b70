"""Every word of the policy language, with values on both sides of every bound, on a subject no code knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.grading.shops import (
    TOWN,
    grade_shops,
    indicator,
    shop_plan,
    shop_policies,
    version,
)  # fmt: skip

STAFF = [{"at_least": 3, "points": 10}, {"at_least": 1, "points": 5}, {"else": 0}]


def by_key(**values: Any) -> list[dict[str, Any]]:
    """Shops named by their case, each with one value of a column."""
    [(column, given)] = values.items()
    return [{"shop_key": key, column: value} for key, value in given.items()]


# ---- any subject ----------------------------------------------------------------------------------------------------


def test_a_subject_is_a_policy_file_and_features(tmp_path: Path) -> None:
    """Points, score, grade, veto and reason of a subject of which the code has never heard."""
    policy = version(
        indicator("staff", value="staff", bands=STAFF),
        veto=[{"id": "debt", "when": "debt_yuan > 100", "requires": ["debt_yuan"], "binds": "person", "cap": "B",
               "label": {"zh": "欠款", "en": "debt"}, "clause": "shop (2)"}],
        not_rated=[{"reason": "absent", "when": "is_closed"}],
    )  # fmt: skip
    found = grade_shops(
        tmp_path, policy,
        shops=[
            {"shop_key": "good", "staff": 3}, {"shop_key": "vetoed", "staff": 3, "debt_yuan": 101},
            {"shop_key": "closed", "staff": 3, "is_closed": True}, {"shop_key": "edge", "staff": 3, "debt_yuan": 100},
        ],
    )  # fmt: skip
    columns = ("score", "computed_grade", "status", "not_rated_reason", "veto_ids", "policy_version", "policy_status")
    assert {key: tuple(row[name] for name in columns) for key, row in found.grades.items()} == {
        "good": (10, "AAA", "effective", None, None, "1", "illustrative"),
        "vetoed": (10, "B", "effective", None, "debt", "1", "illustrative"),
        "edge": (10, "AAA", "effective", None, None, "1", "illustrative"),
        "closed": (None, None, "effective", "absent", None, "1", "illustrative"),
    }
    assert found.grades["good"]["town_code"] == TOWN
    assert {key for key, _ in found.points} == {"good", "vetoed", "edge"}
    assert found.of("good", "staff", "evidence") == "core_shops"


def test_shops_are_not_graded_before_their_policy_begins(tmp_path: Path) -> None:
    later = version(indicator("staff", value="staff", bands=STAFF)) | {"from": "2024-04"}
    assert "shop" not in shop_policies(tmp_path, later).scorecards
    assert shop_plan(tmp_path, later) == []
