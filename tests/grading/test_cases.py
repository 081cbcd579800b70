"""`cases/*.yml`: households a credit officer can grade by hand, on both sides of every band."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sql.month import ROOT, Month

VILLAGE, TOWN = "341181103201", "341181103000"
CASES: list[dict[str, Any]] = [
    case
    for name in ("household_2024", "civility_2024")
    for case in yaml.safe_load((Path(__file__).parent / f"cases/{name}.yml").read_text(encoding="utf-8"))
]
POLICY: dict[str, Any] = yaml.safe_load((ROOT / "config/policy/household.yml").read_text(encoding="utf-8"))["versions"][
    -1
]
PURPOSES = ("grading", "bank_data", "income", "property")
PEERS = 400
PEOPLE = {"head": "1", "member": "2", "stranger": "stranger"}
DIMENSIONS = ("filial", "neighbour", "public_spirit", "customs", "law_abiding", "honesty", "hygiene", "diligence")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def months() -> Iterator[dict[str, Month]]:
    """Period -> all its cases in one month, among peers who fix the medians."""
    graded = {period: _graded(period) for period in sorted({case["month"] for case in CASES})}
    yield graded
    for month in graded.values():
        month.close()


def _graded(period: str) -> Month:
    month = Month(period)
    relations: dict[str, Rows] = {
        "core_places": [{"place_code": VILLAGE, "place_level": "village", "parent_code": TOWN, "valid_from_on": "2023-06-30"}],
        "core_households": [_peer(number) for number in range(PEERS)],
        "core_members": [], "core_consents": [], "core_loans": [], "core_mediation_cases": [], "core_mediation_parties": [],
        "history_core_loans": [], "accepted_credit_events": [],
        "accepted_civility_ballots": [_ballot(f"peer{number:03d}", 0, {"mark": 9, "by": "uniform"}) for number in range(5)],
    }  # fmt: skip
    for number, case in enumerate(CASES):
        if case["month"] == period:
            for relation, rows in _relations(f"case{number:03d}", case).items():
                relations[relation] += rows
    month.given(
        {
            name: [row | {"period": period} if "period" in row and name.startswith("core_") else row for row in rows]
            for name, rows in relations.items()
        }
    )
    month.build(["core_civility_ballots", "core_credit_events"])
    month.grade()
    return month


def _peer(number: int) -> dict[str, Any]:
    return {"period": "2024-03", "household_key": f"peer{number:03d}", "head_person_key": f"peer{number:03d}", "town_code": TOWN,
            "village_code": VILLAGE, "annual_income_yuan": 80_000, "total_assets_yuan": 400_000, "input_state": "complete"}  # fmt: skip


def _relations(key: str, case: dict[str, Any]) -> dict[str, Rows]:
    without = case.get("without", [])
    household = _peer(0) | {
        "household_key": key, "head_person_key": f"{key}-1", "residence_status": case.get("residence", "resident"),
        "annual_income_yuan": None if "income" in without else case.get("income", 80_000),
        "total_assets_yuan": None if "property" in without else case.get("assets", 400_000),
        "has_stable_income": case.get("stable", True), "farmland_mu": case.get("farmland", 5),
        "civility_score": case.get("civility", 85),
    }  # fmt: skip
    working = case.get("members", 2)
    members = [
        {"person_key": f"{key}-{number}", "member_key": f"m-{key}-{number}", "household_key": key, "input_state": "complete",
         "age_band": "16-59" if number <= working else "60-"}
        for number in range(1, max(working, 1) + 1)
    ]  # fmt: skip
    agreed = "bank_data" not in {*without, case.get("withdrawn"), case.get("expired")}
    return {
        "core_households": [household], "core_members": members,
        "core_consents": [_consent(key, purpose, case) for purpose in PURPOSES if purpose not in without],
        "core_loans": [_note(key, number, note) for number, note in enumerate(case.get("loans", []))] if agreed else [],
        **_mediation(key, case),
        "accepted_civility_ballots": [_ballot(key, place, ballot) for place, ballot in enumerate(case.get("ballots", []))],
        "accepted_credit_events": [_item(key, place, item) for place, item in enumerate(case.get("items", []))],
        "history_core_loans": [_joint(key, place, item) for place, item in enumerate(case.get("items", [])) if "joint" in item],
    }  # fmt: skip


def _ballot(key: str, place: int, ballot: int | dict[str, Any]) -> dict[str, Any]:
    said = ballot if isinstance(ballot, dict) else {"mark": ballot}
    by = {"family": f"{key}-{1 + place % 2}", "uniform": "uniform"}.get(said.get("by", ""), f"{key}-reviewer{place}")
    return {"ballot_key": f"{key}-{place}", "round": said.get("round", "2024"), "household_key": key, "reviewer_key": by,
            "reviewed_on": "2024-03-01", "is_informed": said.get("informed", True),
            **{f"{name}_mark": said["mark"] for name in DIMENSIONS}}  # fmt: skip


def _item(key: str, place: int, item: dict[str, Any]) -> dict[str, Any]:
    dates = {
        "to": "event_to_on",
        "published": "publication_until_on",
        "repaired": "repaired_on",
        "revoked": "revoked_on",
    }
    return {"event_key": f"{key}-{place}", "person_key": f"{key}-{PEOPLE[item.get('by', 'head')]}", "item_code": item["item"],
            "list_kind": item["item"].partition("_")[0], "event_from_on": item.get("from", "2024-01-01"),
            "joint_loan_key": f"{key}-joint{place}" if "joint" in item else None,
            **{column: item[name] for name, column in dates.items() if name in item}}  # fmt: skip


def _joint(key: str, place: int, item: dict[str, Any]) -> dict[str, Any]:
    """A note owed together, known from an earlier month only."""
    return {"period": "2024-02", "bank_code": "a", "loan_key": f"{key}-joint{place}",
            "person_key": f"{key}-{PEOPLE[item['joint']]}", "co_person_key": f"{key}-{PEOPLE[item['by']]}"}  # fmt: skip


def _consent(key: str, purpose: str, case: dict[str, Any]) -> dict[str, Any]:
    row = {"consent_key": f"{key}-{purpose}", "person_key": f"{key}-1", "recipient": "county", "purpose": purpose,
           "decision": "granted", "granted_on": "2023-01-01", "is_in_force": True, "input_state": "complete"}  # fmt: skip
    if case.get("refused") == purpose:
        return row | {"decision": "refused", "is_in_force": False}
    if case.get("withdrawn") == purpose:
        return row | {"withdrawn_on": "2024-03-31", "is_in_force": False}
    if case.get("expired") == purpose:
        return row | {"expires_on": "2024-03-30", "is_in_force": False}
    return row


def _note(key: str, number: int, note: dict[str, Any]) -> dict[str, Any]:
    state, days = note.get("state", "active"), note.get("days", 0)
    late = note.get("flag", False) or days > 0
    return {"bank_code": "a", "loan_key": f"{key}-{number}", "person_key": f"{key}-1", "household_key": key,
            "issued_on": note.get("issued", "2024-03-01"), "balance_yuan": note.get("balance", 40_000) if state == "active" else 0,
            "five_class": "normal", "is_overdue": late, "overdue_days": None if note.get("flag") else days,
            "note_state": state, "input_state": "complete"}  # fmt: skip


def _mediation(key: str, case: dict[str, Any]) -> dict[str, Rows]:
    cases, parties = [], []
    for number in range(case.get("helped", 0)):
        cases.append({"period": "2024-03", "case_key": f"help-{key}-{number}", "result": "success"})
        parties.append(
            {"period": "2024-03", "case_key": f"help-{key}-{number}", "party_role": "helper", "person_key": f"{key}-1"}
        )
    if "party" in case:
        kind = case["party"]
        cases.append(
            {"period": "2024-03", "case_key": f"party-{key}", "result": "success", "unperformed_by": "respondent",
             "performance": "performed" if kind == "performed" else "unperformed",
             "has_unperformed_document": kind in ("unperformed", "confirmed"),
             "judicially_confirmed_on": "2024-02-01" if kind == "confirmed" else None}
        )  # fmt: skip
        parties.append(
            {"period": "2024-03", "case_key": f"party-{key}", "party_role": "respondent", "person_key": f"{key}-1"}
        )
    return {"core_mediation_cases": cases, "core_mediation_parties": parties}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["case"] for case in CASES])
def test_household_is_graded_as_by_hand(months: dict[str, Month], number: int) -> None:
    """The points that a case names make the difference; all others are those of the household described first."""
    case, key = CASES[number], f"case{number:03d}"
    month = months[case["month"]]
    columns = "score, computed_grade, effective_grade, not_rated_reason, veto_ids"
    [found] = month.engine.fetch(f"SELECT {columns} FROM core_household_grades WHERE household_key = '{key}'")
    rows = month.engine.fetch(f"SELECT indicator, points FROM core_household_points WHERE household_key = '{key}'")
    points = {str(indicator): int(gained) for indicator, gained in rows}
    if "reason" in case:
        assert found == (None, None, None, case["reason"], case.get("veto"))
        assert points == {}
        return
    assert points == CASES[0]["points"] | case["points"]
    assert sum(points.values()) == case["score"]
    assert found == (Decimal(case["score"]), case["grade"], case["grade"], None, case.get("veto"))


def test_there_are_enough_cases() -> None:
    """A hundred, three that name each indicator, and none that leaves out its month or what it ends in."""
    named = Counter(name for case in CASES for name in case.get("points", {}))
    assert len(CASES) >= 100
    assert {entry["id"]: named[entry["id"]] for entry in POLICY["indicators"] if named[entry["id"]] < 3} == {}
    assert [
        case["case"]
        for case in CASES
        if "month" not in case or not ("reason" in case or ("score" in case and "grade" in case))
    ] == []


def test_every_bound_has_a_case_on_both_sides() -> None:
    """Every band of every indicator is the outcome of a case, so that none is added without."""
    given = {(entry["id"], gains) for entry in POLICY["indicators"] for gains in _gains(entry)}
    covered = {(name, gains) for case in CASES for name, gains in case.get("points", {}).items()}
    assert given - covered == set()


def test_every_cut_off_has_a_case_on_both_sides() -> None:
    """A case reaches each grade exactly, another misses it by a point."""
    cuts = {cut["at_least"] for cut in POLICY["grades"] if "at_least" in cut}
    scores = {case["score"] for case in CASES if "score" in case}
    assert (cuts | {cut - 1 for cut in cuts}) - scores == set()


def _gains(indicator: dict[str, Any]) -> list[int]:
    return [band.get("points", band.get("else")) for band in indicator.get("bands", [])]
