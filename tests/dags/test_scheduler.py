"""The DAGs under a real scheduler: no month is lost, nothing is done twice, and what was lost is healed."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from etl.local.airflow import AirflowError, connect
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


def test_every_file_was_imported(orchestra: Orchestra) -> None:
    assert orchestra.client.import_errors() == []
    assert {file.stem for file in orchestra.stack.dags.glob("[!_]*.py")} == orchestra.client.dags()


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
    orchestra.client.unpause("credit_grades", is_paused=True)
    orchestra.run("submissions", conf=submission("2023-01", ids))
    with psycopg.connect(orchestra.stack.database_url.replace("+psycopg", "")) as metadata:
        metadata.execute("DELETE FROM partitioned_asset_key_log WHERE source_partition_key = '2023-01'")
        metadata.execute("DELETE FROM asset_partition_dag_run WHERE partition_key = '2023-01'")
        deleted = metadata.execute("DELETE FROM asset_event WHERE partition_key = '2023-01'").rowcount
    orchestra.client.unpause("credit_grades")
    assert deleted == 1
    assert calls(orchestra, "grade", "2023") == []
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
