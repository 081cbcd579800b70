"""Reports of gates and what-ifs in the ledger, and who approved which. Every function is one short transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from etl.ledger.models import ApprovalRow, ReportRow
from etl.ledger.records import Approval, Report
from etl.ledger.repository import Ledger
from etl.vocabulary import DataError


def keep_report(ledger: Ledger, report: Report, *, now: datetime) -> None:
    """Keep a report under its hash; one that came out the same before stays, with its approvals."""
    made = upsert(ReportRow).values(**asdict(report), made_at=now)
    with Session(ledger.engine) as session, session.begin():
        session.execute(made.on_conflict_do_nothing())


def is_kept(ledger: Ledger, report: Report) -> bool:
    """Whether exactly this report was kept."""
    with Session(ledger.engine) as session:
        return session.get(ReportRow, report.report_hash) is not None


def report(ledger: Ledger, report_hash: str) -> Report:
    """The report of this hash, or of the one hash that begins so; raises DataError if there is none or more than one."""
    query = select(ReportRow).where(ReportRow.report_hash.startswith(report_hash, autoescape=True)).limit(2)
    with Session(ledger.engine) as session:
        found = [_report(row) for row in session.scalars(query)]
    if len(found) != 1:
        problem = "no report" if not found else "more than one report"
        raise DataError(f"{problem} has the hash {report_hash}", "copy the hash from the report as a whole")
    return found[0]


def approve(ledger: Ledger, report_hash: str, approved_by: str, reason: str, *, now: datetime) -> Approval:
    """Keep an approval; who has approved the report before keeps the reason given first.

    Raises DataError without a name or a reason.
    """
    if not approved_by.strip() or not reason.strip():
        raise DataError("an approval without a name or a reason", "give both: --by NAME --reason TEXT")
    row = {"approved_by": approved_by.strip(), "reason": reason.strip(), "approved_at": now}
    with Session(ledger.engine) as session, session.begin():
        session.execute(upsert(ApprovalRow).values(report_hash=report_hash, **row).on_conflict_do_nothing())
    return next(one for one in approvals(ledger, [report_hash]) if one.approved_by == row["approved_by"])


def approvals(ledger: Ledger, report_hashes: Collection[str]) -> list[Approval]:
    """Every approval of these reports, oldest first."""
    query = select(ApprovalRow).where(ApprovalRow.report_hash.in_(report_hashes))
    ordered = query.order_by(ApprovalRow.approved_at, ApprovalRow.approved_by)
    with Session(ledger.engine) as session:
        return [
            Approval(row.report_hash, row.approved_by, row.reason, row.approved_at) for row in session.scalars(ordered)
        ]


def approved_reports(ledger: Ledger, period: str, kind: str, approvers: int) -> list[Report]:
    """Reports of a month that at least so many different people approved."""
    query = select(ReportRow).where(ReportRow.period == period, ReportRow.kind == kind)
    with Session(ledger.engine) as session:
        found = [_report(row) for row in session.scalars(query.order_by(ReportRow.report_hash))]
    given = [one.report_hash for one in approvals(ledger, [each.report_hash for each in found])]
    return [one for one in found if given.count(one.report_hash) >= approvers]


def _report(row: ReportRow) -> Report:
    return Report(**{field.name: getattr(row, field.name) for field in fields(Report)})
