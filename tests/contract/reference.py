"""A third reading of contracts: one row at a time in plain Python, for comparison with DuckDB and Great Expectations.

Slow, simple, and written from the rules of the field, not from the compiler: cells are parsed with `datetime` and
`Decimal`, conditions are walked with None as unknown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlglot import exp

from etl.contract.model import Column, Rule
from etl.identifiers import credit_code_is_valid, resident_id_is_valid
from tests.contract.delivery import REGISTRY, Sample

_FACTORS = {"10k_yuan": 10_000, "fraction": 100}
_ORDER = {
    exp.EQ: lambda a, b: a == b, exp.NEQ: lambda a, b: a != b, exp.GT: lambda a, b: a > b,
    exp.GTE: lambda a, b: a >= b, exp.LT: lambda a, b: a < b, exp.LTE: lambda a, b: a <= b,
}  # fmt: skip


def counts(sample: Sample, rows: Sequence[Mapping[str, str | None]]) -> Counter[str]:
    """Findings per rule over some rows."""
    read = [_read(sample, row) for row in rows]
    found: Counter[str] = Counter()
    present = set(sample.layout.canonical)
    for rule in sample.contract.row_rules:
        if present >= set(rule.columns) and rule.applies_in(sample.period.start):
            found[rule.id] = _repeated(rule, read) if rule.kind == "unique" else _broken(sample, rule, read)
    return +found


def _broken(sample: Sample, rule: Rule, rows: Sequence[dict[str, Any]]) -> int:
    return sum(_Walk(sample, row, rule.kind == "check").value(rule.tree) is False for row in rows)


def _repeated(rule: Rule, rows: Sequence[dict[str, Any]]) -> int:
    seen = Counter(row[rule.column] for row in rows if row[rule.column] is not None)
    return sum(count for count in seen.values() if count > 1)


def _read(sample: Sample, row: Mapping[str, str | None]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column in sample.contract.delivered:
        cell = row.get(column.name, sample.layout.defaults.get(column.name))
        trimmed = (cell or "").strip(" \t\r\n")
        raw = None if trimmed in ("", *sample.layout.nulls) else trimmed
        values[f"{column.name}__raw"] = raw
        values[column.name] = None if raw is None else _typed(sample, column, raw)
    return values


def _typed(sample: Sample, column: Column, raw: str) -> Any:
    if column.codes:
        code = REGISTRY.codes.mapping(column.codes, sample.layout.codes).get(raw)
        return {"true": True, "false": False}.get(str(code)) if column.type == "boolean" else code
    if column.type == "date":
        return _date(raw, sample.layout.dates)
    if column.type == "boolean":
        return {"1": True, "true": True, "0": False, "false": False}.get(raw)
    if column.type == "integer":
        return int(raw) if re.fullmatch("[+-]?[0-9]{1,9}", raw) else None
    if column.decimal:
        return _decimal(column, raw, _FACTORS.get(sample.layout.units.get(column.name, ""), 1))
    return raw.replace("x", "X") if column.is_validated else raw


def _date(raw: str, form: str) -> date | None:
    try:
        found = datetime.strptime(raw, form).date()
    except ValueError:
        return None
    return found if found.year >= 1000 and raw.isascii() and found.strftime(form) == raw else None


def _decimal(column: Column, raw: str, factor: int) -> Decimal | None:
    if not re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]{1,8})?", raw):
        return None
    precision, scale = column.staged_decimal or (0, 0)
    value = Decimal(raw) * factor
    fits = abs(value) < Decimal(10) ** (precision - scale)
    return value if fits and value == round(value, scale) else None


class _Walk:
    def __init__(self, sample: Sample, row: dict[str, Any], guarded: bool) -> None:
        self.context, self.row, self.guarded = sample.context, row, guarded

    def value(self, node: Any) -> Any:
        if isinstance(node, exp.Paren):
            return self.value(node.this)
        if isinstance(node, exp.And | exp.Or):
            return self._both(node)
        if isinstance(node, exp.Not):
            value = self.value(node.this)
            return None if value is None else not value
        if isinstance(node, exp.Is):
            return self._is_null(node.this)
        if isinstance(node, exp.In):
            return self._in(node)
        if isinstance(node, exp.Between):
            low, high = (
                self._ordered(exp.GTE, node.this, node.args["low"]),
                self._ordered(exp.LTE, node.this, node.args["high"]),
            )
            return _kleene_and(low, high)
        if type(node) in _ORDER:
            return self._ordered(type(node), node.this, node.expression)
        return self._scalar(node)

    def _scalar(self, node: Any) -> Any:
        if isinstance(node, exp.Literal):
            return node.name if node.is_string else Decimal(node.name)
        if isinstance(node, exp.Column):
            return (
                getattr(self.context, node.name)
                if node.name in ("period_start", "period_end", "supplier")
                else self.row[node.name]
            )
        if isinstance(node, exp.RegexpLike):
            value = self.value(node.this)
            return None if value is None else re.search(node.expression.name, value) is not None
        if isinstance(node, exp.Anonymous):
            return self._function(str(node.this).lower(), self.value(node.expressions[0]))
        if isinstance(node, exp.Substring):
            value, start, length = self.value(node.this), int(node.args["start"].name), int(node.args["length"].name)
            return None if value is None else value[start - 1 : start - 1 + length]
        if isinstance(node, exp.Cast):
            return self.value(node.this)
        return self._arithmetic(node)

    def _arithmetic(self, node: Any) -> Any:
        left = self.value(node.this)
        if isinstance(node, exp.Add) and isinstance(node.expression, exp.Interval):
            return None if left is None else _years_later(left, int(node.expression.this.name))
        right = self.value(node.expression)
        if left is None or right is None:
            return None
        if isinstance(node, exp.DPipe):
            return left + right
        if isinstance(node, exp.Mul):
            return left * right
        assert isinstance(node, exp.Add)
        return left.toordinal() + int(right)

    def _both(self, node: Any) -> bool | None:
        left, right = self.value(node.this), self.value(node.expression)
        if isinstance(node, exp.And):
            return _kleene_and(left, right)
        if left is True or right is True:
            return True
        return None if left is None or right is None else False

    def _is_null(self, column: Any) -> bool | None:
        value, raw = self.row[column.name], self.row.get(f"{column.name}__raw")
        if self.guarded and value is None and raw is not None:
            return None
        return value is None

    def _in(self, node: Any) -> bool | None:
        value = self.value(node.this)
        named = node.expressions[0]
        options = (
            getattr(self.context, named.name)
            if isinstance(named, exp.Column)
            else [one.name for one in node.expressions]
        )
        return None if value is None else value in options

    def _ordered(self, kind: Any, left: Any, right: Any) -> bool | None:
        first, second = self.value(left), self.value(right)
        if first is None or second is None:
            return None
        if isinstance(first, date) and isinstance(second, int | tuple):
            first = first.toordinal() if isinstance(second, int) else (first.year, first.month, first.day)
        if isinstance(first, tuple) and isinstance(second, date):
            second = (second.year, second.month, second.day)
        return bool(_ORDER[kind](first, second))

    @staticmethod
    def _function(name: str, value: str | None) -> Any:
        if value is None:
            return None
        if name == "resident_id_is_valid":
            return resident_id_is_valid(value)
        if name == "credit_code_is_valid":
            return credit_code_is_valid(value)
        if name == "resident_id_sex":
            return "male" if value[16:17] in "13579" and value[16:17] else "female"
        return _date(value[6:14], "%Y%m%d")


def _kleene_and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _years_later(day: date, years: int) -> tuple[int, int, int]:
    """The same day some years later as (year, month, day); 29 February becomes the 28th where there is none."""
    year = day.year + years
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return year, day.month, 28 if (day.month, day.day) == (2, 29) and not leap else day.day
