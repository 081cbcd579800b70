"""`creditvillage sql`: psql on the warehouse. Passwords travel in the environment, never in a command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from sqlalchemy import make_url

from etl.local.postgres import EmbeddedPostgres, database
from etl.settings import Settings
from etl.vocabulary import ConfigurationError

ROLES = {"analyst": "analyst", "owner": None}


def open_psql(settings: Settings, role: str, arguments: Sequence[str]) -> int:
    """Run psql with further arguments and return its exit code; the embedded server runs for as long as that takes.

    Raises ConfigurationError for an unknown role, or when no psql is there for a server elsewhere.
    """
    if role not in ROLES:
        raise ConfigurationError("sql", role, "no such role", f"use one of {', '.join(ROLES)}")
    with database(settings):
        program, reach = _reach(settings, role)
        return subprocess.run([program, *arguments], env={**os.environ, **reach}, check=False).returncode


def _reach(settings: Settings, role: str) -> tuple[str, dict[str, str]]:
    """The psql program and the variables with which it reaches the warehouse."""
    if settings.warehouse_url is None:
        server = EmbeddedPostgres(settings.home)
        return str(server.psql()), server.environment(role=ROLES[role])
    program = shutil.which("psql")
    if program is None:
        raise ConfigurationError("psql", "", "not found on PATH", "install the PostgreSQL client")
    url = make_url(settings.warehouse_url)
    reach = {
        "PGHOST": url.host,
        "PGPORT": url.port,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    return program, {name: str(value) for name, value in reach.items() if value is not None}
