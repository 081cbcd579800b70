"""A graded month as an explanation tells it: as it was last graded, or as it was known to readers on a past day.

What was known is what was released (decision 0020): the history names the release, its folder in the lake holds the
tables, and the grading behind it names the configuration, contracts and policies of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from etl import history, months
from etl.basis import Basis, settings_then
from etl.engine.duck import DuckEngine
from etl.history import KnownGrade
from etl.ledger.records import Grading
from etl.months import MonthInputs
from etl.publish.lake import release_folder
from etl.publish.manifest import Manifest
from etl.vocabulary import DataError
from etl.workspace import Workspace


@dataclass(frozen=True)
class Known:
    """Since when, and until when, a grade was known as it is told; `on` is the day asked for."""

    on: date
    grade: KnownGrade
    release_id: str


@dataclass(frozen=True)
class Told:
    """One month with what it rested on. `ws` has the configuration of its time; `known` is None for the present."""

    ws: Workspace
    inputs: MonthInputs
    graded: Grading
    known: Known | None = None

    @property
    def period(self) -> str:
        return str(self.inputs.period)

    def register(self, engine: DuckEngine, *tables: str) -> None:
        """Make tables of the month available under their names; raises DataError when a release's files are gone."""
        for table in tables:
            if self.known is None:
                months.register_staged(engine, self.ws, table, table, [self.graded])
            else:
                columns = {column.name: column.type for column in self.ws.contracts[table].published}
                engine.register_parquet(table, self._released(self.known.release_id, table), columns)

    def _released(self, release_id: str, table: str) -> list[Path]:
        folder = release_folder(self.ws.settings.lake, release_id)
        if not folder.is_dir():
            raise DataError(f"{release_id}: its files are gone from the lake", "restore its folder from the backup")
        return sorted((folder / table / f"period={self.period}").glob("*.parquet"))


def told_now(ws: Workspace, period: str) -> Told:
    """A month as last graded; raises DataError for one that is not graded."""
    graded = ws.ledger.last_grading(period)
    if graded is None:
        raise DataError(f"{period}: not graded yet", f"grade it first: creditvillage run --period {period}")
    return Told(ws, months.inputs_of(ws, period), graded)


@contextmanager
def told_as_of(ws: Workspace, key: str, period: str | None, on: date, *, subject: str) -> Iterator[Told]:
    """A month as it was known of one subject at the end of a day; without a month, the one that was valid that day.

    Raises DataError when nothing was known then, or when what it rested on was not kept.
    """
    known = known_on(ws, key, period, on, subject=subject)
    graded = _grading(ws, known)
    basis = Basis.of(graded.basis) if graded.basis else None
    if basis is None:
        problem = f"{known.release_id}: what {graded.period} rested on was not kept then"
        raise DataError(problem, "ask for a day of a later release")
    with TemporaryDirectory(prefix="explain-", dir=ws.spill) as scratch:
        then = Workspace(settings_then(ws.shelf, basis.configuration, ws.settings, Path(scratch)))
        in_force = [then.ledger.delivery(one) for one in basis.deliveries]
        yield Told(then, replace(months.inputs_of(then, graded.period), in_force=in_force), graded, known)


def known_on(ws: Workspace, key: str, period: str | None, on: date, *, subject: str) -> Known:
    """What was known of a subject's grade at the end of a day; raises DataError, without its number, for nothing."""
    known_at = history.end_of_day(ws, on)
    if period is None:
        found = history.grade_as_of(ws, key, on, known_at, subject=subject)
    else:
        found = history.grade_known(ws, key, period, known_at, subject=subject)
    if found is None:
        month = f" of {period}" if period else ""
        raise DataError(
            f"--as-of {on}: no grade{month} was known then of this {subject}",
            "ask for a later day, or see the days with `creditvillage grade … --history`",
        )
    return Known(on, found, history.release_known(ws, found, known_at))


def _grading(ws: Workspace, known: Known) -> Grading:
    [release] = [one for one in ws.ledger.releases() if one.release_id == known.release_id]
    found = history.grading_behind(ws, Manifest.from_json(release.manifest), known.grade.period)
    if found is None:
        problem = f"{known.release_id}: the ledger does not know the grading of {known.grade.period} behind it"
        raise DataError(problem, "restore ledger.gradings from the backup")
    return found
