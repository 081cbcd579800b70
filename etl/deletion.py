"""Deletion by law: a delivery's key is destroyed, and with it the only way to its landed bytes (DESIGN 9.8).

The quarantine of its raw strings goes too. Accepted rows stay: they hold tokens in place of identity, and the grades in force
rest on them (decision 0002). What a replay can still compare afterwards is told by `etl.replay`.
"""

from __future__ import annotations

from datetime import datetime

from etl.deliveries import path_of
from etl.examination import keep_digests
from etl.ledger.deletions import Deletion, destroy_keys
from etl.ledger.records import Delivery
from etl.months import REGISTER
from etl.vocabulary import DataError
from etl.workspace import Workspace


def forget(ws: Workspace, delivery_id: str, reason: str, *, now: datetime) -> list[Deletion]:
    """Delete a delivery, and every other one that rests on the same landed bytes; doing it again changes nothing.

    Raises UnknownDeliveryError, and DataError for a delivery that has not landed or has no outcome yet, or without a
    reason.
    """
    delivery = ws.ledger.delivery(delivery_id)
    if not reason.strip():
        raise DataError(f"{delivery_id}: no reason is given", "name the legal ground with --reason")
    if delivery.outcome is None or delivery.sha256 is None:
        raise DataError(f"{delivery_id}: {delivery.state}, there is nothing to delete", "wait for its outcome")
    same_bytes = _resting_on_its_bytes(ws, delivery)
    for one in same_bytes:
        _keep_what_months_need(ws, one)
    deleted = destroy_keys(ws.ledger, [one.delivery_id for one in same_bytes], reason, now=now)
    for one in same_bytes:
        path_of(ws, "quarantine", one).unlink(missing_ok=True)
    return deleted


def _resting_on_its_bytes(ws: Workspace, delivery: Delivery) -> list[Delivery]:
    origin = delivery.requalifies or delivery.delivery_id
    series = ws.ledger.deliveries(delivery.period, delivery.supplier)
    found = [one for one in series if origin in (one.delivery_id, one.requalifies)]
    busy = [one.delivery_id for one in found if one.outcome is None]
    if busy:
        raise DataError(f"{busy[0]}: it is examining the same bytes", "wait for its outcome")
    return found


def _keep_what_months_need(ws: Workspace, delivery: Delivery) -> None:
    """The map from digests to persons is made from landed bytes when a month first needs it: now is the last time."""
    if delivery.in_force and delivery.dataset == REGISTER and delivery.wrapped_key and ws.registry.takes_id_digests:
        keep_digests(ws, delivery)
