"""A deep fall that rests on one bank's delivery: hold, question in the bank's outbox, its answer by file, the next grade."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl import asking, months, pipeline
from etl.ledger import cases
from etl.tokens import token
from etl.vocabulary import GRADES as GRADES_IN_ORDER
from etl.workspace import Workspace
from tests.acceptance.county import NOW, PERIODS, County, SmallCounty

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

MARCH = PERIODS[-1]
GRADES = "SELECT household_key, computed_grade, effective_grade, status, hold_reason, effective_from_on FROM core_household_grades"
HELD = "awaiting_bank_confirmation"


@pytest.fixture(scope="module")
def county(small: SmallCounty) -> Iterator[County]:
    """Two months of a small county, graded; some households fell deep because of one bank."""
    with small.after("march") as lived:
        pipeline.grade_period(lived.settings, MARCH, now=NOW)
        yield lived


def _grades(county: County) -> Mapping[str, tuple[Any, ...]]:
    ws = Workspace(county.settings)
    with ws.engine() as engine:
        graded = ws.ledger.last_gradings()[MARCH]
        months.register_staged(engine, ws, "core_household_grades", "core_household_grades", [graded])
        return {str(row[0]): row[1:] for row in engine.fetch(GRADES)}


def _questions(county: County) -> list[cases.Case]:
    return [case for case in cases.all_cases(county.ledger) if case.verdict is None]


def _file(county: County, case: cases.Case) -> tuple[list[dict[str, str]], str]:
    """The lines of a question and the bank's encoding."""
    bank = str(case.bank_code)
    encoding = Workspace(county.settings).registry.banks[bank].receipt_encoding
    content = (county.settings.outbox / bank / "cases" / f"{case.case_id}.csv").read_bytes().decode(encoding)
    return list(csv.DictReader(io.StringIO(content.removeprefix("\ufeff")))), encoding


def _answer(county: County, case: cases.Case, **filled: str) -> dict[str, Any]:
    """Fill the question in, drop it, and read the receipt."""
    lines, encoding = _file(county, case)
    sink = io.StringIO()
    writer = csv.DictWriter(sink, lines[0].keys())
    writer.writeheader()
    writer.writerows([line | filled for line in lines])
    bank = str(case.bank_code)
    _drop(county, bank, case, sink.getvalue().encode(encoding))
    found = sorted(
        (county.settings.outbox / bank / "cases").glob(f"{case.case_id}.answer.csv.*.receipt.json"), key=_time
    )
    document: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    return document


def _drop(county: County, bank: str, case: cases.Case, content: bytes) -> None:
    path = county.settings.drop / bank / f"{case.case_id}.answer.csv"
    path.write_bytes(content)
    an_hour_ago = NOW.timestamp() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    pipeline.scan(county.settings, now=NOW, quiet_seconds=0.0)


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def test_every_held_fall_is_a_question_to_its_bank(county: County) -> None:
    held = {key for key, row in _grades(county).items() if row[3] == HELD}
    assert held
    assert {case.household_key for case in _questions(county)} == held
    assert {case.state for case in _questions(county)} == {"asked"}
    pipeline.watch_deadlines(county.settings, now=NOW)  # nobody is asked twice
    assert len(cases.all_cases(county.ledger)) == len(held)


def test_a_question_holds_the_banks_own_numbers_and_nothing_else(county: County) -> None:
    key = Workspace(county.settings).token_key
    for case in _questions(county):
        lines, _ = _file(county, case)
        assert set(lines[0]) == {
            "case", "period", "loan_no", "overdue_days", "five_class", "answer_due_on", "answer", "correct_overdue_days",
            "correct_five_class",
        }  # fmt: skip
        asked = {note.loan_key for note in cases.notes_of(county.ledger)[case.case_id]}
        assert {token(key, "loan", str(case.bank_code), line["loan_no"].removeprefix("'")) for line in lines} == asked
        text = " ".join(value for line in lines for value in line.values())
        assert case.household_key not in text and not [one for one in county.canaries(MARCH) if one in text]


def test_a_wrong_answer_is_refused_and_changes_nothing(county: County) -> None:
    case = _questions(county)[0]
    document = _answer(county, case, answer="大概吧")
    assert document["outcome"] == "rejected"
    assert {problem["message_en"] for problem in document["problems"]} == {"the answer must be confirmed or mistaken"}
    assert "大概吧" not in json.dumps(document, ensure_ascii=False)
    assert cases.case_of(county.ledger, case.case_id).verdict is None
    other = next(bank for bank in Workspace(county.settings).registry.banks if bank != case.bank_code)
    _drop(county, other, case, b"x")
    [receipt] = (county.settings.outbox / other / "cases").glob("*.answer.csv.*.receipt.json")
    assert json.loads(receipt.read_text(encoding="utf-8"))["outcome"] == "rejected"


def test_the_answer_decides_whether_the_fall_takes_effect(county: County) -> None:
    before, questions = _grades(county), _questions(county)
    confirmed, mended = questions[0], questions[-1]
    assert confirmed.case_id != mended.case_id
    assert _answer(county, confirmed, answer="确认")["verdict"]["en"] == "confirmed by the bank"
    document = _answer(county, mended, answer="更正", correct_overdue_days="0", correct_five_class="正常")
    assert document["outcome"] == "accepted" and document["signature"]
    assert pipeline.grade_period(county.settings, MARCH, now=NOW).changed

    after = _grades(county)
    assert {key for key in after if after[key] != before[key]} == {confirmed.household_key, mended.household_key}
    fell = after[confirmed.household_key]
    assert (fell[0], fell[1:4]) == (before[confirmed.household_key][0], (fell[0], "effective", None))
    assert str(fell[4]) == "2024-04-05"  # the day of the answer, not the period end
    kept = after[mended.household_key]
    assert (
        kept[3] is None
        and kept[1] == kept[0]
        and GRADES_IN_ORDER.index(kept[0]) < GRADES_IN_ORDER.index(before[mended.household_key][0])
    )
    assert {case.household_key for case in _questions(county)} == {key for key, row in after.items() if row[3] == HELD}


def test_a_question_whose_fall_is_gone_lapses(county: County) -> None:
    fell = cases.all_cases(county.ledger)[0]
    gone = replace(cases.NewCase("bank_confirmation", fell.household_key, MARCH, "hold/gone"), bank_code=fell.bank_code)
    opened, _ = cases.open_case(
        county.ledger, gone, account="system", on=NOW.date(), texts={}, seal=lambda _, text: text.encode(), now=NOW
    )
    assert asking.ask(Workspace(county.settings), now=NOW) == []
    lapsed = cases.case_of(county.ledger, opened.case_id)
    assert (lapsed.state, lapsed.verdict, "asked" in lapsed.steps) == ("closed", "lapsed", False)
    assert not pipeline.grade_period(county.settings, MARCH, now=NOW).changed
