"""Objections, overrides and bank confirmations in a small county: from the command line and the drop zone to the grade."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import openpyxl
import pytest
import sqlalchemy as sa

from etl import months, pipeline
from etl.casework import Request, open_case, text_of
from etl.cli import app
from etl.ledger.cases import Case, all_cases
from etl.ledger.records import Delivery
from etl.period import Period
from etl.tokens import token
from etl.workspace import Workspace
from tests.acceptance.county import NOW, PERIODS, County, SmallCounty

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

LATER = datetime(2024, 4, 30, 3, 0, tzinfo=UTC)
DROPPED = datetime(2024, 4, 20, 17, 0, tzinfo=UTC)  # after midnight in the county
CANARY = "请核对秋收贷款金丝雀"
MARCH = PERIODS[-1]
FELL = """
SELECT g.household_key FROM core_household_grades AS g INNER JOIN previous_core_household_grades AS b USING (household_key)
WHERE g.hold_reason IS NULL AND g.input_state = 'complete' AND g.computed_grade IN ('B', 'C', 'D')
  AND b.effective_grade IN ('A', 'AA', 'AAA')
  AND g.household_key NOT IN (SELECT former_household_key FROM core_households WHERE former_household_key IS NOT NULL)
ORDER BY 1
"""
GRADES = """
SELECT household_key, computed_grade, effective_grade, status, hold_reason, is_disputed FROM core_household_grades
"""
MART = "SELECT status, is_disputed FROM mart_household_credit WHERE household_key = $key"
SINCE = "SELECT effective_from_on FROM core_household_grades WHERE household_key = $key"
SEALED = (
    "SELECT string_agg(c::text, '') || (SELECT string_agg(t::text, '') FROM ledger.case_texts t) FROM ledger.cases c"
)
Grades = dict[str, tuple[object, ...]]


@pytest.fixture(scope="module")
def county(small: SmallCounty) -> Iterator[County]:
    """Two months of a small county, graded, with the environment of its command line."""
    with small.after("march") as lived, pytest.MonkeyPatch.context() as patch:
        for name, value in lived.settings.environment().items():
            patch.setitem(os.environ, name, value)
        pipeline.grade_period(lived.settings, MARCH, now=NOW)
        yield lived


def _rows(county: County, query: str, **params: object) -> list[tuple[object, ...]]:
    """Rows of a query on March as last graded; nothing has to be released for it."""
    ws = Workspace(county.settings)
    graded = ws.ledger.last_gradings()
    with ws.engine() as engine:
        for table in ("core_household_grades", "mart_household_credit", "core_households"):
            months.register_staged(engine, ws, table, table, [graded[MARCH]])
            months.register_staged(engine, ws, f"previous_{table}", table, [graded["2024-02"]])
        return engine.fetch(query, params)


def _grades(county: County) -> Grades:
    return {str(row[0]): row[1:] for row in _rows(county, GRADES)}


def _household_no(county: County, household_key: str) -> str:
    """The number behind a token, as the household knows it: from the register, not from anything published."""
    key = Workspace(county.settings).token_key
    engine = sa.create_engine(county.server.url("government"))
    with engine.connect() as connection:
        numbers = connection.scalars(sa.text("SELECT household_no FROM register.household")).all()
    engine.dispose()
    return next(number for number in numbers if token(key, "household", number) == household_key)


def _again(county: County) -> list[str]:
    """Grade what the sweep asks for, and let it write the notices that are due."""
    stale = [one for one in PERIODS if pipeline.grade_period(county.settings, one, now=LATER).changed]
    pipeline.watch_deadlines(county.settings, now=NOW)
    return stale


def _newest(county: County, kind: str) -> str:
    """The number of the case of this kind that was opened last; questions to banks have numbers too."""
    return [case.case_id for case in all_cases(county.ledger) if case.case_kind == kind][-1]


def _changed(before: Grades, after: Grades) -> set[str]:
    return {key for key in before if before[key] != after[key]}


def test_an_objection_freezes_exactly_its_household_and_ends_with_a_notice(county: County) -> None:
    before = _grades(county)
    key = str(_rows(county, FELL)[0][0])
    number = _household_no(county, key)
    case = ["case", "open", "--kind", "objection", "--household", number, "--text", "秋收款已还清", "--by", "zhang"]
    assert app.run([*case, "--on", "2024-04-10"]) == 0
    assert app.run([*case, "--on", "2024-04-10"]) == 0
    objection = _newest(county, "objection")
    assert app.run(["case", "mark", objection, "--by", "zhang", "--on", "2024-04-10"]) == 0
    assert _again(county) == [MARCH]
    frozen = _grades(county)
    assert _changed(before, frozen) == {key}
    assert frozen[key][2:] == ("frozen", "disputed", True)
    assert frozen[key][1] != before[key][1]
    assert _rows(county, MART, key=key) == [("frozen", True)]

    answer = ["case", "answer", objection, "--verdict", "refused", "--text", "银行流水显示仍有逾期"]
    assert app.run([*answer, "--by", "li", "--on", "2024-04-09"]) == 1  # before it was opened
    assert app.run([*answer, "--by", "li", "--on", "2024-04-22"]) == 0
    assert app.run(["case", "close", objection, "--by", "li", "--on", "2024-04-22"]) == 0
    assert list(county.settings.outbox.glob("*/notices/*")) == []  # not before the grade that follows is there
    assert _again(county) == [MARCH]
    assert _grades(county)[key] == (before[key][0], before[key][1], "effective", None, False)
    [since] = _rows(county, SINCE, key=key)
    assert str(since[0]) == "2024-04-22"
    [notice] = county.settings.outbox.glob(f"*/notices/{objection}.txt")
    text = notice.read_text(encoding="utf-8-sig")
    assert number in text and "不予采纳" in text and "银行流水显示仍有逾期" in text
    assert f"办理后等级 grade after: {before[key][1]}" in text


def test_an_override_needs_two_people(county: County) -> None:
    before = _grades(county)
    key = str(_rows(county, FELL)[1][0])
    opened = ["case", "open", "--kind", "override", "--household", _household_no(county, key), "--text", "灾后帮扶"]
    opened += ["--by", "zhang"]
    assert app.run([*opened, "--on", "2024-04-11"]) == 2  # neither grade nor last day
    assert app.run([*opened, "--on", "2024-04-11", "--grade", "AA", "--until", "2024-12-31"]) == 0
    approve = [
        "case",
        "answer",
        _newest(county, "override"),
        "--verdict",
        "upheld",
        "--text",
        "同意",
        "--on",
        "2024-04-12",
    ]
    assert app.run([*approve, "--by", "zhang"]) == 1
    assert _again(county) == [MARCH]
    assert _changed(before, _grades(county)) == set()
    assert app.run([*approve, "--by", "wang"]) == 0
    assert _again(county) == [MARCH]
    after = _grades(county)
    assert _changed(before, after) == {key}
    assert after[key][1:4] == ("AA", "effective", "overridden")


def test_unknown_households_and_wrong_requests_are_one_line(county: County, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["case", "open", "--kind", "objection", "--household", "HN-OF-NOBODY", "--text", "x", "--by"]
    assert app.run([*asked, "zhang"]) == 1
    assert app.run([*asked, "张三"]) == 2
    assert app.run(["case", "mark", "case-1999-00001", "--by", "zhang"]) == 1
    said = capsys.readouterr().err
    assert "HN-OF-NOBODY" not in said and "张三" not in said and "case-1999-00001: no such case" in said


def test_cases_are_listed_with_their_clocks_and_without_text(
    county: County, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["case", "list", "--json", "--on", "2024-04-20"]) == 0
    said = capsys.readouterr().out
    assert "秋收款" not in said and "灾后" not in said and f'"case_id": "{_newest(county, "objection")}"' in said


def filled_form(county: County, name: str, rows: Sequence[Sequence[object]]) -> list[Delivery]:
    """The blank form of April, filled in and dropped, as a village does it."""
    blank = county.home / "blank" / name
    blank.parent.mkdir(exist_ok=True)
    assert app.run(["case", "form", "--out", str(blank), "--period", "2024-04"]) == 0
    book = openpyxl.load_workbook(blank)
    sheet = book["信用事项申请"]
    for number, row in enumerate(rows, start=5):
        for place, value in enumerate(row, start=1):
            sheet.cell(number, place).value = value
    folder = county.settings.drop / "village_requests"
    folder.mkdir(parents=True, exist_ok=True)
    book.save(folder / name)
    os.utime(folder / name, (DROPPED.timestamp(), DROPPED.timestamp()))
    return pipeline.collect_files(county.settings, "village_requests", "2024-04", now=LATER)


def _from_forms(county: County) -> list[Case]:
    return [case for case in all_cases(county.ledger) if case.origin.startswith("form/")]


def _files_naming(county: County, words: Sequence[str]) -> list[str]:
    """Files outside the restricted zone, the landing zone and what the village itself wrote, that hold any of these words."""
    own = {"restricted", "landing", "drop", "blank", "worlds", "secrets"}
    files = [
        path for path in county.home.rglob("*") if path.is_file() and path.relative_to(county.home).parts[0] not in own
    ]
    return [str(path) for path in files if any(word.encode() in path.read_bytes() for word in words)]


def test_a_village_form_opens_exactly_its_cases_once(county: County, caplog: pytest.LogCaptureFixture) -> None:
    village = next(iter(Workspace(county.settings).registry.villages(Period.parse("2024-04"))))
    key, stranger = sorted(_grades(county))[-1], "HN-NOT-REGISTERED"
    number = _household_no(county, key)
    good = [f"{village}-2024-1", number, "异议", "贷款记录", CANARY, "2024-04-20", "网格员"]
    unknown = [f"{village}-2024-2", stranger, "更正", None, CANARY, "2024-04-20", None]
    bad = [f"{village}-2024-3", number, "人工核定", None, CANARY, "2024-04-20", None]
    [form] = filled_form(county, "village_requests_202404.xlsx", [good, unknown, bad])
    assert (form.outcome, form.rows_rejected) == ("accepted_with_warnings", 1)
    assert form.counts_by_rule == {"Q110": 1, "Q301": 1}
    receipt = _receipt(county, form)
    [told] = [one for one in receipt["findings"] if one["rule"] == "Q301"]
    assert (told["row"], told["key"], told["field"], told["value"]) == (2, unknown[0], "household_no", None)
    assert (
        "不在农户信息库" in told["message_zh"]
        and "请核对户号" in told["fix_zh"]
        and "no household" in told["message_en"]
    )
    [objection] = _from_forms(county)
    assert (objection.case_kind, objection.concerns, objection.period) == ("objection", "core_loans", MARCH)
    assert objection.household_key == key
    assert (str(objection.opened_on), str(objection.answer_due_on)) == ("2024-04-21", "2024-05-11")
    assert text_of(Workspace(county.settings), objection, "request") == CANARY
    assert text_of(Workspace(county.settings), objection, "household_no") == number

    next_page = [f"{village}-2024-4", number, "退出评定", None, CANARY, "2024-04-22", "农户本人"]
    assert len(filled_form(county, "village_requests_202404-again.xlsx", [good, unknown, bad])) == 1
    pipeline.watch_deadlines(county.settings, now=NOW)
    assert _from_forms(county) == [objection]
    assert len(filled_form(county, "village_requests_202404-next.xlsx", [next_page])) == 1
    assert [case.case_kind for case in _from_forms(county)] == ["objection", "opt_out"]
    [sealed] = county.rows(SEALED)
    assert CANARY not in str(sealed[0]) and CANARY.encode().hex() not in str(sealed[0])
    assert CANARY not in caplog.text and number not in caplog.text
    assert _files_naming(county, [CANARY, number, stranger]) == []
    assert _files_naming(county, [str(bad[0])])  # the receipt names the row by the village's own number


def _receipt(county: County, form: Delivery) -> Any:
    [path] = county.settings.outbox.rglob(f"*.{form.delivery_id}.receipt.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_people_wrote_stands_nowhere_in_the_clear(county: County) -> None:
    [dump] = county.rows(SEALED)
    assert "秋收款".encode().hex() not in str(dump[0]) and "秋收款" not in str(dump[0])


def test_the_sweep_tells_of_clocks_once(county: County) -> None:
    number = _household_no(county, sorted(_grades(county))[0])
    on = datetime(2024, 4, 10, tzinfo=UTC).date()
    open_case(Workspace(county.settings), Request("correction", number, "面积有误"), account="zhang", on=on, now=NOW)
    case = _newest(county, "correction")
    late = datetime(2024, 5, 1, 3, 0, tzinfo=UTC)
    told = [str(one) for one in pipeline.watch_deadlines(county.settings, now=late) if str(one).startswith(case)]
    assert told == [
        f"{case}: 逾期未标注 not marked in time (答复期限 answer due 2024-04-30)",
        f"{case}: 临近答复期限 answer falls due (答复期限 answer due 2024-04-30)",
        f"{case}: 逾期未答复 answer overdue (答复期限 answer due 2024-04-30)",
    ]
    assert [one for one in pipeline.watch_deadlines(county.settings, now=late) if str(one).startswith("case-")] == []
    assert app.run(["case", "list", "--open", "--on", "2024-05-01"]) == 1
