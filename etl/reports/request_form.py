"""The villages' one-page form, blank: what to write where, choices for coded cells, and how to send it."""

from __future__ import annotations

from collections.abc import Iterator

from etl.deliveries import subject_of
from etl.ledger.cases import ANSWER_WITHIN
from etl.period import Period
from etl.reports.guide import template_workbook
from etl.reports.layouts import example_name
from etl.reports.precheck import unsent
from etl.village_requests import DATASET
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace


def blank_form(ws: Workspace, period: Period) -> bytes:
    """The form of a month as XLSX; raises ConfigurationError for a month without layout."""
    feed = ws.registry.feed(DATASET, DATASET)
    try:
        name = example_name(feed, feed.layout_for(period, str(feed.files)), period, DATASET)
        subject = subject_of(ws, unsent(DATASET, DATASET, str(period), name))
    except LookupError:
        mend = f"choose a month from {min(layout.from_ for layout in feed.layouts)} on"
        raise ConfigurationError("--period", str(period), "no form is agreed for it", mend) from None
    return template_workbook(subject, above=list(_lines(ws, period, name)))


def _lines(ws: Workspace, period: Period, name: str) -> Iterator[str]:
    """What stands over the table: title, how to fill in, how to send."""
    county, village = ws.registry.county, next(iter(ws.registry.villages(period)))
    yield f"{county.name.zh}信用事项申请表（村级填报） Requests about credit grades, sent by villages"
    yield (
        f"填写：每行一项，红字列必填；申请编号为村代码-年份-序号，如 {village}-{period.year}-1；日期如 {period.end}；"
        "除“诉求与理由”外不写姓名、电话。 One request a row; red columns must be filled in."
    )
    yield (
        f"报送：另存为 {name}（文件名含当月），放入报送目录；回执见 outbox/{DATASET}。自收到之日起 {ANSWER_WITHIN.days} 日内答复。"
        f"联系 {county.contact.zh} {county.contact.phone} Save under that name and drop it; answered within that many days."
    )
