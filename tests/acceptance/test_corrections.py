"""Corrections by the county and repairs of list items in a small county: two people, exactly their households, their end.

The month after, one correction goes on, one has expired, one meets a source that has mended itself, and a bank has sent
other bytes; a veto was repaired in the meantime. Expectations are worked out from the policy by hand.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from etl import asking, months, pipeline
from etl.cli import app
from etl.ledger.cases import Case, all_cases
from etl.period import Period
from etl.replay import replay
from etl.tokens import token
from etl.workspace import Workspace
from tests.acceptance.county import NOW, PERIODS, County, SmallCounty
from tests.acceptance.test_cases import filled_form

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

MARCH, APRIL = PERIODS[-1], "2024-04"
LATER = datetime(2024, 4, 30, 3, 0, tzinfo=UTC)
IN_MAY = datetime(2024, 5, 8, 3, 0, tzinfo=UTC)
TABLES = (
    "core_household_grades", "core_household_points", "core_households", "core_credit_events", "core_members", "core_loans",
    "core_mediation_parties", "core_cases",
)  # fmt: skip
# 8 mu and more are worth 4 points, less than 3 are worth 1 (config/policy/household.yml)
WIDE = """
SELECT h.household_key, h.farmland_mu, g.score FROM core_households AS h
INNER JOIN core_household_grades AS g ON g.household_key = h.household_key
WHERE h.farmland_mu >= 8 AND h.input_state = 'complete' AND g.score IS NOT NULL AND g.input_state = 'complete' ORDER BY 1
"""
POINTS = "SELECT household_key, indicator, points FROM core_household_points"
FARMLAND = "SELECT farmland_mu, input_state FROM core_households WHERE household_key = $key"
VETOED = """
SELECT e.event_key, m.household_key, g.score FROM core_credit_events AS e
INNER JOIN core_members AS m ON m.person_key = e.person_key
INNER JOIN core_household_grades AS g ON g.household_key = m.household_key
WHERE e.is_in_force AND e.list_kind = 'veto' AND e.event_to_on IS NULL AND g.veto_ids = 'listed_veto' AND g.score >= 80 ORDER BY 1
"""
ITEM = "SELECT is_in_force, repaired_on, counts_until_on FROM core_credit_events WHERE event_key = $key"
GRADE = "SELECT computed_grade, effective_grade, veto_ids, hold_reason FROM core_household_grades WHERE household_key = $key"
LATE_NOTE = """
SELECT l.bank_code, l.loan_key, l.overdue_days, l.five_class, m.household_key FROM core_loans AS l
INNER JOIN core_members AS m ON m.person_key = l.person_key
WHERE l.bank_code = 'baiyun_rcb' AND l.overdue_days > 30 AND l.five_class <> 'normal' AND l.input_state = 'complete'
ORDER BY l.issued_on
"""  # keys differ from county to county; these notes are in the bank's file of April too
NOTE = "SELECT overdue_days, is_overdue, five_class, loan_status FROM core_loans WHERE loan_key = $key"
PARTIES = """
SELECT p.case_key, list(DISTINCT m.household_key ORDER BY m.household_key) AS homes FROM core_mediation_parties AS p
INNER JOIN core_members AS m ON m.person_key = p.person_key GROUP BY p.case_key ORDER BY 1
"""
WIDTHS = (("kept", "2024-12-31"), ("ended", "2024-04-15"), ("healed", "2024-12-31"))
Points = Mapping[tuple[str, str], Decimal]
Wide = Mapping[str, tuple[str, str, Decimal]]


@pytest.fixture(scope="module")
def county(small: SmallCounty) -> Iterator[County]:
    """Two months of a small county, released and graded in part where inputs change; the third lies in the drop zones."""
    with small.after("march") as lived, pytest.MonkeyPatch.context() as patch:
        for name, value in lived.settings.environment().items():
            patch.setitem(os.environ, name, value)
        county_yml = lived.settings.config[0] / "county.yml"
        county_yml.write_text(county_yml.read_text(encoding="utf-8") + "\nregrade: affected\n", encoding="utf-8")
        pipeline.grade_period(lived.settings, MARCH, now=NOW)
        pipeline.publish_period(lived.settings, MARCH, now=NOW)
        lived.deliver(APRIL)
        yield lived


@pytest.fixture(scope="module")
def wide(county: County) -> Wide:
    """Four households with much farmland, whose rows do not come again in April: {role: (key, number, farmland)}."""
    numbers = _unchanged(county)
    found = [(str(key), numbers[str(key)], mu) for key, mu, _ in _rows(county, WIDE) if str(key) in numbers]
    return dict(zip(("spare", *(role for role, _ in WIDTHS)), found, strict=False))


def _rows(county: County, query: str, period: str = MARCH, **params: object) -> list[tuple[object, ...]]:
    """Rows of a query on a month as last graded; nothing has to be released for it."""
    ws = Workspace(county.settings)
    graded = ws.ledger.last_gradings()
    with ws.engine() as engine:
        for table in TABLES:
            months.register_staged(engine, ws, table, table, [graded[period]])
        return engine.fetch(query, params)


def _points(county: County) -> Points:
    return {(str(key), str(indicator)): points for key, indicator, points in _rows(county, POINTS)}  # type: ignore[misc]


def _unchanged(county: County) -> dict[str, str]:
    """{token: number} of households of the register that nothing happened to in April."""
    key = Workspace(county.settings).token_key
    return {token(key, "household", number): number for number in _register(county, "WHERE changed_at < '2024-04-01'")}


def _register(county: County, condition: str = "") -> Sequence[str]:
    engine = sa.create_engine(county.server.url("government"))
    with engine.connect() as connection:
        numbers = connection.scalars(sa.text(f"SELECT household_no FROM register.household {condition}")).all()
    engine.dispose()
    return numbers


def _number(county: County, household_key: str) -> str:
    key = Workspace(county.settings).token_key
    return next(number for number in _register(county) if token(key, "household", number) == household_key)


def _newest(county: County, kind: str) -> Case:
    return [case for case in all_cases(county.ledger) if case.case_kind == kind and case.concerns is None][-1]


def _open(county: County, kind: str, household_no: str) -> str:
    asked = ["case", "open", "--kind", kind, "--household", household_no, "--text", "与实际不符", "--by", "zhang"]
    assert app.run([*asked, "--on", "2024-04-10"]) == 0
    return _newest(county, kind).case_id


def _correct(case: str, dataset: str, key: str, *cells: tuple[str, str, str], until: str, bank: str = "") -> int:
    words = ["case", "correct", case, "--dataset", dataset, "--key", key, "--document", "天农核〔2024〕3 号"]
    for column, delivered, right in cells:
        words += ["--column", column, "--delivered", delivered, "--right", right]
    words += ["--until", until, "--by", "zhang", "--on", "2024-04-11", *(["--bank", bank] if bank else [])]
    return app.run(words)


def _answer(case: str, by: str) -> int:
    return app.run(
        ["case", "answer", case, "--verdict", "upheld", "--text", "实地核查属实", "--by", by, "--on", "2024-04-12"]
    )


def _close(case: str) -> None:
    assert app.run(["case", "close", case, "--by", "li", "--on", "2024-04-12"]) == 0


def _again(county: County) -> list[str]:
    """Grade what the sweep asks for, and let it write the notices that are due."""
    stale = [one for one in PERIODS if pipeline.grade_period(county.settings, one, now=LATER).changed]
    pipeline.watch_deadlines(county.settings, now=LATER)
    return stale


def _notice(county: County, case: str, *, of_household: bool = False) -> str:
    name = f"{case}.household.txt" if of_household else f"{case}.txt"
    [path] = county.settings.outbox.glob(f"*/notices/{name}")
    return path.read_text(encoding="utf-8-sig")


def _bytes_of_sources(county: County) -> Mapping[str, str]:
    """SHA-256 of every landed file and every file of accepted rows."""
    folders = (county.settings.landing, county.settings.restricted / "accepted")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _whole_equals_last_grading(county: County, period: str) -> bool:
    """Whether computing the month as a whole gives the tables that were computed in part."""
    ws = Workspace(county.settings)
    inputs, last = months.inputs_of(ws, period), ws.ledger.last_grading(period)
    assert last is not None
    with ws.engine() as engine:
        months.register_inputs(engine, inputs)
        months.conform(engine, inputs)
        months.grade(engine, inputs)
        contents = months.contents_of(months.write_tables(engine, inputs))
    return {table: str(content) for (table, _), content in contents.items()} == dict(last.contents)


# ---- March, mended in April -------------------------------------------------------------------------------------------


def test_what_no_correction_can_be_is_one_line(county: County, wide: Wide, capsys: pytest.CaptureFixture[str]) -> None:
    (_, number, mu), (_, other, _) = wide["spare"], wide["ended"]
    case = _open(county, "correction", number)
    cell, until = ("farmland_mu", str(mu), "2.5"), "2024-12-31"
    assert _correct(case, "households", number, ("household_no", number, other), until=until) == 2  # a key
    assert _correct(case, "households", number, ("phone", "1", "2"), until=until) == 2  # an identity
    assert _correct(case, "households", number, ("farmland_mu", str(mu), "许多"), until=until) == 2
    assert _correct(case, "households", number, cell, until="2024-04-11") == 2
    assert _correct(case, "households", number, cell, until=until, bank="qinghe_rcb") == 2
    assert _correct(case, "households", number, ("farmland_mu", "0.01", "2.5"), until=until) == 1  # nobody said 0.01
    assert _correct(case, "households", number, ("farmland_mu", str(mu), "-1"), until=until) == 1  # H122
    assert _correct(case, "households", other, cell, until=until) == 1  # another household's row
    assert _correct(case, "households", "HN-NOBODY", cell, until=until) == 1
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 9 and number not in said and "HN-NOBODY" not in said and "许多" not in said
    assert (
        app.run(
            ["case", "answer", case, "--verdict", "refused", "--text", "重新提出", "--by", "li", "--on", "2024-04-12"]
        )
        == 0
    )
    _close(case)


def test_a_correction_of_the_register_takes_two_people_and_touches_its_households_alone(
    county: County, wide: Wide
) -> None:
    _again(county)
    before, sources = _points(county), _bytes_of_sources(county)
    cases = []
    for role, until in WIDTHS:
        _, number, mu = wide[role]
        case = _open(county, "correction", number)
        assert _correct(case, "households", number, ("farmland_mu", str(mu), "2.5"), until=until) == 0
        assert (
            _correct(case, "households", number, ("farmland_mu", str(mu), "2.6"), until=until) == 1
        )  # proposed already
        assert _answer(case, "zhang") == 1  # who proposed it
        cases.append(case)
    _again(county)
    assert _points(county) == before  # nothing holds before it is approved
    for case in cases:
        assert _answer(case, "li") == 0
        _close(case)
    assert _again(county) == [MARCH]
    after = _points(county)
    changed = {place: (before[place], after[place]) for place in before if before[place] != after[place]}
    assert changed == {(wide[role][0], "farmland_mu"): (Decimal(4), Decimal(1)) for role, _ in WIDTHS}
    for role, _ in WIDTHS:
        assert _rows(county, FARMLAND, key=wide[role][0]) == [(Decimal("2.50"), "complete")]
    assert _bytes_of_sources(county) == sources
    assert "grade_affected" in {step for (step,) in county.rows("SELECT DISTINCT step FROM audit.step_outcomes")}
    assert _whole_equals_last_grading(county, MARCH)

    text = _notice(county, cases[0])
    assert "  承包土地 contracted farmland: 4 → 1" in text and "实地核查属实" in text
    others = [wide[role][1] for role, _ in WIDTHS[1:]]
    assert wide["kept"][1] in text and not [number for number in others if number in text]


def test_the_repair_of_a_veto_waits_for_the_next_month(county: County) -> None:
    *vetoed, (stranger, _, _) = _rows(county, VETOED)
    assert vetoed
    numbers, repaired = _event_numbers(county), []
    for item, home, _ in vetoed:
        case = _open(county, "repair", _number(county, str(home)))
        assert _answer(case, "li") == 1  # nobody has said what it repairs
        words = [
            "case",
            "repair",
            case,
            "--document",
            "信修〔2024〕8 号",
            "--by",
            "zhang",
            "--on",
            "2024-04-11",
            "--event",
        ]
        assert app.run([*words, numbers[str(stranger)]]) == 1
        assert app.run([*words, numbers[str(item)]]) == 0
        assert _answer(case, "zhang") == 1
        assert _answer(case, "li") == 0
        _close(case)
        repaired.append((case, item, home))
    assert _again(county) == [MARCH]
    for case, item, home in repaired:
        assert _rows(county, ITEM, key=item) == [(True, date(2024, 4, 12), date(2024, 4, 11))]
        assert _rows(county, GRADE, key=home) == [("D", "D", "listed_veto", None)]
        assert not list(county.settings.outbox.glob(f"*/notices/{case}.*"))  # the grade that follows is April's


def _event_numbers(county: County) -> Mapping[str, str]:
    """{token: number} of all list items, from the files the simulator wrote."""
    key = Workspace(county.settings).token_key
    files = sorted(county.worlds.rglob("credit_events_*.csv"))
    rows = [row for path in files for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
    return {token(key, "event", row["事项编号"]): row["事项编号"] for row in rows}


def test_a_banks_row_is_set_right_in_the_bytes_it_stands_in(county: County) -> None:
    bank, note, days, five_class, home = (str(value) for value in _rows(county, LATE_NOTE)[0])
    number = asking._loan_numbers(Workspace(county.settings), bank, MARCH, {note})[note]
    before = _points(county)
    case = _open(county, "objection", _number(county, home))
    paid = ("overdue_days", days, "0")
    assert _correct(case, "loans", number, paid, until="2024-12-31") == 2  # of which bank?
    assert _correct(case, "loans", number, paid, until="2024-12-31", bank=bank) == 1  # L208: still of status overdue
    cells = (paid, ("loan_status", "overdue", "normal"), ("five_class", five_class, "正常"))
    assert _correct(case, "loans", number, *cells, until="2024-12-31", bank=bank) == 0
    assert _answer(case, "li") == 0
    _close(case)
    assert _again(county) == [MARCH]
    assert _rows(county, NOTE, key=note) == [(0, False, "normal", "normal")]
    after = _points(county)
    assert {key for key, _ in before if before[key, _] != after[key, _]} == {home}
    assert after[home, "current_arrears_share_pct"] == 8 > before[home, "current_arrears_share_pct"]
    assert _whole_equals_last_grading(county, MARCH)
    village, own = _notice(county, case), _notice(county, case, of_household=True)
    assert "→ 8" in own and "→ 8" not in village and "arrears" not in village and number not in village + own


def test_everybody_whom_the_row_concerns_is_told(county: County) -> None:
    key, homes = next(
        (key, homes) for key, homes in _rows(county, PARTIES) if key in _logged(county) and len(homes) > 1
    )  # type: ignore[arg-type]
    row = _logged(county)[str(key)]
    first, *others = [str(home) for home in homes]  # type: ignore[attr-defined]
    case = _open(county, "correction", _number(county, first))
    cell = ("people_count", str(row["people_count"]), str(int(str(row["people_count"])) + 1))
    assert _correct(case, "mediation", str(row["case_no"]), cell, until="2024-12-31") == 0
    assert _answer(case, "li") == 0
    _close(case)
    beside = [one for one in all_cases(county.ledger) if one.concerns == case]
    assert {one.household_key for one in beside} == set(others)
    assert {(one.state, one.verdict) for one in beside} == {("closed", "upheld")}
    assert _again(county) == [MARCH]
    for one in beside:
        text = _notice(county, one.case_id)
        assert _number(county, one.household_key) in text and "a record that concerns your household too" in text
        assert _number(county, first) not in text and "实地核查属实" not in text and "无 none" in text


def _logged(county: County) -> Mapping[str, Mapping[str, object]]:
    """{token: row} of March's mediation logs on the platform, as the simulator wrote them."""
    key = Workspace(county.settings).token_key
    files = sorted((county.worlds / MARCH).rglob("mediation_*.jsonl"))
    rows = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return {token(key, "case", row["case_no"]): row for row in rows}


def test_what_was_set_right_stands_nowhere_in_the_clear(county: County) -> None:
    query = "SELECT string_agg(t::text, '') || (SELECT string_agg(c::text, '') FROM ledger.case_targets c) FROM ledger.case_texts t"
    [(dump,)] = county.rows(query)
    for word in ("天农核", "信修", "2.50"):
        assert word not in str(dump) and word.encode().hex() not in str(dump)


def test_households_that_nobody_knows_yet_are_answered_in_the_receipt(
    county: County, new_households: Mapping[str, str]
) -> None:
    """They are in the register's database; the register was taken in and graded without them."""
    village = next(iter(Workspace(county.settings).registry.villages(Period.parse(APRIL))))
    numbers = enumerate(new_households.values(), start=700)
    rows = [
        [f"{village}-2024-{place}", number, "异议", None, "刚刚立户", "2024-04-20", None] for place, number in numbers
    ]
    [form] = filled_form(county, "village_requests_202404-new.xlsx", rows)
    assert (form.outcome, form.rows_accepted, form.counts_by_rule) == (
        "accepted_with_warnings", len(rows), {"Q301": len(rows)},
    )  # fmt: skip
    pipeline.watch_deadlines(county.settings, now=LATER)
    assert not [case for case in all_cases(county.ledger) if case.origin.startswith("form/")]


@pytest.fixture(scope="module")
def new_households(county: County) -> Mapping[str, str]:
    """{token: number} of some households that came to the register in April, whether or not their record is in order."""
    key = Workspace(county.settings).token_key
    known = {str(row[0]) for row in _rows(county, "SELECT household_key FROM core_households")}
    numbers = _register(county, "WHERE changed_at >= '2024-04-01' ORDER BY household_no")
    return {one: number for number in numbers if (one := token(key, "household", number)) not in known}


# ---- April ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def april(county: County, wide: Wide) -> County:
    """April graded, after the register mended one of the rows itself."""
    engine = sa.create_engine(county.server.url("government"))
    mended = "UPDATE register.household SET farmland_mu = 20, changed_at = '2024-04-15' WHERE household_no = :number"
    with engine.begin() as connection:
        connection.execute(sa.text(mended), {"number": wide["healed"][1]})
    engine.dispose()
    pipeline.pull(county.settings, "government", APRIL, now=IN_MAY)
    for delivery in pipeline.scan(county.settings, now=IN_MAY, quiet_seconds=0.0):
        pipeline.take_in(county.settings, delivery.delivery_id, now=IN_MAY)
    pipeline.collect_files(county.settings, "mediation", APRIL, now=IN_MAY)
    pipeline.collect_occasional(county.settings, APRIL, now=IN_MAY)
    pipeline.grade_period(county.settings, APRIL, now=IN_MAY)
    return county


def test_a_correction_goes_on_until_it_expires_or_the_source_says_otherwise(
    april: County, wide: Wide, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {role: _rows(april, FARMLAND, APRIL, key=wide[role][0])[0][0] for role, _ in WIDTHS}
    assert values == {"kept": Decimal("2.50"), "ended": wide["ended"][2], "healed": Decimal("20.00")}
    capsys.readouterr()
    assert app.run(["case", "corrections", "--json"]) == 1
    states = {(one["dataset"], one["state"]) for one in json.loads(capsys.readouterr().out)}
    assert states == {
        ("households", "applied"), ("households", "expired"), ("households", "healed"), ("loans", "healed"),
        ("mediation", "applied"),
    }  # fmt: skip
    told = [str(one) for one in pipeline.watch_deadlines(april.settings, now=IN_MAY) if "来源已不同" in str(one)]
    assert len(told) == 2
    assert not [one for one in pipeline.watch_deadlines(april.settings, now=IN_MAY) if "来源已不同" in str(one)]


def test_the_request_of_a_new_household_opens_its_case_when_it_is_graded(
    april: County, new_households: Mapping[str, str]
) -> None:
    pipeline.watch_deadlines(april.settings, now=IN_MAY)
    there = {str(key) for (key,) in _rows(april, "SELECT household_key FROM core_households", APRIL)}
    opened = [case for case in all_cases(april.ledger) if case.origin.startswith("form/")]
    assert {case.household_key for case in opened} == there & new_households.keys() != set()
    assert {(str(case.opened_on), str(case.answer_due_on)) for case in opened} == {("2024-05-08", "2024-05-28")}


def test_a_repaired_veto_is_gone_in_the_next_month_and_its_notice_says_so(april: County) -> None:
    """The grade rises with it, unless other rows of the household are outstanding (DESIGN 9.6)."""
    pipeline.grade_period(april.settings, APRIL, now=IN_MAY)  # cases opened meanwhile bear on it
    pipeline.watch_deadlines(april.settings, now=IN_MAY)
    risen = []
    for case in (one for one in all_cases(april.ledger) if one.case_kind == "repair"):
        [(computed, effective, vetoes, hold)] = _rows(april, GRADE, APRIL, key=case.household_key)
        assert computed != "D" and vetoes is None
        assert effective == ("D" if hold == "awaiting_input" else computed)
        risen += [effective] if effective != "D" else []
        text = _notice(april, case.case_id)
        assert (
            "办理前等级 grade before: D（2024-03）" in text
            and f"办理后等级 grade after: {effective}（2024-04）" in text
        )
        assert "一票否决 veto 解除 lifted: 一票否决清单事项" in text
    assert risen


def test_an_older_release_still_sees_the_items_open(april: County) -> None:
    decided = "SELECT event_key FROM core_credit_events WHERE repaired_on = '2024-04-12'"
    keys = [str(key) for (key,) in _rows(april, decided)]
    [path] = (april.settings.lake / "releases" / "2024-03-001" / "core_credit_events").glob("period=2024-03/*.parquet")
    columns = {"event_key": "VARCHAR", "is_in_force": "BOOLEAN", "repaired_on": "DATE"}
    with Workspace(april.settings).engine() as engine:
        engine.register_parquet("released", [path], columns)
        found = engine.fetch("SELECT event_key, is_in_force, repaired_on FROM released")
    assert keys and [row[1:] for row in found if row[0] in keys] == [(True, None)] * len(keys)
    assert replay(april.settings, "2024-03-001").is_equal
    released = pipeline.publish_period(april.settings, APRIL, now=IN_MAY)
    assert released is not None and replay(april.settings, released.release_id).is_equal
