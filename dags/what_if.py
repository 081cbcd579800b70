"""Tries a candidate policy on a graded month."""

from __future__ import annotations

from _shared import DEFAULTS, NOW_PARAM, PERIOD_PARAM, now, period, settings
from airflow.sdk import Param, dag, get_current_context, task

DOC = """
### what_if: a candidate policy on a month's own inputs
用某月已评级的同一批数据试算候选评定办法：变动矩阵、原因、名单增减、漂移与门槛；不发布任何内容。

Triggered by hand with the path of a policy file and a month. The report is kept in `ledger.reports` and as a page below
`reports/` of the home; `creditvillage release approve <hash>` approves exactly it. A gate that would hold the release is an
outcome, not a failure.

**Clear or re-run?** Either is harmless: the same file on the same inputs is the same report.
"""


@dag(
    schedule=None,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={
        "policy": Param(type="string", minLength=1, description="path of the candidate policy file"),
        "period": PERIOD_PARAM,
        "now": NOW_PARAM,
    },
    tags=["grades", "policy"],
    doc_md=DOC,
)
def what_if() -> None:
    @task
    def try_policy() -> list[str]:
        """Hash and verdict of the report."""
        from pathlib import Path

        from etl import pipeline

        policy = Path(get_current_context()["params"]["policy"])
        report = pipeline.what_if(settings(), policy, period(), now=now(), pages=settings().reports)
        return [report.report_hash, report.verdict]

    try_policy()


what_if()
