"""Everything known about the grade of one household, or other subject, in one month, read as it was graded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, partial
from typing import Any, Final

from etl import months
from etl.engine.duck import DuckEngine
from etl.frozen import frozen_month
from etl.grading.indicators import Indicator
from etl.grading.policy import Policies, ScorecardVersion, Veto
from etl.history import key_of
from etl.ledger.records import Grading
from etl.months import MonthInputs
from etl.period import Period
from etl.reports.advice import HOUSEHOLD, Advice, advise, scorecard_of
from etl.reports.endings import ITEMS, NEGATIVE, Endings, endings_of
from etl.reports.explain_guide import Guidance, Guide, load_guide
from etl.reports.peers import Group, Quartiles, peer_group, quartiles
from etl.reports.told import Told, told_now
from etl.vocabulary import ConfigurationError, DataError
from etl.workspace import Workspace

OF_HOUSEHOLDS: Final = ("core_members", "core_loans", "core_cases")
HELD: Final = "held"
_WITHOUT_LIFECYCLE: Final = {
    "effective_from_on": None, "effective_to_on": None, "noticed_on": None, "round": None, "is_disputed": False,
    "hold_reason": None,
}  # fmt: skip
_EVIDENCE: Final = re.compile(
    r"(?P<table>[a-z_]+)(?:@(?P<period>\d{4}-\d{2}))?(?::(?P<keys>.*?))?(?: \+(?P<more>\d+))?"
)
_BANKS: Final = """
    SELECT DISTINCT bank_code FROM core_loans
    WHERE household_key = $key OR co_person_key IN (SELECT person_key FROM core_members WHERE household_key = $key)
    ORDER BY bank_code"""

_CASES: Final = """
    SELECT case_id, case_kind, case_state, opened_on, answer_due_on, answered_on, verdict, is_open, bank_code
    FROM core_cases WHERE household_key = $key ORDER BY opened_on, case_id"""


@dataclass(frozen=True)
class Evidence:
    """What a value rests on: a table, the month of its rows, some of their keys and how many more there are."""

    table: str
    period: str | None
    keys: tuple[str, ...]
    more: int

    @classmethod
    def parse(cls, text: str) -> Evidence | None:
        """Read what core_household_points says; None where it refers to the month before."""
        found = _EVIDENCE.fullmatch(text)
        if found is None:
            return None
        keys = tuple(key for key in (found["keys"] or "").split(",") if key)
        return cls(found["table"], found["period"], keys, int(found["more"] or 0))

    @property
    def count(self) -> int:
        return len(self.keys) + self.more


@dataclass(frozen=True)
class Line:
    """One indicator of a subject: what the policy says of it and what the subject has."""

    indicator: Indicator
    guidance: Guidance
    value: str | None
    band: str
    points: Decimal
    state: str
    input_state: str
    evidence_text: str

    @property
    def evidence(self) -> Evidence | None:
        return Evidence.parse(self.evidence_text)

    def counts_until(self, period: Period) -> Period | None:
        """The last month in which what the value rests on is in view; None where nothing is or it does not end."""
        found, months_in_view = self.evidence, self.guidance.counts_for_months
        if not found or not found.count or not months_in_view or not self.value or Decimal(self.value) == 0:
            return None
        return Period.parse(found.period or str(period)).shift(months_in_view - 1)


@dataclass(frozen=True)
class Explanation:
    """One grade of one month, with everything that may be said of it; `etl.reports.explain` says to whom.

    `number` is the one the subject itself uses, `key` the keyed token of it.
    """

    told: Told
    guide: Guide
    subject: str
    number: str
    key: str
    grade: Mapping[str, Any]
    lines: Sequence[Line]
    banks: Sequence[str]
    cases: Sequence[Mapping[str, Any]]
    group: Group | None
    quartiles: Mapping[str, Quartiles]
    advice: Advice | None = None
    endings: Endings | None = None

    @property
    def ws(self) -> Workspace:
        """The county, with the configuration the month was graded under."""
        return self.told.ws

    @property
    def inputs(self) -> MonthInputs:
        return self.told.inputs

    @property
    def graded(self) -> Grading:
        return self.told.graded

    @property
    def period(self) -> Period:
        return self.inputs.period

    @property
    def policies(self) -> Policies:
        return self.inputs.policies

    @property
    def version(self) -> ScorecardVersion:
        """The scorecard that graded the subject: its town's own, else the county's."""
        return scorecard_of(self.policies, self.grade["town_code"], self.subject)

    @property
    def vetoes(self) -> list[Veto]:
        caught = (self.grade["veto_ids"] or "").split(",")
        return [veto for veto in self.version.veto if veto.id in caught]

    def points_of(self, block: str) -> Decimal:
        return sum((line.points for line in self.lines if line.indicator.block == block), Decimal(0))

    def most_of(self, block: str) -> Decimal:
        return sum((line.indicator.max for line in self.lines if line.indicator.block == block), Decimal(0))

    @cached_property
    def blocks(self) -> list[str]:
        """Blocks with lines, in the policy's order."""
        return [block for block in self.version.blocks if any(line.indicator.block == block for line in self.lines)]

    def datasets_of(self, line: Line) -> list[str]:
        """The datasets a line rests on: those it requires and the one of its evidence."""
        found = line.evidence
        table = found.table if found else ""
        of_table = self.ws.contracts[table].dataset if table in self.ws.contracts else None
        return list(dict.fromkeys((*line.indicator.requires, *([of_table] if of_table else []))))


def read_explanation(
    ws: Workspace, number: str, period: str, *, subject: str = HOUSEHOLD, with_advice: bool = True
) -> Explanation:
    """Read the grade of a month from what was graded last; for a household also search for advice.

    Raises DataError for a month without grades, a number nobody of the month has, and grades of a policy that is no
    longer the one in force for the month; ConfigurationError for a subject without a scorecard.
    """
    guide = load_guide(ws.settings.config)
    return explanation_of(told_now(ws, period), guide, number, subject=subject, with_advice=with_advice)


def explanation_of(
    told: Told, guide: Guide, number: str, *, subject: str = HOUSEHOLD, with_advice: bool = True
) -> Explanation:
    """The grade of one subject in a month as it is told; of a past state no advice is searched.

    Raises what `read_explanation` raises.
    """
    ws, inputs, period = told.ws, told.inputs, told.period
    if subject not in inputs.policies.scorecards:
        known = ", ".join(sorted(inputs.policies.scorecards))
        raise ConfigurationError("--subject", subject, "no scorecard is in force for it", f"use one of {known}")
    key = key_of(ws, number.strip(), subject=subject)
    with ws.engine() as engine:
        told.register(engine, f"core_{subject}_grades", f"core_{subject}_points")
        if subject == HOUSEHOLD:
            told.register(engine, *OF_HOUSEHOLDS)
        grade = _grade(engine, subject, key, period)
        version = scorecard_of(inputs.policies, grade["town_code"], subject)
        _require_policy(version, subject, grade, period)
        lines = _lines(engine, subject, key, version, guide)
        group = peer_group(engine, subject, key)
        is_household = subject == HOUSEHOLD
        return Explanation(
            told=told, guide=guide, subject=subject, number=number.strip(), key=key, grade=grade, lines=lines,
            banks=[bank for (bank,) in engine.fetch(_BANKS, {"key": key})] if is_household else [],
            cases=engine.arrow(_CASES, {"key": key}).to_pylist() if is_household else [],
            group=group, quartiles=_quartiles(engine, group, key, [line.indicator.block for line in lines]),
            **(_searched(told, guide, key, version) if is_household and with_advice else {}),
        )  # fmt: skip


def _grade(engine: DuckEngine, subject: str, key: str, period: str) -> dict[str, Any]:
    """The row of the grades; subjects without a lifecycle have in effect what is computed."""
    table = engine.arrow(f"SELECT * FROM core_{subject}_grades WHERE {subject}_key = $key", {"key": key})
    if table.num_rows == 0:
        raise DataError(f"{period}: no {subject} has this number", "check the number and the month")
    [row] = table.to_pylist()
    return {**_WITHOUT_LIFECYCLE, "effective_grade": row["computed_grade"], **row}


def _require_policy(version: ScorecardVersion, subject: str, grade: Mapping[str, Any], period: str) -> None:
    if grade["policy_version"] != version.version:
        raise DataError(
            f"{period}: graded under {subject} policy {grade['policy_version']}, {version.version} is in force now",
            f"grade it again: creditvillage run --period {period}",
        )


def _lines(engine: DuckEngine, subject: str, key: str, version: ScorecardVersion, guide: Guide) -> list[Line]:
    """Lines in the policy's order; none for a subject without a score."""
    columns = "indicator, value_text, band, points, state, input_state, evidence"
    query = f"SELECT {columns} FROM core_{subject}_points WHERE {subject}_key = $key"
    found = {row["indicator"]: row for row in engine.arrow(query, {"key": key}).to_pylist()}
    return [
        Line(
            indicator=indicator, guidance=guide.of(indicator.id), value=row["value_text"], band=row["band"],
            points=row["points"], state=row["state"], input_state=row["input_state"], evidence_text=row["evidence"],
        )
        for indicator in version.indicators
        if (row := found.get(indicator.id))
    ]  # fmt: skip


def _quartiles(engine: DuckEngine, group: Group | None, key: str, blocks: Sequence[str]) -> dict[str, Quartiles]:
    """Quartiles of each block, and of the score under the name "score"."""
    if group is None:
        return {}
    wanted = {"score": sorted(set(blocks)), **{block: [block] for block in dict.fromkeys(blocks)}}
    return {name: quartiles(engine, group, key, of) for name, of in wanted.items()}


def _is_item_advisable(version: ScorecardVersion) -> bool:
    """Whether the policy calls the indicator advisable that counts the items of the lists."""
    return any(one.advisable for one in version.indicators if one.events and one.events.relation == ITEMS)


def _searched(told: Told, guide: Guide, key: str, version: ScorecardVersion) -> dict[str, Any]:
    """Advice, and how list items end, under the policy in force; "unavailable" where the month's inputs are no longer those
    it was graded from, "past" for what was known on a past day."""
    if told.known:
        return {"advice": Advice("past")}
    ws = told.ws
    try:
        with frozen_month(ws, told.period, households=[key]) as month:
            month.grade()
            run = partial(months.run_statement, month.engine, month.inputs)
            lists = [NEGATIVE] if _is_item_advisable(version) else []
            endings = endings_of(month.engine, months.plan(month.inputs), key, run, lists=lists)
            advice = advise(
                month.engine, month.inputs.policies, ws.models, guide, key, run,
                notice_days=ws.registry.county.notice_days,
            )  # fmt: skip
            return {"advice": advice, "endings": endings}
    except DataError as error:
        return {"advice": Advice("unavailable", problem=str(error))}
