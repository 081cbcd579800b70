"""Deliveries deleted by law: their key is destroyed for good; hash, reason and date stay."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from etl.ledger.models import DeletionRow, DeliveryKeyRow, DeliveryRow
from etl.ledger.repository import Ledger


@dataclass(frozen=True)
class Deletion:
    """What is left of a deleted delivery; the columns are described in `etl.ledger.models.DeletionRow`."""

    delivery_id: str
    sha256: str
    reason: str
    deleted_at: datetime


def destroy_keys(ledger: Ledger, delivery_ids: Collection[str], reason: str, *, now: datetime) -> list[Deletion]:
    """Destroy the keys of landed deliveries and note it in the same transaction; the first reason stands.

    All of them rest on the same bytes: a delivery and those that examined it again.
    """
    ids = sorted(delivery_ids)
    with Session(ledger.engine) as session, session.begin():
        landed = select(DeliveryRow.delivery_id, DeliveryRow.sha256).where(
            DeliveryRow.delivery_id == func.any(ids), DeliveryRow.sha256.is_not(None)
        )
        rows = [
            {"delivery_id": delivery_id, "sha256": sha256, "reason": reason, "deleted_at": now}
            for delivery_id, sha256 in session.execute(landed)
        ]
        session.execute(upsert(DeletionRow).values(rows).on_conflict_do_nothing())
        session.execute(delete(DeliveryKeyRow).where(DeliveryKeyRow.delivery_id == func.any(ids)))
    noted = deletions(ledger)
    return [noted[delivery_id] for delivery_id in ids if delivery_id in noted]


def deletions(ledger: Ledger) -> dict[str, Deletion]:
    """Every deleted delivery, by its id."""
    with Session(ledger.engine) as session:
        rows = session.scalars(select(DeletionRow).order_by(DeletionRow.delivery_id))
        return {
            row.delivery_id: Deletion(**{one.name: getattr(row, one.name) for one in fields(Deletion)}) for row in rows
        }
