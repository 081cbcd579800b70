"""Grades in both times, what each grading and examination rested on, and what was deleted by law."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0007"
branch_labels = None
depends_on = None

TEXT, NUMBER, DAY, INSTANT = sa.Text(), sa.Numeric(), sa.Date(), sa.DateTime(timezone=True)
JSON = sa.dialects.postgresql.JSONB()
TOLD = "effective_grade, computed_grade, score, status, not_rated_reason, hold_reason, veto_ids, policy_version"
HISTORY = f"""
CREATE VIEW audit.grade_history AS
WITH instants AS (
  SELECT subject, subject_key, known_from_at AS from_at FROM audit.grade_statements
  UNION
  SELECT subject, subject_key, known_to_at FROM audit.grade_statements WHERE known_to_at IS NOT NULL
), spans AS (
  SELECT *, lead(from_at) OVER (PARTITION BY subject, subject_key ORDER BY from_at) AS to_at FROM instants
), told AS (
  SELECT s.*, spans.from_at, spans.to_at,
    least(lead(s.valid_from_on) OVER (
      PARTITION BY s.subject, s.subject_key, spans.from_at ORDER BY s.valid_from_on, s.period
    ), s.effective_to_on) AS valid_to_on
  FROM spans JOIN audit.grade_statements AS s
    ON s.subject = spans.subject AND s.subject_key = spans.subject_key
    AND s.known_from_at <= spans.from_at AND (s.known_to_at IS NULL OR s.known_to_at > spans.from_at)
), marked AS (
  SELECT *, lag(to_at) OVER (
    PARTITION BY subject, subject_key, period, known_from_at, valid_to_on ORDER BY from_at
  ) IS DISTINCT FROM from_at AS begins
  FROM told
), numbered AS (
  SELECT *, count(*) FILTER (WHERE begins) OVER (
    PARTITION BY subject, subject_key, period, known_from_at, valid_to_on ORDER BY from_at
  ) AS stretch
  FROM marked
)
SELECT subject, subject_key, valid_from_on, valid_to_on, min(from_at) AS known_from_at,
  CASE WHEN bool_and(to_at IS NOT NULL) THEN max(to_at) END AS known_to_at,
  period, {TOLD}, effective_from_on, effective_to_on, release_id
FROM numbered
WHERE status IS DISTINCT FROM 'gone' AND (valid_to_on IS NULL OR valid_from_on < valid_to_on)
GROUP BY subject, subject_key, valid_from_on, valid_to_on, known_from_at, stretch,
  period, {TOLD}, effective_from_on, effective_to_on, release_id
"""
AS_OF = """
CREATE FUNCTION audit.grades_as_of(valid_on date, known_at timestamptz) RETURNS SETOF audit.grade_statements
LANGUAGE sql STABLE AS $$
SELECT * FROM (
  SELECT DISTINCT ON (subject, subject_key) * FROM audit.grade_statements
  WHERE known_from_at <= $2 AND (known_to_at IS NULL OR known_to_at > $2) AND valid_from_on <= $1
  ORDER BY subject, subject_key, valid_from_on DESC, period DESC
) AS newest
WHERE status IS DISTINCT FROM 'gone' AND (effective_to_on IS NULL OR effective_to_on > $1)
$$
"""
KEPT = (
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger.deletions "
    "FOR EACH ROW EXECUTE FUNCTION ledger.append_only()"
)
COMMENTS = (
    "COMMENT ON VIEW audit.grade_history IS 'each grade with the days it was valid and the time it was known to be so; "
    "both ends open to the right, NULL: still'",
    """
DO $$ DECLARE one record; BEGIN
  FOR one IN SELECT attname FROM pg_attribute
    WHERE attrelid = 'audit.grade_history'::regclass AND attnum > 0
  LOOP
    EXECUTE format('COMMENT ON COLUMN audit.grade_history.%I IS %L', one.attname, (
      SELECT col_description(attrelid, attnum) FROM pg_attribute
      WHERE attrelid = 'audit.grade_statements'::regclass AND attname = one.attname));
  END LOOP;
END $$
""",
    "COMMENT ON COLUMN audit.grade_history.valid_to_on IS 'day on which another grade took its place, or it lapsed; NULL: still'",
    "COMMENT ON FUNCTION audit.grades_as_of IS 'the grades of everybody on a day, as they were known at an instant'",
)


def upgrade() -> None:
    """Create the tables, the view and the function; add what gradings and deliveries remember from now on."""
    op.add_column(
        "deliveries",
        _column(
            "snapshot", TEXT, "configuration, contracts and SQL it was examined under, see snapshots", nullable=True
        ),
        schema="ledger",
    )
    op.add_column("gradings", _column("basis", JSON, "all it rested on, for replay", nullable=True), schema="ledger")
    _deletions()
    _grade_statements()
    for statement in (KEPT, HISTORY, AS_OF, *COMMENTS):
        op.execute(statement)


def _column(name: str, kind: Any, comment: str, **more: Any) -> sa.Column[Any]:
    """A column that must be filled unless `nullable`."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **more})


def _deletions() -> None:
    op.create_table(
        "deletions",
        _column("delivery_id", TEXT, "whose key was destroyed"),
        _column("sha256", TEXT, "SHA-256 of the landed bytes that nobody can read any more, hex"),
        _column("reason", TEXT, "the legal ground, in one line"),
        _column("deleted_at", INSTANT, "when"),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deletions")),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["ledger.deliveries.delivery_id"], name=op.f("fk_deletions_delivery_id")
        ),
        schema="ledger",
        comment="deliveries deleted by law: their key is destroyed; hash, reason and date stay",
    )


def _grade_statements() -> None:
    op.create_table(
        "grade_statements",
        _column("subject", TEXT, "kind of subject: household, village, business, …"),
        _column("subject_key", TEXT, "its keyed token or code"),
        _column("period", TEXT, "month whose grade it is"),
        _column("known_from_at", INSTANT, "release that said so first: when it was published"),
        _column("known_to_at", INSTANT, "when a release said otherwise; NULL: still said", nullable=True),
        _column("valid_from_on", DAY, "first day it speaks of: the period end, or when the grade takes effect later"),
        _column("effective_grade", TEXT, "AAA … D; NULL: not rated, or gone", nullable=True),
        _column("computed_grade", TEXT, "grade by points alone", nullable=True),
        _column("score", NUMBER, "points", nullable=True),
        _column("status", TEXT, "status of the grade; gone: no longer among the subjects", nullable=True),
        _column("not_rated_reason", TEXT, "why there is no grade", nullable=True),
        _column("hold_reason", TEXT, "why the computed grade waits", nullable=True),
        _column("veto_ids", TEXT, "vetoes in force", nullable=True),
        _column("policy_version", TEXT, "version of the policy it was graded by", nullable=True),
        _column("effective_from_on", DAY, "since when the grade is in effect without a change", nullable=True),
        _column("effective_to_on", DAY, "day on which it lapses", nullable=True),
        _column("release_id", TEXT, "release that said so first"),
        sa.PrimaryKeyConstraint("subject", "subject_key", "period", "known_from_at", name=op.f("pk_grade_statements")),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_grade_statements_period")),
        sa.CheckConstraint("known_to_at > known_from_at", name=op.f("ck_grade_statements_known")),
        schema="audit",
        comment="what releases said of each subject's grade in each month, and from when to when they said so",
    )
    op.create_index(
        "still_said",
        "grade_statements",
        ["subject", "period", "subject_key"],
        schema="audit",
        unique=True,
        postgresql_where=sa.text("known_to_at IS NULL"),
    )
