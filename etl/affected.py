"""Computing a graded month again only where its inputs changed, with the result a whole computation would give.

Rows that share a token lie one step apart. What changed in the inputs spreads `SPREAD` steps: those subjects, and the
villages they live in, may come out differently. The month's own SQL runs over the rows around them and the result takes the
place of theirs in the tables graded before. What looks at all rows at once (see `etl.engine.locality`) is computed over the
spliced tables; where that comes out differently and subjects rest on it, `Everything` says that only a whole computation will
do. The longest way from a cause to an effect has two steps (a borrower's consent, the note, the co-borrower's household).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from etl.contract.model import Contract
from etl.engine.duck import DuckEngine, identifier, literal
from etl.engine.locality import VILLAGE_COLUMN, Reach, Seen, is_token, look, reading, tables_of
from etl.engine.models import Model, order, wrap
from etl.grading.plan import Statement

REGISTER = "core_households"
SPREAD = 3
AROUND = 2
_NEAR, _VILLAGES = "near_tokens", "near_villages"


class Everything(Exception):  # noqa: N818 - an answer, not an error
    """Only computing the whole month again will do; the message says why."""


@dataclass(frozen=True)
class Step:
    """One relation the month makes, with the contract if it is published. A `list` is written whole every time."""

    name: str
    sql: str
    contract: Contract | None = None
    is_list: bool = False


@dataclass(frozen=True)
class Recipe:
    """How a month is computed: its steps in order, the columns of its inputs, the domain of each token column."""

    steps: Sequence[Step]
    inputs: Mapping[str, Sequence[str]]
    domains: Mapping[str, str]
    params: Mapping[str, Any]

    def tokens(self, columns: Sequence[str]) -> dict[str, str]:
        """Those columns that hold tokens, with their domains."""
        return {name: self._domain(name) for name in columns if is_token(name)}

    def _domain(self, column: str) -> str:
        """The domain a contract gives the column, or one it is named after (`joint_person_key`); else one of its own."""
        named_after = [known for known in self.domains if column.endswith(known)]
        return self.domains[max(named_after, key=len)] if named_after else column

    @cached_property
    def subjects(self) -> dict[str, dict[str, str]]:
        """Inputs about subjects, with their token columns."""
        return {name: tokens for name, columns in self.inputs.items() if (tokens := self.tokens(columns))}

    @cached_property
    def looks(self) -> dict[str, Seen]:
        """How far every step looks."""
        known = dict.fromkeys(self.subjects, Reach.SUBJECT)
        seen: dict[str, Seen] = {}
        for step in self.steps:
            seen[step.name] = look(step.name, step.sql, known, self.inputs)
            is_whole = seen[step.name].reach is Reach.EVERYTHING
            known[step.name] = Reach.CONSTANT if is_whole else seen[step.name].reach
        return seen

    def owner(self, step: Step) -> tuple[str, str]:
        """The column that says whose a published row is, and its domain; raises Everything where none does."""
        key = step.contract.key if step.contract else (VILLAGE_COLUMN,)
        if self.looks[step.name].reach is Reach.VILLAGE and VILLAGE_COLUMN in key:
            return VILLAGE_COLUMN, VILLAGE_COLUMN
        for name, domain in self.tokens(key).items():
            return name, domain
        raise Everything(f"nobody owns the rows of {step.name}")

    @cached_property
    def kept(self) -> list[str]:
        """Relations of villages that are not published, but counted by what looks at everything: kept beside the tables."""
        counted = {name for step in self.steps if self.is_whole(step) for name in tables_of(step.sql)}
        villages = [step for step in self.steps if self.looks[step.name].reach is Reach.VILLAGE]
        return [step.name for step in villages if not step.contract and step.name in counted]

    def is_whole(self, step: Step) -> bool:
        """Whether a step is computed over all rows every time."""
        return step.is_list or self.looks[step.name].reach is Reach.EVERYTHING


def recipe_of(
    models: Mapping[str, Model],
    contracts: Mapping[str, Contract],
    statements: Sequence[Statement],
    inputs: Mapping[str, Sequence[str]],
    params: Mapping[str, Any],
) -> Recipe:
    """The month's steps as `etl.months` runs them: core tables, the grading plan, marts, lists."""
    tokens = [column.token for contract in contracts.values() for column in contract.delivered if column.token]
    steps = [
        *_wrapped(models, contracts, "core"),
        *(Step(one.name, one.sql, contracts[one.name] if one.published else None) for one in statements),
        *_wrapped(models, contracts, "marts"),
        *(Step(name, model.sql, is_list=True) for name, model in models.items() if model.layer == "audit"),
    ]
    return Recipe(steps, inputs, {token.name: token.domain for token in tokens}, params)


def _wrapped(models: Mapping[str, Model], contracts: Mapping[str, Contract], layer: str) -> Iterator[Step]:
    wanted = [name for name, model in models.items() if model.layer == layer]
    for model in order(models, wanted):
        if model.layer == layer:
            contract = contracts[model.name]
            yield Step(model.name, wrap(model, contract, in_order=False), contract)


@dataclass(frozen=True)
class Spliced:
    """A published table after recomputing: `owner` is the column and `changed` the relation of owners whose rows differ.

    Its rows are those of `base` of other owners, and those of `fresh` of these.
    """

    table: str
    owner: str

    @property
    def base(self) -> str:
        return base_of(self.table)

    @property
    def fresh(self) -> str:
        return self.table

    @property
    def changed(self) -> str:
        return f"{self.table}__changed"

    @property
    def whole(self) -> str:
        return f"{self.table}__spliced"


def base_of(table: str) -> str:
    """The name under which a published table as graded before is looked for."""
    return f"{table}__base"


def whole_of(name: str) -> str:
    """The name under which an input is found when `name` holds only its rows around what changed."""
    return f"{name}__whole"


def recompute(engine: DuckEngine, recipe: Recipe, differing: Mapping[str, tuple[str, str]]) -> dict[str, Spliced]:
    """Make every step's relation around what differs; gives the published tables that can be spliced.

    The engine holds the inputs and, as `base_of` each, the tables graded before and what the recipe says is `kept`.
    `differing` names for every input that changed the relations with its rows before and now (rows that are in both may be
    left out). Published tables that are not among the result are either constant or, if their step looks at everything, in
    the engine as a whole. Raises Everything.
    """
    month = _Month(engine, recipe, differing)
    month.refuse_what_reaches_all()
    month.spread()
    month.narrow()
    for step in recipe.steps:
        month.make(step)
    return month.spliced


@dataclass
class _Month:
    engine: DuckEngine
    recipe: Recipe
    differing: Mapping[str, tuple[str, str]]

    def __post_init__(self) -> None:
        self.spliced: dict[str, Spliced] = {}

    def refuse_what_reaches_all(self) -> None:
        """A change in what is about nobody, or in what a hoisted expression counts, reaches every subject."""
        for step in self.recipe.steps:
            seen = self.recipe.looks[step.name]
            counted = {table for sql in seen.hoisted.values() for table in tables_of(sql)}
            constants = tables_of(seen.sql) - self.recipe.subjects.keys()
            for name in sorted((counted | constants) & self.differing.keys()):
                if not self._is_last(step):
                    raise Everything(f"{name} changed, on which all rows of {step.name} rest")

    def _is_last(self, step: Step) -> bool:
        """Whether a step is computed whole and nothing else rests on it."""
        return self.recipe.is_whole(step) and not self._readers(step.name)

    def _readers(self, name: str) -> list[str]:
        return [step.name for step in self.recipe.steps if name in tables_of(step.sql)]

    # -- who is affected ----------------------------------------------------------------------------------------------

    def spread(self) -> None:
        """Mark the tokens around what differs: up to SPREAD steps affected, then their villages, then what they rest on."""
        self.engine.run_model(_NEAR, "SELECT '' AS domain, '' AS token, 0 AS step WHERE FALSE")
        for name, (before, now) in self.differing.items():
            if name in self.recipe.subjects:
                self._note_differing(name, before, now)
        self._refuse_most()
        for step in range(1, SPREAD + 1):
            self._step(step)
        self._note_villages()
        for step in range(SPREAD + 2, SPREAD + 2 + AROUND):
            self._step(step, since=SPREAD if step == SPREAD + 2 else None)

    def _refuse_most(self) -> None:
        """Where most of the county changed, looking for who is affected costs more than it saves."""
        [(changed,)] = self.engine.fetch(f"SELECT count(*) FROM {_NEAR}")
        [(households,)] = self.engine.fetch(f"SELECT count(*) FROM {identifier(base_of(REGISTER))}")
        if changed > households // 2:
            raise Everything(f"{changed} subjects changed, of {households} households")

    def _note_differing(self, name: str, before: str, now: str) -> None:
        columns = ", ".join(identifier(one) for one in self.recipe.inputs[name] if not one.startswith("_"))
        old, new = (f"SELECT {columns} FROM {identifier(one)}" for one in (before, now))
        rows = f"(({old} EXCEPT ALL {new}) UNION ALL ({new} EXCEPT ALL {old})) AS differing"
        self._note(rows, self.recipe.subjects[name], 0)

    def _note(self, rows: str, tokens: Mapping[str, str], step: int, condition: str = "TRUE") -> None:
        """Mark all tokens of some rows that are not marked yet."""
        domains = ", ".join(literal(domain) for domain in tokens.values())
        values = ", ".join(identifier(name) for name in tokens)
        self.engine.con.execute(
            f"INSERT INTO {_NEAR} SELECT DISTINCT domain, token, {step} FROM ("
            f"SELECT unnest([{domains}]) AS domain, unnest([{values}]) AS token FROM {rows} WHERE {condition}) AS found "
            f"WHERE token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {_NEAR} AS known "
            "WHERE known.domain = found.domain AND known.token = found.token)"
        )

    def _step(self, step: int, *, since: int | None = None) -> None:
        """Go one step on, from the tokens marked last, or since a step: those of the last affected subjects have villagers
        marked after them, and rest on what lies around them all the same."""
        last = f"step >= {step - 1 if since is None else since} AND step < {step}"
        fresh = {domain for (domain,) in self.engine.fetch(f"SELECT DISTINCT domain FROM {_NEAR} WHERE {last}")}
        for name, tokens in self.recipe.subjects.items():
            asked = {column: domain for column, domain in tokens.items() if domain in fresh}
            if asked and len(tokens) > 1:
                self._note(identifier(name), tokens, step, _any_of(asked, last))

    def _note_villages(self) -> None:
        """The villages of whoever is affected, and everybody there."""
        placed = dict(self._placed())
        homes = " UNION ".join(
            f"SELECT {VILLAGE_COLUMN} FROM {identifier(name)} WHERE {_any_of(tokens)}"
            for name, tokens in placed.items()
        )
        self.engine.run_model(_VILLAGES, homes or f"SELECT '' AS {VILLAGE_COLUMN} WHERE FALSE")
        for name, tokens in placed.items():
            here = f"{VILLAGE_COLUMN} IN (SELECT {VILLAGE_COLUMN} FROM {_VILLAGES})"
            self._note(identifier(name), tokens, SPREAD + 1, here)

    def _placed(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Relations that say in which village a subject is: inputs, and tables as graded before."""
        for name, columns in self.recipe.inputs.items():
            if VILLAGE_COLUMN in columns and name in self.recipe.subjects:
                yield name, self.recipe.subjects[name]
        for step in self.recipe.steps:
            columns = _published(step)
            if VILLAGE_COLUMN in columns and self.recipe.tokens(columns):
                yield base_of(step.name), self.recipe.tokens(columns)

    # -- computing around them ----------------------------------------------------------------------------------------

    def narrow(self) -> None:
        """Let every input about subjects hold only the rows around what changed; the whole stays at hand."""
        for name, tokens in self.recipe.subjects.items():
            self.engine.rename(name, whole_of(name))
            self.engine.run_model(name, f"SELECT * FROM {identifier(whole_of(name))} WHERE {_any_of(tokens)}")

    def make(self, step: Step) -> None:
        """Make one relation: around what changed, or of everything."""
        seen = self.recipe.looks[step.name]
        for kept, sql in seen.hoisted.items():
            self.engine.run_model(kept, reading(sql, self._whole_name), self.recipe.params)
        if self.recipe.is_whole(step):
            self.engine.run_model(step.name, reading(seen.sql, self._whole_name), self.recipe.params)
            self._require_as_before(step)
            return
        self.engine.run_model(step.name, seen.sql, self.recipe.params)
        if (step.contract or step.name in self.recipe.kept) and seen.reach is not Reach.CONSTANT:
            self._splice(step)

    def _whole_name(self, name: str) -> str:
        if name in self.recipe.subjects:
            return whole_of(name)
        if name in self.spliced:
            return self.spliced[name].whole
        seen = self.recipe.looks.get(name)
        if seen and seen.reach in (Reach.SUBJECT, Reach.VILLAGE):
            raise Everything(f"{name} is not kept, and something looks at all of it")
        return name

    def _splice(self, step: Step) -> None:
        """Find whose rows differ from those before, and put these in the place of those."""
        owner, domain = self.recipe.owner(step)
        one = self.spliced[step.name] = Spliced(step.name, owner)
        columns = ", ".join(map(identifier, _published(step) or self.engine.columns(step.name)))
        old, new = (
            f"SELECT {columns} FROM {identifier(name)} WHERE {self._may_differ(step, owner, domain)}"
            for name in (one.base, one.fresh)
        )
        self.engine.run_model(
            one.changed,
            f"SELECT DISTINCT {owner} FROM (({old} EXCEPT ALL {new}) UNION ALL ({new} EXCEPT ALL {old})) AS differing",
        )
        theirs = f"{owner} IN (SELECT {owner} FROM {identifier(one.changed)})"
        self.engine.run_view(
            one.whole,
            f"SELECT {columns} FROM {identifier(one.base)} WHERE NOT {theirs} "
            f"UNION ALL SELECT {columns} FROM {identifier(one.fresh)} WHERE {theirs}",
        )

    def _may_differ(self, step: Step, owner: str, domain: str) -> str:
        if owner == VILLAGE_COLUMN:
            return f"{owner} IN (SELECT {owner} FROM {_VILLAGES})"
        is_of_village = self.recipe.looks[step.name].reach is Reach.VILLAGE
        return _any_of({owner: domain}, f"step <= {SPREAD + 1 if is_of_village else SPREAD}")

    def _require_as_before(self, step: Step) -> None:
        """What looks at everything and is read by what does not has to be what it was; else everybody is affected."""
        readers = list(self._subjects_resting_on(step.name))
        tables = tables_of(step.sql)
        if not readers or not (
            tables & self.differing.keys() or any(map(self._is_changed, tables & self.spliced.keys()))
        ):
            return
        before = f"{step.name}__before"
        self.engine.run_model(before, reading(self.recipe.looks[step.name].sql, self._base_name), self.recipe.params)
        old, new = f"SELECT * FROM {identifier(before)}", f"SELECT * FROM {identifier(step.name)}"
        [(count,)] = self.engine.fetch(
            f"SELECT count(*) FROM (({old} EXCEPT ALL {new}) UNION ALL ({new} EXCEPT ALL {old}))"
        )
        if count:
            raise Everything(f"{step.name} came out differently, on which {readers[0]} rests")

    def _subjects_resting_on(self, name: str) -> Iterator[str]:
        """Steps about subjects or villages that read a relation, or what is made of it."""
        for reader in self._readers(name):
            if self.recipe.looks[reader].reach in (Reach.SUBJECT, Reach.VILLAGE):
                yield reader
            else:
                yield from self._subjects_resting_on(reader)

    def _is_changed(self, table: str) -> bool:
        [(count,)] = self.engine.fetch(f"SELECT count(*) FROM {identifier(self.spliced[table].changed)}")
        return bool(count)

    def _base_name(self, name: str) -> str:
        if name in self.differing:
            raise Everything(f"{name} changed, and something looks at all of it")
        return base_of(name) if name in self.spliced else self._whole_name(name)


def _published(step: Step) -> list[str]:
    return [column.name for column in step.contract.published] if step.contract else []


def _any_of(tokens: Mapping[str, str], condition: str = "TRUE") -> str:
    """Whether any of these columns holds a token that is marked."""
    return " OR ".join(
        f"{identifier(column)} IN (SELECT token FROM {_NEAR} WHERE domain = {literal(domain)} AND {condition})"
        for column, domain in tokens.items()
    )
