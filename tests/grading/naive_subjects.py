"""The policies of businesses, collectives and merchants once more, one subject after the other, in plain Python.

Shares no code with the compiled scorecard. `random_subjects` makes core tables with values on and around every band, and
points of the month before for what is carried forward or withheld.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pandas as pd

ITEMS = (
    "licence", "product_safety", "fire_safety", "fair_employment", "site_order", "price_display", "true_measure",
    "no_fakes", "complaints", "contracts", "coupons", "local_jobs", "local_produce", "public_welfare", "civility_lead",
)  # fmt: skip
TABLES = (
    "core_businesses", "core_collectives", "core_merchants", "core_merchant_reviews", "core_consents", "core_loans",
    "history_core_loans", "core_households", "rejected_loans", "rejected_merchant_reviews", "previous_core_business_points",
    "previous_core_collective_points", "previous_core_merchant_points",
)  # fmt: skip
END = date(2024, 3, 31)
Row = dict[str, Any]
Tables = dict[str, list[Row]]


@dataclass
class Result:
    """(score, grade, reason, input state) and the points of one subject; no points unless rated."""

    grade: tuple[Decimal | None, str | None, str | None, str]
    points: dict[str, Decimal] = field(default_factory=dict)


@dataclass
class Line:
    """One indicator of one subject: its points by value alone, its maximum, and the state of the rows behind it."""

    points: int
    most: int
    state: str


def grade(subject: str, tables: Tables) -> dict[str, Result]:
    """Every subject's result by key."""
    ways = {"business": _business, "collective": _collective, "merchant": _merchant}
    rows = tables[{"business": "core_businesses"}.get(subject, f"core_{subject}s")]
    before = {(p[f"{subject}_key"], p["indicator"]): p["points"] for p in tables[f"previous_core_{subject}_points"]}
    cuts = (90, 80, 70, 60, 50) if subject == "merchant" else (80, 70, 60, 50, 40)
    key = f"{subject}_key"
    return {row[key]: _result(row[key], *ways[subject](row, tables), before, cuts) for row in rows}


def _result(key: str, lines: dict[str, Line], reason: str | None, before: Any, cuts: tuple[int, ...]) -> Result:
    settled = {name: _settled(line, before.get((key, name))) for name, line in lines.items()}
    states = {line.state for line in lines.values()}
    state = next((one for one in ("withheld", "carried_forward") if one in states), "complete")
    if reason is None and None in settled.values():
        reason = "incomplete"
    if reason is not None:
        return Result((None, None, reason, state))
    points = {name: gained for name, gained in settled.items() if gained is not None}
    score = sum(points.values(), Decimal(0))
    word = next((word for word, cut in zip(("AAA", "AA", "A", "B", "C"), cuts, strict=True) if score >= cut), "D")
    return Result((score, word, None, state), points)


def _settled(line: Line, before: Decimal | None) -> Decimal | None:
    """Withheld: last month's points or none; carried forward: never more than last month's."""
    known = None if before is None else min(before, Decimal(line.most))
    if line.state == "withheld":
        return known
    if line.state == "carried_forward" and before is not None:
        return min(before, Decimal(line.points))
    return Decimal(line.points)


def _at_least(value: Any, steps: list[tuple[Any, int]], rest: int, missing: int) -> int:
    if value is None:
        return missing
    return next((points for bound, points in steps if value >= bound), rest)


def _at_most(value: Any, steps: list[tuple[Any, int]], rest: int, missing: int) -> int:
    if value is None:
        return missing
    return next((points for bound, points in steps if value <= bound), rest)


def _flag(value: bool | None, wanted: bool, points: int, missing: int) -> int:
    return missing if value is None else points if value is wanted else 0


def _pct_up(upper: Decimal | None, lower: Decimal | None) -> int | None:
    """Debts over assets, rounded up; 0 of 0 is 0."""
    if upper is None or lower is None or (lower == 0 and upper != 0):
        return None
    return 0 if lower == 0 else ceil(Fraction(upper) * 100 / Fraction(lower))


def _business(row: Row, tables: Tables) -> tuple[dict[str, Line], str | None]:
    person, is_personal = row["in_charge_person_key"], row["business_kind"] in ("family_farm", "individual")
    agreed = {purpose: _agreed(person, purpose, tables) if is_personal else "in_force"
              for purpose in ("grading", "bank_data", "income", "property")}  # fmt: skip
    income = row["operating_income_yuan"] if agreed["income"] == "in_force" else None
    debts = (
        _pct_up(row["business_debt_yuan"], row["business_assets_yuan"]) if agreed["property"] == "in_force" else None
    )
    days, credit = (None, "complete")
    if is_personal and agreed["bank_data"] == "in_force":
        days, credit = _repayment(person, tables)
    state = row["input_state"]
    if credit != "withheld" and state != "complete":
        credit = "carried_forward"
    age = (END - row["founded_on"]).days
    lines = {
        "operating_days": Line(_at_least(age, [(1095, 12), (365, 9), (90, 6)], 3, 6), 12, state),
        "operating_income": Line(
            _at_least(income, [(1_000_000, 14), (500_000, 11), (200_000, 8), (50_000, 5)], 2, 8), 14, state
        ),
        "workers": Line(_at_least(row["worker_count"], [(8, 8), (3, 6), (1, 4)], 2, 5), 8, state),
        "led_households": Line(_at_least(row["led_household_count"], [(20, 10), (10, 8), (1, 5)], 3, 5), 10, state),
        "debt_to_assets_pct": Line(_at_most(debts, [(30, 16), (50, 12), (70, 8), (100, 4)], 0, 10), 16, state),
        "report_filed": Line(_flag(row["is_report_filed"], True, 10, 5), 10, state),
        "listed_abnormal": Line(_flag(row["is_listed_abnormal"], False, 10, 6), 10, state),
        "in_charge_repayment": Line(_at_most(days, [(0, 20), (30, 12), (90, 4)], 0, 14), 20, credit),
    }
    reason = None
    if row["operating_status"] != "operating":
        reason = "not_operating"
    elif agreed["grading"] != "in_force":
        reason = "opted_out" if agreed["grading"] in ("refused", "withdrawn") else "no_consent"
    elif agreed["bank_data"] in ("withdrawn", "expired"):
        reason = "opted_out" if agreed["bank_data"] == "withdrawn" else "no_consent"
    return lines, reason


def _agreed(person: str, purpose: str, tables: Tables) -> str:
    """In force, else the strongest thing the person ever said to the county about the purpose."""
    said = [
        c
        for c in tables["core_consents"]
        if (c["person_key"], c["purpose"], c["recipient"]) == (person, purpose, "county")
    ]
    if any(consent["is_in_force"] for consent in said):
        return "in_force"
    if any(consent["withdrawn_on"] and consent["withdrawn_on"] <= END for consent in said):
        return "withdrawn"
    if any(consent["decision"] == "refused" for consent in said):
        return "refused"
    return "expired" if said else "none"


def _repayment(person: str, tables: Tables) -> tuple[int | None, str]:
    """Worst days in arrears over the months, and the state of the notes."""
    own = [note for note in tables["core_loans"] if note["person_key"] == person]
    known = {(note["bank_code"], note["loan_key"]) for note in tables["core_loans"]}
    days = [_days(n) for n in [*own, *(n for n in tables["history_core_loans"] if n["person_key"] == person)]]
    worst = max(days) if days else None
    if any(r["person_key"] == person and (r["supplier"], r["loan_key"]) not in known for r in tables["rejected_loans"]):
        return worst, "withheld"
    return worst, "carried_forward" if any(note["input_state"] != "complete" for note in own) else "complete"


def _days(note: Row) -> int:
    if note["note_state"] == "written_off":
        return 9999
    if note["overdue_days"]:
        return int(note["overdue_days"])
    return 60 if note["is_overdue"] else 0


def _collective(row: Row, tables: Tables) -> tuple[dict[str, Line], str | None]:
    registered = sum(household["village_code"] == row["village_code"] for household in tables["core_households"])
    members = row["member_household_count"]
    share = None if members is None or registered == 0 else floor(Fraction(members * 100, registered))
    debts = _pct_up(row["collective_debt_yuan"], row["collective_assets_yuan"])
    state, age = row["input_state"], (END - row["accounts_on"]).days
    steps = [(500_000, 25), (200_000, 20), (100_000, 14), (50_000, 8)]
    lines = {
        "collective_income": Line(_at_least(row["collective_income_yuan"], steps, 4, 14), 25, state),
        "debt_to_assets_pct": Line(_at_most(debts, [(20, 20), (40, 14), (70, 7)], 0, 12), 20, state),
        "accounts_published": Line(_flag(row["is_accounts_published"], True, 15, 7), 15, state),
        "audited": Line(_flag(row["is_audited"], True, 10, 5), 10, state),
        "accounts_age_days": Line(_at_most(age, [(100, 10), (190, 6), (370, 3)], 0, 5), 10, state),
        "dividend": Line(_at_least(row["dividend_yuan"], [(Decimal("0.01"), 8)], 3, 4), 8, state),
        "member_share_pct": Line(_at_least(share, [(80, 12), (60, 9), (30, 5)], 2, 6), 12, state),
    }
    return lines, None if row["operating_status"] == "operating" else "not_operating"


def _merchant(row: Row, tables: Tables) -> tuple[dict[str, Line], str | None]:
    own = [review for review in tables["core_merchant_reviews"] if review["merchant_key"] == row["merchant_key"]]
    ended = [review for review in own if review["town_decision"] == "refused" or review["city_decision"]]
    review = max(ended or own, key=lambda one: (one["applied_on"], one["application_key"]), default=None)
    refused = any(one["merchant_key"] == row["merchant_key"] for one in tables["rejected_merchant_reviews"])
    settled = (
        row["input_state"] == "complete" and (review is None or review["input_state"] == "complete") and not refused
    )
    state = "complete" if settled else "carried_forward"
    lines = {}
    for place, item in enumerate(ITEMS):
        met, partly = ((8, 4), (7, 4), (5, 2))[place // 5]
        mark = review[f"{item}_mark"] if review else None
        lines[item] = Line({"met": met, "partly": partly, None: partly, "unmet": 0}[mark], met, state)
    return lines, _kept_out(row, review)


def _kept_out(row: Row, review: Row | None) -> str | None:
    if row["operating_status"] != "operating":
        return "not_operating"
    if row["left_on"] is not None and row["left_on"] <= END:
        return "left_circle"
    if review is None:
        return "not_applied"
    if review["town_decision"] != "passed":
        return "awaiting_town_check" if review["town_decision"] is None else "town_check_failed"
    if review["city_decision"] != "passed":
        return "awaiting_city_review" if review["city_decision"] is None else "city_review_failed"
    return None


# ---- random core tables ----------------------------------------------------------------------------------------------


def random_subjects(seed: int, count: int) -> dict[str, pd.DataFrame]:
    """Core tables of one month with `count` subjects of each kind."""
    rng = np.random.default_rng(seed)
    return {**_random_businesses(rng, count), **_random_collectives(rng, count // 3), **_random_merchants(rng, count)}


def _one_of(rng: np.random.Generator, values: list[Any], count: int) -> list[Any]:
    return [values[place] for place in rng.integers(0, len(values), count)]


def _around(rng: np.random.Generator, bounds: list[int], count: int) -> list[str | None]:
    """Amounts on, a fen below and a fen above each bound, and unknown ones."""
    return _one_of(
        rng, [None, *(str(Decimal(b) + d) for b in bounds for d in (0, Decimal("0.01"), Decimal("-0.01")))], count
    )


def _days_ago(rng: np.random.Generator, bounds: list[int], count: int) -> list[date]:
    return [END - timedelta(days=days) for days in _one_of(rng, [b + d for b in bounds for d in (-1, 0, 1)], count)]


def _states(rng: np.random.Generator, count: int) -> list[str]:
    return _one_of(rng, ["complete"] * 5 + ["carried_forward"], count)


def _before(rng: np.random.Generator, subject: str, keys: list[str], most: dict[str, int]) -> pd.DataFrame:
    """Points of last month for half of the subjects, some above today's maximum."""
    rows = [
        {f"{subject}_key": key, "indicator": name, "points": int(rng.integers(0, highest + 3))}
        for key in keys if rng.random() < 0.5 for name, highest in most.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _random_businesses(rng: np.random.Generator, count: int) -> dict[str, pd.DataFrame]:
    keys = [f"b{number:05d}" for number in range(count)]
    people = [f"p{number:05d}" for number in rng.integers(0, count, count)]
    businesses = pd.DataFrame(
        {"business_key": keys, "in_charge_person_key": people, "village_code": "v1", "town_code": "t1",
         "business_kind": _one_of(rng, ["family_farm", "individual", "cooperative", "enterprise"], count),
         "operating_status": _one_of(rng, ["operating"] * 12 + ["suspended", "closed"], count),
         "founded_on": _days_ago(rng, [90, 365, 1095], count), "input_state": _states(rng, count),
         "operating_income_yuan": _around(rng, [50_000, 200_000, 500_000, 1_000_000], count),
         "business_assets_yuan": _one_of(rng, [None, "0", "1000000"], count),
         "business_debt_yuan": _around(rng, [0, 300_000, 500_000, 700_000, 1_000_000], count),
         "worker_count": _one_of(rng, [None, 0, 1, 2, 3, 7, 8], count),
         "led_household_count": _one_of(rng, [None, 0, 1, 9, 10, 19, 20], count),
         "is_report_filed": _one_of(rng, [None, True, False], count),
         "is_listed_abnormal": _one_of(rng, [None, True, False, False], count)}
    )  # fmt: skip
    most = dict(operating_days=12, operating_income=14, workers=8, led_households=10, debt_to_assets_pct=16,
                report_filed=10, listed_abnormal=10, in_charge_repayment=20)  # fmt: skip
    return {"core_businesses": businesses, "previous_core_business_points": _before(rng, "business", keys, most),
            "core_consents": _random_consents(rng, count), **_random_notes(rng, count)}  # fmt: skip


def _random_consents(rng: np.random.Generator, people: int) -> pd.DataFrame:
    fates = [{"is_in_force": True}] * 10 + [
        {"decision": "refused"},
        {"withdrawn_on": END},
        {"expires_on": date(2024, 1, 1)},
    ]
    rows = [
        {"consent_key": f"c{number}-{purpose}-{again}", "person_key": f"p{number:05d}", "recipient": "county", "purpose": purpose,
         "decision": "granted", "is_in_force": False, "withdrawn_on": None, "expires_on": None, "input_state": "complete",
         **fates[int(rng.integers(len(fates)))]}
        for number in range(people) for purpose in ("grading", "bank_data", "income", "property")
        for again in range(int(rng.choice([0, 1, 1, 1, 1, 1, 1, 1, 2])))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _random_notes(rng: np.random.Generator, people: int) -> dict[str, pd.DataFrame]:
    def notes(count: int, prefix: str) -> pd.DataFrame:
        days = _one_of(rng, [None, 0, 1, 30, 31, 90, 91], count)
        return pd.DataFrame(
            {"bank_code": "a", "loan_key": [f"{prefix}{number}" for number in range(count)],
             "person_key": [f"p{number:05d}" for number in rng.integers(0, people, count)], "overdue_days": pd.array(days, "Int64"),
             "is_overdue": [rng.random() < 0.5 if day is None else day > 0 for day in days], "input_state": _states(rng, count),
             "note_state": _one_of(rng, ["active"] * 9 + ["written_off"], count), "balance_yuan": "10"}
        )  # fmt: skip

    now, past = notes(people // 2, "l"), notes(people // 4, "h").assign(period="2024-01")
    refused = notes(people // 20, "r")[["loan_key", "person_key"]].assign(supplier="a")
    seen = now.iloc[:20][["loan_key", "person_key"]].assign(supplier="a")
    return {"core_loans": now, "history_core_loans": past, "rejected_loans": pd.concat([refused, seen])}


def _random_collectives(rng: np.random.Generator, count: int) -> dict[str, pd.DataFrame]:
    keys = [f"c{number:05d}" for number in range(count)]
    villages = [f"v{number}" for number in range(count)]
    collectives = pd.DataFrame(
        {"collective_key": keys, "village_code": villages, "town_code": "t1", "input_state": _states(rng, count),
         "operating_status": _one_of(rng, ["operating"] * 9 + ["suspended"], count),
         "collective_income_yuan": _around(rng, [50_000, 100_000, 200_000, 500_000], count),
         "collective_assets_yuan": _one_of(rng, [None, "0", "1000000", "1000000"], count),
         "collective_debt_yuan": _around(rng, [0, 200_000, 400_000, 700_000], count),
         "dividend_yuan": _one_of(rng, [None, "0", "0.01"], count), "accounts_on": _days_ago(rng, [100, 190, 370], count),
         "is_accounts_published": _one_of(rng, [None, True, False], count), "is_audited": _one_of(rng, [None, True, False], count),
         "member_household_count": _one_of(rng, [None, 0, 1, 2, 3, 4, 5, 6, 7], count)}
    )  # fmt: skip
    homes = [village for village in villages for _ in range(int(rng.integers(0, 10)))]
    households = pd.DataFrame(
        {
            "household_key": [f"h{number}" for number in range(len(homes))],
            "village_code": homes,
            "input_state": "complete",
        }
    )
    most = dict(collective_income=25, debt_to_assets_pct=20, accounts_published=15, audited=10, accounts_age_days=10,
                dividend=8, member_share_pct=12)  # fmt: skip
    return {"core_collectives": collectives, "core_households": households,
            "previous_core_collective_points": _before(rng, "collective", keys, most)}  # fmt: skip


def _random_merchants(rng: np.random.Generator, count: int) -> dict[str, pd.DataFrame]:
    keys = [f"m{number:05d}" for number in range(count)]
    merchants = pd.DataFrame(
        {"merchant_key": keys, "village_code": "v1", "town_code": "t1", "input_state": _states(rng, count),
         "operating_status": _one_of(rng, ["operating"] * 15 + ["suspended"], count),
         "left_on": _one_of(rng, [None] * 9 + [END, END + timedelta(days=1)], count)}
    )  # fmt: skip
    size = count * 3 // 2
    town = _one_of(rng, ["passed"] * 6 + ["refused", None], size)
    city = [
        None if decision != "passed" else _one_of(rng, ["passed"] * 6 + ["refused", None], 1)[0] for decision in town
    ]
    reviews = pd.DataFrame(
        {"application_key": [f"a{number:05d}" for number in range(size)], "merchant_key": _one_of(rng, keys, size),
         "applied_on": _days_ago(rng, [30, 200], size), "town_decision": town, "city_decision": city,
         "input_state": _states(rng, size),
         **{f"{item}_mark": _one_of(rng, ["met"] * 6 + ["partly", "unmet", None], size) for item in ITEMS}}
    )  # fmt: skip
    refused = pd.DataFrame(
        {"supplier": "enterprises", "merchant_key": _one_of(rng, [*keys[: count // 10], None], count // 20)}
    )
    most = {item: (8, 7, 5)[place // 5] for place, item in enumerate(ITEMS)}
    return {"core_merchants": merchants, "core_merchant_reviews": reviews, "rejected_merchant_reviews": refused,
            "previous_core_merchant_points": _before(rng, "merchant", keys, most)}  # fmt: skip
