"""Releases: write, audit, publish; one PostgreSQL transaction over catalog, warehouse and ledger, then one link.

Until the transaction commits nothing a reader sees has changed; from then on the release is the current one, and should
the process die before `lake/current` is switched, `heal` (and every later publish) finishes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from etl.contract.model import Contract
from etl.publish import history, warehouse
from etl.publish import lake as files_of_lake
from etl.publish.lake import DataFile, columns_of
from etl.publish.manifest import NO_RELEASE, Difference, Facts, Manifest, Place, diff
from etl.publish.verify import broken_files, verify
from etl.vocabulary import DataError

LOCK = "release"
Audit = Callable[[Mapping[str, str]], Sequence[str]]


class ReleaseRow(Protocol):
    """A release as the ledger keeps it."""

    @property
    def release_id(self) -> str: ...
    @property
    def period(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...


class ReleaseLedger(Protocol):
    """What publishing asks of the ledger."""

    def lock(self, name: str) -> AbstractContextManager[Any]: ...
    def current_release(self) -> ReleaseRow | None: ...
    def releases(self) -> Sequence[ReleaseRow]: ...
    def record_release(
        self,
        connection: Connection,
        *,
        release_id: str,
        period: str,
        previous_id: str | None,
        manifest: dict[str, Any],
        now: datetime,
    ) -> object: ...
    def make_current(self, connection: Connection, release_id: str, *, now: datetime) -> object: ...


def no_audit(staged: Mapping[str, str]) -> Sequence[str]:
    """An audit that finds nothing wrong: for tests and for releases audited before."""
    return ()


@dataclass(frozen=True)
class Publisher:
    """Where releases go: the lake folder, the warehouse's URL, the ledger, and the contracts of all tables."""

    lake: Path
    url: str
    ledger: ReleaseLedger
    contracts: Mapping[str, Contract]

    def publish(
        self, files: Sequence[DataFile], *, period: str, facts: Facts, now: datetime, audit: Audit = no_audit
    ) -> Manifest | None:
        """Publish a period's files (all its tables, see `write_partition`) beside the other periods' current ones.

        `audit` gets table → staged relation and returns what forbids the release. Returns None when the current
        release holds the same content for the period already. Raises DataError when the audit, or the uniqueness of
        a key, forbids it: then lake, catalog, warehouse and ledger are as before.
        """
        with self._working() as engine:
            current = self._current()
            if not _changes(current, period, files):
                return None
            release = self._proposed(current, period, files, facts, now)
            contracts = self._contracts_of(files)
            warehouse.prepare_warehouse(engine, contracts, [period])
            staged = warehouse.stage(self.url, engine, self.lake, contracts, files)
            _require_clean(audit(staged), period)
            self._switch(engine, diff(current, release), release, self._record(release, now), now)
            return release

    def rollback(self, release_id: str, *, now: datetime) -> Manifest:
        """Make an earlier release current again in lake, catalog, warehouse and ledger at once.

        Raises DataError for an unknown release or one whose files are no longer complete.
        """
        with self._working() as engine:
            target = self.show(release_id)
            _require_clean(broken_files(self.lake, target), release_id)
            changed = diff(self._current(), target)
            files = [file for one in changed if one.after for file in target.files_of((one.table, one.period))]
            contracts = self._contracts_of(files)
            warehouse.prepare_warehouse(engine, contracts, {file.period for file in files})
            warehouse.stage(self.url, engine, self.lake, contracts, files)
            record = partial(self._make_current, release_id=release_id, now=now)
            self._switch(engine, changed, target, record, now)
            return target

    def heal(self) -> bool:
        """Finish a release whose process died between commit and link; True if there was something to do."""
        with self.ledger.lock(LOCK):
            return self._heal()

    def current(self) -> Manifest | None:
        """The current release, None before the first."""
        found = self._current()
        return found if found.release_id else None

    def list(self) -> Sequence[ReleaseRow]:
        """All releases, oldest first."""
        return self.ledger.releases()

    def show(self, release_id: str) -> Manifest:
        """One release; raises DataError if there is none of this name."""
        for row in self.ledger.releases():
            if row.release_id == release_id:
                return Manifest.from_json(row.manifest)
        raise DataError(f"no release {release_id}", "see `creditvillage release list`")

    def diff(self, before: str, after: str) -> Sequence[Difference]:
        """Where two releases differ in content, by table and period."""
        return diff(self.show(before), self.show(after))

    def verify(self, release_id: str | None = None) -> Sequence[str]:
        """What is not as the release says, one line each; the current release also in warehouse and `lake/current`.

        Checked are presence, SHA-256 and content of every file, and equal content in the Iceberg tag.
        """
        row = self.ledger.current_release()
        if row is None:
            raise DataError("nothing is released yet", "publish a month first, for example with `creditvillage run`")
        release = self.show(release_id or row.release_id)
        return verify(self.lake, self.url, release, is_current=release.release_id == row.release_id)

    @contextmanager
    def _working(self) -> Iterator[Engine]:
        """Alone, healed, with catalog tables in place; staged tables are gone afterwards, come what may."""
        with self.ledger.lock(LOCK):
            self._heal()
            engine = create_engine(self.url, hide_parameters=True)
            try:
                yield engine
            except Exception:
                with suppress(SQLAlchemyError):  # the server may be what failed; the next release clears the stage
                    warehouse.drop_stage(engine)
                raise
            else:
                warehouse.drop_stage(engine)
            finally:
                engine.dispose()

    def _current(self) -> Manifest:
        row = self.ledger.current_release()
        return Manifest.from_json(row.manifest) if row else NO_RELEASE

    def _heal(self) -> bool:
        release = self._current()
        if not release.release_id or self._is_linked(release):
            return False
        self._finish(release)
        return True

    def _is_linked(self, release: Manifest) -> bool:
        folder = files_of_lake.release_folder(self.lake, release.release_id)
        return files_of_lake.linked_release(self.lake) == release.release_id and folder.exists()

    def _finish(self, release: Manifest) -> None:
        files_of_lake.build_release(self.lake, release.release_id, release.files, release.text())
        files_of_lake.switch_current(self.lake, release.release_id, release.tables)

    def _proposed(
        self, current: Manifest, period: str, files: Sequence[DataFile], facts: Facts, now: datetime
    ) -> Manifest:
        earlier = [row.release_id for row in self.ledger.releases() if row.period == period]
        number = 1 + max((int(name.rpartition("-")[2]) for name in earlier), default=0)
        columns = {table: tuple(columns_of(contract)) for table, contract in self._contracts_of(files).items()}
        return current.succeeded(f"{period}-{number:03d}", period, files, columns, facts, now)

    def _contracts_of(self, files: Iterable[DataFile]) -> dict[str, Contract]:
        tables = sorted({file.table for file in files})
        missing = [table for table in tables if table not in self.contracts]
        if missing:
            raise DataError(f"no contract for {', '.join(missing)}", "restore expectations/<table>.yml of that table")
        return {table: self.contracts[table] for table in tables}

    def _switch(
        self,
        engine: Engine,
        changed: Sequence[Difference],
        release: Manifest,
        record: Callable[[Connection], object],
        now: datetime,
    ) -> None:
        """Release folder, then the one transaction, then the link; nothing is left of a transaction that fails."""
        from etl.publish.catalog import bind_catalog, prepare_catalog, register_release  # half a second of pyiceberg

        is_new = release.release_id not in {row.release_id for row in self.ledger.releases()}
        if is_new:
            files_of_lake.drop_release(self.lake, release.release_id)  # of an attempt that died before it committed
        files_of_lake.build_release(self.lake, release.release_id, release.files, release.text())
        try:
            prepare_catalog(self.url, self.lake)
            with engine.begin() as connection:
                catalog = bind_catalog(self.url, self.lake, connection)
                contracts = {table: self.contracts[table] for table in release.tables if table in self.contracts}
                register_release(catalog, self.lake, contracts, release.files, release.release_id)
                self._switch_warehouse(connection, changed)
                history.note(connection, [(one.table, one.period) for one in changed], self.contracts, release, now=now)
                record(connection)
        except Exception:
            if is_new:
                files_of_lake.drop_release(self.lake, release.release_id)
            raise
        self._finish(release)
        warehouse.tidy(engine, [(one.table, one.period) for one in changed])

    def _switch_warehouse(self, connection: Connection, changed: Sequence[Difference]) -> None:
        for one in changed:
            if one.after is None:
                warehouse.clear_period(connection, one.table, one.period)
            else:
                warehouse.switch_period(connection, self.contracts[one.table], one.period)

    def _record(self, release: Manifest, now: datetime) -> Callable[[Connection], object]:
        return lambda connection: self.ledger.record_release(
            connection,
            release_id=release.release_id,
            period=release.period,
            previous_id=release.previous,
            manifest=release.as_json(),
            now=now,
        )

    def _make_current(self, connection: Connection, *, release_id: str, now: datetime) -> object:
        return self.ledger.make_current(connection, release_id, now=now)


def _changes(current: Manifest, period: str, files: Sequence[DataFile]) -> bool:
    held: dict[Place, Any] = {place: content for place, content in current.contents.items() if place[1] == period}
    strangers = sorted({file.period for file in files} - {period})
    if strangers:
        raise DataError(f"files of {', '.join(strangers)} in the release of {period}", "publish one period at a time")
    return held != files_of_lake.contents_of(files)


def _require_clean(failures: Sequence[str], what: str) -> None:
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise DataError(f"{what}: {failures[0]}{more}", "nothing was published; mend the cause and run the step again")
