"""A revision against what was delivered before: rows by key token, findings by rule and key token, all set-based.

Rows with one key form a bag: what both deliveries hold alike is unchanged, of the rest as many as both have are changed,
what is left over was added or removed. With a key that tells rows apart this is the plain meaning of the words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from etl.contract.context import Context
from etl.contract.language import quote, text_sql
from etl.contract.model import Contract, Rule
from etl.contract.predicates import accepted_columns, row_key_columns, row_key_sql
from etl.engine.duck import DuckEngine
from etl.intake.confirmation import Entry
from etl.intake.receipt import IDENTITY_MASK, IDENTITY_NUMBER
from etl.tokens import TokenKey, token, token_sql

FINDINGS: Final = "findings"
ORIGIN: Final = ("_delivery", "_member", "_row")
SHOWN_DOMAIN: Final = "shown_key"
WARNING_DOMAIN: Final = "warning"
FINDING_COLUMNS: Final[Mapping[str, str]] = {
    "member": "VARCHAR",
    "row_no": "BIGINT",
    "rule": "VARCHAR",
    "action": "VARCHAR",
    "state": "VARCHAR",
    "key_token": "VARCHAR",
    "shown_token": "VARCHAR",
    "value_token": "VARCHAR",
}


@dataclass(frozen=True)
class RowDiff:
    """Rows of a revision against the delivery in force."""

    added: int
    changed: int
    removed: int
    rows_before: int


@dataclass(frozen=True)
class FindingDiff:
    """Findings of a revision against the delivery before it."""

    fixed: int
    new: int


def diff_rows(engine: DuckEngine, contract: Contract, before: Path, after: Path) -> RowDiff:
    """What the accepted rows of `after` change in those of `before` (two Parquet files of the restricted zone)."""
    columns = accepted_columns(contract)
    for name, path in (("rows_before", before), ("rows_after", after)):
        engine.register_parquet(name, [path], columns)
    keys = [quote(name) for name in row_key_columns(contract)] or ["''"]
    content = [quote(name) for name in columns if name not in ORIGIN]
    [(added, changed, removed, rows_before)] = engine.fetch(
        _ROW_DIFF.format(key=f"concat_ws(chr(31), {_texts(keys)})", content=f"concat_ws(chr(31), {_texts(content)})")
    )
    return RowDiff(int(added), int(changed), int(removed), int(rows_before))


def _texts(expressions: Sequence[str]) -> str:
    return ", ".join(f"coalesce(CAST({one} AS VARCHAR), chr(30))" for one in expressions)


_ROW_DIFF = """
WITH bags AS (
  SELECT {key} AS row_key, md5({content}) AS mark, 1 AS was, 0 AS is_now FROM rows_before
  UNION ALL
  SELECT {key}, md5({content}), 0, 1 FROM rows_after
), marks AS (
  SELECT row_key, sum(was) AS was, sum(is_now) AS is_now FROM bags GROUP BY row_key, mark
), left_over AS (
  SELECT row_key, sum(was - least(was, is_now)) AS was, sum(is_now - least(was, is_now)) AS is_now
  FROM marks GROUP BY row_key
)
SELECT
  coalesce(sum(is_now - least(was, is_now)), 0), coalesce(sum(least(was, is_now)), 0),
  coalesce(sum(was - least(was, is_now)), 0), (SELECT count(*) FROM rows_before)
FROM left_over
"""


def diff_findings(engine: DuckEngine, before: Path, after: Path) -> FindingDiff:
    """Which findings (rule and key; without a key, the rule alone) are gone, and which were not there before."""
    for name, path in (("findings_before", before), ("findings_after", after)):
        engine.register_parquet(name, [path], FINDING_COLUMNS)
    [(fixed, new)] = engine.fetch(_FINDING_DIFF)
    return FindingDiff(int(fixed), int(new))


_FINDING_DIFF = """
WITH bags AS (
  SELECT rule, coalesce(key_token, '') AS row_key, 1 AS was, 0 AS is_now FROM findings_before
  UNION ALL
  SELECT rule, coalesce(key_token, ''), 0, 1 FROM findings_after
), counted AS (
  SELECT sum(was) AS was, sum(is_now) AS is_now FROM bags GROUP BY rule, row_key
)
SELECT coalesce(sum(greatest(was - is_now, 0)), 0), coalesce(sum(greatest(is_now - was, 0)), 0) FROM counted
"""


def mark_findings(
    engine: DuckEngine, contract: Contract, context: Context, rules: Sequence[str], token_key: TokenKey
) -> None:
    """Make `marked` from `findings` and `typed`: each finding of these rules with its tokens, no value and no key.

    Columns: member, row_no, rule, action, key_token; for warnings also shown_token (of the key as a receipt shows it)
    and value_token (of the rule's text and the cells it looks at).
    """
    known = {rule.id: rule for rule in contract.row_rules}
    warning = [rule for name in rules if (rule := known.get(name)) is not None and rule.action == "warn"]
    other = [name for name in rules if name not in {rule.id for rule in warning}]
    key = row_key_sql(contract, context)
    branches = [
        _marked_sql(text_sql(rule.id), "'warn'", key, _shown_sql(contract), _value_sql(contract, rule))
        for rule in warning
    ]
    if other or not branches:
        names = ", ".join(text_sql(name) for name in other) or "NULL"
        branches.append(_marked_sql(names, "'reject_row'", key, "CAST(NULL AS VARCHAR)", "CAST(NULL AS VARCHAR)"))
    engine.run_model("marked", "\nUNION ALL\n".join(branches), token_key.params())


def _marked_sql(rules: str, action: str, key: str, shown: str, value: str) -> str:
    return (
        f"SELECT of_member AS member, of_row AS row_no, of_rule AS rule, {action} AS action, {key} AS key_token, "
        f"{shown} AS shown_token, {value} AS value_token\n"
        f"FROM (SELECT _member AS of_member, _row AS of_row, rule AS of_rule FROM findings WHERE rule IN ({rules})) "
        "LEFT JOIN typed ON typed._member = of_member AND typed._row = of_row"
    )


def _shown_sql(contract: Contract) -> str:
    """Token of the supplier's own number as its receipt shows it, masked where it holds an identity number."""
    own = contract.own_number
    if own is None:
        return "CAST(NULL AS VARCHAR)"
    masked = f"regexp_replace({quote(own)}, {text_sql(IDENTITY_NUMBER)}, {text_sql(IDENTITY_MASK)}, 'g')"
    return token_sql(SHOWN_DOMAIN, masked)


def shown_token(token_key: TokenKey, key: str) -> str:
    """The same token of a key as somebody wrote it down (masked or in full)."""
    return token(token_key, SHOWN_DOMAIN, re.sub(IDENTITY_NUMBER, IDENTITY_MASK, key))


def _value_sql(contract: Contract, rule: Rule) -> str:
    """Token of what was warned of: another text of the rule or another cell gives another token."""
    cells = [
        f"coalesce(CAST({quote(name)} AS VARCHAR), {quote(contract.columns[name].raw_name)}, chr(30))"
        for name in rule.columns
    ]
    return token_sql(WARNING_DOMAIN, text_sql(rule.id), text_sql(rule.sql or rule.kind), *cells)


def settle(engine: DuckEngine, known: Sequence[str]) -> None:
    """Make `settled` from `marked` and `confirmations` (rule, key_token, value_token): `marked` with its `state`.

    A warning of a `known` rule is known, one that was confirmed is confirmed, every other finding is open (NULL).
    """
    names = ", ".join(text_sql(name) for name in known) or "NULL"
    engine.run_model("settled", _SETTLED.format(known=names))


_SETTLED = """
SELECT marked.member, marked.row_no, marked.rule, marked.action,
  CASE WHEN marked.action = 'warn' AND marked.rule IN ({known}) THEN 'known'
    WHEN marked.action = 'warn' AND confirmed.rule IS NOT NULL THEN 'confirmed' END AS state,
  marked.key_token, marked.shown_token, marked.value_token
FROM marked LEFT JOIN confirmations AS confirmed
  ON confirmed.rule = marked.rule AND confirmed.key_token = marked.key_token AND confirmed.value_token = marked.value_token
ORDER BY marked.member, marked.row_no, marked.rule
"""


def match_entries(engine: DuckEngine, findings: Path, entries: Sequence[Entry], token_key: TokenKey) -> None:
    """Make `matched` from the findings of a delivery and what a bank confirms of them, one row a line.

    Columns: line; is_of_rule (the delivery has such a warning), is_of_row (in this row), is_of_key (of this number);
    rule, key_token, value_token of the warning where all three are true.
    """
    engine.register_parquet("warned", [findings], FINDING_COLUMNS)
    engine.register_arrow("entries", _entries_table(entries, token_key))
    engine.run_model("matched", _MATCHED)


def _entries_table(entries: Sequence[Entry], token_key: TokenKey) -> pa.Table:
    """A spreadsheet shows a disarmed key with an apostrophe before it; the key is tried with and without."""
    shown = [shown_token(token_key, entry.key) for entry in entries]
    bare = [shown_token(token_key, entry.key.removeprefix("'")) for entry in entries]
    return pa.table(
        {
            "line": pa.array([entry.line for entry in entries], pa.int64()),
            "rule": pa.array([entry.rule for entry in entries], pa.string()),
            "row_no": pa.array([entry.row for entry in entries], pa.int64()),
            "shown": pa.array(shown, pa.string()),
            "bare": pa.array(bare, pa.string()),
        }
    )


_MATCHED = """
WITH warnings AS (SELECT * FROM warned WHERE action = 'warn' AND row_no IS NOT NULL),
by_rule AS (SELECT DISTINCT rule FROM warnings),
by_row AS (SELECT DISTINCT rule, row_no FROM warnings)
SELECT entries.line, by_rule.rule IS NOT NULL AS is_of_rule, by_row.rule IS NOT NULL AS is_of_row,
  warnings.key_token IS NOT NULL AS is_of_key, warnings.rule, warnings.key_token, warnings.value_token
FROM entries LEFT JOIN by_rule ON by_rule.rule = entries.rule
  LEFT JOIN by_row ON by_row.rule = entries.rule AND by_row.row_no = entries.row_no
  LEFT JOIN warnings ON warnings.rule = entries.rule AND warnings.row_no = entries.row_no
    AND warnings.shown_token IN (entries.shown, entries.bare)
ORDER BY entries.line
"""

COUNTS_OF_WARNINGS: Final = """
WITH held AS (
  SELECT rule, key_token, value_token FROM confirmations
  UNION SELECT rule, key_token, value_token FROM matched WHERE rule IS NOT NULL
)
SELECT warned.rule, count(*) FILTER (WHERE state IS NULL AND held.rule IS NULL) AS still_open,
  count(*) FILTER (WHERE state = 'confirmed' OR (state IS NULL AND held.rule IS NOT NULL)) AS confirmed
FROM warned LEFT JOIN held
  ON held.rule = warned.rule AND held.key_token = warned.key_token AND held.value_token = warned.value_token
WHERE warned.action = 'warn' AND warned.row_no IS NOT NULL
GROUP BY warned.rule ORDER BY warned.rule
"""
