"""Corrections and repairs name the row they are about; cases remember the grading before; grades that were replaced say so."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT, DATE, BOOLEAN, NUMBER = sa.Text(), sa.Date(), sa.Boolean(), sa.BigInteger()
STEPS = (
    "opened", "marked", "asked", "proposed", "answered", "closed", "notified", "told_unmarked", "told_due",
    "told_overdue", "told_healed",
)  # fmt: skip
PART = "household_no, request, answer, document, delivered:<column> or right:<column>"
FIXED = """
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON ledger.case_targets
FOR EACH ROW EXECUTE FUNCTION ledger.append_only()
"""
TOLD = "effective_grade, computed_grade, score, not_rated_reason, hold_reason, veto_ids, policy_version"
GROUPED = f"period, status, {TOLD}, effective_from_on, effective_to_on, release_id"
HISTORY = f"""
CREATE OR REPLACE VIEW audit.grade_history AS
WITH instants AS (
  SELECT subject, subject_key, known_from_at AS from_at FROM audit.grade_statements
  UNION
  SELECT subject, subject_key, known_to_at FROM audit.grade_statements WHERE known_to_at IS NOT NULL
), spans AS (
  SELECT *, lead(from_at) OVER (PARTITION BY subject, subject_key ORDER BY from_at) AS to_at FROM instants
), told AS (
  SELECT s.subject, s.subject_key, s.period, s.known_from_at, s.valid_from_on, {TOLD.replace(", ", ", s.")},
    s.effective_from_on, s.effective_to_on, s.release_id, spans.from_at, spans.to_at,
    least(lead(s.valid_from_on) OVER later, s.effective_to_on) AS valid_to_on,
    CASE
      WHEN s.status = 'effective' AND lead(s.status) OVER later <> 'gone'
        AND lead(s.effective_grade) OVER later IS DISTINCT FROM s.effective_grade THEN 'superseded'
      ELSE s.status
    END AS status
  FROM spans JOIN audit.grade_statements AS s
    ON s.subject = spans.subject AND s.subject_key = spans.subject_key
    AND s.known_from_at <= spans.from_at AND (s.known_to_at IS NULL OR s.known_to_at > spans.from_at)
  WINDOW later AS (PARTITION BY s.subject, s.subject_key, spans.from_at ORDER BY s.valid_from_on, s.period)
), marked AS (
  SELECT *, lag(to_at) OVER (
    PARTITION BY subject, subject_key, period, known_from_at, valid_to_on, status ORDER BY from_at
  ) IS DISTINCT FROM from_at AS begins
  FROM told
), numbered AS (
  SELECT *, count(*) FILTER (WHERE begins) OVER (
    PARTITION BY subject, subject_key, period, known_from_at, valid_to_on, status ORDER BY from_at
  ) AS stretch
  FROM marked
)
SELECT subject, subject_key, valid_from_on, valid_to_on, min(from_at) AS known_from_at,
  CASE WHEN bool_and(to_at IS NOT NULL) THEN max(to_at) END AS known_to_at,
  period, effective_grade, computed_grade, score, status, not_rated_reason, hold_reason, veto_ids, policy_version,
  effective_from_on, effective_to_on, release_id
FROM numbered
WHERE status IS DISTINCT FROM 'gone' AND (valid_to_on IS NULL OR valid_from_on < valid_to_on)
GROUP BY subject, subject_key, valid_from_on, valid_to_on, known_from_at, stretch, {GROUPED}
"""
SUPERSEDED = (
    "COMMENT ON COLUMN audit.grade_history.status IS "
    "'status of the grade; superseded: it was in effect until valid_to_on, when another took its place'"
)


def upgrade() -> None:
    """Create `ledger.case_targets`, widen what steps may be, remember gradings, renew the view of the history."""
    grading = _column("grading_id", NUMBER, "grading that stood when it was opened: the grade before", nullable=True)
    op.add_column("cases", grading, schema="ledger")
    op.create_foreign_key(
        op.f("fk_cases_grading_id"), "cases", "gradings", ["grading_id"], ["grading_id"],
        source_schema="ledger", referent_schema="ledger",
    )  # fmt: skip
    op.drop_constraint(op.f("ck_case_steps_step"), "case_steps", schema="ledger", type_="check")
    steps = ", ".join(f"'{step}'" for step in STEPS)
    op.create_check_constraint(op.f("ck_case_steps_step"), "case_steps", f"step IN ({steps})", schema="ledger")
    op.alter_column("case_texts", "part", comment=PART, schema="ledger")
    _targets()
    for statement in (FIXED, HISTORY, SUPERSEDED):
        op.execute(statement)


def _column(name: str, kind: Any, comment: str, **more: Any) -> sa.Column[Any]:
    """A column that must be filled unless `nullable`."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **more})


def _targets() -> None:
    op.create_table(
        "case_targets",
        _column("case_id", TEXT, "case it belongs to"),
        _column("dataset", TEXT, "feed the row came with"),
        _column("row_key", TEXT, "token of the row's own number"),
        _column("bank_code", TEXT, "bank whose row it is; NULL for the county's own", nullable=True),
        _column(
            "delivery_sha256",
            TEXT,
            "rows of banks: the bytes it stands in; a correction ends when the bank sends others",
            nullable=True,
        ),
        _column("needs_second", BOOLEAN, "whether another than who proposed it has to approve"),
        _column("expires_on", DATE, "corrections: last day on which it is applied", nullable=True),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_case_targets")),
        sa.ForeignKeyConstraint(["case_id"], ["ledger.cases.case_id"], name=op.f("fk_case_targets_case_id")),
        sa.CheckConstraint("(bank_code IS NULL) = (delivery_sha256 IS NULL)", name=op.f("ck_case_targets_bank")),
        schema="ledger",
        comment="rows of sources that corrections and repairs are about; rows are never changed",
    )
