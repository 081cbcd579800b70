"""A second, independent reading of checks: trees of the language over pandas columns, in three-valued logic.

Nothing here touches DuckDB. Numbers are exact integers of a common scale, dates are NumPy days, text is pandas text.
A value is known or unknown per row; a condition is false, true or unknown, and only false counts against a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from sqlglot import exp

from etl.contract import language

_SAFE = 2.0**62
_MONTHS = {"YEAR": 12, "MONTH": 1}
_WEIGHTS = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2])
_CHECKS = np.array(list("10X98765432"))
_CODE_WEIGHTS = np.array([pow(3, place, 31) for place in range(17)])
_CODE_PLACES = np.array(["0123456789ABCDEFGHJKLMNPQRTUWXY".find(chr(code)) for code in range(128)])
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


@dataclass(frozen=True)
class Value:
    """One expression over all rows: `kind` text, number, date or truth; `scale` counts decimals of a number."""

    kind: str
    data: Any
    known: Any
    scale: int = 0


def false_rows(condition: str, frame: pd.DataFrame, types: Mapping[str, str]) -> np.ndarray:
    """Boolean mask of the rows in which a bound condition is false; `types` are field types of the columns."""
    tree = language.parse(condition)
    value = Evaluator(frame, types).evaluate(tree)
    return np.broadcast_to(np.asarray(value.known & ~value.data, dtype=bool), len(frame))


@dataclass(frozen=True)
class Evaluator:
    """Evaluates trees over one frame."""

    frame: pd.DataFrame
    types: Mapping[str, str]

    def evaluate(self, node: exp.Expr) -> Value:
        """The value of a node; every node of the language has a method."""
        return self._handler(node)(self, node)

    def _handler(self, node: exp.Expr) -> Callable[[Evaluator, Any], Value]:
        for kind, handler in _HANDLERS.items():
            if isinstance(node, kind):
                return handler
        raise ValueError(f"{node.key} cannot be evaluated")

    def paren(self, node: exp.Paren) -> Value:
        return self.evaluate(node.this)

    def column(self, node: exp.Column) -> Value:
        name = node.name
        type_ = "text" if name.endswith(language.RAW) else self.types[name]
        return _from_series(self.frame[name], type_)

    def literal(self, node: exp.Literal) -> Value:
        if node.is_string:
            return Value("text", node.this, np.True_)
        number = Decimal(node.this)
        scale = max(-int(number.as_tuple().exponent), 0)
        return Value("number", int(number.scaleb(scale)), np.True_, scale)

    def boolean(self, node: exp.Boolean) -> Value:
        return Value("truth", np.bool_(node.this), np.True_)

    def null(self, _: exp.Null) -> Value:
        return Value("null", None, np.False_)

    def conjunction(self, node: exp.And) -> Value:
        left, right = self._truth(node.this), self._truth(node.expression)
        false = (left.known & ~left.data) | (right.known & ~right.data)
        return Value("truth", ~false, (left.known & right.known) | false)

    def disjunction(self, node: exp.Or) -> Value:
        left, right = self._truth(node.this), self._truth(node.expression)
        true = (left.known & left.data) | (right.known & right.data)
        return Value("truth", true, (left.known & right.known) | true)

    def negation(self, node: exp.Not) -> Value:
        value = self._truth(node.this)
        return Value("truth", ~value.data, value.known)

    def is_null(self, node: exp.Is) -> Value:
        value = self.evaluate(node.this)
        return self._guarded_null(node) if self._guarded(node) else Value("truth", ~np.asarray(value.known), np.True_)

    def _guarded(self, node: exp.Is) -> bool:
        """Whether a cell may have been delivered that could not be read: its absence is then unknown."""
        return isinstance(node.this, exp.Column) and node.this.name + language.RAW in self.frame

    def _guarded_null(self, node: exp.Is) -> Value:
        typed = self.frame[node.this.name].notna().to_numpy()
        raw = self.frame[node.this.name + language.RAW].notna().to_numpy()
        return Value("truth", ~typed, typed | ~raw)

    def _truth(self, node: exp.Expr) -> Value:
        value = self.evaluate(node)
        return Value("truth", np.False_, np.False_) if value.kind == "null" else value

    def comparison(self, node: exp.Binary) -> Value:
        return _compare(type(node), self.evaluate(node.this), self.evaluate(node.expression))

    def between(self, node: exp.Between) -> Value:
        low = exp.GTE(this=node.this, expression=node.args["low"])
        high = exp.LTE(this=node.this, expression=node.args["high"])
        return self.conjunction(exp.And(this=low, expression=high))

    def membership(self, node: exp.In) -> Value:
        value = self.evaluate(node.this)
        options = [self.evaluate(option) for option in node.expressions]
        found = [_compare(exp.EQ, value, option) for option in options] if value.kind != "text" else None
        if found is None:
            return Value("truth", _is_in(value.data, [option.data for option in options]), value.known)
        return Value("truth", np.logical_or.reduce([one.data for one in found]), value.known)

    def arithmetic(self, node: exp.Binary) -> Value:
        if isinstance(node.expression, exp.Interval):
            return self._shifted(node)
        left, right = self.evaluate(node.this), self.evaluate(node.expression)
        sign = -1 if isinstance(node, exp.Sub) else 1
        if left.kind == "date":
            return Value(
                "date", left.data + np.asarray(sign * right.data).astype("timedelta64[D]"), left.known & right.known
            )
        left, right = _aligned(left, right)
        return Value("number", left.data + sign * right.data, left.known & right.known, left.scale)

    def _shifted(self, node: exp.Binary) -> Value:
        start, interval = self.evaluate(node.this), node.expression
        count = int(interval.this.name) * (-1 if isinstance(node, exp.Sub) else 1)
        unit = interval.text("unit").upper()
        if unit == "DAY":
            return Value("date", start.data + np.timedelta64(count, "D"), start.known)
        return Value("date", _add_months(np.asarray(start.data), count * _MONTHS[unit]), start.known)

    def product(self, node: exp.Mul) -> Value:
        left, right = self.evaluate(node.this), self.evaluate(node.expression)
        data = _roomy(left.data, right.data) * right.data
        return Value("number", data, left.known & right.known, left.scale + right.scale)

    def negative(self, node: exp.Neg) -> Value:
        value = self.evaluate(node.this)
        return Value("number", -value.data, value.known, value.scale)

    def cast(self, node: exp.Cast) -> Value:
        value = self.evaluate(node.this)
        return Value("date", np.datetime64(value.data, "D"), np.True_) if value.kind == "text" else value

    def concat(self, node: exp.DPipe) -> Value:
        left, right = self.evaluate(node.this), self.evaluate(node.expression)
        return Value("text", left.data + right.data, left.known & right.known)

    def substring(self, node: exp.Substring) -> Value:
        value = self.evaluate(node.this)
        start, length = (int(node.args[part].name) for part in ("start", "length"))
        cut = slice(start - 1, start - 1 + length)
        data = value.data[cut] if isinstance(value.data, str) else value.data.str.slice(cut.start, cut.stop)
        return Value("text", data, value.known)

    def length(self, node: exp.Length) -> Value:
        value = self.evaluate(node.this)
        return Value("number", value.data.str.len().fillna(0).to_numpy(dtype=np.int64), value.known)

    def upper(self, node: exp.Upper) -> Value:
        value = self.evaluate(node.this)
        return Value("text", value.data.str.upper(), value.known)

    def lower(self, node: exp.Lower) -> Value:
        value = self.evaluate(node.this)
        return Value("text", value.data.str.lower(), value.known)

    def coalesce(self, node: exp.Coalesce) -> Value:
        result = self.evaluate(node.this)
        for option in node.expressions:
            result = _first_known(result, self.evaluate(option), len(self.frame))
        return result

    def case(self, node: exp.Case) -> Value:
        default = node.args.get("default")
        result = self.evaluate(default) if default is not None else Value("null", None, np.False_)
        for branch in reversed(node.args["ifs"]):
            condition = self._truth(branch.this)
            chosen = np.broadcast_to(condition.known & condition.data, len(self.frame))
            result = _chosen(chosen, self.evaluate(branch.args["true"]), result, len(self.frame))
        return result

    def matches(self, node: exp.RegexpLike) -> Value:
        value = self.evaluate(node.this)
        found = value.data.str.contains(node.expression.name, regex=True).fillna(False)
        return Value("truth", found.to_numpy(dtype=bool), value.known)

    def function(self, node: exp.Anonymous) -> Value:
        value = self.evaluate(node.expressions[0])
        return _FUNCTIONS[str(node.this).lower()](value)


def _from_series(series: pd.Series, type_: str) -> Value:
    known = series.notna().to_numpy()
    if type_ == "text":
        return Value("text", series, known)
    if type_ == "date":
        return Value("date", series.to_numpy().astype("datetime64[D]"), known)
    if type_ == "boolean":
        return Value("truth", series.fillna(False).to_numpy(dtype=bool), known)
    scale = int(type_.rstrip(")").split(",")[1]) if type_.startswith("decimal") else 0
    scaled = np.rint(series.fillna(0).to_numpy(dtype=np.float64) * 10.0**scale)
    return Value("number", scaled.astype(np.int64), known, scale)


def _roomy(data: Any, factor: Any) -> Any:
    """Integers that a multiplication cannot overflow: Python's own where 62 bits might not do."""
    if not isinstance(data, np.ndarray) or data.dtype == object or not data.size:
        return data
    largest = float(np.abs(data).max()) * float(np.max(np.abs(factor)))
    return data.astype(object) if largest >= _SAFE else data


def _aligned(left: Value, right: Value) -> tuple[Value, Value]:
    """Two numbers at one scale; anything else unchanged."""
    if left.kind != "number" or right.kind != "number" or left.scale == right.scale:
        return left, right
    if left.scale > right.scale:
        low, high = _aligned(right, left)
        return high, low
    factor = 10 ** (right.scale - left.scale)
    return Value("number", _roomy(left.data, factor) * factor, left.known, right.scale), right


_COMPARISONS: Mapping[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: lambda a, b: a == b,
    exp.NEQ: lambda a, b: a != b,
    exp.GT: lambda a, b: a > b,
    exp.GTE: lambda a, b: a >= b,
    exp.LT: lambda a, b: a < b,
    exp.LTE: lambda a, b: a <= b,
}


def _compare(kind: type[exp.Expr], left: Value, right: Value) -> Value:
    if "null" in (left.kind, right.kind):
        return Value("truth", np.False_, np.False_)
    left, right = _aligned(left, right)
    result = _COMPARISONS[kind](left.data, right.data)
    truth = (
        result.fillna(False).to_numpy(dtype=bool) if isinstance(result, pd.Series) else np.asarray(result, dtype=bool)
    )
    return Value("truth", truth, left.known & right.known)


def _is_in(data: Any, options: list[Any]) -> Any:
    return data.isin(options).to_numpy(dtype=bool) if isinstance(data, pd.Series) else np.bool_(data in options)


def _add_months(days: np.ndarray, months: int) -> np.ndarray:
    """Calendar months later, at most the last day of that month; years beyond 9999 are fine."""
    month = days.astype("datetime64[M]")
    day_of_month = days - month.astype("datetime64[D]")
    target = month + np.timedelta64(months, "M")
    last = (target + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    return np.asarray(np.minimum(target.astype("datetime64[D]") + day_of_month, last))


def _objects(value: Value, rows: int) -> np.ndarray:
    data = value.data.to_numpy(dtype=object) if isinstance(value.data, pd.Series) else value.data
    return np.broadcast_to(np.asarray(data, dtype=object), rows)


def _chosen(mask: np.ndarray, value: Value, other: Value, rows: int) -> Value:
    """Row-wise value or other."""
    kind = other.kind if value.kind == "null" else value.kind
    if kind == "number":
        value, other = _aligned(value, other)
    known = np.where(mask, np.broadcast_to(value.known, rows), np.broadcast_to(other.known, rows))
    data = np.where(mask, _objects(value, rows), _objects(other, rows))
    return _restored(kind, data, known, max(value.scale, other.scale))


def _restored(kind: str, data: np.ndarray, known: np.ndarray, scale: int) -> Value:
    """Row-wise objects back as the column type of their kind."""
    if kind == "text":
        return Value("text", pd.Series(data, dtype=object).where(known).astype("str"), known)
    if kind == "truth":
        return Value("truth", np.where(known, data, False).astype(bool), known)
    if kind == "date":
        return Value("date", np.where(known, data, np.datetime64("NaT")).astype("datetime64[D]"), known)
    return Value(kind, np.where(known, data, 0), known, scale)


def _first_known(value: Value, option: Value, rows: int) -> Value:
    return _chosen(np.broadcast_to(np.asarray(value.known, dtype=bool), rows), value, option, rows)


def _characters(value: Value, positions: slice) -> np.ndarray:
    """Characters of 18-character text as a rows x n array of digits 0-9 (other characters give other numbers)."""
    text = np.asarray(value.data.fillna("").to_numpy(dtype=object).astype("U18"))
    codes = text.view(np.uint32).reshape(len(text), 18)[:, positions].astype(np.int64)
    return codes - ord("0")


def _resident_id_is_valid(value: Value) -> Value:
    """GB 11643-1999 by arithmetic over digit columns: form, calendar date, ISO 7064 MOD 11-2 check character."""
    if not len(value.data):
        return Value("truth", np.zeros(0, dtype=bool), value.known)
    digits = _characters(value, slice(0, 17))
    numeric = ((digits >= 0) & (digits <= 9)).all(axis=1) & (digits[:, 0] > 0)
    year = digits[:, 6:10] @ np.array([1000, 100, 10, 1])
    month, day = digits[:, 10:12] @ np.array([10, 1]), digits[:, 12:14] @ np.array([10, 1])
    real = _is_calendar_day(year, month, day) & (year >= 1800) & (year < 2100)
    check = _CHECKS[(digits @ _WEIGHTS) % 11] == value.data.str.slice(17, 18).fillna("").to_numpy(dtype=object)
    long = value.data.str.len().fillna(0).to_numpy(dtype=np.int64) == 18
    return Value("truth", long & numeric & real & check, value.known)


def _is_calendar_day(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    in_year = (month >= 1) & (month <= 12)
    longest = _MONTH_DAYS[np.where(in_year, month, 0)] + (leap & (month == 2))
    return np.asarray(in_year & (day >= 1) & (day <= longest))


def _resident_id_birth_on(value: Value) -> Value:
    text = value.data.str.slice(6, 14)
    days = pd.to_datetime(text.where(text.str.fullmatch("[0-9]{8}").fillna(False)), format="%Y%m%d", errors="coerce")
    return Value("date", days.to_numpy().astype("datetime64[D]"), days.notna().to_numpy())


def _resident_id_sex(value: Value) -> Value:
    odd = value.data.str.slice(16, 17).isin(list("13579")).to_numpy(dtype=bool)
    return Value("text", pd.Series(np.where(odd, "male", "female"), index=value.data.index, dtype="str"), value.known)


def reads_as_date(cells: pd.Series, form: str) -> np.ndarray:
    """Whether each cell is a real date written exactly in the form, from the year 1000 on (each cell is read once)."""
    codes, unique = pd.factorize(cells)
    good = np.array([_is_date(str(cell), form) for cell in unique] + [True], dtype=bool)
    return np.asarray(good[codes])


def _is_date(cell: str, form: str) -> bool:
    if not re.fullmatch(r"[\x20-\x7e]*", cell):
        return False
    try:
        moment = datetime.strptime(cell, form)
    except ValueError:
        return False
    return moment.year >= 1000 and moment.strftime(form) == cell


def _id_digest_is_valid(value: Value) -> Value:
    text = value.data.str
    is_form = (text.len() == 32) & text.fullmatch("[0-9A-F]*")
    return Value("truth", is_form.fillna(False).to_numpy(dtype=bool), value.known)


def _credit_code_is_valid(value: Value) -> Value:
    """GB 32100-2015 by arithmetic over character places: the sum of place x 3^k and the check place is 0 modulo 31."""
    if not len(value.data):
        return Value("truth", np.zeros(0, dtype=bool), value.known)
    letters = _characters(value, slice(0, 18)) + ord("0")
    places = np.where(letters < len(_CODE_PLACES), _CODE_PLACES[letters % len(_CODE_PLACES)], -1)
    rest = (places[:, :17] @ _CODE_WEIGHTS + places[:, 17]) % 31
    long = value.data.str.len().fillna(0).to_numpy(dtype=np.int64) == 18
    return Value("truth", long & (places >= 0).all(axis=1) & (rest == 0), value.known)


_FUNCTIONS: Mapping[str, Callable[[Value], Value]] = {
    "credit_code_is_valid": _credit_code_is_valid,
    "id_digest_is_valid": _id_digest_is_valid,
    "resident_id_is_valid": _resident_id_is_valid,
    "resident_id_birth_on": _resident_id_birth_on,
    "resident_id_sex": _resident_id_sex,
}

_HANDLERS: Mapping[type[exp.Expr], Callable[[Evaluator, Any], Value]] = {
    exp.Paren: Evaluator.paren,
    exp.Column: Evaluator.column,
    exp.Literal: Evaluator.literal,
    exp.Boolean: Evaluator.boolean,
    exp.Null: Evaluator.null,
    exp.And: Evaluator.conjunction,
    exp.Or: Evaluator.disjunction,
    exp.Not: Evaluator.negation,
    exp.Is: Evaluator.is_null,
    exp.EQ: Evaluator.comparison,
    exp.NEQ: Evaluator.comparison,
    exp.GT: Evaluator.comparison,
    exp.GTE: Evaluator.comparison,
    exp.LT: Evaluator.comparison,
    exp.LTE: Evaluator.comparison,
    exp.Between: Evaluator.between,
    exp.In: Evaluator.membership,
    exp.Add: Evaluator.arithmetic,
    exp.Sub: Evaluator.arithmetic,
    exp.Mul: Evaluator.product,
    exp.Neg: Evaluator.negative,
    exp.Cast: Evaluator.cast,
    exp.DPipe: Evaluator.concat,
    exp.Substring: Evaluator.substring,
    exp.Length: Evaluator.length,
    exp.Upper: Evaluator.upper,
    exp.Lower: Evaluator.lower,
    exp.Coalesce: Evaluator.coalesce,
    exp.Case: Evaluator.case,
    exp.RegexpLike: Evaluator.matches,
    exp.Anonymous: Evaluator.function,
}
