"""What a rule would have found: one rule over the deliveries in force of past months, before it bites.

The months a rule is in force and its action do not matter here. It runs over accepted rows: over their Parquet where that
has every column the rule looks at, otherwise over the landed bytes, read and cast as today. Only counts leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlglot import exp

from etl import across
from etl.contract.across import AcrossRule
from etl.contract.casts import staged_type
from etl.contract.language import RAW, quote
from etl.contract.model import Contract, Rule
from etl.contract.predicates import accepted_columns, findings_select, macro_select
from etl.deliveries import Subject, path_of, subject_of
from etl.engine.duck import DuckEngine
from etl.examination import typed_pieces
from etl.ledger.records import Delivery
from etl.period import Period
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

ACCEPTED_ROWS, LANDED_BYTES, LEDGER = "accepted", "landed", "ledger"


@dataclass(frozen=True)
class Hits:
    """One rule over one delivery (or, for a rule across files, one supplier and month).

    `hits` is None where it could not run, and `note` says why; `rows` are the accepted rows of the delivery; `ran_on` is
    accepted (Parquet), landed (bytes) or ledger (its numbers).
    """

    supplier: str
    period: str
    delivery_id: str
    rows: int
    hits: int | None
    ran_on: str = ""
    note: str = ""

    @property
    def share_pct(self) -> str | None:
        """Hits per hundred accepted rows, two decimals cut off; None where there is no row or it did not run."""
        if self.hits is None or not self.rows:
            return None
        whole, rest = divmod(self.hits * 10_000 // self.rows, 100)
        return f"{whole}.{rest:02d}"


@dataclass(frozen=True)
class Backtest:
    """A rule with what it would have found, in the order of suppliers and months."""

    rule: str
    action: str
    results: tuple[Hits, ...]

    @property
    def not_run(self) -> tuple[Hits, ...]:
        return tuple(one for one in self.results if one.hits is None)


def backtest(settings: Settings, rule_id: str, *, first: Period | None = None, last: Period | None = None) -> Backtest:
    """Run one rule over accepted history; raises ConfigurationError for an id that is no rule over deliveries."""
    ws = Workspace(settings)
    held = [one for one in ws.ledger.deliveries() if one.in_force and _within(one, first, last)]
    if rule_id in ws.contracts.across:
        rule = ws.contracts.across[rule_id]
        return Backtest(rule.id, rule.action, tuple(_across_history(ws, rule, held)))
    contract, found = _rule(ws, rule_id)
    wanted = sorted(
        (one for one in held if one.dataset == contract.dataset), key=lambda one: (one.supplier, one.period)
    )
    return Backtest(found.id, found.action, tuple(_over(ws, contract, found, one) for one in wanted))


def _within(delivery: Delivery, first: Period | None, last: Period | None) -> bool:
    month = Period.parse(delivery.period)
    return (first is None or first <= month) and (last is None or month <= last)


def _rule(ws: Workspace, rule_id: str) -> tuple[Contract, Rule]:
    for contract in ws.contracts.values():
        for rule in contract.rules:
            if rule.id == rule_id:
                if contract.dataset is None or rule.at == "release":
                    mend = "it is audited on every staged release; see audit and Data Docs"
                    raise ConfigurationError(contract.path, rule_id, "not a rule over deliveries", mend)
                return contract, rule
    mend = "add it to an expectations/*.yml (action: shadow, or a `from` in the future, keeps it silent)"
    raise ConfigurationError("backtest", rule_id, "no such rule", mend)


def _across_history(ws: Workspace, rule: AcrossRule, held: Iterable[Delivery]) -> Iterator[Hits]:
    """One line for each supplier (or, over everybody's files, one) and month in which its own file is in force."""
    subjects = [one for one in held if one.dataset == rule.dataset]
    if not rule.is_own:
        for month in sorted({one.period for one in subjects}):
            rows = sum(one.rows_accepted or 0 for one in subjects if one.period == month)
            yield _hits_across(ws, rule, None, month, "", rows)
        return
    for one in sorted(subjects, key=lambda each: (each.supplier, each.period)):
        yield _hits_across(ws, rule, one.supplier, one.period, one.delivery_id, one.rows_accepted or 0)


def _hits_across(
    ws: Workspace, rule: AcrossRule, supplier: str | None, month: str, delivery_id: str, rows: int
) -> Hits:
    base = Hits(supplier or "*", month, delivery_id, rows, None, ACCEPTED_ROWS)
    found = across.over_history(ws, rule, supplier, Period.parse(month))
    if found is None:
        needed = ", ".join(relation.name for relation in rule.relations)
        return replace(base, ran_on="", note=f"a file it reads is not in force ({needed})")
    return replace(base, hits=found.count)


# -- one delivery -----------------------------------------------------------------------------------------------------


def _over(ws: Workspace, contract: Contract, rule: Rule, delivery: Delivery) -> Hits:
    base = Hits(delivery.supplier, delivery.period, delivery.delivery_id, delivery.rows_accepted or 0, None)
    try:
        subject = subject_of(ws, delivery)
    except (LookupError, ConfigurationError):
        return replace(base, note="no layout of today's configuration is for this delivery")
    subject = replace(subject, contract=_alone(contract, rule))
    if rule.family == "macro":
        return replace(base, hits=_macro_hits(ws, subject, delivery), ran_on=LEDGER)
    absent = [name for name in rule.columns if name not in subject.layout.canonical]
    if absent:
        return replace(base, note=f"the layout does not deliver {', '.join(absent)}")
    accepted = path_of(ws, ACCEPTED_ROWS, delivery)
    if not accepted.exists():
        return replace(base, note="its accepted rows are gone from the restricted zone")
    if _is_in_parquet(contract, rule):
        return replace(base, hits=_parquet_hits(ws, subject, accepted), ran_on=ACCEPTED_ROWS)
    if delivery.wrapped_key is None or not Path(str(delivery.landed_path)).exists():
        return replace(base, note="it needs the landed bytes, and they are gone")
    return replace(base, hits=_landed_hits(ws, subject, accepted), ran_on=LANDED_BYTES)


def _alone(contract: Contract, rule: Rule) -> Contract:
    """The contract with this one rule, in force whatever the month."""
    return replace(contract, rules=(replace(rule, since=None, until=None),))


def _macro_hits(ws: Workspace, subject: Subject, delivery: Delivery) -> int:
    read, rejected = delivery.rows_read or 0, delivery.rows_rejected or 0
    sql = macro_select(
        subject.contract, subject.feed.accept, rows_read=read, rows_rejected=rejected, context=subject.context
    )
    with DuckEngine() as engine:
        return len(engine.fetch(sql))


def _is_in_parquet(contract: Contract, rule: Rule) -> bool:
    """Whether accepted rows answer the rule exactly: no identity, no raw cell, no absence of a cell that failed."""
    kept = accepted_columns(contract)
    if rule.kind == "unique" or rule.sql is None or not all(name in kept for name in rule.columns):
        return False
    raw = any(column.name.endswith(RAW) for column in rule.tree.find_all(exp.Column))
    return not raw and rule.tree.find(exp.Is) is None


def _parquet_hits(ws: Workspace, subject: Subject, accepted: Path) -> int:
    contract = subject.contract
    with ws.engine() as engine:
        engine.register_parquet("accepted_rows", [accepted], accepted_columns(contract))
        kept = [column for column in contract.delivered if column.name in accepted_columns(contract)]
        items = [f"CAST({quote(c.name)} AS {staged_type(c)}) AS {quote(c.name)}" for c in kept]
        engine.run_view("typed", f"SELECT _member, _row, {', '.join(items)} FROM accepted_rows")
        return _counted(engine, subject)


def _landed_hits(ws: Workspace, subject: Subject, accepted: Path) -> int:
    """The rule over the landed bytes, as far as their rows were accepted."""
    with ws.engine() as engine:
        engine.register_parquet("accepted_rows", [accepted], {"_member": "VARCHAR", "_row": "BIGINT"})
        for number in typed_pieces(engine, ws, subject):
            wanted = "SELECT typed.* FROM typed SEMI JOIN accepted_rows USING (_member, _row)"
            engine.con.execute(f"{'INSERT INTO' if number else 'CREATE TABLE'} taken {'' if number else 'AS '}{wanted}")
        return _counted(engine, subject, "taken")


def _counted(engine: DuckEngine, subject: Subject, relation: str = "typed") -> int:
    select = findings_select(subject.contract, subject.layout, relation=relation, context=subject.context)
    return int(engine.fetch(f"SELECT count(*) FROM ({select}) AS found")[0][0])
