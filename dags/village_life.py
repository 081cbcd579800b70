"""Collects what villages and enterprises tell only when there is something to tell."""

from __future__ import annotations

from _shared import (
    DEFAULTS,
    DELIVERED,
    NOW_PARAM,
    PERIOD_FORMAT,
    PERIOD_PARAM,
    TIMEZONE,
    announce,
    now,
    period,
    report,
    settings,
)
from airflow.sdk import CronPartitionTimetable, dag, task

DOC = """
### village_life: ballots, lists and whatever else comes now and then
每月收集不定期报送的来源（评议票、正负面清单等）；没有报送的月份沿用已接收的状态。

Every source of files whose feeds are all `occasional` is collected; a new one needs nothing here. On the tenth of the
month for the month before (`run_offset=-1`). By hand: trigger with a partition key such as `2024-03`.

**Clear or re-run?** Either: only files that nobody claimed yet are taken in. `housekeeping` hands on what comes later.
"""


@dag(
    schedule=CronPartitionTimetable("0 2 10 * *", timezone=TIMEZONE, run_offset=-1, key_format=PERIOD_FORMAT),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"period": PERIOD_PARAM, "now": NOW_PARAM},
    tags=["intake", "villages"],
    doc_md=DOC,
)
def village_life() -> None:
    @task(outlets=[DELIVERED])
    def collect() -> list[list[str]]:
        """The outcome of each delivery that came."""
        from etl import pipeline

        return report(pipeline.collect_occasional(settings(), period(), now=now()))

    collect() >> announce()


village_life()
