"""The field guide of one bank: what to send, how, by when, and what is checked; one page and one workbook for each feed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from etl.contract.casts import shift_of, source_codes
from etl.contract.model import Column, Rule
from etl.contract.predicates import active_rules
from etl.deliveries import Subject
from etl.findings import WRONG_FIELD_COUNT, WRONG_FIELD_COUNT_SAYS
from etl.intake.calendar import DueDate, WorkCalendar
from etl.period import Period
from etl.registry import Bilingual, County, Supplier
from etl.reports import page
from etl.reports.layouts import delivered_names, workbook_bytes
from etl.reports.samples import Broken

ACTIONS: Final = {"reject_file": "整份退回 file refused", "reject_row": "拒收该行 row refused", "warn": "提示 warning"}
FAMILIES: Final = {"syntax": "格式", "validity": "有效性", "quality": "质量", "macro": "整体"}
_FORMATS: Final = {
    "delimited": "分隔文本 delimited text",
    "fixed_width": "定长文本 fixed-width text",
    "workbook": "XLSX 工作簿 workbook",
    "json_lines": "JSON Lines",
}
_PACKAGES: Final = {
    "pboc": "zip：同名 .dat 与五行 .log（文件名、MD5、字节数、时间、记录数）",
    "flag": "数据文件写完后，再放同名加 .ok 的空文件",
    "sidecar": "数据文件旁放同名加 .sha256 的校验文件",
    "bare": "单个文件；写完后不再改动",
}
_TYPES: Final = {"text": "文本 text", "date": "日期 date", "boolean": "是/否 yes/no"}
_UNITS: Final = {
    "10k_yuan": "万元 10,000 yuan",
    "fraction": "小数 fraction",
    "yuan": "元 yuan",
    "percent": "百分数 percent",
}
_PERIOD: Final = re.compile(r"\{period:([^{}]+)\}")
_MAX_DECIMALS: Final = 8
_TEMPLATE_ROWS: Final = 1000


def delivery_rules(subject: Subject) -> list[Rule]:
    """Rules a bank's own bytes are judged by on this layout: in force, not counted silently."""
    month = subject.context.period_start
    macro = [rule for rule in subject.contract.macro_rules if rule.applies_in(month)]
    rules = [*active_rules(subject.contract, subject.layout, subject.context), *macro]
    return [rule for rule in rules if rule.is_told]


def coded_columns(subject: Subject) -> dict[str, dict[str, str]]:
    """Canonical column -> code as delivered -> canonical value, of the coded columns this layout delivers."""
    columns = [
        subject.contract.columns[name] for name in subject.layout.canonical if name not in subject.layout.defaults
    ]
    return {
        column.name: source_codes(column, subject.layout, subject.codes)
        for column in columns
        if column.codes is not None
    }


def code_rows(subject: Subject, column: str) -> Iterator[tuple[str, str, str, str]]:
    """Code as delivered, canonical value, Chinese, English."""
    labels = subject.codes.values(str(subject.contract.columns[column].codes))
    for code, value in coded_columns(subject)[column].items():
        yield code, value, labels[value]["zh"], labels[value]["en"]


# -- the page ---------------------------------------------------------------------------------------------------------


def guide_page(
    bank: Supplier,
    county: County,
    calendar: WorkCalendar,
    due: Mapping[Period, DueDate],
    feeds: Sequence[tuple[Subject, str, Sequence[Broken] | None]],
) -> str:
    """The whole guide; each feed with its example file name and what its bad sample breaks (None: no samples)."""
    datasets = [subject.delivery.dataset for subject, _, _ in feeds]
    links = "".join(f'<li><a href="#{name}">{page.html(name)}</a></li>' for name in datasets)
    parts = [
        page.Markup(
            f"<h1>{page.html(bank.name.zh)} 报送说明 <small>{page.html(bank.name.en)}: delivery guide</small></h1>"
        ),
        page.paragraph(
            f"{county.name.zh}信用村数据报送约定，由县里的规则与本行配置自动生成。",
            "Generated from the county's rules and this bank's configuration.",
        ),
        page.Markup(f'<nav><ul>{links}<li><a href="#due">报送日期 due dates</a></li></ul></nav>'),
        page.facts(_bank_facts(bank, county)),
    ]
    for subject, name, broken in feeds:
        parts += _feed_parts(subject, name, broken)
    parts += [*_due_parts(calendar, due), *_sending_parts(bank, county)]
    return page.page(f"{bank.name.zh} 报送说明", parts)


def _bank_facts(bank: Supplier, county: County) -> list[tuple[str, object]]:
    return [
        ("银行代码 bank", page.code(bank.code)),
        ("金融机构代码 institution", page.code("、".join(bank.institution_codes))),
        ("每期截止 due", f"次月第 {bank.due.workday} 个工作日 {bank.due.time}（{county.timezone}）"),
        ("可更正月份 open months", f"本期及之前共 {bank.open_periods} 期 periods"),
        ("每日上限 daily limits", f"{bank.limits.files_per_day} 份 files，{bank.limits.bytes_per_day:,} 字节 bytes"),
        ("回执编码 receipt encoding", page.code(bank.receipt_encoding)),
        ("联系 contact", f"{county.contact.zh} {county.contact.phone}"),
    ]


def _feed_parts(subject: Subject, name: str, broken: Sequence[Broken] | None) -> Iterator[page.Markup]:
    contract, dataset = subject.contract, subject.delivery.dataset
    yield page.heading(2, f"{dataset}：{contract.says.zh}", contract.says.en, dataset)
    yield page.facts(_layout_facts(subject, name))
    yield page.heading(3, "字段", "columns, in the order of the file")
    header = ["序号", "报送字段名", "标准名", "含义", "类型与单位", "必填", "代码表", "规则"]
    yield page.table(header, _field_rows(subject))
    for column in coded_columns(subject):
        label = contract.columns[column].label
        yield page.heading(3, f"代码：{label.zh}", f"codes of {label.en}", f"{dataset}.{column}")
        listed = [[page.code(code), zh, en, page.code(value)] for code, value, zh, en in code_rows(subject, column)]
        yield page.table(["报送代码 code", "中文", "English", "标准值 value"], listed)
    yield page.heading(3, "校验规则", "rules")
    yield page.table(["规则", "类别", "处理", "字段", "说明", "改法", "依据"], _rule_rows(subject))
    yield page.heading(3, "样例", "samples")
    yield from _sample_parts(subject, broken)


def _layout_facts(subject: Subject, name: str) -> Iterator[tuple[str, object]]:
    feed, layout = subject.feed, subject.layout
    yield "文件名规则 pattern", page.code(spelled(_PERIOD.sub(r"\1", str(feed.files))))
    yield f"例如 {subject.delivery.period}", page.code(name)
    yield "格式 format", _FORMATS.get(layout.format, layout.format)
    yield "包装 package", _PACKAGES.get(feed.package, feed.package)
    if layout.format != "workbook":
        yield "编码 encoding", page.code(layout.encoding)
    if layout.format == "delimited":
        yield "分隔符 delimiter", page.code(layout.delimiter)
        yield "引号 quote", "不使用 none" if layout.quote == "none" else page.code(layout.quote)
    if layout.format == "workbook":
        yield "工作表 sheet", page.code(layout.sheet or "")
        yield "表头行 header row", layout.header_row
    yield "表头 header", "有 yes" if layout.header else "无 no（按下表顺序 in the order below）"
    example = subject.context.period_end.strftime(layout.dates)
    yield "日期写法 dates", page.Markup(f"{page.code(spelled(layout.dates))}，例如 e.g. {page.code(example)}")
    yield "空值写法 nulls", page.Markup("、".join(page.code(mark) if mark else "空" for mark in layout.nulls))
    if layout.ignore:
        yield "不使用的字段 ignored", "、".join(layout.ignore)
    if layout.defaults:
        yield "本行统一取值 fixed", "、".join(f"{column}={value}" for column, value in layout.defaults.items())
    yield "行数 rows", _row_limits(subject)
    yield (
        "拒收行占比上限 refused rows",
        f"{feed.accept.max_rejected_share:.0%}，超过则整份退回 above it the file is refused",
    )
    yield "规则集 ruleset", page.code(subject.ruleset)


def spelled(form: str) -> str:
    """A form of dates as people write it: YYYYMMDD."""
    return form.replace("%Y", "YYYY").replace("%m", "MM").replace("%d", "DD")


def _row_limits(subject: Subject) -> str:
    rows = subject.feed.accept.rows
    above = f"，超过 {rows.warn_above:,} 行提示 a warning above" if rows.warn_above is not None else ""
    return f"至少 at least {rows.min:,}{above}"


def _field_rows(subject: Subject) -> Iterator[list[object]]:
    rules = delivery_rules(subject)
    for place, (name, canonical) in enumerate(delivered_names(subject.layout), start=1):
        if canonical is None:
            yield [place, name, "", page.both("不使用", "ignored"), "", "", "", ""]
            continue
        column = subject.contract.columns[canonical]
        ids = " ".join(rule.id for rule in rules if canonical in rule.columns)
        yield [
            place,
            name,
            page.code(canonical),
            _meaning(column),
            type_text(subject, column),
            "是" if column.required else "",
            page.link(f"#{subject.delivery.dataset}.{canonical}", column.codes) if column.codes else "",
            ids,
        ]


def _meaning(column: Column) -> page.Markup:
    texts = [text for text in (column.label, column.says) if text]
    return page.both("：".join(text.zh for text in texts), ": ".join(text.en for text in texts))


def type_text(subject: Subject, column: Column) -> str:
    """The type of a column as delivered, with its unit."""
    if column.codes is not None:
        return "代码 code"
    if column.decimal is not None:
        said = subject.layout.units.get(column.name) or column.unit or ""
        unit = _UNITS.get(said, said)
        kept = min(column.decimal[1] + shift_of(column, subject.layout), _MAX_DECIMALS)
        return f"数字 number，小数至多 {kept} 位 decimals {unit}".strip()
    return _TYPES.get(column.type, "整数 whole number")


def _rule_rows(subject: Subject) -> Iterator[list[object]]:
    sources = {to: name for name, to in delivered_names(subject.layout) if to}
    for rule in delivery_rules(subject):
        yield [
            page.code(rule.id),
            FAMILIES[rule.family],
            ACTIONS[rule.action],
            "、".join(sources.get(name, name) for name in rule.columns),
            page.both(rule.says.zh, rule.says.en),
            page.both(rule.fix.zh, rule.fix.en),
            rule.clause,
        ]


def _sample_parts(subject: Subject, broken: Sequence[Broken] | None) -> Iterator[page.Markup]:
    dataset = subject.delivery.dataset
    if broken is None:
        yield page.paragraph("该格式没有样例文件。", "There are no sample files for this format.")
        return
    yield page.paragraph(
        f"samples/{dataset}/good 没有问题；samples/{dataset}/bad 的下列各行各违反一条规则，应收到的回执见同目录 expected_receipt。",
        "The good file breaks no rule; each row below of the bad one breaks the rule beside it, and expected_receipt says what comes back.",
    )
    says = {rule.id: rule.says for rule in subject.contract.rules}
    says[WRONG_FIELD_COUNT] = Bilingual(**WRONG_FIELD_COUNT_SAYS)
    yield page.table(
        ["行 row", "规则 rule", "说明"],
        [[one.row, page.code(one.rule), page.both(says[one.rule].zh, says[one.rule].en)] for one in broken],
    )


def _due_parts(calendar: WorkCalendar, due: Mapping[Period, DueDate]) -> Iterator[page.Markup]:
    yield page.heading(2, "报送日期", "due dates", "due")
    rows = [[str(period), _due_text(period, one)] for period, one in due.items()]
    yield page.table(["月份 period", "截止 due"], rows)
    known = "；".join(f"{year} {source}" for year, source in calendar.sources.items())
    yield page.paragraph(
        f"工作日历：{known or '未注明来源'}（版本 {calendar.version}）", "the working days these dates are counted in"
    )


def _due_text(period: Period, one: DueDate) -> str:
    if one.at is None:
        return f"未知：工作日历未收录 {period.next().year} 年 unknown"
    return f"{one.at:%Y-%m-%d %H:%M}"


def _sending_parts(bank: Supplier, county: County) -> Iterator[page.Markup]:
    yield page.heading(2, "自查与回执", "pre-check and receipts")
    yield page.paragraph(
        "报送前可离线自查，规则与受理时相同：", "Check a file before it is sent; the rules are those of intake:"
    )
    yield page.Markup(
        "<p>"
        + page.code(f"CREDITVILLAGE_CONFIG=precheck/config creditvillage precheck 文件 --bank {bank.code}")
        + "</p>"
    )
    yield page.paragraph(
        f"每份报送都有回执：outbox/{bank.code}/<月份>/；最新一份见 latest.txt，截止日期见 calendar.txt。"
        "回执中的规则集与本说明相同，即表示按本说明校验。",
        "Every file gets a receipt; a receipt that quotes the rule set above was made by the rules of this guide.",
    )
    yield page.Markup(f"<footer>{page.html(county.contact.zh)} {page.html(county.contact.phone)}</footer>")


# -- the template -----------------------------------------------------------------------------------------------------


def template_workbook(subject: Subject, above: Sequence[str] = ()) -> bytes:
    """An XLSX to fill in: the header as agreed, every cell text, choices where a code is asked for.

    `above` are lines for the rows over the header, as far as the layout leaves room; the sheet's name stands in the others.
    """
    layout, book = subject.layout, Workbook()
    sheet, lists = book.active, book.create_sheet("代码")
    sheet.title = layout.sheet or subject.delivery.dataset
    top = layout.header_row if layout.format == "workbook" else 1
    for row in range(top - 1):
        sheet.append([above[row] if row < len(above) else sheet.title])
    columns = delivered_names(layout)
    sheet.append([name for name, _ in columns])
    _style_header(sheet, top, [to for _, to in columns], subject)
    _format_as_text(sheet, top, len(columns))
    for place, (column, mapping) in enumerate(coded_columns(subject).items(), start=1):
        _write_list(lists, place, column, list(mapping))
        at = [to for _, to in columns].index(column) + 1
        _add_choice(sheet, top, at, place, len(mapping))
    _fill_explanation(book.create_sheet("字段说明"), subject)
    return workbook_bytes(book)


def _style_header(sheet: Any, top: int, canonical: Sequence[str | None], subject: Subject) -> None:
    sheet.freeze_panes = sheet.cell(top + 1, 1)
    for place, name in enumerate(canonical, start=1):
        cell = sheet.cell(top, place)
        required = name is not None and subject.contract.columns[name].required
        cell.font = Font(bold=True, color="9C0006" if required else "1B1F24")
        cell.fill = PatternFill("solid", start_color="F2F5F8" if name else "D9DEE5")
        cell.alignment = Alignment(wrap_text=True, vertical="top")
        sheet.column_dimensions[get_column_letter(place)].width = 18


def _format_as_text(sheet: Any, top: int, width: int) -> None:
    """Text cells keep long numbers, leading zeros and dates as they are typed."""
    for row in sheet.iter_rows(min_row=top + 1, max_row=top + _TEMPLATE_ROWS, max_col=width):
        for cell in row:
            cell.number_format = "@"


def _write_list(lists: Any, place: int, column: str, codes: Sequence[str]) -> None:
    lists.cell(1, place, column).font = Font(bold=True)
    for row, code in enumerate(codes, start=2):
        lists.cell(row, place, code).number_format = "@"


def _add_choice(sheet: Any, top: int, at: int, place: int, count: int) -> None:
    letter, source = get_column_letter(at), get_column_letter(place)
    choice = DataValidation(type="list", formula1=f"'代码'!${source}$2:${source}${count + 1}", allow_blank=True)
    choice.error, choice.errorTitle, choice.showErrorMessage = "请从代码表中选择", "不在代码表中", True
    sheet.add_data_validation(choice)
    choice.add(f"{letter}{top + 1}:{letter}{top + _TEMPLATE_ROWS}")


def _fill_explanation(sheet: Any, subject: Subject) -> None:
    sheet.append(["报送字段名", "标准名", "含义", "meaning", "类型与单位", "必填"])
    for name, canonical in delivered_names(subject.layout):
        if canonical is None:
            sheet.append([name, None, "不使用", "ignored", None, None])
            continue
        column = subject.contract.columns[canonical]
        required = "是" if column.required else None
        sheet.append([name, canonical, column.label.zh, column.label.en, type_text(subject, column), required])
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    for letter, width in zip("ABCDEF", (22, 22, 28, 34, 30, 6), strict=True):
        sheet.column_dimensions[letter].width = width
