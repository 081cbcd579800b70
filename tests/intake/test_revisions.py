"""Revisions: what they change, which delivery stands, what is settled, and what a resend is a duplicate of."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl import pipeline
from etl.cli.app import run
from etl.engine.duck import DuckEngine
from etl.intake.revision import diff_findings, diff_rows
from etl.intake.verify import verify_receipt
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace
from tests.intake.one_bank import NOW, OneBank, csv_of, id_no, note, one_bank

Row = dict[str, str]
LARGE = {"balance_yuan": "2500000"}  # breaks L301 (warn)
NOTES = [note(number) for number in range(1, 11)]


@pytest.fixture
def bank(home: Path, database_url: str) -> Iterator[OneBank]:
    with one_bank(home, database_url) as found:
        yield found


def changed(rows: list[Row], number: int, **changes: str) -> list[Row]:
    """The rows with one of them (by its place, from 1) changed."""
    return [{**row, **changes} if place == number else row for place, row in enumerate(rows, start=1)]


# -- what a revision changes ------------------------------------------------------------------------------------------


def test_a_first_delivery_changes_nothing(bank: OneBank) -> None:
    receipt = bank.receipt(bank.deliver(NOTES))
    assert receipt["diff"] == dict.fromkeys(("added", "changed", "removed", "fixed", "new"))
    assert (receipt["outcome"], receipt["in_force"], receipt["stays_in_force"]) == ("accepted", True, None)


def test_a_revision_says_what_it_adds_changes_and_removes(bank: OneBank) -> None:
    bank.deliver(changed(NOTES, 4, **LARGE))
    revised = [*changed(NOTES, 3, balance_yuan="11000.00")[:8], note(11), note(12), note(13, **LARGE)]
    receipt = bank.receipt(bank.deliver(revised, "loans_202403_2.csv"))
    assert receipt["revision"] == 2
    assert receipt["diff"] == {"added": 3, "changed": 2, "removed": 2, "fixed": 1, "new": 1}


def test_a_refused_row_counts_as_removed_and_its_finding_as_new(bank: OneBank) -> None:
    bank.deliver(NOTES)
    receipt = bank.receipt(bank.deliver(changed(NOTES, 2, matures_on="2020-01-01"), "loans_202403_2.csv"))
    assert receipt["diff"] == {"added": 0, "changed": 0, "removed": 1, "fixed": 0, "new": 1}
    assert receipt["counts_by_rule"] == {"L203": 1}


def test_a_rejected_revision_leaves_the_accepted_one_in_force_and_says_so(bank: OneBank) -> None:
    first = bank.deliver(changed(NOTES, 1, **LARGE))
    refused = bank.deliver([{**row, "five_class": "很好"} for row in NOTES], "loans_202403_2.csv")
    receipt = bank.receipt(refused)
    assert (refused.outcome, refused.in_force) == ("rejected", False)
    assert (receipt["in_force"], receipt["stays_in_force"]) == (False, first.delivery_id)
    assert receipt["diff"] == {"added": None, "changed": None, "removed": None, "fixed": 1, "new": 11}
    page = bank.receipt_path(refused, "html").read_text(encoding="utf-8")
    assert f"此前接收的 {first.delivery_id} 继续有效" in page
    assert [each.delivery_id for each in bank.ws.ledger.in_force("2024-03")] == [first.delivery_id]


def test_after_a_rejection_findings_are_compared_with_it_and_rows_with_what_is_in_force(bank: OneBank) -> None:
    bank.deliver(NOTES)
    bank.deliver([{**row, "five_class": "很好"} for row in NOTES], "loans_202403_2.csv")
    receipt = bank.receipt(bank.deliver([*NOTES, note(11, **LARGE)], "loans_202403_3.csv"))
    assert receipt["diff"] == {"added": 1, "changed": 0, "removed": 0, "fixed": 11, "new": 1}


def test_an_unreadable_revision_is_compared_too(bank: OneBank) -> None:
    bank.deliver(changed(NOTES, 1, **LARGE))
    unreadable = bank.deliver(b"\xff\xfe\x00", "loans_202403_2.csv")
    receipt = bank.receipt(unreadable)
    assert unreadable.outcome == "unreadable"
    assert receipt["diff"] == {"added": None, "changed": None, "removed": None, "fixed": 1, "new": 1}


def test_an_older_delivery_taken_in_late_does_not_claim_to_be_in_force(bank: OneBank) -> None:
    bank.put("loans_202403.csv", csv_of(NOTES))
    [older] = bank.scan()
    newer = bank.deliver(changed(NOTES, 1, balance_yuan="1.00"), "loans_202403_2.csv")
    late = pipeline.take_in(bank.settings, older.delivery_id, now=NOW)
    receipt = bank.receipt(late)
    assert (late.outcome, late.in_force) == ("accepted", False)
    assert (receipt["in_force"], receipt["stays_in_force"]) == (False, newer.delivery_id)


def test_the_restricted_zone_keeps_tokens_of_findings_only(bank: OneBank) -> None:
    delivery = bank.deliver(changed(NOTES, 4, balance_yuan="2500123.45"))
    [path] = (bank.settings.restricted / "findings").rglob("*.parquet")
    kept = pq.read_table(path).to_pylist()
    assert path.stem == delivery.delivery_id
    assert [(entry["rule"], entry["row_no"], entry["action"]) for entry in kept] == [("L301", 4, "warn")]
    text = str(kept)
    assert not [secret for secret in (id_no(4), "BY-0000000004", "2500123") if secret in text]


# -- a second implementation of the difference ------------------------------------------------------------------------


def difference(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Added, changed, removed, by looking at every key: as many as both hold of the rest are changed."""
    added = altered = removed = 0
    for key in {row["loan_key"] for row in [*before, *after]}:
        was = Counter(tuple(row.items()) for row in before if row["loan_key"] == key)
        now = Counter(tuple(row.items()) for row in after if row["loan_key"] == key)
        gone, come = (was - now).total(), (now - was).total()
        altered += min(gone, come)
        added += come - min(gone, come)
        removed += gone - min(gone, come)
    return added, altered, removed


@pytest.mark.parametrize("seed", range(20))
def test_the_difference_agrees_with_a_second_implementation(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    contract = Workspace(_shipped()).contract_of("loans")

    def rows(count: int) -> list[dict[str, Any]]:
        return [
            {
                "loan_key": f"k{dice.randrange(8)}",
                "branch_code": dice.choice(["a", "b", None]),
                "overdue_days": dice.randrange(2),
            }
            for _ in range(count)
        ]

    before, after = rows(dice.randrange(15)), rows(dice.randrange(15))
    schema = pa.schema([("loan_key", pa.string()), ("branch_code", pa.string()), ("overdue_days", pa.int32())])
    for name, content in (("before", before), ("after", after)):
        pq.write_table(pa.Table.from_pylist(content, schema=schema), tmp_path / f"{name}.parquet")
    with DuckEngine() as engine:
        found = diff_rows(engine, contract, tmp_path / "before.parquet", tmp_path / "after.parquet")
    assert (found.added, found.changed, found.removed) == difference(before, after)
    assert found.rows_before == len(before)


@pytest.mark.parametrize("seed", range(10))
def test_fixed_and_new_findings_agree_with_a_second_implementation(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    bags = [[(dice.choice("ab"), dice.choice(["k1", "k2", None])) for _ in range(dice.randrange(9))] for _ in range(2)]
    for name, bag in zip(("before", "after"), bags, strict=True):
        columns = {
            "rule": pa.array([rule for rule, _ in bag], pa.string()),
            "key_token": pa.array([key for _, key in bag], pa.string()),
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    with DuckEngine() as engine:
        found = diff_findings(engine, tmp_path / "before.parquet", tmp_path / "after.parquet")
    was, now = (Counter(bag) for bag in bags)
    assert (found.fixed, found.new) == ((was - now).total(), (now - was).total())


def _shipped() -> Settings:
    return Settings.from_environment({})


def test_rows_in_another_order_change_nothing(home: Path, database_url: str) -> None:
    with one_bank(home, database_url) as bank:
        first = bank.deliver(changed(NOTES, 4, **LARGE))
        moved = [NOTES[3] | LARGE, *NOTES[:3], *NOTES[4:]]
        second = bank.receipt(bank.deliver(moved, "loans_202403_2.csv"))
        assert bank.receipt(first)["findings"][0]["row"] == 4
        assert second["findings"][0]["row"] == 1
        assert second["diff"] == dict.fromkeys(("added", "changed", "removed", "fixed", "new"), 0)


# -- known exceptions and partial acceptance --------------------------------------------------------------------------


def test_a_known_exception_is_shown_and_not_counted_until_its_last_day(home: Path, database_url: str) -> None:
    known = [{"rule": "L301", "until": "2024-03-31", "reason": "企业合并贷款，金额属实"}]
    with one_bank(home, database_url, known_exceptions=known) as bank:
        march = bank.deliver(changed(NOTES, 4, **LARGE))
        april = bank.deliver(_in_april(changed(NOTES, 4, **LARGE)), "loans_202404.csv")
        shown = bank.receipt(march)
        assert (march.outcome, dict(march.counts_by_rule)) == ("accepted", {})
        assert shown["settled"] == {"confirmed": {}, "known": {"L301": 1}}
        assert [(entry["rule"], entry["action"]) for entry in shown["findings"]] == [("L301", "known")]
        assert "企业合并贷款，金额属实" in bank.receipt_path(march, "html").read_text(encoding="utf-8")
        assert (april.outcome, dict(april.counts_by_rule)) == ("accepted_with_warnings", {"L301": 1})


def _in_april(rows: list[Row]) -> list[Row]:
    return [{**row, "as_of_on": "2024-04-30"} for row in rows]


def test_a_known_exception_of_the_whole_delivery(home: Path, database_url: str) -> None:
    known = [{"rule": "L401", "until": "2024-12-31", "reason": "合并后户数增加"}]
    accept = {"rows": {"min": 1, "warn_above": 5}}
    with one_bank(home, database_url, accept=accept, known_exceptions=known) as bank:
        delivery = bank.deliver(NOTES)
        receipt = bank.receipt(delivery)
        assert (delivery.outcome, receipt["settled"]["known"]) == ("accepted", {"L401": 1})
        assert [(entry["action"], entry["family"]) for entry in receipt["findings"]] == [("known", "macro")]


@pytest.mark.parametrize(
    ("rule", "problem"), [("L203", "L203 does not warn, it says reject_row"), ("L999", "no rule L999")]
)
def test_an_exception_never_lets_in_what_is_refused(home: Path, database_url: str, rule: str, problem: str) -> None:
    known = [{"rule": rule, "until": "2024-12-31", "reason": "x"}]
    with one_bank(home, database_url, known_exceptions=known) as bank, pytest.raises(ConfigurationError, match=problem):
        bank.ws.require_configuration(bank.ws.registry.county.first_period)


@pytest.mark.parametrize(
    ("accept", "refused_rows", "outcome", "rules"),
    [
        ({"max_rejected_share": 0.2}, 2, "accepted_with_warnings", {"L203": 2}),
        ({"max_rejected_share": 0.2}, 3, "rejected", {"L203": 3, "L402": 1}),
        ({"partial": "file"}, 1, "rejected", {"L203": 1, "P190": 1}),
        ({"partial": "file"}, 0, "accepted", {}),
    ],
)
def test_partial_acceptance_by_row_share_or_whole_file(
    home: Path, database_url: str, accept: dict[str, Any], refused_rows: int, outcome: str, rules: dict[str, int]
) -> None:
    rows = [{**row, "matures_on": "2020-01-01"} if place < refused_rows else row for place, row in enumerate(NOTES)]
    with one_bank(home, database_url, accept=accept) as bank:
        delivery = bank.deliver(rows)
        receipt = bank.receipt(delivery)
        assert (delivery.outcome, receipt["counts_by_rule"]) == (outcome, rules)
        assert receipt["rows_accepted"] == (10 - refused_rows if outcome.startswith("accepted") else 0)


def test_the_share_holds_where_no_rule_of_the_contract_speaks_of_it(
    home: Path, database_url: str, tmp_path: Path
) -> None:
    with one_bank(home, database_url, accept={"max_rejected_share": 0.2}) as bank:
        shipped = (bank.settings.expectations[0] / "core_loans.yml").read_text(encoding="utf-8")
        silent = shipped[: shipped.index("  - id: L402")]
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules" / "core_loans.yml").write_text(silent, encoding="utf-8")
        elsewhere = OneBank(replace(bank.settings, expectations=(tmp_path / "rules", *bank.settings.expectations)))
        refused = [{**row, "matures_on": "2020-01-01"} if place < 3 else row for place, row in enumerate(NOTES)]
        assert dict(elsewhere.deliver(refused).counts_by_rule) == {"L203": 3, "P190": 1}


def test_a_receipt_does_not_depend_on_other_banks(home: Path, database_url: str, empty_database_url: str) -> None:
    """The same bytes beside a bank that delivered and confirmed the same notes, and alone: equal but for the key."""
    rows = [*NOTES, note(11, **LARGE)]
    with one_bank(home / "alone" / "home", database_url) as alone:
        expected = alone.receipt(alone.deliver(rows))
    with one_bank(home / "beside" / "home", empty_database_url) as bank:
        bank.ws.ledger.migrate()
        other = bank.with_bank("qinghe_rcb")
        delivered = other.deliver(rows)
        other.put(f"{delivered.name}.{delivered.delivery_id}.confirm.csv", b"rule,row,key\nL301,11,BY-0000000011\n")
        other.scan()
        assert dict(other.ws.ledger.delivery(delivered.delivery_id).counts_by_rule) == {}
        found = bank.receipt(bank.deliver(rows))
    for receipt in (expected, found):
        del receipt["signature"]
    assert found == expected
    assert found["counts_by_rule"] == {"L301": 1}


def test_a_revision_that_loses_too_many_rows_is_refused(home: Path, database_url: str) -> None:
    with one_bank(home, database_url, accept={"max_removed_share": 0.2}) as bank:
        first = bank.deliver(NOTES)
        assert bank.deliver(NOTES[:8], "loans_202403_2.csv").outcome == "accepted"
        lossy = bank.deliver(NOTES[:6], "loans_202403_3.csv")
        receipt = bank.receipt(lossy)
        assert (lossy.outcome, receipt["counts_by_rule"], receipt["diff"]["removed"]) == ("rejected", {"P191": 1}, 2)
        assert receipt["stays_in_force"] != first.delivery_id
        assert not list((bank.settings.restricted / "accepted").rglob(f"{lossy.delivery_id}.parquet"))


# -- duplicates -------------------------------------------------------------------------------------------------------


def claimed_twice(bank: OneBank, rows: list[Row]) -> list[str]:
    """The same bytes dropped twice and claimed; neither is taken in yet."""
    for name in ("loans_202403.csv", "loans_202403_2.csv"):
        bank.put(name, csv_of(rows))
    return sorted(delivery.delivery_id for delivery in bank.scan())


def test_a_resend_of_what_is_refused_later_is_no_duplicate(bank: OneBank) -> None:
    first, again = claimed_twice(bank, [{**row, "five_class": "很好"} for row in NOTES])
    land(bank, first)
    assert pipeline.take_in(bank.settings, again, now=NOW).outcome == "rejected"
    assert bank.ws.ledger.delivery(first).outcome == "rejected"


def test_a_resend_of_what_is_accepted_later_is_a_duplicate(bank: OneBank) -> None:
    first, again = claimed_twice(bank, NOTES)
    land(bank, first)
    resent = pipeline.take_in(bank.settings, again, now=NOW)
    assert (resent.outcome, resent.details["duplicate_of"]) == ("duplicate", first)
    assert bank.ws.ledger.delivery(first).in_force
    assert bank.receipt(resent)["stays_in_force"] == first


def land(bank: OneBank, delivery_id: str) -> None:
    pipeline.land(bank.ws, bank.ws.ledger.delivery(delivery_id), now=NOW)


def test_two_at_once_end_as_one_accepted_and_one_duplicate(bank: OneBank) -> None:
    ids = claimed_twice(bank, NOTES)
    outcomes: list[str | None] = []

    def work(delivery_id: str) -> None:
        outcomes.append(pipeline.take_in(bank.settings, delivery_id, now=NOW).outcome)

    threads = [threading.Thread(target=work, args=(delivery_id,)) for delivery_id in (*ids, *ids)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["accepted", "accepted", "duplicate", "duplicate"]
    assert len(list((bank.outbox / "2024-03").glob("*.receipt.json"))) == 2


# -- interruptions ----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from datetime import datetime
from etl import pipeline
from etl.intake.verify import verify_receipt
from etl.settings import Settings

module, _, name = sys.argv[1].rpartition(".")
place = sys.modules.get(module) or getattr(__import__(module.rpartition(".")[0], fromlist=["x"]), module.rpartition(".")[2])
setattr(place, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
pipeline.take_in(Settings.from_environment(), sys.argv[2], now=datetime.fromisoformat(sys.argv[3]))
"""


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        "etl.deliveries.judge",
        "etl.revisions.diff_findings",
        "etl.intake.receipt.write_once",
        "etl.ledger.repository.Ledger.finish",
    ],
)
def test_killed_at_any_step_it_ends_the_same_with_one_receipt(bank: OneBank, step: str) -> None:
    bank.deliver(changed(NOTES, 4, **LARGE))
    bank.put("loans_202403_2.csv", csv_of(changed(NOTES, 3, **LARGE)))
    [claimed] = bank.scan()
    arguments = [sys.executable, "-c", KILLED, step, claimed.delivery_id, NOW.isoformat()]
    died = subprocess.run(arguments, env={**os.environ, **bank.settings.environment()}, check=False)
    assert died.returncode == -signal.SIGKILL
    assert bank.ws.ledger.delivery(claimed.delivery_id).outcome is None
    answered = bank.receipt_path(claimed).read_bytes() if bank.receipt_path(claimed).exists() else None
    delivery = pipeline.take_in(bank.settings, claimed.delivery_id, now=NOW)
    assert (delivery.outcome, delivery.in_force) == ("accepted_with_warnings", True)
    assert bank.receipt(delivery)["diff"] == {"added": 0, "changed": 2, "removed": 0, "fixed": 1, "new": 1}
    assert verify_receipt(bank.receipt_path(delivery)).absent == ()
    assert answered in (None, bank.receipt_path(delivery).read_bytes())
    assert len(list((bank.outbox / "2024-03").iterdir())) == 2 * 4


def test_a_bad_exception_ends_a_command_before_anything_is_made(
    home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [{"rule": "L203", "until": "2024-12-31", "reason": "x"}]
    with one_bank(home, database_url, known_exceptions=known) as bank:
        for name, value in bank.settings.environment().items():
            monkeypatch.setenv(name, value)
        with suppress(SystemExit):
            assert run(["intake"]) == 2
        assert "baiyun_rcb.yml: known_exceptions.0.rule" in capsys.readouterr().err.replace("\n", " ")
        assert not home.exists()
