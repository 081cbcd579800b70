"""Everything known about one household's grade of one month, read from the tables as they were graded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
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
from etl.reports.advice import Advice, advise, scorecard_of
from etl.reports.explain_guide import Guidance, Guide, load_guide
from etl.reports.peers import Group, Quartiles, peer_group, quartiles
from etl.vocabulary import DataError
from etl.workspace import Workspace

TABLES: Final = ("core_household_grades", "core_household_points", "core_households", "core_members", "core_loans")
HELD: Final = "held"
_EVIDENCE: Final = re.compile(
    r"(?P<table>[a-z_]+)(?:@(?P<period>\d{4}-\d{2}))?(?::(?P<keys>.*?))?(?: \+(?P<more>\d+))?"
)
_BANKS: Final = """
    SELECT DISTINCT bank_code FROM core_loans
    WHERE household_key = $key OR co_person_key IN (SELECT person_key FROM core_members WHERE household_key = $key)
    ORDER BY bank_code"""


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
    """One indicator of the household: what the policy says of it and what the household has."""

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
    """One household's grade of one month, with everything that may be said of it; `etl.reports.explain` says to whom."""

    ws: Workspace
    inputs: MonthInputs
    graded: Grading
    guide: Guide
    household_no: str
    household_key: str
    grade: Mapping[str, Any]
    lines: Sequence[Line]
    banks: Sequence[str]
    group: Group | None
    quartiles: Mapping[str, Quartiles]
    advice: Advice | None

    @property
    def period(self) -> Period:
        return self.inputs.period

    @property
    def policies(self) -> Policies:
        return self.inputs.policies

    @property
    def version(self) -> ScorecardVersion:
        """The scorecard that graded the household: its town's own, else the county's."""
        return scorecard_of(self.policies, self.grade["town_code"])

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


def read_explanation(ws: Workspace, household_no: str, period: str, *, with_advice: bool = True) -> Explanation:
    """Read a household's grade of a month from what was graded last, and search for advice.

    Raises DataError for a month without grades, a number no household of the month has, and grades of a policy that is
    no longer the one in force for the month.
    """
    graded = ws.ledger.last_grading(period)
    if graded is None:
        raise DataError(f"{period}: not graded yet", f"grade it first: creditvillage run --period {period}")
    inputs, guide = months.inputs_of(ws, period), load_guide(ws.settings.config)
    key = key_of(ws, household_no.strip())
    with ws.engine() as engine:
        for table in TABLES:
            months.register_staged(engine, ws, table, table, [graded])
        grade = _grade(engine, key, period)
        version = scorecard_of(inputs.policies, grade["town_code"])
        _require_policy(version, grade, period)
        lines = _lines(engine, key, version, guide)
        group = peer_group(engine, key)
        return Explanation(
            ws=ws, inputs=inputs, graded=graded, guide=guide, household_no=household_no.strip(), household_key=key,
            grade=grade, lines=lines, banks=[bank for (bank,) in engine.fetch(_BANKS, {"key": key})], group=group,
            quartiles=_quartiles(engine, group, key, [line.indicator.block for line in lines]),
            advice=_advice(ws, guide, key, period) if with_advice else None,
        )  # fmt: skip


def _grade(engine: DuckEngine, key: str, period: str) -> dict[str, Any]:
    table = engine.arrow("SELECT * FROM core_household_grades WHERE household_key = $key", {"key": key})
    if table.num_rows == 0:
        raise DataError(f"{period}: no household has this number", "check the number and the month")
    [row] = table.to_pylist()
    return dict(row)


def _require_policy(version: ScorecardVersion, grade: Mapping[str, Any], period: str) -> None:
    if grade["policy_version"] != version.version:
        raise DataError(
            f"{period}: graded under household policy {grade['policy_version']}, {version.version} is in force now",
            f"grade it again: creditvillage run --period {period}",
        )


def _lines(engine: DuckEngine, key: str, version: ScorecardVersion, guide: Guide) -> list[Line]:
    """Lines in the policy's order; none for a household without a score."""
    columns = "indicator, value_text, band, points, state, input_state, evidence"
    rows = engine.arrow(f"SELECT {columns} FROM core_household_points WHERE household_key = $key", {"key": key})
    found = {row["indicator"]: row for row in rows.to_pylist()}
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


def _advice(ws: Workspace, guide: Guide, key: str, period: str) -> Advice:
    """Advice under the policy in force; "unavailable" where the month's inputs are no longer those it was graded from."""
    try:
        with frozen_month(ws, period, households=[key]) as month:
            month.grade()
            return advise(
                month.engine, month.inputs.policies, ws.models, guide, key,
                lambda statement: months.run_statement(month.engine, month.inputs, statement),
            )  # fmt: skip
    except DataError as error:
        return Advice("unavailable", problem=str(error))
