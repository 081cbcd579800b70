"""The ledger: every method is one short transaction; whatever happens at once in several processes is settled here.

Instants are handed in as `now` (timezone-aware). Steps that PostgreSQL has to keep apart (numbering, coming into force)
take an advisory lock on (supplier, dataset, period) first, so their statements see each other's results.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import pyarrow as pa
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    cast,
    create_engine,
    delete,
    event,
    func,
    insert,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from etl.ledger import bulk
from etl.ledger.models import (
    AlertRow,
    ArrivalRow,
    CarriedRow,
    DeliveryKeyRow,
    DeliveryRow,
    FindingRow,
    GradingRequestRow,
    GradingRow,
    NoBasisRow,
    ReleaseRow,
    StepOutcomeRow,
    TransitionRow,
    UnmatchedRow,
)
from etl.ledger.records import (
    Alert,
    Arrival,
    Carried,
    DailyLimits,
    Delivery,
    Grading,
    IllegalTransitionError,
    LimitReachedError,
    LockTimeoutError,
    Release,
    Transition,
    UnknownDeliveryError,
    Waiting,
)
from etl.ledger.transitions import code_version, require_allowed
from etl.vocabulary import OUTCOMES, DataError

__all__ = [
    "Arrival",
    "Carried",
    "DailyLimits",
    "Delivery",
    "Grading",
    "IllegalTransitionError",
    "Ledger",
    "LimitReachedError",
    "LockTimeoutError",
    "Release",
    "Transition",
    "UnknownDeliveryError",
    "Waiting",
]

RecordT = TypeVar("RecordT", Transition, Carried, Grading, Release, Waiting, Alert)
LOCK_TIMEOUT_SECONDS: Final = 600.0
IDLE_SECONDS: Final = 1.0
LOCK_NOT_AVAILABLE: Final = "55P03"
ANALYST: Final = "analyst"
DELIVERY_COLUMNS: Final = ("delivery_id", "supplier", "dataset", "period")
FINDING_COLUMNS: Final = ("member", "row_no", "rule", "family", "action", "column_name", "masked_key")
UNMATCHED_COLUMNS: Final = ("period", "dataset", "supplier", "subject_kind", "token", "reason")
NO_BASIS_COLUMNS: Final = ("period", "dataset", "supplier", "token", "purpose", "delivery_id", "member", "row_no")


class Ledger:
    """The ledger in the PostgreSQL database at `url`. Nothing is opened before the first use."""

    def __init__(self, url: str) -> None:
        address = make_url(url).set(drivername="postgresql+psycopg")
        who = {"application_name": "creditvillage"}
        # Parameters stay out of error messages, and so out of task logs.
        self.engine = create_engine(address, hide_parameters=True, connect_args=who)
        self._locks = create_engine(address, max_overflow=-1, hide_parameters=True, connect_args=who)
        for each in (self.engine, self._locks):
            _ask_if_idle(each)

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()
        self._locks.dispose()

    def migrate(self) -> None:
        """Bring the schemas `ledger` and `audit` up to date; harmless when they are, and when two do it at once."""
        from etl.ledger import migrations  # loads Alembic, which nobody needs who takes in or grades

        with self.lock("ledger.migrate"), self.engine.begin() as connection:
            migrations.upgrade(connection)
            connection.execute(text("COMMENT ON TABLE ledger.alembic_version IS 'which migration this database has'"))
            connection.execute(text("COMMENT ON COLUMN ledger.alembic_version.version_num IS 'the last one applied'"))
            _open_to_analysts(connection)

    @contextmanager
    def lock(self, name: str, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Hold the advisory lock `name` on a connection of its own, waiting for it if need be.

        PostgreSQL drops it if the process or the connection dies. Not reentrant. Raises LockTimeoutError if it does not
        come free in time.
        """
        with self._locks.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                _wait_for(connection, name, timeout_seconds)
                yield
            finally:
                _give_back(connection)

    @contextmanager
    def lock_if_free(self, name: str) -> Iterator[bool]:
        """Hold the advisory lock `name` if nobody else does; says whether it is held."""
        with self._locks.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                yield bool(connection.scalar(select(func.pg_try_advisory_lock(_lock_number(name)))))
            finally:
                _give_back(connection)

    # -- before a delivery ----------------------------------------------------------------------------------------

    def waiting(self) -> list[Waiting]:
        """The files that lie in drop zones unclaimed, as the last looks saw them, in the order of their addresses."""
        with Session(self.engine) as session:
            return [_record(Waiting, row) for row in session.scalars(select(ArrivalRow).order_by(ArrivalRow.address))]

    def remember(self, looks: Sequence[tuple[Arrival, str]], reached: Collection[str], *, now: datetime) -> None:
        """Keep what one scan saw: (file, why it was not taken, or empty), and the addresses of the zones it reached.

        A file that is no longer in a zone that was reached is forgotten.
        """
        before = {one.address: one for one in self.waiting()}
        looked = {arrival.address for arrival, _ in looks}
        gone = [address for address in before if address not in looked and address.rpartition("/")[0] in reached]
        rows = [_look(arrival, reason, before.get(arrival.address), now) for arrival, reason in looks]
        rows.sort(key=lambda row: str(row["address"]))  # two scans at once lock the rows in one order
        with Session(self.engine) as session, session.begin():
            session.execute(delete(ArrivalRow).where(ArrivalRow.address == func.any(gone)))
            if rows:
                look = upsert(ArrivalRow)
                kept = {name: look.excluded[name] for name in rows[0] if name != "address"}
                look = look.on_conflict_do_update(index_elements=[ArrivalRow.address], set_=kept)
                session.execute(look, rows)

    # -- a delivery's way -----------------------------------------------------------------------------------------

    def claim(self, arrival: Arrival, *, now: datetime, limits: DailyLimits | None = None) -> Delivery | None:
        """Claim a file: exactly one caller gets the delivery, everybody else None.

        A file is known by supplier, address, size and modification time: the same bytes dropped again are a new
        delivery (which will end as `duplicate`), the same file seen by a later scan is not. Raises LimitReachedError
        when the file would exceed the supplier's limits for the day; it then stays unclaimed.
        """
        with Session(self.engine) as session, session.begin():
            if limits is not None:
                _require_within(session, arrival, limits)
            _lock_series(session, arrival.supplier, arrival.dataset, arrival.period)
            row = _new_delivery(session, arrival, now)
            claimed = upsert(DeliveryRow).values(row).on_conflict_do_nothing(constraint="uq_deliveries_claim")
            delivery_id = session.scalar(claimed.returning(DeliveryRow.delivery_id))
            if delivery_id is None:
                return None
            _note_claim(session, delivery_id, arrival, now)
            return _delivery(session.get_one(DeliveryRow, delivery_id))

    def begin_attempt(self, delivery_id: str) -> Delivery:
        """Count that somebody begins to take a delivery in; one that has its outcome is left as it is."""
        with self._changing(delivery_id) as (_, row):
            if row.outcome is None:
                row.attempts += 1
            return _delivery(row)

    def pending_bytes(self) -> int:
        """Bytes that are claimed and not landed yet: they will need room on the landing disk."""
        query = select(func.coalesce(func.sum(DeliveryRow.claimed_bytes), 0)).where(
            DeliveryRow.outcome.is_(None), DeliveryRow.landed_path.is_(None)
        )
        with Session(self.engine) as session:
            return int(session.scalar(query) or 0)

    def already_seen(self, addresses: Collection[str] | None = None) -> set[tuple[str, int, int]]:
        """(address, size in bytes, mtime_ns) of every file claimed so far, at these addresses only if given."""
        query = select(DeliveryRow.address, DeliveryRow.claimed_bytes, DeliveryRow.mtime_ns)
        if addresses is not None:
            query = query.where(DeliveryRow.address == func.any(list(addresses)))
        with Session(self.engine) as session:
            return {(address, size, mtime) for address, size, mtime in session.execute(query)}

    def step(self, delivery_id: str, step: str, *, now: datetime, cause: str = "") -> Delivery:
        """Note that a delivery has reached `step`; the step it is at already is harmless.

        Raises UnknownDeliveryError, and IllegalTransitionError for a step its state does not allow.
        """
        with self._changing(delivery_id) as (session, row):
            if row.outcome is not None or row.step != step:
                _move(session, row, step, now, cause)
            return _delivery(row)

    def landed(
        self, delivery_id: str, sha256: str, landed_path: str, wrapped_key: bytes, size_bytes: int, *, now: datetime
    ) -> Delivery:
        """Keep where and under which key the bytes have landed. Landing the same bytes again is harmless.

        Raises UnknownDeliveryError, and IllegalTransitionError if other bytes have landed before, or it has an outcome.
        """
        with self._changing(delivery_id) as (session, row):
            if row.outcome is None and row.sha256 == sha256 and row.landed_path == str(landed_path):
                return _delivery(row)
            _move(session, row, "landed", now, "")
            row.sha256, row.landed_path, row.size_bytes = sha256, str(landed_path), size_bytes
            row.key = DeliveryKeyRow(delivery_id=delivery_id, wrapped_key=wrapped_key)
            return _delivery(row)

    def pulled(self, delivery_id: str, cutoff_at: datetime) -> Delivery:
        """Keep up to which instant of change (exclusive) a pull has read its source."""
        with self._changing(delivery_id) as (_, row):
            row.cutoff_at = cutoff_at
            return _delivery(row)

    def finish(
        self,
        delivery_id: str,
        outcome: str,
        *,
        now: datetime,
        rows_read: int | None = None,
        rows_accepted: int | None = None,
        rows_rejected: int | None = None,
        counts_by_rule: Mapping[str, int] | None = None,
        not_checked: Sequence[str] = (),
        ruleset: str | None = None,
        content: str | None = None,
        in_force: bool = False,
        details: Mapping[str, Any] | None = None,
        cause: str = "",
        snapshot: str | None = None,
    ) -> Delivery:
        """Give a delivery its one final outcome and, with `in_force`, put it in force in the same transaction.

        The delivery in force before leaves force, unless it was claimed later than this one: then it stays, and the
        answer says `in_force=False`. Giving the same outcome again is harmless. Raises UnknownDeliveryError, and
        IllegalTransitionError for another outcome or a state from which this one cannot be reached.
        """
        with self._changing(delivery_id) as (session, row):
            if row.outcome == outcome:
                return _delivery(row)
            _move(session, row, outcome, now, cause)
            row.rows_read, row.rows_accepted, row.rows_rejected = rows_read, rows_accepted, rows_rejected
            row.counts_by_rule, row.not_checked = dict(counts_by_rule or {}), list(not_checked)
            row.ruleset, row.content, row.details = ruleset, content, dict(details or {})
            row.snapshot = snapshot
            if outcome == "duplicate":
                row.revision = _revision_of_original(session, row)
            if in_force and _takes_over(session, row, now):
                row.in_force, row.in_force_from_at = True, now
            return _delivery(row)

    def requalify(self, delivery_id: str, *, now: datetime, cause: str) -> Delivery | None:
        """Claim the landed bytes of an answered delivery for another examination: a revision, landed already.

        None when a delivery of the same series is under way, or came later than this one and got an outcome of its own:
        what a supplier sends is never overtaken by older bytes. Raises UnknownDeliveryError.
        """
        with self._changing(delivery_id) as (session, base):
            if _is_overtaken(session, base):
                return None
            origin = base.requalifies or base.delivery_id
            address = f"requalified:{base.delivery_id}@{now.isoformat()}"
            again = Arrival(
                base.supplier, base.dataset, base.period, address, base.name, base.size_bytes, base.mtime_ns
            )
            row = _new_delivery(session, again, now)
            same = {"sha256": base.sha256, "landed_path": base.landed_path, "cutoff_at": base.cutoff_at}
            session.execute(insert(DeliveryRow).values({**row, **same, "step": "landed", "requalifies": origin}))
            _note(session, row["delivery_id"], None, "claimed", now, cause)
            _note(session, row["delivery_id"], "claimed", "landed", now, cause)
            return _delivery(session.get_one(DeliveryRow, row["delivery_id"]))

    # -- questions about deliveries -------------------------------------------------------------------------------

    def delivery(self, delivery_id: str) -> Delivery:
        """One delivery; raises UnknownDeliveryError."""
        with Session(self.engine) as session:
            return _delivery(_get(session, delivery_id))

    def deliveries(self, period: str | None = None, supplier: str | None = None) -> list[Delivery]:
        """Deliveries of a month, of a supplier, or all, in the order of period, supplier, dataset and sequence."""
        wanted = []
        if period is not None:
            wanted.append(DeliveryRow.period == period)
        if supplier is not None:
            wanted.append(DeliveryRow.supplier == supplier)
        return self._deliveries(*wanted)

    def in_force(self, period: str, supplier: str | None = None) -> list[Delivery]:
        """What the grades of a month rest on: at most one delivery for each supplier (or only this one) and dataset."""
        wanted = [DeliveryRow.period == period, DeliveryRow.in_force.is_(True)]
        if supplier is not None:
            wanted.append(DeliveryRow.supplier == supplier)
        return self._deliveries(*wanted)

    def duplicate_of(
        self, supplier: str, dataset: str, period: str, sha256: str, ruleset: str, *, delivery_id: str | None = None
    ) -> Delivery | None:
        """The delivery in force, or in progress, that has the same bytes and rules; None if there is none.

        What is in progress may yet be refused: nothing is a duplicate of it before it is in force. With `delivery_id`,
        the delivery that asks: of two in progress only the later is told of the other, never both of each other.
        """
        same = (DeliveryRow.supplier == supplier, DeliveryRow.dataset == dataset, DeliveryRow.period == period)
        in_force = DeliveryRow.in_force & (DeliveryRow.ruleset == ruleset)
        found = self._deliveries(*same, DeliveryRow.sha256 == sha256, or_(in_force, DeliveryRow.outcome.is_(None)))
        own = next((each.sequence for each in found if each.delivery_id == delivery_id), None)
        others = [each for each in found if each.delivery_id != delivery_id]
        return next((each for each in others if each.in_force or own is None or each.sequence < own), None)

    def in_progress(self, suppliers: Collection[str]) -> list[Delivery]:
        """Deliveries of these suppliers that have no outcome."""
        return self._deliveries(DeliveryRow.outcome.is_(None), DeliveryRow.supplier == func.any(list(suppliers)))

    def stuck(self, before: datetime) -> list[Delivery]:
        """Deliveries without an outcome whose last step was taken before that instant."""
        return self._deliveries(DeliveryRow.outcome.is_(None), DeliveryRow.stepped_at < before)

    def transitions(self, delivery_id: str) -> list[Transition]:
        """Every change of a delivery's state, oldest first."""
        query = select(TransitionRow).where(TransitionRow.delivery_id == delivery_id)
        with Session(self.engine) as session:
            rows = session.scalars(query.order_by(TransitionRow.transition_id))
            return [_record(Transition, row) for row in rows]

    def watermark(self, supplier: str, dataset: str, before_period: str) -> datetime | None:
        """Up to which instant the pulls in force of earlier months have read their source; None before the first."""
        query = select(func.max(DeliveryRow.cutoff_at)).where(
            DeliveryRow.supplier == supplier,
            DeliveryRow.dataset == dataset,
            DeliveryRow.period < before_period,
            DeliveryRow.in_force,
        )
        with Session(self.engine) as session:
            return session.scalar(query)

    # -- completeness ---------------------------------------------------------------------------------------------

    def carry_forward(self, period: str, supplier: str, dataset: str, reason: str, *, now: datetime) -> None:
        """Decide that a month does without a delivery; the first decision stands."""
        row = {"period": period, "supplier": supplier, "dataset": dataset, "reason": reason, "carried_at": now}
        with Session(self.engine) as session, session.begin():
            session.execute(upsert(CarriedRow).values(row).on_conflict_do_nothing())

    def carried(self, period: str) -> list[Carried]:
        """What the month does without, still: a delivery that came after all takes the decision's place."""
        query = select(CarriedRow).where(CarriedRow.period == period, ~_came_after_all())
        with Session(self.engine) as session:
            rows = session.scalars(query.order_by(CarriedRow.supplier, CarriedRow.dataset))
            return [_record(Carried, row) for row in rows]

    def missing(self, period: str, expected: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of `expected` (supplier, dataset) that are neither in force nor carried forward, in the order given."""
        there = select(DeliveryRow.supplier, DeliveryRow.dataset).where(
            DeliveryRow.period == period, DeliveryRow.in_force
        )
        without = select(CarriedRow.supplier, CarriedRow.dataset).where(CarriedRow.period == period)
        with Session(self.engine) as session:
            settled = {(supplier, dataset) for supplier, dataset in session.execute(there.union(without))}
        return [(supplier, dataset) for supplier, dataset in expected if (supplier, dataset) not in settled]

    # -- due dates ------------------------------------------------------------------------------------------------

    def raise_alert(self, alert: Alert) -> bool:
        """Keep that a due date was missed: True for the first who says so, False for everybody afterwards."""
        row = {one.name: getattr(alert, one.name) for one in fields(Alert)}
        told = upsert(AlertRow).values(row).on_conflict_do_nothing().returning(AlertRow.period)
        with Session(self.engine) as session, session.begin():
            return session.scalar(told) is not None

    def alerts(self, period: str | None = None) -> list[Alert]:
        """Due dates that were missed, of a month or all, in the order of period, supplier and dataset."""
        query = select(AlertRow).order_by(AlertRow.period, AlertRow.supplier, AlertRow.dataset)
        if period is not None:
            query = query.where(AlertRow.period == period)
        with Session(self.engine) as session:
            return [_record(Alert, row) for row in session.scalars(query)]

    # -- audit ----------------------------------------------------------------------------------------------------

    def rows_with(self, delivery_id: str, rule: str) -> list[tuple[str, int]]:
        """(member, row) of a delivery's findings of one rule, those of the file as a whole left out."""
        query = select(FindingRow.member, FindingRow.row_no).where(
            FindingRow.delivery_id == delivery_id, FindingRow.rule == rule, FindingRow.row_no.is_not(None)
        )
        with Session(self.engine) as session:
            return [(str(member), int(row or 0)) for member, row in session.execute(query)]

    def save_findings(self, delivery_id: str, findings: pa.Table) -> int:
        """Replace the findings of a delivery; returns their number.

        Columns: member, row_no, rule, family, action, column_name, masked_key (absent ones become NULL); supplier,
        dataset and period are taken from the ledger. Raises UnknownDeliveryError.
        """
        with Session(self.engine) as session, session.begin():
            row = _get(session, delivery_id)
            session.execute(delete(FindingRow).where(FindingRow.delivery_id == delivery_id))
            constants = {
                "delivery_id": delivery_id,
                "supplier": row.supplier,
                "dataset": row.dataset,
                "period": row.period,
            }
            columns = (*DELIVERY_COLUMNS, *FINDING_COLUMNS)
            return bulk.copy_rows(session.connection(), ("audit", "findings"), columns, findings, constants)

    def save_across(self, period: str, rules: Collection[str], findings: pa.Table, *, supplier: str | None) -> int:
        """Replace what rules across files found in a month, for one supplier or for everybody; returns the number.

        Columns: delivery_id, supplier, dataset, member, row_no, rule, family, action, column_name.
        """
        old = delete(FindingRow).where(FindingRow.period == period, FindingRow.rule == func.any(list(rules)))
        with Session(self.engine) as session, session.begin():
            session.execute(old if supplier is None else old.where(FindingRow.supplier == supplier))
            columns = (*DELIVERY_COLUMNS, *FINDING_COLUMNS)
            return bulk.copy_rows(session.connection(), ("audit", "findings"), columns, findings, {"period": period})

    def save_unmatched(self, period: str, unmatched: pa.Table) -> int:
        """Replace a month's unmatched subjects. Columns: dataset, supplier, subject_kind, token, reason."""
        with Session(self.engine) as session, session.begin():
            session.execute(delete(UnmatchedRow).where(UnmatchedRow.period == period))
            table = ("audit", "unmatched")
            return bulk.copy_rows(session.connection(), table, UNMATCHED_COLUMNS, unmatched, {"period": period})

    def save_no_basis(self, period: str, no_basis: pa.Table) -> int:
        """Replace a month's items without legal ground.

        Columns: dataset, supplier, token, purpose, delivery_id, member, row_no.
        """
        with Session(self.engine) as session, session.begin():
            session.execute(delete(NoBasisRow).where(NoBasisRow.period == period))
            table = ("audit", "no_basis")
            return bulk.copy_rows(session.connection(), table, NO_BASIS_COLUMNS, no_basis, {"period": period})

    def save_step_outcome(
        self,
        delivery_id: str | None,
        period: str,
        step: str,
        rows_in: int | None,
        rows_out: int | None,
        rows_rejected: int | None,
        seconds: float,
        *,
        now: datetime,
    ) -> None:
        """Add one line to `audit.step_outcomes`; `delivery_id` is None for a step on a whole month."""
        row = StepOutcomeRow(
            delivery_id=delivery_id,
            period=period,
            step=step,
            rows_in=rows_in,
            rows_out=rows_out,
            rows_rejected=rows_rejected,
            seconds=Decimal(f"{seconds:.3f}"),
            at=now,
        )
        with Session(self.engine) as session, session.begin():
            session.add(row)

    # -- gradings and releases ------------------------------------------------------------------------------------

    def request_grading(self, period: str, fingerprint: str, *, now: datetime) -> bool:
        """Whether grades for these inputs have still to be asked for: True for the first caller, False afterwards.

        Only the last request of a month counts, so going back to earlier inputs is a new request.
        """
        row = {"period": period, "fingerprint": fingerprint, "requested_at": now}
        request = upsert(GradingRequestRow).values(row)
        request = request.on_conflict_do_update(
            index_elements=[GradingRequestRow.period],
            set_=row,
            where=GradingRequestRow.fingerprint != request.excluded.fingerprint,
        )
        with Session(self.engine) as session, session.begin():
            return session.scalar(request.returning(GradingRequestRow.period)) is not None

    def record_grading(
        self,
        period: str,
        fingerprint: str,
        staged_path: str,
        contents: Mapping[str, Any],
        *,
        now: datetime,
        basis: Mapping[str, Any] | None = None,
    ) -> Grading:
        """Note that a month was graded from the inputs `fingerprint` stands for; `basis` is all a replay needs."""
        row = GradingRow(
            period=period,
            fingerprint=fingerprint,
            staged_path=str(staged_path),
            contents=dict(contents),
            basis=None if basis is None else dict(basis),
            graded_at=now,
            code_version=code_version(),
        )
        with Session(self.engine) as session, session.begin():
            session.add(row)
            session.flush()
            return _record(Grading, row)

    def last_grading(self, period: str) -> Grading | None:
        """The latest grading of a month; None if it was never graded."""
        return self.last_gradings([period]).get(period)

    def last_gradings(self, periods: Collection[str] | None = None) -> dict[str, Grading]:
        """{period: latest grading}, of all months or of these."""
        latest_first = (GradingRow.period, GradingRow.grading_id.desc())
        query = select(GradingRow).ext(distinct_on(GradingRow.period)).order_by(*latest_first)
        if periods is not None:
            query = query.where(GradingRow.period == func.any(list(periods)))
        with Session(self.engine) as session:
            return {row.period: _record(Grading, row) for row in session.scalars(query)}

    def gradings(self) -> list[Grading]:
        """Every grading ever made, in the order of computation."""
        with Session(self.engine) as session:
            return [
                _record(Grading, row) for row in session.scalars(select(GradingRow).order_by(GradingRow.grading_id))
            ]

    def record_release(
        self,
        connection: Connection,
        *,
        release_id: str,
        period: str,
        previous_id: str | None,
        manifest: Mapping[str, Any],
        now: datetime,
    ) -> None:
        """Make a new release the current one, inside the caller's transaction; the one before becomes superseded."""
        _retire_current(connection, "superseded", now)
        highest = select(func.coalesce(func.max(ReleaseRow.sequence), 0)).where(ReleaseRow.period == period)
        row = {
            "release_id": release_id,
            "period": period,
            "sequence": highest.scalar_subquery() + 1,
            "status": "current",
            "previous_id": previous_id,
            "manifest": dict(manifest),
            "published_at": now,
            "status_at": now,
            "code_version": code_version(),
        }
        connection.execute(insert(ReleaseRow).values(row))

    def make_current(self, connection: Connection, release_id: str, *, now: datetime) -> None:
        """Roll back, inside the caller's transaction: that release becomes current, the current one rolled_back.

        Harmless if it is current already. Raises DataError if there is no such release.
        """
        known = select(ReleaseRow.status).where(ReleaseRow.release_id == release_id).with_for_update()
        status = connection.scalar(known)
        if status is None:
            raise DataError(f"no release {release_id!r}", "see `creditvillage release list`")
        if status != "current":
            _retire_current(connection, "rolled_back", now)
            again = update(ReleaseRow).where(ReleaseRow.release_id == release_id)
            connection.execute(again.values(status="current", status_at=now))

    def current_release(self) -> Release | None:
        """The release readers see; None before the first."""
        return next((each for each in self.releases() if each.status == "current"), None)

    def releases(self) -> list[Release]:
        """All releases, oldest first."""
        query = select(ReleaseRow).order_by(ReleaseRow.published_at, ReleaseRow.period, ReleaseRow.sequence)
        with Session(self.engine) as session:
            return [_record(Release, row) for row in session.scalars(query)]

    # -- inside ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self, delivery_id: str) -> Iterator[tuple[Session, DeliveryRow]]:
        """One transaction in which nobody else changes the delivery or another of its series."""
        with Session(self.engine, autoflush=False) as session, session.begin():
            series = (DeliveryRow.supplier, DeliveryRow.dataset, DeliveryRow.period)
            found = session.execute(select(*series).where(DeliveryRow.delivery_id == delivery_id)).one_or_none()
            if found is None:
                raise UnknownDeliveryError(delivery_id)
            _lock_series(session, *found)
            yield session, _get(session, delivery_id)
            session.flush()

    def _deliveries(self, *wanted: ColumnElement[bool]) -> list[Delivery]:
        order = (DeliveryRow.period, DeliveryRow.supplier, DeliveryRow.dataset, DeliveryRow.sequence)
        with Session(self.engine) as session:
            return [_delivery(row) for row in session.scalars(select(DeliveryRow).where(*wanted).order_by(*order))]


def _record(kind: type[RecordT], row: object) -> RecordT:
    return kind(**{field.name: getattr(row, field.name) for field in fields(kind)})


def _get(session: Session, delivery_id: str) -> DeliveryRow:
    row = session.get(DeliveryRow, delivery_id)
    if row is None:
        raise UnknownDeliveryError(delivery_id)
    return row


def _lock_number(*name: str) -> ColumnElement[int]:
    return func.hashtextextended("/".join(name), 0)


def _wait_for(connection: Connection, name: str, timeout_seconds: float) -> None:
    """Take the advisory lock `name`; raises LockTimeoutError."""
    patience = f"{max(1, round(timeout_seconds * 1000))}ms"
    connection.execute(select(func.set_config("lock_timeout", patience, False)))
    try:
        connection.execute(select(func.pg_advisory_lock(_lock_number(name))))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise LockTimeoutError(name, timeout_seconds) from None


def _give_back(connection: Connection) -> None:
    """Let go of the locks of a connection before it is used again; one that does not answer is closed, and they with it."""
    try:
        connection.execute(text("SELECT pg_advisory_unlock_all()"))
        connection.execute(text("RESET lock_timeout"))
    except DBAPIError:
        connection.invalidate()
    except BaseException:
        connection.invalidate()
        raise


def _ask_if_idle(engine: Engine) -> None:
    """Ask a connection whether it is still there before it is used again, unless it was used just now."""

    @event.listens_for(engine, "checkin")
    def note(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        now = time.monotonic()
        if now - record.info.get("idle_since", now) > IDLE_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error:
                raise DisconnectionError from None  # the pool takes another one


def _lock_series(session: Session, supplier: str, dataset: str, period: str) -> None:
    """Until the end of the transaction: what follows sees all earlier changes of this supplier, dataset and period."""
    session.execute(select(func.pg_advisory_xact_lock(_lock_number("series", supplier, dataset, period))))


def _note(session: Session, delivery_id: str, before: str | None, after: str, now: datetime, cause: str) -> None:
    row = {"delivery_id": delivery_id, "from_state": before, "to_state": after, "at": now, "cause": cause}
    session.execute(insert(TransitionRow).values(code_version=code_version(), **row))


def _move(session: Session, row: DeliveryRow, state: str, now: datetime, cause: str) -> None:
    """Change step or outcome and note it; raises IllegalTransitionError."""
    before = row.outcome or row.step
    require_allowed(row.delivery_id, before, state)
    _note(session, row.delivery_id, before, state, now, cause)
    row.stepped_at = now
    if state in OUTCOMES:
        row.outcome, row.finished_at = state, now
    else:
        row.step = state


def _look(arrival: Arrival, reason: str, before: Waiting | None, now: datetime) -> dict[str, Any]:
    """The row of a file that waits: its step never goes back, its rest begins anew whenever it changes."""
    same = before is not None and (before.size_bytes, before.mtime_ns) == (arrival.size_bytes, arrival.mtime_ns)
    settling_at = before.settling_at or (now if reason else None) if before else None
    return {
        "address": arrival.address,
        "supplier": arrival.supplier,
        "dataset": arrival.dataset,
        "period": arrival.period,
        "name": arrival.name,
        "size_bytes": arrival.size_bytes,
        "mtime_ns": arrival.mtime_ns,
        "step": "settling" if settling_at else "arrived",
        "reason": reason,
        "first_seen_at": before.first_seen_at if before else now,
        "settling_at": settling_at,
        "unchanged_since_at": before.unchanged_since_at if before and same else now,
    }


def _note_claim(session: Session, delivery_id: str, arrival: Arrival, now: datetime) -> None:
    """Note the claim, and what the file went through before it if a scan has kept it; it waits no longer."""
    known = delete(ArrivalRow).where(ArrivalRow.address == arrival.address)
    waited = session.execute(
        known.returning(ArrivalRow.step, ArrivalRow.first_seen_at, ArrivalRow.settling_at, ArrivalRow.reason)
    ).one_or_none()
    way: list[tuple[str | None, str, datetime, str]] = []
    if waited is not None:
        way.append((None, "arrived", waited.first_seen_at, ""))
    if waited is not None and waited.settling_at is not None:
        way.append(("arrived", "settling", waited.settling_at, waited.reason))
    way.append((waited.step if waited else None, "claimed", now, ""))
    rows = [{"from_state": a, "to_state": b, "at": at, "cause": why} for a, b, at, why in way]
    constants = {"delivery_id": delivery_id, "code_version": code_version()}
    session.execute(insert(TransitionRow), [{**row, **constants} for row in rows])


def _require_within(session: Session, arrival: Arrival, limits: DailyLimits) -> None:
    """Raise LimitReachedError if the file is beyond what its supplier may send that day.

    Until the end of the transaction nobody else claims for this supplier. A file that is larger than a whole day's
    bytes counts as a file only: it is claimed to be refused.
    """
    session.execute(select(func.pg_advisory_xact_lock(_lock_number("limits", arrival.supplier))))
    counts = func.jsonb_each_text(DeliveryRow.counts_by_rule).table_valued("key", "value").lateral("counts")
    found = select(func.sum(cast(counts.c.value, BigInteger))).select_from(counts).scalar_subquery()
    fitting = DeliveryRow.claimed_bytes <= limits.bytes_per_day
    used = select(
        func.count(),
        func.coalesce(func.sum(DeliveryRow.claimed_bytes).filter(fitting), 0),
        func.coalesce(func.sum(found), 0),
    ).where(
        DeliveryRow.supplier == arrival.supplier,
        DeliveryRow.claimed_at >= limits.since,
        DeliveryRow.claimed_at < limits.until,
    )
    files, claimed_bytes, findings = session.execute(used).one()
    if files >= limits.files_per_day:
        raise LimitReachedError(arrival.supplier, "files_per_day")
    if findings >= limits.findings:
        raise LimitReachedError(arrival.supplier, "findings")
    if claimed_bytes + arrival.size_bytes > limits.bytes_per_day >= arrival.size_bytes:
        raise LimitReachedError(arrival.supplier, "bytes_per_day")


def _new_delivery(session: Session, arrival: Arrival, now: datetime) -> dict[str, Any]:
    """The row of a claim, numbered after those before it; the series must be locked."""
    original = DeliveryRow.outcome.is_distinct_from("duplicate")
    numbers = select(
        func.coalesce(func.max(DeliveryRow.sequence), 0) + 1,
        func.coalesce(func.max(DeliveryRow.revision).filter(original), 0) + 1,
    ).where(
        DeliveryRow.supplier == arrival.supplier,
        DeliveryRow.dataset == arrival.dataset,
        DeliveryRow.period == arrival.period,
    )
    sequence, revision = session.execute(numbers).one()
    return {
        "delivery_id": f"{arrival.supplier}-{arrival.dataset}-{arrival.period}-{sequence:03d}",
        "supplier": arrival.supplier,
        "dataset": arrival.dataset,
        "period": arrival.period,
        "sequence": sequence,
        "revision": revision,
        "name": arrival.name,
        "address": arrival.address,
        "parts": list(arrival.parts),
        "claimed_bytes": arrival.size_bytes,
        "mtime_ns": arrival.mtime_ns,
        "size_bytes": arrival.size_bytes,
        "step": "claimed",
        "claimed_at": now,
        "stepped_at": now,
    }


def _revision_of_original(session: Session, row: DeliveryRow) -> int:
    """The revision whose bytes a duplicate repeats."""
    original = select(DeliveryRow.revision).where(
        DeliveryRow.supplier == row.supplier,
        DeliveryRow.dataset == row.dataset,
        DeliveryRow.period == row.period,
        DeliveryRow.sha256 == row.sha256,
        DeliveryRow.sequence < row.sequence,
    )
    found = session.scalar(original.order_by(DeliveryRow.in_force.desc(), DeliveryRow.sequence.desc()).limit(1))
    return found or row.revision


def _is_overtaken(session: Session, base: DeliveryRow) -> bool:
    """Whether another delivery of the series is under way, or a later one says something else than this one."""
    newer = DeliveryRow.sequence > base.sequence
    answered_anew = newer & DeliveryRow.outcome.in_(("accepted", "accepted_with_warnings"))
    others = select(DeliveryRow.delivery_id).where(
        DeliveryRow.supplier == base.supplier,
        DeliveryRow.dataset == base.dataset,
        DeliveryRow.period == base.period,
        DeliveryRow.delivery_id != base.delivery_id,
        or_(DeliveryRow.outcome.is_(None), answered_anew),
    )
    return session.scalar(select(others.exists())) is True


def _takes_over(session: Session, row: DeliveryRow, now: datetime) -> bool:
    """Let the delivery in force leave it; False if it was claimed later, and so stays. The series must be locked."""
    current = session.scalar(
        select(DeliveryRow).where(
            DeliveryRow.supplier == row.supplier,
            DeliveryRow.dataset == row.dataset,
            DeliveryRow.period == row.period,
            DeliveryRow.in_force,
        )
    )
    if current is None:
        return True
    if current.sequence > row.sequence:
        return False
    current.in_force, current.in_force_to_at, current.superseded_by = False, now, row.delivery_id
    session.flush()  # leaves first: the index allows one in force
    return True


def _came_after_all() -> ColumnElement[bool]:
    return (
        select(DeliveryRow.delivery_id)
        .where(
            DeliveryRow.period == CarriedRow.period,
            DeliveryRow.supplier == CarriedRow.supplier,
            DeliveryRow.dataset == CarriedRow.dataset,
            DeliveryRow.in_force,
        )
        .exists()
    )


def _retire_current(connection: Connection, status: str, now: datetime) -> None:
    current = update(ReleaseRow).where(ReleaseRow.status == "current")
    connection.execute(current.values(status=status, status_at=now))


def _open_to_analysts(connection: Connection) -> None:
    """Analysts may read everything here but keys and what people wrote, where the server has such a role."""
    if connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :role"), {"role": ANALYST}):
        for statement in (
            f"GRANT USAGE ON SCHEMA ledger, audit TO {ANALYST}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA ledger, audit TO {ANALYST}",
            f"REVOKE ALL ON ledger.delivery_keys, ledger.case_texts FROM {ANALYST}",
        ):
            connection.execute(text(statement))


def _delivery(row: DeliveryRow) -> Delivery:
    values = {field.name: getattr(row, field.name) for field in fields(Delivery)}
    return Delivery(**{**values, "parts": tuple(row.parts), "not_checked": tuple(row.not_checked)})
