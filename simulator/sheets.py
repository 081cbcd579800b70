"""A file before it is written: named string columns, single-cell edits, and a view of one row for planting mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.settings import Config, Layout
from simulator.text import day_number, day_of, edited


@dataclass(frozen=True)
class Style:
    """How one supplier writes dates, amounts, rates and codes."""

    config: Config
    coding: str
    first_day: int
    last_day: int
    date_separator: str = "-"
    yuan_per_unit: int = 1
    rate_as_fraction: bool = False

    def on(self, day: int) -> str:
        """A date as this supplier writes it."""
        return day_of(day).strftime(f"%Y{self.date_separator}%m{self.date_separator}%d")

    def day(self, text: str) -> int:
        """Days since 1970-01-01 of a date this supplier wrote. Raises ValueError for anything else."""
        plain = text.replace(self.date_separator, "") if self.date_separator else text
        return day_number(date(int(plain[:4]), int(plain[4:6]), int(plain[6:8])))

    def money(self, yuan: str) -> str:
        """An amount in yuan as this supplier writes it."""
        return str(Decimal(yuan) / self.yuan_per_unit)

    def rate(self, percent: str) -> str:
        """A rate in percent as this supplier writes it."""
        return str(Decimal(percent) / 100) if self.rate_as_fraction else percent

    def code(self, code_list: str, canonical: str) -> str:
        """A canonical code in this supplier's coding. Raises KeyError if the coding has none."""
        text = self.config.code(code_list, self.coding, canonical)
        if text is None:
            raise KeyError(f"{self.coding} has no code for {code_list} {canonical}")
        return text


@dataclass
class Sheet:
    """String columns of one file by canonical name. `positions` says which entity each row shows."""

    layout: Layout
    style: Style
    columns: dict[str, pa.Array]
    positions: np.ndarray
    edits: dict[str, dict[int, str | None]] = field(default_factory=dict)
    numeric: frozenset[str] = frozenset()
    date_cells: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        return len(self.positions)

    def edit(self, row: int, changes: dict[str, str | None]) -> None:
        """Replace cells of a 0-based row."""
        for name, text in changes.items():
            self.edits.setdefault(name, {})[row] = text

    def column(self, name: str) -> pa.Array:
        """A column with its edits."""
        return edited(self.columns[name], self.edits.get(name, {}))

    def repeated(self, rows: np.ndarray) -> Sheet:
        """The same sheet with copies of some rows at its end. Must come before any edit."""
        order = pa.array(np.r_[np.arange(self.rows), rows])
        columns = {name: column.take(order) for name, column in self.columns.items()}
        positions = np.r_[self.positions, self.positions[rows]]
        return Sheet(self.layout, self.style, columns, positions, {}, self.numeric, self.date_cells)

    def append_copy(self, row: int) -> int:
        """Add a copy of a row at the end, in place; returns its row. Must come before any edit."""
        grown = self.repeated(np.array([row]))
        self.columns, self.positions = grown.columns, grown.positions
        return self.rows - 1

    def ordered(self) -> list[pa.Array]:
        """All columns in the order of the layout, edited."""
        return [self.column(name) for name in self.layout.names]


@dataclass(frozen=True)
class Row:
    """One row of a sheet: what plants look at to decide what to change."""

    sheet: Sheet
    row: int

    @property
    def style(self) -> Style:
        return self.sheet.style

    def text(self, name: str) -> str:
        """The cell as delivered; blank if null."""
        return self.sheet.columns[name][self.row].as_py() or ""

    def day(self, name: str) -> int:
        return self.style.day(self.text(name))

    def shifted(self, name: str, days: int) -> str:
        """The date of a cell moved by some days, as the supplier writes it."""
        return self.style.on(self.day(name) + days)

    def number(self, name: str) -> Decimal:
        return Decimal(self.text(name))


def none_blank(column: pa.Array) -> pa.Array:
    """Nulls as blank cells."""
    return pc.fill_null(column, "")


@dataclass(frozen=True)
class Plant:
    """One way to break a row so that exactly `finds` fire.

    `needs` are columns the layout must have; `base` names the kind of row to start from; `edit` gives the new cells;
    `copy` plants a second row instead and both rows carry the finding.
    """

    rule: str
    needs: tuple[str, ...]
    edit: Callable[[Row], dict[str, str | None]]
    base: str = "plain"
    fits: Callable[[Row], bool] | None = None
    also: tuple[str, ...] = ()
    copy: bool = False
    copy_edit: Callable[[Row], dict[str, str | None]] | None = None

    @property
    def finds(self) -> tuple[str, ...]:
        return tuple(sorted((self.rule, *self.also)))

    @property
    def warns(self) -> bool:
        return self.rule in WARNINGS

    @property
    def cost(self) -> int:
        """Rows the file loses."""
        return 0 if self.warns else 1 + self.copy


WARNINGS = frozenset({
    "L212", "L301", "L302", "L303", "F301", "H301", "H302", "M301", "C301", "D206", "D301", "Y301", "Y302", "J301", "R301",
})  # fmt: skip
"""Rules that warn; every other row rule rejects the row."""


def schedule(main: list[Plant], other: list[Plant], rows_to_lose: int, copies: int, turn: int) -> list[Plant]:
    """Which plants a file takes: all of them `copies` times, or, in a small file, a part that turns month by month."""
    for times in range(copies, 0, -1):
        full = [plant for plant in (*main, *other) for _ in range(times)]
        if sum(plant.cost for plant in full) <= rows_to_lose:
            return full
    parts = -(-sum(plant.cost for plant in main) // max(rows_to_lose - 1, 1)) or 1
    start = turn * rows_to_lose % len(other) if other else 0
    return _affordable([*main[turn % parts :: parts], *other[start:], *other[:start]], rows_to_lose)


def planted(sheet: Sheet, rng: np.random.Generator, wanted: list[Plant]) -> tuple[list[tuple[int, str]], set[int]]:
    """Break rows of a sheet, copies appended first; gives (0-based row, rule) of all findings, and the rows refused."""
    free = [int(row) for row in rng.permutation(sheet.rows)]
    findings: list[tuple[int, str]] = []
    rejected: set[int] = set()
    for plant in sorted(wanted, key=lambda plant: not plant.copy):
        row = fitting(sheet, free, plant)
        if row is None:
            continue
        rows = [row]
        if plant.copy:
            rows.append(sheet.append_copy(row))
        else:
            sheet.edit(row, plant.edit(Row(sheet, row)))
        findings += [(broken, rule) for broken in rows for rule in plant.finds]
        rejected |= set() if plant.warns else set(rows)
    return findings, rejected


def fitting(sheet: Sheet, free: list[int], plant: Plant) -> int | None:
    """Take the first free row a plant can break; None when there is none."""
    for place, row in enumerate(free):
        if plant.fits is None or plant.fits(Row(sheet, row)):
            return free.pop(place)
    return None


def _affordable(plants: list[Plant], rows_to_lose: int) -> list[Plant]:
    chosen: list[Plant] = []
    for plant in plants:
        if sum(other.cost for other in chosen) + plant.cost <= rows_to_lose:
            chosen.append(plant)
    return chosen
