"""What this machine lacks for the work, and the mend."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console

from etl.cli import tables
from etl.registry import Source, Supplier, load_registry
from etl.settings import Settings
from etl.vocabulary import CreditVillageError

_NEEDED = ("apache-airflow", "duckdb", "great-expectations", "pyarrow", "pyiceberg", "sqlalchemy", "psycopg", "sqlglot")
_FREE_BYTES = 5 * 10**9


def diagnose(settings: Settings, console: Console, *, as_json: bool = False) -> int:
    """Print one line a check; 0 when all is well, 1 otherwise."""
    rows = [[name, "好 ok" if good else "缺 missing", text] for name, good, text in _checks(settings)]
    tables.show(console, "自检 Doctor", ["项目 item", "状态 state", "说明或补救 detail or mend"], rows, as_json=as_json)
    return 0 if all(row[1].startswith("好") for row in rows) else 1


def _checks(settings: Settings) -> Iterator[tuple[str, bool, str]]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield "Python", fits, sys.version.split()[0] if fits else "use Python 3.11 or 3.12: rm -r .venv && make install"
    for package in _NEEDED:
        found = _version(package)
        yield package, found is not None, found or "run `make install`"
    home = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(home).free
    yield (
        "disk",
        free > _FREE_BYTES,
        f"{free / 1e9:.0f} GB free at {home}" if free > _FREE_BYTES else "free 5 GB or move CREDITVILLAGE_HOME",
    )
    yield _configuration(settings)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _configuration(settings: Settings) -> tuple[str, bool, str]:
    try:
        registry = load_registry(settings.config)
    except CreditVillageError as error:
        return "config", False, str(error)
    owners: list[Supplier | Source] = [*registry.banks.values(), *registry.sources.values()]
    feeds = [feed for owner in owners for feed in owner.feeds.values()]
    if any("openpgp" in feed.wrappings for feed in feeds) and shutil.which("gpg") is None:
        return "config", False, "a bank delivers OpenPGP packages: install Debian's gnupg"
    return (
        "config",
        True,
        f"{len(registry.banks)} banks, {len(registry.sources)} sources, {len(registry.towns())} towns",
    )
