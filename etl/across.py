"""Rules across files at work: when a delivery is accepted, when a month is graded, and whenever somebody asks.

A rule over one supplier's files runs as soon as all files it reads are there, that is with the later of them; what it
finds goes into that delivery's receipt. Rules over everybody's files run when the month is graded and stay with the
county. `audit.findings` always holds what each rule found last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.across import ORIGIN, AcrossRule, Relation, bounds_of, filled
from etl.contract.predicates import accepted_columns, rejected_columns
from etl.deliveries import Verdict, path_of
from etl.engine.duck import DuckEngine
from etl.findings import FileFinding
from etl.ledger.records import Delivery
from etl.period import Period
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

_SHOWN_ROWS = 10
_AUDIT = pa.schema(
    [
        ("delivery_id", pa.string()),
        ("supplier", pa.string()),
        ("dataset", pa.string()),
        ("member", pa.string()),
        ("row_no", pa.int64()),
        ("rule", pa.string()),
        ("family", pa.string()),
        ("action", pa.string()),
        ("column_name", pa.string()),
    ]
)
Behind = Mapping[Relation, Sequence[Delivery]]


@dataclass(frozen=True)
class Found:
    """What one rule found in one month: rows of deliveries (`_delivery`, `_member`, `_row`), or facts about a file."""

    rule: AcrossRule
    period: Period
    behind: Behind
    rows: pa.Table
    facts: Sequence[Mapping[str, Any]]

    @property
    def count(self) -> int:
        return int(self.rows.num_rows) + len(self.facts)

    @property
    def subject(self) -> Delivery:
        """The delivery a finding about a file as a whole belongs to."""
        wanted = [r for r in self.behind if r.dataset == self.rule.dataset and not r.is_previous]
        return self.behind[(wanted or list(self.behind))[0]][0]

    @property
    def deliveries(self) -> dict[str, Delivery]:
        return {one.delivery_id: one for each in self.behind.values() for one in each}

    def audit(self) -> pa.Table:
        """Its findings as `audit.findings` keeps them."""
        whole = pa.nulls(len(self.facts))
        subject = pa.array([self.subject.delivery_id] * len(self.facts), pa.string())
        ids = pa.concat_arrays([*_chunks(self.rows["_delivery"]), subject])
        owners = list(self.deliveries.values())
        place = pc.index_in(ids, value_set=pa.array([one.delivery_id for one in owners], pa.string()))
        columns: dict[str, Any] = {
            "delivery_id": ids,
            "supplier": pa.array([one.supplier for one in owners], pa.string()).take(place),
            "dataset": pa.array([one.dataset for one in owners], pa.string()).take(place),
            "member": pa.concat_arrays([*_chunks(self.rows["_member"]), whole.cast(pa.string())]),
            "row_no": pa.concat_arrays([*_chunks(self.rows["_row"]), whole.cast(pa.int64())]),
        }
        constants = {"rule": self.rule.id, "family": self.rule.family, "action": self.rule.action}
        constants["column_name"] = self.rule.column or None  # type: ignore[assignment]
        columns |= {name: pa.repeat(pa.scalar(value, pa.string()), self.count) for name, value in constants.items()}
        return pa.table([columns[name] for name in _AUDIT.names], schema=_AUDIT)


def _chunks(column: pa.ChunkedArray) -> list[pa.Array]:
    return list(column.chunks) or [pa.array([], column.type)]


@dataclass(frozen=True)
class Told:
    """What ran because a delivery was accepted."""

    delivery: Delivery
    found: Sequence[Found] = field(default_factory=list)


def at_arrival(ws: Workspace, delivery: Delivery) -> Told:
    """Run what reads an accepted delivery: the rules of its month, and those of the next that look back at it.

    Nothing runs for a delivery that comes too late to be in force. The caller holds `turn`.
    """
    month = Period.parse(delivery.period)
    same = ws.ledger.in_force(delivery.period, delivery.supplier)
    if any(one.dataset == delivery.dataset and one.sequence > delivery.sequence for one in same):
        return Told(delivery)
    due = [(rule, month) for rule in _own(ws, month) if _reads(rule, delivery.dataset, is_previous=False)]
    due += [(rule, month.next()) for rule in _own(ws, month.next()) if _reads(rule, delivery.dataset, is_previous=True)]
    return Told(delivery, list(_run_all(ws, due, delivery.supplier, delivery)))


@contextmanager
def turn(ws: Workspace, delivery: Delivery) -> Iterator[None]:
    """Let one delivery of a supplier after the other be answered, so that the later of two always sees the earlier."""
    concerned = any(delivery.dataset == one.dataset for rule in ws.contracts.across.values() for one in rule.relations)
    with ws.ledger.lock(f"across/{delivery.supplier}") if concerned else nullcontext():
        yield


def _own(ws: Workspace, month: Period) -> list[AcrossRule]:
    return [rule for rule in ws.contracts.across.values() if rule.is_own and rule.applies_in(month)]


def _reads(rule: AcrossRule, dataset: str, *, is_previous: bool) -> bool:
    return any(one.dataset == dataset and one.is_previous == is_previous for one in rule.relations)


def _run_all(
    ws: Workspace, due: Iterable[tuple[AcrossRule, Period]], supplier: str | None, arriving: Delivery | None = None
) -> Iterator[Found]:
    """Run those rules whose files are all there; an engine is only made for those."""
    in_force = _InForce(ws, arriving, supplier)
    ready = [(rule, month, in_force.behind(rule, supplier, month)) for rule, month in due]
    runnable = [(rule, month, behind) for rule, month, behind in ready if behind is not None]
    if not runnable:
        return
    with ws.engine() as engine:
        for rule, month, behind in runnable:
            yield run_rule(engine, ws, rule, supplier, month, behind)


class _InForce:
    """The deliveries in force of each month, asked for once; one that is about to be is taken as if it were.

    With a supplier only its own, which are all that its rules read.
    """

    def __init__(self, ws: Workspace, arriving: Delivery | None, supplier: str | None) -> None:
        self._ws, self._arriving, self._supplier = ws, arriving, supplier
        self._months: dict[Period, list[Delivery]] = {}

    def behind(self, rule: AcrossRule, supplier: str | None, month: Period) -> Behind | None:
        """The deliveries behind each relation of a rule; None when one is not there."""
        found = {relation: self._of(relation, supplier, month) for relation in rule.relations}
        return found if all(found.values()) else None

    def _of(self, relation: Relation, supplier: str | None, month: Period) -> list[Delivery]:
        held = self._month(month.previous() if relation.is_previous else month)
        same = [one for one in held if one.dataset == relation.dataset]
        return same if relation.is_everybody else [one for one in same if one.supplier == supplier]

    def _month(self, month: Period) -> list[Delivery]:
        if month not in self._months:
            self._months[month] = self._with_arriving(self._ws.ledger.in_force(str(month), self._supplier), month)
        return self._months[month]

    def _with_arriving(self, held: list[Delivery], month: Period) -> list[Delivery]:
        new = self._arriving
        if new is None or new.period != str(month):
            return held
        return [one for one in held if (one.supplier, one.dataset) != (new.supplier, new.dataset)] + [new]


def run_rule(
    engine: DuckEngine, ws: Workspace, rule: AcrossRule, supplier: str | None, month: Period, behind: Behind
) -> Found:
    """Run one rule over the files behind its relations; raises ConfigurationError when its SQL does not run."""
    for relation, deliveries in behind.items():
        contract = ws.contract_of(relation.dataset)
        columns = rejected_columns(contract) if relation.is_rejected else accepted_columns(contract)
        kind = "rejected" if relation.is_rejected else "accepted"
        engine.register_parquet(relation.name, [path_of(ws, kind, one) for one in deliveries], columns)
    bounds = bounds_of(ws.bounds, rule.id, supplier or "")
    try:
        engine.run_model("across_found", rule.sql, rule.params(month, bounds))
    except duckdb.Error as error:
        problem = str(error).splitlines()[0]
        raise ConfigurationError(rule.path, f"rules.{rule.id}.sql", problem, "correct the SELECT") from None
    return _found(engine, rule, month, behind)


def _found(engine: DuckEngine, rule: AcrossRule, month: Period, behind: Behind) -> Found:
    names = {name for (name, *_) in engine.fetch("DESCRIBE across_found")}
    if names >= set(ORIGIN):
        of_rows = "SELECT DISTINCT _delivery, _member, _row FROM across_found ORDER BY ALL"
        return Found(rule, month, behind, engine.con.sql(of_rows).to_arrow_table(), [])
    nothing = pa.schema([("_delivery", pa.string()), ("_member", pa.string()), ("_row", pa.int64())]).empty_table()
    facts = engine.con.sql("SELECT * FROM across_found ORDER BY ALL").to_arrow_table().to_pylist()
    return Found(rule, month, behind, nothing, facts)


# -- what the supplier is told ----------------------------------------------------------------------------------------


def with_told(verdict: Verdict, told: Told) -> Verdict:
    """The verdict of a delivery with what the rules across files may tell its supplier; shadow rules are counted."""
    shown = [found for found in told.found if found.rule.is_told and found.count]
    shadow = {f.rule.id: f.count for f in told.found if f.rule.is_own and not f.rule.is_told and f.count}
    rows = [_own_rows(found, told.delivery) for found in shown]
    files = [finding for found in shown for finding in _file_findings(found, told.delivery)]
    counts = dict(verdict.counts_by_rule)
    for found, table in zip(shown, rows, strict=True):
        counts[found.rule.id] = table.num_rows + sum(finding.rule == found.rule.id for finding in files)
    return replace(
        verdict,
        outcome="accepted_with_warnings" if shown else verdict.outcome,
        counts_by_rule=counts,
        shadow_counts={**verdict.shadow_counts, **shadow},
        file_findings=[*verdict.file_findings, *files],
        findings=pa.concat_tables([verdict.findings, *rows]) if verdict.findings is not None else None,
    )


def _own_rows(found: Found, delivery: Delivery) -> pa.Table:
    """Findings about rows of the delivery itself, in the columns of its other findings."""
    own = found.rows.filter(pc.equal(found.rows["_delivery"], delivery.delivery_id))
    texts = {"rule": found.rule.id, "family": found.rule.family, "action": found.rule.action}
    constants = {name: pa.repeat(pa.scalar(text, pa.string()), own.num_rows) for name, text in texts.items()}
    column = pa.repeat(pa.scalar(found.rule.column or None, pa.string()), own.num_rows)
    return pa.table({"_member": own["_member"], "_row": own["_row"], **constants, "column_name": column})


def _file_findings(found: Found, delivery: Delivery) -> Iterator[FileFinding]:
    """Findings about the file as a whole, and one for each other file of the supplier with rows concerned."""
    rule = found.rule
    for facts in found.facts:
        says = filled(rule.says, facts)
        yield FileFinding(rule.id, "", says.zh, says.en, rule.fix.zh, rule.family, rule.action)
    for other in found.deliveries.values():
        rows = found.rows.filter(pc.equal(found.rows["_delivery"], other.delivery_id))["_row"]
        if len(rows) and other.delivery_id != delivery.delivery_id:
            yield _about_other_file(rule, other, rows)


def _about_other_file(rule: AcrossRule, other: Delivery, rows: pa.ChunkedArray) -> FileFinding:
    first = [str(row) for row in rows.slice(0, _SHOWN_ROWS).to_pylist()]
    more = "…" if len(rows) > _SHOWN_ROWS else ""
    zh = f"{rule.says.zh}（见 {other.period} 的 {other.name} 第 {'、'.join(first)}{more} 行，共 {len(rows)} 行）"
    en = f"{rule.says.en} (see {other.name} of {other.period}, rows {', '.join(first)}{more}: {len(rows)} rows)"
    return FileFinding(rule.id, other.name, zh, en, rule.fix.zh, rule.family, rule.action)


def left_out(ws: Workspace, findings: pa.Table) -> pa.Table:
    """A delivery's findings for the audit without those of rules across files, which `save` keeps by month and rule."""
    rules = pa.array(list(ws.contracts.across), pa.string())
    return findings.filter(pc.invert(pc.is_in(findings["rule"], value_set=rules)))


def save(ws: Workspace, told: Told) -> None:
    """Keep what ran in `audit.findings`, in place of what the same rules had found in the same month."""
    _save(ws, told.found, told.delivery.supplier)


def _save(ws: Workspace, found: Sequence[Found], supplier: str | None) -> None:
    for month in sorted({one.period for one in found}):
        ran = [one for one in found if one.period == month]
        table = pa.concat_tables([one.audit() for one in ran])
        ws.ledger.save_across(str(month), [one.rule.id for one in ran], table, supplier=supplier)


# -- a month ----------------------------------------------------------------------------------------------------------


def settle(ws: Workspace, period: str) -> list[Found]:
    """Run the rules over everybody's files of a month; what they find is kept for the county alone."""
    month = Period.parse(period)
    rules = [rule for rule in ws.contracts.across.values() if not rule.is_own and rule.applies_in(month)]
    found = list(_run_all(ws, [(rule, month) for rule in rules], None))
    _save(ws, found, None)
    return found


@dataclass(frozen=True)
class Line:
    """One rule, supplier (None: everybody) and month: how many findings; None when a file it reads is not there."""

    rule: AcrossRule
    supplier: str | None
    count: int | None


def run_month(ws: Workspace, period: str, *, supplier: str | None = None) -> list[Line]:
    """Run all rules of a month again, for one supplier or for all; keeps what they find, writes no receipt."""
    month = Period.parse(period)
    held = {one.supplier for one in ws.ledger.in_force(period) if one.supplier in ws.registry.banks}
    lines = []
    for bank in sorted(held if supplier is None else held & {supplier}):
        rules = [rule for rule in _own(ws, month) if _concerns(ws, rule, bank)]
        found = list(_run_all(ws, [(rule, month) for rule in rules], bank))
        _save(ws, found, bank)
        counts = {one.rule.id: one.count for one in found}
        lines += [Line(rule, bank, counts.get(rule.id)) for rule in rules]
    if supplier is None:
        lines += [Line(one.rule, None, one.count) for one in settle(ws, period)]
    return lines


def _concerns(ws: Workspace, rule: AcrossRule, bank: str) -> bool:
    return {relation.dataset for relation in rule.relations} <= set(ws.registry.banks[bank].feeds)


def over_history(ws: Workspace, rule: AcrossRule, supplier: str | None, month: Period) -> Found | None:
    """What a rule, in force or not, finds among the deliveries in force of one month; None when a file is missing."""
    return next(_run_all(ws, [(rule, month)], supplier), None)
