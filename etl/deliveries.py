"""One delivery's way: land the bytes, read strings, cast, check, answer. Every step may be run again.

The engine holds, for one delivery: `strings` (every cell as delivered), `typed` (canonical values beside the trimmed
cells) and `findings` (member, row, rule). What leaves are accepted rows with tokens in place of identity, the tokens of
rejected rows, and the quarantine with the raw strings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from etl.contract import suite
from etl.contract.casts import blank_free_columns, cast_select
from etl.contract.context import Context
from etl.contract.model import Contract, ruleset_checksum
from etl.contract.predicates import (
    accepted_select,
    findings_select,
    keys_select,
    macro_select,
    rejected_select,
    unchecked_rules,
)
from etl.engine.duck import DuckEngine, literal
from etl.findings import FILE_RULES, WRONG_FIELD_COUNT, FileFinding, unreadable
from etl.intake.database import read_keys
from etl.intake.delivery import land as land_bytes
from etl.intake.delivery import open_landed
from etl.intake.reader import read_delivery
from etl.intake.receipt import Answer, Receipt, write_receipts
from etl.intake.strings import Strings, row_findings_table, strings_schema
from etl.ledger.records import Delivery
from etl.period import Period
from etl.registry import Feed, Layout
from etl.vocabulary import CreditVillageError
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
    ruleset: str


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
    return Subject(delivery, feed, layout, contract, context, _ruleset(ws, contract, feed, layout, context))


def no_layout(delivery: Delivery) -> Verdict:
    """The verdict over a file of a month for which nothing was agreed."""
    says = FILE_RULES["P109"]
    found = FileFinding("P109", delivery.name, says["zh"], says["en"], "请核对文件名中的月份，或先与县里约定格式")
    return Verdict(outcome="rejected", counts_by_rule={"P109": 1}, file_findings=[found])


def _ruleset(ws: Workspace, contract: Contract, feed: Feed, layout: Layout, context: Context) -> str:
    """A mark of everything that decides about a row: rules, code lists, layout, acceptance and the month's literals."""
    parts = [
        ruleset_checksum(contract, ws.registry.codes),
        feed.accept.model_dump_json(),
        layout.model_dump_json(exclude={"from_"}),
        json.dumps([context.institution_codes, context.known_villages, context.id_prefixes], default=list),
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


def read(ws: Workspace, subject: Subject) -> Strings:
    """Every cell of the landed delivery as a string, with the findings of its package and lines."""
    delivery = subject.delivery
    where = (Path(str(delivery.landed_path)), bytes(delivery.wrapped_key or b""), ws.master_key_path)
    sidecar = None
    if subject.feed.package == "sidecar":
        with open_landed(*where, part=1) as beside:
            sidecar = beside.read(_SIDECAR_BYTES)
    with open_landed(*where) as file:
        return read_delivery(
            file,
            _member_name(subject),
            subject.feed,
            subject.layout,
            delivery.delivery_id,
            sidecar=sidecar,
            sha256=delivery.sha256,
        )


def _member_name(subject: Subject) -> str:
    """A pull is named after its dataset, a file as the supplier named it."""
    return subject.delivery.dataset if subject.layout.format == "database" else subject.delivery.name


def cast(engine: DuckEngine, ws: Workspace, subject: Subject, strings: Strings) -> None:
    """Make `typed` from `strings`: canonical codes, yuan, percent, dates; NULL where a cell cannot be read.

    What is the same in all rows (the delivery, and its only member) is no column of the table but of a view over it.
    """
    pa.default_memory_pool().release_unused()  # what reading left over: the engine is about to take its share
    engine.register_arrow("strings", strings.table)
    blank_free = blank_free_columns(strings.table)
    select = cast_select(subject.contract, subject.layout, ws.registry.codes, relation="strings", blank_free=blank_free)
    same = _same_in_all_rows(strings.table)
    engine.run_model("typed_cells", f"SELECT * EXCLUDE ({', '.join(same)}) FROM ({select})" if same else select)
    engine.run_view("typed", f"SELECT {''.join(f'{literal(v)} AS {c}, ' for c, v in same.items())}* FROM typed_cells")


def _same_in_all_rows(strings: pa.Table) -> dict[str, str]:
    """`_delivery` and `_member`, in this order, as far as they have one value."""
    bounds = {name: pc.min_max(strings[name]).as_py() for name in ("_delivery", "_member")} if len(strings) else {}
    found = {name: bound["min"] for name, bound in bounds.items() if bound["min"] == bound["max"]}
    return found if "_delivery" in found else {}


def check(engine: DuckEngine, subject: Subject, strings: Strings) -> Verdict:
    """Make `findings` with every row rule in one statement, then judge the delivery as a whole."""
    if not strings.file_findings:
        select = findings_select(subject.contract, subject.layout, relation="typed", context=subject.context)
        engine.run_model("findings", select)
    return judge(engine, subject, strings)


def judge(engine: DuckEngine, subject: Subject, strings: Strings, *, with_findings: bool = True) -> Verdict:
    """The verdict over a delivery whose `findings` the engine holds; of a file that is refused as a whole, none are.

    `with_findings` says whether the verdict carries them along, one row each.
    """
    if strings.file_findings:
        return _refused(subject, strings)
    _add_unsplit_lines(engine, strings)
    verdict = _judged(engine, subject, strings)
    return replace(verdict, findings=_findings_table(engine, subject)) if with_findings else verdict


def _refused(subject: Subject, strings: Strings) -> Verdict:
    """The verdict over a file whose bytes or columns are not as agreed: no row of it is looked at."""
    found = list(strings.file_findings)
    return Verdict(
        outcome="unreadable" if unreadable(found) else "rejected",
        rows_read=strings.rows_read,
        rows_rejected=strings.rows_read,
        counts_by_rule=_counted(finding.rule for finding in found),
        not_checked=[rule.id for rule in subject.contract.row_rules],
        file_findings=found,
    )


def _counted(rules: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rule in rules:
        counts[rule] = counts.get(rule, 0) + 1
    return counts


def _add_unsplit_lines(engine: DuckEngine, strings: Strings) -> None:
    """Lines that could not be split have no cells to check; they count as rejected rows all the same."""
    if strings.row_findings:
        engine.register_arrow("unsplit", row_findings_table(strings.row_findings))
        engine.con.execute("INSERT INTO findings SELECT _member, _row, rule FROM unsplit")


def _judged(engine: DuckEngine, subject: Subject, strings: Strings) -> Verdict:
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
    shadow = {rule: hits for rule, hits in counts.items() if actions.get(rule) == "shadow"}
    shown = {rule: hits for rule, hits in counts.items() if rule not in shadow} | {rule: 1 for rule, _ in macro}
    return Verdict(
        outcome=_outcome(subject, strings, shown, [action for _, action in macro]),
        rows_read=strings.rows_read,
        rows_rejected=rejected,
        counts_by_rule=shown,
        shadow_counts=shadow,
        not_checked=unchecked_rules(subject.contract, subject.layout),
        macro=dict(macro),
    )


def _outcome(subject: Subject, strings: Strings, shown: Mapping[str, int], macro_actions: Sequence[str]) -> str:
    is_refused_as_empty = strings.rows_read == 0 and subject.feed.accept.empty == "refused"
    if "reject_file" in macro_actions or is_refused_as_empty:
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


def audit_table(verdict: Verdict) -> pa.Table:
    """All findings of a delivery for `audit.findings`: of rows, of the file, of the delivery as a whole; no values."""
    of_file: list[tuple[str | None, str]] = [(finding.member, finding.rule) for finding in verdict.file_findings]
    of_file += [(None, rule) for rule in verdict.macro]
    whole = pa.table(
        {
            "member": pa.array([member for member, _ in of_file], pa.string()),
            "row_no": pa.nulls(len(of_file), pa.int64()),
            "rule": pa.array([rule for _, rule in of_file], pa.string()),
            "family": pa.array(["macro" if member is None else "syntax" for member, _ in of_file], pa.string()),
            "action": pa.array([verdict.macro.get(rule, "reject_file") for _, rule in of_file], pa.string()),
            "column_name": pa.nulls(len(of_file), pa.string()),
        }
    )
    if verdict.findings is None:
        return whole
    return pa.concat_tables([verdict.findings.rename_columns(whole.column_names), whole])


def receipt_findings(verdict: Verdict) -> pa.Table:
    """What the supplier is told of its rows: findings of shadow rules are counted, never shown."""
    if verdict.findings is None:
        return pa.table(
            {"_member": pa.array([], pa.string()), "_row": pa.array([], pa.int64()), "rule": pa.array([], pa.string())}
        )
    told = verdict.findings.filter(pc.not_equal(verdict.findings["action"], "shadow"))
    return told.select(["_member", "_row", "rule"])


def compare_opinions(engine: DuckEngine, ws: Workspace, subject: Subject, *, now: datetime) -> None:
    """Let Great Expectations count the same rules; raises CreditVillageError when it disagrees.

    Its result (counts only, values excluded) is kept for the Data Docs.
    """
    typed = engine.con.sql("SELECT * FROM typed ORDER BY _member, _row").to_arrow_table()
    record = suite.DocsRecord(ws.settings.audit_docs, subject.delivery.delivery_id, now)
    theirs = suite.second_opinion(
        typed, subject.contract, subject.layout, ws.registry.codes, subject.context, record=record
    )
    ours = dict(engine.fetch("SELECT rule, count(*) FROM findings GROUP BY rule"))
    differing = sorted(rule for rule, hits in theirs.items() if hits != ours.get(rule, 0))
    if differing:
        first = differing[0]
        raise CreditVillageError(
            f"{subject.delivery.delivery_id}: rule {first} fires {ours.get(first, 0)} times here and "
            f"{theirs[first]} times in Great Expectations (and {len(differing) - 1} more rules differ) — "
            f"the delivery waits; mend expectations/{subject.contract.table}.yml or etl/contract"
        )


def keep(engine: DuckEngine, ws: Workspace, subject: Subject, verdict: Verdict) -> None:
    """Write accepted rows, tokens of rejected rows and the quarantine into the restricted zone."""
    params = ws.token_key.params()
    if verdict.is_accepted:
        findings = "findings" if verdict.rows_rejected else None
        select = accepted_select(subject.contract, subject.context, findings=findings)
        engine.write_parquet(select, path_of(ws, "accepted", subject.delivery), params)
        engine.write_parquet(
            rejected_select(subject.contract, subject.context), path_of(ws, "rejected", subject.delivery), params
        )
    if verdict.findings is not None and verdict.rows_rejected:
        engine.write_parquet(_QUARANTINE, path_of(ws, "quarantine", subject.delivery))


_QUARANTINE = """
WITH refused AS (
  SELECT _member, _row, list(rule) AS rules FROM findings WHERE rule IN (SELECT rule FROM rules WHERE action = 'reject_row')
  GROUP BY _member, _row
)
SELECT refused.rules, refused._member AS refused_member, refused._row AS refused_row, strings.*
FROM refused LEFT JOIN strings ON strings._member = refused._member AND strings._row = refused._row
ORDER BY refused._member, refused._row
"""


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
    )
    return write_receipts(
        ws.settings.outbox,
        says,
        receipt_findings(verdict),
        replace(strings, file_findings=[*verdict.file_findings, *_macro_findings(subject, verdict)]),
        {rule.id: rule for rule in (*subject.contract.row_rules, *subject.contract.macro_rules)},
        subject.layout,
        key_column=_own_number(subject.contract),
        open_columns=[column.name for column in subject.contract.delivered if column.privacy == "open"],
        encoding=owner.receipt_encoding,
    )


def _macro_findings(subject: Subject, verdict: Verdict) -> list[FileFinding]:
    """What is wrong with the delivery as a whole, in the words of its rules."""
    broken = [subject.contract.rule(rule) for rule in verdict.macro]
    return [FileFinding(rule.id, "", rule.says.zh, rule.says.en, rule.fix.zh) for rule in broken]


def _own_number(contract: Contract) -> str | None:
    """The column with the supplier's own number of a row: the one whose token is the published key."""
    return contract.own_number
