"""Confirmed warnings: strictly read, answered, carried over while rule, key and value are the same, kept as tokens."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl import pipeline
from etl.intake.confirmation import MAX_BYTES, named_delivery, parse
from etl.intake.verify import verify_receipt
from etl.ledger.records import Delivery
from tests.intake.one_bank import NOW, OneBank, csv_of, id_no, note, one_bank

LARGE = {"balance_yuan": "2500000"}  # breaks L301 (warn)
LONG = {"matures_on": "2060-01-01"}  # breaks L303 (warn)
ROWS = [note(1), note(2, **LARGE), note(3), note(4, **LARGE, **LONG), note(5)]


@pytest.fixture
def bank(home: Path, database_url: str) -> Iterator[OneBank]:
    with one_bank(home, database_url) as found:
        yield found


def confirm(
    bank: OneBank, delivery: Delivery, *lines: str, name: str = "", content: bytes | None = None
) -> dict[str, Any]:
    """Drop a confirmation, scan, and read its answer."""
    name = name or f"{delivery.name}.{delivery.delivery_id}.confirm.csv"
    bank.put(name, content if content is not None else "\n".join(["rule,row,key", *lines, ""]).encode())
    assert bank.scan() == []
    return newest_answer(bank)


def newest_answer(bank: OneBank) -> dict[str, Any]:
    paths = sorted(
        (bank.outbox / "confirmations").glob("*.receipt.json"), key=lambda path: path.name.rsplit("-", 1)[-1]
    )
    verify_receipt(paths[-1])
    content: dict[str, Any] = json.loads(paths[-1].read_text(encoding="utf-8"))
    return content


def stored(bank: OneBank) -> list[tuple[Any, ...]]:
    with bank.ws.ledger.engine.connect() as connection:
        query = (
            "SELECT supplier, dataset, rule, key_token, value_token FROM ledger.confirmations ORDER BY rule, key_token"
        )
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_confirmed_warnings_no_longer_count(bank: OneBank) -> None:
    delivery = bank.deliver(ROWS)
    assert dict(delivery.counts_by_rule) == {"L301": 2, "L303": 1}
    answer = confirm(bank, delivery, "L301,2,BY-0000000002")
    assert (answer["outcome"], answer["newly_confirmed"], answer["problems"]) == ("accepted", 1, [])
    assert (answer["still_open"], answer["confirmed"]) == ({"L301": 1, "L303": 1}, {"L301": 1, "L303": 0})
    after = bank.ws.ledger.delivery(delivery.delivery_id)
    assert (dict(after.counts_by_rule), after.outcome) == ({"L301": 1, "L303": 1}, "accepted_with_warnings")
    assert after.details["settled"]["confirmed"] == {"L301": 1}
    again = confirm(bank, delivery, "L301,2,BY-0000000002", "L303,4,BY-0000000004")
    assert (again["newly_confirmed"], again["confirmed"]) == (1, {"L301": 1, "L303": 1})
    assert dict(bank.ws.ledger.delivery(delivery.delivery_id).counts_by_rule) == {"L301": 1}


def test_a_confirmation_carries_over_to_revisions_and_months(bank: OneBank) -> None:
    confirm(bank, bank.deliver(ROWS), "L301,2,BY-0000000002", "L301,4,BY-0000000004", "L303,4,BY-0000000004")
    revised = bank.deliver([*ROWS, note(6)], "loans_202403_2.csv")
    april = bank.deliver([{**row, "as_of_on": "2024-04-30"} for row in reversed(ROWS)], "loans_202404.csv")
    for delivery in (revised, april):
        receipt = bank.receipt(delivery)
        assert (delivery.outcome, dict(delivery.counts_by_rule)) == ("accepted", {})
        assert receipt["settled"] == {"confirmed": {"L301": 2, "L303": 1}, "known": {}}
        assert {finding["action"] for finding in receipt["findings"]} == {"confirmed"}
    assert bank.receipt(revised)["diff"] == {"added": 1, "changed": 0, "removed": 0, "fixed": 0, "new": 0}


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        (note(2, balance_yuan="2500000.00"), {}),  # written otherwise, worth the same
        (note(2, balance_yuan="2500001"), {"L301": 1}),
        (note(7, **LARGE), {"L301": 1}),
        (note(2, **LARGE, **LONG), {"L303": 1}),
    ],
)
def test_another_value_key_or_rule_is_open_again(bank: OneBank, row: dict[str, str], rules: dict[str, int]) -> None:
    confirm(bank, bank.deliver([note(1), note(2, **LARGE)]), "L301,2,BY-0000000002")
    assert dict(bank.deliver([note(1), row], "loans_202403_2.csv").counts_by_rule) == rules


def test_a_rule_that_says_something_else_is_open_again(home: Path, database_url: str, tmp_path: Path) -> None:
    with one_bank(home, database_url) as bank:
        confirm(bank, bank.deliver([note(1), note(2, **LARGE)]), "L301,2,BY-0000000002")
        contract = bank.settings.expectations[0] / "core_loans.yml"
        text = contract.read_text(encoding="utf-8").replace("balance_yuan <= 2000000", "balance_yuan <= 1000000")
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules" / "core_loans.yml").write_text(text, encoding="utf-8")
        settings = replace(bank.settings, expectations=(tmp_path / "rules", *bank.settings.expectations))
        stricter = OneBank(settings, minute=bank.minute)
        assert dict(stricter.deliver([note(1), note(2, **LARGE)], "loans_202403_2.csv").counts_by_rule) == {"L301": 1}


def test_only_tokens_are_kept(bank: OneBank) -> None:
    confirm(bank, bank.deliver(ROWS), "L301,2,BY-0000000002", "L301,4,BY-0000000004")
    [(_, dataset, rule, first_key, first_value), (*_, second_key, second_value)] = stored(bank)
    assert (dataset, rule) == ("loans", "L301")
    assert len({first_key, second_key, first_value, second_value}) == 3, "two keys; the same cell under the same rule"
    assert all(len(mark) == 32 for mark in (first_key, first_value))
    with bank.ws.ledger.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM ledger.confirmations")).all()
    assert not [text for text in ("BY-000000000", "2500000") if text in str(rows)]


def test_a_masked_key_and_one_from_a_spreadsheet_are_recognised(bank: OneBank) -> None:
    rows = [
        note(1, loan_no=id_no(1), balance_yuan="3000000"),
        note(2, loan_no="900000000000000002", balance_yuan="3000000"),
    ]
    answer = confirm(bank, bank.deliver(rows), "L301,1,341181************", "L301,2,'900000000000000002")
    assert (answer["outcome"], answer["newly_confirmed"]) == ("accepted", 2)


def test_the_banks_encoding_and_a_byte_order_mark_are_read(bank: OneBank) -> None:
    delivery = bank.deliver(ROWS)
    assert (
        confirm(bank, delivery, content=b"\xef\xbb\xbfrule,row,key\r\nL301,2,BY-0000000002\r\n")["outcome"]
        == "accepted"
    )
    lines = "rule,row,key\nL301,2,借据\n".encode("gb18030")
    assert confirm(bank, delivery, content=lines)["problems"][0]["message_en"] == "the key is not that of the row"


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (["L301,3,BY-0000000003"], {2: "the row has no such warning"}),
        (["L203,2,BY-0000000002"], {2: "the delivery has no warning of this rule"}),
        (["L301,2,BY-0000000004"], {2: "the key is not that of the row"}),
        (["L301,2,BY-0000000002", "L301,2,BY-0000000002"], {3: "a line before says the same"}),
        (["L301,2"], {2: "three columns are needed"}),
        (["L301,02,BY-0000000002", ",2,x", "L301,2,"], {2: "the row is not a whole number",
         3: "the rule id is not written right", 4: "the key is missing"}),
        (["", "L301,2,BY-0000000002"], {2: "three columns are needed"}),
        ([], {None: "no line confirms anything"}),
    ],
)  # fmt: skip
def test_one_wrong_line_and_nothing_is_confirmed(bank: OneBank, lines: list[str], wrong: dict[int | None, str]) -> None:
    delivery = bank.deliver(ROWS)
    answer = confirm(bank, delivery, *(["L303,4,BY-0000000004", *lines] if lines else []))
    shifted = {line + 1 if line else None: text for line, text in wrong.items()}
    assert (answer["outcome"], answer["newly_confirmed"]) == ("rejected", 0)
    assert {problem["line"]: problem["message_en"] for problem in answer["problems"]} == shifted
    assert stored(bank) == []
    assert bank.ws.ledger.delivery(delivery.delivery_id) == delivery
    [path] = (bank.outbox / "confirmations").glob("*.receipt.csv")
    told = list(csv.DictReader(io.StringIO(path.read_bytes().decode("gb18030"))))
    assert [row["message_zh"] for row in told] == [problem["message_zh"] for problem in answer["problems"]]


@pytest.mark.parametrize(
    "content",
    [b"rule;row;key\nL301;2;x\n", b"", b"\xff\xfe\x00\x01", b"rule,row,key\nL301,2,\"x\n", b"rule,row,key\0\n",
     b"key,row,rule\nx,2,L301\n"],
)  # fmt: skip
def test_what_is_no_confirmation_is_answered(bank: OneBank, content: bytes) -> None:
    answer = confirm(bank, bank.deliver(ROWS), content=content)
    assert (answer["outcome"], len(answer["problems"]), answer["problems"][0]["line"]) == ("rejected", 1, None)


@pytest.mark.parametrize(
    "name",
    ["loans_202403.csv.nobody-loans-2024-03-001.confirm.csv", "loans_202403.csv.confirm.csv", "x.confirm.csv",
     "loans_2.csv.baiyun_rcb-loans-2024-03-001.confirm.csv"],
)  # fmt: skip
def test_a_name_that_names_no_delivery_of_the_bank_is_answered(bank: OneBank, name: str) -> None:
    answer = confirm(bank, bank.deliver(ROWS), "L301,2,BY-0000000002", name=name)
    assert (answer["outcome"], answer["delivery_id"]) == ("rejected", None)
    assert answer["problems"][0]["message_en"].startswith("the name is not")


def test_a_file_too_large_is_answered_unread(bank: OneBank) -> None:
    delivery = bank.deliver(ROWS)
    path = bank.put(f"{delivery.name}.{delivery.delivery_id}.confirm.csv", b"")
    dropped_at = path.stat().st_mtime
    os.truncate(path, MAX_BYTES + 1)
    os.utime(path, (dropped_at, dropped_at))
    bank.scan()
    answer = newest_answer(bank)
    assert (answer["outcome"], answer["sha256"]) == ("rejected", None)


def test_a_confirmation_waits_for_the_outcome_of_its_delivery(bank: OneBank) -> None:
    bank.put("loans_202403.csv", csv_of(ROWS))
    [claimed] = bank.scan()
    bank.put(f"{claimed.name}.{claimed.delivery_id}.confirm.csv", b"rule,row,key\nL301,2,BY-0000000002\n")
    bank.scan()
    assert not (bank.outbox / "confirmations").exists()
    pipeline.take_in(bank.settings, claimed.delivery_id, now=NOW)
    bank.scan()
    assert newest_answer(bank)["newly_confirmed"] == 1


def test_an_answered_file_is_answered_once(bank: OneBank) -> None:
    confirm(bank, bank.deliver(ROWS), "L301,2,BY-0000000002")
    bank.scan()
    assert len(list((bank.outbox / "confirmations").glob("*.json"))) == 1


def test_an_interrupted_answer_ends_the_same(bank: OneBank, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = bank.deliver(ROWS)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("etl.ledger.confirmations.accept_file", die)
        with pytest.raises(KeyboardInterrupt):
            confirm(bank, delivery, "L301,2,BY-0000000002")
    before = newest_answer(bank)
    bank.scan()
    assert newest_answer(bank) == before
    assert dict(bank.ws.ledger.delivery(delivery.delivery_id).counts_by_rule) == {"L301": 1, "L303": 1}


def test_a_link_in_the_drop_zone_is_not_followed(bank: OneBank, tmp_path: Path) -> None:
    delivery = bank.deliver(ROWS)
    (tmp_path / "elsewhere").write_text("rule,row,key\nL301,2,BY-0000000002\n")
    (bank.zone / f"{delivery.name}.{delivery.delivery_id}.confirm.csv").symlink_to(tmp_path / "elsewhere")
    bank.scan()
    assert not (bank.outbox / "confirmations").exists()


def test_names_and_lines() -> None:
    assert named_delivery("a.b.c-1.confirm.csv") == ("a.b", "c-1")
    assert [named_delivery(name) for name in (".confirm.csv", "a.confirm.csv", "a.b.csv")] == [None, None, None]
    entries, problems = parse(b'rule,row,key\nL301," 2 ",BY 1\n', "gb18030")
    assert ([(entry.line, entry.rule, entry.row, entry.key) for entry in entries], problems) == (
        [(2, "L301", 2, "BY 1")],
        [],
    )
