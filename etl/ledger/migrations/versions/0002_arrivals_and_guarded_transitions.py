"""Files that wait in the drop zones, attempts, and the rules of a delivery's way enforced by the database itself."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT, INTEGER, INSTANT = sa.Text(), sa.BigInteger(), sa.DateTime(timezone=True)
PERIOD = "period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'"
FORBIDDEN = "23514"  # check_violation

WAYS = """
CREATE FUNCTION ledger.allowed_states(state text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
SELECT CASE state
  WHEN 'arrived' THEN ARRAY['settling', 'claimed', 'expired']
  WHEN 'settling' THEN ARRAY['claimed', 'expired']
  WHEN 'claimed' THEN ARRAY['landed', 'rejected', 'unreadable', 'expired']
  WHEN 'landed' THEN ARRAY['validating', 'duplicate', 'rejected', 'unreadable', 'expired']
  WHEN 'validating' THEN ARRAY['accepted', 'accepted_with_warnings', 'duplicate', 'rejected', 'unreadable', 'expired']
  ELSE ARRAY[]::text[]
END
$$
"""
GUARD = f"""
CREATE FUNCTION ledger.guard_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  before_state text := coalesce(OLD.outcome, OLD.step);
  after_state text := coalesce(NEW.outcome, NEW.step);
BEGIN
  IF after_state <> before_state AND NOT after_state = ANY (ledger.allowed_states(before_state)) THEN
    RAISE EXCEPTION '%: % to % is not a step a delivery can take', OLD.delivery_id, before_state, after_state
      USING ERRCODE = '{FORBIDDEN}';
  END IF;
  RETURN NEW;
END
$$
"""
APPEND_ONLY = f"""
CREATE FUNCTION ledger.append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%: what happened is never changed or deleted', TG_TABLE_NAME USING ERRCODE = '{FORBIDDEN}';
END
$$
"""
TRIGGERS = (
    "CREATE TRIGGER guard_delivery BEFORE UPDATE OF step, outcome ON ledger.deliveries "
    "FOR EACH ROW EXECUTE FUNCTION ledger.guard_delivery()",
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger.delivery_transitions "
    "FOR EACH ROW EXECUTE FUNCTION ledger.append_only()",
)


def upgrade() -> None:
    """Create the table of waiting files, count attempts, and guard what is there."""
    _arrivals()
    attempts = "how often somebody began to take it in; more than one after a crash"
    op.add_column("deliveries", _column("attempts", INTEGER, attempts, server_default=sa.text("0")), schema="ledger")
    for statement in (WAYS, GUARD, APPEND_ONLY, *TRIGGERS):
        op.execute(statement)


def _column(name: str, kind: Any, comment: str, **more: Any) -> sa.Column[Any]:
    """A column that must be filled unless `nullable`."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **more})


def _arrivals() -> None:
    op.create_table(
        "arrivals",
        _column("address", TEXT, "where it lies (fsspec address)"),
        _column("supplier", TEXT, "whose drop zone it lies in"),
        _column("dataset", TEXT, "feed whose name pattern it fits"),
        _column("period", TEXT, "month in its name, YYYY-MM"),
        _column("name", TEXT, "file name as the supplier gave it"),
        _column("size_bytes", INTEGER, "size at the last look, bytes"),
        _column("mtime_ns", INTEGER, "supplier's modification time at the last look, ns since 1970 UTC"),
        _column("step", TEXT, "arrived: seen once; settling: seen again, and not yet complete"),
        _column("reason", TEXT, "why it was not taken at the last look; empty if it was complete"),
        _column("first_seen_at", INSTANT, "first look that saw it"),
        _column("settling_at", INSTANT, "first look that found it still incomplete", nullable=True),
        _column("unchanged_since_at", INSTANT, "first look that saw it with this size and time"),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_arrivals")),
        sa.CheckConstraint(PERIOD, name=op.f("ck_arrivals_period")),
        sa.CheckConstraint("step IN ('arrived', 'settling')", name=op.f("ck_arrivals_step")),
        schema="ledger",
        comment="files in the drop zones that wait to be complete",
    )
    op.create_index(op.f("ix_arrivals_supplier"), "arrivals", ["supplier"], schema="ledger")
