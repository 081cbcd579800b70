"""Pulls household records and consents of a month from the government database."""

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
### household_records: what changed in the household register
每月从政府农户信息库增量抽取农户、成员、授权数据，先落地为文件，再校验。

On the first of the month for the month before (`run_offset=-1`). By hand: trigger with a partition key such as
`2024-03`; many months: `airflow backfill create`. As there is no start date, a new DAG waits for its first tick.

**Clear or re-run?** Either: what was pulled for a month and accepted is kept; a pull that failed or was refused is done anew.
"""


@dag(
    schedule=CronPartitionTimetable("0 2 1 * *", timezone=TIMEZONE, run_offset=-1, key_format=PERIOD_FORMAT),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"period": PERIOD_PARAM, "now": NOW_PARAM},
    tags=["intake", "government"],
    doc_md=DOC,
)
def household_records() -> None:
    @task(outlets=[DELIVERED])
    def pull() -> list[list[str]]:
        """The outcome of each dataset's delivery."""
        from etl import pipeline

        taken = pipeline.pull(settings(), "government", period(), now=now())
        return report(taken)

    pull() >> announce()


household_records()
