"""The launcher with a real Airflow: who may talk to it, and what a second shell can do."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from etl.local.airflow import AirflowClient, AirflowError, _State, connect, is_running
from tests.dags.conftest import Orchestra

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.slow]


def answer(url: str) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nobody_is_answered_without_a_password(orchestra: Orchestra) -> None:
    base = orchestra.client.base
    assert answer(f"{base}/api/v2/dags") == 401
    assert answer(f"{base}/auth/token") in {401, 403, 405}  # all-admins mode would hand out a token
    stranger = AirflowClient(int(base.rpartition(":")[2]), "guess", orchestra.stack.logs)
    with pytest.raises(AirflowError, match="401"):
        stranger.dags()


def test_another_shell_finds_the_running_stack(orchestra: Orchestra) -> None:
    assert is_running(orchestra.stack.folder)
    other = connect(orchestra.stack.folder)
    assert other is not None
    assert other.is_healthy()
    assert other.dags() == orchestra.client.dags()


def test_a_second_start_is_refused(orchestra: Orchestra) -> None:
    with pytest.raises(AirflowError, match="running here already"):
        orchestra.stack.start()
    assert is_running(orchestra.stack.folder)


def test_the_stack_is_tied_to_this_process(orchestra: Orchestra) -> None:
    state = _State.read(orchestra.stack.folder)
    assert set(state.sessions) == {"api-server", "scheduler", "dag-processor"}
    assert state.attached_to is not None
    assert not state.is_abandoned


def test_triggering_twice_under_one_id_starts_one_run(orchestra: Orchestra) -> None:
    ids = [orchestra.client.trigger("housekeeping", run_id="twice") for _ in range(2)]
    assert ids == ["twice", "twice"]
    assert [run.run_id for run in orchestra.client.runs("housekeeping")].count("twice") == 1


def test_an_unknown_dag_is_named(orchestra: Orchestra) -> None:
    with pytest.raises(AirflowError, match="404"):
        orchestra.client.trigger("no_such_dag")
