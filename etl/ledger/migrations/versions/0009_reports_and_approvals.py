"""Reports of gates and what-ifs, and who approved which."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXT, INSTANT = sa.Text(), sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create both tables."""
    _reports()
    _approvals()


def _column(name: str, kind: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, comment=comment)


def _reports() -> None:
    op.create_table(
        "reports",
        _column("report_hash", TEXT, "SHA-256 over content and inputs, hex"),
        _column("kind", TEXT, "gates: of a graded month before its release; what_if: of a policy"),
        _column("period", TEXT, "month the report is about"),
        _column("verdict", TEXT, "worst of its gates: pass, unjudged, warn or block"),
        _column("inputs", JSONB(), "what it rests on: fingerprints, policy bytes, code version"),
        _column("content", JSONB(), "the report itself; no household is named"),
        _column("made_at", INSTANT, "when it was made first"),
        sa.PrimaryKeyConstraint("report_hash", name=op.f("pk_reports")),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_reports_period")),
        sa.CheckConstraint("kind IN ('gates', 'what_if')", name=op.f("ck_reports_kind")),
        sa.CheckConstraint("verdict IN ('pass', 'unjudged', 'warn', 'block')", name=op.f("ck_reports_verdict")),
        schema="ledger",
        comment="reports of gates and what-ifs; the same content is one report",
    )
    op.create_index(op.f("ix_reports_period_kind"), "reports", ["period", "kind"], schema="ledger")


def _approvals() -> None:
    op.create_table(
        "approvals",
        _column("report_hash", TEXT, "the report approved"),
        _column("approved_by", TEXT, "account of the official who approved"),
        _column("reason", TEXT, "why"),
        _column("approved_at", INSTANT, "when"),
        sa.PrimaryKeyConstraint("report_hash", "approved_by", name=op.f("pk_approvals")),
        sa.ForeignKeyConstraint(["report_hash"], ["ledger.reports.report_hash"], name=op.f("fk_approvals_report_hash")),
        sa.CheckConstraint("trim(reason) <> ''", name=op.f("ck_approvals_reason")),
        schema="ledger",
        comment="who approved which report, when and why; a report changed by one byte is another",
    )
