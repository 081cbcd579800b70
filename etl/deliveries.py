"""One delivery's way: land the bytes, open them for reading, judge what was found, answer. Every step may be run again.

How its rows are read, cast, checked and kept is told by `etl.examination`. What leaves are accepted rows with tokens in
place of identity, the tokens of rejected rows, and the quarantine with the raw strings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.context import Context
from etl.contract.corrections import CORRECTED, HEALED, Correction
from etl.contract.model import Contract, ruleset_checksum
from etl.contract.predicates import keys_select, macro_select, unchecked_rules
from etl.engine.duck import DuckEngine
from etl.findings import FILE_RULES, WRONG_FIELD_COUNT, FileFinding, unreadable
from etl.intake.database import read_keys
from etl.intake.delivery import land as land_bytes
from etl.intake.delivery import open_landed
from etl.intake.forensics import Case, diagnose
from etl.intake.reader import Reading, open_delivery
from etl.intake.receipt import Answer, Receipt, ReceiptRule, write_receipts
from etl.intake.strings import Strings, strings_schema
from etl.ledger.records import Delivery
from etl.period import Period
from etl.registry import Feed, Layout
from etl.workspace import Workspace

_SIDECAR_BYTES = 4096
_FACTS = ("type", "codes", "pattern")


@dataclass(frozen=True)
class Subject:
    """A delivery with everything that says how to treat it."""

    delivery: Delivery
    feed: Feed
    layout: Layout
    contract: Contract
    context: Context
    ruleset: str
    corrections: Sequence[Correction] = ()


@dataclass(frozen=True)
class Verdict:
    """What checking a delivery came to; `counts_by_rule` leaves shadow rules out."""

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
    context = ws.context(delivery.supplier, period)
    mends = [one for one in ws.corrections if one.is_for(delivery.supplier, delivery.dataset, period)]
    ruleset = _ruleset(ws, contract, feed, layout, context, mends)
    return Subject(delivery, feed, layout, contract, context, ruleset, mends)


def no_layout(delivery: Delivery) -> Verdict:
    """The verdict over a file of a month for which nothing was agreed."""
    says = FILE_RULES["P109"]
    found = FileFinding("P109", delivery.name, says["zh"], says["en"], "请核对文件名中的月份，或先与县里约定格式")
    return Verdict(outcome="rejected", counts_by_rule={"P109": 1}, file_findings=[found])


def _ruleset(
    ws: Workspace, contract: Contract, feed: Feed, layout: Layout, context: Context, mends: Sequence[Correction] = ()
) -> str:
    """A mark of all that decides about a row: rules, code lists, layout, acceptance, the month's literals, corrections."""
    parts = [
        ruleset_checksum(contract, ws.registry.codes),
        feed.accept.model_dump_json(),
        layout.model_dump_json(exclude={"from_"}),
        json.dumps([context.institution_codes, context.known_villages, context.id_prefixes], default=list),
        *(one.mark for one in mends),
    ]
    return hashlib.md5("\n".join(parts).encode(), usedforsecurity=False).hexdigest()[:16]


def land(ws: Workspace, delivery: Delivery, *, now: datetime) -> Delivery:
    """Copy the supplier's bytes into the sealed landing zone, once."""
    if delivery.landed_path:
        return delivery
    landed = land_bytes(
        delivery.address,
        delivery.parts,
        ws.settings.landing,
        ws.master_key_path,
        delivery_id=delivery.delivery_id,
        size_bytes=delivery.size_bytes,
        mtime_ns=delivery.mtime_ns,
    )
    ws.ledger.landed(
        delivery.delivery_id, landed.sha256, str(landed.path), landed.wrapped_key, landed.size_bytes, now=now
    )
    return ws.ledger.delivery(delivery.delivery_id)


@contextmanager
def reading(ws: Workspace, subject: Subject) -> Iterator[Reading]:
    """The landed delivery opened for reading, every cell as a string, with the findings of its package and lines."""
    delivery = subject.delivery
    where = (Path(str(delivery.landed_path)), bytes(delivery.wrapped_key or b""), ws.master_key_path)
    sidecar = None
    if subject.feed.package == "sidecar":
        with open_landed(*where, part=1) as beside:
            sidecar = beside.read(_SIDECAR_BYTES)
    with (
        open_landed(*where) as file,
        open_delivery(
            file,
            _member_name(subject),
            subject.feed,
            subject.layout,
            delivery.delivery_id,
            sidecar=sidecar,
            sha256=delivery.sha256,
            keyring=keyring(ws),
            scratch=ws.spill if subject.feed.wrappings else None,
        ) as opened,
    ):
        yield opened


def _member_name(subject: Subject) -> str:
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


def judge(engine: DuckEngine, subject: Subject, strings: Strings, shadow_counts: Mapping[str, int]) -> Verdict:
    """The verdict over a delivery whose `findings` are all found; those of shadow rules are only counted."""
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
    shown = counts | {rule: 1 for rule, _ in macro}
    return Verdict(
        outcome=_outcome(shown, [action for _, action in macro]),
        rows_read=strings.rows_read,
        rows_rejected=rejected,
        counts_by_rule=shown,
        shadow_counts=shadow_counts,
        not_checked=unchecked_rules(subject.contract, subject.layout, subject.context),
        macro=dict(macro),
        findings=_findings_table(engine, subject),
        **_mended(engine, subject, strings),
    )


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


def mended(subject: Subject, verdict: Verdict) -> dict[str, Any]:
    """What the ledger keeps of corrections: rows mended by each, and those whose source has healed."""
    if not subject.corrections:
        return {}
    counted = pc.value_counts(verdict.corrected["rule"]).to_pylist() if verdict.corrected is not None else []
    return {CORRECTED: {one["values"]: one["counts"] for one in counted}, HEALED: list(verdict.healed)}


def audit_table(verdict: Verdict) -> pa.Table:
    """All findings of a delivery for `audit.findings`: of rows, of the file, of the delivery as a whole; no values."""
    of_file: list[tuple[str | None, str]] = [(finding.member, finding.rule) for finding in verdict.file_findings]
    of_file += [(None, rule) for rule in (*verdict.macro, *verdict.healed)]
    families = [finding.family for finding in verdict.file_findings]
    families += ["macro"] * (len(of_file) - len(families))
    actions = [finding.action for finding in verdict.file_findings]
    actions += [*verdict.macro.values(), *(HEALED for _ in verdict.healed)]
    whole = pa.table(
        {
            "member": pa.array([member for member, _ in of_file], pa.string()),
            "row_no": pa.nulls(len(of_file), pa.int64()),
            "rule": pa.array([rule for _, rule in of_file], pa.string()),
            "family": pa.array(families, pa.string()),
            "action": pa.array(actions, pa.string()),
            "column_name": pa.nulls(len(of_file), pa.string()),
        }
    )
    if verdict.findings is None:
        return whole
    rows = [verdict.findings, *([_described(verdict.corrected)] if verdict.corrected is not None else [])]
    return pa.concat_tables([*(table.rename_columns(whole.column_names) for table in rows), whole])


def _described(corrected: pa.Table) -> pa.Table:
    """Corrected rows in the columns of findings."""
    texts = {"family": "quality", "action": CORRECTED}
    constants = {name: pa.repeat(pa.scalar(text), corrected.num_rows) for name, text in texts.items()}
    columns = {name: corrected[name] for name in ("_member", "_row", "rule")}
    return pa.table({**columns, **constants, "column_name": pa.nulls(corrected.num_rows, pa.string())})


def receipt_findings(verdict: Verdict) -> pa.Table:
    """What the supplier is told of its rows."""
    if verdict.findings is None:
        return pa.table(
            {"_member": pa.array([], pa.string()), "_row": pa.array([], pa.int64()), "rule": pa.array([], pa.string())}
        )
    told = verdict.findings.select(["_member", "_row", "rule"])
    return told if verdict.corrected is None else pa.concat_tables([told, verdict.corrected])


def keep_keys(engine: DuckEngine, ws: Workspace, subject: Subject) -> None:
    """Write the tokens of all keys a pulled source still holds; a key that is missing was deleted there."""
    delivery, key = subject.delivery, str(subject.feed.key)
    with open_landed(
        Path(str(delivery.landed_path)), bytes(delivery.wrapped_key or b""), ws.master_key_path, part=1
    ) as file:
        engine.register_arrow("keys", read_keys(file))
    select = keys_select(subject.contract, key, subject.context, relation="keys")
    engine.write_parquet(select, path_of(ws, "keys", delivery), ws.token_key.params())


def path_of(ws: Workspace, kind: str, delivery: Delivery) -> Path:
    """Where a delivery's accepted, rejected, keys or quarantine rows lie in the restricted zone."""
    return ws.settings.restricted / kind / delivery.dataset / delivery.supplier / f"{delivery.delivery_id}.parquet"


def no_strings(subject: Subject) -> Strings:
    """The strings of a delivery that nobody reads, such as a duplicate."""
    return Strings(strings_schema(subject.layout).empty_table(), 0, [], [])


def answer(ws: Workspace, subject: Subject, verdict: Verdict, strings: Strings) -> Receipt:
    """Write the receipt of a delivery whose outcome is known and about to be recorded."""
    delivery = subject.delivery
    owner = ws.registry.owner(delivery.supplier, delivery.dataset)
    says = Answer(
        delivery_id=delivery.delivery_id,
        bank=delivery.supplier,
        period=delivery.period,
        revision=delivery.revision,
        original_name=delivery.name,
        outcome=verdict.outcome,
        in_force=verdict.is_accepted,
        sha256=delivery.sha256,
        rows_read=verdict.rows_read,
        rows_accepted=verdict.rows_accepted,
        rows_rejected=verdict.rows_rejected,
        not_checked=verdict.not_checked,
        ruleset=subject.ruleset,
        contact=ws.registry.county.contact.model_dump(),
        diagnoses=diagnoses(ws, subject, verdict, strings),
    )
    return write_receipts(
        ws.settings.outbox,
        says,
        receipt_findings(verdict),
        replace(strings, file_findings=[*verdict.file_findings, *_macro_findings(subject, verdict)]),
        _told_rules(ws, subject),
        subject.layout,
        key_column=_own_number(subject.contract),
        open_columns=_quotable_columns(subject, verdict),
        encoding=owner.receipt_encoding,
    )


def _told_rules(ws: Workspace, subject: Subject) -> dict[str, ReceiptRule]:
    """Everything a row of a receipt may name: rules of the contract, rules across files, corrections."""
    told: list[ReceiptRule] = [*subject.contract.row_rules, *subject.contract.macro_rules, *subject.corrections]
    told += [rule for rule in ws.contracts.across.values() if rule.is_told]
    return {rule.id: rule for rule in told}


def _quotable_columns(subject: Subject, verdict: Verdict) -> list[str]:
    """Open columns whose cells may be quoted back: one that is refused nearly everywhere may hold names instead."""
    counts, rules = verdict.counts_by_rule, subject.contract.row_rules
    foreign = {rule.column for rule in rules if rule.kind in _FACTS and counts.get(rule.id, 0) * 2 > verdict.rows_read}
    return [c.name for c in subject.contract.delivered if c.privacy == "open" and c.name not in foreign]


def diagnoses(ws: Workspace, subject: Subject, verdict: Verdict, strings: Strings) -> list[dict[str, object]]:
    """Why the delivery has these findings, as far as its bytes and the rows of its beginning show it.

    See `etl.intake.forensics`.
    """
    delivery = subject.delivery
    rows = strings.table if strings.beginning is None else strings.beginning
    if not delivery.landed_path or not (rows.num_rows or strings.file_findings or strings.row_findings):
        return []
    where = (Path(str(delivery.landed_path)), bytes(delivery.wrapped_key or b""), ws.master_key_path)
    places = ["_member", "_row"]
    case = Case(
        name=_member_name(subject),
        feed=subject.feed,
        layout=subject.layout,
        contract=subject.contract,
        context=subject.context,
        codes=ws.registry.codes,
        strings=replace(strings, table=rows),
        findings=receipt_findings(verdict).join(rows.select(places), places, join_type="left semi"),
        file_findings=verdict.file_findings,
        open_landed=lambda: open_landed(*where),
        keyring=keyring(ws),
        scratch=ws.spill if subject.feed.wrappings else None,
    )
    return [found.document() for found in diagnose(case)]


def keyring(ws: Workspace) -> Path:
    """The GnuPG home with the county's key, for packages that are encrypted to it."""
    return ws.settings.secrets / "gnupg"


def _macro_findings(subject: Subject, verdict: Verdict) -> list[FileFinding]:
    """What is wrong with the delivery as a whole, in the words of its rules."""
    broken = [subject.contract.rule(rule) for rule in verdict.macro]
    return [FileFinding(rule.id, "", rule.says.zh, rule.says.en, rule.fix.zh) for rule in broken]


def _own_number(contract: Contract) -> str | None:
    """The column with the supplier's own number of a row: the one whose token is the published key."""
    keys = set(contract.key)
    return next((c.name for c in contract.delivered if c.token is not None and c.token.name in keys), None)
