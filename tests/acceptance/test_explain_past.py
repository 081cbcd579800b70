"""A grade as it was known on a past day: the tables of the release of then, under the policy of then; or nothing was known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from etl import months, pipeline
from etl.cli.app import run
from etl.deletion import forget
from etl.reports.explain import explain
from etl.tokens import token
from etl.vocabulary import DataError
from etl.workspace import Workspace
from tests.acceptance.county import NOW, County, SmallCounty
from tests.acceptance.test_replay import NO_GATES, edit

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres, pytest.mark.slow]

FEB = "2024-02"
FIRST, SECOND = "2024-02-001", "2024-02-002"
THEN = date(2024, 4, 5)  # the day of the first release
LATER = NOW + timedelta(days=10)
TAKEN_BACK = NOW + timedelta(days=20)


@pytest.fixture(scope="module")
def county(small: SmallCounty) -> Iterator[County]:
    """A month released; ten days later again, with AAA from 71 points and villages from half the register; ten days later
    that was taken back."""
    with small.after("february") as lived:
        config = lived.settings.config[0]
        edit(config / "policy" / "household.yml", "{grade: AAA, at_least: 80}", "{grade: AAA, at_least: 71}")
        edit(
            config / "policy" / "village.yml",
            "{share: credited_of_register, at_least: 90}",
            "{share: credited_of_register, at_least: 85}",
        )
        for bound, none in NO_GATES.items():
            edit(config / "county.yml", bound, none)
        pipeline.grade_period(lived.settings, FEB, now=LATER)
        pipeline.publish_period(lived.settings, FEB, now=LATER)
        months.publisher(Workspace(lived.settings)).rollback(FIRST, now=TAKEN_BACK)
        yield lived


@pytest.fixture(scope="module")
def ws(county: County) -> Workspace:
    return Workspace(county.settings)


@pytest.fixture(scope="module")
def numbers(county: County, ws: Workspace) -> Mapping[str, str]:
    """Household key -> household number, as only the register knows it."""
    register = sa.create_engine(county.server.url("government"))
    with register.connect() as connection:
        found = connection.execute(sa.text("SELECT household_no FROM register.household")).scalars().all()
    register.dispose()
    return {token(ws.token_key, "household", number): number for number in found}


@pytest.fixture(scope="module")
def riser(county: County, numbers: Mapping[str, str]) -> tuple[str, str]:
    """Key and number of a household between 71 and 80 points: AA at first, AAA in the second release."""
    query = "SELECT household_key FROM {} WHERE score >= 71 AND score < 80 AND computed_grade = 'AA' AND hold_reason IS NULL ORDER BY 1"
    key = str(released(county, FIRST, "core_household_grades", query)[0][0])
    return key, numbers[key]


def released(county: County, release_id: str, table: str, query: str) -> list[tuple[Any, ...]]:
    """Rows of a release's folder in the lake."""
    files = county.settings.lake / "releases" / release_id / table / f"period={FEB}" / "*.parquet"
    return duckdb.sql(query.format(f"read_parquet('{files}')")).fetchall()


@pytest.mark.parametrize(
    ("on", "release_id", "grade", "bound"),
    [
        (THEN, FIRST, "AA", 80),
        (LATER.date() - timedelta(days=1), FIRST, "AA", 80),
        (LATER.date(), SECOND, "AAA", 71),
        (TAKEN_BACK.date() - timedelta(days=1), SECOND, "AAA", 71),
        (TAKEN_BACK.date(), FIRST, "AA", 80),
    ],
)
def test_what_is_told_is_the_release_of_then_under_the_policy_of_then(
    county: County, ws: Workspace, riser: tuple[str, str], on: date, release_id: str, grade: str, bound: int
) -> None:
    key, number = riser
    found = explain(ws, number, FEB, "county", as_of=on)
    assert (found["known"]["release_id"], found["known"]["as_of"]) == (release_id, on)
    assert (found["grade"]["effective"], found["grade"]["cut_offs"][0]["at_least"]) == (grade, bound)
    query = f"SELECT indicator, value_text, band, points, evidence FROM {{}} WHERE household_key = '{key}'"
    lines = {
        (*(line[name] for name in ("id", "value", "band", "points")), line["evidence"]["raw"])
        for line in found["indicators"]
    }
    assert lines == set(released(county, release_id, "core_household_points", query))


def test_of_a_past_state_no_advice_is_given(ws: Workspace, riser: tuple[str, str]) -> None:
    found = explain(ws, riser[1], FEB, "subject", as_of=THEN)
    assert (found["advice"]["outcome"], found["advice"]["steps"], found["endings"]) == ("past", [], None)
    assert found["known"]["says"]["en"] == "as it was known on 2024-04-05"
    assert explain(ws, riser[1], FEB, "subject")["known"] is None


def test_without_a_month_it_is_the_one_valid_on_that_day(ws: Workspace, riser: tuple[str, str]) -> None:
    assert explain(ws, riser[1], None, "county", as_of=THEN)["period"] == FEB


def test_a_village_is_told_as_it_was_known_too(county: County, ws: Workspace) -> None:
    [(code, grade), *_] = released(
        county,
        FIRST,
        "core_village_grades",
        "SELECT village_code, village_grade FROM {} WHERE village_grade IS NOT NULL ORDER BY 1",
    )
    first, second = (explain(ws, code, FEB, "county", as_of=on) for on in (THEN, LATER.date()))
    assert first["grade"]["effective"] == grade
    assert [one["grades"][0]["conditions"][0]["at_least"] for one in (first, second)] == [90, 85]
    assert (first["known"]["release_id"], second["known"]["release_id"]) == (FIRST, SECOND)
    assert first["advice"]["outcome"] == "past"


@pytest.mark.parametrize("arguments", [["--period", FEB], [], ["--period", "2024-03"]])
def test_where_nothing_was_known_one_line_says_so(
    county: County, riser: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:  # fmt: skip
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(county.home))
    monkeypatch.setenv("CREDITVILLAGE_CONFIG", str(county.settings.config[0]))
    assert run(["explain", riser[1], "--as-of", "2024-04-04", *arguments]) == 1
    said = capsys.readouterr()
    assert "--as-of 2024-04-04: no grade" in said.err and "was known then of this household" in said.err
    assert (said.err.count("\n"), said.out, riser[1] in said.err) == (1, "", False)


def test_a_household_nobody_knows_was_not_known_then_either(ws: Workspace) -> None:
    with pytest.raises(DataError, match="no grade of 2024-02 was known then of this household"):
        explain(ws, "NO-SUCH-0001", FEB, "county", as_of=THEN)


def test_the_command_line(
    county: County, riser: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(county.home))
    monkeypatch.setenv("CREDITVILLAGE_CONFIG", str(county.settings.config[0]))
    assert run(["explain", riser[1], "--as-of", str(LATER.date()), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["known"]["release_id"] == SECOND
    assert run(["explain", riser[1]]) == 2
    assert "name a month, or a day with --as-of" in capsys.readouterr().err


def test_files_that_are_gone_are_missed_by_name(county: County, ws: Workspace, riser: tuple[str, str]) -> None:
    folder = county.settings.lake / "releases" / SECOND
    away = folder.rename(folder.with_name("away"))
    with pytest.raises(DataError, match=f"{SECOND}: its files are gone from the lake"):
        explain(ws, riser[1], FEB, "county", as_of=LATER.date())
    away.rename(folder)
    assert explain(ws, riser[1], FEB, "county", as_of=LATER.date())["known"]["release_id"] == SECOND


def test_nothing_of_the_past_is_left_in_the_restricted_zone(ws: Workspace) -> None:
    assert list(ws.spill.glob("explain-*")) == []


def test_a_document_whose_delivery_was_deleted_by_law_has_no_number_any_more(
    county: County, ws: Workspace, numbers: Mapping[str, str]
) -> None:
    """The item stays, with what ends it; the last test, for it deletes."""
    query = (
        "SELECT household_key FROM core.core_household_points WHERE period = :period AND indicator = 'list_items' "
        "AND points < 4 ORDER BY 1 LIMIT 1"
    )
    [(key,)] = county.rows(query, period=FEB)
    before = explain(ws, numbers[key], FEB, "subject")["endings"]["items"]
    [lists] = [one for one in county.ledger.deliveries(FEB) if one.dataset == "credit_events"]
    landed = Path(str(lists.landed_path))
    away = landed.rename(landed.with_name("away"))
    with pytest.raises(DataError, match=f"{lists.delivery_id}: its landed bytes are gone"):
        explain(ws, numbers[key], FEB, "subject")
    away.rename(landed)
    forget(ws, lists.delivery_id, "PIPL 47: retention ended", now=TAKEN_BACK)
    after = explain(ws, numbers[key], FEB, "subject")["endings"]["items"]
    assert before and all(item["document_no"].startswith("文") for item in before)
    assert after == [{**item, "document_no": None} for item in before]
