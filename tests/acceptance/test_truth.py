"""What the pipeline says of a month equals what the simulator knows of it: findings, outcomes, rows, households."""

from __future__ import annotations

import csv
from collections import Counter
from decimal import Decimal

import pytest

from etl.tokens import TokenKey, token
from etl.vocabulary import GRADES
from tests.acceptance.county import PERIODS, County
from tests.acceptance.independent import READERS

pytestmark = pytest.mark.acceptance
BANK_FILES = {"qinghe_rcb": "CLGRDK_*", "baiyun_rcb": "*.csv", "xinhe_vb": "*.xlsx"}


@pytest.mark.parametrize("period", PERIODS)
def test_the_findings_are_exactly_those_planted(county: County, period: str) -> None:
    """Rules across files (X…) find what planted errors lead to in the other file; see test_across."""
    found = county.rows(
        "SELECT f.supplier, f.dataset, d.name, f.row_no, f.rule FROM audit.findings f JOIN ledger.deliveries d "
        "USING (delivery_id) WHERE d.period = :period AND f.action <> 'shadow' AND f.rule NOT LIKE 'X%'",
        period=period,
    )
    planted = [(f["supplier"], f["dataset"], f["file"], f["row"], f["rule"]) for f in county.truth(period)["findings"]]
    assert Counter(found) == Counter(planted)


@pytest.mark.parametrize("period", PERIODS)
def test_every_delivery_ends_as_expected(county: County, period: str) -> None:
    found = county.rows(
        "SELECT supplier, dataset, name, outcome, rows_read, rows_rejected FROM ledger.deliveries WHERE period = :period",
        period=period,
    )
    keys = ("supplier", "dataset", "file", "outcome", "rows_read", "rows_rejected")
    assert sorted(found) == sorted(tuple(entry[key] for key in keys) for entry in county.truth(period)["deliveries"])


def test_every_rule_family_was_planted(county: County) -> None:
    rules = {finding["rule"] for period in PERIODS for finding in county.truth(period)["findings"]}
    assert len(rules) >= 50
    assert {rule[0] for rule in rules} == set("LFHMCDPYJSRBN")


@pytest.mark.parametrize("period", PERIODS)
def test_rows_without_legal_ground_are_held_back_and_listed(county: County, period: str) -> None:
    found = county.rows(
        "SELECT n.supplier, n.dataset, d.name, n.row_no FROM audit.no_basis n JOIN ledger.deliveries d USING (delivery_id) "
        "WHERE n.period = :period AND n.dataset IN ('loans', 'loan_flows')",
        period=period,
    )
    known = [(n["supplier"], n["dataset"], n["file"], n["row"]) for n in county.truth(period)["no_basis"]]
    assert Counter(found) == Counter(known)


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("bank", sorted(BANK_FILES))
def test_every_clean_note_is_published_to_the_fen(county: County, period: str, bank: str) -> None:
    """Read the bank's file with another reader; what is neither refused nor without ground stands in core_loans."""
    truth, rules = county.truth(period), warning_rules(county)
    delivery = [d for d in truth["deliveries"] if d["supplier"] == bank and d["dataset"] == "loans"][-1]
    held = {f["row"] for f in truth["findings"] if f["file"] == delivery["file"] and f["rule"] not in rules}
    held |= {n["row"] for n in truth["no_basis"] if n["file"] == delivery["file"]}
    notes = READERS[bank](county.worlds / period / "drop" / bank / delivery["file"])
    key = TokenKey.from_file(county.settings.token_key_path)
    clean = {token(key, "loan", bank, note.loan_no): note.balance for note in notes if note.row not in held}
    found = dict(
        county.rows(
            "SELECT loan_key, balance_yuan FROM core.core_loans WHERE period = :period AND bank_code = :bank",
            period=period,
            bank=bank,
        )
    )
    assert clean.items() <= found.items()
    assert len(clean) > 20


def warning_rules(county: County) -> set[str]:
    """Rules that only warn: their rows are published all the same."""
    return {rule for (rule,) in county.rows("SELECT DISTINCT rule FROM audit.findings WHERE action = 'warn'")}


def test_refused_notes_keep_their_last_accepted_state(county: County) -> None:
    """A note refused in March stands in March exactly as it stood in February, and says so."""
    rows = county.rows(
        "SELECT after.balance_yuan = before.balance_yuan AND after.is_overdue = before.is_overdue, after.input_state "
        "FROM core.core_loans after JOIN core.core_loans before USING (bank_code, loan_key) "
        "WHERE before.period = '2024-02' AND after.period = '2024-03' AND after.input_state <> 'complete'"
    )
    assert rows
    assert set(rows) == {(True, "carried_forward")}


def test_no_household_rises_because_a_row_was_refused_or_left_its_file(county: County) -> None:
    key = TokenKey.from_file(county.settings.token_key_path)
    rank = {grade: place for place, grade in enumerate(reversed(GRADES))}
    watched = county.truth("2024-03")["must_not_rise"]
    assert {entry["because"] for entry in watched} >= {"rejected", "left_stock_file"}
    for entry in watched:
        household = token(key, "household", entry["household_no"])
        grades = dict(
            county.rows(
                "SELECT period, effective_grade FROM core.core_household_grades WHERE household_key = :household",
                household=household,
            )
        )
        before, after = grades["2024-02"], grades["2024-03"]
        assert after is None or (before is not None and rank[after] <= rank[before]), entry


@pytest.mark.parametrize("period", PERIODS)
def test_unmatched_borrowers_are_counted_not_dropped(county: County, period: str) -> None:
    found = dict(
        county.rows("SELECT dataset, count(*) FROM audit.unmatched WHERE period = :period GROUP BY 1", period=period)
    )
    for dataset, rows in county.truth(period)["unmatched"].items():
        assert found.get(dataset, 0) >= (1 if rows else 0), dataset


@pytest.mark.parametrize("period", PERIODS)
def test_reviewers_with_identical_ballots_are_named(county: County, period: str) -> None:
    """Also in a month without ballots: the round's are still at hand."""
    key = TokenKey.from_file(county.settings.token_key_path)
    planted = county.truth("2024-02")["identical_ballots"]
    found = county.rows(
        "SELECT reviewer_key, exclusion_reason FROM mart.mart_civility_exclusions WHERE period = :period", period=period
    )
    assert sorted(found) == sorted((token(key, "person", each["reviewer_id_no"]), each["reason"]) for each in planted)
    assert len(found) == 3


def test_the_review_stands_in_months_without_ballots(county: County) -> None:
    rows = county.rows(
        "SELECT count(*), count(*) FILTER (WHERE a.review_score IS DISTINCT FROM b.review_score) "
        "FROM mart.mart_civility_reviews a JOIN mart.mart_civility_reviews b USING (household_key) "
        "WHERE a.period = '2024-02' AND b.period = '2024-03'"
    )
    assert rows[0][0] > 1_000
    assert rows[0][1] == 0


@pytest.mark.parametrize("period", PERIODS)
def test_vetoes_reach_the_households_that_truth_names(county: County, period: str) -> None:
    key = TokenKey.from_file(county.settings.token_key_path)
    found = {
        household
        for (household,) in county.rows(
            "SELECT household_key FROM core.core_household_grades WHERE period = :period AND veto_ids LIKE '%listed_veto%'",
            period=period,
        )
    }
    by_head, jointly = (
        {token(key, "household", number) for number in county.truth(period)[name]}
        for name in ("vetoed", "vetoed_jointly")
    )
    assert by_head and by_head <= found <= by_head | jointly
    assert found & (jointly - by_head)


@pytest.mark.parametrize("period", PERIODS)
def test_points_sum_to_the_score_and_name_their_evidence(county: County, period: str) -> None:
    [(households, wrong, bare)] = county.rows(
        "SELECT count(*), count(*) FILTER (WHERE g.score <> p.points), count(*) FILTER (WHERE p.bare > 0) "
        "FROM core.core_household_grades g JOIN (SELECT household_key, sum(points) AS points, "
        "count(*) FILTER (WHERE coalesce(evidence, '') = '') AS bare FROM core.core_household_points "
        "WHERE period = :period GROUP BY household_key) p USING (household_key) WHERE g.period = :period AND g.score IS NOT NULL",
        period=period,
    )
    assert households > 1_500
    assert (wrong, bare) == (0, 0)


@pytest.mark.parametrize("subject", ["business", "collective", "merchant"])
def test_points_of_other_subjects_sum_to_their_score(county: County, subject: str) -> None:
    [(rated, wrong)] = county.rows(
        f"SELECT count(*), count(*) FILTER (WHERE g.score <> p.points) FROM core.core_{subject}_grades g "
        f"JOIN (SELECT period, {subject}_key, sum(points) AS points FROM core.core_{subject}_points GROUP BY 1, 2) p "
        f"USING (period, {subject}_key)"
    )
    assert (rated > 100, wrong) == (True, 0)


def test_what_is_not_listed_again_stays_as_it_was(county: County) -> None:
    """Collectives are listed in February only; March has every one of them, unchanged."""
    names = "collective_key, village_code, collective_income_yuan, accounts_on, input_state"
    february, march = (
        county.rows(f"SELECT {names} FROM core.core_collectives WHERE period = :period ORDER BY 1", period=period)
        for period in PERIODS
    )
    assert march == february and len(march) > 100
    assert not [d for d in county.truth("2024-03")["deliveries"] if d["dataset"] == "collectives"]


def test_only_reviewed_merchants_are_in_the_circle(county: County) -> None:
    """Read the lists with another reader: who passed town check and city review, and who did not."""
    passed = set()
    for period in PERIODS:
        rows = _accepted_rows(county, period, "merchant_reviews")
        passed |= {row["商户编号"] for row in rows if (row["镇级结论"], row["市级结论"]) == ("通过", "通过")}
    key = TokenKey.from_file(county.settings.token_key_path)
    found = county.rows(
        "SELECT merchant_key, is_in_circle, circle_state = 'passed' FROM mart.mart_merchant_circle WHERE period = '2024-03'"
    )
    tokens = {token(key, "merchant", number) for number in passed}
    assert {merchant for merchant, _, is_passed in found if is_passed} <= tokens
    assert 20 < sum(is_in for _, is_in, _ in found) < len(found)


def _accepted_rows(county: County, period: str, dataset: str) -> list[dict[str, str]]:
    """Rows of a list that no planted mistake refuses."""
    truth, rules = county.truth(period), warning_rules(county)
    [delivery] = [entry for entry in truth["deliveries"] if entry["dataset"] == dataset]
    refused = {f["row"] for f in truth["findings"] if f["file"] == delivery["file"] and f["rule"] not in rules}
    path = county.worlds / period / "drop/enterprises" / delivery["file"]
    with path.open(encoding="utf-8", newline="") as lines:
        return [row for number, row in enumerate(csv.DictReader(lines), start=1) if number not in refused]


@pytest.mark.parametrize("period", PERIODS)
def test_the_grade_mix_is_that_of_a_programme_village(county: County, period: str) -> None:
    """DOMAIN section 7: of the rated about 17 % A, 62 % AA, 21 % AAA; about 90 % rated. The bounds here are generous."""
    grades = dict(
        county.rows(
            "SELECT effective_grade, count(*) FROM mart.mart_household_credit WHERE period = :period GROUP BY 1",
            period=period,
        )
    )
    rated = sum(count for grade, count in grades.items() if grade)
    shares = {grade: Decimal(count) / rated for grade, count in grades.items() if grade}
    assert Decimal("0.80") < Decimal(rated) / sum(grades.values()) < Decimal("0.97")
    assert Decimal("0.45") < shares["AA"] < Decimal("0.75")
    assert Decimal("0.10") < shares["AAA"] < Decimal("0.35")
    assert Decimal("0.08") < shares["A"] < Decimal("0.30")
