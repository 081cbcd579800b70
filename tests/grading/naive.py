"""The household policy once more, as plainly as possible: one household after the other, from core tables, in Python.

Shares no code with the compiled scorecard: it reads the policy YAML itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import yaml

from tests.grading.county import table
from tests.grading.naive_civility import Reviews, counts_on
from tests.sql.month import ROOT, Month

Rows = list[dict[str, Any]]
ORDER = ("AAA", "AA", "A", "B", "C", "D")


@dataclass
class Tables:
    """The core tables of one month as lists of dicts, and its policy."""

    policy: dict[str, Any]
    end: date
    rows: Mapping[str, Rows]

    def of(self, table: str) -> Rows:
        return self.rows.get(table, [])


def read_policy() -> dict[str, Any]:
    """The version of the shipped household policy that is in force."""
    document = yaml.safe_load((ROOT / Path("config/policy/household.yml")).read_text(encoding="utf-8"))
    return dict(document["versions"][-1])


def read_tables(month: Month) -> Tables:
    names = (
        "core_households", "core_members", "core_consents", "core_loans", "core_mediation_cases", "core_mediation_parties",
        "history_core_loans", "history_core_mediation_cases", "history_core_mediation_parties", "previous_core_loans",
        "previous_core_household_points", "previous_core_household_grades", "rejected_loans", "rejected_members", "rejected_consents",
        "rejected_mediation", "accepted_loans",
        "core_civility_ballots", "history_core_civility_ballots", "previous_mart_civility_reviews", "core_credit_events",
        "rejected_civility_ballots", "rejected_credit_events",
    )  # fmt: skip
    return Tables(read_policy(), month.period.end, {name: table(month, name).to_pylist() for name in names})


def grade(tables: Tables) -> dict[str, dict[str, Any]]:
    """Household key -> points by indicator, score, reason, computed and effective grade, hold reason, state."""
    county = _Facts(tables)
    return {row["household_key"]: _grade_one(county, row) for row in tables.of("core_households")}


class _Facts:
    """Look-ups over the tables; every one is a plain loop."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.policy = tables.policy
        self.end = tables.end
        self.home = {row["person_key"]: row["household_key"] for row in tables.of("core_members")}
        self.members: dict[str, Rows] = defaultdict(list)
        for row in tables.of("core_members"):
            self.members[row["household_key"]].append(row)
        self.consents: dict[str, Rows] = defaultdict(list)
        for row in tables.of("core_consents"):
            if row["recipient"] == "county":
                self.consents[row["person_key"]].append(row)
        self.notes: dict[str, Rows] = defaultdict(list)
        self.past: dict[str, Rows] = defaultdict(list)
        self._share_notes()
        self.medians = {measure: self._medians(measure) for measure in ("annual_income_yuan", "total_assets_yuan")}
        self.helped: dict[str, int] = defaultdict(int)
        self.unperformed: dict[str, int] = defaultdict(int)
        self.vetoed: set[str] = set()
        self._mediation()
        self.reviews = Reviews(tables.rows, tables.policy["parameters"]).results
        self.items: dict[str, Rows] = defaultdict(list)
        self.carried_items: set[str] = set()
        self.listed: set[str] = set()
        self._lists()
        self.withheld = self._withheld()
        self.before_points: dict[str, dict[str, Decimal]] = defaultdict(dict)
        for row in tables.of("previous_core_household_points"):
            self.before_points[row["household_key"]][row["indicator"]] = row["points"]
        self.before_grades = {row["household_key"]: row for row in tables.of("previous_core_household_grades")}

    def has(self, person: str | None, purpose: str) -> bool:
        return any(row["is_in_force"] for row in self.consents[person or ""] if row["purpose"] == purpose)

    def standing(self, person: str | None, purpose: str) -> str:
        rows = [row for row in self.consents[person or ""] if row["purpose"] == purpose]
        if any(row["is_in_force"] for row in rows):
            return "in_force"
        if any(row["withdrawn_on"] is not None and row["withdrawn_on"] <= self.end for row in rows):
            return "withdrawn"
        if any(row["decision"] == "refused" for row in rows):
            return "refused"
        return "expired" if rows else "none"

    def arrears(self, row: dict[str, Any]) -> int:
        if row["note_state"] == "written_off":
            return 9999
        if row["overdue_days"] and row["overdue_days"] > 0:
            return int(row["overdue_days"])
        return 60 if row["is_overdue"] else 0

    def _share_notes(self) -> None:
        for row in self.tables.of("core_loans"):
            if row["household_key"]:
                self.notes[row["household_key"]].append(row)
            other = self.home.get(row["co_person_key"])
            if other and other != row["household_key"] and self.has(row["co_person_key"], "bank_data"):
                self.notes[other].append(row)
        for row in self.tables.of("history_core_loans"):
            if self.has(row["person_key"], "bank_data"):
                self.past[self.home.get(row["person_key"]) or row["household_key"]].append(row)
            if row["co_person_key"] in self.home and self.has(row["co_person_key"], "bank_data"):
                self.past[self.home[row["co_person_key"]]].append(row)

    def _medians(self, measure: str) -> dict[str, Decimal]:
        by_town: dict[str, list[Decimal]] = defaultdict(list)
        for row in self.tables.of("core_households"):
            if row[measure] is not None:
                by_town[row["town_code"]].append(row[measure])
                by_town["county"].append(row[measure])
        [least] = {
            entry["peer"]["minimum_sample"]
            for entry in self.policy["indicators"]
            if entry.get("peer", {}).get("of") == measure
        }
        return {
            town: sorted(values)[(len(values) + 1) // 2 - 1] for town, values in by_town.items() if len(values) >= least
        }

    def median(self, measure: str, town: str) -> Decimal | None:
        return self.medians[measure].get(town, self.medians[measure].get("county"))

    def _mediation(self) -> None:
        newest: dict[str, dict[str, Any]] = {}
        for row in (*self.tables.of("history_core_mediation_cases"), *self.tables.of("core_mediation_cases")):
            if row["case_key"] not in newest or row["period"] > newest[row["case_key"]]["period"]:
                newest[row["case_key"]] = row
        heads = {row["household_key"]: row["head_person_key"] for row in self.tables.of("core_households")}
        for party in (*self.tables.of("history_core_mediation_parties"), *self.tables.of("core_mediation_parties")):
            case = newest[party["case_key"]]
            home = self.home.get(party["person_key"])
            if home is None or case["period"] != party["period"]:
                continue
            if party["party_role"] == "helper" and case["result"] != "open":
                self.helped[home] += 1
            if (
                case["performance"] == "unperformed" and case["has_unperformed_document"]
                and case["unperformed_by"] == party["party_role"]
            ):  # fmt: skip
                self.unperformed[home] += 1
                if case["judicially_confirmed_on"] is not None and heads.get(home) == party["person_key"]:
                    self.vetoed.add(home)

    def _lists(self) -> None:
        heads = {row["household_key"]: row["head_person_key"] for row in self.tables.of("core_households")}
        for row in self.tables.of("core_credit_events"):
            home = self.home.get(row["person_key"])
            if home is None:
                continue
            if row["input_state"] != "complete":
                self.carried_items.add(home)
            if not counts_on(row, self.end):
                continue
            self.items[home].append(row)
            other = row["joint_person_key"]
            is_joint = other not in (None, row["person_key"]) and self.home.get(other) == home
            if row["list_kind"] == "veto" and (row["person_key"] == heads.get(home) or is_joint):
                self.listed.add(home)

    def _withheld(self) -> dict[str, set[str]]:
        marks: dict[str, set[str]] = defaultdict(set)
        known = {(row["bank_code"], row["loan_key"]) for row in self.tables.of("previous_core_loans")}
        known |= {(row["supplier"], row["loan_key"]) for row in self.tables.of("accepted_loans")}
        for row in self.tables.of("rejected_loans"):
            if (row["supplier"], row["loan_key"]) not in known:
                for person in (row["person_key"], row["co_person_key"]):
                    if person in self.home and self.has(person, "bank_data"):
                        marks[self.home[person]].add("bank:withheld")
        present = {row["member_key"] for row in self.tables.of("core_members")}
        for row in self.tables.of("rejected_members"):
            if row["household_key"] and row["member_key"] not in present:
                marks[row["household_key"]] |= {"bank:withheld", "capacity:withheld"}
        for row in (*self.tables.of("rejected_consents"), *self.tables.of("core_consents")):
            if row.get("input_state") != "complete" and row["person_key"] in self.home:
                marks[self.home[row["person_key"]]] |= {"bank:carried_forward", "capacity:carried_forward"}
        for row in self.tables.of("rejected_mediation"):
            for role in ("applicant_key", "respondent_key", "helper_key"):
                if row[role] in self.home:
                    marks[self.home[row[role]]].add("civility:carried_forward")
        for row in self.tables.of("rejected_credit_events"):
            if row["person_key"] in self.home:
                marks[self.home[row["person_key"]]].add("civility:carried_forward")
        for row in self.tables.of("rejected_civility_ballots"):
            if row["household_key"] is not None:
                marks[row["household_key"]].add("civility:carried_forward")
        return marks


def _grade_one(county: _Facts, row: dict[str, Any]) -> dict[str, Any]:
    states = _states(county, row)
    reason = _reason(county, row)
    points, before = {}, county.before_points[row["household_key"]]
    for indicator in county.policy["indicators"]:
        state = states[indicator["block"]]
        fresh = _points(indicator, *_VALUES[indicator["id"]](county, row))
        last = before.get(indicator["id"])
        if state == "withheld":
            points[indicator["id"]] = last
        elif state == "carried_forward" and last is not None:
            points[indicator["id"]] = min(fresh, last)
        else:
            points[indicator["id"]] = fresh
    if reason is None and any(value is None for value in points.values()):
        reason = "incomplete"
    state = next((state for state in ("withheld", "carried_forward") if state in states.values()), "complete")
    if reason:
        return {"points": {}, "score": None, "reason": reason, "computed": None, "effective": None, "hold": None} | {
            "state": state
        }
    score = sum((value for value in points.values() if value is not None), Decimal(0))
    computed = _grade_of(county, score, row["household_key"])
    effective, hold = _effective(county, row, points, computed, state)
    return {
        "points": points, "score": score, "reason": None, "computed": computed, "effective": effective, "hold": hold,
        "state": state,
    }  # fmt: skip


def _states(county: _Facts, row: dict[str, Any]) -> dict[str, str]:
    key = row["household_key"]
    marks = county.withheld[key]
    member = any(member["input_state"] != "complete" for member in county.members[key])
    note = any(note["input_state"] != "complete" for note in county.notes[key])
    own = row["input_state"] != "complete"

    def state(block: str, carried: bool) -> str:
        if f"{block}:withheld" in marks:
            return "withheld"
        return "carried_forward" if carried or f"{block}:carried_forward" in marks else "complete"

    return {
        "bank": state("bank", note or member),
        "capacity": state("capacity", own or member),
        "civility": state("civility", own or key in county.carried_items),
    }


def _reason(county: _Facts, row: dict[str, Any]) -> str | None:
    grading = county.standing(row["head_person_key"], "grading")
    ended = {county.standing(member["person_key"], "bank_data") for member in county.members[row["household_key"]]}
    if grading in ("refused", "withdrawn"):
        return "opted_out"
    if grading != "in_force":
        return "no_consent"
    if "withdrawn" in ended:
        return "opted_out"
    if "expired" in ended:
        return "no_consent"
    return "absent" if row["residence_status"] == "absent" else None


def _points(indicator: dict[str, Any], value: Any, state: str) -> Decimal:
    if state != "present" or value is None:
        return Decimal(str(indicator["missing"]))
    if "events" in indicator:
        rule = indicator["events"]
        total = rule["start"] + sum(rule["points"].get(item["item_code"], 0) for item in value)
        return Decimal(str(max(rule["floor"], min(indicator["max"], total))))
    for band in indicator["bands"]:
        if "else" in band:
            return Decimal(str(band["else"]))
        fits = (
            ("at_most" in band and value <= Decimal(str(band["at_most"])))
            or ("at_least" in band and value >= Decimal(str(band["at_least"])))
            or ("equals" in band and value == band["equals"])
        )
        if fits:
            return Decimal(str(band["points"]))
    raise AssertionError("bands leave a gap")


def _agreed(county: _Facts, row: dict[str, Any]) -> str:
    return "missing" if county.has(row["head_person_key"], "bank_data") else "no_consent"


def _repayment(county: _Facts, row: dict[str, Any]) -> tuple[Any, str]:
    notes = county.notes[row["household_key"]] + county.past[row["household_key"]]
    return (max(county.arrears(note) for note in notes), "present") if notes else (None, _agreed(county, row))


def _open(county: _Facts, row: dict[str, Any]) -> Rows:
    return [note for note in county.notes[row["household_key"]] if note["note_state"] in ("active", "ended_unknown")]


def _has_loss(county: _Facts, row: dict[str, Any]) -> bool:
    notes = county.notes[row["household_key"]] + county.past[row["household_key"]]
    return any(note["note_state"] == "written_off" for note in notes)


def _arrears_share(county: _Facts, row: dict[str, Any]) -> tuple[Any, str]:
    if _has_loss(county, row):
        return 100, "present"
    notes = _open(county, row)
    if not notes:
        return None, _agreed(county, row)
    balance = sum((note["balance_yuan"] for note in notes), Decimal(0))
    late = sum((note["balance_yuan"] for note in notes if note["is_overdue"]), Decimal(0))
    return (ceil(Fraction(late) * 100 / Fraction(balance)) if balance else 0), "present"


def _record(county: _Facts, row: dict[str, Any]) -> tuple[Any, str]:
    notes = county.notes[row["household_key"]] + county.past[row["household_key"]]
    if not notes:
        return None, _agreed(county, row)
    return (county.end - min(note["issued_on"] for note in notes)).days, "present"


def _debt(county: _Facts, row: dict[str, Any]) -> tuple[Any, str]:
    if not county.has(row["head_person_key"], "income"):
        return None, "no_consent"
    if not county.notes[row["household_key"]] and not county.has(row["head_person_key"], "bank_data"):
        return None, "no_consent"
    income = row["annual_income_yuan"]
    if income is None:
        return None, "missing"
    if _has_loss(county, row):
        return 9999, "present"
    balance = sum((note["balance_yuan"] for note in _open(county, row)), Decimal(0))
    if income == 0:
        return (9999 if balance else 0), "present"
    return ceil(Fraction(balance) * 100 / Fraction(income)), "present"


def _labour(county: _Facts, row: dict[str, Any]) -> tuple[Any, str]:
    members = county.members[row["household_key"]]
    return (sum(member["age_band"] == "16-59" for member in members), "present") if members else (None, "missing")


def _ratio(county: _Facts, row: dict[str, Any], measure: str, purpose: str) -> tuple[Any, str]:
    if not county.has(row["head_person_key"], purpose):
        return None, "no_consent"
    median = county.median(measure, row["town_code"])
    if row[measure] is None or not median:
        return None, "missing"
    return floor(Fraction(row[measure]) * 100 / Fraction(median)), "present"


def _stable(county: _Facts, row: dict[str, Any]) -> tuple[Any, str]:
    if not county.has(row["head_person_key"], "income"):
        return None, "no_consent"
    stable = row["has_stable_income"]
    return (None, "missing") if stable is None else (str(bool(stable)).lower(), "present")


def _civility(county: _Facts, row: dict[str, Any]) -> tuple[Any, str]:
    score = county.reviews.get(row["household_key"], row["civility_score"])
    return score, "missing" if score is None else "present"


def _plain(column: str) -> Any:
    return lambda county, row: (row[column], "present" if row[column] is not None else "missing")


_VALUES: dict[str, Any] = {
    "repayment_conduct": _repayment, "current_arrears_share_pct": _arrears_share, "loan_track_record_days": _record,
    "debt_to_income_pct": _debt, "labour_force": _labour,
    "income_to_town_median_pct": lambda county, row: _ratio(county, row, "annual_income_yuan", "income"),
    "assets_to_town_median_pct": lambda county, row: _ratio(county, row, "total_assets_yuan", "property"),
    "stable_income": _stable, "farmland_mu": _plain("farmland_mu"), "civility_review": _civility,
    "mediation_help": lambda county, row: (county.helped[row["household_key"]], "present"),
    "agreement_performed": lambda county, row: (county.unperformed[row["household_key"]], "present"),
    "list_items": lambda county, row: (county.items[row["household_key"]], "present"),
}  # fmt: skip


def _grade_of(county: _Facts, score: Decimal, key: str) -> str:
    return max([_plain_grade(county, score), *_caps(county, key)], key=ORDER.index)


def _plain_grade(county: _Facts, score: Decimal) -> str:
    """By the cut-offs alone, without vetoes."""
    cuts = county.policy["grades"]
    return next(str(cut["grade"]) for cut in cuts if "at_least" not in cut or score >= Decimal(str(cut["at_least"])))


def _caps(county: _Facts, key: str) -> list[str]:
    return [cap for cap, caught in (("C", county.vetoed), ("D", county.listed)) if key in caught]


def _is_deep(grade_now: str, before: str) -> bool:
    return ORDER.index(grade_now) - ORDER.index(before) >= 2 or (grade_now == "D" and before != "D")


def _effective(
    county: _Facts, row: dict[str, Any], points: dict[str, Any], computed: str, state: str
) -> tuple[str, str | None]:
    key = row["household_key"]
    last = county.before_grades.get(key)
    standing = last["effective_grade"] if last else None
    if standing is None or last is None:
        return computed, None
    if state != "complete" and ORDER.index(computed) < ORDER.index(standing):
        return standing, "awaiting_input"
    if _is_deep(computed, standing) and _rests_on_one_bank(county, key, points, standing, last["hold_reason"]):
        return standing, "awaiting_bank_confirmation"
    return computed, None


def _rests_on_one_bank(county: _Facts, key: str, points: dict[str, Any], standing: str, hold: str | None) -> bool:
    bad = ("substandard", "doubtful", "loss")
    banks = {
        note["bank_code"] for note in county.notes[key]
        if county.arrears(note) > 0 or note["five_class"] in bad or note["note_state"] == "written_off"
    }  # fmt: skip
    bank = {entry["id"] for entry in county.policy["indicators"] if entry["block"] == "bank"}
    before = county.before_points[key]
    if len(banks) != 1 or not before or any(_is_deep(cap, standing) for cap in _caps(county, key)):
        return False
    score = sum((before[name] if name in bank else value for name, value in points.items()), Decimal(0))
    return not _is_deep(_plain_grade(county, score), standing) or hold == "awaiting_bank_confirmation"
