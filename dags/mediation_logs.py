"""Collects the mediation logs of a month from the towns."""

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
### mediation_logs: disputes registered, settled and kept
每月收集各乡镇调解台账（JSON Lines 或 XLSX），每个乡镇一份报送。

On the tenth of the month for the month before (`run_offset=-1`). By hand: trigger with a partition key such as
`2024-03`; many months: `airflow backfill create`.

**Clear or re-run?** Either: only files that nobody claimed yet are taken in. `housekeeping` hands on what comes later.
"""


@dag(
    schedule=CronPartitionTimetable("0 2 10 * *", timezone=TIMEZONE, run_offset=-1, key_format=PERIOD_FORMAT),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"period": PERIOD_PARAM, "now": NOW_PARAM},
    tags=["intake", "towns"],
    doc_md=DOC,
)
def mediation_logs() -> None:
    @task(outlets=[DELIVERED])
    def collect() -> list[list[str]]:
        """The outcome of each town's delivery."""
        from etl import pipeline

        taken = pipeline.collect_files(settings(), "mediation", period(), now=now())
        return report(taken)

    collect() >> announce()


mediation_logs()
