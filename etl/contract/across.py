"""Rules across files: one SELECT each, read from `expectations/across/*.yml`.

A rule reads one to three files by the names of relations: `<dataset>` (the accepted rows of one supplier for the month),
`rejected_<dataset>` (tokens of the refused rows of the same file), `previous_<dataset>` (the supplier's month before) and
`all_<dataset>` (every supplier's rows of the month). The rows of the SELECT are the findings: with `_delivery`, `_member`,
`_row` each is about one row, without them about the file as a whole, and the other columns, numbers and dates only, fill
the places `{…}` of the rule's texts. What a rule may tell a bank is not declared but read from its SQL: a rule over
`all_…` rests on others' data and stays with the county.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlglot
from pydantic import BeforeValidator, Field
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope

from etl.period import Period
from etl.registry import Bilingual, PeriodField, Strict, overlay_files, parse_model, read_yaml
from etl.vocabulary import ConfigurationError

DIALECT = "duckdb"
FOLDER = "across"
BOUNDS_FILE = "bounds.yml"
ORIGIN = ("_delivery", "_member", "_row")
MONTH = ("period_start", "period_end")
_MAX_RELATIONS = 3
_PREVIOUS, _ALL, _REJECTED = "previous_", "all_", "rejected_"


def _bound(value: object) -> object:
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


Bounds = dict[str, Annotated[Decimal, BeforeValidator(_bound)]]


class AcrossEntry(Strict):
    """One rule as written."""

    id: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$")
    dataset: str
    family: Literal["quality", "macro"]
    action: Literal["warn", "shadow"]
    sql: str
    columns: list[str] = []
    bounds: Bounds = {}
    clause: str | None = None
    from_: PeriodField | None = Field(default=None, alias="from")
    to: PeriodField | None = None
    says: Bilingual
    fix: Bilingual


class AcrossFile(Strict):
    rules: list[AcrossEntry] = Field(min_length=1)


class BoundsEntry(Strict):
    """What a county sets in place of a rule's bounds: for everybody, and for single suppliers."""

    bounds: Bounds = {}
    suppliers: dict[str, Bounds] = {}


@dataclass(frozen=True, order=True)
class Relation:
    """A name in a rule's SQL and what stands behind it."""

    name: str
    dataset: str
    is_previous: bool = False
    is_everybody: bool = False
    is_rejected: bool = False

    @property
    def file(self) -> tuple[str, bool, bool]:
        """What tells one file from another: accepted and refused rows are of the same."""
        return self.dataset, self.is_previous, self.is_everybody


@dataclass(frozen=True)
class AcrossRule:
    """One rule across files. `dataset` is the file its findings are about; `columns` are the fields it looks at."""

    id: str
    dataset: str
    family: str
    action: str
    sql: str
    columns: tuple[str, ...]
    bounds: Mapping[str, Decimal]
    says: Bilingual
    fix: Bilingual
    relations: tuple[Relation, ...]
    since: Period | None = None
    until: Period | None = None
    clause: str | None = None
    path: Path = field(default=Path(), repr=False)

    @property
    def column(self) -> str:
        return self.columns[0] if self.columns else ""

    @cached_property
    def is_own(self) -> bool:
        """Whether it rests on files of one supplier only, and so may be told to that supplier."""
        return not any(relation.is_everybody for relation in self.relations)

    @property
    def is_told(self) -> bool:
        return self.is_own and self.action != "shadow"

    def applies_in(self, period: Period) -> bool:
        """Whether the rule is in force in that month."""
        return (self.since is None or self.since <= period) and (self.until is None or period <= self.until)

    def params(self, period: Period, bounds: Mapping[str, Decimal] | None = None) -> dict[str, date | Decimal]:
        """The values of the parameters of its SQL."""
        return {"period_start": period.start, "period_end": period.end, **self.bounds, **(bounds or {})}


def load_across(
    folders: Sequence[Path], datasets: Mapping[str, Collection[str]], taken: Collection[str] = ()
) -> dict[str, AcrossRule]:
    """Every rule of `across/*.yml` of the overlay by id; raises ConfigurationError for the first thing wrong.

    `datasets` are the columns of each dataset's contract, `taken` the ids of the rules of the contracts.
    """
    rules: dict[str, AcrossRule] = {}
    for path in overlay_files(folders, f"{FOLDER}/*.yml"):
        for entry in parse_model(AcrossFile, read_yaml(path), path).rules:
            if entry.id in rules or entry.id in taken:
                raise ConfigurationError(path, f"rules.{entry.id}", "rule id used twice", "choose another id")
            rules[entry.id] = _rule(path, entry, datasets)
    return rules


def load_bounds(folders: Sequence[Path], rules: Mapping[str, AcrossRule]) -> dict[str, BoundsEntry]:
    """What the county sets in `config/bounds.yml` (none is needed); raises ConfigurationError for unknown names."""
    path = next((folder / BOUNDS_FILE for folder in folders if (folder / BOUNDS_FILE).is_file()), None)
    if path is None:
        return {}
    found = {name: parse_model(BoundsEntry, content, path) for name, content in read_yaml(path).items()}
    for name, entry in found.items():
        if name not in rules:
            raise ConfigurationError(path, name, "no such rule across files", "correct the id or remove the entry")
        for bounds in (entry.bounds, *entry.suppliers.values()):
            unknown = sorted(set(bounds) - set(rules[name].bounds))
            if unknown:
                known = ", ".join(rules[name].bounds) or "none"
                raise ConfigurationError(path, f"{name}.{unknown[0]}", "no bound of this rule", f"it has: {known}")
    return found


def bounds_of(entries: Mapping[str, BoundsEntry], rule: str, supplier: str) -> dict[str, Decimal]:
    """The bounds a county sets for one rule and supplier; the narrower wins."""
    entry = entries.get(rule, BoundsEntry())
    return {**entry.bounds, **entry.suppliers.get(supplier, {})}


def _rule(path: Path, entry: AcrossEntry, datasets: Mapping[str, Collection[str]]) -> AcrossRule:
    key = f"rules.{entry.id}"
    if entry.dataset not in datasets:
        raise ConfigurationError(path, key, f"no contract has dataset {entry.dataset!r}", "correct the name")
    unknown = sorted(set(entry.columns) - set(datasets[entry.dataset]))
    if unknown:
        raise ConfigurationError(path, key, f"{entry.dataset} has no column {unknown[0]!r}", "correct columns")
    if entry.from_ is not None and entry.to is not None and entry.to < entry.from_:
        raise ConfigurationError(path, key, "ends before it begins", "correct from or to")
    tree = _tree(path, key, entry.sql)
    _check_params(path, key, tree, entry)
    return AcrossRule(
        id=entry.id,
        dataset=entry.dataset,
        family=entry.family,
        action=entry.action,
        sql=entry.sql,
        columns=tuple(entry.columns),
        bounds=entry.bounds,
        says=entry.says,
        fix=entry.fix,
        relations=_relations(path, key, tree, datasets),
        since=entry.from_,
        until=entry.to,
        clause=entry.clause,
        path=path,
    )


def _tree(path: Path, key: str, sql: str) -> exp.Query:
    try:
        statements = sqlglot.parse(sql, dialect=DIALECT)
    except SqlglotError as error:
        problem = f"not SQL ({str(error).splitlines()[0]})"
        raise ConfigurationError(path, key, problem, "write one SELECT") from None
    tree = statements[0] if len(statements) == 1 else None
    if not isinstance(tree, exp.Query):
        raise ConfigurationError(path, key, "not one SELECT", "write one SELECT whose rows are the findings")
    return tree


def _check_params(path: Path, key: str, tree: exp.Query, entry: AcrossEntry) -> None:
    known = (*MONTH, *entry.bounds)
    named = {node.name for node in tree.find_all(exp.Parameter)} | {
        node.name for node in tree.find_all(exp.Placeholder)
    }
    unknown = sorted(named - set(known))
    if unknown:
        mend = f"use one of {', '.join(known)}, or add it to bounds"
        raise ConfigurationError(path, key, f"unknown parameter ${unknown[0]}", mend)


def _relations(path: Path, key: str, tree: exp.Query, datasets: Mapping[str, Collection[str]]) -> tuple[Relation, ...]:
    """The relations a SELECT reads; raises ConfigurationError for anything else, a file or table function included."""
    made = {cte.alias for cte in tree.find_all(exp.CTE)}
    found = set()
    for scope in traverse_scope(tree):
        for table in scope.tables:
            if not isinstance(table.this, exp.Identifier) or table.db:
                raise ConfigurationError(path, key, f"{table.sql()} is no relation", "read datasets by their names")
            if table.name not in made:
                found.add(_relation(path, key, table.name, datasets))
    if len({relation.is_everybody for relation in found}) > 1:
        problem = "mixes one supplier's files with everybody's"
        raise ConfigurationError(path, key, problem, f"read everything as {_ALL}<dataset>, or nothing")
    files = {relation.file for relation in found}
    if not 1 <= len(files) <= _MAX_RELATIONS:
        raise ConfigurationError(path, key, f"reads {len(files)} files", f"read one to {_MAX_RELATIONS}")
    return tuple(sorted(found))


def _relation(path: Path, key: str, name: str, datasets: Mapping[str, Collection[str]]) -> Relation:
    for prefix in ("", _PREVIOUS, _ALL, _REJECTED):
        if name.startswith(prefix) and name.removeprefix(prefix) in datasets:
            dataset = name.removeprefix(prefix)
            return Relation(name, dataset, prefix == _PREVIOUS, prefix == _ALL, prefix == _REJECTED)
    prefixes = ", ".join(f"{prefix}<dataset>" for prefix in (_REJECTED, _PREVIOUS, _ALL))
    mend = f"read <dataset>, {prefixes}; datasets are {', '.join(sorted(datasets))}"
    raise ConfigurationError(path, key, f"unknown relation {name!r}", mend)


def filled(text: Bilingual, facts: Mapping[str, Any]) -> Bilingual:
    """A text with its places `{name}` filled from a row of the rule's SELECT; an unknown place stays as written."""
    shown = _Shown({name: _figure(value) for name, value in facts.items()})
    return Bilingual(zh=text.zh.format_map(shown), en=text.en.format_map(shown))


class _Shown(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "{" + name + "}"


def _figure(value: Any) -> str:
    """A number or a date; any other text might be a person's and is not shown."""
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    return value.isoformat() if isinstance(value, date) else "…"
