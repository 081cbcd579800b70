"""Grades a month that is ready."""

from __future__ import annotations

from _shared import DEFAULTS, GRADED, MONTH_READY, MONTHLY, NOW_PARAM, emit, now, period, settings
from airflow.sdk import PartitionedAssetTimetable, dag, task

DOC = """
### credit_grades: conform, link, compute indicators and grades
月份数据齐备后重新计算信用等级；输入没有变化时立即结束。

Scheduled by `month_ready`, whose key is the month. The key is a request: the fingerprint of the month's inputs decides
what is graded, so a run that finds nothing new is skipped, not failed.

**Clear or re-run?** Either is harmless.
"""


@dag(
    schedule=PartitionedAssetTimetable(assets=MONTH_READY, default_partition_mapper=MONTHLY),
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"now": NOW_PARAM},
    tags=["grades"],
    doc_md=DOC,
)
def credit_grades() -> None:
    @task(outlets=[GRADED])
    def grade() -> None:
        """Stage the month's tables and ask for their release, if there is anything to release."""
        from etl import pipeline

        grading = pipeline.grade_period(settings(), period(), now=now())
        emit(GRADED, [grading.period] if grading.staged else [], otherwise="nothing new to grade")

    grade()


credit_grades()
