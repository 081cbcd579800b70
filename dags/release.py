"""Publishes a month that was graded."""

from __future__ import annotations

from _shared import DEFAULTS, GRADED, MONTHLY, NOW_PARAM, RELEASED, announce, emit, now, period, settings
from airflow.sdk import PartitionedAssetTimetable, dag, task

DOC = """
### release: stage, audit, publish at one stroke
审计通过后，Parquet、Iceberg 与数仓在同一事务内切换到新版本。

Scheduled by `graded`. All or nothing: readers see the old release or the new one. Afterwards it asks the ledger again,
because a month that was graded anew makes later months stale.

**Clear or re-run?** Either is harmless: what is published already is not published again.
"""


@dag(
    schedule=PartitionedAssetTimetable(assets=GRADED, default_partition_mapper=MONTHLY),
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"now": NOW_PARAM},
    tags=["grades", "publish"],
    doc_md=DOC,
)
def release() -> None:
    @task(outlets=[RELEASED])
    def publish() -> None:
        """One release, or none if the current one holds all this already."""
        from etl import pipeline

        published = pipeline.publish_period(settings(), period(), now=now())
        emit(RELEASED, [period()] if published else [], otherwise="nothing new to publish")

    publish() >> announce()


release()
