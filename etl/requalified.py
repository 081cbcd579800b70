"""What a supplier is told when the county has examined its file again without a resend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from etl.deliveries import Verdict, path_of
from etl.engine.duck import DuckEngine
from etl.findings import FileFinding
from etl.ledger.records import Delivery
from etl.vocabulary import OUTCOME_LABELS
from etl.workspace import Workspace

NOTE = "N101"
_SHOWN_ROWS = 10
_ROWS = {"_member": "VARCHAR", "_row": "BIGINT"}


@dataclass(frozen=True)
class Change:
    """How another examination differs from the one before: row numbers that came in and went out, counts by rule."""

    admitted: tuple[int, ...]
    withdrawn: tuple[int, ...]
    counts: Mapping[str, tuple[int, int]]

    def __bool__(self) -> bool:
        return bool(self.admitted or self.withdrawn or self.counts)


def with_note(ws: Workspace, delivery: Delivery, verdict: Verdict, *, now: datetime) -> Verdict:
    """The verdict with a note to the supplier, if the delivery is one that is examined again."""
    if delivery.requalifies is None:
        return verdict
    base = before(ws, delivery)
    rows = changed_rows(ws, path_of(ws, "accepted", base), path_of(ws, "accepted", delivery))
    change = Change(*rows, changed_counts(base.counts_by_rule, verdict.counts_by_rule))
    cause = ws.ledger.transitions(delivery.delivery_id)[0].cause
    found = _note(base, verdict, change, cause, now.astimezone(ZoneInfo(ws.registry.county.timezone)))
    return replace(verdict, file_findings=[*verdict.file_findings, found])


def before(ws: Workspace, delivery: Delivery) -> Delivery:
    """The latest delivery with an outcome whose bytes this one examines again."""
    series = ws.ledger.deliveries(delivery.period, delivery.supplier)
    same = (one for one in series if delivery.requalifies in (one.delivery_id, one.requalifies))
    return [one for one in same if one.outcome is not None and one.sequence < delivery.sequence][-1]


def changed_rows(ws: Workspace, old: Path, new: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows accepted now and not before, and the reverse; a file that is not there accepted nothing."""
    with DuckEngine(memory_limit=ws.settings.memory_limit) as engine:
        for name, path in (("old", old), ("new", new)):
            engine.register_parquet(name, [path] if path.exists() else [], _ROWS)
        admitted = engine.fetch("SELECT _row FROM new ANTI JOIN old USING (_member, _row) ORDER BY _row")
        withdrawn = engine.fetch("SELECT _row FROM old ANTI JOIN new USING (_member, _row) ORDER BY _row")
    return tuple(row for (row,) in admitted), tuple(row for (row,) in withdrawn)


def changed_counts(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """{rule: (before, now)} for each rule whose number of findings differs; notes are none."""
    rules = sorted({*old, *new} - {NOTE})
    pairs = {rule: (old.get(rule, 0), new.get(rule, 0)) for rule in rules}
    return {rule: pair for rule, pair in pairs.items() if pair[0] != pair[1]}


def _note(base: Delivery, verdict: Verdict, change: Change, cause: str, at: datetime) -> FileFinding:
    labels = OUTCOME_LABELS[str(base.outcome)], OUTCOME_LABELS[verdict.outcome]
    zh = (
        f"县里于 {at:%Y-%m-%d} 按现行规则重新检查了此前已回执（{base.delivery_id}）的同一文件，无需重报。"
        f"原因：{cause}。结果：{labels[0]['zh']} → {labels[1]['zh']}；"
        f"新接收 {_rows(change.admitted, '第 {} 行，共 {} 行', '0 行')}；"
        f"不再接收 {_rows(change.withdrawn, '第 {} 行，共 {} 行', '0 行')}；{_rules(change.counts.items(), '提示数')}"
    )
    en = (
        f"on {at:%Y-%m-%d} the county examined the file answered as {base.delivery_id} again under today's rules; no "
        f"resend is needed. Cause: {cause}. Outcome: {labels[0]['en']} → {labels[1]['en']}; "
        f"admitted {_rows(change.admitted, 'rows {} ({} in all)', 'no row')}; "
        f"withdrawn {_rows(change.withdrawn, 'rows {} ({} in all)', 'no row')}; {_rules(change.counts.items(), 'findings')}"
    )
    return FileFinding(NOTE, "", zh, en, "无需处理", "macro", "notice")


def _rows(rows: tuple[int, ...], form: str, none: str) -> str:
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS]) + ("…" if len(rows) > _SHOWN_ROWS else "")
    return form.format(shown, len(rows)) if rows else none


def _rules(counts: Iterable[tuple[str, tuple[int, int]]], title: str) -> str:
    return f"{title}: " + (", ".join(f"{rule} {old} → {new}" for rule, (old, new) in counts) or "=")
