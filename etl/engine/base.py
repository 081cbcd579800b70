"""What the pipeline asks of an engine, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import pyarrow as pa

UNIT_SEPARATOR = "\x1f"
NULL_MARK = "\x1e"
CHECKSUM_HEX = 15


@dataclass(frozen=True)
class Content:
    """What a relation holds, whatever the order of its rows and the bytes of its file.

    `checksum` is the sum over all rows of the first 15 hexadecimal digits of md5 of the row's text: the columns'
    texts joined by U+001F, null as U+001E. The contents of two files add up to the content of both together.
    """

    rows: int
    checksum: int

    @classmethod
    def parse(cls, text: str) -> Content:
        """Read what `str` wrote; raises ValueError for anything else."""
        rows, checksum = text.split(":")
        return cls(int(rows), int(checksum))

    def __add__(self, other: Content) -> Content:
        return Content(self.rows + other.rows, self.checksum + other.checksum)

    def __str__(self) -> str:
        return f"{self.rows}:{self.checksum}"


NOTHING = Content(0, 0)


@runtime_checkable
class Engine(Protocol):
    """One SQL session with temporary relations. Names are plain identifiers; parameters are bound, never spliced."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None: ...

    def register_parquet(self, name: str, paths: Sequence[Path | str], columns: Mapping[str, str]) -> None:
        """A view over Parquet files with exactly these columns (name to SQL type); empty when there are no files."""

    def register_arrow(self, name: str, table: pa.Table | pa.RecordBatchReader) -> None:
        """A relation over an Arrow table (or, readable once, a stream of batches)."""

    def run_model(self, name: str, select_sql: str, params: Mapping[str, Any] | None = None) -> None:
        """Replace the table `name` by the rows of one SELECT; parameters the SELECT does not name are left out."""

    def write_parquet(self, query: str, path: Path, params: Mapping[str, Any] | None = None) -> int:
        """Write the rows of one ordered SELECT as a Parquet file; returns how many."""

    def fetch(self, query: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a small SELECT."""

    def content(self, relation: str, columns: Sequence[str]) -> Content:
        """The content of a relation or parenthesised SELECT over these columns, in this order."""
