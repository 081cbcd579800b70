"""The periodic sweep: whatever was lost between two steps is asked for again."""

from __future__ import annotations

from typing import Any

from _shared import DEFAULTS, DELIVERED, NOW_PARAM, TIMEZONE, alert, announce, batches, now, report, settings
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronTriggerTimetable, dag, task

DOC = """
### housekeeping: the sweep
每十五分钟巡检：已齐备而未评级的月份重新发出请求；已认领而未处理的报送重新交接；到期未到的报送告警一次并沿用上期，更新各行报送日历。

Completeness is in our ledger, so an asset event that was lost or deleted, or a hand-over that never happened, costs a
quarter of an hour and nothing else. A due date that is missed is told once (log `creditvillage.alerts`, table
`ledger.alerts`) and what is missing is carried forward; a file that comes after all takes its place. A delivery whose
`submissions` run *failed* or died is tried again here, ever more seldom; after the fifth attempt it expires, with a
receipt, as does a file that lay incomplete for three days.

**Clear or re-run?** Either is harmless.
"""


@dag(
    schedule=CronTriggerTimetable("*/15 * * * *", timezone=TIMEZONE),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"now": NOW_PARAM},
    tags=["housekeeping"],
    doc_md=DOC,
)
def housekeeping() -> None:
    @task
    def look_for_stuck() -> list[dict[str, Any]]:
        """Deliveries that were claimed long ago and have no outcome, and town logs that came after their monthly run."""
        from etl import pipeline

        late = pipeline.collect_late(settings(), now=now())
        return batches([*late, *pipeline.stuck(settings(), now=now())])

    TriggerDagRunOperator.partial(
        task_id="hand_on_again", trigger_dag_id="submissions", logical_date=None, skip_when_already_exists=True
    ).expand_kwargs(look_for_stuck())

    @task(outlets=[DELIVERED])
    def bring_to_an_end() -> list[list[str]]:
        """The deliveries that were stuck and have their outcome now."""
        from etl import pipeline

        return report(pipeline.watchdog(settings(), now=now()))

    @task
    def watch_deadlines() -> None:
        """Tell of missed due dates, once each; months that do without a delivery may be complete now."""
        from etl import pipeline

        alert(pipeline.watch_deadlines(settings(), now=now()))

    bring_to_an_end() >> watch_deadlines() >> announce(again=True)


housekeeping()
