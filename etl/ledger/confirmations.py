"""Confirmed warnings in the ledger. Every method is one short transaction; only tokens are kept, never a value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from etl.ledger.models import ConfirmationFileRow, ConfirmationRow, DeliveryRow
from etl.ledger.repository import Ledger

CONFIRMED = "confirmed"


@dataclass(frozen=True)
class ConfirmationFile:
    """A claimed file that confirms warnings; `is_accepted` is None while it has no answer."""

    confirmation_id: str
    is_accepted: bool | None


@dataclass(frozen=True)
class ConfirmedWarning:
    """One warning as the ledger keeps it."""

    rule: str
    key_token: str
    value_token: str


def claim_file(
    ledger: Ledger, supplier: str, address: str, name: str, size_bytes: int, mtime_ns: int, *, now: datetime
) -> ConfirmationFile:
    """The one entry of this file, made if there is none yet; the same file seen again is the same entry.

    The caller holds a lock on the supplier: files are numbered for each supplier on its own.
    """
    row = ConfirmationFileRow
    own = (row.address == address, row.claimed_bytes == size_bytes, row.mtime_ns == mtime_ns)
    with Session(ledger.engine) as session, session.begin():
        found = session.scalar(select(row).where(row.supplier == supplier, *own))
        if found is None:
            count = session.scalar(select(func.count()).select_from(row).where(row.supplier == supplier)) or 0
            found = ConfirmationFileRow(
                confirmation_id=f"{supplier}-confirmation-{count + 1:04d}",
                supplier=supplier,
                name=name,
                address=address,
                claimed_bytes=size_bytes,
                mtime_ns=mtime_ns,
                claimed_at=now,
            )
            session.add(found)
        return ConfirmationFile(found.confirmation_id, found.is_accepted)


def answered_files(ledger: Ledger) -> set[tuple[str, int, int]]:
    """(address, size in bytes, mtime_ns) of every file that has its answer."""
    row = ConfirmationFileRow
    query = select(row.address, row.claimed_bytes, row.mtime_ns).where(row.is_accepted.is_not(None))
    with Session(ledger.engine) as session:
        return {(address, size, mtime) for address, size, mtime in session.execute(query)}


def confirmed_warnings(ledger: Ledger, supplier: str, dataset: str, rules: Collection[str]) -> pa.Table:
    """What a supplier has confirmed of these rules, whatever the month: rule, key_token, value_token."""
    columns = (ConfirmationRow.rule, ConfirmationRow.key_token, ConfirmationRow.value_token)
    query = select(*columns).where(
        ConfirmationRow.supplier == supplier,
        ConfirmationRow.dataset == dataset,
        ConfirmationRow.rule == func.any(list(rules)),
    )
    with Session(ledger.engine) as session:
        found = [tuple(row) for row in session.execute(query)]
    arrays = [pa.array([row[place] for row in found], pa.string()) for place in range(len(columns))]
    return pa.table(arrays, names=["rule", "key_token", "value_token"])


def refuse_file(
    ledger: Ledger, confirmation_id: str, *, sha256: str | None, delivery_id: str | None, now: datetime
) -> None:
    """Answer a file that confirms nothing."""
    with Session(ledger.engine) as session, session.begin():
        _answer(session, confirmation_id, sha256, delivery_id, is_accepted=False, confirmed=0, now=now)


def settle_file(ledger: Ledger, confirmation_id: str, *, sha256: str | None, is_accepted: bool, now: datetime) -> None:
    """Answer a file that speaks of no delivery (a bank's answer to a question)."""
    with Session(ledger.engine) as session, session.begin():
        _answer(session, confirmation_id, sha256, None, is_accepted=is_accepted, confirmed=0, now=now)


def accept_file(
    ledger: Ledger,
    confirmation_id: str,
    *,
    sha256: str,
    delivery_id: str,
    warnings: Sequence[ConfirmedWarning],
    still_open: Mapping[str, int],
    confirmed: Mapping[str, int],
    now: datetime,
) -> None:
    """Keep what a file confirms, and let it count no longer.

    `warnings` hold for all months to come. `still_open` and `confirmed` are the findings of the delivery by rule as
    they are from now on, for every rule that warns of a row. An answered file changes nothing.
    """
    with Session(ledger.engine) as session, session.begin():
        delivery = session.get_one(DeliveryRow, delivery_id, with_for_update={"of": DeliveryRow})
        before = sum(delivery.counts_by_rule.get(rule, 0) for rule in still_open)
        newly = before - sum(still_open.values())
        if not _answer(session, confirmation_id, sha256, delivery_id, is_accepted=True, confirmed=newly, now=now):
            return
        own = {"supplier": delivery.supplier, "dataset": delivery.dataset, "delivery_id": delivery_id}
        rows = [{**own, "confirmation_id": confirmation_id, "confirmed_at": now, **vars(each)} for each in warnings]
        if rows:
            session.execute(upsert(ConfirmationRow).on_conflict_do_nothing(), rows)
        _settle(delivery, still_open, confirmed)


def _answer(
    session: Session,
    confirmation_id: str,
    sha256: str | None,
    delivery_id: str | None,
    *,
    is_accepted: bool,
    confirmed: int,
    now: datetime,
) -> bool:
    """Whether the file had no answer until now."""
    row = session.get_one(ConfirmationFileRow, confirmation_id, with_for_update=True)
    if row.is_accepted is not None:
        return False
    row.is_accepted, row.confirmed, row.answered_at = is_accepted, confirmed, now
    row.sha256, row.delivery_id = sha256, delivery_id
    return True


def _settle(delivery: DeliveryRow, still_open: Mapping[str, int], confirmed: Mapping[str, int]) -> None:
    """Note what counts from now on; JSON columns are replaced, never changed in place."""
    counts = {**delivery.counts_by_rule, **still_open}
    details: dict[str, Any] = dict(delivery.details)
    settled = {**details.get("settled", {}), CONFIRMED: {rule: count for rule, count in confirmed.items() if count}}
    delivery.counts_by_rule = {rule: count for rule, count in counts.items() if count}
    delivery.details = {**details, "settled": settled}
