"""A local Airflow for one `$CREDITVILLAGE_HOME`: api-server, scheduler and dag-processor, and a client of its REST API.

Nothing here imports Airflow: the components are processes, each leading a session of its own, on 127.0.0.1 only.
Everything they need stands in `home/airflow/airflow.cfg` (0600), so `AIRFLOW_HOME=<home>/airflow airflow …` works from
any shell. Passwords and keys are random, made once, and lie in `home/secrets/airflow.json` (0600).

The components inherit one lock (`home/airflow/stack.lock`): while any of them lives it is held, whoever started them
and however that process ended. Stopping therefore needs nothing but the folder.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import fcntl
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psycopg

from etl.local.files import private_folder, write_private
from etl.vocabulary import CreditVillageError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PARALLELISM = 4
USER = "admin"
CLOCK = "creditvillage_now"
READY_SECONDS = 300.0
LEAVE_SECONDS = 20.0
POLL_SECONDS = 0.1
LOOK_SECONDS = 0.3
PAGE = 100
FINISHED = ("success", "failed")

# Tasks are forked from the scheduler: what it has imported, no task has to import again.
_BOOT = """
import importlib, runpy, sys
for name in filter(None, sys.argv.pop(1).split(",")):
    importlib.import_module(name)
runpy.run_module("airflow", run_name="__main__", alter_sys=True)
"""


class AirflowError(CreditVillageError):
    """The local Airflow did not start or answer, or a run in it failed or took too long."""


@dataclass(frozen=True)
class Run:
    """One DAG run as the REST API tells it; `state` is queued, running, success or failed."""

    dag_id: str
    run_id: str
    state: str
    partition_key: str | None
    started: str | None
    ended: str | None

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


@dataclass(frozen=True)
class TaskState:
    """One task of one run; `log` is the file of its last try (absent if it never started)."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    log: Path


def _nothing(_: str) -> None:
    """The progress callback of somebody who does not look."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


# --- sessions of processes ------------------------------------------------------------------------------------------


def _living() -> Iterator[int]:
    """Every process on this machine that is not a zombie."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
        yield from (int(pid) for pid, state in (line.split()[:2] for line in listing.splitlines()) if "Z" not in state)
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
                if state not in "ZX":
                    yield int(entry.name)


def _members(sessions: Collection[int]) -> list[int]:
    """Living processes of these sessions. Tasks have process groups of their own but stay in the session."""
    found = []
    for pid in _living():
        with contextlib.suppress(OSError):
            if os.getsid(pid) in sessions:
                found.append(pid)
    return found


def _signal(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _gone(sessions: Collection[int], seconds: float) -> bool:
    """Wait until no process of these sessions lives; False if some still do after so many seconds."""
    deadline = time.monotonic() + seconds
    while _members(sessions):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _end(sessions: Collection[int], seconds: float) -> None:
    """Ask the leaders, after so many seconds everybody, then insist."""
    _signal([pid for pid in sessions if pid in _members(sessions)], signal.SIGTERM)
    if _gone(sessions, seconds):
        return
    _signal(_members(sessions), signal.SIGTERM)
    if _gone(sessions, seconds / 4):
        return
    _signal(_members(sessions), signal.SIGKILL)
    if not _gone(sessions, LEAVE_SECONDS):
        raise AirflowError(f"processes {_members(sessions)} do not end — end them by hand")


# --- what a folder knows of a running stack -------------------------------------------------------------------------


@dataclass
class _State:
    """`stack.json`: the sessions that were started, where the api-server listens, and who cares for them."""

    folder: Path
    port: int = 0
    sessions: dict[str, int] = field(default_factory=dict)
    attached_to: int | None = None

    @property
    def _file(self) -> Path:
        return self.folder / "stack.json"

    @classmethod
    def read(cls, folder: Path) -> _State:
        state = cls(folder)
        with contextlib.suppress(FileNotFoundError):
            known = json.loads(state._file.read_text(encoding="utf-8"))
            state.port, state.sessions, state.attached_to = known["port"], known["sessions"], known["attached_to"]
        return state

    def write(self) -> None:
        known = {"port": self.port, "sessions": self.sessions, "attached_to": self.attached_to}
        write_private(self._file, json.dumps(known))

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)

    @property
    def is_abandoned(self) -> bool:
        """Started for the life of another process, which is gone."""
        return self.attached_to is not None and self.attached_to not in set(_living())


def _take_lock(folder: Path) -> int | None:
    """The stack's lock as an open descriptor for the components to inherit, or None while somebody holds it."""
    descriptor = os.open(folder / "stack.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_running(folder: Path) -> bool:
    """Whether any component of the Airflow in `folder` (`home/airflow`) lives."""
    descriptor = _take_lock(folder) if folder.is_dir() else None
    if descriptor is not None:
        os.close(descriptor)
    return folder.is_dir() and descriptor is None


def stop_stack(folder: Path, *, seconds: float = LEAVE_SECONDS) -> bool:
    """End every process of the Airflow in `folder`, from any shell; False if there was none.

    Components are asked first (the scheduler waits for running tasks up to `seconds`), then ended.
    """
    was_running = is_running(folder)
    state = _State.read(folder)
    if was_running:
        server = {pid for name, pid in state.sessions.items() if name == "api-server"}
        _end(set(state.sessions.values()) - server, seconds)
        _end(server, 1.0)  # last, because tasks that are finishing report to it
    if folder.is_dir():
        state.forget()
    return was_running


def connect(folder: Path) -> AirflowClient | None:
    """A client of the Airflow that runs in `folder`, or None."""
    state = _State.read(folder)
    if not is_running(folder) or not state.port:
        return None
    return AirflowClient(state.port, _keys(folder)["password"], folder / "logs")


# --- keys and configuration -----------------------------------------------------------------------------------------


def _keys(folder: Path) -> dict[str, str]:
    """Random keys of this home: made at the first start, kept in `home/secrets/airflow.json`."""
    file = private_folder(folder.parent / "secrets") / "airflow.json"
    if not file.exists():
        made = {name: secrets.token_hex(32) for name in ("jwt", "session")}
        made["fernet"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        made["password"] = secrets.token_urlsafe(24)
        write_private(file, json.dumps(made))
    keys: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return keys


def _ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """The sections as airflow.cfg; a per cent sign is doubled, because Airflow interpolates."""
    parser = configparser.RawConfigParser()
    for name, options in sections.items():
        parser[name] = {key: str(value).replace("%", "%%") for key, value in options.items()}
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


@dataclass(frozen=True)
class AirflowStack:
    """How the local Airflow of one home is to run.

    `database_url` is a `postgresql+psycopg://` URL of its metadata; `environment` is what tasks see besides, for
    example `Settings.environment()`; `preload` names modules that the scheduler imports once, so that tasks forked from
    it have them; `with_pages` serves the pages too; `idle_seconds` is how long the scheduler rests when it has nothing
    to do (less means quicker hops and more CPU).
    """

    home: Path
    database_url: str
    dags: Path = PROJECT_ROOT / "dags"
    environment: Mapping[str, str] = field(default_factory=dict)
    preload: Sequence[str] = ("etl.pipeline", "great_expectations")
    with_pages: bool = False
    idle_seconds: float = 0.2

    @property
    def folder(self) -> Path:
        return self.home.resolve() / "airflow"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def password_file(self) -> Path:
        return self.home.resolve() / "secrets" / "airflow.json"

    @contextmanager
    def running(self, progress: Callable[[str], None] = _nothing) -> Iterator[AirflowClient]:
        """Airflow for the length of a block. It ends with the block, and also if this process is killed.

        Raises what `start` raises.
        """
        with _termination_unwinds(), self._launched(attached=True) as launch, _guarded(self):
            try:
                yield launch.run(progress)
            finally:
                stop_stack(self.folder)
                launch.reap()

    def start(self, progress: Callable[[str], None] = _nothing) -> AirflowClient:
        """Start all components, to outlive this process; return when every DAG is known and the scheduler is alive.

        Raises AirflowError if Airflow runs here already, a component ends early, a DAG cannot be imported, or all this
        takes longer than READY_SECONDS.
        """
        with _termination_unwinds(), self._launched(attached=False) as launch:
            try:
                return launch.run(progress)
            except BaseException:
                stop_stack(self.folder, seconds=2.0)
                raise

    @contextmanager
    def _launched(self, *, attached: bool) -> Iterator[_Launch]:
        lock = self._acquire()
        try:
            yield _Launch(self, lock, attached)
        finally:
            os.close(lock)

    def _acquire(self) -> int:
        private_folder(self.home.resolve())
        private_folder(self.folder)
        if is_running(self.folder) and _State.read(self.folder).is_abandoned:
            stop_stack(self.folder)
        lock = _take_lock(self.folder)
        if lock is None:
            raise AirflowError(f"{self.folder}: Airflow is running here already — stop it with `make down`")
        return lock

    def configuration(self, port: int) -> dict[str, dict[str, object]]:
        """The sections of airflow.cfg. What is not named keeps Airflow's default."""
        keys, base = _keys(self.folder), f"http://127.0.0.1:{port}"
        return {
            "core": {
                "dags_folder": self.dags,
                "executor": "LocalExecutor",
                "parallelism": PARALLELISM,
                "load_examples": False,
                "dags_are_paused_at_creation": False,
                "fernet_key": keys["fernet"],
                "execution_api_server_url": f"{base}/execution/",
                "simple_auth_manager_users": f"{USER}:admin",
                "simple_auth_manager_passwords_file": self.folder / "passwords.json",
                "hostname_callable": "socket.gethostname",
            },
            "database": {
                "sql_alchemy_conn": self.database_url,
                "sql_alchemy_conn_async": self.database_url.replace("+psycopg:", "+psycopg_async:", 1),
                "check_migrations": False,  # the launch has seen to it; so components come up while it does
            },
            "api": {
                "host": "127.0.0.1",
                "port": port,
                "base_url": base,
                "workers": 1,
                "secret_key": keys["session"],
                "instance_name": "creditvillage",
                "enable_swagger_ui": self.with_pages,
            },
            "api_auth": {"jwt_secret": keys["jwt"]},
            "scheduler": {"scheduler_idle_sleep_time": self.idle_seconds},
            # A worker that misses the end of its task by a hair notices it this many seconds later (default 5).
            "workers": {"min_heartbeat_interval": 1},
            "dag_processor": {"min_file_process_interval": 60, "refresh_interval": 60, "parsing_processes": 2},
            "logging": {
                "base_log_folder": self.logs,
                "dag_processor_child_process_log_directory": self.logs / "dag_processor",
                "file_task_handler_new_folder_permissions": "0o700",
                "file_task_handler_new_file_permissions": "0o600",
            },
        }

    def child_environment(self) -> dict[str, str]:
        """This process's environment without foreign Airflow settings, with ours.

        Proxies are not for loopback. Compiled modules are kept even where the caller forbids it for itself: without
        them, each of a hundred processes compiles Airflow anew.
        """
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        env.update(self.environment)
        if env.pop("PYTHONDONTWRITEBYTECODE", None) and not _is_compiled("airflow"):
            env["PYTHONPYCACHEPREFIX"] = str(self.folder / "compiled")
        env["PYTHONPATH"] = _joined(os.pathsep, str(PROJECT_ROOT), env.get("PYTHONPATH"))
        for name in ("NO_PROXY", "no_proxy"):
            env[name] = _joined(",", env.get(name), "127.0.0.1", "localhost")
        env["GX_ANALYTICS_ENABLED"] = "false"  # must be said before it is imported
        env["AIRFLOW_HOME"], env["AIRFLOW_CONFIG"] = str(self.folder), str(self.folder / "airflow.cfg")
        return env


def _joined(separator: str, *parts: str | None) -> str:
    return separator.join(part for part in parts if part)


def _is_compiled(package: str) -> bool:
    spec = find_spec(package)
    return bool(spec and spec.origin and Path(cache_from_source(spec.origin)).exists())


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit while the block runs, so that `finally` is kept (in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def _guarded(stack: AirflowStack) -> Iterator[None]:
    """Beside us, a process that reads from us until we are gone, however we go, and then stops the stack."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "etl.local.airflow", str(stack.folder)]
    guard = subprocess.Popen(command, env=stack.child_environment(), stdin=reading, start_new_session=True)
    os.close(reading)
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        os.close(writing)


class _Launch:
    """One start of a stack: processes come up side by side, as far as they do not need each other."""

    def __init__(self, stack: AirflowStack, lock: int, attached: bool) -> None:
        self.stack, self.lock, self.attached = stack, lock, attached
        self.env = stack.child_environment()
        self.state = _State(stack.folder, _free_port(), {}, os.getpid() if attached else None)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.deadline = time.monotonic() + READY_SECONDS

    def run(self, progress: Callable[[str], None]) -> AirflowClient:
        """Start everything and wait until it is ready."""
        self._write_files()
        apps = "all" if self.stack.with_pages else "core,execution"
        self._spawn("api-server", "--apps", apps)
        self._migrate(progress)
        self._spawn("scheduler", "--skip-serve-logs", preload=self.stack.preload)
        self._spawn("dag-processor")
        progress("starting Airflow")
        client = AirflowClient(self.state.port, _keys(self.stack.folder)["password"], self.stack.logs)
        self._await(client.is_up, "api-server")
        client.set_clock(None)  # a demo that was killed may have left its own
        self._await(lambda: self._knows_all_dags(client), "dag-processor")
        self._await(client.is_healthy, "scheduler")
        return client

    def reap(self) -> None:
        """Collect the exit codes of processes that have been ended."""
        for process in self.processes.values():
            process.wait(LEAVE_SECONDS)

    def _write_files(self) -> None:
        folder = self.stack.folder
        private_folder(self.stack.logs)
        write_private(folder / "passwords.json", json.dumps({USER: _keys(folder)["password"]}))
        write_private(folder / "airflow.cfg", _ini(self.stack.configuration(self.state.port)))
        self.state.write()

    def _spawn(self, component: str, *options: str, preload: Sequence[str] = ()) -> None:
        command = [sys.executable, "-c", _BOOT, ",".join(preload), component, *options]
        with (self.stack.logs / f"{component}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self.lock,),
            )
        self.processes[component] = process
        self.state.sessions[component] = process.pid
        self.state.write()

    def _migrate(self, progress: Callable[[str], None]) -> None:
        """Bring the metadata database to this Airflow's version, unless the marker says it is there."""
        marker = self.stack.folder / "migrated.json"
        done = [version("apache-airflow-core"), _alembic_version(self.stack.database_url)]
        if done[1] and marker.exists() and json.loads(marker.read_text(encoding="utf-8")) == done:
            return
        progress("preparing Airflow's database")
        self._spawn("db", "migrate")
        self.processes.pop("db").wait(READY_SECONDS)
        del self.state.sessions["db"]
        done[1] = _alembic_version(self.stack.database_url)
        if not done[1]:
            self._fail("db", "could not prepare its database")
        write_private(marker, json.dumps(done))

    def _knows_all_dags(self, client: AirflowClient) -> bool:
        broken = client.import_errors()
        if broken:
            raise AirflowError(f"{broken[0]} — correct the file, then start again")
        wanted = {file.stem for file in self.stack.dags.glob("*.py") if not file.stem.startswith("_")}
        return wanted <= client.dags()

    def _await(self, ready: Callable[[], bool], component: str) -> None:
        while not ready():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    self._fail(name, f"ended with code {process.returncode}")
            if time.monotonic() > self.deadline:
                self._fail(component, f"is not ready after {READY_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def _fail(self, component: str, what: str) -> NoReturn:
        log = self.stack.logs / f"{component}.log"
        raise AirflowError(f"Airflow's {component} {what}: {_last_line(log)} — see {log}")


def _alembic_version(database_url: str) -> str | None:
    """The migration the metadata database is at, None if it is empty."""
    with _connected(database_url) as connection:
        if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def _connected(database_url: str) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(database_url.replace("+psycopg", "", 1), connect_timeout=20)
    except psycopg.OperationalError as error:
        problem = " ".join(str(error).split())
        raise AirflowError(f"Airflow's database cannot be reached: {problem} — is its server running?") from None


# --- the REST API ---------------------------------------------------------------------------------------------------


class AirflowClient:
    """Airflow's REST API (`/api/v2`) on loopback. Every call raises AirflowError if it is refused or not answered."""

    def __init__(self, port: int, password: str, logs: Path) -> None:
        self.base, self.logs, self._password = f"http://127.0.0.1:{port}", logs, password
        self._token: str | None = None
        self._made_at = datetime.now(UTC)
        # Loopback never goes through the proxy that the environment may name.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def trigger(
        self,
        dag_id: str,
        *,
        run_id: str | None = None,
        partition_key: str | None = None,
        conf: Mapping[str, object] | None = None,
        logical_date: datetime | None = None,
    ) -> str:
        """Queue a run and return its id; a run of that id that exists already is left as it is."""
        body = {
            "dag_run_id": run_id,
            "partition_key": partition_key,
            "conf": dict(conf or {}),
            "logical_date": logical_date.isoformat() if logical_date else None,
        }
        try:
            answer = self._call("POST", f"dags/{_quoted(dag_id)}/dagRuns", body)
        except _ConflictError:
            if run_id is None:
                raise
            return run_id
        return str(answer["dag_run_id"])

    def runs(self, dag_id: str = "~", *, states: Sequence[str] = (), partition_key: str | None = None) -> list[Run]:
        """Runs of a DAG (`~`: of all), oldest first."""
        query: list[tuple[str, str]] = [("state", state) for state in states] + [("order_by", "run_after")]
        found = [_run(each) for each in self._pages(f"dags/{_quoted(dag_id)}/dagRuns", "dag_runs", query)]
        return [run for run in found if partition_key in (None, run.partition_key)]

    def states(self, dag_id: str, run_ids: Collection[str]) -> dict[str, str]:
        """The state of each of these runs that exists."""
        return {run.run_id: run.state for run in self.runs(dag_id) if run.run_id in run_ids}

    def tasks(self, dag_id: str, run_id: str = "~", *, states: Sequence[str] = ()) -> list[TaskState]:
        """Tasks of a run (`~`: of all) with the place of their logs."""
        return self._tasks(dag_id, run_id, [("state", state) for state in states])

    def failures(self, *, ever: bool = False) -> list[TaskState]:
        """Every task that ended in failure, in any run, since this client was made (or `ever`)."""
        since = [] if ever else [("end_date_gte", self._made_at.isoformat())]
        return self._tasks("~", "~", [("state", "failed"), *since])

    def wait_for_runs(
        self,
        dag_id: str,
        run_ids: Collection[str],
        *,
        timeout_seconds: float,
        progress: Callable[[dict[str, str]], None] | None = None,
    ) -> dict[str, str]:
        """Wait until all these runs are finished; `progress` is handed their states at every look.

        Raises AirflowError if one fails or time runs out.
        """
        states: dict[str, str] = {}

        def finished() -> bool:
            nonlocal states
            states = self.states(dag_id, run_ids)
            if progress:
                progress(states)
            return len(states) == len(set(run_ids)) and set(states.values()) <= set(FINISHED)

        self.wait_until(finished, f"runs of {dag_id}", timeout_seconds=timeout_seconds)
        failed = sorted(run_id for run_id, state in states.items() if state == "failed")
        if failed:
            raise AirflowError(self.explain_failure(dag_id, failed[0]))
        return states

    def wait_until(self, ready: Callable[[], bool], what: str, *, timeout_seconds: float) -> None:
        """Look again and again until `ready()`; raises AirflowError naming `what` if time runs out."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if time.monotonic() > deadline:
                raise AirflowError(f"{what}: not finished after {timeout_seconds:.0f} s — see {self.logs}")
            time.sleep(LOOK_SECONDS)

    def explain_failure(self, dag_id: str, run_id: str) -> str:
        """One line on the first task of a run that failed."""
        failed = self.tasks(dag_id, run_id, states=("failed",))
        if not failed:
            return f"{dag_id} {run_id}: the run failed — see {self.logs}"
        return f"{dag_id} {run_id}: task {failed[0].task_id} failed — see {failed[0].log}"

    def unpause(self, dag_id: str, *, is_paused: bool = False) -> None:
        """Let the scheduler run this DAG (or, with `is_paused`, hold it)."""
        self._call("PATCH", f"dags/{_quoted(dag_id)}", {"is_paused": is_paused})

    def set_clock(self, now: datetime | None) -> None:
        """Hand tasks a simulated "now"; None takes it away, and they go by the time their run is for."""
        with contextlib.suppress(_MissingError):
            self._call("DELETE", f"variables/{CLOCK}")
        if now is not None:
            says = "simulated time, set by the demo; delete it to go by real time"
            self._call("POST", "variables", {"key": CLOCK, "value": now.isoformat(), "description": says})

    def dags(self) -> set[str]:
        """Ids of all DAGs that were parsed."""
        return {str(each["dag_id"]) for each in self._pages("dags", "dags", [])}

    def import_errors(self) -> list[str]:
        """One line for each DAG file that cannot be imported."""
        errors = self._pages("importErrors", "import_errors", [])
        return [f"{each['filename']}: {str(each['stack_trace']).strip().splitlines()[-1]}" for each in errors]

    def is_up(self) -> bool:
        """Whether the api-server answers tasks. The first answer takes it seconds, which no task should wait for."""
        try:
            self._send("GET", "/execution/health/ping", None)
        except AirflowError:
            return False
        return True

    def is_healthy(self) -> bool:
        """Whether the scheduler's and the dag-processor's hearts beat."""
        health = self._call("GET", "monitor/health")
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def _tasks(self, dag_id: str, run_id: str, query: Sequence[tuple[str, str]]) -> list[TaskState]:
        path = f"dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances"
        return [self._task(each) for each in self._pages(path, "task_instances", query)]

    def _task(self, each: Mapping[str, Any]) -> TaskState:
        place = self.logs / f"dag_id={each['dag_id']}" / f"run_id={each['dag_run_id']}" / f"task_id={each['task_id']}"
        if each["map_index"] >= 0:
            place = place / f"map_index={each['map_index']}"
        log = place / f"attempt={each['try_number']}.log"
        names = ("dag_id", "task_id", "map_index", "state", "try_number")
        return TaskState(run_id=each["dag_run_id"], log=log, **{name: each[name] for name in names})

    def _pages(self, path: str, key: str, query: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = [*query, ("limit", str(PAGE)), ("offset", str(len(found)))]
            answer = self._call("GET", f"{path}?{urllib.parse.urlencode(page)}")
            found += answer[key]
            if not answer[key] or len(found) >= answer["total_entries"]:
                return found

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        if self._token is None:
            answer = self._send("POST", "/auth/token", {"username": USER, "password": self._password})
            self._token = str(answer["access_token"])
        return self._send(method, f"/api/v2/{path}", body)

    def _send(self, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=60) as response:
                answer: dict[str, Any] = json.loads(response.read() or b"{}")
                return answer
        except urllib.error.HTTPError as error:
            raise _refusal(error, f"{method} {path}") from None
        except (urllib.error.URLError, OSError) as error:
            raise AirflowError(f"Airflow at {self.base} does not answer: {error} — see {self.logs}") from None


class _ConflictError(AirflowError):
    """HTTP 409: it exists already."""


class _MissingError(AirflowError):
    """HTTP 404."""


def _refusal(error: urllib.error.HTTPError, what: str) -> AirflowError:
    kind = {409: _ConflictError, 404: _MissingError}.get(error.code, AirflowError)
    detail = " ".join(error.read().decode(errors="replace").split())[:300]
    return kind(f"Airflow refuses {what}: {error.code} {detail}")


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="~")


def _run(each: Mapping[str, Any]) -> Run:
    return Run(
        dag_id=each["dag_id"],
        run_id=each["dag_run_id"],
        state=each["state"],
        partition_key=each["partition_key"],
        started=each["start_date"],
        ended=each["end_date"],
    )


def _guard(folder: Path) -> None:
    """Wait until the process that started us is gone, then leave nothing running."""
    sys.stdin.buffer.read()
    stop_stack(folder, seconds=5.0)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]))
