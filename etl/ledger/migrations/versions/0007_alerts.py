"""Due dates that were missed, each told once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `ledger.alerts`."""
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "alerts",
        sa.Column("period", sa.Text(), nullable=False, comment="month the delivery is for"),
        sa.Column("supplier", sa.Text(), nullable=False, comment="who should have delivered"),
        sa.Column("dataset", sa.Text(), nullable=False, comment="what was due"),
        sa.Column(
            "breach",
            sa.Text(),
            nullable=False,
            comment="missing: not there when looked at; late: it had come after its due time",
        ),
        sa.Column("due_at", instant, nullable=False, comment="when it was due"),
        sa.Column("raised_at", instant, nullable=False, comment="when the breach was seen first, and told"),
        sa.PrimaryKeyConstraint("period", "supplier", "dataset", name=op.f("pk_alerts")),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_alerts_period")),
        sa.CheckConstraint("breach IN ('late', 'missing')", name=op.f("ck_alerts_breach")),
        schema="ledger",
        comment="every due date that was missed, told once",
    )
