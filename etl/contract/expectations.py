"""Rules as Great Expectations' own words: which expectation with which arguments says the same as a rule.

Built-in expectations wherever one fits, with missing values pinned (`ignore_row_if`, no `mostly`, no `row_condition`);
every other condition becomes `expect_rows_to_satisfy`, which `etl.contract.suite` evaluates independently of DuckDB.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from sqlglot import exp

from etl.contract import casts, language, messages
from etl.contract.context import Context
from etl.contract.language import RAW
from etl.contract.model import Column, Contract, Reference, Rule
from etl.contract.predicates import active_rules
from etl.registry import CodeLists, Layout

ROWS_SATISFY = "expect_rows_to_satisfy"
UNEXPECTED_ROWS = "unexpected_rows_expectation"
READS_AS_DATE = "reads_as_date"
_SEVERITIES = {"reject_file": "critical", "reject_row": "critical", "warn": "warning", "shadow": "info"}
_ORDERED: Mapping[type[exp.Expr], tuple[bool, bool]] = {
    exp.GT: (True, False),
    exp.GTE: (True, True),
    exp.LT: (False, False),
    exp.LTE: (False, True),
}


@dataclass(frozen=True)
class Spec:
    """One expectation: its type in Great Expectations, its arguments, and the rule it stands for."""

    type: str
    kwargs: dict[str, Any]
    rule: str
    severity: str
    says: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns the expectation reads."""
        single = [self.kwargs[name] for name in ("column", "column_A", "column_B") if name in self.kwargs]
        return (*single, *self.kwargs.get("column_list", ()))


def delivery_specs(
    contract: Contract, layout: Layout, codes: CodeLists, context: Context, *, far_dates: Collection[str] = ()
) -> list[Spec]:
    """One expectation per active row rule of a delivery.

    `far_dates` are columns with a date outside pandas' nanoseconds, which built-in bounds cannot compare.
    """
    given = _Delivery(contract, layout, codes, context, frozenset(far_dates))
    return [_spec(given, rule) for rule in active_rules(contract, layout, context)]


@dataclass(frozen=True)
class _Delivery:
    contract: Contract
    layout: Layout
    codes: CodeLists
    context: Context
    far_dates: frozenset[str]


def severity_of(rule: Rule) -> str:
    """The severity Great Expectations shows for a rule's action."""
    return _SEVERITIES[rule.action]


def _spec(given: _Delivery, rule: Rule) -> Spec:
    type_, kwargs = _expectation(given, rule)
    return Spec(type_, kwargs, rule.id, severity_of(rule), _texts(rule))


def _expectation(given: _Delivery, rule: Rule) -> tuple[str, dict[str, Any]]:
    column = given.contract.columns[rule.column]
    if rule.kind == "required":
        return "expect_column_values_to_not_be_null", {"column": column.raw_name}
    if rule.kind == "type":
        return _readable(column, given.layout)
    if rule.kind == "codes":
        known = sorted(casts.source_codes(column, given.layout, given.codes))
        return "expect_column_values_to_be_in_set", {"column": column.name + RAW, "value_set": known}
    if rule.kind == "pattern":
        return "expect_column_values_to_match_regex", {"column": column.name, "regex": str(column.facts.pattern)}
    if rule.kind == "unique":
        return "expect_column_values_to_be_unique", {"column": column.name}
    tree = language.of_digests(rule.tree) if given.layout.id_form == "md5" else rule.tree
    return _condition(given, rule, language.bind(tree, given.context))


def _readable(column: Column, layout: Layout) -> tuple[str, dict[str, Any]]:
    raw = column.name + RAW
    if column.type == "date":
        return ROWS_SATISFY, {
            "column_list": [raw, column.name],
            "condition": f"{READS_AS_DATE} {layout.dates}",
            "types": {},
        }
    if column.type == "boolean":
        return "expect_column_values_to_be_in_set", {"column": raw, "value_set": ["0", "1", "false", "true"]}
    if column.decimal is None:
        return "expect_column_values_to_match_regex", {"column": raw, "regex": casts.integer_pattern(column)}
    pattern, whole = casts.decimal_pattern(column, layout), casts.whole_digits(column, layout)
    if whole >= casts.MAX_DIGITS:
        return "expect_column_values_to_match_regex", {"column": raw, "regex": pattern}
    fits = f"^[+-]?0*[0-9]{{0,{whole}}}(?:[.]|$)"
    return "expect_column_values_to_match_regex_list", {"column": raw, "regex_list": [pattern, fits], "match_on": "all"}


def _condition(given: _Delivery, rule: Rule, tree: exp.Expr) -> tuple[str, dict[str, Any]]:
    found = _membership(tree) or _against_literal(given.contract, tree) or _pair(given.contract, tree)
    if found is not None and found[1].get("column") not in given.far_dates:
        return found
    return ROWS_SATISFY, rows_satisfy(given.contract, rule, tree)


def rows_satisfy(contract: Contract, rule: Rule, tree: exp.Expr) -> dict[str, Any]:
    """Arguments of the general expectation: the condition as text, its columns (at least two) and their types."""
    names = [name for name in rule.columns if name in contract.columns]
    raws = [name + RAW for name in names if contract.columns[name].can_fail_to_cast]
    columns = [*names, *raws]
    padded = columns if len(columns) > 1 else [*columns, "_row"]
    types = {name: staged_field_type(contract.columns[name]) for name in names}
    return {"column_list": padded, "condition": tree.sql(dialect=language.DIALECT), "types": types}


def staged_field_type(column: Column) -> str:
    """The field type of a typed column while rules run."""
    return "decimal({},{})".format(*column.staged_decimal) if column.staged_decimal else column.type


def _membership(tree: exp.Expr) -> tuple[str, dict[str, Any]] | None:
    """`column IN (texts)` and `column = text`."""
    if isinstance(tree, exp.In) and isinstance(tree.this, exp.Column):
        return _in_set(tree.this.name, tree.expressions)
    if isinstance(tree, exp.EQ) and isinstance(tree.this, exp.Column):
        return _in_set(tree.this.name, [tree.expression])
    return None


def _in_set(column: str, options: Sequence[exp.Expr]) -> tuple[str, dict[str, Any]] | None:
    if not options or not all(isinstance(option, exp.Literal) and option.is_string for option in options):
        return None
    return "expect_column_values_to_be_in_set", {"column": column, "value_set": [option.name for option in options]}


def _against_literal(contract: Contract, tree: exp.Expr) -> tuple[str, dict[str, Any]] | None:
    """`column >= literal` and its kin, `BETWEEN`, two bounds joined by AND, `column = date`."""
    bounds: dict[str, Any] = {}
    parts = _parts(tree)
    named = {part.this.name for part in parts if isinstance(part.this, exp.Column)}
    if len(named) != 1 or not all(_bound_into(bounds, part) for part in parts):
        return None
    column = contract.columns[named.pop()]
    if column.is_text or column.type == "boolean":
        return None
    return "expect_column_values_to_be_between", {"column": column.name, **bounds}


def _parts(tree: exp.Expr) -> list[exp.Expr]:
    if isinstance(tree, exp.And):
        return [*_parts(tree.this), *_parts(tree.expression)]
    if isinstance(tree, exp.Between):
        return [
            exp.GTE(this=tree.this, expression=tree.args["low"]),
            exp.LTE(this=tree.this, expression=tree.args["high"]),
        ]
    return [tree]


def _bound_into(bounds: dict[str, Any], part: exp.Expr) -> bool:
    """Add one comparison with a literal to the bounds; False when it is something else."""
    if not isinstance(part, (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ)) or not isinstance(part.this, exp.Column):
        return False
    value = _literal_value(part.expression)
    if value is None:
        return False
    if isinstance(part, exp.EQ):
        bounds.update(min_value=value, max_value=value)
        return True
    is_low, or_equal = _ORDERED[type(part)]
    side = "min" if is_low else "max"
    bounds[f"{side}_value"] = value
    if not or_equal:
        bounds[f"strict_{side}"] = True
    return True


def _literal_value(node: exp.Expr) -> float | str | None:
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal):
        return f"{date.fromisoformat(node.this.name)}T00:00:00"  # a bare date would not compare with pandas' instants
    negative = isinstance(node, exp.Neg)
    plain = node.this if negative else node
    if not isinstance(plain, exp.Literal) or plain.is_string:
        return None
    number = Decimal(plain.name) * (-1 if negative else 1)
    return int(number) if number == number.to_integral_value() else float(number)


def _pair(contract: Contract, tree: exp.Expr) -> tuple[str, dict[str, Any]] | None:
    """`a > b` and its kin, `a = b`, over two columns of one type."""
    sides = (tree.this, tree.args.get("expression"))
    if not all(isinstance(side, exp.Column) for side in sides):
        return None
    left, right = (side.name for side in sides if side is not None)
    if contract.columns[left].type != contract.columns[right].type or contract.columns[left].is_text:
        return None
    pinned = {"ignore_row_if": "either_value_is_missing"}
    if isinstance(tree, exp.EQ):
        return "expect_column_pair_values_to_be_equal", {"column_A": left, "column_B": right, **pinned}
    if type(tree) not in _ORDERED:
        return None
    is_greater, or_equal = _ORDERED[type(tree)]
    first, second = (left, right) if is_greater else (right, left)
    return (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": first, "column_B": second, "or_equal": or_equal, **pinned},
    )


def release_specs(contract: Contract, tables: Mapping[str, str]) -> list[Spec]:
    """What the audit of a staged release asks of one table: key, computed columns, references, release rules.

    `tables` maps each table to its staged name; a reference to a table that is not staged is left out.
    """
    rules = [rule for rule in contract.release_rules if rule.reference is None or rule.reference.table in tables]
    asked = [(rule, _release_expectation(contract, rule, tables)) for rule in rules]
    written = [Spec(type_, kwargs, rule.id, severity_of(rule), _texts(rule)) for rule, (type_, kwargs) in asked]
    return [*_key_specs(contract), *written]


def _texts(rule: Rule) -> str:
    return f"{rule.says.zh} / {rule.says.en}"


def _key_specs(contract: Contract) -> list[Spec]:
    says = messages.says("key", contract.says, table=contract.table)
    text = f"{says.zh} / {says.en}"
    key = list(contract.key)
    specs = [
        Spec("expect_column_values_to_not_be_null", {"column": name}, f"{contract.table}.{name}.key", "critical", text)
        for name in key
    ]
    if len(key) == 1:
        unique: tuple[str, dict[str, Any]] = ("expect_column_values_to_be_unique", {"column": key[0]})
    else:
        unique = ("expect_compound_columns_to_be_unique", {"column_list": key, "ignore_row_if": "any_value_is_missing"})
    return [*specs, Spec(*unique, f"{contract.table}.key", "critical", text)]


def _release_expectation(contract: Contract, rule: Rule, tables: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    if rule.expect is not None:
        return rule.expect, dict(rule.kwargs)
    if rule.reference is not None:
        return UNEXPECTED_ROWS, {"unexpected_rows_query": _reference_query(rule.reference, tables)}
    if rule.kind == "check":
        condition = language.release_sql(str(rule.sql))
        return UNEXPECTED_ROWS, {"unexpected_rows_query": _marking(f"NOT ({condition})")}
    facts = contract.columns[rule.column].facts
    name = {"column": rule.column}
    if rule.kind == "required":
        return "expect_column_values_to_not_be_null", name
    if rule.kind == "codes":
        return "expect_column_values_to_be_in_set", {**name, "value_set": facts.values}
    if rule.kind == "pattern":
        return "expect_column_values_to_match_regex", {**name, "regex": facts.pattern}
    if rule.kind == "unique":
        return "expect_column_values_to_be_unique", name
    low = _number(facts.min) if rule.kind in ("min", "range") else None
    high = _number(facts.max) if rule.kind in ("max", "range") else None
    return "expect_column_values_to_be_between", {**name, "min_value": low, "max_value": high}


def _number(bound: Decimal | None) -> float | int | None:
    if bound is None:
        return None
    return int(bound) if bound == bound.to_integral_value() else float(bound)


def _marking(broken: str) -> str:
    """A query with one constant per broken row: it can be counted, and no value can leave the database."""
    return f"SELECT 1 AS broken FROM (SELECT * FROM {{batch}}) AS checked WHERE {broken}"


def _reference_query(reference: Reference, tables: Mapping[str, str]) -> str:
    pairs = zip(reference.columns, reference.to, strict=True)
    same = " AND ".join(f"target.{language.quote(to)} = checked.{language.quote(name)}" for name, to in pairs)
    present = " AND ".join(f"checked.{language.quote(name)} IS NOT NULL" for name in reference.columns)
    return _marking(f"{present} AND NOT EXISTS (SELECT 1 FROM {tables[reference.table]} AS target WHERE {same})")
