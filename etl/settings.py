"""Where things are: the environment read once, paths derived from it. Nothing is created or opened here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from etl.vocabulary import ConfigurationError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("duckdb", "spark")


def _path_list(text: str | None, shipped: Path) -> tuple[Path, ...]:
    """An overlay list `a:b` (first match wins), ending in what the project ships.

    A folder with a county.yml is a whole county: it replaces the shipped one, so that no synthetic bank joins it.
    """
    given = tuple(Path(part).resolve() for part in (text or "").split(os.pathsep) if part)
    is_whole = shipped in given or any((folder / "county.yml").is_file() for folder in given)
    return given if is_whole else (*given, shipped)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"$CREDITVILLAGE_{name}", "", f"{text!r} is no number", "write digits only") from None


@dataclass(frozen=True)
class Settings:
    """Runtime places and addresses; see DESIGN section 5 for the variables."""

    home: Path
    config: tuple[Path, ...]
    expectations: tuple[Path, ...]
    sql: tuple[Path, ...]
    warehouse_url: str | None = None
    government_url: str | None = None
    engine: str = "duckdb"
    memory_limit: str = "2GB"
    token_key_file: Path | None = None
    quiet_seconds: float = 30.0
    drop_access_folder: Path | None = None
    landing_reserve_bytes: int = 1_000_000_000

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read `$CREDITVILLAGE_*`; raises ConfigurationError for a path or engine that cannot be."""
        env = os.environ if environment is None else environment

        def read(name: str) -> str | None:
            return env.get(f"CREDITVILLAGE_{name}") or None

        engine = read("ENGINE") or "duckdb"
        if engine not in ENGINES:
            raise ConfigurationError(
                "$CREDITVILLAGE_ENGINE", "", f"unknown engine {engine!r}", f"use one of {', '.join(ENGINES)}"
            )
        key_file = read("TOKEN_KEY")
        access = read("DROP_ACCESS")
        settings = cls(
            home=Path(read("HOME") or ".creditvillage").resolve(),
            config=_path_list(read("CONFIG"), PROJECT_ROOT / "config"),
            expectations=_path_list(read("EXPECTATIONS"), PROJECT_ROOT / "expectations"),
            sql=_path_list(read("SQL"), PROJECT_ROOT / "sql"),
            warehouse_url=read("WAREHOUSE_URL"),
            government_url=read("GOVERNMENT_URL"),
            engine=engine,
            memory_limit=read("MEMORY_LIMIT") or "2GB",
            token_key_file=Path(key_file).resolve() if key_file else None,
            quiet_seconds=_number("QUIET_SECONDS", read("QUIET_SECONDS") or "30"),
            drop_access_folder=Path(access).resolve() if access else None,
            landing_reserve_bytes=int(
                _number("LANDING_RESERVE_BYTES", read("LANDING_RESERVE_BYTES") or "1_000_000_000")
            ),
        )
        settings.require_paths()
        return settings

    def require_paths(self) -> None:
        """Raise ConfigurationError for an overlay folder that does not exist."""
        for name in ("config", "expectations", "sql"):
            for path in getattr(self, name):
                if not path.is_dir():
                    raise ConfigurationError(
                        f"$CREDITVILLAGE_{name.upper()}",
                        str(path),
                        "no such folder",
                        "create it or correct the variable",
                    )

    def environment(self) -> dict[str, str]:
        """The variables that make another process see the same settings."""
        values = {
            "HOME": str(self.home),
            "CONFIG": os.pathsep.join(map(str, self.config)),
            "EXPECTATIONS": os.pathsep.join(map(str, self.expectations)),
            "SQL": os.pathsep.join(map(str, self.sql)),
            "WAREHOUSE_URL": self.warehouse_url,
            "GOVERNMENT_URL": self.government_url,
            "ENGINE": self.engine,
            "MEMORY_LIMIT": self.memory_limit,
            "TOKEN_KEY": str(self.token_key_file) if self.token_key_file else None,
            "QUIET_SECONDS": str(self.quiet_seconds),
            "DROP_ACCESS": str(self.drop_access_folder) if self.drop_access_folder else None,
            "LANDING_RESERVE_BYTES": str(self.landing_reserve_bytes),
        }
        return {f"CREDITVILLAGE_{name}": value for name, value in values.items() if value}

    def with_databases(self, warehouse_url: str, government_url: str | None) -> Settings:
        return replace(self, warehouse_url=warehouse_url, government_url=government_url)

    @property
    def drop(self) -> Path:
        return self.home / "drop"

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def restricted(self) -> Path:
        return self.home / "restricted"

    @property
    def outbox(self) -> Path:
        return self.home / "outbox"

    @property
    def drop_access(self) -> Path:
        """Folder with one access file for each remote drop zone, and the host keys we know."""
        return self.drop_access_folder or self.secrets / "drops"

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def staging(self) -> Path:
        return self.home / "staging"

    @property
    def reports(self) -> Path:
        return self.home / "reports"

    @property
    def audit_docs(self) -> Path:
        return self.home / "data_docs"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def postgres_dir(self) -> Path:
        return self.home / "postgres"

    @property
    def token_key_path(self) -> Path:
        return self.token_key_file or self.secrets / "token.key"
