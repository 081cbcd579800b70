"""One delivery's way: land the bytes, open them for reading, judge what was found. Every step may be run again.

How its rows are read, cast, checked and kept is told by `etl.examination`, how it is answered by `etl.answers`. What
leaves are accepted rows with tokens in place of identity, the tokens of rejected rows, and the quarantine with the raw
strings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.context import Context
from etl.contract.corrections import Correction
from etl.contract.model import Contract, ruleset_checksum
from etl.contract.predicates import keys_select, macro_select, unchecked_rules
from etl.engine.duck import LOOKUP_GROUP_ROWS, DuckEngine
from etl.findings import FILE_RULES, WRONG_FIELD_COUNT, FileFinding, unreadable
from etl.intake.delivery import land as land_bytes
from etl.intake.delivery import open_landed, remove_leftovers
from etl.intake.drops import Drops
from etl.intake.pulled import read_keys
from etl.intake.reader import Reading, open_delivery
from etl.intake.strings import Strings, strings_schema
from etl.ledger.records import Delivery
from etl.period import Period
from etl.registry import CodeLists, Feed, KnownException, Layout, Supplier
from etl.workspace import Workspace

_SIDECAR_BYTES = 4096


@dataclass(frozen=True)
class Subject:
    """A delivery with everything that says how to treat it."""

    delivery: Delivery
    feed: Feed
    layout: Layout
    contract: Contract
    context: Context
    codes: CodeLists
    ruleset: str
    corrections: Sequence[Correction] = ()


@dataclass(frozen=True)
class Verdict:
    """What checking a delivery came to; `counts_by_rule` are open findings, without shadow rules.

    `settled` are findings that do not count, {confirmed or known: {rule: findings}}; `told` the row findings with their
    `state`; `diff` what a revision changes. The three are filled by `etl.revisions`.
    """

    outcome: str
    rows_read: int = 0
    rows_rejected: int = 0
    counts_by_rule: Mapping[str, int] = field(default_factory=dict)
    shadow_counts: Mapping[str, int] = field(default_factory=dict)
    not_checked: Sequence[str] = ()
    file_findings: Sequence[FileFinding] = ()
    macro: Mapping[str, str] = field(default_factory=dict)
    findings: pa.Table | None = None
    corrected: pa.Table | None = None
    healed: Sequence[str] = ()
    settled: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    told: pa.Table | None = None
    diff: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_accepted(self) -> bool:
        return self.outcome in ("accepted", "accepted_with_warnings")

    @property
    def rows_accepted(self) -> int:
        return self.rows_read - self.rows_rejected if self.is_accepted else 0


def subject_of(ws: Workspace, delivery: Delivery, *, any_layout: bool = False) -> Subject:
    """How a delivery is to be treated under the configuration in force for its period.

    Raises LookupError when no layout is in force for it, unless `any_layout` will do (to answer without reading).
    """
    period = Period.parse(delivery.period)
    feed = ws.registry.feed(delivery.supplier, delivery.dataset)
    layout = feed.layouts[0] if any_layout else feed.layout_for(period, delivery.name)
    contract = ws.contract_of(delivery.dataset)
    context, codes = ws.context(delivery.supplier, period), ws.registry.codes.at(period)
    mends = [one for one in ws.corrections if one.is_for(delivery.supplier, delivery.dataset, period)]
    decides = [*(one.mark for one in mends), *_known_mark(known_exceptions(ws, delivery))]
    ruleset = _ruleset(contract, codes, feed, layout, context, decides)
    return Subject(delivery, feed, layout, contract, context, codes, ruleset, mends)


def known_exceptions(ws: Workspace, delivery: Delivery) -> dict[str, KnownException]:
    """What is agreed about a delivery's month, by rule; only banks have such agreements."""
    owner = ws.registry.owner(delivery.supplier, delivery.dataset)
    return owner.excepted(Period.parse(delivery.period)) if isinstance(owner, Supplier) else {}


def _known_mark(known: Mapping[str, KnownException]) -> list[str]:
    return [json.dumps(sorted(known))] if known else []


def no_layout(delivery: Delivery) -> Verdict:
    """The verdict over a file of a month for which nothing was agreed."""
    says = FILE_RULES["P109"]
    found = FileFinding("P109", delivery.name, says["zh"], says["en"], "请核对文件名中的月份，或先与县里约定格式")
    return Verdict(outcome="rejected", counts_by_rule={"P109": 1}, file_findings=[found])


def _ruleset(
    contract: Contract, codes: CodeLists, feed: Feed, layout: Layout, context: Context, decides: Sequence[str]
) -> str:
    """A mark of all that decides about a row: rules, code lists, layout, acceptance, the month's literals, and more."""
    parts = [
        ruleset_checksum(contract, codes),
        feed.accept.model_dump_json(),
        layout.model_dump_json(exclude={"from_"}),
        json.dumps([context.institution_codes, context.known_villages, context.id_prefixes], default=list),
        *decides,
    ]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()[:16]


def land(ws: Workspace, delivery: Delivery, *, now: datetime) -> Delivery:
    """Copy the supplier's bytes into the sealed landing zone, once."""
    if delivery.landed_path:
        return delivery
    if delivery.attempts > 1:
        remove_leftovers(ws.settings.landing, delivery.delivery_id)
    landed = land_bytes(
        delivery.address,
        delivery.parts,
        ws.settings.landing,
        ws.master_key_path,
        delivery_id=delivery.delivery_id,
        size_bytes=delivery.size_bytes,
        mtime_ns=delivery.mtime_ns,
        is_bundle=ws.registry.feed(delivery.supplier, delivery.dataset).has_loose_parts,
        owner=ws.registry.owner(delivery.supplier, delivery.dataset).code,
        drops=Drops(ws.settings.drop_access),
    )
    return ws.ledger.landed(
        delivery.delivery_id, landed.sha256, str(landed.path), landed.wrapped_key, landed.size_bytes, now=now
    )


@contextmanager
def reading(ws: Workspace, subject: Subject) -> Iterator[Reading]:
    """The landed delivery opened for reading, every cell as a string, with the findings of its package and lines."""
    delivery = subject.delivery
    where = (Path(str(delivery.landed_path)), bytes(delivery.wrapped_key or b""), ws.master_key_path)
    sidecar = None
    if subject.feed.package == "sidecar":
        with open_landed(*where, part=1) as beside:
            sidecar = beside.read(_SIDECAR_BYTES)
    with ExitStack() as stack:
        files = [stack.enter_context(open_landed(*where, part=part)) for part in range(len(_file_names(subject)))]
        reading = open_delivery(
            files[0],
            member_name(subject),
            subject.feed,
            subject.layout,
            delivery.delivery_id,
            sidecar=sidecar,
            sha256=delivery.sha256,
            keyring=keyring(ws),
            scratch=ws.spill if subject.feed.wrappings else None,
            others=list(zip(files[1:], _file_names(subject)[1:], strict=True)),
        )
        yield stack.enter_context(reading)


def _file_names(subject: Subject) -> list[str]:
    """The files that hold the delivery's rows: one, or the parts that came side by side."""
    beside = subject.delivery.parts if subject.feed.has_loose_parts else ()
    return [member_name(subject), *(address.rpartition("/")[2] for address in beside)]


def member_name(subject: Subject) -> str:
    """A pull is named after its dataset, a file as the supplier named it."""
    return subject.delivery.dataset if subject.layout.format == "database" else subject.delivery.name


def refused(subject: Subject, strings: Strings) -> Verdict:
    """The verdict over a file whose bytes or columns are not as agreed: no row of it is looked at."""
    found = list(strings.file_findings)
    return Verdict(
        outcome="unreadable" if unreadable(found) else "rejected",
        rows_read=strings.rows_read,
        rows_rejected=strings.rows_read,
        counts_by_rule=_counted(finding.rule for finding in found),
        not_checked=unchecked_rules(subject.contract, None, subject.context),
        file_findings=found,
    )


def _counted(rules: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rule in rules:
        counts[rule] = counts.get(rule, 0) + 1
    return counts


def judge(
    engine: DuckEngine,
    subject: Subject,
    strings: Strings,
    shadow_counts: Mapping[str, int],
    *,
    with_findings: bool = True,
) -> Verdict:
    """The verdict over a delivery whose `findings` are all found; those of shadow rules are only counted.

    `with_findings` says whether the verdict carries them along, one row each.
    """
    actions = {rule.id: rule.action for rule in subject.contract.row_rules}
    counts = dict(engine.fetch("SELECT rule, count(*) FROM findings GROUP BY rule ORDER BY rule"))
    rejecting = [rule for rule in counts if actions.get(rule, "reject_row") == "reject_row"]
    rejected = engine.fetch(
        "SELECT count(*) FROM (SELECT DISTINCT _member, _row FROM findings WHERE rule IN (SELECT unnest($rules)))",
        {"rules": rejecting},
    )[0][0]
    macro = engine.fetch(
        macro_select(
            subject.contract,
            subject.feed.accept,
            rows_read=strings.rows_read,
            rows_rejected=rejected,
            context=subject.context,
        )
    )
    is_refused = "reject_file" in [action for _, action in macro]
    if strings.rows_read == 0 and subject.feed.accept.empty == "refused" and not is_refused:
        return refused(subject, replace(strings, file_findings=[_no_rows(subject.delivery)]))
    too_many = _too_many_refused(subject, strings.rows_read, rejected)
    of_file = [*(rule for rule, _ in macro), *(finding.rule for finding in too_many)]
    shown = counts | dict.fromkeys(of_file, 1)
    return Verdict(
        outcome=_outcome(shown, [*(action for _, action in macro), *(one.action for one in too_many)]),
        rows_read=strings.rows_read,
        rows_rejected=rejected,
        counts_by_rule=shown,
        shadow_counts=shadow_counts,
        not_checked=unchecked_rules(subject.contract, subject.layout, subject.context),
        file_findings=too_many,
        macro=dict(macro),
        findings=_findings_table(engine, subject) if with_findings else None,
        **_mended(engine, subject, strings),
    )


def _too_many_refused(subject: Subject, rows_read: int, rows_rejected: int) -> list[FileFinding]:
    """P190 where the feed takes whole files only, or where no rule of the contract speaks of the share agreed."""
    accept = subject.feed.accept
    has_own_rule = any("max_rejected_share" in (rule.sql or "") for rule in subject.contract.macro_rules)
    if accept.partial == "file":
        is_too_many = rows_rejected > 0
    else:
        is_too_many = not has_own_rule and rows_rejected > rows_read * Decimal(str(accept.max_rejected_share))
    says, fix = FILE_RULES["P190"], "请按回执逐项更正后重报整份文件"
    return [FileFinding("P190", "", says["zh"], says["en"], fix, family="macro")] if is_too_many else []


def _no_rows(delivery: Delivery) -> FileFinding:
    """Why an empty file is refused where nothing else says so: a refusal without a reason is no answer."""
    says = FILE_RULES["P124"]
    return FileFinding(
        "P124", delivery.name, says["zh"], says["en"], "请核对导出条件；确无数据时先与县里约定可报空文件"
    )


def _mended(engine: DuckEngine, subject: Subject, strings: Strings) -> dict[str, Any]:
    """The rows that corrections changed, and the corrections that found nothing left to correct."""
    if not subject.corrections:
        return {}
    corrected = engine.arrow("SELECT _member, _row, rule FROM corrected ORDER BY ALL")
    used = set(pc.unique(corrected["rule"]).to_pylist())
    idle = [one.id for one in subject.corrections if one.id not in used]
    return {"corrected": corrected, "healed": idle if strings.rows_read else []}


def _outcome(shown: Mapping[str, int], macro_actions: Sequence[str]) -> str:
    if "reject_file" in macro_actions:
        return "rejected"
    return "accepted_with_warnings" if shown else "accepted"


def _findings_table(engine: DuckEngine, subject: Subject) -> pa.Table:
    """The row findings with what the audit says of each rule."""
    rules = {rule.id: rule for rule in subject.contract.row_rules}
    described = pa.table(
        {
            "rule": pa.array([*rules, WRONG_FIELD_COUNT], pa.string()),
            "family": pa.array([*(rule.family for rule in rules.values()), "syntax"], pa.string()),
            "action": pa.array([*(rule.action for rule in rules.values()), "reject_row"], pa.string()),
            "column_name": pa.array([*(rule.column for rule in rules.values()), None], pa.string()),
        }
    )
    engine.register_arrow("rules", described)
    return engine.con.sql(
        "SELECT f._member, f._row, f.rule, r.family, r.action, r.column_name "
        "FROM findings AS f LEFT JOIN rules AS r ON r.rule = f.rule ORDER BY 1, 2, 3"
    ).to_arrow_table()


def keep_keys(engine: DuckEngine, ws: Workspace, subject: Subject) -> None:
    """Write the tokens of all keys a pulled source still holds; a key that is missing was deleted there."""
    delivery, key = subject.delivery, str(subject.feed.key)
    with open_landed(
        Path(str(delivery.landed_path)), bytes(delivery.wrapped_key or b""), ws.master_key_path, part=1
    ) as file:
        engine.register_arrow("keys", read_keys(file))
    select = keys_select(subject.contract, key, subject.context, relation="keys")
    engine.write_parquet(select, path_of(ws, "keys", delivery), ws.token_key.params(), group_rows=LOOKUP_GROUP_ROWS)


def path_of(ws: Workspace, kind: str, delivery: Delivery) -> Path:
    """Where a delivery's accepted, rejected, keys or quarantine rows lie in the restricted zone."""
    return ws.settings.restricted / kind / delivery.dataset / delivery.supplier / f"{delivery.delivery_id}.parquet"


def no_strings(subject: Subject) -> Strings:
    """The strings of a delivery that nobody reads, such as a duplicate."""
    return Strings(strings_schema(subject.layout).empty_table(), 0, [], [])


def standing_before(ws: Workspace, delivery: Delivery) -> Delivery | None:
    """The delivery of the same supplier, dataset and month that is in force now."""
    in_force = ws.ledger.in_force(delivery.period, delivery.supplier)
    return next((one for one in in_force if one.dataset == delivery.dataset), None)


def keyring(ws: Workspace) -> Path:
    """The GnuPG home with the county's key, for packages that are encrypted to it."""
    return ws.settings.secrets / "gnupg"
