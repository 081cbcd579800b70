"""Cases: objections, corrections, repairs, overrides and opt-outs with their steps; when grades were reviewed and noticed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT, DATE, BOOLEAN, INSTANT = sa.Text(), sa.Date(), sa.Boolean(), sa.DateTime(timezone=True)
MONTH = "period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'"
KINDS = ("objection", "correction", "repair", "override", "opt_out", "bank_confirmation")
STEPS = ("opened", "marked", "asked", "answered", "closed", "notified", "told_unmarked", "told_due", "told_overdue")
VERDICTS = ("upheld", "refused", "confirmed", "mistaken", "lapsed")
FIXED = """
CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the steps of cases are only added to'; END $$;
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON ledger.case_steps
FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
"""


def upgrade() -> None:
    """Create the tables of cases and `ledger.grade_notices`."""
    _cases()
    _steps()
    _notes()
    _texts()
    _notices()
    op.execute(FIXED)


def _column(name: str, kind: Any, comment: str, **more: Any) -> sa.Column[Any]:
    """A column that must be filled unless `nullable`."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **more})


def _of_case(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["case_id"], ["ledger.cases.case_id"], name=op.f(f"fk_{table}_case_id"))


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _cases() -> None:
    op.create_table(
        "cases",
        _column("case_id", TEXT, "case-year-number"),
        _column("case_kind", TEXT, "objection, correction, repair, override, opt_out, bank_confirmation"),
        _column("household_key", TEXT, "token of the household it concerns"),
        _column("period", TEXT, "month whose grade it speaks of"),
        _column("bank_code", TEXT, "bank whose rows it speaks of", nullable=True),
        _column("concerns", TEXT, "what it speaks of: an indicator, or table:token of a row", nullable=True),
        _column("grade_before", TEXT, "grade in effect when it was opened; NULL for none", nullable=True),
        _column("override_grade", TEXT, "overrides: the grade that shall hold", nullable=True),
        _column("expires_on", DATE, "overrides: last day on which it holds", nullable=True),
        _column("answer_due_on", DATE, "last day for the answer, in calendar days"),
        _column("origin", TEXT, "what opened it, so that the same cause opens it once"),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_cases")),
        sa.UniqueConstraint("origin", name=op.f("uq_cases_origin")),
        sa.CheckConstraint(_one_of("case_kind", KINDS), name=op.f("ck_cases_case_kind")),
        sa.CheckConstraint(MONTH, name=op.f("ck_cases_period")),
        sa.CheckConstraint(
            "(case_kind = 'override') = (override_grade IS NOT NULL AND expires_on IS NOT NULL)",
            name=op.f("ck_cases_override"),
        ),
        schema="ledger",
        comment="objections, corrections, repairs, overrides and opt-outs, without text",
    )
    op.create_index(op.f("ix_cases_household_key"), "cases", ["household_key"], schema="ledger")


def _steps() -> None:
    op.create_table(
        "case_steps",
        sa.Column("step_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of recording"),
        _column("case_id", TEXT, "case it belongs to"),
        _column("step", TEXT, "what happened"),
        _column("happened_on", DATE, "day on which it happened"),
        _column("account", TEXT, "account of whoever did it"),
        _column("verdict", TEXT, "answers: upheld, refused, confirmed, mistaken or lapsed", nullable=True),
        _column("recorded_at", INSTANT, "when it was recorded"),
        sa.PrimaryKeyConstraint("step_id", name=op.f("pk_case_steps")),
        _of_case("case_steps"),
        sa.UniqueConstraint("case_id", "step", name=op.f("uq_case_steps_step")),
        sa.CheckConstraint(_one_of("step", STEPS), name=op.f("ck_case_steps_step")),
        sa.CheckConstraint(f"verdict IS NULL OR {_one_of('verdict', VERDICTS)}", name=op.f("ck_case_steps_verdict")),
        sa.CheckConstraint("(step = 'answered') = (verdict IS NOT NULL)", name=op.f("ck_case_steps_answered")),
        schema="ledger",
        comment="everything that happened to a case, in order; rows are never changed",
    )


def _notes() -> None:
    op.create_table(
        "case_notes",
        _column("case_id", TEXT, "case asked about"),
        _column("loan_key", TEXT, "token of the note"),
        _column("is_mistaken", BOOLEAN, "whether the bank says that it had delivered it wrongly; false until it does"),
        _column("overdue_days", sa.BigInteger(), "days overdue as they should have been", nullable=True),
        _column("five_class", TEXT, "five-tier class as it should have been", nullable=True),
        sa.PrimaryKeyConstraint("case_id", "loan_key", name=op.f("pk_case_notes")),
        _of_case("case_notes"),
        sa.CheckConstraint(
            "is_mistaken OR (overdue_days IS NULL AND five_class IS NULL)", name=op.f("ck_case_notes_mended")
        ),
        sa.CheckConstraint("overdue_days >= 0", name=op.f("ck_case_notes_overdue_days")),
        schema="ledger",
        comment="notes that banks are asked about, and what they answered",
    )


def _texts() -> None:
    op.create_table(
        "case_texts",
        _column("case_id", TEXT, "case it belongs to"),
        _column("part", TEXT, "household_no, request or answer"),
        _column("sealed", sa.LargeBinary(), "the text, encrypted by the master key and bound to its case"),
        sa.PrimaryKeyConstraint("case_id", "part", name=op.f("pk_case_texts")),
        _of_case("case_texts"),
        schema="ledger",
        comment="encrypted texts of cases; deleting one deletes the text",
    )


def _notices() -> None:
    op.create_table(
        "grade_notices",
        _column("period", TEXT, "month graded"),
        _column("stage", TEXT, "reviewed or noticed"),
        _column("happened_on", DATE, "day on which it happened; the notice runs from here"),
        _column("account", TEXT, "account of whoever did it"),
        _column("recorded_at", INSTANT, "when it was recorded"),
        sa.PrimaryKeyConstraint("period", "stage", name=op.f("pk_grade_notices")),
        sa.CheckConstraint(MONTH, name=op.f("ck_grade_notices_period")),
        sa.CheckConstraint(_one_of("stage", ("reviewed", "noticed")), name=op.f("ck_grade_notices_stage")),
        schema="ledger",
        comment="when a month's grades were reviewed and noticed",
    )
