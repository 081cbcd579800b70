"""All commands and their exit codes; what a command does stands in `etl.pipeline` and below."""

from __future__ import annotations

import getpass
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from etl.cli.tables import make_console
from etl.period import Period
from etl.settings import Settings
from etl.vocabulary import ConfigurationError, CreditVillageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="信用村数据管道：接收、校验、评级、发布。 Data pipeline of the credit-village programme.",
)
release_app = typer.Typer(
    no_args_is_help=True, help="已发布的数据版本。 Releases: list, show, diff, gates, approve, verify, rollback."
)
app.add_typer(release_app, name="release")
case_app = typer.Typer(
    no_args_is_help=True, help="异议、更正、修复、人工核定、退出。 Cases: objections, corrections, overrides …"
)
app.add_typer(case_app, name="case")
console = make_console()
errors = make_console(stderr=True)

UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[
    1
]  # typer's own base of wrong commands, options and values
PeriodOption = Annotated[str, typer.Option("--period", help="月份 YYYY-MM。 Month.")]
ByOption = Annotated[str, typer.Option("--by", help="经办账号。 Account that acts.")]
OnOption = Annotated[str | None, typer.Option("--on", help="发生日期 YYYY-MM-DD，默认今日。 Day; default: today.")]
DAY = "%Y-%m-%d"
JsonOption = Annotated[bool, typer.Option("--json", help="输出 JSON。 Print JSON instead of a table.")]


def main() -> None:
    """Run the command line and end the process with the agreed exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; every failure is one line on stderr and an exit code."""
    try:
        result = app(arguments, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as leave:
        return leave.exit_code
    except UsageError as error:
        errors.print(
            f"[red]用法有误[/] usage: {escape(error.format_message())} — see `creditvillage --help`", soft_wrap=True
        )
        return 2
    except (typer.Abort, KeyboardInterrupt):
        errors.print("已中断 interrupted")
        return 1
    except CreditVillageError as error:
        errors.print(f"[red]{_kind(error)}[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        return error.exit_code
    except Exception as error:
        if os.environ.get("CREDITVILLAGE_DEBUG"):
            raise
        place = f"{type(error).__name__}: {_first_line(error)}"
        errors.print(
            f"[red]内部错误 internal error[/] {escape(place)} — set CREDITVILLAGE_DEBUG=1 to see where", soft_wrap=True
        )
        return 3


def _kind(error: CreditVillageError) -> str:
    return "配置有误 configuration:" if isinstance(error, ConfigurationError) else "数据有误 data:"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _now() -> datetime:
    """The one place where the clock is read; every verb is handed this instant."""
    return datetime.now(UTC)


def _checked(period: str | None = None) -> Settings:
    """The settings, once everything configured for a month (the first one, if none is named) fits together."""
    from etl.workspace import Workspace

    ws = Workspace(Settings.from_environment())
    ws.require_configuration(Period.parse(period) if period else ws.registry.county.first_period)
    return ws.settings


def parse_period(text: str) -> str:
    """A checked month; raises a usage error that shows the form."""
    try:
        return str(Period.parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def demo(
    households: Annotated[int, typer.Option(min=200, help="农户数。 Number of households.")] = 20_000,
    seed: Annotated[int, typer.Option(help="模拟县的种子。 Seed of the synthetic county.")] = 341181,
) -> None:
    """全流程演示：合成数据经真实调度器处理并发布。 Two synthetic months through the real DAGs, then a summary."""
    from etl.cli.demo import run_demo

    run_demo(_checked(), households=households, seed=seed, console=console)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="输出文件夹。 Folder to write to.")],
    period: PeriodOption,
    households: Annotated[int, typer.Option(min=200)] = 20_000,
    seed: Annotated[int, typer.Option()] = 341181,
    profile: Annotated[str, typer.Option(help="county | province")] = "county",
) -> None:
    """生成合成县数据（含已知错误）。 Write a synthetic month with known truth and planted errors."""
    from simulator import simulate as write_world

    write_world(out, parse_period(period), households, seed, profile=profile)
    console.print(f"合成数据已写入 synthetic data written to {out}")


@app.command()
def intake(
    drop: Annotated[Path | None, typer.Option(help="另一个投递文件夹。 Another drop folder.")] = None,
    open_only: Annotated[
        bool, typer.Option("--open-only", help="不受理已关闭的月份。 Leave closed months where they are.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """扫描投递区并逐件受理、校验、回执。 Scan, claim, check and answer what lies in the drop zones."""
    from etl import pipeline
    from etl.cli import tables
    from etl.local.postgres import database
    from etl.workspace import Workspace

    with database(_checked()) as settings:
        Workspace(settings).ledger.migrate()
        pipeline.scan(settings, now=_now(), drop=drop, quiet_seconds=0.0, closed_too=not open_only)
        pipeline.collect_late(settings, now=_now())
        wanted = [delivery.delivery_id for delivery in pipeline.waiting(settings)]
        results = [pipeline.take_in(settings, delivery_id, now=_now()) for delivery_id in wanted]
    tables.print_deliveries(console, results, as_json=as_json)
    return tables.exit_code(results)


@app.command()
def precheck(
    files: Annotated[list[Path], typer.Argument(help="待报送的文件。 Files ready to be sent.")],
    bank: Annotated[str, typer.Option(help="银行代码。 Bank code.")],
    dataset: Annotated[str | None, typer.Option(help="数据集；默认由文件名判断。 Default: by the name.")] = None,
    period: Annotated[str | None, typer.Option(help="月份 YYYY-MM；默认由文件名判断。 Default: by the name.")] = None,
    form: Annotated[str, typer.Option("--format", help="table | json | csv")] = "table",
    html: Annotated[Path | None, typer.Option(help="另存为网页。 Write the findings as a page, too.")] = None,
    as_json: JsonOption = False,
) -> int:
    """报送前自查：同一套规则，离线，不保存。有发现时返回 1。 All findings of a file before it is sent; nothing is stored."""
    from etl.cli.precheck import precheck_files

    return precheck_files(
        Settings.from_environment(),
        files,
        bank,
        dataset=dataset,
        period=parse_period(period) if period else None,
        form="json" if as_json else form,
        html_path=html,
        console=console,
    )


@app.command()
def pack(
    bank: Annotated[str, typer.Argument(help="银行代码。 Bank code.")],
    out: Annotated[Path, typer.Option(help="输出文件夹（须为空）。 A new or empty folder.")],
    period: Annotated[
        str | None, typer.Option(help="样例所属月份，默认上月。 Month of the samples; default: the last.")
    ] = None,
) -> None:
    """生成一家银行的报送说明包：字段、模板、代码、规则、样例、日期。 The contract pack of one bank."""
    from etl.reports.pack import write_pack
    from etl.workspace import Workspace

    now = _now()
    month = Period.parse(parse_period(period)) if period else Period(now.year, now.month).previous()
    files = write_pack(Workspace(Settings.from_environment()), bank, month, out)
    console.print(f"{bank} {month}: {len(files)} 个文件已写入 files written to {out}")


@app.command("run")
def run_command(
    period: PeriodOption,
    dataset: Annotated[str | None, typer.Option(help="只受理该数据集。 Take in this dataset only.")] = None,
    bank: Annotated[str | None, typer.Option(help="只受理该银行。 Take in this bank only.")] = None,
    as_json: JsonOption = False,
) -> int:
    """不经 Airflow，在本进程内处理一个月。 All verbs for one month in this process."""
    from etl.cli.month import run_month
    from etl.local.postgres import database

    month = parse_period(period)
    with database(_checked(month)) as settings:
        return run_month(settings, month, dataset=dataset, bank=bank, now=_now(), console=console, as_json=as_json)


@app.command()
def explain(
    number: Annotated[
        str,
        typer.Argument(help="户号、村镇代码或主体编号。 Household number, place code, or another subject's own."),
    ],
    period: Annotated[
        str | None, typer.Option("--period", help="月份 YYYY-MM。 Month; with --as-of, by default the one valid then.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=[DAY], help="当日终了时所知。 As it was known at the end of this day."),
    ] = None,
    audience: Annotated[str, typer.Option("--for", help="subject | village | county | auditor")] = "subject",
    subject: Annotated[
        str | None,
        typer.Option(
            help="household | village | town | business | collective | merchant；默认按编号辨认村镇，否则为农户。 "
            "Default: places by their code, else households."
        ),
    ] = None,
    language: Annotated[str, typer.Option("--lang", help="zh | en | both")] = "both",
    html: Annotated[Path | None, typer.Option(help="另存为网页。 Write it as a page, too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """说明等级由来：每项得分与依据，怎样提升，如何异议。 Why a grade is what it is, and what would lift it."""
    from etl.cli.explain import explain_grade
    from etl.local.postgres import database

    month = parse_period(period) if period else None
    with database(_checked(month)) as settings:
        explain_grade(
            settings,
            number,
            month,
            as_of=as_of.date() if as_of else None,
            subject=subject,
            audience=audience,
            language=language,
            html_path=html,
            as_json=as_json,
            console=console,
        )


@app.command()
def carry(
    period: PeriodOption,
    supplier: Annotated[str, typer.Option(help="银行或乡镇代码。 Bank, source or town code.")],
    dataset: Annotated[str, typer.Option(help="loans, loan_flows, households, …")],
    reason: Annotated[str, typer.Option(help="原因，写入台账。 Why; kept in the ledger.")],
) -> None:
    """决定某月不再等待某份数据，沿用上期。 Decide that a month does without a delivery: its last state stays in force."""
    from etl import pipeline
    from etl.local.postgres import database

    month = parse_period(period)
    with database(_checked(month)) as settings:
        pipeline.carry_forward(settings, month, supplier, dataset, reason, now=_now())
    console.print(f"{month}: {supplier}/{dataset} 沿用上期 carried forward")


@app.command()
def requalify(
    rule: Annotated[
        str, typer.Option(help="规则、代码表或更正的编号。 Id of a rule, code list or correction that changed.")
    ],
    bank: Annotated[str | None, typer.Option(help="只处理该报送方。 This supplier only.")] = None,
    period: Annotated[str | None, typer.Option(help="只处理该月。 This month only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """规则变更后按现行规则重新检查已报文件，无需银行重报。 Examine landed deliveries again after a rule changed."""
    from etl.cli import rules
    from etl.local.postgres import database

    month = parse_period(period) if period else None
    with database(_checked(month)) as settings:
        rules.requalify(settings, rule, bank=bank, period=month, now=_now(), console=console, as_json=as_json)


@app.command()
def backtest(
    rule: Annotated[str, typer.Argument(help="规则编号。 Rule id, in force or not.")],
    periods: Annotated[str | None, typer.Option(help="月份范围 2024-01..2024-06。 Range of months.")] = None,
    as_json: JsonOption = False,
) -> None:
    """规则回测：在已接收的历史数据上试运行。 What a rule would have found in accepted history, by bank and month."""
    from etl.cli import rules
    from etl.local.postgres import database

    with database(_checked()) as settings:
        rules.backtest(settings, rule, periods=periods, console=console, as_json=as_json)


@app.command()
def corrections(as_json: JsonOption = False) -> int:
    """已知上游错误的更正情况；来源已修复时返回 1。 What corrections mended; exit 1 when the source of one has healed."""
    from etl.cli import rules
    from etl.local.postgres import database

    with database(_checked()) as settings:
        return rules.corrections(settings, console=console, as_json=as_json)


@app.command()
def across(
    period: PeriodOption,
    bank: Annotated[str | None, typer.Option(help="只检查该银行。 This bank only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """重新运行某月的跨文件规则。 Run the rules across files of a month again; kept in audit.findings."""
    from etl.cli import rules
    from etl.local.postgres import database

    month = parse_period(period)
    with database(_checked(month)) as settings:
        rules.cross_check(settings, month, bank=bank, console=console, as_json=as_json)


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="回执（四个文件之一）。 Any of the four files of a receipt.")],
    raw: Annotated[Path | None, typer.Option("--file", help="投递的原文件。 The file as it was dropped.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="县里公布的公钥。 The county's public key.")] = None,
) -> None:
    """离线核对回执签名、同组文件与原文件。 Check a receipt offline: signature, files beside it, raw file."""
    from etl.cli.verify import verify_one

    verify_one(receipt, raw, key, console)


@app.command()
def calendar(
    period: PeriodOption,
    enforce: Annotated[
        bool, typer.Option("--enforce", help="同巡检：告警、沿用上期、更新各行日历。 Do what the sweep does, too.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """报送日历：应报、提前、按时、逾期、未报。 What is due when, and how it stands; 1 when something is late or missing."""
    from etl import pipeline
    from etl.cli.calendar import show_calendar
    from etl.local.postgres import database

    month = parse_period(period)
    with database(_checked(month)) as settings:
        now = _now()
        if enforce:
            for alert in pipeline.watch_deadlines(settings, now=now):
                errors.print(escape(str(alert)), soft_wrap=True, highlight=False)
        return show_calendar(settings, month, now=now, console=console, as_json=as_json)


@app.command()
def grade(
    number: Annotated[
        str, typer.Argument(help="户号；其他对象为编号或村代码。 Household number, or another subject's.")
    ],
    on: Annotated[datetime | None, typer.Option(formats=[DAY], help="有效日期，默认今天。 Valid on this day.")] = None,
    known: Annotated[
        datetime | None, typer.Option(formats=[DAY], help="当时所知，默认现在。 As known at the end of this day.")
    ] = None,
    subject: Annotated[str, typer.Option(help="household | village | business | …")] = "household",
    history: Annotated[bool, typer.Option("--history", help="列出全部历史。 All that was ever known.")] = False,
    as_json: JsonOption = False,
) -> None:
    """查询某日有效、某时所知的等级。 The grade of anyone on a day, as it was known on another."""
    from etl.cli.grade import show_grade

    show_grade(
        Settings.from_environment(),
        number,
        subject=subject,
        valid_on=on.date() if on else None,
        known_on=known.date() if known else None,
        whole_history=history,
        now=_now(),
        console=console,
        as_json=as_json,
    )


@app.command()
def whatif(
    policy: Annotated[Path, typer.Argument(help="试算的办法文件。 Candidate policy file.")],
    period: PeriodOption,
    out: Annotated[Path | None, typer.Option(help="另存为网页。 Write the report as a page, too.")] = None,
    movers: Annotated[
        Path | None, typer.Option(help="另存变动户清单（CSV，仅令牌）。 Write who moves as CSV; keyed tokens only.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """办法试算：谁升谁降、为什么、哪些名单增减；不发布。 What a candidate policy would change; nothing is published."""
    from etl.cli.what_if import try_policy

    month = parse_period(period)
    return try_policy(
        _checked(month), policy, month, out=out, movers=movers, now=_now(), console=console, as_json=as_json
    )


@app.command()
def replay(
    release: Annotated[str, typer.Option("--release", help="发布编号。 Release id, see `release list`.")],
    as_json: JsonOption = False,
) -> int:
    """从落地原件按当时规则重算某次发布并比较，不发布。 Compute a past release again from landed bytes and compare."""
    from etl.cli.replay import replay_release

    return replay_release(Settings.from_environment(), release, console, as_json=as_json)


@app.command()
def forget(
    delivery: Annotated[str, typer.Argument(help="报送编号。 Delivery id.")],
    reason: Annotated[str, typer.Option(help="法律依据，留存备查。 The legal ground; it is kept.")],
) -> None:
    """依法删除：销毁一次报送的密钥，原件不可再读。 Delete by law: destroy a delivery's key; its bytes are gone for good."""
    from etl.cli.replay import forget_delivery

    forget_delivery(Settings.from_environment(), delivery, reason, _now(), console)


@app.command()
def up() -> None:
    """启动数据库与 Airflow 界面并保持运行。 Start the database and Airflow with its pages, and leave them running."""
    from etl.cli.stack import start_stack

    start_stack(_checked(), console)


@app.command()
def down() -> None:
    """停止 `up` 启动的一切。 Stop everything that `up` started."""
    from etl.cli.stack import stop_stack_and_database

    stop_stack_and_database(Settings.from_environment(), console)


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", help="第一个月。 First month.")],
    last: Annotated[str, typer.Option("--to", help="最后一个月。 Last month.")],
) -> None:
    """让运行中的 Airflow 重做若干月份。 Trigger the pulled sources of some months in the running Airflow."""
    from etl.cli.stack import trigger_months

    months = (Period.parse(parse_period(first)), Period.parse(parse_period(last)))
    trigger_months(Settings.from_environment(), *months, console)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sql(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="analyst | owner")] = "analyst",
) -> int:
    """打开仓库的 psql（可带 psql 参数）。 psql on the warehouse; further arguments go to psql."""
    from etl.cli.shell import open_psql

    if role.startswith("-"):
        context.args.insert(0, role)
        role = "analyst"
    return open_psql(Settings.from_environment(), role, context.args)


@app.command()
def doctor(as_json: JsonOption = False) -> int:
    """检查环境，缺什么、怎么补。 What this machine lacks, and the mend."""
    from etl.cli.doctor import diagnose

    return diagnose(Settings.from_environment(), console, as_json=as_json)


@release_app.command("list")
def release_list(as_json: JsonOption = False) -> None:
    """列出全部发布。 All releases, newest last."""
    from etl.cli import releases

    releases.show_all(Settings.from_environment(), console, as_json=as_json)


@release_app.command("show")
def release_show(release_id: str, as_json: JsonOption = False) -> None:
    """显示一次发布的内容。 Tables, rows and contents of one release."""
    from etl.cli import releases

    releases.show_one(Settings.from_environment(), release_id, console, as_json=as_json)


@release_app.command("diff")
def release_diff(older: str, newer: str, as_json: JsonOption = False) -> None:
    """比较两次发布。 What differs between two releases."""
    from etl.cli import releases

    releases.show_difference(Settings.from_environment(), older, newer, console, as_json=as_json)


@release_app.command("gates")
def release_gates(
    period: Annotated[str, typer.Argument(help="月份 YYYY-MM。 Month.")], as_json: JsonOption = False
) -> int:
    """某月发布前的门槛检查结果；被拦截时返回 1。 Gates of a graded month before its release; exit 1 if one holds it."""
    from etl.cli import releases

    return releases.show_gates(Settings.from_environment(), parse_period(period), console, as_json=as_json)


@release_app.command("approve")
def release_approve(
    what: Annotated[
        str, typer.Argument(help="月份或报告哈希。 Month whose release is held, or hash of a what-if report.")
    ],
    reason: Annotated[str, typer.Option(help="理由，写入台账。 Why; kept in the ledger.")],
    by: Annotated[
        str | None, typer.Option(help="批准人账号，默认当前用户。 Account; default: whoever runs this.")
    ] = None,
) -> None:
    """批准一份报告：被拦截的发布，或试算过的办法。 Approve exactly one report: a held release, or a policy tried out."""
    from etl.cli import releases

    releases.approve(Settings.from_environment(), what, by or getpass.getuser(), reason, _now(), console)


@release_app.command("verify")
def release_verify(release_id: Annotated[str | None, typer.Argument()] = None, as_json: JsonOption = False) -> int:
    """核对文件、仓库、Iceberg 三处一致。 Check that files, warehouse and Iceberg hold the same."""
    from etl.cli import releases

    return releases.verify_one(Settings.from_environment(), release_id, console, as_json=as_json)


@release_app.command("rollback")
def release_rollback(release_id: str) -> None:
    """回到较早的发布。 Make an older release current again."""
    from etl.cli import releases

    releases.roll_back(Settings.from_environment(), release_id, _now(), console)


@case_app.command("open")
def case_open(
    kind: Annotated[str, typer.Option(help="objection | correction | repair | override | opt_out")],
    household: Annotated[str, typer.Option(help="户号。 Household number.")],
    text: Annotated[str, typer.Option(help="事由，加密保存。 What is asked and why; kept encrypted.")],
    by: ByOption,
    on: OnOption = None,
    bank: Annotated[str | None, typer.Option(help="涉及的银行。 Bank whose rows it concerns.")] = None,
    concerns: Annotated[str | None, typer.Option(help="所涉指标或记录。 Indicator, or table:key.")] = None,
    grade: Annotated[str | None, typer.Option(help="人工核定的等级。 Overrides: the grade.")] = None,
    until: Annotated[str | None, typer.Option(help="人工核定的截止日。 Overrides: the last day.")] = None,
    period: Annotated[str | None, typer.Option(help="月份，默认最近一期。 Month; default: the last graded.")] = None,
) -> None:
    """受理一件事项。 Open a case for a household."""
    from etl.casework import Request
    from etl.cli import cases

    month = parse_period(period) if period else None
    request = Request(kind, household, text, bank=bank, concerns=concerns, grade=grade, period=month)
    cases.open_one(_checked(month), request, until=until, by=by, on=on, now=_now(), console=console)


@case_app.command("mark")
def case_mark(case: str, by: ByOption, on: OnOption = None) -> None:
    """标注异议（一日内）。 Note that what is disputed bears its mark, within a day."""
    from etl.cli import cases

    cases.take_step(_checked(), "mark", case, by=by, on=on, now=_now(), console=console)


@case_app.command("correct")
def case_correct(
    case: str,
    dataset: Annotated[str, typer.Option(help="households | loans | mediation | civility_ballots | credit_events")],
    key: Annotated[str, typer.Option(help="该行自己的编号（户号、借据号、案件编号…）。 The row's own number.")],
    column: Annotated[list[str], typer.Option(help="列，可重复。 Column; once for each.")],
    delivered: Annotated[list[str], typer.Option(help="来源现值，空值写 ''。 As delivered; '' for nothing.")],
    right: Annotated[list[str], typer.Option(help="应为，空值写 ''。 As it should be; '' for nothing.")],
    document: Annotated[str, typer.Option(help="依据文书编号。 Document it rests on.")],
    until: Annotated[str, typer.Option(help="适用截止日。 Last day on which it is applied.")],
    by: ByOption,
    on: OnOption = None,
    bank: Annotated[str | None, typer.Option(help="银行的行：银行代码。 Rows of a bank: its code.")] = None,
) -> None:
    """提出更正某行的值，由第二人核准（case answer）。 Name the cells of a row to be set right; a second person approves."""
    from datetime import date

    from etl.cli import cases
    from etl.proposing import Wanted

    wanted = Wanted(dataset, key, cases.cells(column, delivered, right), document, date.max, bank=bank)
    cases.correct(_checked(), case, wanted, until=until, by=by, on=on, now=_now(), console=console)


@case_app.command("repair")
def case_repair(
    case: str,
    event: Annotated[str, typer.Option(help="清单事项编号。 Number of the list item.")],
    document: Annotated[str, typer.Option(help="修复决定文书编号。 Document of the decision.")],
    by: ByOption,
    on: OnOption = None,
) -> None:
    """指明信用修复终止的清单事项；一票否决须第二人核准。 Name the list item a repair ends; a veto needs a second person."""
    from etl.cli import cases

    cases.repair(_checked(), case, event, document, by=by, on=on, now=_now(), console=console)


@case_app.command("corrections")
def case_corrections(as_json: JsonOption = False) -> int:
    """列出已核准的更正；来源已不同的返回 1。 All approved corrections; 1 when a source says otherwise now."""
    from etl.cli import cases

    return cases.show_corrections(_checked(), console=console, as_json=as_json)


@case_app.command("answer")
def case_answer(
    case: str,
    verdict: Annotated[str, typer.Option(help="upheld | refused")],
    text: Annotated[str, typer.Option(help="理由，写入通知。 Why; stands in the notice.")],
    by: ByOption,
    on: OnOption = None,
) -> None:
    """答复（二十日内）；人工核定、更正、否决项修复由第二人核准。 Answer within twenty days; or a second person's approval."""
    from etl.cli import cases

    cases.take_step(_checked(), "answer", case, verdict, text, by=by, on=on, now=_now(), console=console)


@case_app.command("close")
def case_close(case: str, by: ByOption, on: OnOption = None) -> None:
    """办结。 End a case: what it froze goes on, and its notice follows."""
    from etl.cli import cases

    cases.take_step(_checked(), "close", case, by=by, on=on, now=_now(), console=console)


@case_app.command("list")
def case_list(
    open_only: Annotated[bool, typer.Option("--open", help="只列未办结。 Open ones only.")] = False,
    on: OnOption = None,
    as_json: JsonOption = False,
) -> int:
    """列出事项与期限；有逾期未答复时返回 1。 All cases with their clocks; 1 when an answer is overdue."""
    from etl.cli import cases

    return cases.show_all(_checked(), open_only=open_only, on=on, now=_now(), console=console, as_json=as_json)


@case_app.command("form")
def case_form(
    out: Annotated[Path, typer.Option(help="新的 XLSX 文件。 A new XLSX file.")],
    period: Annotated[str | None, typer.Option(help="月份，默认本月。 Month; default: this one.")] = None,
) -> None:
    """生成村级信用事项申请表（空白）。 The blank form on which villages ask for cases."""
    from etl.cli import cases

    now = _now()
    month = Period.parse(parse_period(period)) if period else Period(now.year, now.month)
    cases.write_form(_checked(str(month)), out, month, console)


@case_app.command("review")
def case_review(period: PeriodOption, by: ByOption, on: OnOption = None) -> None:
    """记录某月等级已复核。 Record that a month's grades were looked through."""
    from etl.cli import cases

    cases.note_grades(_checked(), parse_period(period), "reviewed", by=by, on=on, now=_now(), console=console)


@case_app.command("notice")
def case_notice(period: PeriodOption, by: ByOption, on: OnOption = None) -> None:
    """记录某月等级已公示，公示期由此起算。 Record that a month's grades were noticed; the notice runs from here."""
    from etl.cli import cases

    cases.note_grades(_checked(), parse_period(period), "noticed", by=by, on=on, now=_now(), console=console)
