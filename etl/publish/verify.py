"""Whether a release is what its manifest says, everywhere it can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import create_engine

from etl.engine.base import NOTHING, Content
from etl.engine.duck import DuckEngine, identifier, literal
from etl.publish.lake import DataFile, linked_release, release_folder, sha256_of
from etl.publish.manifest import Manifest, Place
from etl.publish.warehouse import warehouse_content

_READ = "verified_rows"


def broken_files(lake: Path, release: Manifest) -> list[str]:
    """Data files that are missing or hold other bytes than those the release was made of."""
    return [problem for file in release.files for problem in _broken(file, lake / file.path)]


def verify(lake: Path, url: str, release: Manifest, *, is_current: bool) -> list[str]:
    """Everything that is not as the manifest says, one line each.

    Presence, bytes and content of every file; content at the release's tag as PyIceberg reads it; for the current
    release the content of the warehouse, and of DuckDB over `lake/current` by the published views. Where files are
    broken already, they are not read a second time through catalog and views.
    """
    problems = _files(lake, release)
    files_are_fine = not problems
    if files_are_fine:
        problems += _iceberg(lake, url, release)
    if is_current:
        problems += _warehouse(url, release)
        linked = linked_release(lake)
        if linked != release.release_id:
            problems.append(f"lake/current points at {linked}, not at {release.release_id}")
        elif files_are_fine:
            problems += _current(lake, release)
    return problems


def _files(lake: Path, release: Manifest) -> list[str]:
    folder = release_folder(lake, release.release_id)
    problems = broken_files(lake, release)
    problems += [problem for file in release.files for problem in _broken_link(lake, folder, file)]
    problems += _strangers(folder, release)
    if not problems:
        with DuckEngine() as engine:
            problems += [problem for file in release.files for problem in _other_content(engine, lake, release, file)]
    return problems


def _iceberg(lake: Path, url: str, release: Manifest) -> list[str]:
    from pyiceberg.exceptions import NoSuchTableError  # half a second, of which intake knows nothing
    from pyiceberg.expressions import EqualTo

    from etl.publish.catalog import NAMESPACE, open_catalog

    catalog = open_catalog(url, lake)

    def read(engine: DuckEngine, place: Place) -> Content:
        table, period = place
        try:
            held = catalog.load_table((NAMESPACE, table))
        except NoSuchTableError:
            return NOTHING
        snapshot = held.snapshot_by_name(release.release_id)
        if snapshot is None:
            return NOTHING
        scan = held.scan(row_filter=EqualTo("period", period), snapshot_id=snapshot.snapshot_id)
        engine.register_arrow(_READ, scan.to_arrow_batch_reader())
        return engine.content(_READ, release.columns[place])

    try:
        return list(_compare("iceberg", release, read))
    finally:
        catalog.engine.dispose()


def _warehouse(url: str, release: Manifest) -> list[str]:
    engine = create_engine(url, hide_parameters=True)
    try:
        with engine.connect() as connection:

            def read(_: DuckEngine, place: Place) -> Content:
                return warehouse_content(connection, *place, release.columns[place])

            return list(_compare("warehouse", release, read))
    finally:
        engine.dispose()


def _current(lake: Path, release: Manifest) -> list[str]:
    views = (lake / "catalog.duckdb.sql").read_text(encoding="utf-8")

    def read(engine: DuckEngine, place: Place) -> Content:
        engine.con.execute(views)
        table, period = place
        query = f"(SELECT * FROM {identifier(table)} WHERE period = {literal(period)})"
        return engine.content(query, release.columns[place])

    return list(_compare("lake/current", release, read))


def _compare(where: str, release: Manifest, read: Callable[[DuckEngine, Place], Content]) -> Iterator[str]:
    with DuckEngine() as engine:
        for place, said in sorted(release.contents.items()):
            found = read(engine, place)
            if found != said:
                yield f"{where}: {place[0]}, period {place[1]}: {_difference(found, said)}"


def _difference(found: Content, said: Content) -> str:
    if found.rows != said.rows:
        return f"{found.rows} rows instead of {said.rows}"
    return f"other values in its {said.rows} rows"


def _broken(file: DataFile, path: Path) -> Iterator[str]:
    if not path.exists():
        yield f"{path.name} of {file.table}, period {file.period}, source {file.source}: the file is missing"
    elif sha256_of(path) != file.sha256:
        yield f"{path.name} of {file.table}, period {file.period}, source {file.source}: its bytes have changed"


def _broken_link(lake: Path, folder: Path, file: DataFile) -> Iterator[str]:
    link = folder / file.release_name
    is_same_file = link.exists() and (lake / file.path).exists() and link.samefile(lake / file.path)
    if not is_same_file:
        yield from _broken(file, link)


def _strangers(folder: Path, release: Manifest) -> Sequence[str]:
    said = {folder / file.release_name for file in release.files}
    found = sorted(set(folder.glob("*/period=*/*")) - said)
    return [f"{path.relative_to(folder)}: a file the manifest does not name" for path in found]


def _other_content(engine: DuckEngine, lake: Path, release: Manifest, file: DataFile) -> Iterator[str]:
    columns = release.columns[(file.table, file.period)]
    found = engine.content(f"(SELECT * FROM read_parquet({literal(str(lake / file.path))}))", columns)
    if found != file.content:
        yield f"{file.table}, period {file.period}, source {file.source}: {_difference(found, file.content)}"
