"""Deliveries whose landed bytes are examined again name the delivery the bytes came with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add `ledger.deliveries.requalifies`."""
    comment = "delivery whose landed bytes were examined again"
    column = sa.Column("requalifies", sa.Text(), nullable=True, comment=comment)
    op.add_column("deliveries", column, schema="ledger")
    op.create_foreign_key(
        op.f("fk_deliveries_requalifies"),
        "deliveries",
        "deliveries",
        ["requalifies"],
        ["delivery_id"],
        source_schema="ledger",
        referent_schema="ledger",
    )
