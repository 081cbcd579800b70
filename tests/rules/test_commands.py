"""The commands about rules in time, from outside: what they print and how they end."""

from __future__ import annotations

import json

import pytest

from etl.cli.app import run
from tests.rules.bank import CODE, Bank, loan, rule_of

FEB, MARCH = "2024-02", "2024-03"


@pytest.fixture
def operator(bank: Bank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bank:
    """A bank with two months, one refused row in the second, and the environment of its operator."""
    for name, value in bank.settings.environment().items():
        monkeypatch.setenv(name, value)
    bank.send("loans", FEB, [loan(1, FEB), loan(2, FEB)])
    rows = [loan(1, MARCH, product_code="F023"), loan(2, MARCH), loan(3, MARCH, matures_on="2020-01-01")]
    bank.send("loans", MARCH, rows)
    capsys.readouterr()
    return bank


def test_requalify_says_what_it_did_and_what_not(operator: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requalify", "--rule", "L203"]) == 0
    assert "No delivery is affected; nothing was done." in capsys.readouterr().out
    operator.change_rules("core_loans", lambda content: rule_of(content, "L203").update(action="warn"))
    assert run(["requalify", "--rule", "L203", "--bank", CODE, "--period", MARCH, "--json"]) == 0
    [line] = [list(row.values()) for row in json.loads(capsys.readouterr().out)]
    new = f"{CODE}-loans-2024-03-002 (accepted_with_warnings)"
    assert line == [CODE, "loans", MARCH, f"{CODE}-loans-2024-03-001", "requalified", new, 2, 3]
    assert run(["requalify", "--rule", "nothing"]) == 2
    assert "no such rule, code list or correction" in capsys.readouterr().err


def test_backtest_prints_a_table_or_json(operator: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backtest", "X203"]) == 0
    assert "a file it reads is not in force" in capsys.readouterr().out
    assert run(["backtest", "L303", "--periods", "2024-03..", "--json"]) == 0
    assert [one["hits"] for one in json.loads(capsys.readouterr().out)["results"]] == [0]
    assert run(["backtest", "L303", "--periods", "March"]) == 2
    assert run(["backtest", "nothing"]) == 2


def test_across_runs_a_month_again(operator: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["across", "--period", MARCH, "--json"]) == 0
    found = {tuple(list(row.values())[:3]) for row in json.loads(capsys.readouterr().out)}
    assert {("X203", CODE, 1), ("X202", CODE, 0), ("X101", CODE, None), ("X901", "*", 0)} <= found
    assert run(["across", "--period", MARCH, "--bank", "nobody"]) == 2


def test_corrections_fail_when_a_source_has_healed(operator: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["corrections"]) == 0
    wanted = {"id": "KE-001", "bank": CODE, "dataset": "loans", "column": "product_code", "from": MARCH,
              "match": "product_code = 'OLD'", "replace": "'F022'", "reason": {"zh": "旧", "en": "old"},
              "document": "函 9 号"}  # fmt: skip
    operator.correct(wanted)
    assert run(["corrections"]) == 0  # the delivery in force was answered before: requalify would say more
    assert run(["requalify", "--rule", "KE-001"]) == 0
    assert "nothing was done" in capsys.readouterr().out
    operator.send("loans", MARCH, [loan(1, MARCH)])
    assert run(["corrections"]) == 1
    assert "the source has healed: KE-001" in capsys.readouterr().out
