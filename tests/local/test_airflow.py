"""The launcher without Airflow: its files, its environment, and that it leaves nothing running."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from etl.local import airflow
from etl.local.airflow import AirflowError, AirflowStack, connect, is_running, stop_stack

URL = "postgresql+psycopg://someone:p%40ss@127.0.0.1:1/airflow"
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgid(0, 0)  # as Airflow does with tasks
time.sleep(600)
"""
GUARDED = """
import sys, time
from pathlib import Path
from etl.local import airflow
airflow._BOOT = "import time; time.sleep(600)"
stack = airflow.AirflowStack(Path(sys.argv[1]), "postgresql+psycopg://nobody@127.0.0.1:1/none")
with stack._launched(attached=True) as launch, airflow._guarded(stack):
    launch._write_files()
    launch._spawn("scheduler")
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def stack(home: Path) -> AirflowStack:
    return AirflowStack(home, URL, environment={"CREDITVILLAGE_HOME": str(home), "PYTHONPATH": "/elsewhere"})


def launch_of(stack: AirflowStack) -> airflow._Launch:
    with stack._launched(attached=False) as launch:
        launch._write_files()
    return launch


def await_true(condition: Any, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_files_with_secrets_are_private_and_keys_stay_the_same(stack: AirflowStack) -> None:
    launch_of(stack)
    first = stack.password_file.read_text(encoding="utf-8")
    launch_of(stack)
    assert stack.password_file.read_text(encoding="utf-8") == first
    for file in (stack.password_file, stack.folder / "airflow.cfg", stack.folder / "passwords.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    for folder in (stack.home, stack.folder, stack.logs, stack.password_file.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_configuration_survives_interpolation_and_stays_on_loopback(stack: AirflowStack) -> None:
    launch_of(stack)
    read = configparser.ConfigParser()
    read.read(stack.folder / "airflow.cfg")
    assert read["database"]["sql_alchemy_conn"] == URL
    assert read["database"]["sql_alchemy_conn_async"].startswith("postgresql+psycopg_async://")
    assert read["api"]["host"] == "127.0.0.1"
    assert "simple_auth_manager_all_admins" not in read["core"]


def test_children_see_our_settings_and_nobody_elses(stack: AirflowStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("NO_PROXY", "example.org")
    env = stack.child_environment()
    assert [name for name in env if name.startswith("AIRFLOW_")] == ["AIRFLOW_HOME", "AIRFLOW_CONFIG"]
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert env["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert env["PYTHONPATH"] == f"{airflow.PROJECT_ROOT}{os.pathsep}/elsewhere"
    assert env["CREDITVILLAGE_HOME"] == str(stack.home)


def test_no_password_is_in_the_environment_or_a_command_line(stack: AirflowStack) -> None:
    launch_of(stack)
    secrets = [*json.loads(stack.password_file.read_text(encoding="utf-8")).values(), "p%40ss"]
    values = " ".join(stack.child_environment().values())
    assert [secret for secret in secrets if secret in values] == []


def test_nothing_runs_in_an_empty_home(stack: AirflowStack) -> None:
    assert not is_running(stack.folder)
    assert stop_stack(stack.folder) is False
    assert connect(stack.folder) is None


def test_an_unreachable_database_is_named_without_its_password(stack: AirflowStack) -> None:
    with pytest.raises(AirflowError, match="database cannot be reached") as caught:
        airflow._alembic_version(stack.database_url)
    assert "p%40ss" not in str(caught.value)
    assert "p@ss" not in str(caught.value)


def test_a_component_that_ends_early_is_named_with_its_last_words(
    stack: AirflowStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow, "_BOOT", "raise SystemExit('no such port')")
    with stack._launched(attached=False) as launch:
        launch._write_files()
        launch._spawn("api-server")
        with pytest.raises(AirflowError, match=r"api-server ended with code 1: no such port — see .*api-server\.log"):
            launch._await(lambda: False, "api-server")


def test_a_broken_dag_file_is_named(stack: AirflowStack) -> None:
    class Client:
        def import_errors(self) -> list[str]:
            return ["intake.py: NameError: name 'nothing' is not defined"]

    with pytest.raises(AirflowError, match=r"intake\.py: NameError"):
        launch_of(stack)._knows_all_dags(Client())  # type: ignore[arg-type]


def test_a_running_stack_is_not_started_twice(stack: AirflowStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow, "_BOOT", "import time; time.sleep(600)")
    with stack._launched(attached=False) as launch:
        launch._write_files()
        launch._spawn("scheduler")
    with pytest.raises(AirflowError, match="running here already"):
        stack.start()
    assert stop_stack(stack.folder) is True
    launch.reap()


@pytest.mark.chaos
def test_stop_ends_stubborn_processes_in_groups_of_their_own(
    stack: AirflowStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow, "_BOOT", STUBBORN)
    with stack._launched(attached=False) as launch:
        launch._write_files()
        launch._spawn("scheduler")
    session = launch.state.sessions["scheduler"]
    assert await_true(lambda: len(airflow._members([session])) == 2)
    assert stop_stack(stack.folder, seconds=0.4) is True
    assert airflow._members([session]) == []
    assert not is_running(stack.folder)
    launch.reap()


@pytest.mark.chaos
def test_a_killed_parent_leaves_nothing_running(home: Path) -> None:
    folder = home.resolve() / "airflow"
    env = {**os.environ, "PYTHONPATH": str(airflow.PROJECT_ROOT)}
    program = [sys.executable, "-c", GUARDED, str(home)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=env, text=True) as parent:
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == "up\n"
            assert is_running(folder)
            parent.send_signal(signal.SIGKILL)
            assert await_true(lambda: not is_running(folder))
        finally:
            parent.kill()
            with contextlib.suppress(AirflowError):
                stop_stack(folder, seconds=1.0)


def test_termination_unwinds() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, airflow._termination_unwinds():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
