"""A graded month graded again only where its inputs changed; every table comes out as from grading all of it.

The base is the last grading of the month. Inputs are files written once, so what changed is found by comparing the files
that were read with those to be read now, and the rows of those that are not in both.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from etl import months
from etl.affected import Everything, Recipe, Recomputed, Scan, Tokens, base_of, recompute
from etl.contract.model import Contract
from etl.engine.duck import DuckEngine, identifier, literal
from etl.engine.token_index import TokenIndex, rows_select
from etl.ledger.records import Grading
from etl.months import Base, MonthInputs, Staged
from etl.publish.lake import DataFile, columns_of
from etl.publish.partition import Exchange, Shape, exchange_rows, shape_of, write_partition

GRADES = "core_household_grades"


@dataclass(frozen=True)
class Indexed(Scan):
    """Finds rows of inputs by the token indexes of their files; what is in no file of its own is looked at as a whole."""

    how: Recipe
    indexes: Mapping[str, Sequence[TokenIndex]]

    files: Mapping[str, Sequence[Path]]
    spans: Mapping[Path, tuple[str, str]]

    def rows(self, name: str, asked: Tokens) -> str | None:
        if name not in self.indexes:
            return super().rows(name, asked)
        columns = self.how.inputs[name]
        found = [rows_select(path, rows, columns) for index in self.indexes[name] for path, rows in index.find(asked)]
        return " UNION ALL BY NAME ".join(found) or None

    def owned(self, table: str, owner: str, tokens: Sequence[str]) -> str:
        """From the files whose span holds one of the tokens (which are in order), where all files say theirs."""
        spans = {path: self.spans.get(path) for path in self.files[table]}
        if not all(spans.values()):
            return super().owned(table, owner, tokens)
        held = [
            path
            for path, span in spans.items()
            if span and bisect_left(tokens, span[0]) < bisect_right(tokens, span[1])
        ]
        if not held:
            return f"{super().owned(table, owner, tokens)} LIMIT 0"
        files = ", ".join(literal(str(path)) for path in held)
        listed = ", ".join(map(literal, tokens))
        return (
            f"SELECT * FROM read_parquet([{files}], hive_partitioning = false) WHERE {identifier(owner)} IN ({listed})"
        )


@dataclass(frozen=True)
class Again:
    """A month graded again; `affected` is the number of households whose grades, or what is said of them, changed."""

    staged: Staged
    affected: int


def index_inputs(engine: DuckEngine, inputs: MonthInputs, how: Recipe) -> dict[str, list[TokenIndex]]:
    """The token indexes of all inputs that are read from files as they are; each is made once for its files."""
    folder = inputs.ws.settings.restricted / "graded" / "tokens"
    plain = [name for name in how.subjects if _is_read_as_is(inputs, name)]
    return {
        name: [
            TokenIndex(engine, folder, tuple(files), tuple(how.subjects[name]))
            for files in months.deliveries_and_months(inputs, name)
            if files
        ]
        for name in plain
    }


def _is_read_as_is(inputs: MonthInputs, name: str) -> bool:
    is_changed = months.has_digests(inputs, name.partition("_")[2]) or months.mended_rows(inputs, name) is not None
    return name not in inputs.asked and not is_changed


def grade_again(engine: DuckEngine, inputs: MonthInputs, known: Grading, *, now: datetime) -> Again:
    """Grade what the changed inputs affect and stage the month; raises Everything where that may be all of it."""
    base = months.last_base(known)
    if base is None:
        raise Everything("the last grading left nothing to rest on")
    months.register_inputs(engine, inputs)
    how = months.recipe(engine, inputs)
    if base.recipe != months.recipe_mark(inputs, how):
        raise Everything("policies, SQL, columns or parameters changed")
    held = _held(inputs, known, base)
    _register_base(engine, inputs, held, how)
    done = recompute(engine, how, dict(_differing(engine, inputs, base)), _finder(engine, inputs, how, held))
    files = [file for step in how.steps if step.contract for file in _files(engine, inputs, held, step.contract, done)]
    kept = [file for name in how.kept for file in _kept(engine, inputs, held, how, name, done)]
    lists = {step.name: done.whole(step.name) for step in how.steps if step.is_list}
    staged = months.stage(engine, inputs, months.base_of_next(inputs, how, kept), files, now=now, lists=lists)
    return Again(staged, done.spliced[GRADES].changes)


def first_base(engine: DuckEngine, inputs: MonthInputs, how: Recipe) -> Base:
    """What the next grading of a month may rest on that was graded as a whole; its inputs are indexed."""
    for indexes in index_inputs(engine, inputs, how).values():
        for index in indexes:
            index.build()
    kept = [file for name in how.kept for file in months.keep_relation(engine, inputs, how, name, name)]
    return months.base_of_next(inputs, how, kept)


Held = Mapping[str, Sequence[DataFile]]


def _held(inputs: MonthInputs, known: Grading, base: Base) -> dict[str, list[DataFile]]:
    """The files of every table as graded before, and of what was kept beside them."""
    held: dict[str, list[DataFile]] = {}
    for file in (*months.staged_files(known), *base.kept):
        held.setdefault(file.table, []).append(file)
    return held


def _finder(engine: DuckEngine, inputs: MonthInputs, how: Recipe, held: Held) -> Indexed:
    placed = {name: {_root(inputs, how, name) / file.path: file.span for file in files} for name, files in held.items()}
    spans = {path: span for files in placed.values() for path, span in files.items() if span}
    return Indexed(
        engine, how, index_inputs(engine, inputs, how), {name: list(files) for name, files in placed.items()}, spans
    )


def _root(inputs: MonthInputs, how: Recipe, name: str) -> Path:
    return months.kept_folder(inputs.ws) if name in how.kept else inputs.ws.settings.lake


def _register_base(engine: DuckEngine, inputs: MonthInputs, held: Held, how: Recipe) -> None:
    """The tables as graded before, and what was kept beside them."""
    for step in how.steps:
        if step.contract:
            files = [inputs.ws.settings.lake / file.path for file in held.get(step.name, ())]
            engine.register_parquet(base_of(step.name), files, columns_of(step.contract), are_alike=True)
    for name in how.kept:
        files = [months.kept_folder(inputs.ws) / file.path for file in held[name]]
        listed = ", ".join(literal(str(one)) for one in files)
        engine.run_view(base_of(name), f"SELECT * FROM read_parquet([{listed}], hive_partitioning = false)")


def _differing(engine: DuckEngine, inputs: MonthInputs, base: Base) -> Iterator[tuple[str, tuple[str, str]]]:
    """For every input whose files changed, relations of the rows of files that are gone and of files that came."""
    for name, now in months.files_read(inputs).items():
        gone, came = (sorted(one) for one in (set(base.read[name]) - set(now), set(now) - set(base.read[name])))
        if gone or came:
            if months.has_digests(inputs, name.partition("_")[2]):
                raise Everything(f"{name} names people by digests")
            sides = f"{name}__gone", f"{name}__came"
            _register_rows(engine, sides[0], gone, name)
            _register_rows(engine, sides[1], came, name)
            yield name, sides


def _register_rows(engine: DuckEngine, side: str, paths: list[str], name: str) -> None:
    """Rows of some of an input's files, with the columns the input has."""
    lost = [path for path in paths if not Path(path).exists()]
    if lost:
        raise Everything(f"{Path(lost[0]).name}, of which {name} was read, is gone")
    kinds = engine.fetch(f"SELECT column_name, column_type FROM (DESCRIBE {identifier(name)})")
    engine.register_parquet(side, paths, {str(column): str(kind) for column, kind in kinds})


def _files(
    engine: DuckEngine, inputs: MonthInputs, held: Held, contract: Contract, done: Recomputed
) -> Sequence[DataFile]:
    """A table's files: those of before when no row changed, else with those that hold changed rows written anew."""
    table, lake = contract.table, inputs.ws.settings.lake
    if table not in done.changed:
        return held[table]
    files = _exchanged(engine, shape_of(contract), held[table], done, lake)
    return files or write_partition(engine, contract, done.whole(table), str(inputs.period), lake)


def _kept(
    engine: DuckEngine, inputs: MonthInputs, held: Held, how: Recipe, name: str, done: Recomputed
) -> Sequence[DataFile]:
    if name not in done.changed:
        return held[name]
    shape = months.kept_shape(engine, how, name, base_of(name))
    files = _exchanged(engine, shape, held[name], done, months.kept_folder(inputs.ws))
    return files or months.keep_relation(engine, inputs, how, name, done.whole(name))


def _exchanged(
    engine: DuckEngine, shape: Shape, held: Sequence[DataFile], done: Recomputed, lake: Path
) -> list[DataFile] | None:
    one = done.spliced.get(shape.table)
    return (
        exchange_rows(engine, shape, held, Exchange(one.owner, one.changed, one.before, one.fresh), lake)
        if one
        else None
    )
