"""Quarantine with replay: a rule, code list or correction changes, and nobody sends anything again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from etl import months, pipeline
from etl.requalify import requalify
from etl.vocabulary import ConfigurationError
from tests.rules.bank import CODE, NOW, Bank, loan, rule_of

FEB, MARCH = "2024-02", "2024-03"
LATER = NOW + timedelta(days=30)
LONG = {"matures_on": "2060-01-01"}  # more than 30 years: L303 warns


def _again(counter: Bank, rule: str, **only: str) -> list[tuple[str, str, str | None]]:
    results = requalify(counter.settings, rule, now=LATER, **only)
    return [(one.base.delivery_id, one.state, one.revision.delivery_id if one.revision else None) for one in results]


def _set(bank: Bank, rule: str, **changes: Any) -> None:
    bank.change_rules("core_loans", lambda content: rule_of(content, rule).update(changes))


def _accepted_rows(bank: Bank, delivery_id: str) -> set[int]:
    import duckdb

    path = bank.settings.restricted / "accepted" / "loans" / CODE / f"{delivery_id}.parquet"
    return {row for (row,) in duckdb.execute("SELECT _row FROM read_parquet(?)", [str(path)]).fetchall()}


def test_a_rule_that_becomes_a_warning_readmits_its_rows(bank: Bank) -> None:
    """Rows 2 and 3 mature before they are issued (L203); row 4 has an unknown status (L111) and stays out."""
    wrong = {"matures_on": "2020-01-01"}
    rows = [loan(1, MARCH), loan(2, MARCH, **wrong), loan(3, MARCH, **wrong), loan(4, MARCH, loan_status="LS08")]
    rows += [loan(5, MARCH), loan(6, MARCH), loan(7, MARCH)]
    first = bank.send("loans", MARCH, rows)
    bank.send("loans", FEB, [loan(1, FEB)])
    assert _accepted_rows(bank, first.delivery_id) == {1, 5, 6, 7}
    fingerprint = months.inputs_of(bank.ws, MARCH).fingerprint
    _set(bank, "L203", action="warn")
    assert _again(bank, "L203") == [
        (f"{CODE}-loans-2024-02-001", "same", None),
        (first.delivery_id, "requalified", f"{CODE}-loans-2024-03-002"),
    ]
    new = bank.ws.ledger.delivery(f"{CODE}-loans-2024-03-002")
    assert (new.revision, new.in_force, new.outcome, new.requalifies) == (
        2,
        True,
        "accepted_with_warnings",
        first.delivery_id,
    )
    assert (new.rows_accepted, new.rows_rejected, new.sha256, new.mtime_ns) == (6, 1, first.sha256, first.mtime_ns)
    assert _accepted_rows(bank, new.delivery_id) == {1, 2, 3, 5, 6, 7}
    assert next(one.cause for one in bank.ws.ledger.transitions(new.delivery_id)) == "requalified: L203"
    old = bank.ws.ledger.delivery(first.delivery_id)
    assert (old.in_force, old.superseded_by) == (False, new.delivery_id)
    assert months.inputs_of(bank.ws, MARCH).fingerprint != fingerprint
    note = {one["rule"]: one for one in bank.receipt(new)["findings"]}["N101"]
    assert note["action"] == "notice"
    assert f"此前已回执（{first.delivery_id}）的同一文件，无需重报。原因：requalified: L203" in note["message_zh"]
    assert "新接收 第 2, 3 行，共 2 行；不再接收 0 行" in note["message_zh"]
    assert "on 2024-05-05 the county examined" in note["message_en"]
    assert {one["rule"]: one["action"] for one in bank.receipt(new)["findings"]} == {
        "L203": "warn", "L111": "reject_row", "N101": "notice",
    }  # fmt: skip
    answered = {name.split(".receipt.")[0] for name in bank.receipts() if ".receipt." in name}
    assert len(answered) == 3  # two files, and one of them examined again


def test_twice_is_once(bank: Bank) -> None:
    bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, matures_on="2020-01-01")])
    _set(bank, "L203", action="warn")
    _again(bank, "L203")
    receipts = bank.receipts()
    assert _again(bank, "L203") == [(f"{CODE}-loans-2024-03-002", "same_rules", None)]
    assert bank.receipts() == receipts


def test_a_change_that_changes_nothing_is_said_and_stores_nothing(bank: Bank) -> None:
    delivery = bank.send("loans", MARCH, [loan(1, MARCH)])
    receipts = bank.receipts()
    _set(bank, "L203", action="warn")
    assert _again(bank, "L203") == [(delivery.delivery_id, "same", None)]
    assert bank.receipts() == receipts
    assert len(bank.ws.ledger.deliveries()) == 1


def test_a_stricter_rule_takes_rows_out(bank: Bank) -> None:
    first = bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, **LONG), loan(3, MARCH)])
    assert (first.rows_accepted, dict(first.counts_by_rule)) == (3, {"L303": 1})
    _set(bank, "L303", action="reject_row")
    [(_, state, new)] = _again(bank, "L303")
    assert state == "requalified"
    assert _accepted_rows(bank, str(new)) == {1, 3}
    assert "不再接收 第 2 行" in str(bank.receipt(bank.ws.ledger.delivery(str(new))))


def test_a_file_that_would_now_be_refused_stays_in_force_and_is_answered_once(bank: Bank) -> None:
    """More than half of its rows would go: the revision is refused, what was accepted stays (DESIGN 9.3)."""
    first = bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, **LONG), loan(3, MARCH, **LONG)])
    _set(bank, "L303", action="reject_row")
    [(_, state, new)] = _again(bank, "L303")
    assert (state, bank.ws.ledger.delivery(str(new)).outcome) == ("requalified", "rejected")
    assert bank.ws.ledger.delivery(first.delivery_id).in_force
    assert [state for _, state, _ in _again(bank, "L303")] == ["same_rules", "same_rules"]
    assert len(bank.ws.ledger.deliveries()) == 2


def test_a_refused_file_is_readmitted(bank: Bank) -> None:
    wrong = {"matures_on": "2020-01-01"}
    first = bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, **wrong), loan(3, MARCH, **wrong)])
    assert first.outcome == "rejected"
    _set(bank, "L203", to="2024-02")
    [(base, state, new)] = _again(bank, "L203")
    assert (base, state) == (first.delivery_id, "requalified")
    revised = bank.ws.ledger.delivery(str(new))
    assert (revised.outcome, revised.in_force, revised.rows_accepted) == ("accepted", True, 3)


def test_the_newest_content_comes_first(bank: Bank) -> None:
    """The bank's refused revision is newer than what is in force: it is what the bank wants to say."""
    wrong = {"matures_on": "2020-01-01"}
    bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, **wrong)])
    refused = bank.send("loans", MARCH, [loan(n, MARCH, **wrong) for n in (1, 2, 3)])
    assert refused.outcome == "rejected"
    _set(bank, "L203", action="warn")
    [(base, state, new)] = _again(bank, "L203")
    assert (base, state) == (refused.delivery_id, "requalified")
    [in_force] = bank.ws.ledger.in_force(MARCH)
    assert (in_force.delivery_id, in_force.rows_accepted) == (new, 3)


def test_a_newer_delivery_under_way_is_not_overtaken(bank: Bank) -> None:
    bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, matures_on="2020-01-01")])
    claimed = bank.claim("loans", MARCH, [loan(1, MARCH)])
    _set(bank, "L203", action="warn")
    assert [state for _, state, _ in _again(bank, "L203")] == ["under_way"]
    assert pipeline.take_in(bank.settings, claimed.delivery_id, now=NOW).in_force


def test_a_code_list_that_learns_a_code(bank: Bank) -> None:
    first = bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, loan_status="LS09")])
    assert dict(first.counts_by_rule) == {"L111": 1}
    path = bank.config / "codes" / "loans.yml"
    codes = yaml.safe_load(path.read_text(encoding="utf-8"))
    codes["loan_status"]["codings"]["pboc"]["LS09"] = "normal"
    path.write_text(yaml.safe_dump(codes, allow_unicode=True), encoding="utf-8")
    assert _again(bank, "guarantee_code", period=FEB) == []
    [(_, state, new)] = _again(bank, "loan_status", bank=CODE, period=MARCH)
    assert (state, bank.ws.ledger.delivery(str(new)).outcome) == ("requalified", "accepted")


def test_a_correction_changes_values_and_its_end_changes_them_back(bank: Bank) -> None:
    """No finding differs: what differs are the accepted values."""
    import duckdb

    def balance(delivery_id: str) -> str:
        path = bank.settings.restricted / "accepted" / "loans" / CODE / f"{delivery_id}.parquet"
        return str(duckdb.execute("SELECT balance_yuan FROM read_parquet(?)", [str(path)]).fetchone()[0])  # type: ignore[index]

    bank.send("loans", MARCH, [loan(1, MARCH, balance_yuan="5.00")])
    mend = {"id": "KE-002", "bank": CODE, "dataset": "loans", "column": "balance_yuan", "from": MARCH, "match": "TRUE",
            "replace": "balance_yuan * 10000", "reason": {"zh": "万元", "en": "10k"}, "document": "函 8 号"}  # fmt: skip
    bank.correct(mend)
    [(_, _, mended)] = _again(bank, "KE-002")
    assert balance(str(mended)) == "50000.00"
    bank.correct()
    [(_, _, restored)] = _again(bank, "KE-002")
    assert balance(str(restored)) == "5.00"
    assert bank.ws.ledger.delivery(str(restored)).revision == 3


def test_its_key_opens_both_and_its_deletion_closes_both(bank: Bank) -> None:
    first = bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, matures_on="2020-01-01")])
    _set(bank, "L203", action="warn")
    [(_, _, new)] = _again(bank, "L203")
    with bank.engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM ledger.delivery_keys")) == 1
        connection.execute(sa.text("DELETE FROM ledger.delivery_keys"))
    assert bank.ws.ledger.delivery(str(new)).wrapped_key is None
    _set(bank, "L203", action="reject_row")
    assert [state for _, state, _ in _again(bank, "L203")] == ["bytes_gone"]
    assert first.delivery_id != new


def test_a_killed_requalification_is_finished_by_whoever_comes_next(bank: Bank) -> None:
    first = bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, matures_on="2020-01-01")])
    _set(bank, "L203", action="warn")
    claimed = bank.ws.ledger.requalify(first.delivery_id, now=LATER, cause="requalified: L203")
    assert claimed is not None
    assert [one.delivery_id for one in pipeline.stuck(bank.settings, now=LATER + timedelta(hours=1))] == [
        claimed.delivery_id
    ]
    done = pipeline.take_in(bank.settings, claimed.delivery_id, now=LATER)
    assert (done.outcome, done.rows_accepted, done.in_force) == ("accepted_with_warnings", 2, True)


def test_an_unknown_name_is_a_mistake(bank: Bank) -> None:
    with pytest.raises(ConfigurationError, match="no such rule, code list or correction"):
        requalify(bank.settings, "L999", now=LATER)
