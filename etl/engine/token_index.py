"""Where tokens stand in Parquet files that never change: hashes in order, each with the number of its row.

An index is one array of 64-bit numbers for each token column of a list of files: the upper bits of the token's hash, the
lower bits the row, counted through all files. Rows found may hold another token of a like hash: whoever asks looks again.
The hash is the engine's own, so an index belongs to one version of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from etl.engine.duck import DuckEngine, identifier, literal

ROW_BITS = 28
_ROWS = np.uint64((1 << ROW_BITS) - 1)
_BATCH = 1 << 20
Numbers = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class TokenIndex:
    """The index of some token columns of one list of files, kept in a folder; made when it is first asked for."""

    engine: DuckEngine
    folder: Path
    files: tuple[Path, ...]
    columns: tuple[str, ...]

    def find(self, asked: Mapping[str, Sequence[str]]) -> Iterator[tuple[Path, list[int]]]:
        """Files with the numbers of their rows that may hold one of these tokens (by column)."""
        found = [self._of_column(column, tokens) for column, tokens in asked.items() if column in self.columns]
        rows = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
        ends = np.cumsum(self._counts)
        for path, count, end in zip(self.files, self._counts, ends, strict=True):
            here = rows[(rows >= end - count) & (rows < end)] - (end - count)
            if len(here):
                yield path, [int(row) for row in here]

    def build(self) -> None:
        """Make the index unless it is there."""
        if self._path.exists():
            return
        arrays = [self._hashed(column) for column in self.columns]
        lengths = np.array([len(array) for array in arrays], np.uint64)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = self._path.with_suffix(".part")
        with scratch.open("wb") as file:
            np.save(file, np.concatenate([lengths, *arrays]))
        scratch.replace(self._path)

    @cached_property
    def _counts(self) -> list[int]:
        return [pq.read_metadata(path).num_rows for path in self.files]

    @cached_property
    def _path(self) -> Path:
        parts = [duckdb.__version__, *self.columns]
        parts += [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in self.files]
        mark = hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()
        return self.folder / f"{mark}.npy"

    @cached_property
    def _arrays(self) -> dict[str, Numbers]:
        self.build()
        held = np.load(self._path, mmap_mode="r")
        ends = np.cumsum([len(self.columns), *(int(length) for length in held[: len(self.columns)])])
        return {name: held[ends[at] : ends[at + 1]] for at, name in enumerate(self.columns)}

    def _of_column(self, column: str, tokens: Sequence[str]) -> npt.NDArray[np.int64]:
        hashes = self._hashes_of(tokens)
        array = self._arrays[column]
        begin = np.searchsorted(array, hashes & ~_ROWS, side="left")
        end = np.searchsorted(array, hashes | _ROWS, side="right")
        parts = [array[low:high] & _ROWS for low, high in zip(begin, end, strict=True) if high > low]
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)

    def _hashes_of(self, tokens: Sequence[str]) -> Numbers:
        rows = self.engine.fetch("SELECT hash(token) FROM (SELECT unnest($tokens) AS token)", {"tokens": list(tokens)})
        return np.array([value for (value,) in rows], np.uint64)

    def _hashed(self, column: str) -> Numbers:
        """Hashes of a column with their rows, in order; rows without a token are left out."""
        numbers, at = np.zeros(sum(self._counts), np.uint64), 0
        if len(numbers) > int(_ROWS):
            raise OverflowError(f"{len(numbers)} rows are more than an index counts")
        if not len(numbers) or not self._is_held(column):
            return numbers[:0]
        name, files = identifier(column), ", ".join(literal(str(path)) for path in self.files)
        query = (
            f"SELECT CASE WHEN {name} IS NULL THEN CAST(0 AS UBIGINT) ELSE hash({name}) END AS number "
            f"FROM read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
        )
        for batch in self.engine.con.sql(query).to_arrow_reader(_BATCH):
            part = batch.column(0).to_numpy()
            numbers[at : at + len(part)] = part
            at += len(part)
        is_token = numbers != 0
        placed: Numbers = ((numbers & ~_ROWS) | np.arange(len(numbers), dtype=np.uint64))[is_token]
        placed.sort()
        return placed

    def _is_held(self, column: str) -> bool:
        return any(column in pq.read_schema(path).names for path in self.files)


def rows_select(path: Path, rows: Sequence[int], columns: Sequence[str]) -> str:
    """A SELECT of some rows of a Parquet file, by number; columns the file lacks are left out."""
    held = set(pq.read_schema(path).names)
    wanted = ", ".join(identifier(name) for name in columns if name in held)
    numbers = ", ".join(map(str, rows))
    return (
        f"SELECT {wanted} FROM read_parquet({literal(str(path))}, file_row_number = true) "
        f"WHERE file_row_number IN ({numbers})"
    )
