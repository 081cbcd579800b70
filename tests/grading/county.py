"""A small random county for grading tests: two months of accepted rows, with everything that can happen to a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from etl.grading import Policies
from tests.sql.month import HISTORIES, Month

TOWNS = ("341181100000", "341181101000", "341181102000")
BANKS = ("alpha", "beta", "gamma")  # gamma gives only an arrears flag
DIMENSIONS = ("filial", "neighbour", "public_spirit", "customs", "law_abiding", "honesty", "hygiene", "diligence")
ITEMS = ("positive_rescue", "positive_donation", "negative_waste", "negative_contract", "veto_enforcement")
PURPOSES = ("grading", "bank_data", "income", "property")
Frames = dict[str, pd.DataFrame]


@dataclass
class County:
    """Everything as its owners know it; `deliver` makes the accepted rows of one month from it."""

    households: pd.DataFrame
    members: pd.DataFrame
    consents: pd.DataFrame
    loans: pd.DataFrame
    mediation: pd.DataFrame
    ballots: pd.DataFrame
    items: pd.DataFrame
    repaired: pd.DataFrame = field(default_factory=pd.DataFrame)  # items by event_key, with the day the county decided
    rejected: Frames = field(default_factory=dict)
    keys: Frames = field(default_factory=dict)
    others: Frames = field(default_factory=dict)  # any other relation a month reads
    late: frozenset[str] = frozenset()  # banks, or datasets of the government


def random_county(seed: int, households: int, period_end: date = date(2024, 2, 29)) -> County:
    """A county with values on and around every band."""
    rng = np.random.default_rng(seed)
    keys = np.array([f"h{number:06d}" for number in range(households)])
    heads = np.array([f"p{number:06d}" for number in range(households)])
    town = rng.choice(TOWNS, households, p=(0.6, 0.395, 0.005))
    frame = pd.DataFrame(
        {
            "supplier": "government", "household_key": keys, "head_person_key": heads,
            "village_code": [code[:9] + str(201 + number) for code, number in zip(town, rng.integers(0, 3, households), strict=True)],
            "residence_status": rng.choice(["resident", "absent"], households, p=(0.95, 0.05)),
            "annual_income_yuan": money(rng, households, 85_000, 0.5), "total_assets_yuan": money(rng, households, 350_000, 0.5),
            "total_debt_yuan": money(rng, households, 20_000, 0.5), "farmland_mu": sometimes(rng, rng.integers(0, 120, households) / 10),
            "has_stable_income": sometimes(rng, rng.random(households) < 0.7),
            "civility_score": sometimes(rng, rng.integers(5_500, 10_001, households) / 100),
        }
    )  # fmt: skip
    loans = _loans(rng, heads, period_end)
    return County(
        frame,
        _members(rng, keys, heads),
        _consents(rng, heads),
        loans,
        _mediation(rng, keys, town),
        random_ballots(rng, frame, "2023"),
        _items(rng, heads, loans, period_end),
    )


def money(rng: np.random.Generator, count: int, middle: float, spread: float) -> list[str | None]:
    values = np.exp(np.log(middle) + spread * rng.standard_normal(count))
    values[rng.random(count) < 0.02] = 0
    return sometimes(rng, [f"{value:.2f}" for value in values])


def sometimes(rng: np.random.Generator, values: Any, share: float = 0.03) -> list[Any]:
    """Values with a share of unknown ones."""
    unknown = rng.random(len(values)) < share
    return [None if gone else value for value, gone in zip(list(values), unknown, strict=True)]


def _members(rng: np.random.Generator, keys: np.ndarray, heads: np.ndarray) -> pd.DataFrame:
    sizes = rng.integers(1, 6, len(keys))
    home = np.repeat(np.arange(len(keys)), sizes)
    place = np.concatenate([np.arange(size) for size in sizes])
    person = np.where(
        place == 0, heads[home], [f"{heads[house]}-{number}" for house, number in zip(home, place, strict=True)]
    )
    band = np.where(
        place == 0, "16-59", rng.choice(["0-13", "14-15", "16-59", "60-"], len(home), p=(0.2, 0.05, 0.5, 0.25))
    )
    return pd.DataFrame(
        {"supplier": "government", "member_key": [f"m-{name}" for name in person], "person_key": person,
         "household_key": keys[home], "relation_code": np.where(place == 0, "head", "other"), "sex": "male", "age_band": band}
    )  # fmt: skip


def _consents(rng: np.random.Generator, heads: np.ndarray) -> pd.DataFrame:
    parts = []
    for purpose in PURPOSES:
        fate = rng.random(len(heads))
        chosen = fate < 0.93
        parts.append(
            pd.DataFrame(
                {"supplier": "government", "consent_key": [f"c-{purpose}-{head}" for head in heads[chosen]],
                 "person_key": heads[chosen], "recipient": "county", "purpose": purpose,
                 "decision": np.where(fate[chosen] < 0.02, "refused", "granted"), "granted_on": date(2023, 1, 1),
                 "withdrawn_on": [date(2023, 6, 1) if 0.02 <= value < 0.03 else None for value in fate[chosen]],
                 "expires_on": [date(2023, 12, 31) if 0.03 <= value < 0.04 else None for value in fate[chosen]]}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _loans(rng: np.random.Generator, heads: np.ndarray, period_end: date) -> pd.DataFrame:
    count = len(heads) // 2
    borrower = rng.integers(0, len(heads), count)
    bank = rng.choice(BANKS, count)
    days = np.where(rng.random(count) < 0.25, rng.choice([1, 29, 30, 31, 60, 89, 90, 91, 200], count), 0)
    flag_only = bank == "gamma"
    joint = np.where(rng.random(count) < 0.1, rng.integers(0, len(heads), count), -1)
    return pd.DataFrame(
        {
            "supplier": bank, "loan_key": [f"l{number:06d}" for number in range(count)], "person_key": heads[borrower],
            "co_person_key": [heads[other] if other >= 0 and other != me else None for other, me in zip(joint, borrower, strict=True)],
            "as_of_on": period_end, "issued_on": [period_end - timedelta(days=int(age)) for age in rng.integers(1, 1_200, count)],
            "balance_yuan": [f"{value:.2f}" for value in rng.integers(0, 15_000_000, count) / 100],
            "five_class": np.where(days > 180, "substandard", "normal"),
            "loan_status": np.where(days > 0, "overdue", "normal"),
            "overdue_days": [None if flag else int(value) for flag, value in zip(flag_only, days, strict=True)],
        }
    )  # fmt: skip


def _mediation(rng: np.random.Generator, keys: np.ndarray, town: np.ndarray) -> pd.DataFrame:
    count = len(keys) // 8
    people = [f"p{number:06d}" for number in rng.integers(0, len(keys), 3 * count)]
    unperformed = rng.random(count) < 0.3
    documented = rng.random(count) < 0.7
    return pd.DataFrame(
        {
            "supplier": TOWNS[0], "case_key": [f"k{number:06d}" for number in range(count)], "village_code": TOWNS[0][:9] + "201",
            "dispute_type": "land", "registered_on": date(2024, 2, 1), "result": rng.choice(["success", "open", "failure"], count),
            "performance": np.where(unperformed, "unperformed", "performed"), "has_unperformed_document": documented,
            "unperformed_by": np.where(rng.random(count) < 0.5, "applicant", "respondent"),
            "judicially_confirmed_on": [date(2024, 2, 3) if confirmed else None for confirmed in rng.random(count) < 0.5],
            "applicant_key": people[:count], "respondent_key": people[count : 2 * count],
            "helper_key": sometimes(rng, people[2 * count :], 0.3),
        }
    )  # fmt: skip


def random_ballots(rng: np.random.Generator, households: pd.DataFrame, round_: str) -> pd.DataFrame:
    """A panel of eight heads in each village, each with a ballot for most of the first 250 households of it.

    Some ballots are not the reviewer's own judgment; households without ballots keep what the register says.
    """
    parts = []
    for place, (_, everybody) in enumerate(households.groupby("village_code")):
        village = everybody.head(250)
        panel = village["head_person_key"].to_numpy()[:8]
        family, reviewer = (grid.ravel() for grid in np.meshgrid(np.arange(len(village)), np.arange(len(panel))))
        marks = np.clip(rng.integers(3, 12, len(village))[family, None] + rng.integers(-2, 3, (len(family), 8)), 0, 10)
        marks[reviewer == 0] = 9 if place == 0 else marks[reviewer == 0]
        marks[reviewer == 1] = marks[reviewer == 2] if place == 1 and len(panel) > 2 else marks[reviewer == 1]
        cast = rng.random(len(family)) < 0.7
        part = pd.DataFrame(marks, columns=[f"{name}_mark" for name in DIMENSIONS]).assign(
            supplier="village_life", round=round_, household_key=village["household_key"].to_numpy()[family],
            reviewer_key=panel[reviewer], reviewed_on=date(2024, 2, 1), is_informed=rng.random(len(family)) < 0.9,
        )  # fmt: skip
        parts.append(part[cast])
    ballots = pd.concat(parts, ignore_index=True)
    return ballots.assign(ballot_key=[f"b{round_}-{number:06d}" for number in range(len(ballots))])


def _items(rng: np.random.Generator, heads: np.ndarray, loans: pd.DataFrame, period_end: date) -> pd.DataFrame:
    """List items of heads and second members, each ending around the period end, some for a joint debt."""
    count = len(heads) // 3
    codes = rng.choice([*ITEMS, "positive_unknown"], count)
    joint = loans.dropna(subset="co_person_key").sample(count, replace=True, random_state=int(rng.integers(1_000)))
    is_joint = rng.random(count) < 0.3
    person = np.where(
        rng.random(count) < 0.7, rng.choice(heads, count), [f"{name}-1" for name in rng.choice(heads, count)]
    )
    return pd.DataFrame(
        {"supplier": "village_life", "event_key": [f"e{number:06d}" for number in range(count)],
         "person_key": np.where(is_joint, joint["co_person_key"], person), "item_code": codes,
         "list_kind": [code.partition("_")[0] for code in codes], "event_from_on": around(rng, period_end, count, 0.0),
         "event_to_on": [day and day.replace(year=day.year - 5, day=min(day.day, 28)) for day in around(rng, period_end, count, 0.7)],
         "publication_until_on": around(rng, period_end, count, 0.6), "repaired_on": around(rng, period_end, count, 0.8),
         "revoked_on": around(rng, period_end, count, 0.9), "joint_loan_key": np.where(is_joint, joint["loan_key"], None)}
    )  # fmt: skip


def around(rng: np.random.Generator, day: date, count: int, unknown: float) -> list[date | None]:
    """Days on, next to and long before or after a day; a share of them unknown."""
    days = rng.choice([-900, -31, -1, 0, 1, 31, 900], count)
    return [
        None if gone else day + timedelta(int(off)) for off, gone in zip(days, rng.random(count) < unknown, strict=True)
    ]


def places() -> pd.DataFrame:
    rows = [(code, "town", "341181000000") for code in TOWNS]
    rows += [(code[:9] + str(number), "village", code) for code in TOWNS for number in (201, 202, 203)]
    frame = pd.DataFrame(rows, columns=["place_code", "place_level", "parent_code"])
    return frame.assign(place_name=frame["place_code"], valid_from_on=date(2023, 6, 30), in_programme=True)


def graded_month(
    period: str,
    county: County,
    policies: Policies | None = None,
    before: Month | None = None,
    *,
    shuffle: int | None = None,
) -> Month:
    """A month built and graded from a county, after the month before it."""
    month = Month(period)
    relations = _relations(county)
    if shuffle is not None:
        relations = {name: rows.sample(frac=1, random_state=shuffle) for name, rows in relations.items()}
    month.load({name: rows for name, rows in relations.items() if len(rows)})
    month.load(_memory(before) if before else {})
    month.build_layer("core")
    month.grade(policies)
    month.build(["mart_civility_reviews", "mart_civility_exclusions"])
    return month


def _relations(county: County) -> Frames:
    suppliers = [("government", dataset, dataset) for dataset in ("households", "members", "consents")]
    suppliers += [(bank, "loans", bank) for bank in BANKS]
    expected = [
        (supplier, dataset, "carried_forward" if who in county.late else "in_force")
        for supplier, dataset, who in suppliers
    ]
    return {
        "accepted_places": places(),
        "expected_inputs": pd.DataFrame(expected, columns=["supplier", "dataset", "state"]),
        "accepted_households": _unless_late(county, "households"), "accepted_members": _unless_late(county, "members"),
        "accepted_consents": _unless_late(county, "consents"), "accepted_mediation": county.mediation,
        "accepted_civility_ballots": county.ballots, "accepted_credit_events": county.items,
        "repaired_items": county.repaired,
        "accepted_loans": county.loans[~county.loans["supplier"].isin(county.late)],
        **{f"keys_{name}": keys for name, keys in (county.keys or key_lists(county)).items()},
        **{f"rejected_{name}": frame for name, frame in county.rejected.items()},
        **county.others,
    }  # fmt: skip


def _unless_late(county: County, dataset: str) -> pd.DataFrame:
    rows: pd.DataFrame = getattr(county, dataset)
    return rows.iloc[:0] if dataset in county.late else rows


def key_lists(county: County) -> Frames:
    """The keys of all government rows."""
    return {
        "households": county.households[["household_key"]], "members": county.members[["member_key"]],
        "consents": county.consents[["consent_key"]],
    }  # fmt: skip


def _memory(before: Month) -> dict[str, pa.Table]:
    """What a month leaves to the next one."""
    tables = (
        "core_consents",
        "core_members",
        "core_households",
        "core_loans",
        "core_household_grades",
        "core_household_points",
        "core_credit_events",
        "mart_civility_reviews",
    )
    memory = {f"previous_{name}": table(before, name) for name in tables}
    return memory | {f"history_{name}": table(before, name) for name in HISTORIES if name.startswith("core_")}


def table(month: Month, relation: str) -> pa.Table:
    """A relation as an Arrow table, its rows in a fixed order."""
    return month.engine.con.sql(f"SELECT * FROM {relation} ORDER BY ALL").to_arrow_table()


def effective_ranks(month: Month) -> Mapping[str, int | None]:
    """Household -> rank of the grade in effect (1 = AAA), None for not rated."""
    order = ("AAA", "AA", "A", "B", "C", "D")
    rows = month.rows("core_household_grades", ["household_key", "effective_grade"])
    return {key: order.index(grade) + 1 if grade else None for key, grade in rows}
