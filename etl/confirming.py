"""A bank says that warnings are right: its file is read, matched with the receipt it speaks of, and answered.

All or nothing: one wrong line and nothing is confirmed, but every wrong line is named. The answer is signed like a
receipt: `outbox/<bank>/confirmations/<file name>.<confirmation_id>.receipt.{json,csv}`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from etl.deliveries import path_of
from etl.engine.duck import DuckEngine
from etl.intake.confirmation import MAX_BYTES, MAX_PROBLEMS, Confirming, Entry, Problem, named_delivery, parse
from etl.intake.delivery import SourceChangedError, opened
from etl.intake.drops import Drops
from etl.intake.receipt import csv_bytes, document_bytes, harmless_name, publish_key, put_file, write_once
from etl.intake.revision import COUNTS_OF_WARNINGS, FINDINGS, match_entries
from etl.ledger import confirmations as ledger
from etl.ledger.confirmations import ConfirmedWarning
from etl.ledger.records import Delivery
from etl.workspace import Workspace

FOLDER: Final = "confirmations"
_SENT_AGAIN: Final = "请更正后以同名文件重新投递"


@dataclass(frozen=True)
class _Opinion:
    """What a confirmation comes to: with problems it is refused."""

    sha256: str | None
    delivery: Delivery | None
    lines: int = 0
    problems: Sequence[Problem] = ()
    warnings: Sequence[ConfirmedWarning] = ()
    still_open: Mapping[str, int] = field(default_factory=dict)
    confirmed: Mapping[str, int] = field(default_factory=dict)

    @property
    def newly(self) -> int:
        """Warnings that counted until now."""
        before = self.delivery.counts_by_rule if self.delivery else {}
        return sum(before.get(rule, 0) - count for rule, count in self.still_open.items())


def answer(ws: Workspace, confirming: Confirming, *, now: datetime) -> None:
    """Take one settled file; what speaks of a delivery still in progress, or changes meanwhile, waits for a later scan.

    An answer is given once: done again after an interruption, it is the same.
    """
    with ws.ledger.lock(f"confirm/{confirming.supplier}"):
        try:
            opinion = _opinion(ws, confirming)
        except SourceChangedError:
            return
        if opinion is None:
            return
        mark = (confirming.supplier, confirming.address, confirming.name, confirming.size_bytes, confirming.mtime_ns)
        claimed = ledger.claim_file(ws.ledger, *mark, now=now)
        if claimed.is_accepted is None:
            document = _document(ws, confirming, claimed.confirmation_id, opinion)
            write_answer(ws, confirming, claimed.confirmation_id, FOLDER, opinion.problems, document)
            _record(ws, claimed.confirmation_id, opinion, now=now)


def _opinion(ws: Workspace, confirming: Confirming) -> _Opinion | None:
    """What the file comes to; None while the delivery it names has no outcome."""
    delivery, problem = _delivery_of(ws, confirming)
    if delivery is not None and delivery.outcome is None:
        return None
    if confirming.size_bytes > MAX_BYTES:
        too_large = _whole(f"文件超过 {MAX_BYTES:,} 字节", f"larger than {MAX_BYTES:,} bytes")
        return _Opinion(None, delivery, problems=[too_large])
    content = read_settled(ws, confirming)
    sha256 = hashlib.sha256(content).hexdigest()
    if delivery is None or problem is not None:
        return _Opinion(sha256, delivery, problems=[problem] if problem else [])
    encoding = ws.registry.banks[confirming.supplier].receipt_encoding
    entries, problems = parse(content, encoding)
    if problems:
        return _Opinion(sha256, delivery, len(entries) + len(problems), problems)
    return _matched(ws, delivery, sha256, entries)


def _delivery_of(ws: Workspace, confirming: Confirming) -> tuple[Delivery | None, Problem | None]:
    """The delivery a file name speaks of, and why its warnings cannot be confirmed.

    Somebody else's delivery is answered like one that does not exist.
    """
    original, delivery_id = named_delivery(confirming.name) or ("", "")
    own = [one for one in ws.ledger.deliveries(supplier=confirming.supplier) if one.delivery_id == delivery_id]
    if not own or original not in (own[0].name, harmless_name(own[0].name)):
        en = "the name is not <original name>.<delivery_id>.confirm.csv of a delivery of yours"
        return None, _whole("文件名不是本行报送的 <原文件名>.<受理号>.confirm.csv", en)
    [delivery] = own
    if delivery.outcome is not None and not path_of(ws, FINDINGS, delivery).exists():
        return delivery, _whole("该报送没有可确认的提示", "the delivery has no warnings to confirm")
    return delivery, None


def read_settled(ws: Workspace, confirming: Confirming) -> bytes:
    """The bytes the scan saw, and no more than those."""
    wanted, content = confirming.size_bytes + 1, b""
    zone, name = Drops(ws.settings.drop_access).zone_of_file(confirming.supplier, confirming.address)
    with closing(zone), opened(zone, name) as file:
        while len(content) < wanted and (chunk := file.read(wanted - len(content))):
            content += chunk
    if len(content) != confirming.size_bytes:
        raise SourceChangedError(confirming.name, "it changed while it was read")
    return content


def _matched(ws: Workspace, delivery: Delivery, sha256: str, entries: Sequence[Entry]) -> _Opinion:
    """The warnings that the lines name; every line has to name one."""
    with ws.engine() as engine:
        match_entries(engine, path_of(ws, FINDINGS, delivery), entries, ws.token_key)
        problems = list(_mismatches(engine))
        if problems:
            return _Opinion(sha256, delivery, len(entries), problems[:MAX_PROBLEMS])
        found = engine.fetch("SELECT DISTINCT rule, key_token, value_token FROM matched ORDER BY ALL")
        rules = [rule for (rule,) in engine.fetch("SELECT DISTINCT rule FROM warned WHERE action = 'warn'")]
        held = ledger.confirmed_warnings(ws.ledger, delivery.supplier, delivery.dataset, rules)
        engine.register_arrow("confirmations", held)
        counts = engine.fetch(COUNTS_OF_WARNINGS)
    return _Opinion(
        sha256,
        delivery,
        len(entries),
        warnings=[ConfirmedWarning(*row) for row in found],
        still_open={rule: still_open for rule, still_open, _ in counts},
        confirmed={rule: confirmed for rule, _, confirmed in counts},
    )


def _mismatches(engine: DuckEngine) -> Iterator[Problem]:
    query = "SELECT DISTINCT line, is_of_rule, is_of_row FROM matched WHERE NOT is_of_key ORDER BY line"
    for line, is_of_rule, is_of_row in engine.fetch(query):
        if not is_of_rule:
            yield Problem(
                line, "该报送没有此规则的提示", "the delivery has no warning of this rule", "拒收的行不能确认，只能更正"
            )
        elif not is_of_row:
            yield Problem(line, "该行没有此提示", "the row has no such warning", "照抄回执中的数据行号")
        else:
            yield Problem(line, "本行编号与该行不符", "the key is not that of the row", "照抄回执中的本行编号")


def _whole(zh: str, en: str) -> Problem:
    return Problem(None, zh, en, _SENT_AGAIN)


def write_answer(
    ws: Workspace,
    confirming: Confirming,
    confirmation_id: str,
    within: str,
    problems: Sequence[Problem],
    document: Mapping[str, Any],
) -> None:
    """CSV with the problems, then the signed JSON that names it, in a folder of the bank's outbox."""
    folder = ws.settings.outbox / confirming.supplier / within
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{harmless_name(confirming.name)}.{confirmation_id}.receipt"
    if (folder / f"{stem}.json").exists():
        return
    publish_key(folder.parent, ws.signing_key)
    encoding = ws.registry.banks[confirming.supplier].receipt_encoding
    digest = put_file(folder / f"{stem}.csv", csv_bytes(_problems_table(problems), encoding))
    write_once(folder / f"{stem}.json", document_bytes(ws.signing_key.sign(document, {f"{stem}.csv": digest})))


def _problems_table(problems: Sequence[Problem]) -> pa.Table:
    names = ("message_zh", "message_en", "fix_zh")
    texts = {name: pa.array([getattr(problem, name) for problem in problems], pa.string()) for name in names}
    return pa.table({"line": pa.array([problem.line for problem in problems], pa.int64()), **texts})


def _document(ws: Workspace, confirming: Confirming, confirmation_id: str, opinion: _Opinion) -> dict[str, Any]:
    delivery = opinion.delivery
    return {
        "confirmation_id": confirmation_id,
        "delivery_id": delivery.delivery_id if delivery else None,
        "bank": confirming.supplier,
        "period": delivery.period if delivery else None,
        "outcome": "rejected" if opinion.problems else "accepted",
        "sha256": opinion.sha256,
        "rows_read": opinion.lines,
        "newly_confirmed": opinion.newly,
        "confirmed": dict(opinion.confirmed),
        "still_open": dict(opinion.still_open),
        "problems": [vars(problem) for problem in opinion.problems],
        "contact": ws.registry.county.contact.model_dump(),
    }


def _record(ws: Workspace, confirmation_id: str, opinion: _Opinion, *, now: datetime) -> None:
    if opinion.problems or opinion.delivery is None or opinion.sha256 is None:
        delivery_id = opinion.delivery.delivery_id if opinion.delivery else None
        ledger.refuse_file(ws.ledger, confirmation_id, sha256=opinion.sha256, delivery_id=delivery_id, now=now)
        return
    ledger.accept_file(
        ws.ledger,
        confirmation_id,
        sha256=opinion.sha256,
        delivery_id=opinion.delivery.delivery_id,
        warnings=opinion.warnings,
        still_open=opinion.still_open,
        confirmed=opinion.confirmed,
        now=now,
    )
