"""Cast and check pieces of a delivery: the one way of intake, the pre-check and whoever looks at a delivery again.

A piece is some ten thousand rows of one member. The next one is read while the engine works on this one, for which it
holds `typed` (canonical values beside the trimmed cells) and `found` (the findings of the piece). What a cell becomes
depends on the cell alone, so a column with few distinct cells (dates, codes, many amounts) is cast once for each of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from queue import SimpleQueue
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.casts import ROW_COLUMNS, blank_free_columns, cast_select, typed_columns
from etl.contract.corrections import Correction, can_apply, correction_update, matched_select
from etl.contract.language import quote
from etl.contract.model import Rule
from etl.contract.predicates import findings_select, holds_select
from etl.deliveries import Subject
from etl.engine.duck import ROW_GROUP_ROWS, DuckEngine, identifier, literal
from etl.intake.reader import Reading
from etl.intake.strings import strings_schema

PIECE_ROWS = ROW_GROUP_ROWS // 2
FINDINGS: Mapping[str, str] = {"_member": "VARCHAR", "_row": "BIGINT", "rule": "VARCHAR"}
MEMBER_NO = "_member_no"
_OFTEN = 4  # a column is cast by its distinct cells where each stands this often or more, on average
_PROBED_ROWS, _SURELY_DISTINCT = 1_000, 0.95
PieceT = TypeVar("PieceT")
ResultT = TypeVar("ResultT")


def numbered(reading: Reading) -> Generator[tuple[pa.Table, bool], None, None]:
    """Every piece, and whether it is the whole delivery; one empty piece when there is no row."""
    with closing(ahead(reading.pieces(PIECE_ROWS))) as pieces:
        first, second = next(pieces, None), next(pieces, None)
        yield strings_schema(reading.layout).empty_table() if first is None else first, second is None
        if second is not None:
            yield second, False
            yield from ((piece, False) for piece in pieces)


def ahead(pieces: Iterator[pa.Table]) -> Generator[pa.Table, None, None]:
    """The same pieces, each read by another thread while the one before is worked on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, pieces, None)
        while (piece := waiting.result()) is not None:
            waiting = pool.submit(next, pieces, None)
            yield piece


def side_by_side(
    pieces: Iterator[PieceT], workers: Sequence[Callable[[PieceT], ResultT]]
) -> Generator[ResultT, None, None]:
    """What workers make of pieces, in the order of the pieces; each worker has one at a time, in a thread of its own."""
    idle: SimpleQueue[Callable[[PieceT], ResultT]] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def work(piece: PieceT) -> ResultT:
        worker = idle.get()
        try:
            return worker(piece)
        finally:
            idle.put(worker)

    waiting: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(len(workers)) as pool:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) == len(workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def make_empty(engine: DuckEngine, name: str, columns: Mapping[str, str]) -> None:
    """A table without rows, to insert into."""
    listed = ", ".join(f"CAST(NULL AS {kind}) AS {identifier(column)}" for column, kind in columns.items())
    engine.run_model(name, f"SELECT {listed} WHERE FALSE")


def register_members(engine: DuckEngine, members: Sequence[str]) -> None:
    """Make `member_names`: which number stands for which member where cells of a whole delivery are kept."""
    numbers = pa.array(range(len(members)), pa.int16())
    engine.register_arrow("member_names", pa.table({MEMBER_NO: numbers, "_member": pa.array(members, pa.string())}))


@dataclass
class Checker:
    """Casts one piece after the other and finds what breaks the rules."""

    engine: DuckEngine
    subject: Subject
    rules: Sequence[Rule]

    def __post_init__(self) -> None:
        self._caster = Caster(self.engine, self.subject)
        self._of_rows = [rule for rule in self.rules if rule.kind != "unique"]

    def check(self, piece: pa.Table, *, is_whole: bool = False) -> None:
        """Make `typed` and `found` (_member, _row, rule) of a piece.

        Rules across rows are left out unless the piece is the whole delivery.
        """
        self._caster.cast(piece)
        broken = self._broken(self.rules if is_whole else self._of_rows)
        if broken:
            subject = self.subject
            select = findings_select(subject.contract, subject.layout, context=subject.context, rules=broken)
            self.engine.run_model("found", select)
        else:
            make_empty(self.engine, "found", FINDINGS)

    def _broken(self, rules: Sequence[Rule]) -> list[Rule]:
        """Those of the rules that some row of `typed` breaks."""
        if not rules:
            return []
        [held] = self.engine.fetch(holds_select(self.subject.contract, rules, self.subject.context))
        return [rule for rule, holds in zip(rules, held, strict=True) if holds is False]

    def cast_again(self, rows: pa.Table) -> None:
        """Make `typed` of rows that were checked before."""
        self._caster.cast(rows, is_new=False)


@dataclass
class Caster:
    """Turns pieces of strings into `typed` in the engine."""

    engine: DuckEngine
    subject: Subject
    _statements: dict[tuple[frozenset[str], ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layout = self.subject.layout
        here = [
            c for c in self.subject.contract.delivered if c.name in layout.canonical and c.name not in layout.defaults
        ]
        self._computed = [c.name for c in here if c.can_fail_to_cast or c.is_validated]
        make_empty(self.engine, "corrected", FINDINGS)

    @cached_property
    def _mends(self) -> list[Correction]:
        return [one for one in self.subject.corrections if can_apply(one, self.subject.layout)]

    def cast(self, piece: pa.Table, *, is_new: bool = True) -> None:
        """Make `typed` of a piece. Plain text is trimmed whenever somebody reads it, everything else is cast here.

        Rows that were cast before are not noted as corrected once more.
        """
        piece = piece.combine_chunks()
        free = blank_free_columns(piece)
        encoded = {name: array for name in self._computed if (array := _encoded(piece[name])) is not None}
        by_row = [name for name in self._computed if name not in encoded]
        cast = {**self._cast_distinct(encoded, free), **self._cast_rows(piece.select(by_row), free)}
        plain = {name: piece[name] for name in piece.column_names if name not in self._computed}
        self.engine.register_arrow("typed_cells", pa.table({**plain, **cast}))
        self.engine.run_view("typed", self._view(_same_in_all_rows(piece), free))
        self._correct(is_new=is_new)

    def _cast_distinct(self, encoded: Mapping[str, pa.DictionaryArray], free: Collection[str]) -> dict[str, pa.Array]:
        """Columns cast by their distinct cells: one relation has them all, side by side and filled up with blanks."""
        if not encoded:
            return {}
        size = max(len(array.dictionary) for array in encoded.values())
        cells = {name: _filled_up(array.dictionary, size) for name, array in encoded.items()}
        self.engine.register_arrow("distinct_cells", pa.table(cells))
        values = self.engine.arrow(self._statement("distinct_cells", encoded, free))
        return {
            typed: pa.DictionaryArray.from_arrays(
                array.indices, values[typed].slice(0, len(array.dictionary)).combine_chunks()
            )
            for name, array in encoded.items()
            for typed in typed_columns(self.subject.contract, [name])
        }

    def _cast_rows(self, cells: pa.Table, free: Collection[str]) -> dict[str, pa.ChunkedArray]:
        """Columns cast cell by cell."""
        if not cells.column_names:
            return {}
        self.engine.register_arrow("strings", cells)
        values = self.engine.arrow(self._statement("strings", cells.column_names, free))
        return {name: values[name] for name in values.column_names}

    def _statement(self, relation: str, names: Collection[str], free: Collection[str]) -> str:
        """The statement for these columns, which are nearly always the same from piece to piece."""
        key = frozenset([relation]), frozenset(names), frozenset(names) & frozenset(free)
        if key not in self._statements:
            self._statements[key] = self._select(relation, names, free)
        return self._statements[key]

    def _select(self, relation: str, only: Collection[str], free: Collection[str], along: Sequence[str] = ()) -> str:
        contract, layout, codes = self.subject.contract, self.subject.layout, self.subject.codes
        return cast_select(contract, layout, codes, relation=relation, blank_free=free, only=only, along=along)

    def _view(self, same: Mapping[str, str], free: Collection[str]) -> str:
        """TYPED: what was cast, plain text, and what is the same in all rows."""
        contract = self.subject.contract
        own = [column.name for column in contract.delivered if column.name not in self._computed]
        along = [*(name for name in ROW_COLUMNS if name not in same), *typed_columns(contract, self._computed)]
        places = [f"{literal(same[name])} AS {name}" if name in same else name for name in ROW_COLUMNS]
        columns = ", ".join([*places, *map(quote, typed_columns(contract))])
        return f"SELECT {columns} FROM ({self._select('typed_cells', own, free, along)})"

    def _correct(self, *, is_new: bool) -> None:
        """Mend `typed` by one correction after the other; `corrected` gathers the rows each of them changed."""
        if not self._mends:
            return
        subject = self.subject
        self.engine.run_model("mended_cells", "SELECT * FROM typed")
        self.engine.run_view("typed", "SELECT * FROM mended_cells")
        for one in self._mends:
            if is_new:
                matched = matched_select(subject.contract, one, subject.context, relation="typed")
                self.engine.con.execute(f"INSERT INTO corrected {matched}")
            update = correction_update(
                subject.contract, subject.layout, subject.codes, one, subject.context, relation="mended_cells"
            )
            self.engine.con.execute(update)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray | None:
    """The column with each distinct cell once; None where too few of them repeat for that to be worth it."""
    if not len(column) or not pa.types.is_string(column.type):
        return None
    probe = column.slice(0, _PROBED_ROWS)
    if pc.count_distinct(probe).as_py() > len(probe) * _SURELY_DISTINCT:
        return None
    encoded = column.chunk(0).dictionary_encode()
    return encoded if len(encoded.dictionary) * _OFTEN <= len(encoded) else None


def _filled_up(cells: pa.Array, size: int) -> pa.Array:
    return pa.concat_arrays([cells, pa.repeat(pa.scalar("", cells.type), size - len(cells))])


def _same_in_all_rows(piece: pa.Table) -> dict[str, str]:
    """`_delivery` and `_member`, in this order, as far as they have one value."""
    bounds = {name: pc.min_max(piece[name]).as_py() for name in ("_delivery", "_member")} if len(piece) else {}
    return {name: bound["min"] for name, bound in bounds.items() if bound["min"] == bound["max"]}
