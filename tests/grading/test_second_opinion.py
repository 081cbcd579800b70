"""The compiled scorecard agrees with a naive one to the last digit: 50,000 households, two months in which everything happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tests.grading import naive
from tests.grading.county import County, graded_month, key_lists, random_ballots, random_county
from tests.sql.month import Month

HOUSEHOLDS = 50_000


def second_month(county: County, seed: int) -> County:
    """The county a month later: values change, rows are rejected, notes vanish, a bank is late, a consent ends."""
    rng = np.random.default_rng(seed)
    households, loans = county.households.copy(), county.loans.copy()
    better = rng.random(len(households)) < 0.3
    households.loc[better, "civility_score"] = 95.0
    fate = rng.random(len(loans))
    worse = fate < 0.25
    loans.loc[worse, "loan_status"] = "overdue"
    loans.loc[worse & (loans["supplier"] != "gamma"), "overdue_days"] = 120
    loans.loc[fate < 0.02, ["loan_status", "five_class", "balance_yuan"]] = ["written_off", "loss", "0.00"]
    rejected = pd.concat([loans[(fate > 0.25) & (fate < 0.33)], _unseen(loans[fate > 0.9])])
    stay = ((fate <= 0.25) | (fate >= 0.33)) & ((fate <= 0.5) | (fate >= 0.55))
    new = loans[fate > 0.93].assign(loan_key=lambda notes: notes["loan_key"] + "-new")
    consents = county.consents.copy()
    ends = rng.random(len(consents)) < 0.01
    consents.loc[ends, "withdrawn_on"] = date(2024, 3, 2)
    refused = rng.random(len(households)) < 0.03
    members_refused = rng.random(len(county.members)) < 0.01
    retired = county.members["household_key"].isin(households["household_key"].iloc[::50])
    members = county.members.assign(age_band=county.members["age_band"].mask(retired, "60-"))
    delivered = rng.random(len(households)) < 0.6
    ballots = random_ballots(rng, households, "2024").sample(frac=0.6, random_state=seed)
    items = county.items.iloc[::5].assign(revoked_on=date(2024, 3, 31))
    split = _split(households)
    return replace(
        county,
        households=pd.concat([households[delivered & ~refused], split]),
        members=members[~members_refused],
        consents=pd.concat([consents[ends], _agreement(split)]),
        keys=key_lists(replace(county, households=pd.concat([households, split]))),
        loans=pd.concat([loans[stay], new]).assign(as_of_on=date(2024, 3, 31)),
        mediation=county.mediation.iloc[::7],
        ballots=pd.concat([ballots, county.ballots.iloc[::9].assign(filial_mark=0)]),
        items=items,
        rejected={
            "loans": rejected[["supplier", "loan_key", "person_key", "co_person_key"]],
            "households": households.loc[refused, ["supplier", "household_key"]],
            "members": county.members.loc[members_refused, ["supplier", "member_key", "household_key"]],
            "consents": county.consents.iloc[::90][["supplier", "consent_key", "person_key"]],
            "mediation": county.mediation.iloc[1::40][
                ["supplier", "case_key", "applicant_key", "respondent_key", "helper_key"]
            ],
            "civility_ballots": county.ballots.iloc[::400][["supplier", "household_key", "reviewer_key", "ballot_key"]],
            "credit_events": county.items.iloc[1::9][["supplier", "event_key", "person_key"]],
        },
        late=frozenset({"beta"}),
    )


def _split(households: pd.DataFrame) -> pd.DataFrame:
    """Households that children of others founded; nobody lives there yet but the head, who is still listed at home."""
    parents = households.iloc[::40]
    return parents.assign(
        former_household_key=parents["household_key"],
        household_key=parents["household_key"] + "-split",
        head_person_key=parents["head_person_key"] + "-1",
    )


def _agreement(households: pd.DataFrame) -> pd.DataFrame:
    heads = households["head_person_key"]
    return pd.DataFrame(
        {"supplier": "government", "consent_key": "split-" + heads, "person_key": heads, "recipient": "county",
         "purpose": "grading", "decision": "granted", "granted_on": date(2023, 1, 1)}
    )  # fmt: skip


def _unseen(loans: pd.DataFrame) -> pd.DataFrame:
    return loans.assign(loan_key=loans["loan_key"] + "-unseen")


def assert_agrees(month: Month) -> None:
    expected = naive.grade(naive.read_tables(month))
    points: dict[str, dict[str, Decimal]] = {key: {} for key in expected}
    for key, indicator, gained in month.rows("core_household_points", ["household_key", "indicator", "points"]):
        points[key][indicator] = gained
    columns = [
        "household_key",
        "score",
        "not_rated_reason",
        "computed_grade",
        "effective_grade",
        "hold_reason",
        "input_state",
    ]
    rows = month.rows("core_household_grades", columns)
    assert {row[0] for row in rows} == set(expected)
    for key, *found in rows:
        wanted = expected[key]
        names = ("score", "reason", "computed", "effective", "hold", "state")
        assert dict(zip(names, found, strict=True)) == {name: wanted[name] for name in names}, key
        assert points[key] == wanted["points"], key


@pytest.fixture(scope="module")
def first() -> Month:
    county = random_county(7, HOUSEHOLDS)
    refused = _unseen(county.loans.iloc[::50])[["supplier", "loan_key", "person_key", "co_person_key"]]
    return graded_month("2024-02", replace(county, rejected={"loans": refused}))


@pytest.fixture(scope="module")
def second(first: Month) -> Month:
    return graded_month("2024-03", second_month(random_county(7, HOUSEHOLDS), 8), before=first)


def test_first_month_agrees(first: Month) -> None:
    assert_agrees(first)


def test_second_month_agrees(second: Month) -> None:
    assert_agrees(second)


def test_second_month_had_everything(second: Month) -> None:
    """Else the agreement would prove little."""

    def found(relation: str, column: str) -> set[str]:
        return {row[0] for row in second.rows(relation, [column])}

    assert found("core_household_grades", "input_state") == {"complete", "carried_forward", "withheld"}
    assert found("core_household_grades", "hold_reason") == {None, "awaiting_input", "awaiting_bank_confirmation"}
    assert found("core_household_grades", "not_rated_reason") == {
        None,
        "opted_out",
        "no_consent",
        "absent",
        "incomplete",
    }
    assert found("core_household_grades", "veto_ids") >= {None, "confirmed_agreement_unperformed", "listed_veto"}
    assert found("core_household_points", "band") >= {"missing", "no_consent", "held", "held_lower", "else"}
    assert found("mart_civility_reviews", "round") == {"2023", "2024"}
    assert found("mart_civility_exclusions", "exclusion_reason") == {"same_marks", "same_as_other"}
    assert found("core_credit_events", "is_in_force") == {True, False}
    assert found("core_loans", "note_state") == {"active", "ended_unknown", "written_off"}


def test_every_band_of_every_indicator_was_reached(second: Month) -> None:
    columns = ["indicator", "points"]
    found = set(second.rows("(SELECT DISTINCT indicator, points FROM core_household_points)", columns))
    bands = {
        (indicator["id"], Decimal(str(band.get("points", band.get("else")))))
        for indicator in naive.read_policy()["indicators"]
        for band in indicator.get("bands", [])
    }
    assert bands <= found
