"""The numbers of the documents that list items stand on, for the person an item is about and for nobody else.

They identify people and are kept nowhere but in the landed bytes, so they are read there, from the version of the item that
counts in the month.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.predicates import accepted_columns
from etl.deliveries import Subject, path_of, reading, subject_of
from etl.ledger.records import Delivery
from etl.period import Period
from etl.reports.endings import EVENTS
from etl.vocabulary import DataError
from etl.workspace import Workspace

_PIECE_ROWS: Final = 50_000
_NUMBER: Final = "document_no"


def document_numbers(ws: Workspace, event_keys: Collection[str], period: Period) -> dict[str, str]:
    """{item: document number} as known in a month; an item whose delivery was deleted by law is left out.

    Raises DataError for landed bytes that are gone, though nobody deleted them, or that no layout reads any more.
    """
    found: dict[str, str] = {}
    dataset = ws.contracts[EVENTS].dataset
    for month in reversed(list(Period.range(ws.registry.county.first_period, period))):
        for delivery in ws.ledger.in_force(str(month)):
            wanted = set(event_keys) - found.keys()
            if wanted and delivery.dataset == dataset and delivery.wrapped_key is not None:
                found |= dict(_numbers(ws, delivery, wanted))
    return found


def _numbers(ws: Workspace, delivery: Delivery, event_keys: Collection[str]) -> Iterator[tuple[str, str]]:
    rows = _rows(ws, delivery, event_keys)
    if not rows:
        return
    with reading(ws, _readable(ws, delivery)) as read:
        for piece in read.pieces(_PIECE_ROWS):
            if _NUMBER in piece.column_names:
                for member, row, number in _cells(piece, [row for _, row in rows]):
                    if (member, row) in rows and number.strip():
                        yield rows[member, row], number.strip()


def _readable(ws: Workspace, delivery: Delivery) -> Subject:
    if not Path(str(delivery.landed_path)).is_file():
        raise DataError(f"{delivery.delivery_id}: its landed bytes are gone", "restore them from the backup")
    try:
        return subject_of(ws, delivery)
    except LookupError:
        mend = f"restore the layout of {delivery.period} in config/sources/{delivery.supplier}.yml"
        raise DataError(f"{delivery.delivery_id}: no layout reads it any more", mend) from None


def _rows(ws: Workspace, delivery: Delivery, event_keys: Collection[str]) -> dict[tuple[str, int], str]:
    """{(member, row): item} of the accepted rows of a delivery."""
    contract = ws.contract_of(delivery.dataset)
    with ws.engine() as engine:
        engine.register_parquet("accepted", [path_of(ws, "accepted", delivery)], accepted_columns(contract))
        query = "SELECT _member, _row, event_key FROM accepted WHERE event_key IN (SELECT unnest($keys))"
        return {(member, row): key for member, row, key in engine.fetch(query, {"keys": sorted(event_keys)})}


def _cells(piece: pa.Table, rows: list[int]) -> Iterator[tuple[str, int, str]]:
    held = piece.filter(pc.is_in(piece["_row"], pa.array(rows, pa.int64())))
    yield from zip(*(held[name].to_pylist() for name in ("_member", "_row", _NUMBER)), strict=True)
