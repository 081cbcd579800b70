"""The lake's files: write-once data files named by their bytes, and the folders and link through which they are read.

lake/data/<table>/period=<P>/source=<S>/<sha256[:16]>.parquet        written once, never read by name
lake/releases/<release_id>/<table>/period=<P>/<S>-[<part>-]<sha256[:16]>.parquet   hard links to exactly that release's files
lake/current → releases/<release_id>                                   switched last
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from etl.contract.model import Contract
from etl.engine.base import Content
from etl.engine.duck import identifier, literal

NAME_HEX = 16
CURRENT = "current"


@dataclass(frozen=True)
class DataFile:
    """One file of one (table, period, source); `path` is below the lake folder.

    Where rows of a source are in several files, each holds a range of the key, numbered by `part` from 1 on. `span` is the
    least and the greatest value of the first column the rows are ordered by, if that is text.
    """

    table: str
    period: str
    source: str
    path: str
    rows: int
    sha256: str
    content: Content
    part: int = 0
    span: tuple[str, str] | None = field(default=None, compare=False)

    @property
    def release_name(self) -> str:
        """Its name inside a release folder; files of one source stand there in the order of their keys."""
        part = f"{self.part:05d}-" if self.part else ""
        return f"{self.table}/period={self.period}/{self.source}-{part}{self.sha256[:NAME_HEX]}.parquet"


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
