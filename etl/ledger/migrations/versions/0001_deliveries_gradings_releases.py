"""The first tables of schemas `ledger` and `audit`.

`op.f` marks a name as complete: without it the naming convention of the models would be applied a second time.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT, TEXTS, INTEGER, BOOLEAN, BYTES = sa.Text(), sa.ARRAY(sa.Text()), sa.BigInteger(), sa.Boolean(), sa.LargeBinary()
INSTANT, JSON = sa.DateTime(timezone=True), JSONB()
PERIOD = "period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'"


def upgrade() -> None:
    """Create all tables."""
    _deliveries()
    _delivery_keys()
    _delivery_transitions()
    _carried_forward()
    _grading_requests()
    _gradings()
    _releases()
    _findings()
    _step_outcomes()
    _unmatched()
    _no_basis()


def _column(name: str, kind: Any, comment: str, **more: Any) -> sa.Column[Any]:
    """A column that must be filled unless `nullable`."""
    return sa.Column(name, kind, comment=comment, **{"nullable": False, **more})


def _number(name: str, comment: str) -> sa.Column[Any]:
    return sa.Column(name, INTEGER, sa.Identity(always=True), nullable=False, comment=comment)


def _of_delivery(table: str, column: str = "delivery_id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["ledger.deliveries.delivery_id"], name=op.f(f"fk_{table}_{column}"))


def _claim() -> list[sa.Column[Any]]:
    return [
        _column("delivery_id", TEXT, "supplier-dataset-period-sequence"),
        _column("supplier", TEXT, "bank code, source code or town code: who delivered"),
        _column("dataset", TEXT, "feed of the registry, such as loans"),
        _column("period", TEXT, "month the delivery is for, YYYY-MM"),
        _column("sequence", INTEGER, "counts the deliveries of this supplier, dataset and period from 1"),
        _column("revision", INTEGER, "counts the different contents from 1; a duplicate bears its original's"),
        _column("name", TEXT, "file name as the supplier gave it"),
        _column("address", TEXT, "where it was claimed (fsspec address, or what was pulled)"),
        _column("parts", TEXTS, "addresses of the files beside it (flag, log, checksum)"),
        _column("claimed_bytes", INTEGER, "size when it was claimed, bytes; part of the claim"),
        _column("mtime_ns", INTEGER, "supplier's modification time, ns since 1970 UTC; part of the claim"),
        _column("size_bytes", INTEGER, "size of the landed bytes (before landing: as claimed)"),
    ]


def _way() -> list[sa.Column[Any]]:
    return [
        _column("sha256", TEXT, "SHA-256 of the landed bytes, hex", nullable=True),
        _column("landed_path", TEXT, "file in the landing zone; its key is in delivery_keys", nullable=True),
        _column("step", TEXT, "last step reached"),
        _column("outcome", TEXT, "the one final outcome; NULL while in progress", nullable=True),
        _column(
            "in_force",
            BOOLEAN,
            "whether grades rest on it: one per supplier, dataset and period",
            server_default=sa.text("false"),
        ),
        _column("in_force_from_at", INSTANT, "when it came into force", nullable=True),
        _column("in_force_to_at", INSTANT, "when it left force", nullable=True),
        _column("superseded_by", TEXT, "the delivery that took its place", nullable=True),
        _column("cutoff_at", INSTANT, "pulls: rows changed before this instant are in it", nullable=True),
        _column("claimed_at", INSTANT, "when it was claimed"),
        _column("stepped_at", INSTANT, "when its step or outcome last changed"),
        _column("finished_at", INSTANT, "when it got its outcome", nullable=True),
    ]


def _result() -> list[sa.Column[Any]]:
    return [
        _column("rows_read", INTEGER, "rows in the delivery", nullable=True),
        _column("rows_accepted", INTEGER, "rows that may be used", nullable=True),
        _column("rows_rejected", INTEGER, "rows in quarantine", nullable=True),
        _column("counts_by_rule", JSON, "{rule: number of findings}", server_default=sa.text("'{}'::jsonb")),
        _column(
            "not_checked", TEXTS, "rules that could not run on this layout", server_default=sa.text("'{}'::text[]")
        ),
        _column("ruleset", TEXT, "checksum of the rules and code lists applied", nullable=True),
        _column("content", TEXT, "rows:checksum of the accepted relation (DESIGN section 2)", nullable=True),
        _column("details", JSON, "what else is worth keeping", server_default=sa.text("'{}'::jsonb")),
    ]


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        *_claim(),
        *_way(),
        *_result(),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        sa.CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name=op.f("ck_deliveries_finished")),
        sa.CheckConstraint(
            "NOT in_force OR coalesce(outcome IN ('accepted', 'accepted_with_warnings'), false)",
            name=op.f("ck_deliveries_in_force"),
        ),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'accepted_with_warnings', 'rejected', 'duplicate', 'unreadable', 'expired')",
            name=op.f("ck_deliveries_outcome"),
        ),
        sa.CheckConstraint(PERIOD, name=op.f("ck_deliveries_period")),
        sa.CheckConstraint(
            "step IN ('arrived', 'settling', 'claimed', 'landed', 'validating')", name=op.f("ck_deliveries_step")
        ),
        _of_delivery("deliveries", "superseded_by"),
        sa.UniqueConstraint("supplier", "address", "claimed_bytes", "mtime_ns", name=op.f("uq_deliveries_claim")),
        sa.UniqueConstraint("supplier", "dataset", "period", "sequence", name=op.f("uq_deliveries_sequence")),
        schema="ledger",
        comment="every delivery ever claimed, with its outcome",
    )
    op.create_index(
        "in_progress", "deliveries", ["stepped_at"], schema="ledger", postgresql_where=sa.text("outcome IS NULL")
    )
    op.create_index(op.f("ix_deliveries_period"), "deliveries", ["period"], schema="ledger")
    op.create_index(
        "one_in_force",
        "deliveries",
        ["supplier", "dataset", "period"],
        schema="ledger",
        unique=True,
        postgresql_where=sa.text("in_force"),
    )


def _delivery_keys() -> None:
    op.create_table(
        "delivery_keys",
        _column("delivery_id", TEXT, "whose landed bytes it opens"),
        _column("wrapped_key", BYTES, "key of the landed file, encrypted by the master key"),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_delivery_keys")),
        _of_delivery("delivery_keys"),
        schema="ledger",
        comment="wrapped keys of landed files; deleting one deletes the delivery",
    )


def _delivery_transitions() -> None:
    op.create_table(
        "delivery_transitions",
        _number("transition_id", "order of recording"),
        _column("delivery_id", TEXT, "whose change it is"),
        _column("from_state", TEXT, "step before; NULL for the claim", nullable=True),
        _column("to_state", TEXT, "step or outcome after"),
        _column("at", INSTANT, "when"),
        _column("cause", TEXT, "why, in one line; empty for the ordinary way"),
        _column("code_version", TEXT, "version of the software that did it"),
        sa.PrimaryKeyConstraint("transition_id", name=op.f("pk_delivery_transitions")),
        sa.CheckConstraint(
            "to_state IN ('arrived', 'settling', 'claimed', 'landed', 'validating', "
            "'accepted', 'accepted_with_warnings', 'rejected', 'duplicate', 'unreadable', 'expired')",
            name=op.f("ck_delivery_transitions_to_state"),
        ),
        _of_delivery("delivery_transitions"),
        schema="ledger",
        comment="every change of a delivery's step or outcome",
    )
    op.create_index(
        op.f("ix_delivery_transitions_delivery_id"), "delivery_transitions", ["delivery_id"], schema="ledger"
    )


def _carried_forward() -> None:
    op.create_table(
        "carried_forward",
        _column("period", TEXT, "month that has no delivery of its own"),
        _column("supplier", TEXT, "who did not deliver"),
        _column("dataset", TEXT, "what is missing"),
        _column("reason", TEXT, "why it was decided not to wait"),
        _column("carried_at", INSTANT, "when it was decided"),
        sa.PrimaryKeyConstraint("period", "supplier", "dataset", name=op.f("pk_carried_forward")),
        sa.CheckConstraint(PERIOD, name=op.f("ck_carried_forward_period")),
        schema="ledger",
        comment="deliveries a month does without, resting on what was last accepted",
    )


def _grading_requests() -> None:
    op.create_table(
        "grading_requests",
        _column("period", TEXT, "month"),
        _column("fingerprint", TEXT, "checksum of the inputs asked for last"),
        _column("requested_at", INSTANT, "when"),
        sa.PrimaryKeyConstraint("period", name=op.f("pk_grading_requests")),
        sa.CheckConstraint(PERIOD, name=op.f("ck_grading_requests_period")),
        schema="ledger",
        comment="what grades were last asked for, month by month",
    )


def _gradings() -> None:
    op.create_table(
        "gradings",
        _number("grading_id", "order of computation"),
        _column("period", TEXT, "month graded"),
        _column("fingerprint", TEXT, "checksum of all inputs, policy and SQL"),
        _column("staged_path", TEXT, "folder of the computed files"),
        _column("contents", JSON, "{table: rows:checksum}"),
        _column("graded_at", INSTANT, "when"),
        _column("code_version", TEXT, "version of the software that did it"),
        sa.PrimaryKeyConstraint("grading_id", name=op.f("pk_gradings")),
        sa.CheckConstraint(PERIOD, name=op.f("ck_gradings_period")),
        schema="ledger",
        comment="every computation of grades, with the fingerprint of its inputs",
    )
    op.create_index(op.f("ix_gradings_period_grading_id"), "gradings", ["period", "grading_id"], schema="ledger")


def _releases() -> None:
    op.create_table(
        "releases",
        _column("release_id", TEXT, "name of the release"),
        _column("period", TEXT, "month whose grading it publishes"),
        _column("sequence", INTEGER, "counts the releases of the period from 1"),
        _column("status", TEXT, "current (exactly one), superseded, or rolled_back"),
        _column("previous_id", TEXT, "release that was current before", nullable=True),
        _column("manifest", JSON, "the manifest: tables, files, rows, sha256, content, inputs"),
        _column("published_at", INSTANT, "when it was published"),
        _column("status_at", INSTANT, "when its status last changed"),
        _column("code_version", TEXT, "version of the software that published it"),
        sa.PrimaryKeyConstraint("release_id", name=op.f("pk_releases")),
        sa.CheckConstraint(PERIOD, name=op.f("ck_releases_period")),
        sa.CheckConstraint("status IN ('current', 'superseded', 'rolled_back')", name=op.f("ck_releases_status")),
        sa.ForeignKeyConstraint(["previous_id"], ["ledger.releases.release_id"], name=op.f("fk_releases_previous_id")),
        sa.UniqueConstraint("period", "sequence", name=op.f("uq_releases_sequence")),
        schema="ledger",
        comment="every release, and which one readers see",
    )
    op.create_index(
        "one_current",
        "releases",
        ["status"],
        schema="ledger",
        unique=True,
        postgresql_where=sa.text("status = 'current'"),
    )


def _findings() -> None:
    op.create_table(
        "findings",
        _number("finding_id", "order of loading"),
        _column("delivery_id", TEXT, "delivery it was found in"),
        _column("supplier", TEXT, "who delivered"),
        _column("dataset", TEXT, "feed"),
        _column("period", TEXT, "month of the delivery"),
        _column("member", TEXT, "file inside the package", nullable=True),
        _column("row_no", INTEGER, "1-based data row in its member; NULL for the whole file", nullable=True),
        _column("rule", TEXT, "rule id, see the codebook"),
        _column("family", TEXT, "syntax, validity, quality or macro"),
        _column("action", TEXT, "reject_file, reject_row, warn or shadow"),
        _column("column_name", TEXT, "canonical column; NULL for cross-field and file rules", nullable=True),
        _column("masked_key", TEXT, "the supplier's own number of the row, masked", nullable=True),
        sa.PrimaryKeyConstraint("finding_id", name=op.f("pk_findings")),
        schema="audit",
        comment="every finding of every delivery; no values of people",
    )
    op.create_index(op.f("ix_findings_delivery_id"), "findings", ["delivery_id"], schema="audit")
    op.create_index(op.f("ix_findings_period_rule"), "findings", ["period", "rule"], schema="audit")


def _step_outcomes() -> None:
    op.create_table(
        "step_outcomes",
        _number("step_outcome_id", "order of recording"),
        _column("delivery_id", TEXT, "delivery; NULL for steps on a whole month", nullable=True),
        _column("period", TEXT, "month"),
        _column("step", TEXT, "name of the step"),
        _column("rows_in", INTEGER, "rows read", nullable=True),
        _column("rows_out", INTEGER, "rows written", nullable=True),
        _column("rows_rejected", INTEGER, "rows refused", nullable=True),
        _column("seconds", sa.Numeric(12, 3), "duration in seconds"),
        _column("at", INSTANT, "when"),
        sa.PrimaryKeyConstraint("step_outcome_id", name=op.f("pk_step_outcomes")),
        _of_delivery("step_outcomes"),
        schema="audit",
        comment="one row for every step of every run",
    )
    op.create_index(op.f("ix_step_outcomes_delivery_id"), "step_outcomes", ["delivery_id"], schema="audit")
    op.create_index(op.f("ix_step_outcomes_period"), "step_outcomes", ["period"], schema="audit")


def _unmatched() -> None:
    op.create_table(
        "unmatched",
        _number("unmatched_id", "order of loading"),
        _column("period", TEXT, "month"),
        _column("dataset", TEXT, "feed it came with"),
        _column("supplier", TEXT, "who delivered"),
        _column("subject_kind", TEXT, "borrower, co_borrower, member, applicant, …"),
        _column("token", TEXT, "token of the subject; NULL where none could be made", nullable=True),
        _column("reason", TEXT, "why it was not joined"),
        sa.PrimaryKeyConstraint("unmatched_id", name=op.f("pk_unmatched")),
        schema="audit",
        comment="subjects that no household could be found for: listed, never dropped",
    )
    op.create_index(op.f("ix_unmatched_period"), "unmatched", ["period"], schema="audit")


def _no_basis() -> None:
    op.create_table(
        "no_basis",
        _number("no_basis_id", "order of loading"),
        _column("period", TEXT, "month"),
        _column("dataset", TEXT, "feed it came with"),
        _column("supplier", TEXT, "who delivered"),
        _column("token", TEXT, "token of the row (loan_key, household_key, …)", nullable=True),
        _column("purpose", TEXT, "purpose there is no legal ground for"),
        _column("delivery_id", TEXT, "delivery the item came with", nullable=True),
        _column("member", TEXT, "file inside the package", nullable=True),
        _column("row_no", INTEGER, "1-based data row in its member", nullable=True),
        sa.PrimaryKeyConstraint("no_basis_id", name=op.f("pk_no_basis")),
        schema="audit",
        comment="items held back for want of a legal ground",
    )
    op.create_index(op.f("ix_no_basis_period"), "no_basis", ["period"], schema="audit")
