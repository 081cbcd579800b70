"""Contracts as files: what they resolve to, how they are overlaid, and how they fail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import yaml

from etl.contract.model import load_contracts, ruleset_checksum
from etl.registry import CodeLists
from etl.vocabulary import ConfigurationError
from tests.contract.delivery import CONTRACTS, REGISTRY, ROOT

PUBLISHED = {
    "core_loans": "period bank_code loan_key person_key household_key co_person_key as_of_on branch_code product_code "
    "issued_on matures_on extended_to_on closed_on currency issued_amount_yuan balance_yuan annual_rate_pct "
    "guarantee_code five_class loan_status is_overdue overdue_kind overdue_days note_state input_state",
    "core_loan_flows": "period bank_code flow_key loan_key person_key flow_kind flow_on amount_yuan currency issued_on "
    "ended_on",
    "core_households": "period household_key former_household_key head_person_key town_code village_code registered_on "
    "residence_status absent_since_on annual_income_yuan total_assets_yuan total_debt_yuan farmland_mu "
    "has_stable_income civility_score civility_reviewed_on input_state",
    "core_members": "period person_key member_key household_key relation_code sex age_band input_state",
    "core_consents": "period consent_key person_key recipient purpose decision granted_on expires_on withdrawn_on "
    "channel is_in_force input_state",
    "core_mediation_cases": "period case_key town_code village_code dispute_type registered_on accepted_on due_on "
    "closed_on result handled_level actor_tier referred_to agreement_kind agreement_on performance "
    "has_unperformed_document unperformed_by judicially_confirmed_on amount_yuan people_count input_state",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with fields and the contract of loans and flows, to be spoiled."""
    for name in ("fields.yml", "core_loans.yml", "core_loan_flows.yml"):
        shutil.copy(ROOT / "expectations" / name, tmp_path / name)
    return tmp_path


def _spoil(folder: Path, change: Callable[[dict], None], name: str = "core_loan_flows.yml") -> None:  # type: ignore[type-arg]
    path = folder / name
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


@pytest.mark.parametrize("table", PUBLISHED)
def test_published_columns_and_their_order(table: str) -> None:
    assert [column.name for column in CONTRACTS[table].published] == PUBLISHED[table].split()


@pytest.mark.parametrize("table", list(CONTRACTS))
def test_nothing_published_is_identity(table: str) -> None:
    assert not [column.name for column in CONTRACTS[table].published if column.privacy == "identity"]


@pytest.mark.parametrize("table", [table for table, contract in CONTRACTS.items() if contract.dataset])
def test_every_rule_speaks_both_languages(table: str) -> None:
    for rule in CONTRACTS[table].rules:
        assert re.search("[一-鿿]", rule.says.zh), rule.id
        assert re.search("[a-z]{3}", rule.says.en), rule.id
        if rule.is_row_rule:
            assert rule.fix.zh, rule.id
            assert rule.fix.en, rule.id


def test_no_field_is_described_twice() -> None:
    names = re.findall(r"^(\w+):", (ROOT / "expectations/fields.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(names) == sorted(set(names))


def test_catalogue_has_rules_of_every_family_and_action() -> None:
    rules = [rule for contract in CONTRACTS.values() if contract.dataset for rule in contract.rules]
    assert {rule.family for rule in rules} == {"syntax", "validity", "quality", "macro"}
    assert {rule.action for rule in rules} == {"reject_file", "reject_row", "warn", "shadow"}


def test_a_rule_is_in_force_within_its_months_only(folder: Path) -> None:
    def dated(content: dict) -> None:  # type: ignore[type-arg]
        content["rules"][0] |= {"from": "2024-02", "to": "2024-04"}

    _spoil(folder, dated)
    rule = load_contracts([folder])["core_loan_flows"].rule("F120")
    months = [date(2024, month, 1) for month in (1, 2, 4, 5)]
    assert [rule.applies_in(month) for month in months] == [False, True, True, False]


def test_the_first_folder_wins_per_file_and_per_field(folder: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    shutil.copy(folder / "core_loan_flows.yml", overlay)
    _spoil(overlay, lambda content: content.update(says="another county"))
    label = "flow_no: {type: text, privacy: identity, label: {zh: 甲, en: number of the flow}}\n"
    (overlay / "fields.yml").write_text(label, encoding="utf-8")
    contracts = load_contracts([overlay, folder])
    assert contracts["core_loan_flows"].says.en == "another county"
    assert contracts["core_loan_flows"].rule("F101").says.zh == "甲不得为空"
    assert contracts["core_loans"].says == CONTRACTS["core_loans"].says


def test_the_checksum_follows_rules_and_codes() -> None:
    contract = CONTRACTS["core_loans"]
    before = ruleset_checksum(contract, REGISTRY.codes)
    assert before == ruleset_checksum(load_contracts([ROOT / "expectations"])["core_loans"], REGISTRY.codes)
    changed = {**REGISTRY.codes.lists, "currency": {"values": {}, "codings": {}}}
    assert ruleset_checksum(contract, CodeLists(changed)) != before
    unrelated = {**REGISTRY.codes.lists, "sex": {"values": {}, "codings": {}}}
    assert ruleset_checksum(contract, CodeLists(unrelated)) == before
    told = [rule for rule in contract.rules if rule.is_told]
    assert len(told) < len(contract.rules)
    assert ruleset_checksum(replace(contract, rules=tuple(told)), REGISTRY.codes) == before
    assert ruleset_checksum(replace(contract, rules=tuple(told[1:])), REGISTRY.codes) != before


@pytest.mark.parametrize("table", [table for table, contract in CONTRACTS.items() if contract.correctable])
def test_what_may_be_corrected_is_neither_key_nor_identity_nor_place(table: str) -> None:
    contract = CONTRACTS[table]
    for name in contract.correctable:
        column = contract.columns[name]
        assert column.privacy != "identity" and column.token is None and name not in contract.key
        assert not re.search("_no$|_key$|_id|code$|phone|_name$|text$", name), name
    assert contract.numbered_by is not None and contract.numbered_by.name.endswith("_no")


def test_an_unknown_dataset_is_a_configuration_error() -> None:
    assert CONTRACTS.for_dataset("loans").table == "core_loans"
    with pytest.raises(ConfigurationError, match="no contract has this dataset"):
        CONTRACTS.for_dataset("weather")


def _rule(**change: object) -> Callable[[dict], None]:  # type: ignore[type-arg]
    return lambda content: content["rules"][0].update(change)


def _column(name: str, **facts: object) -> Callable[[dict], None]:  # type: ignore[type-arg]
    return lambda content: content["columns"].update({name: facts})


WRONG = [
    (lambda content: content.update(colour="red"), "colour", "unknown key"),
    (_column("currency", code="currency"), "columns.currency.code", "unknown key"),
    (_column("moon_phase"), "columns.moon_phase", "unknown field 'moon_phase'"),
    (_column("flow_no", token={"name": "no_key", "domain": "flow"}), "columns.flow_no", "unknown field 'no_key'"),
    (_rule(id="F201"), "rules.F201", "used twice"),
    (_rule(id="L201"), "rules.L201", "used twice"),
    (_rule(check="amount_yuen > 0"), "rules.F120", "unknown column 'amount_yuen'"),
    (_rule(check="bank_code = '1'"), "rules.F120", "'bank_code' is not delivered"),
    (_rule(check="amount_yuan >"), "rules.F120", "not an SQL expression"),
    (_rule(check="median(amount_yuan) > 0"), "rules.F120", "not part of the language"),
    (_rule(check="frobnicate(amount_yuan)"), "rules.F120", "unknown function"),
    (_rule(check="amount_yuan IN (SELECT 1)"), "rules.F120", "not part of the language"),
    (_rule(check="rows_read > 1"), "rules.F120", "is a fact of the delivery"),
    (_rule(check=None), "rules.F120", "exactly one of check and expect"),
    (_rule(expect="expect_column_max_to_be_between"), "rules.F120", "exactly one of check and expect"),
    (_rule(check=None, expect="expect_x", kwargs={"column": "moon"}), "rules.F120", "unknown column 'moon'"),
    (_rule(family="astrology"), "rules.0.family", "Input should be"),
    (_rule(at="release", check="loan_no > 'a'"), "rules.F120", "'loan_no' is not published"),
    (_column("currency", rules={"min": "F199"}), "columns.currency.rules.min", "has no such fact"),
    (lambda content: content.update(key=["flow_no"]), "key", "'flow_no' is not published"),
    (lambda content: content.update(table="core_flows"), "table", "not the file's name"),
    (_column("purpose_text", publish_as={"name": "flow_key", "sql": "1"}), "columns", "'flow_key' is published twice"),
    (_column("purpose_text", correctable=True), "columns.purpose_text.correctable", "cannot be corrected"),
    (_column("bank_code", derived=True, correctable=True), "columns.bank_code.correctable", "cannot be corrected"),
    (
        _column("flow_no", correctable=True, token={"name": "flow_key", "domain": "flow"}),
        "columns.flow_no.correctable",
        "cannot be corrected",
    ),
    (
        lambda content: content.update(
            references=[{"columns": ["loan_key"], "table": "core_moons", "to": ["loan_key"]}]
        ),
        "references.core_moons",
        "no such table",
    ),
    (
        lambda content: content.update(
            references=[{"columns": ["loan_key"], "table": "core_loans", "to": ["loan_no"]}]
        ),
        "references.core_loans",
        "core_loans has no column 'loan_no'",
    ),
]


@pytest.mark.parametrize(("change", "key", "problem"), WRONG)
def test_what_is_wrong_is_named_in_one_line(
    folder: Path,
    change: Callable[[dict], None],  # type: ignore[type-arg]
    key: str,
    problem: str,
) -> None:
    _spoil(folder, change)
    with pytest.raises(ConfigurationError) as raised:
        load_contracts([folder])
    error = raised.value
    assert error.key == key
    assert problem in error.problem
    assert Path(error.file).stem.startswith("core_loan")
    assert "\n" not in str(error)
    assert error.mend


def test_a_field_of_unknown_type_is_named(folder: Path) -> None:
    _spoil(folder, lambda content: content["flow_no"].update(type="varchar"), "fields.yml")
    with pytest.raises(ConfigurationError) as raised:
        load_contracts([folder])
    assert raised.value.key == "flow_no.type"
    assert Path(raised.value.file).name == "fields.yml"


def test_a_folder_without_fields_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"fields\.yml"):
        load_contracts([tmp_path])
