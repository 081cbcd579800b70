"""`cases/{business,collective,merchant}.yml`: subjects an official can grade by hand, and all of them once more naively."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grading import naive_subjects as naive
from tests.grading.county import table
from tests.sql.month import ROOT, Month

PERIOD, TOWN = "2024-03", "341181103000"
SUBJECTS = ("business", "collective", "merchant")
PURPOSES = ("grading", "bank_data", "income", "property")
Rows = list[dict[str, Any]]


def _cases(subject: str) -> list[dict[str, Any]]:
    return yaml.safe_load((Path(__file__).parent / f"cases/{subject}.yml").read_text(encoding="utf-8"))


CASES = {subject: _cases(subject) for subject in SUBJECTS}
EVERY = [(subject, number) for subject in SUBJECTS for number in range(len(CASES[subject]))]


@pytest.fixture(scope="module")
def month() -> Iterator[Month]:
    """All cases in one month."""
    graded = Month(PERIOD)
    graded.given(_relations({subject: list(enumerate(cases)) for subject, cases in CASES.items()}))
    graded.grade()
    yield graded
    graded.close()


def _relations(cases: dict[str, list[tuple[int, dict[str, Any]]]]) -> dict[str, Rows]:
    names = ("households", "members", "loans", "consents", "mediation_cases", "mediation_parties", "places")
    relations: dict[str, Rows] = {f"core_{name}": [] for name in names}
    relations |= {f"core_{name}": [] for name in ("businesses", "collectives", "merchants", "merchant_reviews")}
    for subject, made in (("business", _business), ("collective", _collective), ("merchant", _merchant)):
        for number, case in cases[subject]:
            for relation, rows in made(f"{subject}{number:04d}", case).items():
                relations[relation] += rows
    return relations


def _row(key: str, value: str, **columns: Any) -> dict[str, Any]:
    return {"period": PERIOD, key: value, "town_code": TOWN, "input_state": "complete", **columns}


def _business(key: str, case: dict[str, Any]) -> dict[str, Rows]:
    business = _row(
        "business_key", key, village_code="v1", business_kind=case.get("kind", "family_farm"), in_charge_person_key=key,
        founded_on=case.get("founded", "2020-01-01"), operating_status=case.get("status", "operating"),
        operating_income_yuan=case.get("income", 600_000), business_assets_yuan=case.get("assets", 1_000_000),
        business_debt_yuan=case.get("debt", 400_000), worker_count=case.get("workers", 4),
        led_household_count=case.get("led", 12), is_report_filed=case.get("report", True),
        is_listed_abnormal=case.get("listed", False), reported_on="2024-03-01",
    )  # fmt: skip
    note = {"bank_code": "a", "loan_key": key, "person_key": key, "issued_on": "2024-01-01", "balance_yuan": 1,
            "note_state": "active", "overdue_days": case.get("days"), "is_overdue": case.get("days", 0) > 0,
            "input_state": "complete"}  # fmt: skip
    consents = [_consent(key, purpose, case) for purpose in PURPOSES if purpose not in case.get("without", [])]
    return {"core_businesses": [business], "core_consents": consents, "core_loans": [note] if "days" in case else []}


def _consent(key: str, purpose: str, case: dict[str, Any]) -> dict[str, Any]:
    ended = {
        "refused": {"decision": "refused"},
        "withdrawn": {"withdrawn_on": "2024-03-31"},
        "expired": {"expires_on": "2024-03-30"},
    }
    row = {"consent_key": f"{key}-{purpose}", "person_key": key, "recipient": "county", "purpose": purpose,
           "decision": "granted", "granted_on": "2023-01-01", "is_in_force": True, "input_state": "complete"}  # fmt: skip
    for how, columns in ended.items():
        if case.get(how) == purpose:
            row |= {**columns, "is_in_force": False}
    return row


def _collective(key: str, case: dict[str, Any]) -> dict[str, Rows]:
    collective = _row(
        "collective_key", key, village_code=key, operating_status=case.get("status", "operating"),
        collective_income_yuan=case.get("income", 300_000), collective_assets_yuan=case.get("assets", 1_000_000),
        collective_debt_yuan=case.get("debt", 300_000), dividend_yuan=case.get("dividend", 0),
        accounts_on=case.get("accounts", "2024-03-01"), is_accounts_published=case.get("published", True),
        is_audited=case.get("audited", True), member_household_count=case.get("members", 7),
    )  # fmt: skip
    registered = [
        {"household_key": f"{key}-{number}", "head_person_key": f"{key}-{number}", "village_code": key,
         "residence_status": "resident", "input_state": "complete"}
        for number in range(case.get("registered", 10))
    ]  # fmt: skip
    return {"core_collectives": [collective], "core_households": registered}


def _merchant(key: str, case: dict[str, Any]) -> dict[str, Rows]:
    merchant = _row("merchant_key", key, village_code="v1", trade_code="bakery", left_on=case.get("left"),
                    joined_on="2024-02-15", operating_status=case.get("status", "operating"))  # fmt: skip
    applications = case.get("applications", [{"town": "passed", "city": "passed"}])
    marks = {item: case.get("all", "met") for item in naive.ITEMS} | case.get("marks", {})
    reviews = [
        {"period": PERIOD, "application_key": f"{key}-{number}", "merchant_key": key, "input_state": "complete",
         "applied_on": f"2024-01-{5 + number:02d}", "town_decision": application.get("town"),
         "city_decision": application.get("city"), **{f"{item}_mark": mark for item, mark in marks.items()}}
        for number, application in enumerate(applications)
    ]  # fmt: skip
    return {"core_merchants": [merchant], "core_merchant_reviews": reviews}


@pytest.mark.parametrize(
    ("subject", "number"), EVERY, ids=[f"{subject}-{CASES[subject][number]['case']}" for subject, number in EVERY]
)
def test_subject_is_graded_as_by_hand(month: Month, subject: str, number: int) -> None:
    case, key = CASES[subject][number], f"{subject}{number:04d}"
    [found] = month.engine.fetch(
        f"SELECT score, computed_grade, not_rated_reason FROM core_{subject}_grades WHERE {subject}_key = '{key}'"
    )
    rows = month.engine.fetch(f"SELECT indicator, points FROM core_{subject}_points WHERE {subject}_key = '{key}'")
    points = {str(indicator): int(gained) for indicator, gained in rows}
    if "reason" in case:
        assert (found, points) == ((None, None, case["reason"]), {})
        return
    assert {name: points[name] for name in case.get("points", {})} == case.get("points", {})
    assert sum(points.values()) == found[0]
    if "score" in case:
        assert found == (Decimal(case["score"]), case["grade"], None)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_band_of_every_indicator_has_a_case(subject: str) -> None:
    policy = yaml.safe_load((ROOT / f"config/policy/{subject}.yml").read_text(encoding="utf-8"))["versions"][-1]
    given = {(one["id"], band.get("points", band.get("else"))) for one in policy["indicators"] for band in one["bands"]}
    covered = {(name, gained) for case in CASES[subject] for name, gained in case.get("points", {}).items()}
    assert given - covered == set()


def test_marks_of_another_subject_are_no_evidence(month: Month) -> None:
    """Every point of a merchant names the application it rests on."""
    wrong = month.engine.fetch(
        "SELECT count(*) FROM core_merchant_points WHERE evidence NOT LIKE 'core_merchant_reviews:' || merchant_key || '-%'"
    )
    assert wrong == [(0,)]


@pytest.mark.parametrize("seed", [1, 2])
def test_naive_grades_agree_to_the_last_digit(seed: int) -> None:
    graded = Month(PERIOD)
    graded.given(_relations({subject: [] for subject in SUBJECTS}))
    graded.load(naive.random_subjects(seed, 400))
    graded.grade()
    for subject in SUBJECTS:
        expected = naive.grade(subject, {name: table(graded, name).to_pylist() for name in naive.TABLES})
        rows = graded.engine.fetch(
            f"SELECT {subject}_key, score, computed_grade, not_rated_reason, input_state FROM core_{subject}_grades"
        )
        assert {key: tuple(rest) for key, *rest in rows} == {key: one.grade for key, one in expected.items()}
        points = graded.engine.fetch(f"SELECT {subject}_key, indicator, points FROM core_{subject}_points")
        assert {(key, name): gained for key, name, gained in points} == {
            (key, name): gained for key, one in expected.items() for name, gained in one.points.items()
        }
        assert len({one.grade[1] for one in expected.values()}) >= 6
    graded.close()
