"""What releases said of everybody's grade, kept as it was said: a correction ends a statement, it never rewrites one.

Runs inside the switching transaction, after the warehouse has its new rows. A statement is about one subject and month; it
begins with the release that said so first and ends with the one that said otherwise, be that a rollback. Everything
`core_<subject>_grades` is kept, whatever the subject.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, text

from etl.contract.ddl import schema_of
from etl.contract.language import quote
from etl.contract.model import Contract
from etl.period import Period
from etl.publish.manifest import Manifest, Place

GONE = "gone"
_GRADES = re.compile(r"core_([a-z]+)_grades")
_TOLD = {
    "effective_grade": "text",
    "computed_grade": "text",
    "score": "numeric",
    "status": "text",
    "not_rated_reason": "text",
    "hold_reason": "text",
    "veto_ids": "text",
    "policy_version": "text",
    "effective_from_on": "date",
    "effective_to_on": "date",
}
_COLUMNS = ", ".join(("subject_key", *_TOLD))
_OWN = "subject = :subject AND period = :period AND known_to_at IS NULL"
_UNSAID = f"""
  {_OWN} AND NOT EXISTS (SELECT FROM said
    WHERE said.subject_key = held.subject_key AND ROW({", ".join(f"said.{name}" for name in _TOLD)})
      IS NOT DISTINCT FROM ROW({", ".join(f"held.{name}" for name in _TOLD)}))
"""
_STEPS = (
    # what was said at this very instant was never known before it
    f"DELETE FROM audit.grade_statements AS held WHERE known_from_at >= :now AND {_UNSAID}",
    f"UPDATE audit.grade_statements AS held SET known_to_at = :now WHERE {_UNSAID}",
    f"""
    INSERT INTO audit.grade_statements (subject, period, known_from_at, valid_from_on, release_id, {_COLUMNS})
    SELECT :subject, :period, :now, greatest(CAST(:period_end AS date), effective_from_on), :release_id, {_COLUMNS}
    FROM said WHERE NOT EXISTS (
      SELECT FROM audit.grade_statements AS held WHERE {_OWN} AND held.subject_key = said.subject_key)
    """,
    "DROP TABLE said",
)


def note(
    connection: Connection,
    changed: Collection[Place],
    contracts: Mapping[str, Contract],
    release: Manifest,
    *,
    now: datetime,
) -> None:
    """Keep what a release says of grades, for the (table, period) it changed and what follows from them."""
    tables = sorted(
        {table for table, _ in (*changed, *release.contents) if _GRADES.fullmatch(table)} & contracts.keys()
    )
    for table in tables:
        months = [period for held, period in sorted(release.contents) if held == table]
        for period in _concerned(connection, table, months, [month for held, month in changed if held == table]):
            before = max((month for month in months if month < period), default=None)
            _note_month(connection, contracts[table], period, before, release.release_id, now)


def _concerned(connection: Connection, table: str, months: list[str], changed: Iterable[str]) -> list[str]:
    """The months changed, those after them (who is gone depends on who was there), and those never noted so far."""
    followers = dict(pairwise(months))
    concerned = {month for one in changed for month in (one, followers.get(one)) if month}
    asked = "SELECT EXISTS (SELECT FROM audit.grade_statements WHERE subject = :subject AND period = :period)"
    subject = _subject(table)
    fresh = {month for month in months if not connection.scalar(text(asked), {"subject": subject, "period": month})}
    return sorted(concerned | fresh)


def _note_month(
    connection: Connection, contract: Contract, period: str, before: str | None, release_id: str, now: datetime
) -> None:
    values = {
        "subject": _subject(contract.table),
        "period": period,
        "before": before,
        "period_end": Period.parse(period).end,
        "release_id": release_id,
        "now": now,
    }
    for statement in (_said_sql(contract), *_STEPS):
        _execute(connection, statement, values)


def _said_sql(contract: Contract) -> str:
    """CREATE TABLE said: the month's grades now, and as gone whoever was known the month before and is not there."""
    [key] = [name for name in contract.key if name != "period"]
    held = {column.name for column in contract.published}
    grade = "effective_grade" if "effective_grade" in held else f"{_subject(contract.table)}_grade"
    source = {**{name: name for name in _TOLD}, "effective_grade": grade}
    told = ", ".join(
        f"CAST({quote(source[name]) if source[name] in held else 'NULL'} AS {kind}) AS {name}"
        for name, kind in _TOLD.items()
    )
    rows = f"{quote(schema_of(contract.table))}.{quote(contract.table)}"
    gone = ", ".join(f"'{GONE}'" if name == "status" else f"CAST(NULL AS {kind})" for name, kind in _TOLD.items())
    return f"""
    CREATE TEMP TABLE said ON COMMIT DROP AS
    SELECT {quote(key)} AS subject_key, {told} FROM {rows} WHERE period = :period
    UNION ALL
    SELECT subject_key, {gone} FROM audit.grade_statements AS earlier
    WHERE subject = :subject AND period = :before AND known_to_at IS NULL
      AND EXISTS (SELECT FROM {rows} WHERE period = :period)
      AND NOT EXISTS (SELECT FROM {rows} AS now WHERE now.period = :period AND now.{quote(key)} = earlier.subject_key)
    """


def _subject(table: str) -> str:
    found = _GRADES.fullmatch(table)
    if found is None:
        raise ValueError(f"{table} holds no grades")
    return found[1]


def _execute(connection: Connection, statement: str, values: Mapping[str, Any]) -> None:
    connection.execute(text(statement), dict(values))
