"""Writing one table's rows of one period: per source files by ranges of the key, each named by its bytes.

A file holds RANGE_ROWS rows of the order of the key, so that rows of a few owners can be exchanged without writing all others
again: the files that hold them are written anew, those between stay as they are.
"""

from __future__ import annotations

import os
import re
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

from etl.contract.model import Contract
from etl.engine.duck import DuckEngine, Written, identifier, literal
from etl.publish.lake import NAME_HEX, DataFile, columns_of, sha256_of
from etl.vocabulary import ConfigurationError, DataError

WHOLE = "county"
RANGE_ROWS = 20_480
READ_ONLY = 0o444
_SOURCE = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_TEXT = ("text", "VARCHAR")
_IN_TEXT_ORDER = (*_TEXT, "date")  # their texts are in the order of their values


@dataclass(frozen=True)
class Shape:
    """What is written of a relation: its columns with their SQL types, their order, and the column that names sources."""

    table: str
    columns: Mapping[str, str]
    order: tuple[str, ...]
    partition_by: str | None = None


@dataclass(frozen=True)
class Exchange:
    """Rows of some owners take the place of theirs.

    `owners` is a relation with one column, named as the `owner` column of the table; `before` holds (among others') their
    rows as they are in the files, `now` as they are to be.
    """

    owner: str
    owners: str
    before: str
    now: str


def write_partition(
    engine: DuckEngine, contract: Contract, relation: str, period: str, lake: Path, *, is_ordered: bool = False
) -> list[DataFile]:
    """Write one table's rows of one period below `lake`: files per source, in the order of the key.

    A source is a value of the contract's `partition_by` column, else the whole county. Only published columns are
    written, cast to the contract's types. A table without rows still gives one (empty) file, so that readers find it.
    Rows of an `is_ordered` relation are in the order of the key already and are not sorted again.
    Raises DataError for rows of another period or a source that cannot name a folder.
    """
    _require_period(contract)
    _refuse_other_periods(engine, contract, relation, period)
    return write_shape(engine, shape_of(contract), relation, period, lake, is_ordered=is_ordered)


def write_shape(
    engine: DuckEngine, shape: Shape, relation: str, period: str, lake: Path, *, is_ordered: bool = False
) -> list[DataFile]:
    """Write a relation below `lake` as `write_partition` does, whatever it is."""
    columns = _typed_columns(engine, shape, relation)
    order = "" if is_ordered else _order_by(shape)
    files: list[DataFile] = []
    for source in _sources(engine, shape, relation):
        selection = f"SELECT {columns} FROM {identifier(relation)} WHERE {_of_source(shape, source)}{order}"
        files += _numbered(_write(engine, shape, selection, _Place(lake, period, source), RANGE_ROWS))
    return files


def exchange_rows(
    engine: DuckEngine, shape: Shape, held: Sequence[DataFile], exchange: Exchange, lake: Path
) -> list[DataFile] | None:
    """Write anew only those of a table's files that hold rows of some owners; None where all of it has to be written.

    That is so where the rows are not in the order of their owners, a source comes or goes, or most files are concerned.
    """
    if shape.order[0] != exchange.owner or any(file.span is None for file in held):
        return None
    owners = _owners(engine, shape, exchange)
    by_source = {source: [file for file in held if file.source == source] for source in {one.source for one in held}}
    runs = {source: _runs(by_source.get(source, []), owners[source]) for source in owners}
    touched = sum(run.end - run.begin for found in runs.values() for run in found)
    if owners.keys() - by_source.keys() or (touched > 1 and touched * 2 > len(held)):
        return None
    files: list[DataFile] = []
    for source, before in sorted(by_source.items()):
        now = _exchanged(engine, shape, before, runs.get(source, []), exchange, _Place(lake, held[0].period, source))
        if not now:
            return None
        files += _numbered(now)
    return files


def shape_of(contract: Contract) -> Shape:
    """The published columns in the order of the key, without what is the same in all rows of a file.

    Comparing that first would cost a quarter of the sort.
    """
    same = ("period", contract.partition_by)
    order = tuple(name for name in contract.key if name not in same) or tuple(columns_of(contract))
    return Shape(contract.table, columns_of(contract), order, contract.partition_by)


@dataclass(frozen=True)
class _Place:
    lake: Path
    period: str
    source: str


@dataclass(frozen=True)
class _Run:
    """Files from `begin` up to `end` that are written together, because some owner's rows may be in several."""

    begin: int
    end: int
    owners: tuple[str, ...]


def _owners(engine: DuckEngine, shape: Shape, exchange: Exchange) -> dict[str, list[str]]:
    """The owners to exchange by the source they have rows of, before or now; in order."""
    owner, source = identifier(exchange.owner), _source_column(shape)
    rows = " UNION ALL BY NAME ".join(f"SELECT * FROM {identifier(one)}" for one in (exchange.before, exchange.now))
    found: dict[str, list[str]] = {}
    for name, token in engine.fetch(
        f"SELECT DISTINCT {source}, {owner} FROM ({rows}) AS held WHERE {owner} IN (FROM {identifier(exchange.owners)}) "
        "ORDER BY ALL"
    ):
        found.setdefault(str(name), []).append(str(token))
    return found


def _runs(files: Sequence[DataFile], owners: Sequence[str]) -> list[_Run]:
    """Which files hold, or are to hold, the rows of these owners; both are in order."""
    spans = [file.span for file in files if file.span]
    firsts, lasts = [first for first, _ in spans], [last for _, last in spans]
    runs: list[_Run] = []
    for owner in owners:
        end = max(bisect_right(firsts, owner), 1)
        begin = min(bisect_left(lasts, owner), end - 1)
        if runs and begin < runs[-1].end:
            before = runs.pop()
            runs.append(_Run(before.begin, max(before.end, end), (*before.owners, owner)))
        else:
            runs.append(_Run(begin, end, (owner,)))
    return runs


def _exchanged(
    engine: DuckEngine,
    shape: Shape,
    before: Sequence[DataFile],
    runs: Sequence[_Run],
    exchange: Exchange,
    place: _Place,
) -> list[DataFile]:
    """One source's files with the runs written anew."""
    files: list[DataFile] = []
    kept = 0
    for run in runs:
        files += before[kept : run.begin]
        files += _write_run(engine, shape, before[run.begin : run.end], run.owners, exchange, place)
        kept = run.end
    return [*files, *before[kept:]]


def _write_run(
    engine: DuckEngine,
    shape: Shape,
    files: Sequence[DataFile],
    owners: Sequence[str],
    exchange: Exchange,
    place: _Place,
) -> list[DataFile]:
    names = ", ".join(map(identifier, shape.columns))
    paths = ", ".join(literal(str(place.lake / file.path)) for file in files)
    theirs = f"{identifier(exchange.owner)} IN ({', '.join(map(literal, owners))})"
    rows = (
        f"SELECT {names} FROM read_parquet([{paths}], hive_partitioning = false) WHERE NOT coalesce({theirs}, FALSE) "
        f"UNION ALL SELECT {_typed_columns(engine, shape, exchange.now)} FROM {identifier(exchange.now)} "
        f"WHERE {theirs} AND {_of_source(shape, place.source)}"
    )
    [(count,)] = engine.fetch(f"SELECT count(*) FROM ({rows}) AS held", {"source": place.source})
    if not count:
        return []
    each = count if len(files) == 1 and count < 2 * RANGE_ROWS else max(RANGE_ROWS, -(-count // len(files)))
    return _write(engine, shape, f"SELECT * FROM ({rows}) AS held{_order_by(shape)}", place, each)


def _write(engine: DuckEngine, shape: Shape, selection: str, place: _Place, rows_per_file: int) -> list[DataFile]:
    """Write ordered rows as files of so many rows; as one file where nothing tells the order of several."""
    folder = place.lake / "data" / shape.table / f"period={place.period}" / f"source={place.source}"
    with _scratch(folder) as scratch:
        written = engine.write_ranges(selection, scratch, rows_per_file, {"source": place.source})
        if len({_least(shape, one) for one in written}) < len(written):
            shutil.rmtree(scratch)
            written = engine.write_ranges(selection, scratch, None, {"source": place.source})
        written.sort(key=lambda one: _least(shape, one))
        contents = engine.contents([one.path for one in written], list(shape.columns))
        return [
            DataFile(
                shape.table, place.period, place.source, path.relative_to(place.lake).as_posix(), one.rows, digest,
                content, span=one.spans.get(shape.order[0]) if shape.columns[shape.order[0]] in _TEXT else None,
            )
            for one, content in zip(written, contents, strict=True)
            for digest, path in [_settle(one.path, folder)]
        ]  # fmt: skip


def _least(shape: Shape, one: Written) -> tuple[tuple[str, str], ...]:
    """What orders a file among those cut from the same ordered rows."""
    comparable = list(takewhile(lambda name: shape.columns[name] in _IN_TEXT_ORDER and name in one.spans, shape.order))
    return tuple(one.spans[name] for name in comparable)


def _numbered(files: Sequence[DataFile]) -> list[DataFile]:
    """Several files of a source bear numbers; one alone does not."""
    return [replace(file, part=number if len(files) > 1 else 0) for number, file in enumerate(files, start=1)]


def _require_period(contract: Contract) -> None:
    if "period" not in columns_of(contract) or "period" not in contract.key:
        raise ConfigurationError(
            f"{contract.table}.yml", "key", "no column `period`", "publish `period` and make it part of the key"
        )


def _refuse_other_periods(engine: DuckEngine, contract: Contract, relation: str, period: str) -> None:
    query = f"SELECT count(*) FROM {identifier(relation)} WHERE period IS DISTINCT FROM $period"
    [(strangers,)] = engine.fetch(query, {"period": period})
    if strangers:
        raise DataError(
            f"{contract.table}: {strangers} rows of another period than {period}",
            f"let the model compute period {period} only",
        )


def _sources(engine: DuckEngine, shape: Shape, relation: str) -> list[str]:
    if not shape.partition_by:
        return [WHOLE]
    column = identifier(shape.partition_by)
    found = [value for (value,) in engine.fetch(f"SELECT DISTINCT {column} FROM {identifier(relation)} ORDER BY 1")]
    for value in found:
        if value is None or not _SOURCE.fullmatch(str(value)):
            raise DataError(
                f"{shape.table}: {shape.partition_by} = {value!r} cannot name a folder",
                "give every row a code of letters, digits, - and _",
            )
    return [str(value) for value in found] or [WHOLE]


def _source_column(shape: Shape) -> str:
    return identifier(shape.partition_by) if shape.partition_by else literal(WHOLE)


def _of_source(shape: Shape, source: str) -> str:
    return f"{_source_column(shape)} = $source" if shape.partition_by and source != WHOLE else "TRUE"


def _typed_columns(engine: DuckEngine, shape: Shape, relation: str) -> str:
    """The columns cast to their types. An ENUM stays one: in the file it is text, at half the work."""
    described = engine.fetch(f"SELECT column_name, column_type FROM (DESCRIBE {identifier(relation)})")
    words = {name for name, kind in described if str(kind).startswith("ENUM")}
    return ", ".join(
        identifier(name)
        if kind == "text" and name in words
        else f"CAST({identifier(name)} AS {kind.upper()}) AS {identifier(name)}"
        for name, kind in shape.columns.items()
    )


def _order_by(shape: Shape) -> str:
    return f" ORDER BY {', '.join(map(identifier, shape.order))}"


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder beside the final names, so that the moves are atomic; nothing is left there."""
    path = folder / f".{uuid4().hex}"
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _settle(scratch: Path, folder: Path) -> tuple[str, Path]:
    """Move to the final name unless the same bytes are there; the file is on the disk before anything names it.

    Gives the file's hash and final path.
    """
    digest = sha256_of(scratch)
    path = folder / f"{digest[:NAME_HEX]}.parquet"
    if not path.exists():
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.chmod(READ_ONLY)
        scratch.replace(path)
    return digest, path
