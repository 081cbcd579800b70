"""Rules across files: what they find, when they run, whom they tell."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
import yaml

from etl import across, pipeline
from etl.contract.across import filled
from etl.period import Period
from etl.registry import Bilingual
from etl.vocabulary import ConfigurationError
from tests.rules.bank import CODE, NOW, Bank, flow, loan, total

FEB, MARCH = "2024-02", "2024-03"


def _february(bank: Bank) -> None:
    """Notes 1 to 9, 50,000 yuan each, and nothing that happened."""
    bank.send("loans", FEB, [loan(n, FEB) for n in range(1, 10)])
    bank.send("loan_flows", FEB, [])


def test_stock_against_flows_and_last_month_by_hand(bank: Bank) -> None:
    _february(bank)
    stock = [
        loan(1, MARCH),                                                    # row 1: as it was
        loan(2, MARCH, balance_yuan="49000.00"),                           # row 2: 1,000 repaid, and so the flow says
        loan(3, MARCH, balance_yuan="49500.00"),                           # row 3: 500 down, flow says 1,000: X101
        loan(4, MARCH, balance_yuan="45000.00"),                           # row 4: 5,000 down, flow says 1,000: X103
        loan(5, MARCH, balance_yuan="60000.00"),                           # row 5: up without a drawdown: X201
        loan(6, MARCH, balance_yuan="70000.00"),                           # row 6: up by what was drawn
        loan(7, MARCH, issued_on="2023-01-16", product_code="F023"),       # row 7: X202 and X203
        loan(10, MARCH),                                                   # row 8: new
    ]  # fmt: skip
    stock_delivery = bank.send("loans", MARCH, stock)
    assert bank.told(stock_delivery, "X") == [("X202", 7), ("X203", 7)]  # without flows nothing else can be known
    flows = bank.send(
        "loan_flows",
        MARCH,
        [
            flow(1, MARCH, 2),
            flow(2, MARCH, 3),
            flow(3, MARCH, 4),
            flow(4, MARCH, 6, flow_kind="1", amount_yuan="20000.00"),
            flow(5, MARCH, 8, amount_yuan="50000.00", ended_on="2024-03-10"),  # note 8 is repaid and gone
            flow(6, MARCH, 99),  # a note nobody ever delivered: X102
        ],
    )
    assert bank.audit("X") == [
        ("X101", flows.delivery_id, 2),
        ("X102", flows.delivery_id, 6),
        ("X103", stock_delivery.delivery_id, 4),
        ("X201", stock_delivery.delivery_id, 5),
        ("X202", stock_delivery.delivery_id, 7),
        ("X203", stock_delivery.delivery_id, 7),
        ("X204", f"{CODE}-loans-2024-02-001", 9),  # note 9 vanished without a flow
    ]
    found = {one["rule"]: one for one in bank.receipt(flows)["findings"]}
    assert sorted(found) == ["X101", "X102", "X103", "X201", "X204"]
    assert (found["X101"]["row"], found["X101"]["key"], found["X101"]["action"]) == (2, "FL-0000002", "warn")
    assert found["X204"]["member"] == "loans_202402_1.csv"
    assert "第 9 行，共 1 行" in found["X204"]["message_zh"]
    assert "rows 4: 1 rows" in found["X103"]["message_en"]
    assert (flows.outcome, flows.counts_by_rule["X103"]) == ("accepted_with_warnings", 1)


def test_a_refused_row_is_no_absence(bank: Bank) -> None:
    _february(bank)
    rows = [loan(n, MARCH) for n in range(1, 9)] + [loan(9, MARCH, matures_on="2020-01-01")]
    bank.send("loans", MARCH, rows)
    assert bank.audit("X") == []
    flows = bank.send("loan_flows", MARCH, [flow(1, MARCH, 9)])
    assert flows.outcome == "accepted"
    assert bank.audit("X") == []


def test_a_revision_takes_the_place_of_what_was_found(bank: Bank) -> None:
    _february(bank)
    bank.send("loans", MARCH, [loan(n, MARCH, product_code="F023") for n in range(1, 10)])
    assert len(bank.audit("X203")) == 9
    bank.send("loans", MARCH, [loan(n, MARCH) for n in range(1, 10)])
    assert bank.audit("X203") == []


def test_the_month_before_may_come_later(bank: Bank) -> None:
    march = bank.send("loans", MARCH, [loan(1, MARCH, product_code="F023"), loan(2, MARCH)])
    assert bank.told(march, "X") == []
    february = bank.send("loans", FEB, [loan(1, FEB), loan(2, FEB)])
    assert bank.audit("X") == [("X203", march.delivery_id, 1)]
    [told] = [one for one in bank.receipt(february)["findings"] if one["rule"] == "X203"]
    assert told["member"] == march.name


@pytest.mark.parametrize(("rows", "rules"), [(70, []), (69, ["X401", "X402"]), (130, []), (131, ["X401", "X402"])])
def test_distributions_against_last_month(bank: Bank, rows: int, rules: list[str]) -> None:
    """The bounds are 30 percent: of 100 notes of 50,000 yuan, 70 to 130 pass."""
    bank.send("loans", FEB, [loan(n, FEB) for n in range(1, 101)])
    march = bank.send("loans", MARCH, [loan(n, MARCH) for n in range(1, rows + 1)])
    assert sorted(rule for rule, _ in bank.told(march, "X")) == rules
    if rows == 69:
        texts = {one["rule"]: one["message_zh"] for one in bank.receipt(march)["findings"]}
        assert "上月 100，本月 69" in texts["X401"]
        assert "上月 5,000,000.00 元，本月 3,450,000.00 元" in texts["X402"]


def test_the_share_of_overdue_notes_and_a_county_that_sets_its_own_bound(bank: Bank) -> None:
    """6 of 60 notes overdue, then 13 of 60: eleven and two thirds of a point more."""

    def month(period: str, overdue: int) -> list[dict[str, str]]:
        late = {"loan_status": "LS03", "overdue_kind": "01", "overdue_days": "10"}
        return [loan(n, period, **(late if n <= overdue else {})) for n in range(1, 61)]

    bank.send("loans", FEB, month(FEB, 6))
    assert bank.told(bank.send("loans", MARCH, month(MARCH, 13)), "X") == [("X403", None)]
    bounds = {"X403": {"bounds": {"max_change_points": 5}, "suppliers": {CODE: {"max_change_points": 12}}}}
    (bank.config / "bounds.yml").write_text(yaml.safe_dump(bounds), encoding="utf-8")
    [line] = [one for one in across.run_month(bank.ws, MARCH) if one.rule.id == "X403"]
    assert line.count == 0
    assert bank.audit("X403") == []


@pytest.fixture
def counting_bank(tmp_path: Path, database_url: str) -> Iterator[Bank]:
    """A bank that also sends the totals of its files."""
    opened = Bank(tmp_path, database_url, ("loans", "loan_flows", "control_totals"))
    yield opened
    opened.engine.dispose()


def test_totals_against_the_control_file(counting_bank: Bank) -> None:
    """Three notes of 50,000 yuan; the later of the two files is told."""
    counting_bank.send("loans", MARCH, [loan(n, MARCH) for n in (1, 2, 3)])
    wrong = counting_bank.send("control_totals", MARCH, [total("loans", 4, "150000.01"), total("loan_flows", 0)])
    texts = {one["rule"]: one["message_en"] for one in counting_bank.receipt(wrong)["findings"]}
    assert texts == {
        "X301": "the number of rows is not the declared one (4 declared, 3 here)",
        "X302": "the sum of balances is not the declared one (150,000.01 yuan declared, 150,000.00 yuan here)",
    }
    right = counting_bank.send(
        "control_totals", MARCH, [total("loans", 3, "150000.00"), total("loan_flows", 1, "7.00")]
    )
    assert (right.outcome, counting_bank.audit("X")) == ("accepted", [])
    flows = counting_bank.send("loan_flows", MARCH, [flow(1, MARCH, 1, amount_yuan="7.01")])
    assert counting_bank.told(flows, "X30") == [("X304", None)]


def test_what_rests_on_other_banks_stays_with_the_county(bank: Bank) -> None:
    """One bank is enough for the rule here; the borrower of note 2 owes nothing."""
    (bank.config / "bounds.yml").write_text("X901: {bounds: {min_banks: 1}}\n", encoding="utf-8")
    delivery = bank.send("loans", MARCH, [loan(1, MARCH), loan(2, MARCH, balance_yuan="0.00")])
    before = bank.receipts()
    [found] = across.settle(bank.ws, MARCH)
    assert (found.rule.id, found.count) == ("X901", 1)
    assert bank.audit("X") == [("X901", delivery.delivery_id, 1)]
    assert bank.receipts() == before
    assert bank.told(delivery, "X") == []


def test_a_shadow_rule_is_counted_and_told_to_nobody(bank: Bank) -> None:
    path = bank.expectations / "across" / "loans.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["rules"] = [{**rule, "action": "shadow"} for rule in content["rules"]]
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    _february(bank)
    march = bank.send("loans", MARCH, [loan(n, MARCH, product_code="F023") for n in range(1, 10)])
    assert (march.outcome, dict(march.counts_by_rule)) == ("accepted", {})
    assert march.details["shadow"] == {"L132": 5, "X203": 9}  # notes 1, 3, 5, 7, 9 are of the person born elsewhere
    assert "X203" not in str(bank.receipt(march))
    assert len(bank.audit("X203")) == 9


def test_a_rule_is_only_run_in_its_months(bank: Bank) -> None:
    path = bank.expectations / "across" / "loans.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["rules"] = [{**rule, "from": "2024-04"} for rule in content["rules"]]
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    _february(bank)
    bank.send("loans", MARCH, [loan(n, MARCH, product_code="F023") for n in range(1, 10)])
    assert bank.audit("X") == []


def test_two_files_at_once_do_not_miss_each_other(bank: Bank) -> None:
    """Whichever is answered last has seen the other."""
    _february(bank)
    claimed = [
        bank.claim("loans", MARCH, [loan(n, MARCH, balance_yuan="1000.00") for n in range(1, 10)]),
        bank.claim("loan_flows", MARCH, []),
    ]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda one: pipeline.take_in(bank.settings, one.delivery_id, now=NOW), claimed))
    assert [one.in_force for one in done] == [True, True]
    assert len(bank.audit("X103")) == 9


def test_a_delivery_that_comes_into_force_no_more_says_nothing(bank: Bank) -> None:
    _february(bank)
    late = bank.claim("loans", MARCH, [loan(n, MARCH, product_code="F023") for n in range(1, 10)])
    bank.send("loans", MARCH, [loan(n, MARCH) for n in range(1, 10)])
    done = pipeline.take_in(bank.settings, late.delivery_id, now=NOW)
    assert (done.in_force, dict(done.counts_by_rule), bank.audit("X")) == (False, {}, [])


GOOD = {
    "id": "X990", "dataset": "loans", "family": "quality", "action": "warn", "says": {"zh": "试", "en": "trial"},
    "fix": {"zh": "试", "en": "trial"}, "sql": "SELECT _delivery, _member, _row FROM loans WHERE balance_yuan > $most",
    "bounds": {"most": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sql": "DELETE FROM loans"}, "not one SELECT"),
        ({"sql": "SELECT 1; SELECT 2"}, "not one SELECT"),
        ({"sql": "SELECT FROM WHERE"}, "not"),
        ({"sql": "SELECT * FROM read_csv('/etc/hostname')"}, "is no relation"),
        ({"sql": "SELECT * FROM '/etc/hostname'"}, "unknown relation"),
        ({"sql": "SELECT * FROM lake.loans"}, "is no relation"),
        ({"sql": "SELECT * FROM core_loans"}, "unknown relation 'core_loans'"),
        ({"sql": "SELECT 1"}, "reads 0 files"),
        ({"sql": "SELECT 1 FROM loans, loan_flows, previous_loans, previous_loan_flows"}, "reads 4 files"),
        ({"sql": "SELECT 1 FROM loans, all_loans"}, "mixes one supplier's files with everybody's"),
        ({"sql": "SELECT 1 FROM loans WHERE balance_yuan > $least"}, "unknown parameter $least"),
        ({"sql": "SELECT nothing FROM loans", "bounds": {}}, "nothing"),
        ({"dataset": "loan"}, "no contract has dataset 'loan'"),
        ({"columns": ["balance"]}, "loans has no column 'balance'"),
        ({"action": "reject_row"}, "rules.0.action"),
        ({"id": "L203"}, "rule id used twice"),
        ({"from": "2024-02", "to": "2024-01"}, "ends before it begins"),
        ({"colour": "red"}, "unknown key"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_with_its_place(
    desk: Bank, changes: dict[str, object], problem: str
) -> None:
    rules = {"rules": [{**GOOD, **changes}]}
    (desk.expectations / "across" / "mine.yml").write_text(yaml.safe_dump(rules, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        desk.ws.require_configuration(Period(2024, 3))
    assert "mine.yml" in str(error.value)
    assert problem in str(error.value)


def test_a_rule_that_fits_is_read_from_its_sql(desk: Bank) -> None:
    sql = "WITH loans_of_mine AS (SELECT * FROM loans) SELECT 1 FROM loans_of_mine, previous_loans, rejected_loans"
    rules = {"rules": [{**GOOD, "sql": sql, "bounds": {}}]}
    (desk.expectations / "across" / "mine.yml").write_text(yaml.safe_dump(rules, allow_unicode=True), encoding="utf-8")
    rule = desk.ws.contracts.across["X990"]
    assert [one.name for one in rule.relations] == ["loans", "previous_loans", "rejected_loans"]
    assert rule.is_told
    desk.ws.require_configuration(Period(2024, 3))


@pytest.mark.parametrize(
    ("bounds", "problem"),
    [
        ({"X999": {}}, "no such rule"),
        ({"X401": {"bounds": {"max_rows": 1}}}, "no bound of this rule"),
        ({"X401": {"suppliers": {CODE: {"max_rows": 1}}}}, "it has: max_change_pct, min_rows"),
        ({"X401": {"bound": {}}}, "unknown key"),
    ],
)
def test_bounds_that_do_not_fit_are_refused(desk: Bank, bounds: dict[str, object], problem: str) -> None:
    (desk.config / "bounds.yml").write_text(yaml.safe_dump(bounds), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=problem):
        _ = desk.ws.bounds


def test_texts_show_numbers_and_dates_and_nothing_else() -> None:
    text = Bilingual(zh="{rows} {on} {name} {else}", en="")
    assert filled(text, {"rows": 12345, "on": date(2024, 3, 1), "name": "合成"}).zh == "12,345 2024-03-01 … {else}"
