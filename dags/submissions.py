"""Takes in what one bank delivered for one dataset and month."""

from __future__ import annotations

from _shared import DEFAULTS, DELIVERED, NOW_PARAM, PERIOD_PARAM, announce, now, report, settings
from airflow.sdk import Param, dag, get_current_context, task

DOC = """
### submissions: land, read, check and answer deliveries
一家银行、一个数据集、一个月份的报送：落地、读取、校验、回执；月份齐备时发出评级请求。

Triggered by `intake`. Rejected rows and files are an *outcome*, not a failure: the run is green and the receipt says
what was wrong. A red run means that we could not do our work.

**Clear or re-run?** Clear `take_in`: a delivery has one final outcome, taking it in again gives the same.
"""


@dag(
    schedule=None,
    default_args=DEFAULTS,
    params={
        "supplier": Param("", type="string", description="bank code"),
        "dataset": Param("", type="string", description="loans, loan_flows, …"),
        "period": PERIOD_PARAM,
        "delivery_ids": Param([], type="array", items={"type": "string"}, description="what the ledger calls them"),
        "now": NOW_PARAM,
    },
    tags=["intake", "banks"],
    doc_md=DOC,
)
def submissions() -> None:
    @task(outlets=[DELIVERED])
    def take_in() -> list[list[str]]:
        """The outcome of each delivery."""
        from etl import pipeline

        wanted = get_current_context()["params"]["delivery_ids"]
        taken = [pipeline.take_in(settings(), delivery_id, now=now()) for delivery_id in wanted]
        return report(taken)

    take_in() >> announce()


submissions()
