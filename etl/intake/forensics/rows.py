"""The delivered rows as forensics looks at them: which cells were refused by which rules, always in bounded numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.casts import BLANKS
from etl.contract.model import Column, Contract, Rule
from etl.registry import CodeLists, Layout

MAX_CELLS: Final = 50_000
SAMPLE_ROWS: Final = 2_000
_RUN_ROWS: Final = 100
_ROW_BITS: Final = 1 << 40
_Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """Trimmed cells of one column with their row numbers; `rules` are those that refused them."""

    column: Column
    texts: pa.Array
    rows: _Positions
    rules: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.texts)

    def numbers(self) -> npt.NDArray[np.float64]:
        """The cells that are plain numbers."""
        plain = self.texts.filter(pc.match_substring_regex(self.texts, r"^[+-]?[0-9]{1,15}([.][0-9]{1,15})?$"))
        return pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Delivered:
    """Strings, their findings (`_member`, `_row`, `rule`), and what was agreed about them."""

    table: pa.Table
    findings: pa.Table
    layout: Layout
    contract: Contract
    codes: CodeLists

    @property
    def row_count(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def columns(self) -> list[Column]:
        """Columns that were really delivered, not confirmed once for all."""
        wanted = set(self.layout.canonical) - set(self.layout.defaults)
        return [column for column in self.contract.delivered if column.name in wanted]

    @cached_property
    def fired(self) -> frozenset[str]:
        """Rules with a finding."""
        return frozenset(pc.unique(self.findings["rule"]).to_pylist())

    def fired_on(self, column: str) -> tuple[str, ...]:
        """Rules with a finding that look at a column."""
        return tuple(rule.id for rule in self._fired_rules if column in rule.columns)

    @cached_property
    def _fired_rules(self) -> list[Rule]:
        return [rule for rule in self.contract.row_rules if rule.id in self.fired]

    def heading(self, column: str) -> str:
        """A column's name as delivered."""
        return next((source for source, name in self.layout.source_to_canonical.items() if name == column), column)

    def refused(self, column: Column, kinds: Sequence[str]) -> Cells:
        """The cells of a column that its own facts of these kinds refused, at most MAX_CELLS, blank ones left out."""
        rules = [r.id for r in self._fired_rules if r.column == column.name and r.kind in kinds]
        if not rules:
            return Cells(column, pa.array([], pa.string()), np.empty(0, np.int64))
        chosen = self.findings.filter(pc.is_in(self.findings["rule"], pa.array(rules, pa.string())))
        places = pa.array(self._indices(chosen)[:MAX_CELLS])
        taken = self.table.select([column.name, "_row"]).take(places)
        return self._cells(column, taken, tuple(rules))

    def rows_of(self, rules: Sequence[str]) -> _Positions:
        """Positions in the table of the rows these rules refused."""
        return self._indices(self.findings.filter(pc.is_in(self.findings["rule"], pa.array(rules, pa.string()))))

    def sample(self, column: Column) -> Cells:
        """Cells of a column from evenly spread runs of rows, blank ones left out; at most SAMPLE_ROWS."""
        return self._cells(column, self._sampled, self.fired_on(column.name))

    @cached_property
    def _sampled(self) -> pa.Table:
        if self.row_count <= SAMPLE_ROWS:
            return self.table.combine_chunks()
        starts = np.linspace(0, self.row_count - _RUN_ROWS, SAMPLE_ROWS // _RUN_ROWS, dtype=np.int64)
        return pa.concat_tables([self.table.slice(int(start), _RUN_ROWS) for start in starts]).combine_chunks()

    def _cells(self, column: Column, taken: pa.Table, rules: tuple[str, ...]) -> Cells:
        texts = pc.utf8_trim(taken[column.name], BLANKS).combine_chunks()
        blank = pc.is_in(texts, pa.array(["", *self.layout.nulls], pa.string()))
        kept = pc.invert(blank)
        rows = taken["_row"].combine_chunks().filter(kept).to_numpy(zero_copy_only=False)
        return Cells(column, texts.filter(kept), rows, rules)

    @cached_property
    def _places(self) -> _Positions:
        return self._positions(self.table)

    @cached_property
    def _members(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(pc.unique(self.table["_member"]).to_pylist())}

    def _positions(self, table: pa.Table) -> _Positions:
        """One ascending number for each (member, row): rows are in order within a member."""
        encoded = table["_member"].combine_chunks().dictionary_encode()
        codes = np.asarray([self._members.get(n, -1) for n in encoded.dictionary.to_pylist()], dtype=np.int64)
        members = codes[encoded.indices.to_numpy(zero_copy_only=False)] if len(codes) else np.empty(0, np.int64)
        return members * _ROW_BITS + table["_row"].to_numpy()  # type: ignore[no-any-return]

    def _indices(self, findings: pa.Table) -> _Positions:
        """Positions of the rows found, in order; lines that could not be split have none."""
        wanted = np.unique(self._positions(findings))
        found = np.searchsorted(self._places, wanted)
        if not len(self._places):
            return np.empty(0, np.int64)
        is_there = self._places[np.minimum(found, len(self._places) - 1)] == wanted
        return np.asarray(found[is_there], dtype=np.int64)
