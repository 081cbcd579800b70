"""The tables of schemas `ledger` (what was decided) and `audit` (what was found), as SQLAlchemy models.

The comments are the data dictionary: they reach PostgreSQL with the migration, and a test keeps both equal.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Numeric,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from etl.vocabulary import (
    BREACH_LABELS,
    CASE_KINDS,
    CASE_STEPS,
    CASE_VERDICTS,
    GRADE_STAGES,
    OUTCOMES,
    STEPS,
    VERDICTS,
)

ACCEPTED = ("accepted", "accepted_with_warnings")
REPORT_KINDS = ("gates", "what_if")
RELEASE_STATES = ("current", "superseded", "rolled_back")
PERIOD_FORM = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(constraint_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def one_of(column: str, values: tuple[str, ...]) -> str:
    """SQL condition that `column` is one of `values`."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    """What all tables share: names of constraints, and PostgreSQL types for Python's."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        bytes: LargeBinary(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
    }


class DeliveryRow(Base):
    """One file (or one pull) of one supplier for one dataset and month, from its claim to its one final outcome."""

    __tablename__ = "deliveries"

    delivery_id: Mapped[str] = mapped_column(primary_key=True, comment="supplier-dataset-period-sequence")
    supplier: Mapped[str] = mapped_column(comment="bank code, source code or town code: who delivered")
    dataset: Mapped[str] = mapped_column(comment="feed of the registry, such as loans")
    period: Mapped[str] = mapped_column(comment="month the delivery is for, YYYY-MM")
    sequence: Mapped[int] = mapped_column(comment="counts the deliveries of this supplier, dataset and period from 1")
    revision: Mapped[int] = mapped_column(
        comment="counts the different contents from 1; a duplicate bears its original's"
    )
    name: Mapped[str] = mapped_column(comment="file name as the supplier gave it")
    address: Mapped[str] = mapped_column(comment="where it was claimed (fsspec address, or what was pulled)")
    parts: Mapped[list[str]] = mapped_column(comment="addresses of the files beside it (flag, log, checksum)")
    claimed_bytes: Mapped[int] = mapped_column(comment="size when it was claimed, bytes; part of the claim")
    mtime_ns: Mapped[int] = mapped_column(comment="supplier's modification time, ns since 1970 UTC; part of the claim")
    size_bytes: Mapped[int] = mapped_column(comment="size of the landed bytes (before landing: as claimed)")
    sha256: Mapped[str | None] = mapped_column(comment="SHA-256 of the landed bytes, hex")
    landed_path: Mapped[str | None] = mapped_column(comment="file in the landing zone; its key is in delivery_keys")
    step: Mapped[str] = mapped_column(comment="last step reached")
    outcome: Mapped[str | None] = mapped_column(comment="the one final outcome; NULL while in progress")
    in_force: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="whether grades rest on it: one per supplier, dataset and period"
    )
    in_force_from_at: Mapped[datetime | None] = mapped_column(comment="when it came into force")
    in_force_to_at: Mapped[datetime | None] = mapped_column(comment="when it left force")
    superseded_by: Mapped[str | None] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), comment="the delivery that took its place"
    )
    rows_read: Mapped[int | None] = mapped_column(comment="rows in the delivery")
    rows_accepted: Mapped[int | None] = mapped_column(comment="rows that may be used")
    rows_rejected: Mapped[int | None] = mapped_column(comment="rows in quarantine")
    counts_by_rule: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'::jsonb"), comment="{rule: number of findings}"
    )
    not_checked: Mapped[list[str]] = mapped_column(
        server_default=text("'{}'::text[]"), comment="rules that could not run on this layout"
    )
    ruleset: Mapped[str | None] = mapped_column(comment="checksum of the rules and code lists applied")
    content: Mapped[str | None] = mapped_column(comment="rows:checksum of the accepted relation (DESIGN section 2)")
    details: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'::jsonb"), comment="what else is worth keeping"
    )
    requalifies: Mapped[str | None] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), comment="delivery whose landed bytes were examined again"
    )
    snapshot: Mapped[str | None] = mapped_column(
        comment="configuration, contracts and SQL it was examined under, see snapshots"
    )
    cutoff_at: Mapped[datetime | None] = mapped_column(comment="pulls: rows changed before this instant are in it")
    attempts: Mapped[int] = mapped_column(
        server_default=text("0"), comment="how often somebody began to take it in; more than one after a crash"
    )
    claimed_at: Mapped[datetime] = mapped_column(comment="when it was claimed")
    stepped_at: Mapped[datetime] = mapped_column(comment="when its step or outcome last changed")
    finished_at: Mapped[datetime | None] = mapped_column(comment="when it got its outcome")

    key: Mapped[DeliveryKeyRow | None] = relationship(lazy="joined", cascade="all, delete-orphan")
    origin: Mapped[DeliveryRow | None] = relationship(
        lazy="select", remote_side="DeliveryRow.delivery_id", foreign_keys="DeliveryRow.requalifies", viewonly=True
    )

    __table_args__ = (
        UniqueConstraint("supplier", "address", "claimed_bytes", "mtime_ns", name="claim"),
        UniqueConstraint("supplier", "dataset", "period", "sequence", name="sequence"),
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint(one_of("step", STEPS), name="step"),
        CheckConstraint(one_of("outcome", OUTCOMES), name="outcome"),
        CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="finished"),
        CheckConstraint(f"NOT in_force OR coalesce({one_of('outcome', ACCEPTED)}, false)", name="in_force"),
        Index("one_in_force", "supplier", "dataset", "period", unique=True, postgresql_where=text("in_force")),
        Index("in_progress", "stepped_at", postgresql_where=text("outcome IS NULL")),
        Index(None, "period"),
        {"schema": "ledger", "comment": "every delivery ever claimed, with its outcome"},
    )

    @property
    def wrapped_key(self) -> bytes | None:
        """Its own key, or that of the delivery it examines again: one key opens, and its deletion closes, both."""
        if self.key:
            return self.key.wrapped_key
        return self.origin.wrapped_key if self.origin else None


class DeliveryKeyRow(Base):
    """A delivery's own key, wrapped by the master key: kept apart so that readers of the ledger never hold it."""

    __tablename__ = "delivery_keys"

    delivery_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), primary_key=True, comment="whose landed bytes it opens"
    )
    wrapped_key: Mapped[bytes] = mapped_column(comment="key of the landed file, encrypted by the master key")

    __table_args__ = (
        {"schema": "ledger", "comment": "wrapped keys of landed files; deleting one deletes the delivery"},
    )


class DeletionRow(Base):
    """A delivery deleted by law: what is left of it."""

    __tablename__ = "deletions"

    delivery_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), primary_key=True, comment="whose key was destroyed"
    )
    sha256: Mapped[str] = mapped_column(comment="SHA-256 of the landed bytes that nobody can read any more, hex")
    reason: Mapped[str] = mapped_column(comment="the legal ground, in one line")
    deleted_at: Mapped[datetime] = mapped_column(comment="when")

    __table_args__ = (
        {
            "schema": "ledger",
            "comment": "deliveries deleted by law: their key is destroyed; hash, reason and date stay",
        },
    )


class TransitionRow(Base):
    """One change of a delivery's step or outcome."""

    __tablename__ = "delivery_transitions"

    transition_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, comment="order of recording")
    delivery_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), index=True, comment="whose change it is"
    )
    from_state: Mapped[str | None] = mapped_column(comment="step before; NULL for the claim")
    to_state: Mapped[str] = mapped_column(comment="step or outcome after")
    at: Mapped[datetime] = mapped_column(comment="when")
    cause: Mapped[str] = mapped_column(comment="why, in one line; empty for the ordinary way")
    code_version: Mapped[str] = mapped_column(comment="version of the software that did it")

    __table_args__ = (
        CheckConstraint(one_of("to_state", (*STEPS, *OUTCOMES)), name="to_state"),
        {"schema": "ledger", "comment": "every change of a delivery's step or outcome"},
    )


class ConfirmationFileRow(Base):
    """A file in which a bank confirms warnings, from its claim to its answer."""

    __tablename__ = "confirmation_files"

    confirmation_id: Mapped[str] = mapped_column(primary_key=True, comment="supplier-confirmation-sequence")
    supplier: Mapped[str] = mapped_column(comment="who confirms")
    name: Mapped[str] = mapped_column(comment="file name as the supplier gave it")
    address: Mapped[str] = mapped_column(comment="where it was found (fsspec address); part of the claim")
    claimed_bytes: Mapped[int] = mapped_column(comment="size when it was found, bytes; part of the claim")
    mtime_ns: Mapped[int] = mapped_column(comment="supplier's modification time, ns since 1970 UTC; part of the claim")
    sha256: Mapped[str | None] = mapped_column(comment="SHA-256 of the bytes read, hex")
    delivery_id: Mapped[str | None] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), comment="delivery it speaks of; NULL if it names none of its own"
    )
    is_accepted: Mapped[bool | None] = mapped_column(comment="whether it was taken; NULL while in progress")
    confirmed: Mapped[int | None] = mapped_column(comment="warnings it confirms that were open before")
    claimed_at: Mapped[datetime] = mapped_column(comment="when it was claimed")
    answered_at: Mapped[datetime | None] = mapped_column(comment="when it was answered")

    __table_args__ = (
        UniqueConstraint("supplier", "address", "claimed_bytes", "mtime_ns", name="claim"),
        {"schema": "ledger", "comment": "every file in which a bank confirmed warnings, with its answer"},
    )


class ConfirmationRow(Base):
    """A warning that a bank confirmed. It holds while rule, key and value are the same; only tokens are kept."""

    __tablename__ = "confirmations"

    supplier: Mapped[str] = mapped_column(primary_key=True, comment="who confirmed")
    dataset: Mapped[str] = mapped_column(primary_key=True, comment="feed")
    rule: Mapped[str] = mapped_column(primary_key=True, comment="rule id, see the codebook")
    key_token: Mapped[str] = mapped_column(primary_key=True, comment="keyed token of the row's own number")
    value_token: Mapped[str] = mapped_column(primary_key=True, comment="keyed token of the rule's text and the cells")
    delivery_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), comment="delivery whose warning was confirmed"
    )
    confirmation_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.confirmation_files.confirmation_id"), comment="file that confirmed it"
    )
    confirmed_at: Mapped[datetime] = mapped_column(comment="when")

    __table_args__ = ({"schema": "ledger", "comment": "warnings that banks confirmed, as keyed tokens"},)


class ArrivalRow(Base):
    """A file that lies in a drop zone and is not claimed yet: what the next scan, and the claim, need to know of it."""

    __tablename__ = "arrivals"

    address: Mapped[str] = mapped_column(primary_key=True, comment="where it lies (fsspec address)")
    supplier: Mapped[str] = mapped_column(index=True, comment="whose drop zone it lies in")
    dataset: Mapped[str] = mapped_column(comment="feed whose name pattern it fits")
    period: Mapped[str] = mapped_column(comment="month in its name, YYYY-MM")
    name: Mapped[str] = mapped_column(comment="file name as the supplier gave it")
    size_bytes: Mapped[int] = mapped_column(comment="size at the last look, bytes")
    mtime_ns: Mapped[int] = mapped_column(comment="supplier's modification time at the last look, ns since 1970 UTC")
    step: Mapped[str] = mapped_column(comment="arrived: seen once; settling: seen again, and not yet complete")
    reason: Mapped[str] = mapped_column(comment="why it was not taken at the last look; empty if it was complete")
    first_seen_at: Mapped[datetime] = mapped_column(comment="first look that saw it")
    settling_at: Mapped[datetime | None] = mapped_column(comment="first look that found it still incomplete")
    unchanged_since_at: Mapped[datetime] = mapped_column(comment="first look that saw it with this size and time")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint(one_of("step", STEPS[:2]), name="step"),
        {"schema": "ledger", "comment": "files in the drop zones that wait to be complete"},
    )


class CarriedRow(Base):
    """A delivery that did not come in time: what was last accepted stays in force for that month."""

    __tablename__ = "carried_forward"

    period: Mapped[str] = mapped_column(primary_key=True, comment="month that has no delivery of its own")
    supplier: Mapped[str] = mapped_column(primary_key=True, comment="who did not deliver")
    dataset: Mapped[str] = mapped_column(primary_key=True, comment="what is missing")
    reason: Mapped[str] = mapped_column(comment="why it was decided not to wait")
    carried_at: Mapped[datetime] = mapped_column(comment="when it was decided")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        {"schema": "ledger", "comment": "deliveries a month does without, resting on what was last accepted"},
    )


class AlertRow(Base):
    """A deadline that passed without its delivery, told once."""

    __tablename__ = "alerts"

    period: Mapped[str] = mapped_column(primary_key=True, comment="month the delivery is for")
    supplier: Mapped[str] = mapped_column(primary_key=True, comment="who should have delivered")
    dataset: Mapped[str] = mapped_column(primary_key=True, comment="what was due")
    breach: Mapped[str] = mapped_column(
        comment="missing: not there when looked at; late: it had come after its due time"
    )
    due_at: Mapped[datetime] = mapped_column(comment="when it was due")
    raised_at: Mapped[datetime] = mapped_column(comment="when the breach was seen first, and told")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint(one_of("breach", tuple(sorted(BREACH_LABELS))), name="breach"),
        {"schema": "ledger", "comment": "every due date that was missed, told once"},
    )


class CaseRow(Base):
    """One case of one household: what was asked, and by when it has to be answered. What happened since is in its steps."""

    __tablename__ = "cases"

    case_id: Mapped[str] = mapped_column(primary_key=True, comment="case-year-number")
    case_kind: Mapped[str] = mapped_column(
        comment="objection, correction, repair, override, opt_out, bank_confirmation"
    )
    household_key: Mapped[str] = mapped_column(index=True, comment="token of the household it concerns")
    period: Mapped[str] = mapped_column(comment="month whose grade it speaks of")
    bank_code: Mapped[str | None] = mapped_column(comment="bank whose rows it speaks of")
    concerns: Mapped[str | None] = mapped_column(comment="what it speaks of: an indicator, or table:token of a row")
    grade_before: Mapped[str | None] = mapped_column(comment="grade in effect when it was opened; NULL for none")
    override_grade: Mapped[str | None] = mapped_column(comment="overrides: the grade that shall hold")
    expires_on: Mapped[date | None] = mapped_column(comment="overrides: last day on which it holds")
    answer_due_on: Mapped[date] = mapped_column(comment="last day for the answer, in calendar days")
    origin: Mapped[str] = mapped_column(comment="what opened it, so that the same cause opens it once")
    grading_id: Mapped[int | None] = mapped_column(
        ForeignKey("ledger.gradings.grading_id"), comment="grading that stood when it was opened: the grade before"
    )

    __table_args__ = (
        UniqueConstraint("origin", name="origin"),
        CheckConstraint(one_of("case_kind", CASE_KINDS), name="case_kind"),
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint(
            "(case_kind = 'override') = (override_grade IS NOT NULL AND expires_on IS NOT NULL)", name="override"
        ),
        {"schema": "ledger", "comment": "objections, corrections, repairs, overrides and opt-outs, without text"},
    )


class CaseStepRow(Base):
    """One thing that happened to a case; rows are only ever added."""

    __tablename__ = "case_steps"

    step_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, comment="order of recording")
    case_id: Mapped[str] = mapped_column(ForeignKey("ledger.cases.case_id"), comment="case it belongs to")
    step: Mapped[str] = mapped_column(comment="what happened")
    happened_on: Mapped[date] = mapped_column(comment="day on which it happened")
    account: Mapped[str] = mapped_column(comment="account of whoever did it")
    verdict: Mapped[str | None] = mapped_column(comment="answers: upheld, refused, confirmed, mistaken or lapsed")
    recorded_at: Mapped[datetime] = mapped_column(comment="when it was recorded")

    __table_args__ = (
        UniqueConstraint("case_id", "step", name="step"),
        CheckConstraint(one_of("step", CASE_STEPS), name="step"),
        CheckConstraint(f"verdict IS NULL OR {one_of('verdict', CASE_VERDICTS)}", name="verdict"),
        CheckConstraint("(step = 'answered') = (verdict IS NOT NULL)", name="answered"),
        {"schema": "ledger", "comment": "everything that happened to a case, in order; rows are never changed"},
    )


class CaseTargetRow(Base):
    """The row of a source that a correction sets right, or the list item that a repair ends. Values are sealed texts."""

    __tablename__ = "case_targets"

    case_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.cases.case_id"), primary_key=True, comment="case it belongs to"
    )
    dataset: Mapped[str] = mapped_column(comment="feed the row came with")
    row_key: Mapped[str] = mapped_column(comment="token of the row's own number")
    bank_code: Mapped[str | None] = mapped_column(comment="bank whose row it is; NULL for the county's own")
    delivery_sha256: Mapped[str | None] = mapped_column(
        comment="rows of banks: the bytes it stands in; a correction ends when the bank sends others"
    )
    needs_second: Mapped[bool] = mapped_column(comment="whether another than who proposed it has to approve")
    expires_on: Mapped[date | None] = mapped_column(comment="corrections: last day on which it is applied")

    __table_args__ = (
        CheckConstraint("(bank_code IS NULL) = (delivery_sha256 IS NULL)", name="bank"),
        {
            "schema": "ledger",
            "comment": "rows of sources that corrections and repairs are about; rows are never changed",
        },
    )


class CaseNoteRow(Base):
    """One note a bank is asked about, and what it answered."""

    __tablename__ = "case_notes"

    case_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.cases.case_id"), primary_key=True, comment="case asked about"
    )
    loan_key: Mapped[str] = mapped_column(primary_key=True, comment="token of the note")
    is_mistaken: Mapped[bool] = mapped_column(
        comment="whether the bank says that it had delivered it wrongly; false until it does"
    )
    overdue_days: Mapped[int | None] = mapped_column(comment="days overdue as they should have been")
    five_class: Mapped[str | None] = mapped_column(comment="five-tier class as it should have been")

    __table_args__ = (
        CheckConstraint("is_mistaken OR (overdue_days IS NULL AND five_class IS NULL)", name="mended"),
        CheckConstraint("overdue_days >= 0", name="overdue_days"),
        {"schema": "ledger", "comment": "notes that banks are asked about, and what they answered"},
    )


class CaseTextRow(Base):
    """What a person wrote, and the household's own number: encrypted, and kept from readers of the ledger."""

    __tablename__ = "case_texts"

    case_id: Mapped[str] = mapped_column(
        ForeignKey("ledger.cases.case_id"), primary_key=True, comment="case it belongs to"
    )
    part: Mapped[str] = mapped_column(
        primary_key=True, comment="household_no, request, answer, document, delivered:<column> or right:<column>"
    )
    sealed: Mapped[bytes] = mapped_column(comment="the text, encrypted by the master key and bound to its case")

    __table_args__ = ({"schema": "ledger", "comment": "encrypted texts of cases; deleting one deletes the text"},)


class GradeNoticeRow(Base):
    """A month's grades on their way to effect: looked through, and told to the people."""

    __tablename__ = "grade_notices"

    period: Mapped[str] = mapped_column(primary_key=True, comment="month graded")
    stage: Mapped[str] = mapped_column(primary_key=True, comment="reviewed or noticed")
    happened_on: Mapped[date] = mapped_column(comment="day on which it happened; the notice runs from here")
    account: Mapped[str] = mapped_column(comment="account of whoever did it")
    recorded_at: Mapped[datetime] = mapped_column(comment="when it was recorded")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint(one_of("stage", GRADE_STAGES), name="stage"),
        {"schema": "ledger", "comment": "when a month's grades were reviewed and noticed"},
    )


class GradingRequestRow(Base):
    """The inputs for which a month's grades were last asked for, so that a burst of deliveries asks once."""

    __tablename__ = "grading_requests"

    period: Mapped[str] = mapped_column(primary_key=True, comment="month")
    fingerprint: Mapped[str] = mapped_column(comment="checksum of the inputs asked for last")
    requested_at: Mapped[datetime] = mapped_column(comment="when")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        {"schema": "ledger", "comment": "what grades were last asked for, month by month"},
    )


class GradingRow(Base):
    """One computation of a month's grades."""

    __tablename__ = "gradings"

    grading_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, comment="order of computation")
    period: Mapped[str] = mapped_column(comment="month graded")
    fingerprint: Mapped[str] = mapped_column(comment="checksum of all inputs, policy and SQL")
    staged_path: Mapped[str] = mapped_column(comment="folder of the computed files")
    contents: Mapped[dict[str, Any]] = mapped_column(comment="{table: rows:checksum}")
    basis: Mapped[dict[str, Any] | None] = mapped_column(comment="all it rested on, for replay")
    graded_at: Mapped[datetime] = mapped_column(comment="when")
    code_version: Mapped[str] = mapped_column(comment="version of the software that did it")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        Index(None, "period", "grading_id"),
        {"schema": "ledger", "comment": "every computation of grades, with the fingerprint of its inputs"},
    )


class ReleaseRow(Base):
    """One named, immutable set of files; written in the transaction that switches catalog and warehouse."""

    __tablename__ = "releases"

    release_id: Mapped[str] = mapped_column(primary_key=True, comment="name of the release")
    period: Mapped[str] = mapped_column(comment="month whose grading it publishes")
    sequence: Mapped[int] = mapped_column(comment="counts the releases of the period from 1")
    status: Mapped[str] = mapped_column(comment="current (exactly one), superseded, or rolled_back")
    previous_id: Mapped[str | None] = mapped_column(
        ForeignKey("ledger.releases.release_id"), comment="release that was current before"
    )
    manifest: Mapped[dict[str, Any]] = mapped_column(
        comment="the manifest: tables, files, rows, sha256, content, inputs"
    )
    published_at: Mapped[datetime] = mapped_column(comment="when it was published")
    status_at: Mapped[datetime] = mapped_column(comment="when its status last changed")
    code_version: Mapped[str] = mapped_column(comment="version of the software that published it")

    __table_args__ = (
        UniqueConstraint("period", "sequence", name="sequence"),
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint(one_of("status", RELEASE_STATES), name="status"),
        Index("one_current", "status", unique=True, postgresql_where=text("status = 'current'")),
        {"schema": "ledger", "comment": "every release, and which one readers see"},
    )


class GradeStatementRow(Base):
    """What releases said of one subject's grade in one month, as long as they said the same.

    View `audit.grade_history` gives the days a grade was valid beside the time it was known; function
    `audit.grades_as_of(valid_on, known_at)` the grades of everybody.
    """

    __tablename__ = "grade_statements"

    subject: Mapped[str] = mapped_column(primary_key=True, comment="kind of subject: household, village, business, …")
    subject_key: Mapped[str] = mapped_column(primary_key=True, comment="its keyed token or code")
    period: Mapped[str] = mapped_column(primary_key=True, comment="month whose grade it is")
    known_from_at: Mapped[datetime] = mapped_column(
        primary_key=True, comment="release that said so first: when it was published"
    )
    known_to_at: Mapped[datetime | None] = mapped_column(comment="when a release said otherwise; NULL: still said")
    valid_from_on: Mapped[date] = mapped_column(
        comment="first day it speaks of: the period end, or when the grade takes effect later"
    )
    effective_grade: Mapped[str | None] = mapped_column(comment="AAA … D; NULL: not rated, or gone")
    computed_grade: Mapped[str | None] = mapped_column(comment="grade by points alone")
    score: Mapped[Decimal | None] = mapped_column(Numeric(), comment="points")
    status: Mapped[str | None] = mapped_column(comment="status of the grade; gone: no longer among the subjects")
    not_rated_reason: Mapped[str | None] = mapped_column(comment="why there is no grade")
    hold_reason: Mapped[str | None] = mapped_column(comment="why the computed grade waits")
    veto_ids: Mapped[str | None] = mapped_column(comment="vetoes in force")
    policy_version: Mapped[str | None] = mapped_column(comment="version of the policy it was graded by")
    effective_from_on: Mapped[date | None] = mapped_column(comment="since when the grade is in effect without a change")
    effective_to_on: Mapped[date | None] = mapped_column(comment="day on which it lapses")
    release_id: Mapped[str] = mapped_column(comment="release that said so first")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint("known_to_at > known_from_at", name="known"),
        Index(
            "still_said",
            "subject",
            "period",
            "subject_key",
            unique=True,
            postgresql_where=text("known_to_at IS NULL"),
        ),
        {
            "schema": "audit",
            "comment": "what releases said of each subject's grade in each month, and from when to when they said so",
        },
    )


class ReportRow(Base):
    """What gates or a what-if found, under the hash that an approval is bound to."""

    __tablename__ = "reports"

    report_hash: Mapped[str] = mapped_column(primary_key=True, comment="SHA-256 over content and inputs, hex")
    kind: Mapped[str] = mapped_column(comment="gates: of a graded month before its release; what_if: of a policy")
    period: Mapped[str] = mapped_column(comment="month the report is about")
    verdict: Mapped[str] = mapped_column(comment="worst of its gates: pass, unjudged, warn or block")
    inputs: Mapped[dict[str, Any]] = mapped_column(comment="what it rests on: fingerprints, policy bytes, code version")
    content: Mapped[dict[str, Any]] = mapped_column(comment="the report itself; no household is named")
    made_at: Mapped[datetime] = mapped_column(comment="when it was made first")

    __table_args__ = (
        CheckConstraint(f"period ~ '{PERIOD_FORM}'", name="period"),
        CheckConstraint(one_of("kind", REPORT_KINDS), name="kind"),
        CheckConstraint(one_of("verdict", VERDICTS), name="verdict"),
        Index(None, "period", "kind"),
        {"schema": "ledger", "comment": "reports of gates and what-ifs; the same content is one report"},
    )


class ApprovalRow(Base):
    """One person's approval of exactly one report."""

    __tablename__ = "approvals"

    report_hash: Mapped[str] = mapped_column(
        ForeignKey("ledger.reports.report_hash"), primary_key=True, comment="the report approved"
    )
    approved_by: Mapped[str] = mapped_column(primary_key=True, comment="account of the official who approved")
    reason: Mapped[str] = mapped_column(comment="why")
    approved_at: Mapped[datetime] = mapped_column(comment="when")

    __table_args__ = (
        CheckConstraint("trim(reason) <> ''", name="reason"),
        {
            "schema": "ledger",
            "comment": "who approved which report, when and why; a report changed by one byte is another",
        },
    )


class FindingRow(Base):
    """One rule that one row of a delivery breaks. No foreign key: a bulk load would pay for it row by row."""

    __tablename__ = "findings"

    finding_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, comment="order of loading")
    delivery_id: Mapped[str] = mapped_column(comment="delivery it was found in")
    supplier: Mapped[str] = mapped_column(comment="who delivered")
    dataset: Mapped[str] = mapped_column(comment="feed")
    period: Mapped[str] = mapped_column(comment="month of the delivery")
    member: Mapped[str | None] = mapped_column(comment="file inside the package")
    row_no: Mapped[int | None] = mapped_column(comment="1-based data row in its member; NULL for the whole file")
    rule: Mapped[str] = mapped_column(comment="rule id, see the codebook")
    family: Mapped[str] = mapped_column(comment="syntax, validity, quality or macro")
    action: Mapped[str] = mapped_column(comment="reject_file, reject_row, warn or shadow")
    column_name: Mapped[str | None] = mapped_column(comment="canonical column; NULL for cross-field and file rules")
    masked_key: Mapped[str | None] = mapped_column(comment="the supplier's own number of the row, masked")

    __table_args__ = (
        Index(None, "delivery_id"),
        Index(None, "period", "rule"),
        {"schema": "audit", "comment": "every finding of every delivery; no values of people"},
    )


class StepOutcomeRow(Base):
    """What one step did to how many rows in what time."""

    __tablename__ = "step_outcomes"

    step_outcome_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, comment="order of recording")
    delivery_id: Mapped[str | None] = mapped_column(
        ForeignKey("ledger.deliveries.delivery_id"), index=True, comment="delivery; NULL for steps on a whole month"
    )
    period: Mapped[str] = mapped_column(index=True, comment="month")
    step: Mapped[str] = mapped_column(comment="name of the step")
    rows_in: Mapped[int | None] = mapped_column(comment="rows read")
    rows_out: Mapped[int | None] = mapped_column(comment="rows written")
    rows_rejected: Mapped[int | None] = mapped_column(comment="rows refused")
    seconds: Mapped[Decimal] = mapped_column(Numeric(12, 3), comment="duration in seconds")
    at: Mapped[datetime] = mapped_column(comment="when")

    __table_args__ = ({"schema": "audit", "comment": "one row for every step of every run"},)


class UnmatchedRow(Base):
    """A subject of a delivery that is not in the register."""

    __tablename__ = "unmatched"

    unmatched_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, comment="order of loading")
    period: Mapped[str] = mapped_column(index=True, comment="month")
    dataset: Mapped[str] = mapped_column(comment="feed it came with")
    supplier: Mapped[str] = mapped_column(comment="who delivered")
    subject_kind: Mapped[str] = mapped_column(comment="borrower, co_borrower, member, applicant, …")
    token: Mapped[str | None] = mapped_column(comment="token of the subject; NULL where none could be made")
    reason: Mapped[str] = mapped_column(comment="why it was not joined")

    __table_args__ = (
        {"schema": "audit", "comment": "subjects that no household could be found for: listed, never dropped"},
    )


class NoBasisRow(Base):
    """An item that may not be used because nobody consented."""

    __tablename__ = "no_basis"

    no_basis_id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True, comment="order of loading")
    period: Mapped[str] = mapped_column(index=True, comment="month")
    dataset: Mapped[str] = mapped_column(comment="feed it came with")
    supplier: Mapped[str] = mapped_column(comment="who delivered")
    token: Mapped[str | None] = mapped_column(comment="token of the row (loan_key, household_key, …)")
    purpose: Mapped[str] = mapped_column(comment="purpose there is no legal ground for")
    delivery_id: Mapped[str | None] = mapped_column(comment="delivery the item came with")
    member: Mapped[str | None] = mapped_column(comment="file inside the package")
    row_no: Mapped[int | None] = mapped_column(comment="1-based data row in its member")

    __table_args__ = ({"schema": "audit", "comment": "items held back for want of a legal ground"},)
