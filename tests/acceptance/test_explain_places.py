"""Why a village or town has its grade: the published counts, the policy's conditions, and no more than a reader may see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.cli.app import run
from etl.cli.tables import as_json_text
from etl.reports import explain_words as words
from etl.reports.explain import explain
from etl.reports.explain_guide import load_guide
from etl.reports.explain_parts import AUDIENCES
from etl.reports.explain_place import document
from etl.reports.explain_place_page import as_place_page
from etl.reports.places import PlaceAdvice, PlaceExplanation, place_explanation
from etl.reports.told import told_now
from etl.settings import PROJECT_ROOT
from etl.workspace import Workspace
from tests.acceptance.county import PERIODS, County
from tests.acceptance.test_explain import texts

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres]
PERIOD = PERIODS[-1]
COUNTS = (
    "registered_households", "rated_households", "credited_households", "borrower_households", "non_arrears_households",
    "open_balance_yuan", "bad_balance_yuan",
)  # fmt: skip
VILLAGES = f"""
SELECT village_code, village_grade, {", ".join(COUNTS)} FROM core.core_village_grades
WHERE period = :period ORDER BY village_code"""
BANK_WORDS = ("borrower", "arrears", "balance", "bad_of", "不良", "有贷户")
Row = Mapping[str, Any]


@pytest.fixture(scope="module")
def ws(county: County) -> Workspace:
    return Workspace(county.settings)


@pytest.fixture(scope="module")
def villages(county: County) -> list[Row]:
    names = ("code", "grade", *COUNTS)
    return [dict(zip(names, row, strict=True)) for row in county.rows(VILLAGES, period=PERIOD)]


def of(ws: Workspace, place: str, code: str) -> PlaceExplanation:
    return place_explanation(told_now(ws, PERIOD), load_guide(ws.settings.config), place, code)


@pytest.fixture(scope="module")
def village(ws: Workspace, villages: list[Row]) -> PlaceExplanation:
    """A village with loans that is rated and could be better."""
    code = next(one["code"] for one in villages if one["grade"] in ("A", "B") and one["bad_balance_yuan"] > 0)
    return of(ws, "village", code)


def test_the_counts_are_those_for_sql_users(ws: Workspace, villages: list[Row]) -> None:
    for row in villages[:: len(villages) // 5]:
        found = explain(ws, row["code"], PERIOD, "county")
        shares = {
            share["id"]: (share["numerator"]["value"], share["denominator"]["value"]) for share in found["shares"]
        }
        assert shares == {
            "credited_of_register": (row["credited_households"], row["registered_households"]),
            "non_arrears_of_borrowers": (row["non_arrears_households"], row["borrower_households"]),
            "bad_of_balance": (row["bad_balance_yuan"], row["open_balance_yuan"]),
        }
        assert found["grade"]["effective"] == row["grade"]


def test_every_grade_says_which_condition_failed_first(ws: Workspace, villages: list[Row]) -> None:
    """Against the policy file, by hand, over all conditions in their order."""
    policy = yaml.safe_load((PROJECT_ROOT / "config/policy/village.yml").read_text(encoding="utf-8"))["versions"][0]
    for row in [one for one in villages if one["grade"]][::40]:
        found = explain(ws, row["code"], PERIOD, "county")
        for grade, said in zip(policy["grades"], found["grades"], strict=False):
            failed = [one["share"] for one in grade["all"] if not _holds(policy["shares"][one["share"]], one, row)]
            assert (said["grade"], said["first_failed"], said["is_met"]) == (
                grade["grade"], failed[0] if failed else None, not failed,
            )  # fmt: skip
        best = next((said["grade"] for said in found["grades"] if said["is_met"]), policy["grades"][-1]["grade"])
        assert best == row["grade"]


def _holds(share: Mapping[str, str], condition: Mapping[str, Any], row: Row) -> bool:
    over, under = Decimal(row[share["numerator"]]), Decimal(row[share["denominator"]])
    if under == 0:
        return share["empty"] == "met"
    bound = condition.get("at_least", condition.get("below"))
    return over * 100 >= bound * under if "at_least" in condition else over * 100 < bound * under


def test_a_village_too_small_to_be_rated_learns_it(ws: Workspace, villages: list[Row]) -> None:
    code = next(one["code"] for one in villages if one["grade"] is None)
    found = explain(ws, code, PERIOD, "county")
    assert found["grade"]["not_rated_says"]["en"] == "not rated: fewer than 10 households in the register"
    assert (found["grade"]["effective"], found["advice"]["outcome"]) == (None, "not_rated")


def without_bank(found: PlaceExplanation) -> PlaceExplanation:
    """The same place with everything that bank data move set to something else."""
    criteria = [
        one
        if one.share in ("credited_of_register", "credited_of_villages", "rated_of_register")
        else replace(one, numerator=Decimal(1), denominator=Decimal(7), is_met=not one.is_met, short_by=5)
        for one in found.criteria
    ]
    row = {**found.row, "input_state": "withheld", "unsettled_households": 99, "bad_balance_yuan": Decimal(1)}
    quartiles = {name: one for name, one in found.quartiles.items() if name == "credited_of_register"}
    return replace(found, criteria=criteria, row=row, quartiles=quartiles, advice=PlaceAdvice("out_of_reach"))


@pytest.mark.parametrize("audience", ["subject", "village"])
def test_what_banks_report_changes_nothing_in_what_a_village_sees(village: PlaceExplanation, audience: str) -> None:
    """Its people are the village: what the village may not see is not told to it as the subject either."""
    assert document(village, audience) == document(without_bank(village), audience)
    assert document(village, "county") != document(without_bank(village), "county")


def test_a_village_reads_no_bank_words(village: PlaceExplanation) -> None:
    text, whole = (as_json_text(document(village, audience)) for audience in ("village", "county"))
    assert [word for word in BANK_WORDS if word in text.replace(words.PLACE_SIGHT.zh, "")] == []
    assert sum(word in whole for word in BANK_WORDS) >= 4


def test_a_village_still_learns_how_many_households_it_lacks(ws: Workspace, villages: list[Row]) -> None:
    """90 % of the register for AAA, rounded up to whole households."""
    row = next(
        one for one in villages if one["grade"] and one["credited_households"] * 10 < one["registered_households"] * 9
    )
    found = explain(ws, row["code"], PERIOD, "village")
    assert [share["id"] for share in found["shares"]] == ["credited_of_register"]
    [aaa] = found["grades"][0]["conditions"]
    short = -(-9 * row["registered_households"] // 10) - row["credited_households"]
    assert (aaa["short_by"], aaa["short_says"]["en"]) == (short, f"{short} more households at A or better")


def test_no_household_is_named(county: County, village: PlaceExplanation) -> None:
    keys = [key for (key,) in county.rows("SELECT household_key FROM core.core_household_grades LIMIT 50")]
    text = as_json_text(document(village, "auditor"))
    assert len(keys) == 50 and "household_key" not in text
    assert [key for key in keys if key in text] == []


def test_peers_are_twenty_or_more(ws: Workspace, villages: list[Row], village: PlaceExplanation) -> None:
    """A village's town, or the county; the sixteen towns are too few for quartiles."""
    rated = [one for one in villages if one["grade"]]
    peers = document(village, "county")["peers"]
    own = [one for one in rated if one["code"].startswith(village.code[:9])]
    group = own if len(own) >= 20 else rated
    assert peers["size"] == len(group) >= 20
    shares = sorted(one["credited_households"] * 10_000 // one["registered_households"] for one in group)
    found = peers["quartiles"]["credited_of_register"]
    ranks = [-(-part * len(shares) // 4) for part in (1, 2, 3)]
    assert [found[name] for name in ("low", "median", "high")] == [Decimal(shares[rank - 1]) / 100 for rank in ranks]
    assert explain(ws, "341181100000", PERIOD, "county")["peers"] is None


def test_a_town_names_its_villages_and_what_stands_between(county: County, ws: Workspace) -> None:
    found = explain(ws, "341181100000", PERIOD, "county")
    assert (found["subject"], found["number"]) == ("town", "341181100000")
    told = {one["village_code"]: one["grade"] for one in found["villages"]}
    query = "SELECT village_code, village_grade FROM core.core_village_grades WHERE period = :period AND town_code = '341181100000'"
    assert told == dict(county.rows(query, period=PERIOD))
    shares = [share["id"] for share in found["shares"]]
    assert shares == ["credited_of_villages", "non_arrears_of_borrowers", "rated_of_register"]
    restricted = explain(ws, "341181100000", PERIOD, "subject")
    assert [share["id"] for share in restricted["shares"]] == ["credited_of_villages", "rated_of_register"]


def test_everything_is_said_in_both_languages(village: PlaceExplanation) -> None:
    said = list(texts(document(village, "auditor")))
    assert len(said) > 30
    assert all(text["zh"].strip() and text["en"].strip() and "{" not in text["zh"] + text["en"] for text in said)
    assert [text["en"] for text in said if any("\u4e00" <= letter <= "\u9fff" for letter in text["en"])] == []


def test_only_what_is_named_is_shown(village: PlaceExplanation) -> None:
    guide = village.guide.model_copy(update={"audiences": {}})
    blind = document(replace(village, guide=guide), "village")
    assert (blind["shares"], blind["advice"], [grade["conditions"] for grade in blind["grades"]]) == (
        [],
        None,
        [[], [], []],
    )
    assert [document(village, audience)["audit"] for audience in AUDIENCES[:3]] == [None, None, None]


def test_a_page_speaks_the_language_asked_for(village: PlaceExplanation) -> None:
    pages = {language: as_place_page(document(village, "county"), language) for language in words.LANGUAGES}
    assert "各等级的条件" in pages["zh"] and "What each grade asks for" not in pages["zh"]
    assert "What each grade asks for" in pages["en"] and "各等级的条件" not in pages["en"]
    assert '<html lang="en">' in pages["en"]


def test_the_command_line(
    county: County, village: PlaceExplanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(county.home))
    page = tmp_path / "page.html"
    assert run(["explain", village.code, "--period", PERIOD, "--for", "county", "--json", "--html", str(page)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(as_json_text(document(village, "county")))
    assert village.code in page.read_text(encoding="utf-8")
    assert run(["explain", village.code, "--period", PERIOD, "--for", "county"]) == 0
    assert "信用户占在册户" in capsys.readouterr().out
    assert run(["explain", "341181999999", "--period", PERIOD, "--subject", "village"]) == 1
    assert "no village 341181999999 is graded" in capsys.readouterr().err
