"""`creditvillage up` and `down`: the local database and Airflow with its pages, kept running."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel

from etl.ledger.repository import Ledger
from etl.local.airflow import AirflowStack, connect, stop_stack
from etl.local.postgres import EmbeddedPostgres, database
from etl.period import Period
from etl.settings import Settings
from etl.vocabulary import ConfigurationError


def stack_of(settings: Settings, server: EmbeddedPostgres, *, with_pages: bool) -> AirflowStack:
    """The local Airflow whose tasks see these settings."""
    return AirflowStack(
        home=settings.home,
        database_url=server.url("airflow"),
        environment=settings.environment(),
        with_pages=with_pages,
    )


def start_stack(settings: Settings, console: Console) -> None:
    """Start both and leave them running; say where they are."""
    server = EmbeddedPostgres(settings.home)
    with console.status("启动数据库与 Airflow starting the database and Airflow") as status, server.held():
        server.keep_up()
        with database(settings) as found:
            Ledger(str(found.warehouse_url)).migrate()
            stack = stack_of(found, server, with_pages=True)
            client = stack.start(lambda text: status.update(f"Airflow: {text}"))
    lines = [
        f"Airflow      {client.base}   （用户 user: admin；密码 password: {stack.password_file}）",
        f"仓库 psql     CREDITVILLAGE_HOME={settings.home} creditvillage sql",
        f"投递区 drop   {settings.drop}/<bank>/",
        "停止 stop     make down",
    ]
    console.print(Panel("\n".join(lines), title="已启动 Running", title_align="left", expand=False))


def stop_stack_and_database(settings: Settings, console: Console) -> None:
    """Stop what `up` started; harmless when nothing runs."""
    with console.status("停止 stopping"):
        was_running = stop_stack(settings.airflow_home)
        server = EmbeddedPostgres(settings.home)
        if server.is_running():
            was_running = True
            server.stop()
    console.print("已停止 stopped" if was_running else "本来就没有运行 nothing was running")


def trigger_months(settings: Settings, first: Period, last: Period, console: Console) -> None:
    """Trigger the pulled sources for each month; what banks delivered is in the landing zone already.

    Raises ConfigurationError when no Airflow runs here.
    """
    client = connect(settings.airflow_home)
    if client is None:
        raise ConfigurationError(str(settings.airflow_home), "", "no Airflow is running", "start it with `make up`")
    for period in Period.range(first, last):
        for dag_id in ("household_records", "mediation_logs", "village_life"):
            console.print(f"{period} {dag_id}: {client.trigger(dag_id, partition_key=str(period))}")
