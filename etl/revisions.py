"""What a delivery means beside those before it: settled warnings, rows and findings that changed, loss of too many rows.

Runs after the check and before the answer. The restricted zone keeps, for each delivery, its findings as keyed tokens
(`findings/<dataset>/<supplier>/<delivery_id>.parquet`), never a value or a number: with them the next revision is
compared, and warnings that a bank confirms are recognised again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.deliveries import Subject, Verdict, known_exceptions, path_of, standing_before
from etl.engine.duck import DuckEngine
from etl.findings import FILE_RULES, FileFinding
from etl.intake.receipt import CONFIRMED, KNOWN
from etl.intake.revision import (
    FINDING_COLUMNS,
    FINDINGS,
    FindingDiff,
    RowDiff,
    diff_findings,
    diff_rows,
    mark_findings,
    settle,
)
from etl.ledger.confirmations import confirmed_warnings
from etl.ledger.records import Delivery
from etl.workspace import Workspace

_ANSWERED: Final = ("accepted", "accepted_with_warnings", "rejected", "unreadable")
_TOO_FEW_FIX: Final = "请核对是否漏报；确需减少的，请先与县里联系"


def review(engine: DuckEngine, ws: Workspace, subject: Subject, verdict: Verdict) -> Verdict:
    """The verdict with what is settled and what changed; a revision that loses too many rows is refused.

    A pull brings changes only and nobody answers it, so it is left as it is.
    """
    if subject.layout.format == "database":
        return verdict
    known = known_exceptions(ws, subject.delivery)
    if verdict.findings is not None:
        verdict = _settled(engine, ws, subject, verdict, known)
    rows = _row_diff(engine, ws, subject, verdict)
    if rows is not None and _loses_too_many(subject, rows):
        verdict = _refused(ws, subject, verdict)
    _keep_findings(engine, ws, subject, verdict)
    findings = _finding_diff(engine, ws, subject.delivery)
    return replace(verdict, diff=_diff(rows, findings))


def _settled(
    engine: DuckEngine, ws: Workspace, subject: Subject, verdict: Verdict, known: Mapping[str, object]
) -> Verdict:
    """Part the findings into open, confirmed and known; with nothing open the delivery is simply accepted."""
    assert verdict.findings is not None
    told = verdict.findings.filter(pc.not_equal(verdict.findings["action"], "shadow"))
    rules = sorted(pc.unique(told["rule"]).to_pylist())
    mark_findings(engine, subject.contract, subject.context, rules, ws.token_key)
    supplier, dataset = subject.delivery.supplier, subject.delivery.dataset
    engine.register_arrow("confirmations", confirmed_warnings(ws.ledger, supplier, dataset, rules))
    settle(engine, sorted(known))
    counts = engine.fetch("SELECT rule, state, count(*) FROM settled GROUP BY ALL ORDER BY rule")
    macro_known = {rule: 1 for rule, action in verdict.macro.items() if action == "warn" and rule in known}
    settled = {
        CONFIRMED: {rule: hits for rule, state, hits in counts if state == CONFIRMED},
        KNOWN: {rule: hits for rule, state, hits in counts if state == KNOWN} | macro_known,
    }
    of_file = {rule: hits for rule, hits in verdict.counts_by_rule.items() if rule not in {*rules, *macro_known}}
    still_open = {rule: hits for rule, state, hits in counts if state is None} | of_file
    is_clean = verdict.outcome == "accepted_with_warnings" and not still_open
    return replace(
        verdict,
        outcome="accepted" if is_clean else verdict.outcome,
        counts_by_rule=still_open,
        settled=settled,
        told=engine.con.sql(_TOLD).to_arrow_table(),
    )


_TOLD = "SELECT member AS _member, row_no AS _row, rule, state FROM settled ORDER BY 1, 2, 3"


def _row_diff(engine: DuckEngine, ws: Workspace, subject: Subject, verdict: Verdict) -> RowDiff | None:
    """Against the delivery in force; None for a first delivery, or one of which no row is accepted."""
    standing = standing_before(ws, subject.delivery)
    if standing is None or not verdict.is_accepted or standing.sequence >= subject.delivery.sequence:
        return None
    before, after = path_of(ws, "accepted", standing), path_of(ws, "accepted", subject.delivery)
    return diff_rows(engine, subject.contract, before, after) if before.exists() else None


def _loses_too_many(subject: Subject, rows: RowDiff) -> bool:
    share = subject.feed.accept.max_removed_share
    return share is not None and rows.removed > rows.rows_before * Decimal(str(share))


def _refused(ws: Workspace, subject: Subject, verdict: Verdict) -> Verdict:
    """The delivery in force stays; what was kept of this one is not."""
    for kind in ("accepted", "rejected"):
        path_of(ws, kind, subject.delivery).unlink(missing_ok=True)
    says = FILE_RULES["P191"]
    found = FileFinding("P191", "", says["zh"], says["en"], _TOO_FEW_FIX, family="macro")
    counts = {**verdict.counts_by_rule, found.rule: 1}
    file_findings = [*verdict.file_findings, found]
    return replace(verdict, outcome="rejected", counts_by_rule=counts, file_findings=file_findings)


def _keep_findings(engine: DuckEngine, ws: Workspace, subject: Subject, verdict: Verdict) -> None:
    """Write the tokens of all findings, those of the file as a whole included."""
    of_file = [*(finding.rule for finding in verdict.file_findings), *verdict.macro]
    names = list(FINDING_COLUMNS)
    columns = {name: pa.array(of_file if name == "rule" else [None] * len(of_file), pa.string()) for name in names}
    engine.register_arrow("of_file", pa.table({**columns, "row_no": pa.nulls(len(of_file), pa.int64())}))
    select = f"SELECT {', '.join(names)} FROM of_file"
    if verdict.told is not None:
        select = f"SELECT {', '.join(names)} FROM settled UNION ALL {select}"
    query = f"SELECT * FROM ({select}) ORDER BY member, row_no, rule"
    engine.write_parquet(query, path_of(ws, FINDINGS, subject.delivery))


def _finding_diff(engine: DuckEngine, ws: Workspace, delivery: Delivery) -> FindingDiff | None:
    """Against the delivery answered before, in force or not: the one whose receipt the supplier worked on."""
    before = [one for one in ws.ledger.deliveries(delivery.period, delivery.supplier) if _comes_before(one, delivery)]
    if not before or not path_of(ws, FINDINGS, before[-1]).exists():
        return None
    return diff_findings(engine, path_of(ws, FINDINGS, before[-1]), path_of(ws, FINDINGS, delivery))


def _comes_before(one: Delivery, delivery: Delivery) -> bool:
    return one.dataset == delivery.dataset and one.sequence < delivery.sequence and one.outcome in _ANSWERED


def _diff(rows: RowDiff | None, findings: FindingDiff | None) -> dict[str, int]:
    counted = {"added": rows.added, "changed": rows.changed, "removed": rows.removed} if rows else {}
    return counted | ({"fixed": findings.fixed, "new": findings.new} if findings else {})
