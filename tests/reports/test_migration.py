"""The comparison of two policies agrees with pandas on random households, and reasons add up to the score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from etl.engine.duck import DuckEngine
from etl.gates import name_relations
from etl.grading import load_policies
from etl.grading.policy import Policies, with_candidate
from etl.period import Period
from etl.registry import load_registry
from etl.reports import migration
from tests.grading.county import TOWNS, graded_month, random_county
from tests.grading.test_second_opinion import second_month
from tests.sql.month import ROOT

CONFIG = [ROOT / "config"]
ORDER = ("AAA", "AA", "A", "B", "C", "D")
OWN_TOWN = TOWNS[1]


def candidate_text() -> str:
    """Other cut-offs, other bands, no veto; and lower cut-offs in one town."""
    policy = yaml.safe_load((CONFIG[0] / "policy/household.yml").read_text(encoding="utf-8"))
    version = deepcopy(policy["versions"][-1]) | {"version": "9", "from": "2031-01", "veto": []}
    bands = {indicator["id"]: indicator for indicator in version["indicators"]}
    bands["farmland_mu"]["bands"] = [{"at_least": 8, "points": 4}, {"at_least": 3, "points": 2}, {"else": 0}]
    bands["repayment_conduct"]["bands"] = [{"at_most": 0, "points": 20}, {"at_most": 60, "points": 10}, {"else": 0}]
    cut = {"AAA": 85, "AA": 72, "A": 60, "B": 45, "C": 40}
    version["grades"] = [{"grade": name, "at_least": bound} for name, bound in cut.items()] + [{"grade": "D"}]
    town = deepcopy(version) | {"scope": OWN_TOWN}
    town["grades"] = [{"grade": name, "at_least": bound - 9} for name, bound in cut.items()] + [{"grade": "D"}]
    return yaml.safe_dump({"policy": "household", "versions": [*policy["versions"], version, town]}, allow_unicode=True)


@dataclass
class Compared:
    engine: DuckEngine
    candidate: Policies
    before: pd.DataFrame
    after: pd.DataFrame


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compared]:
    path = tmp_path_factory.mktemp("candidate") / "household.yml"
    path.write_text(candidate_text(), encoding="utf-8")
    standing = load_policies(CONFIG, Period.parse("2024-03"))
    _, candidate = with_candidate(standing, path, load_registry(CONFIG))
    county = random_county(7, 2_000)
    first = graded_month("2024-02", county)
    month = graded_month("2024-03", second_month(county, 8), before=first)
    first.close()
    for table in (*migration.COMPARED, "core_village_grades", "core_town_grades"):
        month.engine.run_model(f"standing_{table}", f"SELECT * FROM {table}")
    month.grade(candidate)
    migration.compare(month.engine, candidate, standing)
    name_relations(month.engine, after="", before="standing_")
    frames = [frame(month.engine, f"SELECT * FROM {one}core_household_grades") for one in ("standing_", "")]
    yield Compared(month.engine, candidate, *frames)
    month.close()


def frame(engine: DuckEngine, query: str) -> pd.DataFrame:
    found = pd.DataFrame(engine.arrow(query).to_pylist())
    return found.set_index("household_key").sort_index() if "household_key" in found else found


def moves(compared: Compared) -> pd.DataFrame:
    """Both grades of everybody, side by side."""
    columns = ["effective_grade", "score", "not_rated_reason", "hold_reason", "veto_ids"]
    after = compared.after[columns].add_suffix("_a").assign(town_code=compared.after["town_code"])
    both = compared.before[columns].add_suffix("_b").join(after)
    named = both[["effective_grade_b", "effective_grade_a"]].fillna("not_rated")
    return both.assign(was=named["effective_grade_b"], now=named["effective_grade_a"])


def test_the_candidate_differs_enough_to_be_a_test(compared: Compared) -> None:
    both = moves(compared)
    assert compared.candidate.versions["household"] == "9"
    assert compared.candidate.versions[f"household@{OWN_TOWN}"] == "9"
    assert (both["was"] != both["now"]).sum() > 300
    assert len(set(zip(both["was"], both["now"], strict=True))) > 10


def test_the_matrix_is_that_of_pandas(compared: Compared) -> None:
    both = moves(compared)
    loans = (
        frame(compared.engine, "SELECT bank_code, household_key AS owner FROM core_loans").dropna().drop_duplicates()
    )
    expected: Counter[tuple[str, ...]] = Counter()
    for key, row in both.iterrows():
        banks = loans.loc[loans["owner"] == key, "bank_code"]
        for kind, code in [("overall", ""), ("town", row["town_code"]), *(("bank", bank) for bank in banks)]:
            expected[kind, code, row["was"], row["now"]] += 1
    found = {
        (r["kind"], r["code"], r["before"], r["after"]): r["households"] for r in migration.matrix(compared.engine)
    }
    assert found == expected
    assert {kind for kind, *_ in found} == {"overall", "town", "bank"}


def test_points_moved_are_those_of_pandas_and_sum_to_the_score_difference(compared: Compared) -> None:
    query = "SELECT household_key || ' ' || indicator AS name, points FROM {}core_household_points"
    before, after = (frame(compared.engine, query.format(one)).set_index("name")["points"] for one in ("standing_", ""))
    both = moves(compared)
    rated = both.dropna(subset=["score_a", "score_b"])
    differ = {
        name: after[name] - before[name]
        for name in before.index.intersection(after.index)
        if after[name] != before[name] and name.split()[0] in rated.index
    }
    found = compared.engine.fetch("SELECT household_key || ' ' || indicator, points FROM point_moves")
    assert dict(found) == differ
    sums: Counter[str] = Counter()
    for name, points in found:
        sums[name.split()[0]] += points
    changed = (rated["score_a"] - rated["score_b"]).loc[lambda points: points != 0]
    assert sums == changed.to_dict()
    assert len(changed) > 500


def test_each_mover_says_what_moved_it(compared: Compared) -> None:
    both = moves(compared)
    moved = both[both["was"] != both["now"]]
    found = frame(compared.engine, "SELECT * FROM migration")
    assert list(found.index) == list(moved.index)
    for key, row in moved.iterrows():
        assert found.loc[key, "causes"] == ",".join(causes(compared, row)), key
        steps = None if "not_rated" in (row["was"], row["now"]) else ORDER.index(row["was"]) - ORDER.index(row["now"])
        assert (found.loc[key, "steps"] == steps) or (steps is None and pd.isna(found.loc[key, "steps"]))
        told = sum((Decimal(part.split()[1]) for part in found.loc[key, "reasons"].split(", ") if part), Decimal(0))
        if pd.notna(row["score_a"]) and pd.notna(row["score_b"]):
            assert told == row["score_a"] - row["score_b"]
    assert {cause for text in found["causes"] for cause in text.split(",")} >= {"points", "cut_offs"}
    assert not (found["causes"] == "").any()


def causes(compared: Compared, row: pd.Series) -> Iterator[str]:
    """Once more, in Python."""

    def differs(name: str) -> bool:
        before, after = row[f"{name}_b"], row[f"{name}_a"]
        return not (before == after or (pd.isna(before) and pd.isna(after)))

    names = {"not_rated_reason": "rating", "hold_reason": "hold", "veto_ids": "veto"}
    yield from (cause for name, cause in names.items() if differs(name))
    lowered = 9 if row["town_code"] == OWN_TOWN else 0
    if pd.notna(row["score_b"]) and place(row["score_b"], (80, 70, 60, 50, 40)) != place(
        row["score_b"] + lowered, (85, 72, 60, 45, 40)
    ):
        yield "cut_offs"
    if pd.notna(row["score_a"]) and pd.notna(row["score_b"]) and row["score_a"] != row["score_b"]:
        yield "points"


def place(score: Decimal, cuts: tuple[int, ...]) -> int:
    return sum(score < cut for cut in cuts)


def test_counts_of_reasons_lists_and_places_are_those_of_pandas(compared: Compared) -> None:
    both = moves(compared)
    moved = both[both["was"] != both["now"]]
    counts = migration.movers(compared.engine)
    assert counts["households"] == len(moved)
    assert counts["no_longer_rated"] == int((moved["now"] == "not_rated").sum())
    rank = {grade: number for number, grade in enumerate(ORDER)}
    assert counts["up"] == sum(
        rank[row["now"]] < rank[row["was"]] for _, row in moved.iterrows() if {row["was"], row["now"]} <= set(ORDER)
    )
    told = {row["indicator"]: row["households"] for row in migration.reasons(compared.engine)["indicators"]}
    assert set(told) == {"farmland_mu", "repayment_conduct"}
    on_before, on_after = both["was"].isin(["AAA", "AA"]), both["now"].isin(["AAA", "AA"])
    for row in migration.lists(compared.engine, [])["coupons"]:
        here = both["town_code"] == row["code"]
        assert row["before"] == (on_before & here).sum()
        assert (row["gained"], row["lost"]) == (
            (on_after & ~on_before & here).sum(),
            (on_before & ~on_after & here).sum(),
        )
    query = "SELECT village_code, village_grade AS grade FROM {}core_village_grades ORDER BY 1"
    villages = [compared.engine.fetch(query.format(one)) for one in ("standing_", "")]
    changed = [before[0] for before, after in zip(*villages, strict=True) if before != after]
    assert [row["code"] for row in migration.places(compared.engine, ["village"])] == changed


def test_credit_lines_by_hand() -> None:
    """Bank x: one stays and is raised, one is lost; bank y: one is gained."""
    with DuckEngine() as engine:
        for prefix, rows in (
            ("standing_", "('x', 'h1', 50000.00), ('x', 'h2', 80000.00)"),
            ("", "('x', 'h1', 60000.00), ('y', 'h3', 50000.00)"),
        ):
            values = f"SELECT * FROM (VALUES {rows}) AS v (bank_code, household_key, limit_yuan)"
            engine.run_model(f"{prefix}{migration.OFFERS}", values)
            engine.run_model(
                f"{prefix}core_household_grades",
                "SELECT 'h1' AS household_key, 't' AS town_code, 'A' AS effective_grade",
            )
        found: dict[str, Any] = migration.lists(engine, [migration.OFFERS])
    nothing = {"before": 0, "after": 0, "gained": 0, "lost": 0, "raised": 0, "lowered": 0}
    assert found["coupons"] == []
    assert found[migration.OFFERS] == [
        nothing
        | {
            "code": "x",
            "before": 2,
            "after": 1,
            "lost": 1,
            "raised": 1,
            "limit_before_yuan": "130000.00",
            "limit_after_yuan": "60000.00",
        },
        nothing | {"code": "y", "after": 1, "gained": 1, "limit_before_yuan": "0.00", "limit_after_yuan": "50000.00"},
    ]


def test_a_candidate_must_be_a_policy_in_force(tmp_path: Path) -> None:
    standing, path = load_policies(CONFIG, Period.parse("2024-03")), tmp_path / "other.yml"
    path.write_text("policy: nobody\nversions: []\n", encoding="utf-8")
    with pytest.raises(Exception, match="no policy 'nobody' is in force in 2024-03"):
        with_candidate(standing, path, load_registry(CONFIG))
