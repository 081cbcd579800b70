"""Grades in both times: on which day a grade was valid, and what was known of it when.

Expectations are written by hand, or come from a scan over everything ever said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.contract.model import load_contracts
from etl.engine.base import Content
from etl.history import KnownGrade, grade_as_of, grade_history
from etl.ledger.repository import Ledger
from etl.period import Period
from etl.publish import history
from etl.publish.lake import DataFile
from etl.publish.manifest import NO_RELEASE
from etl.settings import Settings
from etl.workspace import Workspace

TABLE = "core_household_grades"
COLUMNS = "period, household_key, effective_grade, computed_grade, status, veto_ids, effective_from_on, effective_to_on"
HOME = "h1"


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def on(day: str) -> date:
    return date.fromisoformat(day)


@dataclass(frozen=True)
class Said:
    """What a month's grading says of one household."""

    grade: str | None
    since: date | None = None
    lapses_on: date | None = None
    vetoes: str | None = None


Months = Mapping[str, Mapping[str, Said]]


@dataclass
class Warehouse:
    """The grades table of a warehouse, and releases that replace months of it."""

    ledger: Ledger
    root: Path
    ws: Workspace
    released: dict[str, Mapping[str, Said]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.contracts = load_contracts([self.root / "expectations"])
        with self.ledger.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM audit.grade_statements"))
            connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS core"))
            connection.execute(sa.text(f"DROP TABLE IF EXISTS core.{TABLE}"))
            kinds = [f"{name} {'date' if name.endswith('_on') else 'text'}" for name in COLUMNS.split(", ")]
            connection.execute(sa.text(f"CREATE TABLE core.{TABLE} ({', '.join(kinds)})"))

    def release(self, months: Months, now: datetime, *, name: str = "r", whole: bool = False) -> None:
        """Publish these months beside those released before; `whole`: these only, as after a rollback."""
        gone = set(self.released) - set(months) if whole else set()
        self.released = {**({} if whole else self.released), **months}
        manifest = replace(NO_RELEASE, release_id=name, files=tuple(map(_file, self.released)))
        with self.ledger.engine.begin() as connection:
            for period in {*months, *gone}:
                connection.execute(sa.text(f"DELETE FROM core.{TABLE} WHERE period = :p"), {"p": period})
            rows = [_row(period, household, said) for period in months for household, said in months[period].items()]
            if rows:
                values = ", ".join(f":{name}" for name in COLUMNS.split(", "))
                connection.execute(sa.text(f"INSERT INTO core.{TABLE} ({COLUMNS}) VALUES ({values})"), rows)
            changed = [(TABLE, period) for period in (*months, *gone)]
            history.note(connection, changed, self.contracts, manifest, now=now)

    def grade(self, valid_on: date, known_at: datetime, household: str = HOME) -> str | None:
        found = grade_as_of(self.ws, household, valid_on, known_at)
        return found.effective_grade if found else "nothing known"


def _file(period: str) -> DataFile:
    return DataFile(TABLE, period, "county", "", 0, "", Content(0, 0))


def _row(period: str, household: str, said: Said) -> dict[str, object]:
    return {
        "period": period,
        "household_key": household,
        "effective_grade": said.grade,
        "computed_grade": said.grade,
        "status": "effective",
        "veto_ids": said.vetoes,
        "effective_from_on": said.since or (Period.parse(period).end if said.grade else None),
        "effective_to_on": said.lapses_on,
    }


@pytest.fixture(scope="module")
def opened(postgres: object, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    from tests.conftest import fresh_database

    for url in fresh_database(postgres, template_database):  # type: ignore[arg-type]
        ledger = Ledger(url)
        yield ledger
        ledger.close()


@pytest.fixture(scope="module")
def make(opened: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Warehouse]:
    """Makes an empty warehouse, the same database every time."""
    root = tmp_path_factory.mktemp("history")
    (root / "expectations").mkdir()
    text = "{{type: {kind}, privacy: open, label: {{zh: 项, en: item}}}}"
    fields = [f"{name}: {text.format(kind='date' if name.endswith('_on') else 'text')}" for name in COLUMNS.split(", ")]
    (root / "expectations" / "fields.yml").write_text("\n".join(fields), encoding="utf-8")
    (root / "expectations" / f"{TABLE}.yml").write_text(
        f"table: {TABLE}\nsays: {{zh: 等级, en: grades}}\nkey: [period, household_key]\n"
        f"columns: {{{', '.join(f'{name}: ' for name in COLUMNS.split(', '))}}}\n",
        encoding="utf-8",
    )
    url = opened.engine.url.render_as_string(hide_password=False)
    places = Settings.from_environment({"CREDITVILLAGE_WAREHOUSE_URL": url, "CREDITVILLAGE_HOME": str(root)})
    ws = Workspace(places)
    return lambda: Warehouse(opened, root, ws)


@pytest.fixture
def warehouse(make: Callable[[], Warehouse]) -> Warehouse:
    return make()


FEB, MAR = "2024-02", "2024-03"


def test_a_correction_does_not_rewrite_what_was_known(warehouse: Warehouse) -> None:
    """Graded A for February on 5 March; on 10 April it turns out that it was AA all along."""
    warehouse.release({FEB: {HOME: Said("A")}}, at("2024-03-05"))
    warehouse.release({FEB: {HOME: Said("AA")}}, at("2024-04-10"))
    known = {
        ("2024-02-28", "2024-12-31"): "nothing known",  # before the first period end
        ("2024-02-29", "2024-03-04"): "nothing known",  # before anything was released
        ("2024-02-29", "2024-03-05"): "A",
        ("2024-03-15", "2024-04-09"): "A",
        ("2024-03-15", "2024-04-10"): "AA",
        ("2024-02-29", "2024-12-31"): "AA",
    }
    assert {(v, k): warehouse.grade(on(v), at(k)) for v, k in known} == known


def test_an_overturned_veto_is_lifted_with_its_history(warehouse: Warehouse) -> None:
    """A judgment caps February and March at D; on 2 May it is known to be revoked as of 20 March."""
    veto = Said("D", vetoes="enforced_judgment")
    warehouse.release({FEB: {HOME: veto}}, at("2024-03-05"), name="2024-02-001")
    warehouse.release({MAR: {HOME: replace(veto, since=on("2024-02-29"))}}, at("2024-04-05"), name="2024-03-001")
    warehouse.release({MAR: {HOME: Said("AAA")}}, at("2024-05-02"), name="2024-03-002")
    found = [
        (
            g.valid_from_on,
            g.valid_to_on,
            g.known_from_at,
            g.known_to_at,
            g.effective_grade,
            g.veto_ids,
            g.status,
            g.release_id,
        )
        for g in grade_history(warehouse.ws, HOME)
    ]
    vetoed = ("D", "enforced_judgment", "effective")
    assert found == [
        (on("2024-02-29"), None, at("2024-03-05"), at("2024-04-05"), *vetoed, "2024-02-001"),
        (on("2024-02-29"), on("2024-03-31"), at("2024-04-05"), at("2024-05-02"), *vetoed, "2024-02-001"),
        (on("2024-03-31"), None, at("2024-04-05"), at("2024-05-02"), *vetoed, "2024-03-001"),
        (on("2024-02-29"), on("2024-03-31"), at("2024-05-02"), None, *vetoed[:2], "superseded", "2024-02-001"),
        (on("2024-03-31"), None, at("2024-05-02"), None, "AAA", None, "effective", "2024-03-002"),
    ]


def test_a_grade_that_another_replaced_is_superseded_from_when_that_is_known(warehouse: Warehouse) -> None:
    """A in February, AA in March and April; in May the household has left the register."""
    for name, period, months in (
        ("r1", "2024-03-05", {FEB: {HOME: Said("A")}}),
        ("r2", "2024-04-05", {MAR: {HOME: Said("AA")}}),
        ("r3", "2024-05-05", {"2024-04": {HOME: Said("AA", since=on("2024-03-31"))}}),
        ("r4", "2024-06-05", {"2024-05": {"h2": Said("B")}}),
    ):
        warehouse.release(months, at(period), name=name)
    found = [(g.period, g.known_from_at, g.status) for g in grade_history(warehouse.ws, HOME)]
    assert found == [
        (FEB, at("2024-03-05"), "effective"),
        (FEB, at("2024-04-05"), "superseded"),
        (MAR, at("2024-04-05"), "effective"),
        (MAR, at("2024-05-05"), "effective"),  # April says the same: nothing took its place
        ("2024-04", at("2024-05-05"), "effective"),
        ("2024-04", at("2024-06-05"), "effective"),
    ]
    with warehouse.ledger.engine.connect() as connection:
        asked = "SELECT status FROM audit.grades_as_of('2024-03-15', '2024-12-31') WHERE subject_key = 'h1'"
        assert connection.scalars(sa.text(asked)).all() == ["effective"]  # on that day it was


def test_a_grade_that_takes_effect_later_leaves_the_one_before_in_force_until_then(warehouse: Warehouse) -> None:
    warehouse.release({FEB: {HOME: Said("B")}}, at("2024-03-05"))
    warehouse.release({MAR: {HOME: Said("A", since=on("2024-04-12"))}}, at("2024-04-05"))
    days = ("2024-03-31", "2024-04-11", "2024-04-12")
    assert [warehouse.grade(on(day), at("2024-06-01")) for day in days] == ["B", "B", "A"]


def test_a_grade_lapses_and_a_household_that_left_has_none(warehouse: Warehouse) -> None:
    warehouse.release({FEB: {HOME: Said("A", lapses_on=on("2024-03-10")), "h2": Said("AA")}}, at("2024-03-05"))
    warehouse.release({MAR: {"h3": Said("C")}}, at("2024-04-05"))
    later = at("2024-05-01")
    assert [warehouse.grade(on(day), later) for day in ("2024-03-09", "2024-03-10")] == ["A", "nothing known"]
    assert [warehouse.grade(on(day), later, "h2") for day in ("2024-03-30", "2024-03-31")] == ["AA", "nothing known"]
    assert warehouse.grade(on("2024-03-31"), at("2024-04-01"), "h2") == "AA"  # nobody knew yet that it would leave


def test_a_rollback_is_a_change_of_what_is_known_too(warehouse: Warehouse) -> None:
    warehouse.release({FEB: {HOME: Said("A")}}, at("2024-03-05"))
    warehouse.release({MAR: {HOME: Said("D")}}, at("2024-04-05"))
    warehouse.release({FEB: {HOME: Said("A")}}, at("2024-04-06"), whole=True)
    known = [warehouse.grade(on("2024-04-01"), at(day)) for day in ("2024-04-04", "2024-04-05", "2024-04-06")]
    assert known == ["A", "D", "A"]


def test_what_was_said_and_taken_back_at_one_instant_was_never_known(warehouse: Warehouse) -> None:
    for grade in ("A", "B", "A"):
        warehouse.release({FEB: {HOME: Said(grade)}}, at("2024-03-05"))
    assert [one.effective_grade for one in grade_history(warehouse.ws, HOME)] == ["A"]


# -- against a scan over everything ever said -------------------------------------------------------------------------

PERIODS = ("2024-01", "2024-02", "2024-03")
HOUSEHOLDS = ("h1", "h2")
DAYS = [on("2024-01-20") + timedelta(days=23 * n) for n in range(5)]
SAID = st.builds(
    Said,
    st.sampled_from(["AA", "A", None]),
    since=st.sampled_from([None, on("2024-01-31"), on("2024-03-12")]),
    lapses_on=st.sampled_from([None, None, on("2024-04-15")]),
)
RELEASE = st.tuples(
    st.sampled_from(PERIODS), st.dictionaries(st.sampled_from(HOUSEHOLDS), SAID, min_size=1), st.integers(0, 2)
)


def scan(said: Sequence[tuple[datetime, Months]], household: str, valid_on: date, known_at: datetime) -> object:
    """The grade by looking through all that was said: newest release known, then newest month that speaks of the day."""
    known = [months for instant, months in said if instant <= known_at]
    newest, there = None, False
    for period, rows in sorted((known or [{}])[-1].items()):
        end = Period.parse(period).end
        there = there or household in rows
        one = rows.get(household)
        begins = max(end, one.since) if one and one.since else end
        if there and begins <= valid_on and (newest is None or begins >= newest[0]):
            newest = (begins, one)
    if newest is None or newest[1] is None or (newest[1].lapses_on and newest[1].lapses_on <= valid_on):
        return "nothing known"
    return newest[1].grade


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(releases=st.lists(RELEASE, min_size=1, max_size=6))
def test_queries_equal_a_scan(make: Callable[[], Warehouse], releases: list[tuple[str, dict[str, Said], int]]) -> None:
    warehouse, said, now = make(), [], at("2024-05-01")
    for period, rows, hours in releases:
        now += timedelta(hours=hours)
        warehouse.release({period: rows}, now)
        said.append((now, dict(warehouse.released)))
    instants = sorted({instant for instant, _ in said} | {at("2024-04-30"), now + timedelta(hours=1)})
    for household, day, instant in product(HOUSEHOLDS, DAYS, instants):
        expected = scan(said, household, day, instant)
        assert warehouse.grade(day, instant, household) == expected, (household, day, instant)
        assert as_analysts_ask(warehouse, household, day, instant) == expected, (household, day, instant)


def as_analysts_ask(warehouse: Warehouse, household: str, day: date, instant: datetime) -> object:
    query = "SELECT effective_grade FROM audit.grades_as_of(:day, :instant) WHERE subject_key = :household"
    with warehouse.ledger.engine.connect() as connection:
        values = {"day": day, "instant": instant, "household": household}
        found = connection.execute(sa.text(query), values).one_or_none()
    return found[0] if found else "nothing known"


def test_the_history_says_nothing_twice(warehouse: Warehouse) -> None:
    """No day and instant is covered by two rows, however often the same was said."""
    for hour, grade in enumerate(("A", "A", "B", "A")):
        warehouse.release({FEB: {HOME: Said(grade)}, MAR: {HOME: Said("AA")}}, at("2024-05-01") + timedelta(hours=hour))
    found = grade_history(warehouse.ws, HOME)
    assert [(one.effective_grade, one.known_from_at.hour) for one in found] == [("A", 0), ("AA", 0), ("B", 2), ("A", 3)]
    assert all(isinstance(one, KnownGrade) for one in found)
