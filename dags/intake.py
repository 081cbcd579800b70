"""Looks for files, claims each once, and hands it on."""

from __future__ import annotations

from typing import Any

from _shared import DEFAULTS, DELIVERED, NOW_PARAM, TIMEZONE, batches, now, settings, tell
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronTriggerTimetable, dag, task

DOC = """
### intake: claim what banks have dropped
每分钟扫描各银行投递目录，认领文件，每家银行、每个数据集、每个月份交给一次 `submissions` 运行。

A file is claimed in the ledger exactly once, whoever looks: two runs at the same time share the files between them.

**Clear or re-run?** Either is harmless. What was claimed but not handed on is found by `housekeeping`.
"""


@dag(
    schedule=CronTriggerTimetable("* * * * *", timezone=TIMEZONE),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"now": NOW_PARAM},
    tags=["intake", "banks"],
    doc_md=DOC,
)
def intake() -> None:
    @task(outlets=[DELIVERED])
    def scan() -> list[dict[str, Any]]:
        """Claim settled files; the ids of the deliveries, by supplier, dataset and month."""
        from etl import pipeline

        claimed = pipeline.scan(settings(), now=now())
        tell("arrived", claimed)
        return batches(claimed)

    TriggerDagRunOperator.partial(
        task_id="hand_on", trigger_dag_id="submissions", logical_date=None, skip_when_already_exists=True
    ).expand_kwargs(scan())


intake()
