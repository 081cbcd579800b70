"""Warnings that banks confirm: the files in which they do, and the tokens of what is confirmed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT, INTEGER, BOOLEAN, INSTANT = sa.Text(), sa.BigInteger(), sa.Boolean(), sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create both tables."""
    _confirmation_files()
    _confirmations()


def _column(name: str, kind: Any, comment: str, **more: Any) -> sa.Column[Any]:
    """A column that must be filled unless `nullable`."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **more})


def _confirmation_files() -> None:
    op.create_table(
        "confirmation_files",
        _column("confirmation_id", TEXT, "supplier-confirmation-sequence"),
        _column("supplier", TEXT, "who confirms"),
        _column("name", TEXT, "file name as the supplier gave it"),
        _column("address", TEXT, "where it was found (fsspec address); part of the claim"),
        _column("claimed_bytes", INTEGER, "size when it was found, bytes; part of the claim"),
        _column("mtime_ns", INTEGER, "supplier's modification time, ns since 1970 UTC; part of the claim"),
        _column("sha256", TEXT, "SHA-256 of the bytes read, hex", nullable=True),
        _column("delivery_id", TEXT, "delivery it speaks of; NULL if it names none of its own", nullable=True),
        _column("is_accepted", BOOLEAN, "whether it was taken; NULL while in progress", nullable=True),
        _column("confirmed", INTEGER, "warnings it confirms that were open before", nullable=True),
        _column("claimed_at", INSTANT, "when it was claimed"),
        _column("answered_at", INSTANT, "when it was answered", nullable=True),
        sa.PrimaryKeyConstraint("confirmation_id", name=op.f("pk_confirmation_files")),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["ledger.deliveries.delivery_id"], name=op.f("fk_confirmation_files_delivery_id")
        ),
        sa.UniqueConstraint(
            "supplier", "address", "claimed_bytes", "mtime_ns", name=op.f("uq_confirmation_files_claim")
        ),
        schema="ledger",
        comment="every file in which a bank confirmed warnings, with its answer",
    )


def _confirmations() -> None:
    op.create_table(
        "confirmations",
        _column("supplier", TEXT, "who confirmed"),
        _column("dataset", TEXT, "feed"),
        _column("rule", TEXT, "rule id, see the codebook"),
        _column("key_token", TEXT, "keyed token of the row's own number"),
        _column("value_token", TEXT, "keyed token of the rule's text and the cells"),
        _column("delivery_id", TEXT, "delivery whose warning was confirmed"),
        _column("confirmation_id", TEXT, "file that confirmed it"),
        _column("confirmed_at", INSTANT, "when"),
        sa.PrimaryKeyConstraint(
            "supplier", "dataset", "rule", "key_token", "value_token", name=op.f("pk_confirmations")
        ),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["ledger.deliveries.delivery_id"], name=op.f("fk_confirmations_delivery_id")
        ),
        sa.ForeignKeyConstraint(
            ["confirmation_id"],
            ["ledger.confirmation_files.confirmation_id"],
            name=op.f("fk_confirmations_confirmation_id"),
        ),
        schema="ledger",
        comment="warnings that banks confirmed, as keyed tokens",
    )
