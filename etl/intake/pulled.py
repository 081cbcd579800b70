"""Read a landed pull of a source database: its rows as strings, and the keys of all rows that existed then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.intake.strings import Readout, broken, frame
from etl.registry import Feed, Layout


def read_pulled(
    raw: BinaryIO, member: str, feed: Feed, layout: Layout, *, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """Batches of the strings relation of a pull's first part; `_row` is the position in change order.

    Raises UnreadableError (P107) when the part is not the Parquet file of this layout.
    """
    wanted = {source: name for source, name in layout.source_to_canonical.items() if source not in layout.ignore}
    for batch in _parquet_batches(raw, member, list(wanted)):
        first = readout.rows_read + 1
        readout.rows_read += batch.num_rows
        rows = np.arange(first, readout.rows_read + 1, dtype=np.int64)
        cells = {name: batch.column(source) for source, name in wanted.items()}
        yield frame(cells, layout, delivery_id=delivery_id, member=member, rows=rows, lines=rows)


def read_keys(keys_file: BinaryIO) -> pa.Table:
    """The key list of a pull (its second part): one text column, named as at the source, ascending."""
    return pq.ParquetFile(keys_file).read(use_threads=False)


def _parquet_batches(raw: BinaryIO, member: str, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        file = pq.ParquetFile(raw)
        missing = [name for name in wanted if name not in file.schema_arrow.names]
    except pa.ArrowInvalid:
        missing = wanted
    if missing:
        raise broken(member, "提取文件与布局不符", f"the pull lacks {missing[0]}", "重新提取")
    yield from file.iter_batches(columns=wanted, use_threads=False)
