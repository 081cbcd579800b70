"""The embedded PostgreSQL server of one `$CREDITVILLAGE_HOME`: the warehouse, ledger and Airflow database by default.

Passwords (scram-sha-256) are random and lie in `home/secrets/postgres.json`; the server listens on 127.0.0.1 at a free
port that it keeps over restarts if it can. Its data lie in `home/postgres/server`, or, when root runs it, in
`/var/lib/creditvillage/<hash of home>` (another folder: `$CREDITVILLAGE_SERVER_FOLDER`), owned by the unprivileged
account the server then runs as.
Starting and stopping happen under one lock. Whoever uses the server holds a shared lock; the last to let go stops it,
unless `keep_up` was called. A crash drops locks and leaves at most a stale pid file, which the next start deals with.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping
from sqlalchemy import make_url

from etl.local.binaries import Account, Programs, find_programs, run_as, server_account, shared_folder
from etl.local.files import FileLock, locked, private_folder, write_private
from etl.settings import Settings
from etl.vocabulary import ConfigurationError, CreditVillageError

DATABASES = ("creditvillage", "airflow", "government")
OWNERS = {"government": "government"}
READERS = {"creditvillage": "analyst", "government": "government_reader"}
ROLES = ("creditvillage", "analyst", "government", "government_reader")
LONGEST_SOCKET_FOLDER = 85  # bytes; the kernel allows 104 to 108 for the folder and `/.s.PGSQL.65535` together
LOCK_SECONDS = 180.0
READY_SECONDS = 300
START_ATTEMPTS = 5
NO_SUCH_PID = 2**31 - 2
BIGGEST_LOG_BYTES = 20_000_000

CLUSTER = ("--locale-provider=builtin", "--locale=C.UTF-8", "-E", "UTF8")
# Modest: the engine beside it needs the memory. Nothing replicates from an embedded server, so the log is minimal and a
# bulk load into a new table is written once. Failing statements and their details stay out of the log: they may
# quote identity numbers.
CONFIGURATION = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0700",
}


@dataclass(frozen=True)
class Postmaster:
    """What a live server says of itself in `postmaster.pid`."""

    pid: int
    port: int


class EmbeddedPostgres:
    """One server for one home; any number of processes may hold it at once.

    `start` holds the server for this instance, `release` lets go (and stops it if nobody else holds it and nobody
    asked to keep it up), `stop` ends it for everybody.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self._folder = self.home / "postgres"
        self._hold = FileLock(self._folder / "holders.lock")

    # -- use ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server if it is not running, make sure of roles and databases, and hold it.

        Safe to call from many processes at once, after a crash and after a reboot. Raises CreditVillageError with the
        last line of the server's log if it does not come up.
        """
        private_folder(self._folder)
        with self._exclusively():
            self._set_stranger_aside()
            self._bring_up()
            self._ensure_roles()
            self.ensure_databases(DATABASES)
            if not self._hold.is_held:
                self._hold.try_acquire(shared=True)

    def release(self) -> None:
        """Let go; the last holder stops the server unless it is to be kept up."""
        if not self._hold.is_held:
            return
        with self._exclusively():
            self._hold.release()
            if not self._keep_up_file.exists() and self._nobody_holds():
                self._shut_down()

    def stop(self) -> None:
        """Stop the server for everybody and forget `keep_up`; harmless if it is not running."""
        self._end()

    def keep_up(self) -> None:
        """Leave the server running after the last holder has gone, until `stop`."""
        private_folder(self._folder)
        self._keep_up_file.touch(mode=0o600)

    @contextmanager
    def held(self) -> Iterator[EmbeddedPostgres]:
        """`start` on entry, `release` on exit."""
        self.start()
        try:
            yield self
        finally:
            self.release()

    def erase(self) -> None:
        """Stop the server and delete its data for good (tests and throw-away homes)."""
        self._end("immediate")
        for folder in (self._server_folder, self._set_aside_folder, self._short_socket_folder):
            shutil.rmtree(folder, ignore_errors=True)
        self._identity_file.unlink(missing_ok=True)

    def is_running(self) -> bool:
        postmaster = self._postmaster()
        return postmaster is not None and _answers(postmaster.port)

    def port(self) -> int:
        """The TCP port on 127.0.0.1; raises CreditVillageError if the server is not running."""
        postmaster = self._postmaster()
        if postmaster is None:
            raise CreditVillageError(f"{self.home}: the database server is not running — start it with `make up`")
        return postmaster.port

    def url(self, database: str = "creditvillage", role: str | None = None) -> str:
        """A SQLAlchemy URL; without `role`, for the owner of the database."""
        who = role or owner_of(database)
        return f"postgresql+psycopg://{who}:{self._passwords[who]}@127.0.0.1:{self.port()}/{database}"

    def psql(self) -> Path:
        """The `psql` program of the same version as the server."""
        return self._programs.path("psql")

    def environment(self, database: str = "creditvillage", role: str | None = None) -> dict[str, str]:
        """The variables with which `psql` reaches a database: a password never stands in a command line."""
        who = role or owner_of(database)
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port()),
            "PGUSER": who,
            "PGPASSWORD": self._passwords[who],
            "PGDATABASE": database,
            "PGCLIENTENCODING": "UTF8",
        }

    def ensure_databases(self, names: Iterable[str]) -> None:
        """Create what is missing. Each database is open to its owner and its reader only."""
        with self._connect() as connection:
            present = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
            for name in names:
                if name not in present:
                    self._create_database(connection, name)

    # -- places ---------------------------------------------------------------------------------------------------

    @cached_property
    def _account(self) -> Account | None:
        return server_account()

    @cached_property
    def _hash(self) -> str:
        return sha256(os.fsencode(self.home)).hexdigest()[:16]

    @cached_property
    def _server_folder(self) -> Path:
        return self._folder / "server" if self._account is None else shared_folder() / self._hash

    @property
    def _set_aside_folder(self) -> Path:
        return self._server_folder.with_name(f"{self._server_folder.name}.earlier")

    @property
    def _identity_file(self) -> Path:
        return self._server_folder.with_name(f"{self._server_folder.name}.id")

    @property
    def _data(self) -> Path:
        return self._server_folder / "data"

    @property
    def _log(self) -> Path:
        return self._server_folder / "server.log"

    @property
    def _keep_up_file(self) -> Path:
        return self._folder / "keep_up"

    @property
    def _short_socket_folder(self) -> Path:
        return Path(tempfile.gettempdir()) / f"creditvillage-{os.geteuid()}-{self._hash}"

    def _socket_folder(self) -> Path:
        """A 0700 folder for the Unix socket, in the temporary folder where the home's own path is too long."""
        folder = self._server_folder / "socket"
        if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER:
            run_as(self._account, ["/bin/mkdir", "-p", str(folder)])
            return folder
        folder = private_folder(self._short_socket_folder)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise CreditVillageError(f"{folder} belongs to somebody else — remove it, or set $TMPDIR")
        return folder

    @cached_property
    def _programs(self) -> Programs:
        version = run_as(self._account, ["/bin/cat", str(self._data / "PG_VERSION")])
        return find_programs(version.stdout.strip() or None, self._account)

    @cached_property
    def _passwords(self) -> dict[str, str]:
        """{role: password}, and under `cluster` the name of this home's one cluster; made on first use."""
        file = private_folder(self.home / "secrets") / "postgres.json"
        if not file.exists():
            write_private(file, json.dumps({name: secrets.token_hex(24) for name in ("cluster", "postgres", *ROLES)}))
        found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return found

    # -- life of the server ---------------------------------------------------------------------------------------

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        with locked(self._folder / "server.lock", LOCK_SECONDS):
            yield

    def _nobody_holds(self) -> bool:
        everybody = FileLock(self._hold.path)
        alone = everybody.try_acquire()
        everybody.release()
        return alone

    def _prepare(self) -> None:
        """A data folder that fits this home's passwords, initialised in one rename."""
        if not self._server_folder.exists():
            write_private(self._identity_file, f"{self._passwords['cluster']}\n{self.home}\n")
            private_folder(self._server_folder)
        if self._account is not None:
            os.chown(self._server_folder, self._account.uid, self._account.gid)
        if not self._data.exists():
            self._initialise()

    def _identity(self) -> str | None:
        """The cluster that the data belong to; the line after it tells people whose home that is."""
        try:
            return self._identity_file.read_text(encoding="utf-8").split("\n")[0]
        except FileNotFoundError:
            return None

    def _set_stranger_aside(self) -> None:
        """If the home was made anew (or its passwords deleted), the old data fit nothing any more: keep them once."""
        if not self._server_folder.exists() or self._identity() == self._passwords["cluster"]:
            return
        self._shut_down()
        shutil.rmtree(self._set_aside_folder, ignore_errors=True)
        self._server_folder.rename(self._set_aside_folder)

    def _initialise(self) -> None:
        draft, password_file = self._server_folder / "data.part", self._server_folder / "password.part"
        run_as(self._account, ["/bin/rm", "-rf", str(draft)])
        self._write(password_file, self._passwords["postgres"])
        entry = ("-U", "postgres", "-A", "scram-sha-256", "--pwfile", password_file)
        made = self._programs.run(["initdb", "-D", draft, *entry, *CLUSTER])
        run_as(self._account, ["/bin/rm", "-f", str(password_file)])
        if made.returncode != 0:
            raise CreditVillageError(f"{draft}: initdb: {_last_line(made.stderr)} — see that folder's space and rights")
        run_as(self._account, ["/bin/mv", str(draft), str(self._data)])

    def _bring_up(self) -> None:
        """Start the server unless it answers; one that is just dying, or recovering, is waited for."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_running():
            if self._postmaster() is None:
                self._prepare()
                self._launch()
            if time.monotonic() > deadline:
                raise CreditVillageError(f"the database server does not answer — see {self._log}")
            time.sleep(0.02)

    def _launch(self) -> None:
        """Start the server; again elsewhere if the port was taken, again later while children of a killed one work."""
        self._rotate_log()
        port, deadline, attempts = self._preferred_port(), time.monotonic() + READY_SECONDS, START_ATTEMPTS
        command = ["pg_ctl", "start", "-s", "-w", "-t", str(READY_SECONDS), "-D", self._data, "-l", self._log]
        while attempts > 0 and time.monotonic() < deadline:
            self._forget_reused_pid()
            self._configure(port)
            if self._programs.run(command, timeout_seconds=READY_SECONDS + 30).returncode == 0:
                return
            still_at_work = "shared memory block" in self._last_words()
            attempts -= not still_at_work
            port = port if still_at_work else _free_port()
            time.sleep(0.3)
        problem = _last_line(self._last_words())
        raise CreditVillageError(f"the database server does not start: {problem} — see {self._log}")

    def _last_words(self) -> str:
        return run_as(self._account, ["/usr/bin/tail", "-n", "3", str(self._log)]).stdout

    def _end(self, *modes: str) -> None:
        if self._folder.is_dir():
            with self._exclusively():
                self._keep_up_file.unlink(missing_ok=True)
                self._hold.release()
                self._shut_down(*modes)

    def _shut_down(self, *modes: str) -> None:
        """Stop in the first of these modes that ends within a minute (after `immediate` the next start recovers)."""
        postmaster = self._postmaster()
        if postmaster is None:
            return
        for mode in modes or ("fast", "immediate"):
            self._programs.run(["pg_ctl", "stop", "-s", "-w", "-t", "60", "-m", mode, "-D", self._data])
            if _wait_until(lambda: not self._is_ours(postmaster.pid), seconds=10):
                return
        raise CreditVillageError(f"the database server (process {postmaster.pid}) does not stop — see {self._log}")

    def _configure(self, port: int) -> None:
        """Write the whole configuration anew; edits by hand belong into `ALTER SYSTEM`."""
        values = {**CONFIGURATION, "port": str(port), "unix_socket_directories": str(self._socket_folder())}
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in values.items()]
        self._write(self._data / "postgresql.conf", "".join(lines))

    def _preferred_port(self) -> int:
        """The port of last time, so that addresses noted elsewhere stay good, unless somebody else has taken it."""
        noted = self._read(self._data / "postgresql.conf").partition("port = '")[2].partition("'")[0]
        return int(noted) if noted.isdigit() and _is_free(int(noted)) else _free_port()

    def _rotate_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > BIGGEST_LOG_BYTES:
            run_as(self._account, ["/bin/mv", str(self._log), f"{self._log}.1"])

    def _postmaster(self) -> Postmaster | None:
        """The live server of this data folder, or None."""
        lines = self._pid_lines()
        if len(lines) < 4 or not lines[0].isdigit() or not lines[3].isdigit() or not self._is_ours(int(lines[0])):
            return None
        return Postmaster(int(lines[0]), int(lines[3]))

    def _pid_lines(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text(encoding="utf-8").split("\n")
        except (FileNotFoundError, PermissionError):
            return []

    def _is_ours(self, pid: int) -> bool:
        """Whether that process is a server on our data folder: after a reboot the number may be anybody's."""
        return str(self._data) in _command_line(pid)

    def _forget_reused_pid(self) -> None:
        """PostgreSQL refuses to start while the number in its pid file is alive, even as another program or a zombie.

        Only the number is replaced: the rest of the file lets PostgreSQL see that children of a killed server are still
        at work on the data, which it must wait for.
        """
        lines = self._pid_lines()
        if lines and lines[0].isdigit() and not self._is_ours(int(lines[0])):
            self._write(self._data / "postmaster.pid", "\n".join([str(NO_SUCH_PID), *lines[1:]]))

    def _write(self, path: Path, text: str) -> None:
        """Written by the server's account: root must not write into a folder that another account controls."""
        run_as(self._account, ["/bin/sh", "-c", 'cat > "$1"', "sh", str(path)], text=text)

    def _read(self, path: Path) -> str:
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    # -- roles and databases --------------------------------------------------------------------------------------

    def _connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port(),
            dbname=database,
            user="postgres",
            password=self._passwords["postgres"],
            autocommit=True,
            connect_timeout=20,
        )

    def _ensure_roles(self) -> None:
        with self._connect() as connection:
            present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            for role in ROLES:
                if role not in present:
                    self._create_role(connection, role)

    def _create_role(self, connection: psycopg.Connection[tuple[object, ...]], role: str) -> None:
        # The verifier is computed here, so that the password itself never stands in SQL text.
        verifier = connection.pgconn.encrypt_password(self._passwords[role].encode(), role.encode(), b"scram-sha-256")
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(statement.format(sql.Identifier(role), sql.Literal(verifier.decode())))

    def _create_database(self, connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
        """Made under another name and renamed when complete, so that a crash leaves no half-configured database."""
        draft = f"{name}_part"
        database, owner = sql.Identifier(draft), sql.Identifier(owner_of(name))
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, owner))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        if name == "airflow":
            # What Airflow knows can be told again (completeness is decided in the ledger), so its many small commits
            # need not wait for the disk. The ledger and the warehouse do wait: a receipt must not outlive its row.
            connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(database))
        if name == "creditvillage":
            path = sql.SQL("ALTER DATABASE {} SET search_path = public, core, mart, audit, ledger")
            connection.execute(path.format(database))
        if name in READERS:
            reader = sql.Identifier(READERS[name])
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, reader))
        if name == "government":
            self._open_to_reader(draft, name)
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(database, sql.Identifier(name)))

    def _open_to_reader(self, database: str, name: str) -> None:
        """Whatever the owner of `name` creates in this database from now on, its reader may read."""
        rights = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {right} TO {reader}")
        owner, reader = sql.Identifier(owner_of(name)), sql.Identifier(READERS[name])
        with self._connect(database) as connection:
            for right in ("USAGE ON SCHEMAS", "SELECT ON TABLES"):
                connection.execute(rights.format(owner=owner, right=sql.SQL(right), reader=reader))


def owner_of(database: str) -> str:
    """The role that owns a database of the embedded server."""
    return OWNERS.get(database, "creditvillage")


@contextmanager
def database(settings: Settings) -> Iterator[Settings]:
    """Yield settings whose `warehouse_url` and `government_url` are filled.

    A given warehouse URL is used as it is. Otherwise the embedded server is started if need be, held meanwhile, and
    stopped afterwards if nobody else holds it and nobody asked to keep it up. The government database is read through
    a role that cannot write.
    """
    if settings.warehouse_url:
        yield settings
        return
    with EmbeddedPostgres(settings.home).held() as server:
        government = settings.government_url or server.url("government", "government_reader")
        yield replace(settings, warehouse_url=server.url("creditvillage"), government_url=government)


def psql_command(settings: Settings, role: str = "analyst") -> tuple[list[str], dict[str, str]]:
    """The command and the whole environment for `psql` on the warehouse, as `analyst`, `owner` or another role.

    Hand in settings as `database` yields them. On the embedded server the role logs in; on a server given by URL its
    login takes the role on. The password stands in the environment, never in the command. Raises ConfigurationError for
    a role the embedded server does not have.
    """
    server = EmbeddedPostgres(settings.home)
    is_embedded = server.is_running() and settings.warehouse_url == server.url()
    if is_embedded and role not in ("owner", "postgres", *ROLES):
        raise ConfigurationError("creditvillage sql", role, "no such role", "use analyst or owner")
    if is_embedded:
        variables = server.environment("creditvillage", None if role == "owner" else role)
        return [str(server.psql())], {**os.environ, **variables}
    url = make_url(str(settings.warehouse_url)).set(drivername="postgresql")
    variables = {"PGPASSWORD": url.password or ""} if url.password else {}
    if role != "owner":
        variables["PGOPTIONS"] = f"-c role={role}"
    address = url._replace(password=None).render_as_string()  # `set` cannot take a password away
    return [str(server.psql()), "-d", address], {**os.environ, **variables}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(port: int) -> bool:
    """Whether a server takes connections there: not while it recovers, shuts down or has just been killed."""
    return PGconn.ping(f"host=127.0.0.1 port={port} connect_timeout=3".encode()) == Ping.OK


def _wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _command_line(pid: int) -> str:
    """What a process was started as; empty for none, for a zombie, and for one of another user that hides it."""
    listing = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        try:
            return listing.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return run_as(None, ["/bin/ps", "-p", str(pid), "-o", "command="]).stdout


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no message"
