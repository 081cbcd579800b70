"""Row findings, and what follows from them: accepted rows, rejected rows, keys — each one SELECT in DuckDB.

A row rule fires where its condition is false; unknown never fires. Each rule is a branch of one statement and reads only
its own columns: four times as fast as asking every rule of each row in which any of them fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from etl.contract import language
from etl.contract.casts import duckdb_type, staged_type
from etl.contract.context import Context
from etl.contract.language import quote, text_sql
from etl.contract.model import Column, Contract, Rule, Token
from etl.identifiers import id_digest_sql
from etl.registry import Accept, Layout
from etl.tokens import token_sql

__all__ = [
    "DIGEST_COLUMNS",
    "Context",
    "accepted_columns",
    "accepted_select",
    "active_rules",
    "digests_select",
    "findings_select",
    "holds_select",
    "keys_columns",
    "keys_select",
    "macro_select",
    "person_tokens",
    "rejected_columns",
    "rejected_select",
    "row_key_columns",
    "row_key_sql",
    "unchecked_rules",
    "unique_select",
    "without_digests_select",
]

_ORIGIN = {"_delivery": "VARCHAR", "_member": "VARCHAR", "_row": "BIGINT"}


def active_rules(contract: Contract, layout: Layout, context: Context) -> list[Rule]:
    """Row rules that are in force in the month and whose columns the layout delivers."""
    in_force = [rule for rule in contract.row_rules if rule.applies_in(context.period_start)]
    return [rule for rule in in_force if _can_run(contract, layout, rule)]


def _can_run(contract: Contract, layout: Layout, rule: Rule) -> bool:
    """Whether the layout delivers every column a rule needs, and not only the digest of what it reads."""
    needed = set(rule.columns)
    digests = {c.name for c in contract.delivered if c.is_validated} if layout.id_form == "md5" else set()
    return set(layout.canonical) >= needed and not (rule.kind == "check" and digests & needed)


def unchecked_rules(contract: Contract, layout: Layout | None, context: Context | None = None) -> list[str]:
    """Ids of row rules that cannot run under a layout (all of them without one).

    With a context only rules in force in its month. Suppliers read this in receipts: shadow rules are never named.
    """
    return [
        rule.id
        for rule in contract.row_rules
        if rule.action != "shadow"
        and (context is None or rule.applies_in(context.period_start))
        and not (layout and _can_run(contract, layout, rule))
    ]


def holds_select(contract: Contract, rules: Sequence[Rule], context: Context, *, relation: str = "typed") -> str:
    """SQL giving one row with a column for each of these row rules: FALSE where some row breaks it.

    One pass over the rows: most rules of most deliveries are broken by none, and need not be asked row by row.
    """
    held = (f"{_holds_sql(contract, rule, context)} AS {quote(rule.id)}" for rule in rules)
    return f"SELECT {', '.join(held)} FROM {relation}"


def _holds_sql(contract: Contract, rule: Rule, context: Context) -> str:
    if rule.kind == "unique":
        return f"count({quote(rule.column)}) = count(DISTINCT {quote(rule.column)})"
    return f"bool_and({condition_sql(contract, rule, context)})"


def findings_select(
    contract: Contract,
    layout: Layout,
    *,
    relation: str = "typed",
    context: Context,
    rules: Sequence[Rule] | None = None,
) -> str:
    """SQL giving (_member, _row, rule), one row per finding of the `rules` (else of all active), ordered.

    Shadow rules are among the active.
    """
    rules = active_rules(contract, layout, context) if rules is None else rules
    branches = [
        _broken_sql(rule.id, condition_sql(contract, rule, context), relation) for rule in rules if rule.sql is not None
    ]
    branches += [_unique_sql(rule, relation) for rule in rules if rule.kind == "unique"]
    if not branches:
        return f"SELECT _member, _row, CAST(NULL AS VARCHAR) AS rule FROM {relation} WHERE FALSE"
    return "\nUNION ALL\n".join(branches) + "\nORDER BY _member, _row, rule"


def condition_sql(contract: Contract, rule: Rule, context: Context) -> str:
    """The condition of a rule over TYPED as DuckDB SQL: TRUE, FALSE or NULL (unknown)."""
    guarded = contract.guarded if rule.kind == "check" else ()
    return _condition(str(rule.sql), context.only(rule.context_names), guarded, contract.validated)


@lru_cache(maxsize=4096)
def _condition(sql: str, context: Context, guarded: Sequence[str], validated: Sequence[str]) -> str:
    """Compiled once for all deliveries that it reads alike for: that takes as long as asking it of 20,000 rows."""
    return language.compile_sql(language.bind(language.parse(sql), context), guarded=guarded, validated=validated)


def _broken_sql(rule: str, condition: str, relation: str) -> str:
    return f"SELECT _member, _row, {text_sql(rule)} AS rule FROM {relation} WHERE NOT ({condition})"


def _unique_sql(rule: Rule, relation: str) -> str:
    name = quote(rule.column)
    twice = f"SELECT {name} FROM {relation} WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1"
    return f"SELECT _member, _row, {text_sql(rule.id)} AS rule FROM {relation} WHERE {name} IN ({twice})"


def unique_select(rule: Rule, relation: str, members: str) -> str:
    """SQL giving the findings of one `unique` rule over (its column, _member_no, _row), joined with `members` for names."""
    name = quote(rule.column)
    twice = f"SELECT {name} FROM {relation} GROUP BY {name} HAVING count(*) > 1"
    return (
        f"SELECT m._member, c._row, {text_sql(rule.id)} AS rule FROM {relation} AS c "
        f"INNER JOIN {members} AS m ON m._member_no = c._member_no WHERE c.{name} IN ({twice})"
    )


def accepted_columns(contract: Contract) -> dict[str, str]:
    """Columns of ACCEPTED and their DuckDB types: supplier, open and personal columns, tokens, origin last."""
    columns = {"supplier": "VARCHAR"}
    columns |= {name: duckdb_type(type_) for name, type_ in _kept(contract)}
    return columns | _ORIGIN


def _kept(contract: Contract) -> Iterable[tuple[str, str]]:
    for column in contract.delivered:
        if column.token is not None:
            yield column.token.name, "text"
        elif column.publish_as is not None:
            yield column.publish_as.name, contract.fields[column.publish_as.name].type
        elif column.privacy != "identity":
            yield column.name, column.type


def accepted_select(
    contract: Contract, context: Context, *, relation: str = "typed", findings: str | None = "findings"
) -> str:
    """SQL giving ACCEPTED: rows without a rejecting finding, without identity; needs $token_inner, $token_outer.

    Without `findings` all rows are accepted, in the order in which they were delivered: no join, no sort.
    """
    items = [f"{text_sql(context.supplier)} AS supplier"]
    items += [_accepted_item(contract, column, context) for column in contract.delivered if _is_kept(column)]
    everything = f"SELECT {', '.join([*items, *_ORIGIN])}\nFROM {relation} AS typed_row"
    if findings is None:
        return everything
    return f"{everything}\nWHERE NOT {_has_rejection(contract, findings)}\nORDER BY _member, _row"


def _is_kept(column: Column) -> bool:
    return column.token is not None or column.publish_as is not None or column.privacy != "identity"


def _accepted_item(contract: Contract, column: Column, context: Context) -> str:
    if column.token is not None:
        return _token_item(column.name, column.token, context)
    if column.publish_as is not None:
        type_ = duckdb_type(contract.fields[column.publish_as.name].type)
        value = language.compile_sql(language.bind(language.parse(column.publish_as.sql), context))
        return f"CAST({value} AS {type_}) AS {quote(column.publish_as.name)}"
    name, type_ = quote(column.name), duckdb_type(column.type)
    return name if type_ == staged_type(column) else f"CAST({name} AS {type_}) AS {name}"


def _token_item(name: str, token: Token, context: Context) -> str:
    return f"{_token_sql(name, token, context)} AS {quote(token.name)}"


def _token_sql(name: str, token: Token, context: Context) -> str:
    parts = [text_sql(context.supplier) if part == "bank_code" else quote(part) for part in token.of or [name]]
    return token_sql(token.domain, *parts)


def row_key_columns(contract: Contract) -> list[str]:
    """Columns of ACCEPTED that tell the rows of one delivery apart: its key without what is the same in all rows."""
    accepted = accepted_columns(contract)
    return [name for name in contract.key if name in accepted and name != "supplier"]


def row_key_sql(contract: Contract, context: Context) -> str:
    """The token of a row's key over TYPED, as text; NULL where a part is missing. Needs the token parameters."""
    tokens = {column.token.name: (column.name, column.token) for column in contract.delivered if column.token}
    names = row_key_columns(contract)
    parts = [
        _token_sql(*tokens[name], context) if name in tokens else f"CAST({quote(name)} AS VARCHAR)" for name in names
    ]
    if not parts:
        return "CAST(NULL AS VARCHAR)"
    return parts[0] if names[0] in tokens and len(names) == 1 else token_sql("row_key", *parts)


def _has_rejection(contract: Contract, findings: str) -> str:
    """A finding of any rule that the contract does not name as harmless rejects the row."""
    harmless = [text_sql(rule.id) for rule in contract.row_rules if not rule.rejects]
    unless = f" AND finding.rule NOT IN ({', '.join(harmless)})" if harmless else ""
    return (
        f"EXISTS (SELECT 1 FROM {findings} AS finding WHERE finding._member = typed_row._member "
        f"AND finding._row = typed_row._row{unless})"
    )


def rejected_columns(contract: Contract) -> dict[str, str]:
    """Columns of REJECTED and their DuckDB types: supplier, tokens, _delivery."""
    tokens = {column.token.name: "VARCHAR" for column in contract.delivered if column.token is not None}
    return {"supplier": "VARCHAR", **tokens, "_delivery": "VARCHAR"}


def rejected_select(
    contract: Contract, context: Context, *, relation: str = "typed", findings: str = "findings"
) -> str:
    """SQL giving REJECTED: whom the rejected rows are about, as tokens (NULL where the cell is blank)."""
    items = [
        _token_item(column.name, column.token, context) for column in contract.delivered if column.token is not None
    ]
    return (
        f"SELECT {', '.join([f'{text_sql(context.supplier)} AS supplier', *items, '_delivery'])}\n"
        f"FROM {relation} AS typed_row\nWHERE {_has_rejection(contract, findings)}\nORDER BY _member, _row"
    )


def keys_columns(contract: Contract, key_column: str) -> dict[str, str]:
    """The one column of KEYS and its DuckDB type."""
    return {_key_token(contract, key_column).name: "VARCHAR"}


def keys_select(contract: Contract, key_column: str, context: Context, *, relation: str) -> str:
    """SQL giving KEYS: the tokens of the key list of a database source, ordered; needs the token parameters."""
    token = _key_token(contract, key_column)
    item = _token_item(key_column, token, context)
    return f"SELECT DISTINCT {item} FROM {relation} WHERE {quote(key_column)} IS NOT NULL ORDER BY {quote(token.name)}"


def _key_token(contract: Contract, key_column: str) -> Token:
    token = contract.columns[key_column].token
    if token is None:
        raise KeyError(f"{contract.table}.{key_column} has no token")
    return token


DIGEST_COLUMNS: Mapping[str, str] = {"digest_key": "VARCHAR", "person_key": "VARCHAR"}


def digests_select(contract: Contract, *, relation: str = "typed") -> str:
    """SQL giving DIGESTS: for each valid identity number of the register the token a bank's digest of it gets, and its own.

    Needs the token parameters. No digest is kept, only tokens.
    """
    column = next(c for c in contract.delivered if c.is_validated and c.facts.unique and c.token is not None)
    name, valid = quote(column.name), quote(column.name + language.VALID)
    domain = str(column.token.domain if column.token else "")
    digest, person = token_sql(domain, id_digest_sql(name)), token_sql(domain, name)
    return f"SELECT DISTINCT {digest} AS digest_key, {person} AS person_key FROM {relation} WHERE {valid} ORDER BY 1"


def person_tokens(contract: Contract) -> list[str]:
    """The tokens of a delivered table that stand for persons named by an identity number."""
    return [c.token.name for c in contract.delivered if c.token is not None and c.is_validated]


def without_digests_select(columns: Sequence[str], persons: Sequence[str], *, relation: str, digests: str) -> str:
    """SQL giving a relation with the persons that digests stand for; a digest of nobody on the register stays as it is."""
    items = [
        f"coalesce(of_{name}.person_key, given.{quote(name)}) AS {quote(name)}"
        if name in persons
        else f"given.{quote(name)}"
        for name in columns
    ]
    joins = [f"LEFT JOIN {digests} AS of_{name} ON of_{name}.digest_key = given.{quote(name)}" for name in persons]
    return f"SELECT {', '.join(items)} FROM {relation} AS given " + " ".join(joins)


def macro_select(contract: Contract, accept: Accept, *, rows_read: int, rows_rejected: int, context: Context) -> str:
    """SQL giving (rule, action) for each rule over the delivery as a whole that is broken.

    Fewer rows than the feed's minimum refuse the file; every other break has the action of its rule.
    """
    facts: dict[str, language.Literal] = {
        "rows_read": rows_read,
        "rows_rejected": rows_rejected,
        "max_rejected_share": Decimal(str(accept.max_rejected_share)),
    }
    rules = [rule for rule in contract.macro_rules if rule.applies_in(context.period_start)]
    breaks = [item for rule in rules for item in _macro_breaks(rule, accept, facts)]
    branches = [
        f"SELECT {text_sql(rule)} AS rule, {text_sql(action)} AS action WHERE {sql}" for rule, action, sql in breaks
    ]
    return "\nUNION ALL\n".join(branches or ["SELECT NULL AS rule, NULL AS action WHERE FALSE"])


def _macro_breaks(rule: Rule, accept: Accept, facts: Mapping[str, language.Literal]) -> Sequence[tuple[str, str, str]]:
    if rule.expect is None:
        return [(rule.id, rule.action, f"NOT ({language.compile_sql(language.bind_facts(rule.tree, facts))})")]
    bounds = row_bounds(rule, accept)
    rows, found = facts["rows_read"], []
    if bounds.get("min_value") is not None:
        found.append((rule.id, "reject_file", f"{rows} < {bounds['min_value']}"))
    if bounds.get("max_value") is not None:
        found.append((rule.id, rule.action, f"{rows} > {bounds['max_value']}"))
    return found


def row_bounds(rule: Rule, accept: Accept) -> dict[str, Any]:
    """The arguments of a table-level rule with `accept.rows.…` replaced by what the feed configures."""
    known = {"accept.rows.min": accept.rows.min, "accept.rows.warn_above": accept.rows.warn_above}
    return {name: known.get(value, value) if isinstance(value, str) else value for name, value in rule.kwargs.items()}
