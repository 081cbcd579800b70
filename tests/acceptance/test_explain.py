"""Why a grade is what it is: the figures are those of core_household_points, and each reader gets what is meant for it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from etl.cli.app import run
from etl.cli.tables import as_json_text
from etl.ledger.cases import ANSWER_WITHIN, MARK_WITHIN
from etl.reports import explain_words as words
from etl.reports.advice import Advice
from etl.reports.explain import document, explain
from etl.reports.explain_guide import Guide
from etl.reports.explain_page import as_page
from etl.reports.explain_parts import AUDIENCES
from etl.reports.explanation import Explanation, read_explanation
from etl.settings import PROJECT_ROOT
from etl.tokens import token
from etl.vocabulary import CASE_KIND_LABELS
from etl.workspace import Workspace
from tests.acceptance.county import PERIODS, County

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres]
PERIOD = PERIODS[-1]
BANK = "bank"
GRADES = """
SELECT household_key, effective_grade, computed_grade, score, hold_reason, not_rated_reason, input_state, village_code
FROM core.core_household_grades WHERE period = :period ORDER BY household_key"""
POINTS = """
SELECT indicator, value_text, band, points, max_points, state, evidence
FROM core.core_household_points WHERE period = :period AND household_key = :key"""
CASE = {
    "case_id": "BC-2024-0001", "case_kind": "bank_confirmation", "case_state": "asked", "opened_on": date(2024, 4, 5),
    "answer_due_on": date(2024, 4, 25), "answered_on": None, "verdict": None, "is_open": True, "bank_code": "qinghe_rcb",
}  # fmt: skip
Grade = Mapping[str, Any]


@pytest.fixture(scope="module")
def ws(county: County) -> Workspace:
    return Workspace(county.settings)


@pytest.fixture(scope="module")
def grades(county: County) -> list[Grade]:
    names = ["key", "effective", "computed", "score", "hold", "not_rated", "input_state", "village_code"]
    return [dict(zip(names, row, strict=True)) for row in county.rows(GRADES, period=PERIOD)]


@pytest.fixture(scope="module")
def numbers(county: County, ws: Workspace) -> Mapping[str, str]:
    """Household key -> household number, as only the register knows it."""
    register = sa.create_engine(county.server.url("government"))
    with register.connect() as connection:
        found = connection.execute(sa.text("SELECT household_no FROM register.household")).scalars().all()
    register.dispose()
    return {token(ws.token_key, "household", number): number for number in found}


def first(grades: list[Grade], **wanted: Any) -> str:
    """The key of the first household like this."""
    return next(one["key"] for one in grades if all(one[name] == value for name, value in wanted.items()))


@pytest.fixture(scope="module")
def borrower(county: County, ws: Workspace, numbers: Mapping[str, str]) -> Explanation:
    """A household with notes in arrears."""
    [(key, *_)] = county.rows(
        "SELECT p.household_key FROM core.core_household_points AS p JOIN core.core_household_grades AS g "
        "USING (period, household_key) WHERE period = :period AND indicator = 'current_arrears_share_pct' "
        "AND p.points < p.max_points AND p.state = 'present' AND g.input_state = 'complete' ORDER BY 1 LIMIT 1",
        period=PERIOD,
    )
    return read_explanation(ws, numbers[key], PERIOD)


def test_the_figures_are_those_for_sql_users(
    county: County, ws: Workspace, grades: list[Grade], numbers: Mapping[str, str]
) -> None:
    rated = [one for one in grades if one["score"] is not None]
    for one in rated[:: len(rated) // 8]:
        found = document(read_explanation(ws, numbers[one["key"]], PERIOD, with_advice=False), "county")
        names = ("id", "value", "band", "points", "max_points", "state")
        lines = {(*(line[name] for name in names), line["evidence"]["raw"]) for line in found["indicators"]}
        assert lines == set(county.rows(POINTS, period=PERIOD, key=one["key"]))
        assert sum(line["points"] for line in found["indicators"]) == found["grade"]["score"] == one["score"]
        assert sum(block["points"] for block in found["blocks"]) == one["score"]
        assert (found["grade"]["effective"], found["grade"]["computed"]) == (one["effective"], one["computed"])


def without_bank(found: Explanation) -> Explanation:
    """The same household with everything that bank data move set to something else."""
    lines = [
        replace(
            line, value="77", band="else", points=Decimal("1.23"), state="withheld", evidence_text="core_loans:zz +7"
        )
        if line.indicator.block == BANK
        else line
        for line in found.lines
    ]
    grade = {
        **found.grade, "score": Decimal("1.11"), "computed_grade": "D", "status": "computed", "input_state": "withheld",
        "hold_reason": "awaiting_bank_confirmation",
    }  # fmt: skip
    cases = [{**CASE, "bank_code": "xinhe_vb"}]
    moved = {name: one for name, one in found.quartiles.items() if name not in (BANK, "score")}
    return replace(
        found, lines=lines, grade=grade, banks=["xinhe_vb"], cases=cases, quartiles=moved, advice=Advice("on_hold")
    )


def test_what_a_bank_reports_changes_nothing_in_what_a_village_sees(borrower: Explanation) -> None:
    """Not a value, not a sum, not a distance: what does not depend on bank data cannot tell of them."""
    assert document(borrower, "village") == document(without_bank(borrower), "village")
    assert document(borrower, "subject") != document(without_bank(borrower), "subject")


def test_a_village_reads_no_bank_words(borrower: Explanation) -> None:
    text = as_json_text(document(borrower, "village"))
    whole = document(borrower, "subject")
    hidden = [line["id"] for line in whole["indicators"] if line["block"] == BANK]
    hidden += [
        name["zh"] for source in whole["sources"] if source["dataset"] == "loans" for name in source["suppliers"]
    ]
    hidden += [ref for line in whole["indicators"] if line["block"] == BANK for ref in line["evidence"]["references"]]
    hidden += ['"score"', '"computed"', "core_loans", borrower.key, borrower.number]
    assert len(hidden) > 8
    assert [word for word in hidden if word in text] == []
    assert all(word in as_json_text(whole) or "core" in word or word == borrower.key for word in hidden)


def test_each_reader_knows_the_household_by_another_name(borrower: Explanation) -> None:
    names = {audience: document(borrower, audience)["number"] for audience in AUDIENCES}
    assert names == {
        "subject": borrower.number, "village": f"***{borrower.number[-3:]}",
        "county": borrower.key, "auditor": borrower.key,
    }  # fmt: skip
    for audience in ("county", "auditor"):
        assert borrower.number not in as_json_text(document(borrower, audience))
    assert borrower.key not in as_json_text(document(borrower, "subject"))


def test_two_readers_cannot_compare_their_references(borrower: Explanation) -> None:
    seen = {line["id"]: line["evidence"] for line in document(borrower, "subject")["indicators"]}
    references, raw = seen["current_arrears_share_pct"]["references"], borrower.lines[1].evidence
    assert raw is not None
    assert references and not set(references) & {key[:10].upper() for key in raw.keys}


def test_an_auditor_can_follow_the_way_back(county: County, borrower: Explanation) -> None:
    audit = document(borrower, "auditor")["audit"]
    in_force = {(one.delivery_id, one.sha256) for one in county.ledger.in_force(PERIOD)}
    behind = {(one["delivery_id"], one["sha256"]) for one in audit["deliveries"]}
    assert behind and behind <= in_force
    assert {one["supplier"] for one in audit["deliveries"] if one["dataset"] == "loans"} == set(borrower.banks)
    policy = (PROJECT_ROOT / "config/policy/household.yml").read_bytes()
    assert audit["policy_file_sha256"] == hashlib.sha256(policy).hexdigest()
    assert audit["fingerprint"] == borrower.graded.fingerprint
    assert audit["indicators"]["repayment_conduct"] == "repayment_conduct"
    assert [document(borrower, audience)["audit"] for audience in AUDIENCES[:3]] == [None, None, None]


def test_peers_are_twenty_or_more_and_quartiles_go_by_rank(
    ws: Workspace, grades: list[Grade], numbers: Mapping[str, str]
) -> None:
    """Twenty rated households in the village, else the town's 12-digit code, else the county."""
    rated = [one for one in grades if one["score"] is not None]
    for one in rated[:: len(rated) // 4]:
        peers = document(read_explanation(ws, numbers[one["key"]], PERIOD, with_advice=False), "county")["peers"]
        prefix = {"village": one["village_code"], "town": one["village_code"][:9], "county": ""}[peers["group"]]
        scores = sorted(other["score"] for other in rated if other["village_code"].startswith(prefix))
        villagers = sum(other["village_code"] == one["village_code"] for other in rated)
        assert (peers["group"] == "village") == (villagers >= 20)
        assert peers["size"] == len(scores) >= 20
        found = peers["quartiles"]["score"]
        ranks = [-(-part * len(scores) // 4) for part in (1, 2, 3)]
        assert [found[name] for name in ("low", "median", "high")] == [scores[rank - 1] for rank in ranks]


def test_a_hold_says_what_it_is_and_what_ends_it(
    ws: Workspace, grades: list[Grade], numbers: Mapping[str, str]
) -> None:
    found = explain(ws, numbers[first(grades, hold="awaiting_bank_confirmation")], PERIOD, "subject")
    assert found["hold"]["reason"] == "awaiting_bank_confirmation"
    assert "银行" in found["hold"]["says"]["zh"] and "confirms" in found["hold"]["ends"]["en"]
    assert found["grade"]["effective"] != found["grade"]["computed"]


@pytest.mark.parametrize("reason", ["absent", "no_consent", "opted_out", "incomplete"])
def test_who_is_not_rated_learns_why(
    ws: Workspace, grades: list[Grade], numbers: Mapping[str, str], reason: str
) -> None:
    found = explain(ws, numbers[first(grades, not_rated=reason)], PERIOD, "subject")
    assert found["grade"]["not_rated_says"] == {"zh": words.NOT_RATED[reason].zh, "en": words.NOT_RATED[reason].en}
    assert (found["grade"]["effective"], found["grade"]["score"], found["indicators"]) == (None, None, [])
    assert (found["advice"]["outcome"], found["advice"]["steps"]) == ("not_rated", [])


def test_an_open_case_shows_its_clock(borrower: Explanation) -> None:
    asked = replace(borrower, cases=[CASE])
    [case] = document(asked, "subject")["cases"]
    assert (case["kind_says"]["en"], case["answer_due_on"], case["bank"]["zh"]) == (
        CASE_KIND_LABELS["bank_confirmation"]["en"], date(2024, 4, 25), "清河农商行（合成）",
    )  # fmt: skip
    assert "2024-04-25" in as_page(document(asked, "subject"), "zh")
    assert document(asked, "village")["cases"] == []


def test_the_terms_of_an_objection_are_those_of_its_clock(borrower: Explanation) -> None:
    """One fact in one place: a case opened today falls due when the explanation says."""
    objection = document(borrower, "subject")["rights"]["objection"]
    assert (objection["marked_within_days"], objection["answered_within_days"]) == (
        MARK_WITHIN.days,
        ANSWER_WITHIN.days,
    )
    named = {"objection": {"answered_within_days": 15, "routes": [], "routes_of_places": []}}
    with pytest.raises(ValidationError, match="answered_within_days"):
        Guide.model_validate({**borrower.guide.model_dump(), **named})


def test_a_veto_is_named_with_its_cap(borrower: Explanation) -> None:
    vetoed = replace(borrower, grade={**borrower.grade, "veto_ids": "confirmed_agreement_unperformed"})
    [veto] = document(vetoed, "subject")["vetoes"]
    assert (veto["cap"], veto["clause"]) == ("C", "household 2024.1 (13)")
    assert document(vetoed, "village")["vetoes"] == [veto]
    guide = vetoed.guide.model_copy(update={"audiences": {}})
    blind = document(replace(vetoed, guide=guide), "village")
    assert (blind["vetoes"], blind["indicators"], blind["blocks"], blind["sources"]) == ([], [], [], [])


def delivered_documents(county: County, ws: Workspace) -> dict[str, str]:
    """Item -> number of its document, as the lists were delivered."""
    found: dict[str, str] = {}
    for period in PERIODS:
        drop = county.worlds / period / "drop" / "village_life" / f"credit_events_{period.replace('-', '')}.csv"
        with drop.open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["文书编号"]]
        found |= {token(ws.token_key, "event", row["事项编号"]): row["文书编号"] for row in rows}
    return found


@pytest.fixture(scope="module")
def vetoed(county: County, ws: Workspace, numbers: Mapping[str, str]) -> Explanation:
    """A household that nothing but an item of the veto list keeps at D."""
    [(key, *_)] = county.rows(
        "SELECT household_key FROM core.core_household_grades WHERE period = :period AND veto_ids = 'listed_veto' "
        "AND score >= 60 AND input_state = 'complete' AND computed_grade = 'D' ORDER BY 1 LIMIT 1",
        period=PERIOD,
    )
    return read_explanation(ws, numbers[key], PERIOD)


def test_an_item_of_the_lists_says_what_ends_it_and_the_grade_without_it(
    county: County, ws: Workspace, vetoed: Explanation
) -> None:
    """The veto takes no points: without it the score is what it was, and the policy's cut-offs say the grade."""
    found = document(vetoed, "subject")
    vetoes = [item for item in found["endings"]["items"] if item["list_says"]["en"] == "veto list"]
    score = vetoed.grade["score"]
    cut = next(cut["grade"] for cut in found["grade"]["cut_offs"] if score >= (cut["at_least"] or 0))
    assert len(vetoes) == 1 and vetoes[0]["then"] == {"score": score, "grade": cut, "hold_says": None}
    assert vetoes[0]["ways"][-1]["en"].startswith("if the document it stands on is revoked")
    documents = delivered_documents(county, ws)
    told = vetoed.endings.each if vetoed.endings else []
    assert [item["document_no"] for item in found["endings"]["items"]] == [
        documents[one.item.event_key] for one in told
    ]
    page = as_page(found, "zh")
    assert vetoes[0]["document_no"] in page and "清单事项如何消除" in page


def test_the_number_of_a_document_is_told_to_the_household_alone(
    county: County, ws: Workspace, vetoed: Explanation
) -> None:
    number = document(vetoed, "subject")["endings"]["items"][0]["document_no"]
    assert number in delivered_documents(county, ws).values()
    assert [audience for audience in AUDIENCES if number in as_json_text(document(vetoed, audience))] == ["subject"]
    assert document(vetoed, "village")["endings"] is None


def texts(value: Any) -> Iterator[Mapping[str, str]]:
    """Every {zh, en} of a document."""
    if isinstance(value, dict):
        if value.keys() >= {"zh", "en"}:
            yield value
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def test_everything_is_said_in_both_languages(borrower: Explanation) -> None:
    said = list(texts(document(borrower, "auditor")))
    assert len(said) > 60
    assert all(text["zh"].strip() and text["en"].strip() and "{" not in text["zh"] + text["en"] for text in said)
    assert [text["en"] for text in said if any("\u4e00" <= letter <= "\u9fff" for letter in text["en"])] == []


def test_a_page_speaks_the_language_asked_for(borrower: Explanation) -> None:
    found = document(borrower, "subject")
    pages = {language: as_page(found, language) for language in words.LANGUAGES}
    assert "怎样提升等级" in pages["zh"] and "What would lift" not in pages["zh"]
    assert "What would lift the grade" in pages["en"] and "怎样提升等级" not in pages["en"]
    assert '<html lang="en">' in pages["en"]
    assert pages["both"].index("得分明细") < pages["both"].index("Points, one by one")


def test_the_command_line(
    county: County,
    borrower: Explanation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(county.home))
    number, page = borrower.number, tmp_path / "page.html"
    assert run(["explain", number, "--period", PERIOD, "--json", "--html", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(as_json_text(document(borrower, "subject")))
    assert number in page.read_text(encoding="utf-8")
    assert run(["explain", number, "--period", PERIOD, "--for", "village"]) == 0
    assert number not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["NO-SUCH-0001", "--period", PERIOD], 1, "no household has this number"),
        (["NO-SUCH-0001", "--period", "2024-05"], 1, "2024-05: not graded yet"),
        (["NO-SUCH-0001", "--period", PERIOD, "--for", "neighbour"], 2, "no such audience"),
        (["NO-SUCH-0001", "--period", PERIOD, "--subject", "stranger"], 2, "no scorecard is in force for it"),
        (["NO-SUCH-0001", "--period", PERIOD, "--lang", "fr"], 2, "no such language"),
    ],
)
def test_what_cannot_be_explained_is_one_line_without_the_number(
    county: County, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, says: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(county.home))
    assert run(["explain", *arguments]) == code
    said = capsys.readouterr()
    assert says in said.err and said.out == ""
    assert "NO-SUCH" not in said.err
