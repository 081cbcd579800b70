"""A small table of equally long numpy columns that can grow, and the random streams of the simulated world."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np


class Table(dict[str, np.ndarray]):
    """Named numpy columns of one length; rows are only ever added, never removed."""

    @property
    def rows(self) -> int:
        return len(next(iter(self.values()))) if self else 0

    def append(self, columns: Mapping[str, np.ndarray | int | bool]) -> np.ndarray:
        """Add rows (scalars are repeated) and return their positions. Raises KeyError for a missing column."""
        count = next(len(value) for value in columns.values() if isinstance(value, np.ndarray))
        first = self.rows
        for name, old in self.items():
            self[name] = np.concatenate([old, np.broadcast_to(columns[name], (count,)).astype(old.dtype)])
        return np.arange(first, first + count)

    def where(self, mask: np.ndarray) -> Table:
        """The rows for which the mask holds (or the positions given), as a new table."""
        return Table({name: column[mask] for name, column in self.items()})


def stream(seed: int, month: int, name: str) -> np.random.Generator:
    """The random stream of one purpose in one month: independent of every other stream."""
    return np.random.default_rng([seed, month, zlib.crc32(name.encode())])


def rank_in_group(keys: np.ndarray) -> np.ndarray:
    """0-based rank of each row among the rows with its key, in row order."""
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    starts = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
    lengths = np.diff(np.r_[starts, len(keys)])
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = np.arange(len(keys)) - np.repeat(starts, lengths)
    return ranks
