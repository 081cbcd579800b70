"""Quarantine with replay: after a rule, code list or correction changed, read the landed bytes again without a resend.

A delivery is looked at first and nothing is stored; only where another examination would answer differently it becomes a
new revision with a receipt of its own, in force if accepted. The month is then ready again by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from etl import pipeline
from etl.contract.predicates import accepted_columns
from etl.deliveries import Subject, path_of, subject_of
from etl.engine.duck import DuckEngine
from etl.examination import examine
from etl.ledger.records import Delivery
from etl.requalified import NOTE, changed_counts
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

ACCEPTED: Final = ("accepted", "accepted_with_warnings")
EXAMINED: Final = (*ACCEPTED, "rejected", "unreadable")
STATES: Final[Mapping[str, Mapping[str, str]]] = {
    "requalified": {"zh": "已重新检查，新回执", "en": "examined again, new receipt"},
    "same": {"zh": "结果不变，未作改动", "en": "the same outcome, nothing done"},
    "same_rules": {"zh": "规则未变", "en": "under these rules already"},
    "under_way": {"zh": "有更新的报送在处理", "en": "a newer delivery is under way"},
    "bytes_gone": {"zh": "原始文件已依法删除", "en": "its bytes were deleted"},
}


@dataclass(frozen=True)
class Requalified:
    """What became of one delivery that a change concerns; `revision` is the new delivery, where there is one."""

    base: Delivery
    state: str
    revision: Delivery | None = None


def requalify(
    settings: Settings, rule: str, *, bank: str | None = None, period: str | None = None, now: datetime
) -> list[Requalified]:
    """Examine again what a change of `rule` (a rule, code list or correction) concerns; running it twice is harmless.

    Raises ConfigurationError for a name that no configuration knows and no answered delivery bears.
    """
    ws = Workspace(settings)
    held = ws.ledger.deliveries(period, bank)
    concerns = _concerned(ws, rule)
    known = concerns is not None or any(rule in _named(one) for one in held)
    if not known:
        mend = "see expectations/codebook.csv, config/codes and config/corrections.yml for the names there are"
        raise ConfigurationError("requalify", rule, "no such rule, code list or correction", mend)
    chosen = (one for one in held if rule in _named(one) or (concerns is not None and concerns(one)))
    series = {(one.period, one.supplier, one.dataset) for one in chosen}
    grouped = groupby(held, key=lambda one: (one.period, one.supplier, one.dataset))
    return [
        result for key, each in grouped if key in series for result in _of_series(ws, list(each), rule=rule, now=now)
    ]


def _named(delivery: Delivery) -> set[str]:
    """Rules and corrections an answered delivery bears."""
    details = delivery.details or {}
    return {*delivery.counts_by_rule, *details.get("shadow", {}), *details.get("corrected", {})}


def _concerned(ws: Workspace, rule: str) -> Callable[[Delivery], bool] | None:
    """Which deliveries today's rule, code list or correction of that name is for; None when there is none."""
    datasets = {
        contract.dataset
        for contract in ws.contracts.values()
        if any(one.id == rule for one in (*contract.row_rules, *contract.macro_rules))
        or any(column.codes == rule for column in contract.delivered)
    }
    if datasets - {None}:
        return lambda one: one.dataset in datasets
    mends = [one for one in ws.corrections if one.id == rule]
    if mends:
        return lambda one: (one.supplier, one.dataset) == (mends[0].bank, mends[0].dataset)
    return None


def _of_series(ws: Workspace, series: Sequence[Delivery], *, rule: str, now: datetime) -> Iterator[Requalified]:
    """The newest content of a supplier, dataset and month; and what is in force, unless the newest takes its place."""
    answered = [one for one in series if one.outcome in EXAMINED and one.landed_path]
    in_force = [one for one in answered if one.in_force]
    bases = {one.delivery_id: one for one in (*answered[-1:], *in_force)}
    for base in bases.values():
        result = _again(ws, base, series, rule=rule, now=now)
        yield result
        if result.revision is not None and result.revision.in_force:
            return


def _again(ws: Workspace, base: Delivery, series: Sequence[Delivery], *, rule: str, now: datetime) -> Requalified:
    if base.wrapped_key is None:
        return Requalified(base, "bytes_gone")
    try:
        subject = subject_of(ws, base)
    except LookupError:
        return Requalified(base, "same")
    origin = base.requalifies or base.delivery_id
    content = [one for one in series if origin in (one.delivery_id, one.requalifies) and one.outcome in EXAMINED]
    if content[-1].ruleset == subject.ruleset:
        return Requalified(base, "same_rules")
    if not _differs(ws, subject):
        return Requalified(base, "same")
    claimed = ws.ledger.requalify(base.delivery_id, now=now, cause=f"requalified: {rule}")
    if claimed is None:
        return Requalified(base, "under_way")
    return Requalified(base, "requalified", pipeline.take_in(ws.settings, claimed.delivery_id, now=now, ws=ws))


def _differs(ws: Workspace, subject: Subject) -> bool:
    """Whether today's rules would give another outcome, other accepted rows or other findings; stores nothing."""
    base = subject.delivery
    with ws.engine() as engine, TemporaryDirectory(dir=ws.spill) as folder:
        verdict, _ = examine(engine, ws, subject, into=Path(folder))
        if not verdict.is_accepted:
            return base.outcome in ACCEPTED
        if base.outcome not in ACCEPTED or changed_counts(_own_counts(ws, base), verdict.counts_by_rule):
            return True
        return _accepts_otherwise(engine, ws, subject, Path(folder) / "accepted.parquet")


def _own_counts(ws: Workspace, base: Delivery) -> dict[str, int]:
    """Findings of the file by itself: rules across files are run when a revision is made."""
    return {
        rule: hits for rule, hits in base.counts_by_rule.items() if rule not in ws.contracts.across and rule != NOTE
    }


def _accepts_otherwise(engine: DuckEngine, ws: Workspace, subject: Subject, accepted_now: Path) -> bool:
    """Whether a row would be accepted that was not, or the reverse, or a value would be another."""
    columns = accepted_columns(subject.contract)
    engine.register_parquet("accepted_now", [accepted_now], columns)
    engine.register_parquet("accepted_then", [path_of(ws, "accepted", subject.delivery)], columns)
    compared = [name for name in columns if name != "_delivery"]
    return engine.content("accepted_now", compared) != engine.content("accepted_then", compared)
