"""The SQL dialect every model keeps to, so that two engines compute the same rows from it.

What is refused here gave different results on DuckDB and Spark, or differs from run to run (ties, clocks, row order);
each entry says what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

DIALECT: Final = "duckdb"
_FLOATS: Final = (exp.DType.FLOAT, exp.DType.DOUBLE)
_INTEGERS: Final = (exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT, exp.DType.INT128)
_GUARDED: Final = (*_INTEGERS, exp.DType.DECIMAL, exp.DType.DATE)
_PARTS_OF_WEEKS: Final = {"dow", "dayofweek", "isodow", "weekday", "week", "isoweek", "yearweek"}
_RATIO: Final = "ratios by BIGINT `//` or cross-multiplication"
_MEDIAN: Final = "take the middle by row_number and count"
_CLOCK: Final = "take the day from $period_end or another parameter"
_TIES: Final = "use max_by(x, (y, x)) or row_number with a total order"

_CLASSES: Final[dict[type[exp.Expr], tuple[str, str]]] = {
    exp.Avg: ("avg()", _RATIO),
    exp.Median: ("median()", _MEDIAN),
    exp.PercentileCont: ("percentile_cont()/quantile()", _MEDIAN),
    exp.PercentileDisc: ("percentile_disc()/quantile_disc()", _MEDIAN),
    exp.Quantile: ("quantile()", _MEDIAN),
    exp.ApproxQuantile: ("approx_quantile()", _MEDIAN),
    exp.ApproxDistinct: ("approx_count_distinct()", "count(DISTINCT x)"),
    exp.Stddev: ("stddev()", "no floating point in models"),
    exp.Div: ("division `/`", _RATIO),
    exp.TimestampTrunc: ("date_trunc()", "use make_date(year(d), month(d), 1)"),
    exp.DateTrunc: ("date_trunc()", "use make_date(year(d), month(d), 1)"),
    exp.AnyValue: ("any_value()", _TIES),
    exp.Mode: ("mode()", _TIES),
    exp.CurrentDate: ("current_date", _CLOCK),
    exp.CurrentTime: ("current_time", _CLOCK),
    exp.CurrentTimestamp: ("current_timestamp", _CLOCK),
    exp.Rand: ("random()", "derive it from a key with md5"),
    exp.Uuid: ("uuid()", "derive it from a key with md5"),
    exp.ReadParquet: ("read_parquet()", "name a relation, never a file"),
    exp.ReadCSV: ("read_csv()", "name a relation, never a file"),
    exp.DayOfWeek: ("dayofweek()", "weekday numbers differ: join config/calendar.csv"),
    exp.DayOfWeekIso: ("isodow()", "weekday numbers differ: join config/calendar.csv"),
}
_NAMES: Final[dict[str, tuple[str, str]]] = {
    "hash": ("hash()", "use md5"),
    "mean": ("mean()", _RATIO),
    "fdiv": ("fdiv()", _RATIO),
    "divide": ("divide()", _RATIO),
    "quantile": ("quantile()", _MEDIAN),
    "now": ("now()", _CLOCK),
    "get_current_timestamp": ("get_current_timestamp()", _CLOCK),
    "weekday": ("weekday()", "weekday numbers differ: join config/calendar.csv"),
    "date_sub": ("date_sub()", "only date_diff('day', a, b) is the same everywhere"),
    "arbitrary": ("arbitrary()", _TIES),
}


def parse(sql: str) -> exp.Query:
    """The one SELECT of a model file; raises ValueError saying what else was found."""
    try:
        statements = [found for found in sqlglot.parse(sql, read=DIALECT) if found is not None]
    except SqlglotError as error:
        raise ValueError(f"does not parse ({str(error).splitlines()[0]})") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ValueError("more or less than one SELECT statement")
    return statements[0]


def tables_read(query: exp.Query) -> frozenset[str]:
    """Names of the relations a query reads, its own CTEs left out (by scope, so that a CTE may shadow nothing)."""
    return frozenset(
        source.name
        for scope in _scopes(query)
        for source in scope.sources.values()
        if isinstance(source, exp.Table) and source.name
    )


def lint(sql: str, tables: Iterable[str] = ()) -> list[str]:
    """What in one model leaves the safe dialect: `construct: what to write instead`, empty when all is well.

    `tables` are the names of all models and inputs, which no CTE may bear.
    """
    try:
        query = parse(sql)
    except ValueError as error:
        return [f"{error}: write one SELECT with named CTEs"]
    found = [*_shadowing_ctes(query, frozenset(tables))]
    for node in query.walk():
        found.extend(_judge(node))
    return sorted(set(found))


def _scopes(query: exp.Query) -> list[Scope]:
    return traverse_scope(query)


def _shadowing_ctes(query: exp.Query, tables: frozenset[str]) -> Iterator[str]:
    taken = tables | tables_read(query)
    for cte in query.find_all(exp.CTE):
        if cte.alias in taken:
            yield f"CTE {cte.alias} named as a table: give the CTE a name of its own"


def _judge(node: exp.Expr) -> Iterator[str]:
    known = _CLASSES.get(type(node)) or (_NAMES.get(node.name.lower()) if isinstance(node, exp.Anonymous) else None)
    if known:
        yield ": ".join(known)
    check = _CHECKS.get(type(node))
    problem = check(node) if check else None
    if problem:
        yield problem


def _float_type(node: exp.Expr) -> str | None:
    return f"type {node.this.value}: DECIMAL with a scale, or BIGINT" if node.this in _FLOATS else None


def _float_literal(node: exp.Expr) -> str | None:
    written = "" if node.args.get("is_string") else str(node.this).lower()
    return f"literal {written}: write it out, 1e5 is a DOUBLE" if "e" in written else None


def _try_cast(node: exp.Expr) -> str | None:
    kind = node.args["to"].this
    if kind not in _GUARDED or _is_guarded(node):
        return None
    return f"TRY_CAST to {kind.value} without a regex guard: CASE WHEN regexp_full_match(…) THEN TRY_CAST(…) END"


def _is_guarded(node: exp.Expr) -> bool:
    branch = node.find_ancestor(exp.If)
    return branch is not None and branch.this.find(exp.RegexpLike, exp.RegexpFullMatch) is not None


def _regexp_replace(node: exp.Expr) -> str | None:
    flags = node.args.get("modifiers")
    if flags is not None and "g" in flags.name:
        return None
    return "regexp_replace() without 'g': it replaces once on one engine and everywhere on the other"


def _array_agg(node: exp.Expr) -> str | None:
    if isinstance(node.this, exp.Order) or node.find(exp.Order):
        return "list(x ORDER BY x): loses its order, use list_sort(list(x))"
    if node.find_ancestor(exp.ArraySort):
        return None
    return "list() outside list_sort(): its order is chance"


def _group_concat(node: exp.Expr) -> str | None:
    return None if isinstance(node.this, exp.Order) else "string_agg() without ORDER BY: its order is chance"


def _extreme(node: exp.Expr) -> str | None:
    by = node.args.get("expression")
    total = isinstance(by, exp.Tuple | exp.Struct) or (isinstance(by, exp.Anonymous) and by.name.lower() == "row")
    return None if total else f"{node.sql(DIALECT).split('(')[0].lower()}() by one column: {_TIES}"


def _first_or_last(node: exp.Expr) -> str | None:
    return None if node.find_ancestor(exp.Window) else f"{type(node).__name__.lower()}(): {_TIES}"


def _date_diff(node: exp.Expr) -> str | None:
    unit = node.args.get("unit")
    if unit is not None and unit.name.lower() == "day":
        return None
    return "date_diff() in other units than 'day': compute months from year(d) and month(d)"


def _interval(node: exp.Expr) -> str | None:
    outer = node.find_ancestor(exp.Cast)
    if outer is not None and outer.to.this == exp.DType.DATE:
        return None
    return "date ± interval without CAST: it is a TIMESTAMP, write CAST(d + INTERVAL … AS DATE)"


def _part_of_week(node: exp.Expr) -> str | None:
    part = node.this.name if isinstance(node, exp.Extract) else _first_argument(node)
    return "weekday or week number: they differ, join config/calendar.csv" if part.lower() in _PARTS_OF_WEEKS else None


def _first_argument(node: exp.Expr) -> str:
    arguments = node.args.get("expressions") or []
    return arguments[0].name if node.name.lower() == "date_part" and arguments else ""


def _window(node: exp.Expr) -> str | None:
    ranked = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.FirstValue, exp.LastValue, exp.Lag, exp.Lead, exp.Ntile)
    called = node.this.this if isinstance(node.this, exp.IgnoreNulls | exp.RespectNulls) else node.this
    if not isinstance(called, ranked) or node.args.get("order"):
        return None
    return f"{type(called).__name__} without ORDER BY: give it a total order"


def _limit(node: exp.Expr) -> str | None:
    query = node.parent
    ordered = query is not None and query.args.get("order") is not None
    return None if ordered else "LIMIT without ORDER BY: the rows are chance"


_CHECKS: Final[dict[type[exp.Expr], Callable[[exp.Expr], str | None]]] = {
    exp.DataType: _float_type,
    exp.Literal: _float_literal,
    exp.TryCast: _try_cast,
    exp.RegexpReplace: _regexp_replace,
    exp.ArrayAgg: _array_agg,
    exp.GroupConcat: _group_concat,
    exp.ArgMax: _extreme,
    exp.ArgMin: _extreme,
    exp.First: _first_or_last,
    exp.Last: _first_or_last,
    exp.DateDiff: _date_diff,
    exp.Interval: _interval,
    exp.Extract: _part_of_week,
    exp.Anonymous: _part_of_week,
    exp.Window: _window,
    exp.Limit: _limit,
}
