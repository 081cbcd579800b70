"""The launcher and the DAGs with a real Airflow: who may talk to it, and that no month is lost.

One Airflow for the whole file: tests use months of their own, so that they do not depend on each other.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import timedelta

import psycopg
import pytest

from etl.local.airflow import AirflowClient, AirflowError, _State, connect, is_running
from tests.dags.conftest import CLOCK, Orchestra
from tests.dags.stand_in import BANKS

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.slow]


def deliver(orchestra: Orchestra, period: str, banks: int, outcome: str | None, minutes_ago: int = 0) -> list[str]:
    """Deliveries of so many banks in the stand-in's ledger; their ids."""
    seen_at = CLOCK - timedelta(minutes=minutes_ago)
    rows = [(f"bank{n}-loans-{period}", f"bank{n}", "loans", period, outcome, seen_at) for n in range(banks)]
    with orchestra.tables.cursor() as cursor:
        cursor.executemany("INSERT INTO deliveries VALUES (%s, %s, %s, %s, %s, %s)", rows)
    return [row[0] for row in rows]


def submission(period: str, delivery_ids: list[str]) -> dict[str, object]:
    return {"supplier": "several", "dataset": "loans", "period": period, "delivery_ids": delivery_ids}


def calls(orchestra: Orchestra, verb: str, year: str) -> list[str]:
    query = "SELECT period FROM calls WHERE verb = %s AND period LIKE %s ORDER BY period"
    return [period for (period,) in orchestra.rows(query, verb, f"{year}-%")]


def answer(url: str) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_every_file_was_imported(orchestra: Orchestra) -> None:
    assert orchestra.client.import_errors() == []
    assert {file.stem for file in orchestra.stack.dags.glob("[!_]*.py")} == orchestra.client.dags()


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
    assert [orchestra.run("housekeeping", run_id="twice") for _ in range(2)] == ["twice", "twice"]
    assert [run.run_id for run in orchestra.client.runs("housekeeping")].count("twice") == 1


def test_an_unknown_dag_is_named(orchestra: Orchestra) -> None:
    with pytest.raises(AirflowError, match="404"):
        orchestra.client.trigger("no_such_dag")


def test_what_intake_claims_is_taken_in_once(orchestra: Orchestra) -> None:
    months = ["2022-01", "2022-02"]
    arrivals = [(f"bank{n}-loans-{month}-0001", f"bank{n}", "loans", month) for n in range(4) for month in months]
    with orchestra.tables.cursor() as cursor:
        cursor.executemany("INSERT INTO arrivals VALUES (%s, %s, %s, %s)", arrivals)
    runs = [orchestra.client.trigger("intake") for _ in range(2)]
    orchestra.client.wait_for_runs("intake", runs, timeout_seconds=60)
    run_ids = [delivery_id for delivery_id, *_ in arrivals]
    orchestra.client.wait_for_runs("submissions", run_ids, timeout_seconds=60)
    assert calls(orchestra, "take_in", "2022") == sorted(months * 4)


def test_a_deleted_event_is_healed_by_the_sweep(orchestra: Orchestra) -> None:
    ids = deliver(orchestra, "2023-01", BANKS, None)
    for dag_id in ("credit_grades", "housekeeping"):
        orchestra.client.unpause(dag_id, is_paused=True)
    orchestra.run("submissions", conf=submission("2023-01", ids))
    with psycopg.connect(orchestra.stack.database_url.replace("+psycopg", "")) as metadata:
        metadata.execute("DELETE FROM partitioned_asset_key_log WHERE source_partition_key = '2023-01'")
        metadata.execute("DELETE FROM asset_partition_dag_run WHERE partition_key = '2023-01'")
        deleted = metadata.execute("DELETE FROM asset_event WHERE partition_key = '2023-01'").rowcount
    orchestra.client.unpause("credit_grades")
    assert deleted >= 1
    assert calls(orchestra, "grade", "2023") == []
    orchestra.client.unpause("housekeeping")
    orchestra.run("housekeeping")
    orchestra.await_released(["2023-01"])


def test_a_lost_hand_over_is_made_up_for(orchestra: Orchestra) -> None:
    [lost] = deliver(orchestra, "2023-02", 1, None, minutes_ago=20)
    orchestra.run("housekeeping")
    orchestra.client.wait_for_runs("submissions", [lost], timeout_seconds=30)
    assert calls(orchestra, "take_in", "2023").count("2023-02") == 1


def test_sources_are_pulled_for_the_month_of_the_run(orchestra: Orchestra) -> None:
    deliver(orchestra, "2023-03", BANKS - 1, "accepted")
    orchestra.run("household_records", partition_key="2023-03")
    orchestra.await_released(["2023-03"])
    orchestra.run("mediation_logs", conf={"period": "2023-04"})
    assert calls(orchestra, "pull government", "2023") == ["2023-03"]
    assert calls(orchestra, "pull mediation", "2023") == ["2023-04"]


def test_a_keyed_run_that_makes_no_month_ready_asks_for_no_grades(orchestra: Orchestra) -> None:
    run_id = orchestra.run("household_records", partition_key="2023-05")
    [announce] = [task for task in orchestra.client.tasks("household_records", run_id) if task.task_id == "announce"]
    assert announce.state == "skipped"
    assert orchestra.client.runs("credit_grades", partition_key="2023-05") == []


def test_each_supplier_has_an_asset_for_lineage(orchestra: Orchestra) -> None:
    orchestra.run("household_records", partition_key="2023-06")
    with psycopg.connect(orchestra.stack.database_url.replace("+psycopg", "")) as metadata:
        query = (
            "SELECT e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE a.name = 'government/households'"
        )
        told = [extra for (extra,) in metadata.execute(query).fetchall()]
    assert {"what": "in force", "delivery_id": "government-2023-06", "period": "2023-06"} in told


def test_tasks_go_by_the_simulated_clock(orchestra: Orchestra) -> None:
    orchestra.run("mediation_logs", partition_key="2023-07")
    assert orchestra.rows("SELECT now FROM calls WHERE period = '2023-07'") == [(CLOCK,)]


def test_wrong_data_fails_at_once_and_the_message_says_where(orchestra: Orchestra) -> None:
    with pytest.raises(
        AirflowError, match=r"submissions unknown: task take_in failed — see .*attempt=1\.log"
    ) as caught:
        orchestra.run("submissions", run_id="unknown", conf=submission("2023-08", ["no-such-delivery"]))
    [failed] = orchestra.client.tasks("submissions", "unknown", states=("failed",))
    assert failed.try_number == 1
    assert "the ledger knows no such delivery" in failed.log.read_text(encoding="utf-8")
    assert str(failed.log) in str(caught.value)
    assert failed in orchestra.client.failures()
    later = connect(orchestra.stack.folder)
    assert later is not None
    assert later.failures() == []
    assert failed in later.failures(ever=True)


def test_twelve_months_of_eight_concurrent_emissions_are_all_graded(orchestra: Orchestra) -> None:
    """Last in this file: the superfluous requests it makes are still being answered when it ends."""
    months = [f"2021-{month:02d}" for month in range(1, 13)]
    ids = {month: deliver(orchestra, month, BANKS, None) for month in months}
    runs = [
        orchestra.client.trigger("submissions", conf=submission("2021-01", [ids[month][bank] for month in months]))
        for bank in range(BANKS)
    ]
    orchestra.await_released(months)
    orchestra.client.wait_for_runs("submissions", runs, timeout_seconds=30)
    assert set(calls(orchestra, "grade", "2021")) == set(months)
    assert set(calls(orchestra, "publish", "2021")) == set(months)
    assert sorted(calls(orchestra, "take_in", "2021")) == sorted(months * BANKS)
