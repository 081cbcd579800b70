"""What is said of a delivery that was judged: the receipt to its supplier, the findings and counts to the county."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.corrections import CORRECTED, HEALED
from etl.deliveries import Subject, Verdict, keyring, known_exceptions, member_name, standing_before
from etl.findings import UNKNOWN_HOUSEHOLD, UNKNOWN_HOUSEHOLD_FIX, UNKNOWN_HOUSEHOLD_SAYS, FileFinding
from etl.intake.delivery import open_landed
from etl.intake.forensics import Case, diagnose
from etl.intake.receipt import KNOWN, Answer, Receipt, ReceiptRule, write_receipts
from etl.intake.receipt_words import Facing
from etl.intake.strings import Strings
from etl.ledger.records import Delivery
from etl.period import Period
from etl.registry import Bilingual, Source, Supplier
from etl.workspace import Workspace

_FACTS = ("type", "codes", "pattern")


@dataclass(frozen=True)
class _Told:
    """What a row of a receipt may name besides the rules of contracts."""

    id: str
    says: Bilingual
    fix: Bilingual
    columns: Sequence[str]
    family: str = "quality"
    action: str = "warn"


_UNKNOWN_HOUSEHOLD = _Told(
    UNKNOWN_HOUSEHOLD, Bilingual(**UNKNOWN_HOUSEHOLD_SAYS), Bilingual(**UNKNOWN_HOUSEHOLD_FIX), ("household_no",)
)


def answer(ws: Workspace, subject: Subject, verdict: Verdict, strings: Strings) -> Receipt:
    """Write the receipt of a delivery whose outcome is known and about to be recorded."""
    delivery = subject.delivery
    owner = ws.registry.owner(delivery.supplier, delivery.dataset)
    standing = standing_before(ws, delivery)
    comes_into_force = verdict.is_accepted and (standing is None or standing.sequence < delivery.sequence)
    is_settled = comes_into_force or standing is not None
    says = Answer(
        delivery_id=delivery.delivery_id,
        bank=delivery.supplier,
        period=delivery.period,
        revision=delivery.revision,
        original_name=delivery.name,
        outcome=verdict.outcome,
        in_force=comes_into_force,
        sha256=delivery.sha256,
        rows_read=verdict.rows_read,
        rows_accepted=verdict.rows_accepted,
        rows_rejected=verdict.rows_rejected,
        not_checked=verdict.not_checked,
        ruleset=subject.ruleset,
        contact={
            **ws.registry.county.contact.model_dump(),
            "next_due": _next_due(ws, delivery, owner, is_settled=is_settled),
        },
        diff=verdict.diff,
        diagnoses=diagnoses(ws, subject, verdict, strings),
        stays_in_force=standing.delivery_id if standing and not comes_into_force else None,
        facing=_facing(ws, subject, owner),
    )
    return write_receipts(
        ws.settings.outbox,
        says,
        receipt_findings(verdict),
        replace(strings, file_findings=[*verdict.file_findings, *_macro_findings(subject, verdict)]),
        _told_rules(ws, subject),
        subject.layout,
        key_column=subject.contract.own_number,
        open_columns=_quotable_columns(subject, verdict),
        encoding=owner.receipt_encoding,
        signing_key=ws.signing_key,
    )


def _next_due(ws: Workspace, delivery: Delivery, owner: Supplier | Source, *, is_settled: bool) -> dict[str, Any]:
    """What is expected next: the same month again while nothing is in force for it, else the month after."""
    period = Period.parse(delivery.period)
    awaited = period.next() if is_settled else period
    due = ws.calendar.due(awaited, owner.due, ws.registry.county.timezone)
    return {
        "dataset": delivery.dataset,
        "period": str(awaited),
        "state": due.state,
        "on": due.on.isoformat() if due.on else None,
        "at": due.at.isoformat() if due.at else None,
    }


def _facing(ws: Workspace, subject: Subject, owner: Supplier | Source) -> Facing:
    """Names and reasons for the readable forms of a receipt."""
    known = known_exceptions(ws, subject.delivery)
    return Facing(
        supplier={"zh": owner.name.zh, "en": owner.name.en},
        dataset={"zh": subject.contract.says.zh, "en": subject.contract.says.en},
        is_synthetic=ws.registry.county.synthetic,
        can_confirm=isinstance(owner, Supplier),
        known={rule: f"{entry.reason}（至 until {entry.until}）" for rule, entry in known.items()},
    )


def _told_rules(ws: Workspace, subject: Subject) -> dict[str, ReceiptRule]:
    """Everything a row of a receipt may name: rules of the contract, rules across files, corrections."""
    told: list[ReceiptRule] = [*subject.contract.row_rules, *subject.contract.macro_rules, *subject.corrections]
    told += [rule for rule in ws.contracts.across.values() if rule.is_told]
    told += [_UNKNOWN_HOUSEHOLD]
    return {rule.id: rule for rule in told}


def _quotable_columns(subject: Subject, verdict: Verdict) -> list[str]:
    """Open columns whose cells may be quoted back: one that is refused nearly everywhere may hold names instead."""
    counts, rules = verdict.counts_by_rule, subject.contract.row_rules
    foreign = {rule.column for rule in rules if rule.kind in _FACTS and counts.get(rule.id, 0) * 2 > verdict.rows_read}
    return [c.name for c in subject.contract.delivered if c.privacy == "open" and c.name not in foreign]


def receipt_findings(verdict: Verdict) -> pa.Table:
    """What the supplier is told of its rows (_member, _row, rule, and `state` where warnings were settled).

    Findings of rules across files came after what was settled; corrected rows are named too.
    """
    if verdict.findings is None:
        return pa.table(
            {"_member": pa.array([], pa.string()), "_row": pa.array([], pa.int64()), "rule": pa.array([], pa.string())}
        )
    told = [verdict.findings.select(["_member", "_row", "rule"])]
    if verdict.told is not None:
        is_settled = pc.is_in(told[0]["rule"], pc.unique(verdict.told["rule"]))
        told = [verdict.told, told[0].filter(pc.invert(is_settled))]
    corrected = [] if verdict.corrected is None else [verdict.corrected]
    return pa.concat_tables([*told, *corrected], promote_options="default")


def _macro_findings(subject: Subject, verdict: Verdict) -> list[FileFinding]:
    """What is wrong with the delivery as a whole, in the words of its rules."""
    known = verdict.settled.get(KNOWN, {})
    broken = [(subject.contract.rule(rule), action) for rule, action in verdict.macro.items()]
    return [
        FileFinding(
            rule.id,
            "",
            rule.says.zh,
            rule.says.en,
            rule.fix.zh,
            family=rule.family,
            action=KNOWN if rule.id in known else action,
        )
        for rule, action in broken
    ]


def diagnoses(ws: Workspace, subject: Subject, verdict: Verdict, strings: Strings) -> list[dict[str, object]]:
    """Why the delivery has these findings, as far as its bytes and the rows of its beginning show it.

    See `etl.intake.forensics`.
    """
    delivery = subject.delivery
    rows = strings.table if strings.beginning is None else strings.beginning
    if not delivery.landed_path or not (rows.num_rows or strings.file_findings or strings.row_findings):
        return []
    where = (Path(str(delivery.landed_path)), bytes(delivery.wrapped_key or b""), ws.master_key_path)
    scratch = ws.spill if subject.feed.wrappings else None
    found, beginning = receipt_findings(verdict), replace(strings, table=rows)
    return causes(subject, verdict, beginning, found, lambda: open_landed(*where), keyring=keyring(ws), scratch=scratch)


def causes(
    subject: Subject,
    verdict: Verdict,
    beginning: Strings,
    findings: pa.Table,
    open_bytes: Callable[[], BinaryIO],
    *,
    keyring: Path | None = None,
    scratch: Path | None = None,
) -> list[dict[str, object]]:
    """What the first rows, with those of the `findings` (_member, _row, rule) that concern them, and the bytes show."""
    places = ["_member", "_row"]
    case = Case(
        name=member_name(subject),
        feed=subject.feed,
        layout=subject.layout,
        contract=subject.contract,
        context=subject.context,
        codes=subject.codes,
        strings=beginning,
        findings=findings.join(beginning.table.select(places), places, join_type="left semi"),
        file_findings=verdict.file_findings,
        open_landed=open_bytes,
        keyring=keyring,
        scratch=scratch,
    )
    return [found.document() for found in diagnose(case)]


def is_answered(ws: Workspace, delivery: Delivery) -> bool:
    """Whether a receipt of the delivery lies in its supplier's outbox: what it says cannot be taken back."""
    folder = ws.settings.outbox / delivery.supplier / delivery.period
    return any(folder.glob(f"*.{delivery.delivery_id}.receipt.json"))


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


def mended(subject: Subject, verdict: Verdict) -> dict[str, Any]:
    """What the ledger keeps of corrections: rows mended by each, and those whose source has healed."""
    if not subject.corrections:
        return {}
    counted = pc.value_counts(verdict.corrected["rule"]).to_pylist() if verdict.corrected is not None else []
    return {CORRECTED: {one["values"]: one["counts"] for one in counted}, HEALED: list(verdict.healed)}
