"""How far a model looks: at the rows of one subject, of one village, or at all rows at once; read from its SQL.

Rows are linked by tokens (columns `…_key`, `…_id`). A SELECT that only joins and groups by tokens gives the same rows for a subject
when it reads nothing but what lies around that subject. One that groups by village needs the whole village; a median of a
town, a count over a table or a window without a token needs all rows. What a common table expression counts over an input
is computed beforehand from the whole input (`hoisted`), so that it does not make the rest of its model look far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

import sqlglot
from sqlglot import exp

from etl.engine.dialect import DIALECT

VILLAGE_COLUMN = "village_code"
_TOKEN_WORDS = frozenset({"key", "token"})  # also household_key_before


class Reach(IntEnum):
    """How far a relation looks. `CONSTANT` ones read nothing that is about a subject."""

    CONSTANT = 0
    SUBJECT = 1
    VILLAGE = 2
    EVERYTHING = 3


@dataclass(frozen=True)
class Seen:
    """One model's reach, and its SQL with every hoisted expression replaced by a relation of that name.

    `reads` are the relations of the SQL as written, `rests_on` those that are left in `sql`, `counts` those that the hoisted
    expressions read; `columns` are those it gives, as far as the SQL names them.
    """

    reach: Reach
    sql: str
    hoisted: Mapping[str, str]
    reads: frozenset[str]
    rests_on: frozenset[str]
    counts: frozenset[str]
    columns: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For keeping: reading SQL takes longer than running it over a few rows."""
        sets = {name: sorted(getattr(self, name)) for name in ("reads", "rests_on", "counts")}
        return {
            "reach": self.reach.name,
            "sql": self.sql,
            "hoisted": dict(self.hoisted),
            "columns": self.columns,
            **sets,
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Self:
        """Read what `as_json` gave."""
        sets = {name: frozenset(held[name]) for name in ("reads", "rests_on", "counts")}
        return cls(Reach[held["reach"]], held["sql"], held["hoisted"], columns=tuple(held["columns"]), **sets)


def look(name: str, sql: str, known: Mapping[str, Reach], inputs: Iterable[str]) -> Seen:
    """What one SELECT looks at. `known` says the reach of what it may read, `inputs` which of that is no model's work.

    A relation that `known` does not name is a constant.
    """
    tree = sqlglot.parse_one(sql, read=DIALECT)
    reads = _relations(tree)
    columns = tuple(tree.named_selects) if isinstance(tree, exp.Query) else ()
    counts: set[str] = set()
    reaches, given, hoisted = dict(known), frozenset(inputs), {}
    for cte in _in_order(tree):
        reaches[cte.alias] = _reach(cte.this, reaches)
        if reaches[cte.alias] is Reach.EVERYTHING and _reads_only(cte.this, given, reaches):
            kept = f"{name}__{cte.alias}"
            hoisted[kept] = cte.this.sql(dialect=DIALECT)
            counts |= _relations(cte.this)
            cte.set("this", sqlglot.parse_one(f"SELECT * FROM {kept}", read=DIALECT))
            reaches[cte.alias] = reaches[kept] = Reach.CONSTANT
    left = _relations(tree) - hoisted.keys()
    text = tree.sql(dialect=DIALECT) if hoisted else sql
    return Seen(_reach(tree, reaches), text, hoisted, reads, left, frozenset(counts), columns)


def is_token(column: str) -> bool:
    """Whether a column links rows of one subject."""
    return column.endswith("_id") or bool(_TOKEN_WORDS & set(column.split("_")))


def _relations(tree: exp.Expr) -> frozenset[str]:
    """The relations a query reads, its common table expressions apart."""
    ours = {cte.alias for cte in tree.find_all(exp.CTE)}
    return frozenset(table.name for table in tree.find_all(exp.Table)) - ours


def _in_order(tree: exp.Expr) -> list[exp.CTE]:
    """Common table expressions, each after those it may read."""
    return list(tree.find_all(exp.CTE, bfs=False))


def _reads_only(body: exp.Expr, inputs: frozenset[str], reaches: Mapping[str, Reach]) -> bool:
    read = {table.name for table in body.find_all(exp.Table)}
    return all(name in inputs or reaches.get(name, Reach.CONSTANT) is Reach.CONSTANT for name in read)


def _reach(query: exp.Expr, reaches: Mapping[str, Reach]) -> Reach:
    """The farthest look of any SELECT in a query, common table expressions apart, and of what it reads."""
    body = query.copy()
    for clause in list(body.find_all(exp.With)):
        clause.pop()
    farthest = max((_of(table, reaches) for table in _tables(body)), default=Reach.CONSTANT)
    if farthest is Reach.CONSTANT:
        return farthest
    return max(farthest, *(reach for select in body.find_all(exp.Select) for reach in _looks(select, reaches)))


def _looks(select: exp.Select, reaches: Mapping[str, Reach]) -> Iterator[Reach]:
    yield Reach.CONSTANT
    if all(_of(table, reaches) is Reach.CONSTANT for table in _tables(select)):
        return
    if _own_aggregates(select):
        group = select.args.get("group")
        yield _by(_columns(group.expressions if group else []))
    for window in _own(select, exp.Window):
        yield _by(_columns(window.args.get("partition_by") or []))
    if select.args.get("limit"):
        yield Reach.EVERYTHING
    yield from (_of_join(join, reaches) for join in select.args.get("joins") or [])
    yield from (_of_probe(probe, reaches) for probe in _own(select, exp.Exists))


def _own_aggregates(select: exp.Select) -> bool:
    return any(found.find_ancestor(exp.Window, exp.Select) is select for found in _own(select, exp.AggFunc))


def _of_join(join: exp.Expr, reaches: Mapping[str, Reach]) -> Reach:
    """Two relations about subjects meet by a token; one about subjects may meet a constant in any way."""
    select = join.parent_select
    joined = {id(table) for table in _tables(join)}
    sides = {id(table) in joined for table in _tables(select) if _of(table, reaches)}
    if len(sides) < 2:
        return Reach.SUBJECT
    return _by(_equal_columns(join.args.get("on")))


def _of_probe(probe: exp.Expr, reaches: Mapping[str, Reach]) -> Reach:
    """EXISTS over rows about subjects asks for those of the same token."""
    if not any(_of(table, reaches) for table in _tables(probe)):
        return Reach.SUBJECT
    where = probe.find(exp.Where)
    return _by(_equal_columns(where.this if where else None))


def _own(select: exp.Select, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    """What stands in a SELECT itself, not in one below it."""
    return (found for found in select.find_all(kind) if found.parent_select is select)


def _equal_columns(condition: exp.Expr | None) -> set[str]:
    """Columns in which all pairs of rows agree: those of equations that no OR makes optional."""
    if condition is None:
        return set()
    parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
    return {_one_of(part) for part in parts if isinstance(part, exp.EQ)} - {""}


def _one_of(equation: exp.EQ) -> str:
    """The column two sides share: a token or village on both; else nothing that links."""
    left, right = _columns([equation.this]), _columns([equation.expression])
    for test in (is_token, VILLAGE_COLUMN.__eq__):
        if any(map(test, left)) and any(map(test, right)):
            return next(filter(test, left))
    return ""


def _by(columns: set[str]) -> Reach:
    if any(map(is_token, columns)):
        return Reach.SUBJECT
    return Reach.VILLAGE if VILLAGE_COLUMN in columns else Reach.EVERYTHING


def _columns(expressions: Iterable[exp.Expr]) -> set[str]:
    return {column.name for each in expressions for column in each.find_all(exp.Column)}


def _of(table: exp.Table, reaches: Mapping[str, Reach]) -> Reach:
    return reaches.get(table.name, Reach.CONSTANT)


def _tables(node: exp.Expr | None) -> list[exp.Table]:
    return list(node.find_all(exp.Table)) if node is not None else []
