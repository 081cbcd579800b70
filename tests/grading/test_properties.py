"""What holds for every household of every county: points sum to the score, and worse input never grades better."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.grading import load_policies
from etl.period import Period
from tests.grading.county import DIMENSIONS, County, Frames, graded_month, random_county
from tests.sql.month import ROOT, Month

FRAMES = ("households", "members", "consents", "loans", "mediation", "ballots", "items")
ORDER = ("AAA", "AA", "A", "B", "C", "D")
Randomness = np.random.Generator


# ---- the ways in which a household can do worse, each for about half of a county ---------------------------------------


def _some(rng: Randomness, rows: pd.DataFrame) -> np.ndarray:
    return rng.random(len(rows)) < 0.5


def _longer_arrears(county: County, rng: Randomness) -> Frames:
    loans, chosen = county.loans.copy(), _some(rng, county.loans)
    loans.loc[chosen, "loan_status"] = "overdue"
    counted = chosen & loans["overdue_days"].notna()
    loans.loc[counted, "overdue_days"] = [
        days + int(rng.choice([1, 30, 60, 400])) for days in loans.loc[counted, "overdue_days"]
    ]
    return {"loans": loans}


def _written_off(county: County, rng: Randomness) -> Frames:
    loans, chosen = county.loans.copy(), _some(rng, county.loans) & (county.loans["loan_status"] == "overdue")
    loans.loc[chosen, ["loan_status", "five_class", "balance_yuan"]] = ["written_off", "loss", "0.00"]
    return {"loans": loans}


def _younger_notes(county: County, rng: Randomness) -> Frames:
    loans = county.loans.copy()
    loans["issued_on"] = [
        min(day + timedelta(days=300), end) for day, end in zip(loans["issued_on"], loans["as_of_on"], strict=True)
    ]
    return {"loans": loans}


def _more_debt(county: County, rng: Randomness) -> Frames:
    """Every balance three times as large: the share in arrears stays."""
    return {
        "loans": county.loans.assign(
            balance_yuan=[str(3 * Decimal(balance)) for balance in county.loans["balance_yuan"]]
        )
    }


def _fewer_hands(county: County, rng: Randomness) -> Frames:
    members, chosen = county.members.copy(), _some(rng, county.members)
    members.loc[chosen & (members["age_band"] == "16-59"), "age_band"] = "60-"
    return {"members": members}


def _less(column: str) -> Callable[[County, Randomness], Frames]:
    """A third less of what is known."""

    def lowered(county: County, rng: Randomness) -> Frames:
        households = county.households.copy()
        households[column] = [
            value if pd.isna(value) else (Decimal(str(value)) * 2 / 3).quantize(Decimal("0.01"))
            for value in households[column]
        ]
        return {"households": households}

    return lowered


def _unstable_income(county: County, rng: Randomness) -> Frames:
    stable = [value if value is None else False for value in county.households["has_stable_income"]]
    return {"households": county.households.assign(has_stable_income=stable)}


def _no_help(county: County, rng: Randomness) -> Frames:
    return {"mediation": county.mediation.assign(helper_key=None)}


def _unperformed(county: County, rng: Randomness) -> Frames:
    cases, chosen = county.mediation.copy(), _some(rng, county.mediation)
    cases.loc[chosen, "performance"] = "unperformed"
    cases.loc[chosen, "has_unperformed_document"] = True
    return {"mediation": cases}


def _worse_review(county: County, rng: Randomness) -> Frames:
    """A third less in the register and in every mark."""
    marks = [f"{name}_mark" for name in DIMENSIONS]
    ballots = county.ballots.assign(**{name: county.ballots[name] * 2 // 3 for name in marks})
    return {**_less("civility_score")(county, rng), "ballots": ballots}


def _worse_items(county: County, rng: Randomness) -> Frames:
    """Good deeds become breaches, some penalties vetoes."""
    items = county.items.copy()
    items.loc[items["list_kind"] == "positive", "item_code"] = "negative_waste"
    items.loc[_some(rng, items) & (county.items["item_code"] == "negative_waste"), "item_code"] = "veto_enforcement"
    both = items["item_code"].str.startswith("veto") & (county.items["item_code"] == "negative_waste")
    extra = county.items[both].assign(event_key=lambda rows: rows["event_key"] + "-as-before")
    items["list_kind"] = items["item_code"].str.partition("_")[0]
    return {"items": pd.concat([items, extra])}


WORSE: Mapping[str, Callable[[County, Randomness], Frames]] = {
    "longer_arrears": _longer_arrears, "written_off": _written_off, "younger_notes": _younger_notes,
    "more_debt": _more_debt, "fewer_hands": _fewer_hands,
    "lower_income": _less("annual_income_yuan"), "fewer_assets": _less("total_assets_yuan"), "less_land": _less("farmland_mu"),
    "worse_review": _worse_review, "unstable_income": _unstable_income,
    "no_help": _no_help, "unperformed": _unperformed, "worse_items": _worse_items,
}  # fmt: skip
LOWERED = {
    "longer_arrears": {"repayment_conduct", "current_arrears_share_pct"},
    "written_off": {"repayment_conduct", "debt_to_income_pct"}, "younger_notes": {"loan_track_record_days"},
    "more_debt": {"debt_to_income_pct"}, "fewer_hands": {"labour_force"}, "fewer_assets": {"assets_to_town_median_pct"},
    "lower_income": {"income_to_town_median_pct", "debt_to_income_pct"}, "less_land": {"farmland_mu"},
    "worse_review": {"civility_review"}, "unstable_income": {"stable_income"}, "no_help": {"mediation_help"},
    "unperformed": {"agreement_performed"}, "worse_items": {"list_items"},
}  # fmt: skip


def twin(county: County, name: str) -> County:
    """The same households once more, in the same villages, every key ending in a name."""

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        keys = [column for column in frame.columns if column.endswith("_key")]
        return frame.assign(**{key: [value and f"{value}~{name}" for value in frame[key]] for key in keys})

    return replace(county, **{frame: renamed(getattr(county, frame)) for frame in FRAMES})


def with_worse_twins(county: County, rng: Randomness) -> County:
    """One county of the households and, for each way to do worse, their twins who do: so they share one median."""
    twins = [county]
    for name, worsen in WORSE.items():
        same = twin(county, name)
        twins.append(replace(same, **worsen(same, rng)))
    frames = {frame: pd.concat([getattr(one, frame) for one in twins], ignore_index=True) for frame in FRAMES}
    return replace(county, **frames)


def points_of(month: Month) -> dict[str, dict[str, Decimal]]:
    found: dict[str, dict[str, Decimal]] = {}
    for key, indicator, gained in month.rows("core_household_points", ["household_key", "indicator", "points"]):
        found.setdefault(key, {})[indicator] = gained
    return found


def grades_of(month: Month) -> dict[str, tuple[Any, ...]]:
    rows = month.rows(
        "core_household_grades", ["household_key", "score", "computed_grade", "effective_grade", "not_rated_reason"]
    )
    return {key: tuple(found) for key, *found in rows}


def better(found: tuple[Any, ...], than: tuple[Any, ...]) -> bool:
    """Whether a household has a higher score or grade than another, or one is rated and the other not."""
    if found[3] is not None or than[3] is not None:
        return bool(found[3] != than[3])
    return bool(found[0] > than[0]) or any(ORDER.index(found[place]) < ORDER.index(than[place]) for place in (1, 2))


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_worse_input_never_grades_better(seed: int) -> None:
    month = graded_month("2024-02", with_worse_twins(random_county(seed, 120), np.random.default_rng(seed)))
    grades, points = grades_of(month), points_of(month)
    month.close()
    raised, lowered = [], {name: set() for name in WORSE}
    for key, found in grades.items():
        own, _, name = key.partition("~")
        if not name:
            continue
        if better(found, grades[own]):
            raised.append((name, own, grades[own], found))
        for indicator, gained in points.get(key, {}).items():
            if gained > points[own][indicator]:
                raised.append((name, own, indicator, gained))
            if gained < points[own][indicator]:
                lowered[name].add(indicator)
    assert raised == []
    assert {name: found >= LOWERED[name] for name, found in lowered.items()} == dict.fromkeys(WORSE, True), lowered


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_points_sum_to_the_score(seed: int) -> None:
    """And only who is rated has points."""
    month = graded_month("2024-02", random_county(seed, 200))
    grades, points = grades_of(month), points_of(month)
    month.close()
    rated = {key: found[0] for key, found in grades.items() if found[3] is None}
    assert {key: sum(gained.values()) for key, gained in points.items()} == rated


def test_an_old_month_under_old_rules_never_changes(tmp_path: Path) -> None:
    """A version that begins in March grades March otherwise, and February as it was graded before it was written."""
    document = yaml.safe_load((ROOT / "config/policy/household.yml").read_text(encoding="utf-8"))
    old = document["versions"][-1]
    new = copy.deepcopy(old) | {"version": "2024.2", "from": "2024-03"}
    for indicator in new["indicators"]:
        if indicator["id"] == "farmland_mu":
            indicator["bands"] = [{"at_least": 5, "points": indicator["max"]}, {"else": 0}]
    (tmp_path / "policy").mkdir()
    text = yaml.safe_dump(document | {"versions": [old, new]}, allow_unicode=True)
    (tmp_path / "policy/household.yml").write_text(text, encoding="utf-8")
    county = random_county(9, 150)

    def graded(period: str, folders: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
        month = graded_month(period, county, load_policies(folders, Period.parse(period)))
        found = grades_of(month), points_of(month)
        month.close()
        return found

    shipped = [ROOT / "config"]
    assert graded("2024-02", [tmp_path, *shipped]) == graded("2024-02", shipped)
    assert graded("2024-03", [tmp_path, *shipped]) != graded("2024-03", shipped)
