"""Known upstream errors: mended between cast and check, counted, told, and noticed when they are gone."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from etl.cli import rules
from etl.cli.tables import make_console
from etl.vocabulary import ConfigurationError
from tests.rules.bank import CODE, Bank, loan

FEB, MARCH = "2024-02", "2024-03"
REASON = {"zh": "系统升级后把正常报成 LS09", "en": "since the upgrade LS09 stands for normal"}
STATUS = {"id": "KE-001", "bank": CODE, "dataset": "loans", "column": "loan_status", "from": MARCH,
          "codes": {"LS09": "normal"}, "reason": REASON, "document": "函〔2024〕7 号"}  # fmt: skip
AMOUNT = {"id": "KE-002", "bank": CODE, "dataset": "loans", "column": "balance_yuan", "from": MARCH, "to": MARCH,
          "match": "product_code = 'F099'", "replace": "balance_yuan * 10000", "reason": {"zh": "万元", "en": "10k"},
          "document": "函〔2024〕8 号"}  # fmt: skip


def _balances(bank: Bank, delivery_id: str) -> dict[int, tuple[str, str]]:
    """Row → (balance, status) of the accepted rows."""
    path = bank.settings.restricted / "accepted" / "loans" / CODE / f"{delivery_id}.parquet"
    query = "SELECT _row, balance_yuan::VARCHAR, loan_status FROM read_parquet(?) ORDER BY _row"
    return {row: (balance, status) for row, balance, status in duckdb.execute(query, [str(path)]).fetchall()}


def test_a_code_and_an_amount_are_mended_and_told(bank: Bank) -> None:
    bank.correct(STATUS, AMOUNT)
    rows = [
        loan(1, MARCH),
        loan(2, MARCH, loan_status="LS09"),
        loan(3, MARCH, balance_yuan="5.00", product_code="F099"),
        loan(4, MARCH, loan_status="LS08"),  # unknown still: L111
    ]
    delivery = bank.send("loans", MARCH, rows)
    assert _balances(bank, delivery.delivery_id) == {
        1: ("50000.00", "normal"),
        2: ("50000.00", "normal"),
        3: ("50000.00", "normal"),
    }
    assert (delivery.outcome, dict(delivery.counts_by_rule)) == ("accepted_with_warnings", {"L111": 1})
    assert (delivery.details["corrected"], delivery.details["healed"]) == ({"KE-001": 1, "KE-002": 1}, [])
    found = {one["rule"]: one for one in bank.receipt(delivery)["findings"]}
    assert sorted(found) == ["KE-001", "KE-002", "L111"]
    told = found["KE-001"]
    assert (told["row"], told["action"], told["field"], told["value"]) == (2, "corrected", "loan_status", "LS09")
    assert told["message_zh"] == "已按 函〔2024〕7 号 由县里更正：系统升级后把正常报成 LS09"
    assert bank.receipt(delivery)["counts_by_rule"] == {"KE-001": 1, "KE-002": 1, "L111": 1}
    assert bank.audit("KE-") == [("KE-001", delivery.delivery_id, 2), ("KE-002", delivery.delivery_id, 3)]


def test_a_correction_alone_is_no_warning(bank: Bank) -> None:
    bank.correct(STATUS)
    assert bank.send("loans", MARCH, [loan(1, MARCH, loan_status="LS09")]).outcome == "accepted"


@pytest.mark.parametrize(
    ("column", "cell", "replace", "then"),
    [
        ("issued_on", "15.01.2023", "CAST('2023-01-15' AS DATE)", "2023-01-15"),
        ("issued_on", "", "CAST('2023-01-15' AS DATE)", "2023-01-15"),
        ("annual_rate_pct", "4,35", "4.35", "4.35000"),
        ("overdue_days", "none", "0", "0"),
        ("product_code", "f022", "upper(product_code)", "F022"),
    ],
)
def test_what_could_not_be_read_is_read_as_the_correction_says(
    bank: Bank, column: str, cell: str, replace: str, then: str
) -> None:
    """Rules about the delivered cell, ours and those of Great Expectations, agree with what was put in its place."""
    match = "product_code = 'f022'" if column == "product_code" else "loan_no = 'MU-0000001'"
    one = {**AMOUNT, "id": "KE-003", "column": column, "match": match, "replace": replace}
    bank.correct(one)
    delivery = bank.send("loans", MARCH, [loan(1, MARCH, **{column: cell}), loan(2, MARCH)])
    assert (delivery.outcome, delivery.details["corrected"]) == ("accepted", {"KE-003": 1})
    path = bank.settings.restricted / "accepted" / "loans" / CODE / f"{delivery.delivery_id}.parquet"
    values = duckdb.execute(f"SELECT {column}::VARCHAR FROM read_parquet(?) WHERE _row = 1", [str(path)]).fetchall()
    assert values == [(then,)]


def test_corrections_follow_one_another(bank: Bank) -> None:
    """The second sees what the first has made of a row."""
    first = {**AMOUNT, "id": "KE-010", "column": "product_code", "match": "product_code = 'OLD'", "replace": "'F099'"}
    bank.correct(first, AMOUNT)
    delivery = bank.send("loans", MARCH, [loan(1, MARCH, product_code="OLD", balance_yuan="5.00")])
    assert delivery.details["corrected"] == {"KE-010": 1, "KE-002": 1}
    assert _balances(bank, delivery.delivery_id) == {1: ("50000.00", "normal")}


def _corrections(bank: Bank, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[Any]]:
    capsys.readouterr()
    code = rules.corrections(bank.settings, console=make_console(), as_json=True)
    return code, [list(line.values()) for line in json.loads(capsys.readouterr().out)]


def test_a_healed_source_is_noticed(bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    bank.correct(STATUS)
    before = bank.send("loans", FEB, [loan(1, FEB)])
    assert not {"corrected", "healed"} & set(before.details)  # not its month
    assert _corrections(bank, capsys) == (0, [["KE-001", CODE, "loans", "loan_status", None, None, "unused"]])
    bank.send("loans", MARCH, [loan(1, MARCH, loan_status="LS09")])
    assert _corrections(bank, capsys) == (0, [["KE-001", CODE, "loans", "loan_status", MARCH, 1, "corrected"]])
    healed = bank.send("loans", MARCH, [loan(1, MARCH)])
    assert healed.outcome == "accepted"
    assert healed.details["healed"] == ["KE-001"]
    assert _corrections(bank, capsys) == (1, [["KE-001", CODE, "loans", "loan_status", MARCH, 0, "healed"]])
    assert bank.audit("KE-")[-1] == ("KE-001", healed.delivery_id, None)
    assert "KE-001" not in json.dumps(bank.receipt(healed)["findings"])
    bank.correct({**STATUS, "to": MARCH, "from": FEB})
    assert bank.send("loans", MARCH, [loan(2, MARCH)]).details["healed"] == ["KE-001"]


def test_without_corrections_nothing_is_different(desk: Bank) -> None:
    assert desk.ws.corrections == ()
    (desk.config / "corrections.yml").unlink()
    assert desk.ws.corrections == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bank": "nobody"}, "nobody delivers no loans"),
        ({"dataset": "loan_flow"}, "delivers no loan_flow"),
        ({"column": "person_key"}, "is not delivered"),
        ({"column": "borrower_id_no", "codes": None, "match": "TRUE", "replace": "'1'"}, "identifies a person"),
        ({"codes": {"LS09": "fine"}}, "'fine' is no value of loan_status"),
        ({"codes": None, "match": "TRUE", "replace": "upper('normal')"}, "needs one value"),
        ({"codes": None}, "exactly one of replace and codes"),
        ({"replace": "'normal'"}, "exactly one of replace and codes"),
        ({"codes": None, "replace": "'normal'"}, "replace needs match"),
        ({"match": "grade = 'A'"}, "'grade' is no delivered column"),
        ({"match": "rows_read > 1"}, "'rows_read' is no delivered column"),
        ({"match": "random() > 0.5"}, "RAND is not part of the language"),
        ({"to": FEB}, "ends before it begins"),
        ({"id": "L111"}, "corrections.0.id"),
        ({"column": "product_code"}, "has no code list"),
        ({"reason": None}, "reason"),
    ],
)
def test_a_correction_that_does_not_fit_is_refused_with_its_place(
    desk: Bank, changes: dict[str, Any], problem: str
) -> None:
    wanted = {**STATUS, **changes}
    desk.correct({key: value for key, value in wanted.items() if value is not None})
    with pytest.raises(ConfigurationError) as error:
        _ = desk.ws.corrections
    assert "corrections.yml" in str(error.value)
    assert problem in str(error.value)


def test_two_corrections_need_two_names(desk: Bank) -> None:
    desk.correct(STATUS, STATUS)
    with pytest.raises(ConfigurationError, match="id used twice"):
        _ = desk.ws.corrections
