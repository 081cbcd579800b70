"""Computing a graded month again only where its inputs changed, with the result a whole computation would give.

Rows that share a token lie one step apart. What changed in the inputs spreads `SPREAD` steps: those subjects, and the
villages they live in, may come out differently. The month's own SQL runs over the rows `AROUND` steps further and the result
takes the place of theirs in the tables graded before. What looks at a whole village or at all rows at once (see
`etl.engine.locality`) is computed over the tables so spliced, if anything it reads changed; where that comes out differently
and subjects rest on it, `Everything` says that only a whole computation will do. The longest way from a cause to an effect
has two steps (a borrower's consent, the note, the co-borrower's household).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from etl.contract.model import Contract
from etl.engine.duck import MAIN, DuckEngine, identifier, literal
from etl.engine.locality import VILLAGE_COLUMN, Reach, Seen, is_token, look
from etl.engine.models import Model, order, wrap
from etl.grading.plan import Statement

REGISTER = "core_households"
SPREAD = 3
AROUND = 3
FEW_SUBJECTS = 10_000
ANY_DOMAIN = ""
_WHOLE, _NEAR, _VILLAGES = "whole", "near_tokens", "near_villages"
_OF_ROWS = re.compile(r"\b_(delivery|member|row)\b")
Tokens = Mapping[str, Sequence[str]]


class Everything(Exception):  # noqa: N818 - an answer, not an error
    """Only computing the whole month again will do; the message says why."""


class Finder(Protocol):
    """Finds rows by the tokens they hold. Both methods give a SELECT over columns named as the relation's, in any order."""

    def rows(self, name: str, asked: Tokens) -> str | None:
        """Rows of an input that hold one of these tokens (by column); None if there are none. More may come along."""

    def owned(self, table: str, owner: str, tokens: Sequence[str]) -> str:
        """Rows of a relation as graded before that these tokens own. More may come along."""


@dataclass(frozen=True)
class Scan:
    """Looks at all rows."""

    engine: DuckEngine

    def rows(self, name: str, asked: Tokens) -> str | None:
        held = f"SELECT * FROM {identifier(whole_of(name))}"
        return held if self.engine.fetch(f"{held} LIMIT 1") else None

    def owned(self, table: str, owner: str, tokens: Sequence[str]) -> str:
        return f"SELECT * FROM {identifier(base_of(table))}"


@dataclass(frozen=True)
class Step:
    """One relation the month makes, with the contract if it is published. A `list` is for the ledger."""

    name: str
    sql: str
    contract: Contract | None = None
    is_list: bool = False


@dataclass(frozen=True)
class Recipe:
    """How a month is computed: its steps in order, the columns of its inputs, the domain of each token column.

    `known` is what was found of the steps before, if it is at hand.
    """

    steps: Sequence[Step]
    inputs: Mapping[str, Sequence[str]]
    domains: Mapping[str, str]
    params: Mapping[str, Any]
    known: Mapping[str, Seen] = field(default_factory=dict)

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
    def looks(self) -> Mapping[str, Seen]:
        """How far every step looks."""
        if self.known:
            return self.known
        known = dict.fromkeys(self.subjects, Reach.SUBJECT)
        seen: dict[str, Seen] = {}
        for step in self.steps:
            seen[step.name] = look(step.name, step.sql, known, self.inputs)
            is_whole = seen[step.name].reach is Reach.EVERYTHING
            known[step.name] = Reach.CONSTANT if is_whole else seen[step.name].reach
        return seen

    def columns(self, step: Step) -> Sequence[str]:
        """What a step gives, as far as contract or SQL name it."""
        return [column.name for column in step.contract.published] if step.contract else self.looks[step.name].columns

    def owner(self, step: Step) -> tuple[str, str]:
        """The column that says whose a row is, and its domain; raises Everything where none does."""
        if step.is_list:
            return "token", ANY_DOMAIN
        key = step.contract.key if step.contract else self.columns(step)
        if self.looks[step.name].reach is Reach.VILLAGE and VILLAGE_COLUMN in key:
            return VILLAGE_COLUMN, VILLAGE_COLUMN
        for name, domain in self.tokens(key).items():
            return name, domain
        raise Everything(f"nobody owns the rows of {step.name}")

    def owner_of(self, name: str) -> str | None:
        """The column that says whose the rows of a step are, if one does."""
        [step] = [step for step in self.steps if step.name == name]
        try:
            return self.owner(step)[0]
        except Everything:
            return None

    @cached_property
    def kept(self) -> list[str]:
        """Relations that are not published, but needed as a whole: kept beside the tables."""
        looking = [step for step in self.steps if self.is_whole(step) or step.is_list]
        read = {name for step in looking for name in self.looks[step.name].reads}
        hidden = [step for step in self.steps if not step.contract and self._is_of_subjects(step)]
        return [step.name for step in hidden if step.is_list or step.name in read or self.is_whole(step)]

    def _is_of_subjects(self, step: Step) -> bool:
        return self.looks[step.name].reach is not Reach.CONSTANT

    def is_whole(self, step: Step) -> bool:
        """Whether a step looks at more than one subject's rows: it is computed over all of them."""
        return self.looks[step.name].reach in (Reach.VILLAGE, Reach.EVERYTHING)

    def is_spliced(self, step: Step) -> bool:
        """Whether the rows of some owners take the place of theirs in what is kept or published of a step."""
        return self.looks[step.name].reach is Reach.SUBJECT and bool(step.contract or step.name in self.kept)

    @cached_property
    def by_village(self) -> set[str]:
        """Steps that can be computed for some villages: they, and all of villages that rests on them, name the village."""
        found: set[str] = set()
        for step in reversed(self.steps):
            of_village = [name for name in self.readers(step.name) if self.looks[name].reach is Reach.VILLAGE]
            if self.looks[step.name].reach is Reach.VILLAGE and VILLAGE_COLUMN in self.columns(step):
                found |= {step.name} if found.issuperset(of_village) else set()
        return found

    def readers(self, name: str) -> list[str]:
        """Steps that read a relation."""
        return [step.name for step in self.steps if name in self.looks[step.name].reads]


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
    """A relation after recomputing: `owner` is the column and `changed` the relation of owners whose rows differ.

    Its rows are those of `base` of other owners, and those of `fresh` of these.
    """

    table: str
    owner: str
    changes: int

    @property
    def base(self) -> str:
        return base_of(self.table)

    @property
    def fresh(self) -> str:
        return self.table

    @property
    def before(self) -> str:
        """The rows as graded before of all owners whose rows might have differed."""
        return f"{self.table}__before"

    @property
    def changed(self) -> str:
        return f"{self.table}__changed"

    @property
    def whole(self) -> str:
        return f"{self.table}__spliced" if self.changes else self.base


def base_of(table: str) -> str:
    """The name under which a relation as graded before is looked for."""
    return f"{table}__base"


def whole_of(name: str) -> str:
    """The name under which an input is found when `name` holds only its rows around what changed."""
    return f"{name}__whole"


@dataclass(frozen=True)
class Recomputed:
    """A month recomputed: the relations that were spliced, and the names of all that are not as before."""

    spliced: Mapping[str, Spliced]
    changed: Collection[str]

    def whole(self, name: str) -> str:
        """The relation with all rows of what a step makes."""
        return self.spliced[name].whole if name in self.spliced else name


def recompute(
    engine: DuckEngine, recipe: Recipe, differing: Mapping[str, tuple[str, str]], finder: Finder | None = None
) -> Recomputed:
    """Make every step's relation around what differs.

    The engine holds the inputs and, as `base_of` each, the tables graded before and what the recipe says is `kept`.
    `differing` names for every input that changed the relations with its rows before and now (rows that are in both may be
    left out). Relations that were not spliced are in the engine as a whole. Raises Everything.
    """
    month = _Month(engine, recipe, differing, finder or Scan(engine))
    month.refuse_what_reaches_all()
    month.spread()
    for step in recipe.steps:
        month.make(step)
    return Recomputed(month.spliced, month.changed)


@dataclass
class _Month:
    engine: DuckEngine
    recipe: Recipe
    differing: Mapping[str, tuple[str, str]]
    finder: Finder

    def __post_init__(self) -> None:
        self.spliced: dict[str, Spliced] = {}
        self.changed = set(self.differing)  # relations that are not as before
        self.near: dict[tuple[str, int], list[str]] = {}  # domain, step -> tokens
        self.engine.con.execute(f"CREATE SCHEMA {_WHOLE}")

    def refuse_what_reaches_all(self) -> None:
        """A change in what is about nobody, or in what a hoisted expression counts, reaches every subject."""
        for step in self.recipe.steps:
            seen = self.recipe.looks[step.name]
            for name in sorted((seen.counts | seen.rests_on - self.recipe.subjects.keys()) & self.differing.keys()):
                if not self._is_last(step):
                    raise Everything(f"{name} changed, on which all rows of {step.name} rest")

    def _is_last(self, step: Step) -> bool:
        """Whether a step is computed whole and nothing else rests on it."""
        return self.recipe.is_whole(step) and not self.recipe.readers(step.name)

    # -- who is affected ----------------------------------------------------------------------------------------------

    def spread(self) -> None:
        """Let every input about subjects hold only the rows around what differs; the whole stays at hand.

        Tokens up to SPREAD steps away are of subjects that may be affected, those further away are what these rest on.
        """
        self.engine.run_model(_NEAR, "SELECT '' AS domain, '' AS token, 0 AS step WHERE FALSE")
        for name, tokens in self.recipe.subjects.items():
            self.engine.rename(name, whole_of(name))
            self._show_whole(name, whole_of(name))
            self.engine.run_model(name, f"SELECT * FROM {identifier(whole_of(name))} WHERE FALSE")
            if name in self.differing:
                self._note(self._differing_rows(name), tokens, 0)
        self._refuse_many(0, "changed")
        for step in range(SPREAD + AROUND + 1):
            self._gather(step)
        self._note_villages()

    def _refuse_many(self, step: int, says: str) -> None:
        """Where most of the county is concerned, looking for who is affected costs more than it saves."""
        [(count,)] = self.engine.fetch(f"SELECT count(*) FROM {_NEAR}")
        if count > max(self._households // 2, FEW_SUBJECTS if step else 0):
            raise Everything(f"{count} subjects {says}, of {self._households} households")

    @cached_property
    def _households(self) -> int:
        [(count,)] = self.engine.fetch(f"SELECT count(*) FROM {identifier(base_of(REGISTER))}")
        return int(count)

    def _differing_rows(self, name: str) -> str:
        columns = ", ".join(identifier(one) for one in self.recipe.inputs[name] if not one.startswith("_"))
        return f"({_difference(*(f'SELECT {columns} FROM {identifier(one)}' for one in self.differing[name]))})"

    def _gather(self, step: int) -> None:
        """The rows that hold tokens marked in a step join those around; their other tokens are marked for the next."""
        for domain, token in self.engine.fetch(f"SELECT domain, token FROM {_NEAR} WHERE step = {step} ORDER BY ALL"):
            self.near.setdefault((domain, step), []).append(token)
        if step:
            self._refuse_many(step, "lie around what changed")
        for name, tokens in self.recipe.subjects.items():
            asked = {
                column: self.near[domain, step] for column, domain in tokens.items() if (domain, step) in self.near
            }
            rows = self.finder.rows(name, asked) if asked else None
            if rows:
                self._add(name, tokens, rows, step)

    def _add(self, name: str, tokens: Mapping[str, str], rows: str, step: int) -> None:
        """Take in the rows that hold a token of this step and none of an earlier one: those are there."""
        fresh, known = _any_of(tokens, f"step = {step}"), _any_of(tokens, f"step < {step}")
        found = f"{name}__found"
        self.engine.run_model(found, f"SELECT * FROM ({rows}) AS held WHERE ({fresh}) AND NOT ({known})")
        self.engine.con.execute(f"INSERT INTO {identifier(name)} BY NAME SELECT * FROM {identifier(found)}")
        if step < SPREAD + AROUND and len(tokens) > 1:
            self._note(identifier(found), tokens, step + 1)

    def _note(self, rows: str, tokens: Mapping[str, str], step: int) -> None:
        """Mark all tokens of some rows that are not marked yet."""
        domains = ", ".join(literal(domain) for domain in tokens.values())
        values = ", ".join(identifier(name) for name in tokens)
        self.engine.con.execute(
            f"INSERT INTO {_NEAR} SELECT DISTINCT domain, token, {step} FROM ("
            f"SELECT unnest([{domains}]) AS domain, unnest([{values}]) AS token FROM {rows} AS noted) AS found "
            f"WHERE token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {_NEAR} AS known "
            "WHERE known.domain = found.domain AND known.token = found.token)"
        )

    def _affected(self, domain: str) -> list[str]:
        """Tokens of subjects that may come out differently."""
        wanted = [token for (known, step), found in self.near.items() if step <= SPREAD and domain in (known, ANY_DOMAIN)
                  for token in found]  # fmt: skip
        return sorted(wanted)

    def _note_villages(self) -> None:
        """The villages of whoever may be affected, now and as graded before."""
        homes = [
            f"SELECT {VILLAGE_COLUMN} FROM {source} AS placed WHERE {_any_of(tokens, f'step <= {SPREAD}')}"
            for source, tokens in self._placed()
        ]
        self.engine.run_model(_VILLAGES, " UNION ".join(homes) or f"SELECT '' AS {VILLAGE_COLUMN} WHERE FALSE")

    def _placed(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Relations that say in which village a subject is: inputs before and now, and tables as graded before."""
        for name, columns in self.recipe.inputs.items():
            if VILLAGE_COLUMN in columns and name in self.recipe.subjects:
                for source in (name, *self.differing.get(name, ())):
                    yield identifier(source), self.recipe.subjects[name]
        for step in self.recipe.steps:
            if step.contract and VILLAGE_COLUMN in self.recipe.columns(step) and self.recipe.is_spliced(step):
                owner, domain = self.recipe.owner(step)
                yield f"({self.finder.owned(step.name, owner, self._affected(domain))})", {owner: domain}

    # -- computing around them ----------------------------------------------------------------------------------------

    def make(self, step: Step) -> None:
        """Make one relation: around what changed, or of everything, or not at all where nothing it reads changed."""
        seen = self.recipe.looks[step.name]
        if self.recipe.is_whole(step):
            self._make_whole(step)
            return
        for kept, sql in seen.hoisted.items():
            self._run_whole(kept, sql)
        self.engine.run_model(step.name, seen.sql, self.recipe.params)
        if self.recipe.is_spliced(step):
            self._splice(step)
        elif seen.reach is Reach.CONSTANT and seen.reads & self.changed:
            self._compare(step)

    def _make_whole(self, step: Step) -> None:
        seen = self.recipe.looks[step.name]
        if not seen.reads & self.changed:
            self.engine.run_view(step.name, f"SELECT * FROM {identifier(base_of(step.name))}")
            return
        for kept, sql in seen.hoisted.items():
            self._run_whole(kept, sql)
        if step.name in self.recipe.by_village:
            here = f"{VILLAGE_COLUMN} IN ({self._villages()})"
            self._run_whole(step.name, f"SELECT * FROM ({seen.sql}) AS everywhere WHERE {here}")
            self._splice_rows(step, f"SELECT * FROM {identifier(base_of(step.name))}", here)
            return
        self._run_whole(step.name, seen.sql)
        self._compare(step)
        if seen.reach is Reach.EVERYTHING and step.name in self.changed:
            self._require_nobody_rests_on(step)

    def _villages(self) -> str:
        return _listed([str(code) for (code,) in self.engine.fetch(f"SELECT * FROM {_VILLAGES} ORDER BY 1")])

    def _run_whole(self, name: str, sql: str) -> None:
        """Run a SELECT where the names of relations stand for all their rows."""
        self.engine.run_over(name, sql, self.recipe.params, schemas=(_WHOLE, MAIN))

    def _show_whole(self, name: str, whole: str) -> None:
        """Let a name stand for all its rows in what is computed over everything."""
        self.engine.con.execute(
            f"CREATE OR REPLACE VIEW {_WHOLE}.{identifier(name)} AS SELECT * FROM main.{identifier(whole)}"
        )

    def _splice(self, step: Step) -> None:
        """Find whose rows differ from those before, and put these in the place of those."""
        if step.is_list and self._is_listed_anew(step):
            return
        owner, domain = self.recipe.owner(step)
        base = self.finder.owned(step.name, owner, self._affected(domain))
        self._splice_rows(step, base, _any_of({owner: domain}, f"step <= {SPREAD}"))

    def _splice_rows(self, step: Step, base: str, may_differ: str) -> None:
        columns = self._columns(step)
        owner, _ = self.recipe.owner(step)
        before, changed = (getattr(Spliced(step.name, owner, 0), name) for name in ("before", "changed"))
        self.engine.run_model(before, f"SELECT {columns} FROM ({base}) AS held WHERE {may_differ}")
        old = f"SELECT {columns} FROM {identifier(before)}"
        new = f"SELECT {columns} FROM {identifier(step.name)} WHERE {may_differ}"
        self.engine.run_model(changed, f"SELECT DISTINCT {owner} FROM ({_difference(old, new)}) AS differing")
        [(count,)] = self.engine.fetch(f"SELECT count(*) FROM {identifier(changed)}")
        one = self.spliced[step.name] = Spliced(step.name, owner, count)
        if count:
            self.changed.add(step.name)
            theirs = f"coalesce({owner} IN (SELECT {owner} FROM main.{identifier(changed)}), FALSE)"
            self.engine.run_view(
                one.whole,
                f"SELECT {columns} FROM main.{identifier(one.base)} WHERE NOT {theirs} "
                f"UNION ALL SELECT {columns} FROM main.{identifier(one.fresh)} WHERE {theirs}",
            )
        self._show_whole(step.name, one.whole)

    def _is_listed_anew(self, step: Step) -> bool:
        """A list that names rows of files that changed, or nobody's token, is written from all rows."""
        seen = self.recipe.looks[step.name]
        names_rows = _OF_ROWS.search(seen.sql)
        unowned = (f"SELECT 1 FROM {identifier(one)} WHERE token IS NULL" for one in (step.name, base_of(step.name)))
        if not (names_rows and seen.reads & self.differing.keys()) and not any(map(self.engine.fetch, unowned)):
            return False
        self._run_whole(step.name, seen.sql)
        self.changed.add(step.name)
        return True

    def _compare(self, step: Step) -> None:
        """Note whether a relation that was made as a whole is as before; one that is not kept counts as changed."""
        if step.contract or step.name in self.recipe.kept:
            columns = self._columns(step)
            old, new = (f"SELECT {columns} FROM {identifier(one)}" for one in (base_of(step.name), step.name))
            if not self.engine.fetch(f"SELECT 1 FROM ({_difference(old, new)}) AS differing LIMIT 1"):
                return
        self.changed.add(step.name)

    def _require_nobody_rests_on(self, step: Step) -> None:
        """What looks at everything and is read by what does not has to be what it was; else everybody is affected."""
        for reader in self._subjects_resting_on(step.name):
            raise Everything(f"{step.name} came out differently, on which {reader} rests")

    def _columns(self, step: Step) -> str:
        """What a step gives, for a SELECT."""
        return ", ".join(
            map(identifier, self.recipe.columns(step) if step.contract else self.engine.columns(step.name))
        )

    def _subjects_resting_on(self, name: str) -> Iterator[str]:
        """Steps about subjects or villages that read a relation, or what is made of it."""
        for reader in self.recipe.readers(name):
            if self.recipe.looks[reader].reach in (Reach.SUBJECT, Reach.VILLAGE):
                yield reader
            else:
                yield from self._subjects_resting_on(reader)


def _difference(old: str, new: str) -> str:
    """Rows that are in one of two SELECTs and not in the other."""
    return f"({old} EXCEPT ALL {new}) UNION ALL ({new} EXCEPT ALL {old})"


def _any_of(tokens: Mapping[str, str], condition: str) -> str:
    """Whether any of these columns holds a token that is marked."""
    return " OR ".join(
        f"coalesce({identifier(column)} IN (SELECT token FROM main.{_NEAR} WHERE "
        f"{f'domain = {literal(domain)} AND ' if domain != ANY_DOMAIN else ''}{condition}), FALSE)"
        for column, domain in tokens.items()
    )


def _listed(tokens: Sequence[str]) -> str:
    return ", ".join(map(literal, tokens)) or "NULL"
