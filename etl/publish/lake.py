"""The lake's files: write-once data files named by their bytes, and the folders and link through which they are read.

lake/data/<table>/period=<P>/source=<S>/<sha256[:16]>.parquet        written once, never read by name
lake/releases/<release_id>/<table>/period=<P>/<S>-<sha256[:16]>.parquet   hard links to exactly that release's files
lake/current → releases/<release_id>                                   switched last
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from etl.contract.model import Contract
from etl.engine.base import Content, Engine
from etl.engine.duck import identifier, literal
from etl.vocabulary import ConfigurationError, DataError

NAME_HEX = 16
WHOLE = "county"
READ_ONLY = 0o444
CURRENT = "current"
_SOURCE = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_WRITTEN = "lake_file_just_written"


@dataclass(frozen=True)
class DataFile:
    """One file of one (table, period, source); `path` is below the lake folder."""

    table: str
    period: str
    source: str
    path: str
    rows: int
    sha256: str
    content: Content

    @property
    def release_name(self) -> str:
        """Its name inside a release folder."""
        return f"{self.table}/period={self.period}/{self.source}-{self.sha256[:NAME_HEX]}.parquet"


def write_partition(
    engine: Engine, contract: Contract, relation: str, period: str, lake: Path, *, is_ordered: bool = False
) -> list[DataFile]:
    """Write one table's rows of one period below `lake`: one file per source, in the order of the key.

    A source is a value of the contract's `partition_by` column, else the whole county. Only published columns are
    written, cast to the contract's types. A table without rows still gives one (empty) file, so that readers find it.
    Rows of an `is_ordered` relation are in the order of the key already and are not sorted again.
    Raises DataError for rows of another period or a source that cannot name a folder.
    """
    _require_period(contract)
    _refuse_other_periods(engine, contract, relation, period)
    sources = _sources(engine, contract, relation)
    columns = _typed_columns(engine, contract, relation)
    order = "" if is_ordered else f" ORDER BY {_order(contract)}"
    part = f" WHERE {identifier(contract.partition_by)} = $source" if contract.partition_by else ""
    selection = f"SELECT {columns} FROM {identifier(relation)}{part}{order}"
    return [_write(engine, contract, selection, period, source, lake) for source in sources]


def columns_of(contract: Contract) -> dict[str, str]:
    """The published columns and their SQL types, in order."""
    return {column.name: column.type for column in contract.published}


def contents_of(files: Iterable[DataFile]) -> dict[tuple[str, str], Content]:
    """The content of every (table, period): what its files hold together."""
    contents: dict[tuple[str, str], Content] = {}
    for file in files:
        place = (file.table, file.period)
        contents[place] = contents[place] + file.content if place in contents else file.content
    return contents


def sha256_of(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_release(lake: Path, release_id: str, files: Sequence[DataFile], manifest: str) -> None:
    """Make `lake/releases/<release_id>` appear at once, complete; harmless when it is there already."""
    folder = release_folder(lake, release_id)
    if folder.exists():
        return
    prepared = folder.with_name(f".{release_id}-{uuid4().hex}")
    try:
        for file in files:
            _link(lake / file.path, prepared / file.release_name)
        prepared.mkdir(parents=True, exist_ok=True)
        (prepared / "manifest.json").write_text(manifest, encoding="utf-8")
        prepared.rename(folder)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def drop_release(lake: Path, release_id: str) -> None:
    """Take a release folder away: its links only, the data files stay."""
    folder = release_folder(lake, release_id)
    if folder.exists():
        gone = folder.with_name(f".{release_id}-{uuid4().hex}")
        folder.rename(gone)
        shutil.rmtree(gone)


def release_folder(lake: Path, release_id: str) -> Path:
    """Where the files of a release are read."""
    return lake / "releases" / release_id


def released_files(lake: Path, table: str, period: str) -> list[Path]:
    """The current release's files of one table and period, empty if there are none.

    The link is followed once, here: a release published later does not change what these paths hold.
    """
    folder = (lake / CURRENT).resolve() / table / f"period={period}"
    return sorted(folder.glob("*.parquet"))


def linked_release(lake: Path) -> str | None:
    """The release `lake/current` points at, None if there is none."""
    link = lake / CURRENT
    return link.readlink().name if link.is_symlink() else None


def switch_current(lake: Path, release_id: str, tables: Iterable[str]) -> None:
    """Point `lake/current` at a release in one step, and rewrite the views over it."""
    fresh = lake / f".{CURRENT}-{uuid4().hex}"
    fresh.symlink_to(Path("releases") / release_id, target_is_directory=True)
    fresh.replace(lake / CURRENT)
    _replace_text(lake / "catalog.duckdb.sql", views_sql(lake, tables))


def views_sql(lake: Path, tables: Iterable[str]) -> str:
    """DuckDB views over the current release, usable from any directory."""
    current = lake.resolve() / CURRENT
    views = [
        f"CREATE OR REPLACE VIEW {identifier(table)} AS SELECT * FROM read_parquet("
        f"{literal(str(current / table / 'period=*' / '*.parquet'))}, union_by_name = true, hive_partitioning = false);"
        for table in sorted(tables)
    ]
    return "\n".join(["-- The current release as DuckDB views, from whatever folder this is run.", *views, ""])


def _require_period(contract: Contract) -> None:
    if "period" not in columns_of(contract) or "period" not in contract.key:
        raise ConfigurationError(
            f"{contract.table}.yml", "key", "no column `period`", "publish `period` and make it part of the key"
        )


def _refuse_other_periods(engine: Engine, contract: Contract, relation: str, period: str) -> None:
    query = f"SELECT count(*) FROM {identifier(relation)} WHERE period IS DISTINCT FROM $period"
    [(strangers,)] = engine.fetch(query, {"period": period})
    if strangers:
        raise DataError(
            f"{contract.table}: {strangers} rows of another period than {period}",
            f"let the model compute period {period} only",
        )


def _sources(engine: Engine, contract: Contract, relation: str) -> list[str]:
    if not contract.partition_by:
        return [WHOLE]
    column = identifier(contract.partition_by)
    found = [value for (value,) in engine.fetch(f"SELECT DISTINCT {column} FROM {identifier(relation)} ORDER BY 1")]
    for value in found:
        if value is None or not _SOURCE.fullmatch(str(value)):
            raise DataError(
                f"{contract.table}: {contract.partition_by} = {value!r} cannot name a folder",
                "give every row a code of letters, digits, - and _",
            )
    return [str(value) for value in found] or [WHOLE]


def _write(engine: Engine, contract: Contract, selection: str, period: str, source: str, lake: Path) -> DataFile:
    folder = lake / "data" / contract.table / f"period={period}" / f"source={source}"
    with _scratch(folder) as scratch:
        rows = engine.write_parquet(selection, scratch, {"source": source})
        engine.register_parquet(_WRITTEN, [scratch], columns_of(contract))
        content = engine.content(_WRITTEN, list(columns_of(contract)))
        digest = sha256_of(scratch)
        path = folder / f"{digest[:NAME_HEX]}.parquet"
        _settle(scratch, path)
    return DataFile(contract.table, period, source, path.relative_to(lake).as_posix(), rows, digest, content)


def _typed_columns(engine: Engine, contract: Contract, relation: str) -> str:
    """The published columns cast to their types. An ENUM stays one: in the file it is text, at half the work."""
    described = engine.fetch(f"SELECT column_name, column_type FROM (DESCRIBE {identifier(relation)})")
    words = {name for name, kind in described if str(kind).startswith("ENUM")}
    return ", ".join(
        identifier(name)
        if kind == "text" and name in words
        else f"CAST({identifier(name)} AS {kind.upper()}) AS {identifier(name)}"
        for name, kind in columns_of(contract).items()
    )


def _order(contract: Contract) -> str:
    """The key without what is the same in all rows of a file: comparing that first would cost a quarter of the sort."""
    same = ("period", contract.partition_by)
    return ", ".join(identifier(name) for name in contract.key if name not in same) or "ALL"


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A name beside the final one, so that the move is atomic; nothing is left there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid4().hex}.parquet"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _settle(scratch: Path, path: Path) -> None:
    """Move to the final name unless the same bytes are there; the file is on the disk before anything names it."""
    if path.exists():
        return
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.chmod(READ_ONLY)
    scratch.replace(path)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def _replace_text(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}-{uuid4().hex}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
