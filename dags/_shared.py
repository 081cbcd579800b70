"""What all DAGs share: assets, the period of a run, the time a run is for, and what happens when a task fails.

Nothing is read, connected or computed while a DAG is parsed: the pipeline is imported inside the tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import (
    Asset,
    AssetAlias,
    Context,
    Param,
    RetryDecision,
    RetryPolicy,
    StartOfMonthMapper,
    Variable,
    get_current_context,
    task,
)
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from etl.ledger.records import Delivery
    from etl.settings import Settings

OWNER = "creditvillage"
TIMEZONE = "Asia/Shanghai"
PERIOD_FORMAT = "%Y-%m"
CLOCK = "creditvillage_now"

MONTH_READY = Asset("month_ready", uri="creditvillage://month_ready")
GRADED = Asset("graded", uri="creditvillage://graded")
RELEASED = Asset("released", uri="creditvillage://released")
# Each bank and source has an asset of its own; which, is known when a task has taken something in.
DELIVERED = AssetAlias("delivered")

MONTHLY = StartOfMonthMapper(input_format=PERIOD_FORMAT, output_format=PERIOD_FORMAT, timezone=TIMEZONE)
PERIOD_FORM = r"^\d{4}-\d{2}$"
PERIOD_PARAM = Param(None, type=["null", "string"], pattern=PERIOD_FORM, description="month, if no partition key")
NOW_PARAM = Param(None, type=["null", "string"], format="date-time", description="time to go by, if not the run's")


def report_failure(context: Context) -> None:
    """One line for whoever watches the log. The error's own text stays in the task's log."""
    run, instance = context["dag_run"], context["ti"]
    logging.getLogger("creditvillage.alerts").error(
        "%s failed in %s (%s): %s", instance.task_id, run.dag_id, run.run_id, type(context.get("exception")).__name__
    )


def alert(breaches: Iterable[object]) -> None:
    """One line each for whoever watches the log."""
    for breach in breaches:
        logging.getLogger("creditvillage.alerts").warning("%s", breach)


class RetryConnections(RetryPolicy):  # type: ignore[misc]
    """A connection may come back; what is wrong with data, configuration or code stays wrong.

    Errors are known by name, not imported: nothing is loaded while a DAG is parsed.
    """

    RETRIED = frozenset(
        {
            "builtins.ConnectionError",
            "builtins.TimeoutError",
            "sqlalchemy.exc.OperationalError",
            "sqlalchemy.exc.InterfaceError",
            "psycopg.OperationalError",
            "etl.intake.database.SourceUnavailableError",
        }
    )

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(exception).__mro__}
        return RetryDecision.retry() if kinds & self.RETRIED else RetryDecision.fail()


DEFAULTS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_policy": RetryConnections(),
    "on_failure_callback": report_failure,
}


def settings() -> Settings:
    """Where things are, read when a task runs."""
    from etl.settings import Settings

    return Settings.from_environment()


def period() -> str:
    """The month a run is for, `YYYY-MM`: its partition key, else its parameter `period`; ValueError if neither."""
    context = get_current_context()
    chosen = context["dag_run"].partition_key or context["params"].get("period")
    if not chosen:
        raise ValueError("the run has no period — trigger it with a partition key or the parameter `period`")
    return str(chosen)


def now() -> datetime:
    """The time a run goes by: its parameter `now`, else the simulated clock (Variable), else when it is due."""
    context = get_current_context()
    given = context["params"].get("now") or Variable.get(CLOCK, default=None)
    return datetime.fromisoformat(given) if given else context["dag_run"].run_after


def tell(what: str, deliveries: Iterable[Delivery]) -> None:
    """Fill the asset of each supplier's dataset, for lineage; no DAG is scheduled on them.

    Airflow 3.3 fails the second of two tasks that fill a new asset at the same moment. Therefore assets of banks are
    first filled by `intake`, which runs one at a time, and only then by the submissions it hands on.
    """
    events = get_current_context()["outlet_events"][DELIVERED]
    for each in deliveries:
        name = f"{each.supplier}/{each.dataset}"
        extra = {"what": what, "delivery_id": each.delivery_id, "period": each.period}
        events.add(Asset(name, uri=f"creditvillage://deliveries/{name}"), extra=extra)


def report(deliveries: Sequence[Delivery]) -> list[list[str]]:
    """Tell of what came into force; (delivery id, outcome) of all, which is all that leaves the ledger."""
    tell("in force", [each for each in deliveries if each.in_force])
    return [[each.delivery_id, str(each.outcome)] for each in deliveries]


def batches(deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
    """What to trigger `submissions` with: one run for each supplier, dataset and month, named after its deliveries.

    The same deliveries give the same run id, so handing them on twice starts one run.
    """
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for each in deliveries:
        grouped.setdefault((each.supplier, each.dataset, each.period), []).append(each.delivery_id)
    return [_batch(*key, sorted(ids)) for key, ids in grouped.items()]


def _batch(supplier: str, dataset: str, period: str, delivery_ids: list[str]) -> dict[str, Any]:
    conf = {"supplier": supplier, "dataset": dataset, "period": period, "delivery_ids": delivery_ids}
    run_id = delivery_ids[0] + (f"+{len(delivery_ids) - 1}-{delivery_ids[-1][-3:]}" if len(delivery_ids) > 1 else "")
    return {"trigger_run_id": run_id, "conf": conf}


def emit(asset: Asset, periods: Sequence[str], *, otherwise: str) -> None:
    """Ask for these months; with none, skip the task.

    A task of a keyed run that merely succeeds emits the run's own key on its outlet: only skipping emits nothing.
    """
    if not periods:
        raise AirflowSkipException(otherwise)
    get_current_context()["outlet_events"][asset].add_partitions([str(each) for each in periods])


@task(outlets=[MONTH_READY])
def announce(again: bool = False) -> None:
    """Ask the ledger which months are complete and differ from what was graded; ask for their grades.

    An emission is a request, not a count: one too many is harmless. Inputs that were asked for before are left out,
    unless `again`: the sweep makes up for a request that got lost.
    """
    from etl import pipeline

    periods = pipeline.ready_periods(settings(), now=now(), again=again)
    emit(MONTH_READY, periods, otherwise="no month is ready that is not graded or asked for")
