"""A graded month graded again only where its inputs changed; every table comes out as from grading all of it.

The base is the last grading of the month. Inputs are files written once, so what changed is found by comparing the files
that were read with those to be read now, and the rows of those that are not in both.
"""

from __future__ import annotations

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
from etl.publish.lake import DataFile, write_partition

GRADES = "core_household_grades"


@dataclass(frozen=True)
class Indexed(Scan):
    """Finds rows of inputs by the token indexes of their files; what is in no file of its own is looked at as a whole."""

    how: Recipe
    indexes: Mapping[str, Sequence[TokenIndex]]

    def rows(self, name: str, asked: Tokens) -> str | None:
        if name not in self.indexes:
            return super().rows(name, asked)
        columns = self.how.inputs[name]
        found = [
            rows_select(path, rows, columns) for index in self.indexes[name] for path, rows in index.find(asked)
        ]
        return " UNION ALL BY NAME ".join(found) or None


@dataclass(frozen=True)
class Again:
    """A month graded again; `affected` is the number of households whose grades, or what is said of them, changed."""

    staged: Staged
    affected: int


def index_inputs(engine: DuckEngine, inputs: MonthInputs, how: Recipe) -> dict[str, list[TokenIndex]]:
    """The token indexes of all inputs that are read from files as they are; each is made once for its files."""
    folder = inputs.ws.settings.restricted / "graded" / "tokens"
    plain = [
        name
        for name in how.subjects
        if name not in inputs.asked and not months.has_digests(inputs, name.partition("_")[2])
    ]
    return {
        name: [
            TokenIndex(engine, folder, tuple(files), tuple(how.subjects[name]))
            for files in months.deliveries_and_months(inputs, name)
            if files
        ]
        for name in plain
    }


def grade_again(engine: DuckEngine, inputs: MonthInputs, known: Grading, *, now: datetime) -> Again:
    """Grade what the changed inputs affect and stage the month; raises Everything where that may be all of it."""
    base = months.last_base(known)
    if base is None:
        raise Everything("the last grading left nothing to rest on")
    months.register_inputs(engine, inputs)
    how = months.recipe(engine, inputs)
    if base.recipe != months.recipe_mark(inputs, how):
        raise Everything("policies, SQL, columns or parameters changed")
    _register_base(engine, inputs, known, base, how)
    finder = Indexed(engine, how, index_inputs(engine, inputs, how))
    done = recompute(engine, how, dict(_differing(engine, inputs, base)), finder)
    _name_lists(engine, how, done)
    files = [
        file for step in how.steps if step.contract for file in _files(engine, inputs, known, step.contract, done)
    ]
    kept = {name: done.whole(name) for name in how.kept}
    staged = months.stage(engine, inputs, months.base_of_next(engine, inputs, how, kept), files, now=now)
    return Again(staged, done.spliced[GRADES].changes)


def _name_lists(engine: DuckEngine, how: Recipe, done: Recomputed) -> None:
    """Let the name of every list stand for all its rows."""
    for step in how.steps:
        if step.is_list and done.whole(step.name) != step.name:
            engine.rename(step.name, f"{step.name}__fresh")
            engine.run_view(step.name, f"SELECT * FROM {identifier(done.whole(step.name))}")


def _register_base(engine: DuckEngine, inputs: MonthInputs, known: Grading, base: Base, how: Recipe) -> None:
    """The tables as graded before, and what was kept beside them."""
    for step in how.steps:
        if step.contract:
            months.register_staged(engine, inputs.ws, base_of(step.name), step.name, [known])
    for name in how.kept:
        _register_files(engine, base_of(name), [base.kept[name]])


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


def _register_files(engine: DuckEngine, name: str, paths: list[str]) -> None:
    files = ", ".join(map(literal, paths))
    engine.run_view(name, f"SELECT * FROM read_parquet([{files}])")


def _files(
    engine: DuckEngine, inputs: MonthInputs, known: Grading, contract: Contract, done: Recomputed
) -> list[DataFile]:
    """A table's files: those of before when no row changed, else written anew."""
    if contract.table not in done.changed:
        return [file for file in months.staged_files(known) if file.table == contract.table]
    relation = done.whole(contract.table)
    return write_partition(engine, contract, relation, str(inputs.period), inputs.ws.settings.lake)
