"""SQL models: one SELECT per file under sql/<layer>/, found by their names, ordered by what they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Protocol

from etl.engine.dialect import lint, parse, tables_read
from etl.engine.duck import identifier
from etl.vocabulary import ConfigurationError

__all__ = ["Model", "lint", "lint_models", "load_models", "order", "wrap"]


@dataclass(frozen=True)
class Model:
    """One SQL file: its name is the relation it makes; `depends` are the relations it reads, models or inputs."""

    name: str
    layer: str
    sql: str
    depends: frozenset[str]
    path: Path


class TypedColumn(Protocol):
    """What wrapping needs of a contract's column."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...


class TableContract(Protocol):
    """What wrapping needs of a contract."""

    @property
    def key(self) -> Sequence[str]: ...
    @property
    def published(self) -> Sequence[TypedColumn]: ...


def load_models(sql_paths: Iterable[Path]) -> dict[str, Model]:
    """All models of an overlay list (first match of a name wins), by name.

    Raises ConfigurationError for a file that is not one SELECT or a name used twice in one tree.
    """
    models: dict[str, Model] = {}
    for root in sql_paths:
        tree = _load_tree(Path(root))
        models = {**tree, **models}
    return dict(sorted(models.items()))


def order(models: Mapping[str, Model], wanted: Iterable[str] | None = None) -> list[Model]:
    """The wanted models (all when None) with every model they read, each after what it reads; ties by name.

    Raises ConfigurationError for an unknown name or a circle.
    """
    graph = _graph(models, sorted(models if wanted is None else set(wanted)))
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise ConfigurationError("sql", circle, "models read each other in a circle", "break the circle") from None
    return [models[name] for name in _drain(sorter)]


def wrap(model: Model, contract: TableContract, *, in_order: bool = True) -> str:
    """The model's SELECT cast to the contract's published columns and, unless told not to, in the order of its key."""
    columns = ",\n  ".join(
        f"CAST(model.{identifier(column.name)} AS {column.type.upper()}) AS {identifier(column.name)}"
        for column in contract.published
    )
    order = f"\nORDER BY {', '.join(map(identifier, contract.key))}" if in_order else ""
    return f"SELECT\n  {columns}\nFROM (\n{model.sql}\n) AS model{order}"


def lint_models(models: Mapping[str, Model]) -> list[str]:
    """What in these models leaves the safe dialect, as `file: construct: mend`."""
    tables = set(models).union(*(model.depends for model in models.values()))
    return [f"{model.path}: {problem}" for model in models.values() for problem in lint(model.sql, tables)]


def _load_tree(root: Path) -> dict[str, Model]:
    tree: dict[str, Model] = {}
    for path in sorted(root.glob("*/*.sql")):
        if path.stem in tree:
            earlier = tree[path.stem].path
            raise ConfigurationError(path, path.stem, f"the name is taken by {earlier}", "rename one of the files")
        tree[path.stem] = _load(path)
    return tree


def _load(path: Path) -> Model:
    sql = path.read_text(encoding="utf-8").strip().removesuffix(";").rstrip()
    try:
        depends = tables_read(parse(sql))
    except ValueError as error:
        raise ConfigurationError(path, "", str(error), "write one SELECT with named CTEs") from None
    return Model(name=path.stem, layer=path.parent.name, sql=sql, depends=depends, path=path)


def _graph(models: Mapping[str, Model], wanted: Sequence[str]) -> dict[str, list[str]]:
    graph: dict[str, list[str]] = {}
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name in graph:
            continue
        if name not in models:
            known = ", ".join(sorted(models)) or "none"
            raise ConfigurationError("sql", name, "no such model", f"add sql/<layer>/{name}.sql (there are: {known})")
        graph[name] = sorted(models[name].depends & models.keys())
        pending.extend(graph[name])
    return graph


def _drain(sorter: TopologicalSorter[str]) -> Iterator[str]:
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        yield from ready
        sorter.done(*ready)
