"""Backtest: what a rule would have found in accepted history, from where it can be known, and what could not run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from etl.backtest import Hits, backtest
from etl.cli import rules
from etl.cli.tables import make_console
from etl.period import Period
from etl.vocabulary import ConfigurationError
from tests.contract.delivery import ANOTHER
from tests.rules.bank import CODE, Bank, loan

FEB, MARCH = "2024-02", "2024-03"
SAYS = {"zh": "试", "en": "trial"}


def _history(bank: Bank) -> None:
    """February: 4 notes accepted of 5; March: 3 of 3. Balances 10,000 × number."""
    rows = [loan(n, FEB, balance_yuan=f"{n}0000.00") for n in range(1, 5)]
    bank.send("loans", FEB, [*rows, loan(5, FEB, balance_yuan="50000.00", matures_on="2020-01-01")])
    bank.send("loans", MARCH, [loan(n, MARCH, balance_yuan=f"{n}0000.00") for n in range(1, 4)])


def _add(bank: Bank, rule_id: str, **entry: Any) -> None:
    rule = {"id": rule_id, "family": "quality", "action": "shadow", "says": SAYS, **entry}
    bank.change_rules("core_loans", lambda content: content["rules"].append(rule))


def _found(bank: Bank, rule: str, **only: Period) -> list[tuple[str, int, int | None, str | None, str]]:
    results = backtest(bank.settings, rule, **only).results
    return [(one.period, one.rows, one.hits, one.share_pct, one.ran_on) for one in results]


def test_a_new_rule_over_accepted_rows(bank: Bank) -> None:
    """Balances above 20,000: notes 3 and 4 in February, 3 in March; the refused note 5 does not count."""
    _history(bank)
    _add(bank, "L901", check="balance_yuan <= 20000", **{"from": "2030-01"})
    assert _found(bank, "L901") == [(FEB, 4, 2, "50.00", "accepted"), (MARCH, 3, 1, "33.33", "accepted")]
    assert _found(bank, "L901", first=Period(2024, 3)) == [(MARCH, 3, 1, "33.33", "accepted")]
    assert _found(bank, "L901", last=Period(2024, 2)) == [(FEB, 4, 2, "50.00", "accepted")]
    assert bank.audit("L901") == []


def test_what_needs_the_landed_bytes_reads_them(bank: Bank) -> None:
    """ANOTHER, the borrower of odd notes, was born in 1991; identity numbers are not in the Parquet."""
    _history(bank)
    _add(bank, "L902", check="resident_id_birth_on(borrower_id_no) < CAST('1990-01-01' AS DATE)")
    assert ANOTHER[6:10] == "1991"
    assert _found(bank, "L902") == [(FEB, 4, 2, "50.00", "landed"), (MARCH, 3, 2, "66.66", "landed")]
    assert _found(bank, "L132") == [(FEB, 4, 2, "50.00", "landed"), (MARCH, 3, 2, "66.66", "landed")]
    assert _found(bank, "L140") == [(FEB, 4, 0, "0.00", "landed"), (MARCH, 3, 0, "0.00", "landed")]


def test_a_dated_rule_is_run_in_all_months(bank: Bank) -> None:
    _history(bank)
    bank.change_rules("core_loans", lambda content: content["columns"]["balance_yuan"].update(
        max=30000, rules={"required": "L106", "range": "L120", "type": "L005"},
        texts={"range": {"from": "2024-04", "action": "warn"}}))  # fmt: skip
    assert _found(bank, "L120") == [(FEB, 4, 1, "25.00", "accepted"), (MARCH, 3, 0, "0.00", "accepted")]
    assert bank.send("loans", MARCH, [loan(1, MARCH, balance_yuan="99999.00")]).outcome == "accepted"
    april = {"as_of_on": "2024-04-30", "balance_yuan": "99999.00"}
    assert dict(bank.send("loans", "2024-04", [loan(1, MARCH, **april)]).counts_by_rule)["L120"] == 1


def test_a_rule_over_the_delivery_as_a_whole_reads_the_ledger(bank: Bank) -> None:
    _history(bank)
    _add(bank, "L903", check="rows_rejected <= 0", family="macro", action="warn")
    assert _found(bank, "L903") == [(FEB, 4, 1, "25.00", "ledger"), (MARCH, 3, 0, "0.00", "ledger")]


def test_a_rule_across_files(bank: Bank) -> None:
    _history(bank)
    bank.send("loans", MARCH, [loan(1, MARCH, product_code="F023", balance_yuan="10000.00")])
    results = backtest(bank.settings, "X203").results
    assert [(one.period, one.hits, one.note) for one in results] == [
        (FEB, None, "a file it reads is not in force (loans, previous_loans)"),
        (MARCH, 1, ""),
    ]
    everybody = backtest(bank.settings, "X901").results
    assert [(one.supplier, one.period, one.hits) for one in everybody] == [("*", FEB, 0), ("*", MARCH, 0)]


def test_it_says_what_it_could_not_run(bank: Bank) -> None:
    _history(bank)
    [february, march] = backtest(bank.settings, "L116").results
    assert (february.hits, february.note) == (None, "the layout does not deliver is_first_loan")
    with bank.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM ledger.delivery_keys WHERE delivery_id LIKE '%2024-03%'"))
    [february, march] = backtest(bank.settings, "L132").results
    assert (february.hits, march.hits, march.note) == (2, None, "it needs the landed bytes, and they are gone")
    (bank.settings.restricted / "accepted" / "loans" / CODE / f"{march.delivery_id}.parquet").unlink()
    [_, march] = backtest(bank.settings, "L301").results
    assert march.note == "its accepted rows are gone from the restricted zone"


def test_what_the_terminal_shows(bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    _history(bank)
    _add(bank, "L901", check="balance_yuan <= 20000")
    capsys.readouterr()
    rules.backtest(bank.settings, "L901", periods="2024-02..2024-03", console=make_console(), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["rule"], shown["action"]) == ("L901", "shadow")
    assert [(one["period"], one["hits"], one["share_pct"], one["not_run"]) for one in shown["results"]] == [
        (FEB, 2, "50.00", None),
        (MARCH, 1, "33.33", None),
    ]
    rules.backtest(bank.settings, "L116", periods=FEB, console=make_console(), as_json=False)
    assert "the layout does not deliver is_first_loan" in capsys.readouterr().out
    rules.backtest(bank.settings, "L901", periods="..2024-02", console=make_console(), as_json=False)
    assert "total: 2 / 4" in capsys.readouterr().out


def test_a_shadow_rule_is_nowhere_in_a_receipt(bank: Bank) -> None:
    """Not among findings, not in counts, not among the rules that could not run, whether it fires or cannot run."""
    _add(bank, "L904", check="balance_yuan <= 1")
    _add(bank, "L905", check="is_first_loan OR balance_yuan <= 1")
    delivery = bank.send("loans", MARCH, [loan(1, MARCH)])
    assert (delivery.outcome, delivery.details["shadow"]) == ("accepted", {"L132": 1, "L904": 1})
    text = json.dumps(bank.receipt(delivery))
    assert "L116" in bank.receipt(delivery)["not_checked"]
    assert not [rule for rule in ("L904", "L905", "L132") if rule in text]
    refused = bank.send("loans", MARCH, [])
    assert not [rule for rule in ("L904", "L905", "L132") if rule in json.dumps(bank.receipt(refused))]


def test_a_rule_not_in_force_is_not_said_to_be_unchecked(bank: Bank) -> None:
    _add(bank, "L906", check="is_first_loan OR balance_yuan <= 1", action="warn", **{"from": "2024-04"})
    assert "L906" not in bank.receipt(bank.send("loans", MARCH, [loan(1, MARCH)]))["not_checked"]


def test_a_number_too_large_for_its_column_is_unreadable_while_its_range_does_not_bind(bank: Bank) -> None:
    """Judged by the range rule it is out of range; without it, it must not reach the accepted rows."""
    huge = [loan(1, MARCH, annual_rate_pct="12345678901.0"), loan(2, MARCH), loan(3, MARCH)]
    assert dict(bank.send("loans", MARCH, huge).counts_by_rule) == {"L121": 1}
    dated = {"texts": {"range": {"from": "2024-04"}}}
    bank.change_rules("core_loans", lambda content: content["columns"]["annual_rate_pct"].update(dated))
    assert dict(bank.send("loans", MARCH, huge).counts_by_rule) == {"L006": 1}


@pytest.mark.parametrize("rule", ["L999", "core_loans.period.required", "P201"])
def test_an_id_that_is_no_rule_over_deliveries_is_a_mistake(desk: Bank, rule: str) -> None:
    from etl.backtest import _rule

    with pytest.raises(ConfigurationError):
        _rule(desk.ws, rule)


@pytest.mark.parametrize("text", ["..", "2024", "2024-13", "2024-01..x"])
def test_a_range_shows_its_form(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"2024-01\.\.2024-06"):
        rules.parse_range(text)


def test_shares_are_cut_off_and_exact() -> None:
    assert Hits("a", FEB, "d", 3, 2).share_pct == "66.66"
    assert Hits("a", FEB, "d", 0, 0).share_pct is None
    assert Hits("a", FEB, "d", 1000, 1).share_pct == "0.10"


def test_a_rule_that_ends_before_it_begins_is_refused(desk: Bank) -> None:
    _add(desk, "L907", check="balance_yuan <= 1", **{"from": "2024-04", "to": "2024-03"})
    with pytest.raises(ConfigurationError, match="before it begins"):
        _ = desk.ws.contracts
