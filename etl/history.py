"""The grade of anyone, in both times: on which day it was valid, and what was known of it at which instant.

Rests on `audit.grade_statements`, which every release and rollback keeps (see `etl.publish.history`). Analysts ask the
same of `audit.grade_history` and `audit.grades_as_of(valid_on, known_at)`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import text

from etl.ledger.records import Grading
from etl.publish.manifest import Manifest
from etl.tokens import token
from etl.vocabulary import DataError
from etl.workspace import Workspace

HOUSEHOLD: Final = "household"


@dataclass(frozen=True)
class KnownGrade:
    """One grade of one subject: valid from a day until before another, known from an instant until before another.

    Ends are None while nothing else is said. `effective_from_on` says since when the grade has been the same.
    """

    subject: str
    subject_key: str
    valid_from_on: date
    valid_to_on: date | None
    known_from_at: datetime
    known_to_at: datetime | None
    period: str
    effective_grade: str | None
    computed_grade: str | None
    status: str | None
    not_rated_reason: str | None
    hold_reason: str | None
    veto_ids: str | None
    policy_version: str | None
    effective_from_on: date | None
    release_id: str


_COLUMNS = ", ".join(field.name for field in fields(KnownGrade))
_HISTORY = (
    f"SELECT {_COLUMNS} FROM audit.grade_history WHERE subject = :subject AND subject_key = :key "
    "ORDER BY known_from_at, valid_from_on"
)
_AS_OF = (
    f"SELECT {_COLUMNS} FROM audit.grade_history WHERE subject = :subject AND subject_key = :key "
    "AND valid_from_on <= :valid_on AND (valid_to_on IS NULL OR valid_to_on > :valid_on) "
    "AND known_from_at <= :known_at AND (known_to_at IS NULL OR known_to_at > :known_at)"
)
_KNOWN = (
    f"SELECT {_COLUMNS} FROM audit.grade_history WHERE subject = :subject AND subject_key = :key AND period = :period "
    "AND known_from_at <= :known_at AND (known_to_at IS NULL OR known_to_at > :known_at) "
    "ORDER BY valid_from_on DESC LIMIT 1"
)


def grade_as_of(
    ws: Workspace, subject_key: str, valid_on: date, known_at: datetime, *, subject: str = HOUSEHOLD
) -> KnownGrade | None:
    """The grade of a subject on a day, as it was known at an instant; None when nothing was known of that day.

    `subject_key` is the keyed token, or the code of a village; `known_at` has a time zone.
    """
    with ws.ledger.engine.connect() as connection:
        values = {"subject": subject, "key": subject_key, "valid_on": valid_on, "known_at": known_at}
        found = connection.execute(text(_AS_OF), values).one_or_none()
    return KnownGrade(*found) if found else None


def grade_known(
    ws: Workspace, subject_key: str, period: str, known_at: datetime, *, subject: str = HOUSEHOLD
) -> KnownGrade | None:
    """The grade of a subject in a month, as it was known at an instant; None when nothing was known of that month."""
    values = {"subject": subject, "key": subject_key, "period": period, "known_at": known_at}
    with ws.ledger.engine.connect() as connection:
        found = connection.execute(text(_KNOWN), values).one_or_none()
    return KnownGrade(*found) if found else None


def release_known(ws: Workspace, known: KnownGrade, known_at: datetime) -> str:
    """The release in which a grade was read at an instant: the last one until then that was not taken back by then, else the
    one that said so first."""
    later = [
        one.release_id
        for one in ws.ledger.releases()
        if known.known_from_at <= one.published_at <= known_at
        and (one.status != "rolled_back" or one.status_at > known_at)
    ]
    return later[-1] if later else known.release_id


def grading_behind(ws: Workspace, release: Manifest, period: str) -> Grading | None:
    """The grading that a release holds of a month; None where the ledger does not know it."""
    mark = release.facts[period]["notes"]["fingerprint"]
    own = [one for one in ws.ledger.gradings() if (one.period, one.fingerprint) == (period, mark)]
    said = {table: str(content) for (table, month), content in release.contents.items() if month == period}
    exact = [one for one in own if dict(one.contents) == said]
    return next(reversed(exact or own), None)


def grade_history(ws: Workspace, subject_key: str, *, subject: str = HOUSEHOLD) -> list[KnownGrade]:
    """All that was ever known of a subject's grades, in the order in which it became known."""
    with ws.ledger.engine.connect() as connection:
        rows = connection.execute(text(_HISTORY), {"subject": subject, "key": subject_key})
        return [KnownGrade(*row) for row in rows]


def key_of(ws: Workspace, number: str, *, subject: str = HOUSEHOLD) -> str:
    """The key under which a subject is known: the token of its number, or the number itself where it is a public code."""
    for contract in ws.contracts.values():
        for column in contract.delivered:
            if column.name == contract.own_number and column.token and column.token.name == f"{subject}_key":
                return token(ws.token_key, column.token.domain, number)
    return number


def end_of_day(ws: Workspace, day: date) -> datetime:
    """The instant at which a day of the county ends: all that became known on it is known then."""
    midnight = datetime.combine(day + timedelta(days=1), datetime.min.time(), ZoneInfo(ws.registry.county.timezone))
    return midnight - timedelta(microseconds=1)


def day_of(ws: Workspace, at: datetime) -> date:
    """The day an instant falls on in the county."""
    return at.astimezone(ZoneInfo(ws.registry.county.timezone)).date()


def require_known(found: KnownGrade | None, number: str, valid_on: date, known_at: datetime) -> KnownGrade:
    """The grade, or a DataError that says that none was known."""
    if found is None:
        raise DataError(
            f"{number}: no grade on {valid_on} was known at {known_at:%Y-%m-%d %H:%M %Z}",
            "ask for a later day of knowledge, or see all of it with --history",
        )
    return found
