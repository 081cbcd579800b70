"""`creditvillage sql`: psql on the warehouse, for as long as it takes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from etl.local.postgres import database, psql_command
from etl.settings import Settings
from etl.vocabulary import ConfigurationError

ROLES = ("analyst", "owner")


def open_psql(settings: Settings, role: str, arguments: Sequence[str]) -> int:
    """Run psql with further arguments and return its exit code; the embedded server is held meanwhile.

    Raises ConfigurationError for an unknown role, before anything is started.
    """
    if role not in ROLES:
        raise ConfigurationError("sql", role, "no such role", f"use one of {', '.join(ROLES)}")
    with database(settings) as found:
        command, environment = psql_command(found, role)
        return subprocess.run([*command, *arguments], env=environment, check=False).returncode
