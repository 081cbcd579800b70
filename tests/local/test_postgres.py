"""The embedded server: who runs it, where it lies, who may enter, and what it survives."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
import pytest

from etl.local import binaries, postgres
from etl.local.postgres import EmbeddedPostgres, database, psql_command
from etl.settings import Settings
from etl.vocabulary import ConfigurationError, CreditVillageError

pytestmark = pytest.mark.postgres
IS_ROOT = os.geteuid() == 0
SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """No server of these tests waits for the disk: they kill servers, never the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "CLUSTER", (*postgres.CLUSTER, "--no-sync"))
        patch.setitem(postgres.CONFIGURATION, "fsync", "off")
        yield


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home)
    yield server
    server.erase()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A started server for the tests that only look; they leave it running."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("running") / "home")
    try:
        server.start()
        yield server
    finally:
        server.erase()


@pytest.fixture
def settings(home: Path) -> Iterator[Settings]:
    yield Settings(home=home, config=(), expectations=(), sql=())
    EmbeddedPostgres(home).erase()


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def processes_of(server: EmbeddedPostgres) -> list[int]:
    """Every process whose command line names the server's data folder, and every child of one."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if str(server._data) in command or parent in found:
            found.add(int(entry.name))
    return sorted(found)


def pid_of(server: EmbeddedPostgres) -> int:
    return int((server._data / "postmaster.pid").read_text().split("\n")[0])


def test_first_start_makes_the_databases_with_their_owners_and_readers(running: EmbeddedPostgres) -> None:
    listing = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE NOT datistemplate ORDER BY 1"
    rows = ask(running.url(), listing)
    assert rows == [
        ("airflow", "creditvillage"),
        ("creditvillage", "creditvillage"),
        ("government", "government"),
        ("postgres", "postgres"),
    ]
    about = "SELECT split_part(version(), '.', 1), current_setting('server_encoding')"
    assert ask(running.url(), about) == [("PostgreSQL 18", "UTF8")]
    locale = "SELECT datlocprovider::text, datlocale FROM pg_database WHERE datname = current_database()"
    assert ask(running.url(), locale) == [("b", "C.UTF-8")]


def test_readers_cannot_write_and_cannot_enter_other_databases(running: EmbeddedPostgres) -> None:
    owner, reader = running.url("government"), running.url("government", "government_reader")
    for statement in ("CREATE SCHEMA register", "CREATE TABLE register.household AS SELECT 7 AS household_no"):
        ask(owner, statement)
    assert ask(reader, "SELECT * FROM register.household") == [(7,)]
    for statement in ("DELETE FROM register.household", "CREATE TABLE register.mine (a int)", "CREATE SCHEMA mine"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(reader, statement)
    for name, role in [("creditvillage", "government_reader"), ("government", "analyst"), ("airflow", "analyst")]:
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            ask(running.url(name, role), "SELECT 1")


def test_nobody_enters_without_the_password(running: EmbeddedPostgres) -> None:
    for password in ("", "postgres", "wrong"):
        with pytest.raises(psycopg.OperationalError, match=r"password|authentication"):
            psycopg.connect(
                host="127.0.0.1", port=running.port(), dbname="postgres", user="postgres", password=password
            )
    methods = ask(running.url("postgres", "postgres"), "SELECT DISTINCT auth_method FROM pg_hba_file_rules")
    assert methods == [("scram-sha-256",)]


def test_only_the_owner_can_read_what_is_private(running: EmbeddedPostgres) -> None:
    assert stat.S_IMODE((running.home / "secrets" / "postgres.json").stat().st_mode) == 0o600
    for folder in (
        running.home / "secrets",
        running.home / "postgres",
        running._server_folder,
        running._data,
        running._socket_folder(),
    ):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert not list(running._server_folder.glob("*.part"))
    listening = ask(running.url("postgres", "postgres"), "SHOW listen_addresses")
    assert listening == [("127.0.0.1",)]


def test_the_log_quotes_neither_statements_nor_values(running: EmbeddedPostgres) -> None:
    ask(running.url(), "CREATE TABLE person (id_no text PRIMARY KEY)")
    ask(running.url(), "INSERT INTO person VALUES ('99000019700101001X')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        ask(running.url(), "INSERT INTO person VALUES ('99000019700101001X')")
    log = running._log.read_text()
    assert "duplicate key" in log
    assert "99000019700101001X" not in log


def test_the_log_never_holds_a_password(running: EmbeddedPostgres) -> None:
    passwords = json.loads((running.home / "secrets" / "postgres.json").read_text()).values()
    assert not [password for password in passwords if password in running._log.read_text()]


def test_psql_works_with_the_environment_it_is_given(running: EmbeddedPostgres) -> None:
    environment = {**os.environ, **running.environment("creditvillage", "analyst")}
    command = [str(running.psql()), "-X", "-A", "-t", "-c", "SELECT current_user || ' in ' || current_database()"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "analyst in creditvillage"


def run_psql(settings: Settings, role: str, query: str) -> str:
    command, environment = psql_command(settings, role)
    assert not [word for word in command if environment["PGPASSWORD"] in word]
    ran = subprocess.run([*command, "-X", "-A", "-t", "-c", query], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_psql_on_the_warehouse_of_the_embedded_server(settings: Settings) -> None:
    with database(settings) as found:
        query = "SELECT session_user || ' in ' || current_database()"
        assert run_psql(found, "analyst", query) == "analyst in creditvillage"
        assert run_psql(found, "owner", query) == "creditvillage in creditvillage"
        with pytest.raises(ConfigurationError, match="nobody: no such role — use analyst or owner"):
            psql_command(found, "nobody")


def test_psql_on_a_warehouse_given_by_url_takes_the_role_on(running: EmbeddedPostgres, settings: Settings) -> None:
    ask(running.url("postgres", "postgres"), "GRANT analyst TO creditvillage")
    elsewhere = replace(settings, home=settings.home / "of another", warehouse_url=running.url())
    assert run_psql(elsewhere, "analyst", "SELECT session_user || ' as ' || current_user") == "creditvillage as analyst"
    assert run_psql(elsewhere, "owner", "SELECT current_user") == "creditvillage"


def test_start_is_idempotent_and_the_port_survives_a_restart(server: EmbeddedPostgres) -> None:
    server.start()
    ask(server.url(), "CREATE TABLE kept AS SELECT 1 AS a")
    before = (pid_of(server), server.url())
    server.start()
    assert (pid_of(server), server.url()) == before
    server.stop()
    server.start()
    assert pid_of(server) != before[0]
    assert server.url() == before[1]
    assert ask(server.url(), "SELECT a FROM kept") == [(1,)]


def test_stop_leaves_nothing_running_and_may_be_repeated(server: EmbeddedPostgres) -> None:
    server.stop()
    server.start()
    assert processes_of(server)
    server.stop()
    assert processes_of(server) == []
    assert not server.is_running()
    server.stop()
    with pytest.raises(CreditVillageError, match="not running — start it"):
        server.url()


def test_a_taken_port_is_left_alone(server: EmbeddedPostgres) -> None:
    server.start()
    port = server.port()
    server.stop()
    other = EmbeddedPostgres(server.home.parent / "other")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("etl.local.postgres._free_port", lambda: port)
            other.start()
        assert other.port() == port
        server.start()
        assert server.port() != port
        assert ask(server.url(), "SELECT 1") == [(1,)]
    finally:
        other.erase()


def test_a_killed_server_starts_again_with_its_data(server: EmbeddedPostgres) -> None:
    server.start()
    ask(server.url(), "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS a")
    os.kill(pid_of(server), signal.SIGKILL)
    server.start()
    assert ask(server.url(), "SELECT count(*) FROM kept") == [(1000,)]


def test_a_server_killed_in_the_middle_of_a_query_starts_again(server: EmbeddedPostgres) -> None:
    server.start()
    busy = psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True)
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 20000000)")
    time.sleep(0.3)
    os.kill(pid_of(server), signal.SIGKILL)
    server.start()
    assert ask(server.url(), "SELECT 1") == [(1,)]
    busy.close()


def test_a_pid_that_now_belongs_to_another_program_does_not_matter(server: EmbeddedPostgres) -> None:
    """After a reboot the number in the pid file may be that of anything, even of the same account."""
    server.start()
    server.stop()
    stranger = subprocess.Popen(["/bin/sleep", "60"], **({"user": server._account.uid} if server._account else {}))
    try:
        text = f"{stranger.pid}\n{server._data}\n1700000000\n5432\n/nowhere\n127.0.0.1\n  1  2\nready   \n"
        server._write(server._data / "postmaster.pid", text)
        assert not server.is_running()
        server.start()
        assert ask(server.url(), "SELECT 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_interrupted_first_start_is_finished_by_the_next(server: EmbeddedPostgres) -> None:
    """As if killed while initdb was at work, with half a data folder on disk."""
    server._passwords  # noqa: B018 - made on first use
    server._folder.mkdir(parents=True, exist_ok=True)
    server._prepare()
    shutil.rmtree(server._data)
    binaries.run_as(server._account, ["/bin/mkdir", "-p", str(server._server_folder / "data.part" / "base")])
    server.start()
    assert ask(server.url(), "SELECT 1") == [(1,)]


def test_a_home_made_anew_gets_a_new_cluster_and_keeps_the_old_aside(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    ask(server.url(), "CREATE TABLE old (a int)")
    old_pid = pid_of(server)
    shutil.rmtree(home / "secrets")
    again = EmbeddedPostgres(home)
    again.start()
    assert pid_of(again) != old_pid
    assert ask(again.url(), "SELECT to_regclass('old') IS NULL") == [(True,)]
    assert (again._set_aside_folder / "data" / "PG_VERSION").exists()


def test_the_home_may_lie_in_a_private_folder_with_an_awkward_name(tmp_path: Path) -> None:
    private = tmp_path / "it's a private folder 信用村"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgres(private / "home")
    try:
        server.start()
        assert ask(server.url(), "SELECT 1") == [(1,)]
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    finally:
        server.erase()


def test_a_home_with_a_very_long_path_gets_a_short_socket_folder(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 30) / "home")
    try:
        server.start()
        assert len(os.fsencode(server._socket_folder())) <= 85
        assert ask(server.url(), "SELECT 1") == [(1,)]
    finally:
        server.erase()


# -- several processes ------------------------------------------------------------------------------------------------


def _start_and_report(home: Path, gate: Connection, answers: Connection) -> None:
    server = EmbeddedPostgres(home)
    answers.send("here")
    gate.recv()
    server.start()
    answers.send((pid_of(server), ask(server.url(), "SELECT 1")))
    gate.recv()
    server.release()
    answers.send("released")


def _helper(home: Path) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_start_and_report, args=(home, theirs, theirs), daemon=True)
    process.start()
    assert ours.recv() == "here"
    return process, ours


def test_two_processes_starting_at_once_share_a_server_the_last_one_stops(server: EmbeddedPostgres, home: Path) -> None:
    helpers = [_helper(home) for _ in range(2)]
    for _, pipe in helpers:
        pipe.send("go")
    first, second = (pipe.recv() for _, pipe in helpers)
    assert first == second
    helpers[0][1].send("let go")
    assert helpers[0][1].recv() == "released"
    assert server.is_running()
    helpers[1][1].send("let go")
    assert helpers[1][1].recv() == "released"
    assert processes_of(server) == []
    for process, _ in helpers:
        process.join(20)


def test_a_holder_that_is_killed_no_longer_counts(server: EmbeddedPostgres, home: Path) -> None:
    process, pipe = _helper(home)
    pipe.send("go")
    pipe.recv()
    process.kill()
    process.join(20)
    assert server.is_running()
    with server.held():
        pass
    assert not server.is_running()


def test_database_starts_and_stops_the_server(settings: Settings) -> None:
    server = EmbeddedPostgres(settings.home)
    with database(settings) as outer:
        assert outer.warehouse_url and outer.government_url
        assert ask(outer.warehouse_url, "SELECT current_user::text") == [("creditvillage",)]
        assert ask(outer.government_url, "SELECT current_user::text") == [("government_reader",)]
        with database(settings) as inner:
            assert inner == outer
        assert server.is_running()
    assert not server.is_running()


def test_database_leaves_a_server_that_is_to_be_kept_up(settings: Settings) -> None:
    server = EmbeddedPostgres(settings.home)
    with server.held():
        server.keep_up()
    with database(settings):
        pass
    assert server.is_running()
    server.stop()
    assert processes_of(server) == []
    with database(settings):
        pass
    assert not server.is_running(), "stop forgets keep_up"


def test_database_uses_a_given_url_as_it_is(settings: Settings) -> None:
    given = settings.with_databases("postgresql+psycopg://elsewhere/db", None)
    with database(given) as filled:
        assert filled == given
    assert not settings.home.exists()


def test_the_server_stops_when_the_work_fails(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), database(settings):
        _ = 1 / 0
    assert not EmbeddedPostgres(settings.home).is_running()


# -- accounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not IS_ROOT, reason="only root has somebody to hand over to")
def test_root_runs_it_as_an_unprivileged_account(running: EmbeddedPostgres) -> None:
    status = Path(f"/proc/{pid_of(running)}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    groups = next(line for line in status.splitlines() if line.startswith("Groups:")).split()[1:]
    assert set(uids) == {str(running._account.uid)} and "0" not in uids
    assert groups == []
    assert running._data.is_relative_to(binaries.shared_folder())


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
def test_an_unprivileged_user_runs_it_all_under_home() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        home = Path(folder) / "home"

        def work() -> object:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            server = EmbeddedPostgres(home)
            try:
                server.start()
                rows = ask(server.url("postgres", "postgres"), "SHOW data_directory")
                return rows, Path(f"/proc/{pid_of(server)}").stat().st_uid, stat.S_IMODE(server._data.stat().st_mode)
            finally:
                server.stop()

        assert _in_a_fork(work) == ([(str(home / "postgres" / "server" / "data"),)], nobody.pw_uid, 0o700)


@pytest.mark.skipif(not IS_ROOT, reason="only root hands over to another account")
def test_programs_in_a_private_folder_are_copied_once_to_a_shared_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as private, tempfile.TemporaryDirectory() as shared:
        wheel = binaries._wheel_folder()
        for name in (binaries.MODULE, f"{binaries.MODULE}.libs"):
            (Path(private) / name).symlink_to(wheel.with_name(name))
        monkeypatch.setattr(binaries, "_wheel_folder", lambda: Path(private) / binaries.MODULE)
        monkeypatch.setenv(binaries.SHARED_FOLDER_VARIABLE, shared)
        server = EmbeddedPostgres(Path(private) / "home")
        try:
            server.start()
            assert server.psql().is_relative_to(shared)
            assert ask(server.url(), "SELECT 1") == [(1,)]
            copied = server.psql().stat().st_mtime_ns, server.psql().stat().st_ino
            again = binaries.find_programs(None, server._account)
            assert (again.path("psql").stat().st_mtime_ns, again.path("psql").stat().st_ino) == copied
            assert sorted(path.name.split("-")[0] for path in Path(shared).glob("*pgsql*")) == ["pgsql"]
        finally:
            server.erase()


def test_a_missing_version_is_named_with_its_mend() -> None:
    with pytest.raises(CreditVillageError, match=r"PostgreSQL 9 is not in the installed .* — install .*make install"):
        binaries.find_programs("9", None)


def _in_a_fork(work: Callable[[], object]) -> object:
    """Run `work` in a child that may give up its rights; its result, or its error, comes back."""
    ours, theirs = FORK.Pipe()

    def child() -> None:
        try:
            theirs.send(work())
        except Exception as error:
            theirs.send(repr(error))

    process = FORK.Process(target=child)
    process.start()
    result = ours.recv()
    process.join(60)
    return result
