"""The language of checks: a small part of SQL that every engine reads alike.

A check is one boolean expression over a row. It may use comparisons, AND / OR / NOT, IN, BETWEEN, IS NULL, CASE,
`+ - *`, `||`, substr, length, upper, lower, coalesce, regexp_matches, CAST(… AS DATE) around `date ± INTERVAL n
DAY|MONTH|YEAR`, the context names of `etl.contract.context`, and the functions of `FUNCTIONS`. Anything else is a
configuration error, so that DuckDB and the second opinion can never drift apart over an unusual function.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from decimal import Decimal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl.contract.context import DELIVERY_FACTS, LISTS, SCALARS, Context
from etl.identifiers import credit_code_sql, id_digest_is_valid_sql, resident_id_sql

DIALECT = "duckdb"
RAW = "__raw"
VALID = "__valid"
Literal = str | int | Decimal | date

_ALLOWED: tuple[type[exp.Expr], ...] = (
    exp.And, exp.Or, exp.Not, exp.Paren, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Is,
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.DPipe,
    exp.Substring, exp.Length, exp.Upper, exp.Lower, exp.Coalesce, exp.RegexpLike, exp.Case, exp.If, exp.Cast,
    exp.DataType, exp.Interval, exp.Var, exp.Anonymous,
)  # fmt: skip


def _birth_sql(value: str) -> str:
    parts = f"substr({value}, 7, 4) || '-' || substr({value}, 11, 2) || '-' || substr({value}, 13, 2)"
    return f"TRY_CAST({parts} AS DATE)"


def _sex_sql(value: str) -> str:
    return f"CASE WHEN substr({value}, 17, 1) IN ('1', '3', '5', '7', '9') THEN 'male' ELSE 'female' END"


FUNCTIONS: Mapping[str, Callable[[str], str]] = {
    "credit_code_is_valid": credit_code_sql,
    "id_digest_is_valid": id_digest_is_valid_sql,
    "resident_id_is_valid": resident_id_sql,
    "resident_id_birth_on": _birth_sql,
    "resident_id_sex": _sex_sql,
}


def parse(text: str) -> exp.Expr:
    """The tree of one check; raises ValueError saying what is not understood."""
    try:
        tree = sqlglot.parse_one(text, dialect=DIALECT)
    except SqlglotError as error:
        raise ValueError(f"not an SQL expression ({str(error).splitlines()[0]})") from None
    for node in tree.walk():
        _require_allowed(node)
    return tree


def _require_allowed(node: exp.Expr) -> None:
    if not isinstance(node, _ALLOWED):
        raise ValueError(f"{node.key.upper()} is not part of the language of checks")
    if isinstance(node, exp.Anonymous) and str(node.this).lower() not in FUNCTIONS:
        raise ValueError(f"unknown function {node.this}; known are {', '.join(FUNCTIONS)}")
    if isinstance(node, exp.Cast) and not node.to.is_type("date"):
        raise ValueError("only CAST(… AS DATE) is part of the language of checks")
    if isinstance(node, exp.Column) and node.table:
        raise ValueError(f"{node.sql(dialect=DIALECT)} names a table; write the column alone")


def names(tree: exp.Expr) -> list[str]:
    """Every name of the tree once, in the order of the text; `x__raw` counts as `x`."""
    found = (column.name.removesuffix(RAW) for column in tree.find_all(exp.Column, bfs=False))
    return list(dict.fromkeys(found))


def column_names(tree: exp.Expr) -> list[str]:
    """The names that are columns, that is neither context nor facts of the delivery."""
    return [name for name in names(tree) if name not in (*SCALARS, *LISTS, *DELIVERY_FACTS)]


def literal(value: Literal) -> exp.Expr:
    """A properly escaped literal."""
    if isinstance(value, date):
        return exp.cast(exp.Literal.string(value.isoformat()), "date")
    return exp.Literal.string(value) if isinstance(value, str) else exp.Literal.number(str(value))


def quote(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def text_sql(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def bind(tree: exp.Expr, context: Context) -> exp.Expr:
    """A copy of the tree in which the names of the context are literals."""
    return tree.transform(lambda node: _bound(node, context))


def of_digests(tree: exp.Expr) -> exp.Expr:
    """A copy of the tree for identity numbers that come as digests: only their form can be checked."""
    return tree.transform(_of_digest)


def _of_digest(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Anonymous) and str(node.this).lower() == "resident_id_is_valid":
        return exp.Anonymous(this="id_digest_is_valid", expressions=node.expressions)
    return node


def bind_facts(tree: exp.Expr, facts: Mapping[str, Literal]) -> exp.Expr:
    """A copy of the tree in which the facts of a delivery (rows read, rows rejected …) are literals."""
    return tree.transform(
        lambda node: literal(facts[node.name]) if isinstance(node, exp.Column) and node.name in facts else node
    )


def _bound(node: exp.Expr, context: Context) -> exp.Expr:
    if isinstance(node, exp.In):
        return _bound_in(node, context)
    if isinstance(node, exp.Column) and node.name in SCALARS:
        return literal(getattr(context, node.name))
    return node


def _bound_in(node: exp.In, context: Context) -> exp.Expr:
    named = [node.args["field"]] if node.args.get("field") else node.expressions
    if len(named) != 1 or not isinstance(named[0], exp.Column) or named[0].name not in LISTS:
        return node
    values: Sequence[str] = getattr(context, named[0].name)
    if not values:
        return exp.false()
    return exp.In(this=node.this, expressions=[literal(value) for value in values])


def compile_sql(tree: exp.Expr, *, guarded: Collection[str] = (), validated: Collection[str] = ()) -> str:
    """A bound tree as DuckDB SQL.

    `guarded` columns may be NULL although a cell was delivered (the cast failed): IS NULL over them is unknown then.
    `validated` columns carry their identity check as `<column>__valid`, computed once by the cast.
    """
    return tree.transform(lambda node: _compiled(node, guarded, validated)).sql(dialect=DIALECT)


def _compiled(node: exp.Expr, guarded: Collection[str], validated: Collection[str]) -> exp.Expr:
    if isinstance(node, exp.Is) and isinstance(node.this, exp.Column) and node.this.name in guarded:
        return _guarded_is_null(node.this.name)
    if isinstance(node, exp.Anonymous):
        return _function(node, validated)
    return node


def _guarded_is_null(name: str) -> exp.Expr:
    typed, raw = quote(name), quote(name + RAW)
    case = f"CASE WHEN NOT {typed} IS NULL THEN FALSE WHEN {raw} IS NULL THEN TRUE END"
    return _opaque(case)


def _function(node: exp.Anonymous, validated: Collection[str]) -> exp.Expr:
    function, argument = str(node.this).lower(), node.expressions[0]
    if function == "resident_id_is_valid" and isinstance(argument, exp.Column) and argument.name in validated:
        return _opaque(quote(argument.name + VALID))
    return _opaque(FUNCTIONS[function](argument.sql(dialect=DIALECT)))


def _opaque(sql: str) -> exp.Expr:
    """SQL text as a leaf that the transformation does not enter again."""
    return exp.Var(this=f"({sql})")


def release_names(check: str) -> list[str]:
    """Column names of a release check, which may be any SQL expression; raises ValueError if it does not parse."""
    try:
        tree = sqlglot.parse_one(check, dialect=DIALECT)
    except SqlglotError as error:
        raise ValueError(f"not an SQL expression ({str(error).splitlines()[0]})") from None
    return list(dict.fromkeys(column.name for column in tree.find_all(exp.Column, bfs=False)))


def release_sql(check: str) -> str:
    """A release check in PostgreSQL's dialect."""
    return sqlglot.parse_one(check, dialect=DIALECT).sql(dialect="postgres")
