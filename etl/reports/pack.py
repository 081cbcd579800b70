"""The contract pack of one bank: everything its IT needs to send good files, made from the configuration alone.

The same configuration and month give the same bytes. The rule set a pack quotes is the one receipts quote.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from etl import deliveries
from etl.contract.model import Contract
from etl.deliveries import Subject
from etl.findings import WRONG_FIELD_COUNT
from etl.intake.calendar import load_calendar
from etl.intake.receipt import csv_bytes
from etl.period import Period
from etl.registry import Supplier, overlay_file, overlay_files, read_yaml
from etl.reports.guide import code_rows, coded_columns, delivery_rules, guide_page, template_workbook
from etl.reports.layouts import as_sent, can_write, example_name
from etl.reports.precheck import Prechecked, precheck, unsent
from etl.reports.samples import Broken, Samples, make_samples
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

MONTHS_AHEAD: Final = 12
Files = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class FeedPack:
    """One feed of the pack; `name` is its example file name, `samples` None where none can be made."""

    subject: Subject
    name: str
    samples: Samples | None

    @property
    def has_torn_line(self) -> bool:
        return self.subject.layout.format == "delimited"

    @property
    def broken(self) -> Sequence[Broken] | None:
        """What each row of the bad sample breaks; the torn line comes last."""
        if self.samples is None:
            return None
        torn = [Broken(len(self.samples.bad) + 1, WRONG_FIELD_COUNT)] if self.has_torn_line else []
        return [*self.samples.broken, *torn]


def write_pack(ws: Workspace, bank: str, period: Period, out: Path) -> list[Path]:
    """Write the pack of a bank for files of one month into a new or empty folder; returns the files.

    Raises ConfigurationError for an unknown bank, a month without layout, or a folder that holds something.
    """
    if bank not in ws.registry.banks:
        mend = f"use one of {', '.join(sorted(ws.registry.banks))}"
        raise ConfigurationError("pack", bank, "no such bank", mend)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError("--out", str(out), "the folder is not empty", "name a new folder")
    feeds = [_feed_pack(ws, bank, dataset, period) for dataset in ws.registry.banks[bank].feeds]
    files = dict(_all_files(ws, ws.registry.banks[bank], period, feeds))
    files["pack.json"] = _manifest(bank, period, feeds, files)
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [out / name for name in sorted(files)]


def _feed_pack(ws: Workspace, bank: str, dataset: str, period: Period) -> FeedPack:
    feed = ws.registry.feed(bank, dataset)
    try:
        name = example_name(feed, feed.layout_for(period, str(feed.files)), period, bank)
        subject = deliveries.subject_of(ws, unsent(bank, dataset, str(period), name))
    except LookupError:
        mend = f"choose a month from {min(layout.from_ for layout in feed.layouts)} on"
        raise ConfigurationError("--period", str(period), f"no layout of {bank}.{dataset} is in force", mend) from None
    samples = make_samples(subject) if can_write(feed, subject.layout) else None
    return FeedPack(subject, name, samples)


def _all_files(ws: Workspace, bank: Supplier, period: Period, feeds: Sequence[FeedPack]) -> Files:
    calendar, zone = load_calendar(ws.settings.config), ws.registry.county.timezone
    months = [period.shift(ahead) for ahead in range(MONTHS_AHEAD)]
    due = {month: calendar.due(month, bank.due, zone) for month in months}
    described = [(feed.subject, feed.name, feed.broken) for feed in feeds]
    page = guide_page(bank, ws.registry.county, calendar, due, described)
    yield "guide.html", page.encode()
    yield (
        "due_dates.csv",
        _csv(
            bank.receipt_encoding,
            ["月份 period", "截止 due", "状态 state"],
            [[str(month), one.at.isoformat() if one.at else "", one.state] for month, one in due.items()],
        ),
    )
    for feed in feeds:
        yield from _feed_files(ws, bank, feed)
    yield from _precheck_files(ws, bank, feeds)


def _feed_files(ws: Workspace, bank: Supplier, feed: FeedPack) -> Files:
    subject, encoding = feed.subject, bank.receipt_encoding
    dataset = subject.delivery.dataset
    yield f"templates/{dataset}.xlsx", template_workbook(subject)
    yield f"rules/{dataset}.csv", _csv(encoding, _RULE_HEADER, _rules(subject))
    for column in coded_columns(subject):
        rows = [list(row) for row in code_rows(subject, column)]
        yield (
            f"codes/{dataset}.{column}.csv",
            _csv(encoding, ["报送代码 code", "标准值 value", "中文", "English"], rows),
        )
    if feed.samples is not None:
        yield from _sample_files(ws, bank, feed, feed.samples)


_RULE_HEADER: Final = [
    "规则 rule",
    "类别 family",
    "处理 action",
    "字段 columns",
    "说明",
    "says",
    "改法",
    "fix",
    "依据 clause",
]


def _rules(subject: Subject) -> list[list[str]]:
    return [
        [
            rule.id,
            rule.family,
            rule.action,
            " ".join(rule.columns),
            rule.says.zh,
            rule.says.en,
            rule.fix.zh,
            rule.fix.en,
            rule.clause or "",
        ]
        for rule in delivery_rules(subject)
    ]


def _sample_files(ws: Workspace, bank: Supplier, feed: FeedPack, samples: Samples) -> Files:
    subject, name = feed.subject, feed.name
    folder = f"samples/{subject.delivery.dataset}"
    good = as_sent(subject.feed, subject.layout, samples.good, name)
    bad = as_sent(subject.feed, subject.layout, samples.bad, name, with_torn_line=feed.has_torn_line)
    for kind, files in (("good", good), ("bad", bad)):
        for file, content in files.items():
            yield f"{folder}/{kind}/{file}", content
    answer = _prechecked(ws, bank.code, bad, name)
    text = json.dumps(answer.document(), ensure_ascii=False, indent=1, default=str)
    yield f"{folder}/bad/expected_receipt.json", text.encode()
    yield f"{folder}/bad/expected_receipt.csv", csv_bytes(answer.findings, bank.receipt_encoding)
    made = [[str(one.row), one.rule] for one in feed.broken or ()]
    yield f"{folder}/bad/broken.csv", _csv(bank.receipt_encoding, ["行 row", "规则 rule"], made)


def _prechecked(ws: Workspace, bank: str, files: dict[str, bytes], name: str) -> Prechecked:
    """What the bad sample's receipt will say."""
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            (Path(folder) / file).write_bytes(content)
        return precheck(ws, Path(folder) / name, bank)


def _precheck_files(ws: Workspace, bank: Supplier, feeds: Sequence[FeedPack]) -> Files:
    """What a pre-check on the bank's own machine needs: the county's public facts, this bank, its contracts."""
    config = ws.settings.config
    wanted = ["county.yml", "places.csv", "calendar.csv", f"banks/{bank.code}.yml"]
    for name in wanted:
        yield f"precheck/config/{name}", overlay_file(config, name).read_bytes()
    contracts = [feed.subject.contract for feed in feeds]
    lists = {column.codes for contract in contracts for column in contract.columns.values()}
    for path in overlay_files(config, "codes/*.yml"):
        if lists & set(read_yaml(path)):
            yield f"precheck/config/codes/{path.name}", path.read_bytes()
    for contract in contracts:
        yield f"precheck/expectations/{contract.path.name}", _told(contract)
    yield "precheck/expectations/fields.yml", _fields(contracts)


def _told(contract: Contract) -> bytes:
    """A contract without the rules its supplier does not hear of, and without what a release must satisfy."""
    told = {rule.id for rule in contract.rules if rule.is_told}
    content = read_yaml(contract.path)
    rules = [rule for rule in content.get("rules", []) if rule["id"] in told]
    return _json({name: value for name, value in content.items() if name != "references"} | {"rules": rules})


def _json(content: Mapping[str, Any]) -> bytes:
    """JSON, which is YAML too."""
    return json.dumps(content, ensure_ascii=False, indent=1, default=str).encode()


def _fields(contracts: Sequence[Contract]) -> bytes:
    """The fields of some contracts in one file."""
    fields = {
        name: contract.fields[name].model_dump(mode="json", exclude_none=True)
        for contract in contracts
        for name in (*contract.columns, *(column.name for column in contract.published))
    }
    return _json(fields)


def _csv(encoding: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return held.getvalue().encode(encoding, "replace")


def _manifest(bank: str, period: Period, feeds: Sequence[FeedPack], files: dict[str, bytes]) -> bytes:
    content: dict[str, Any] = {
        "bank": bank,
        "period": str(period),
        "rulesets": {feed.subject.delivery.dataset: feed.subject.ruleset for feed in feeds},
        "not_in_bad_sample": {
            feed.subject.delivery.dataset: list(feed.samples.unattained) for feed in feeds if feed.samples
        },
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode()
