"""The committed codebook is what the contracts say."""

from __future__ import annotations

import csv
from pathlib import Path

from etl.contract.codebook import codebook_is_current, codebook_rows, write_codebook
from tests.contract.delivery import CONTRACTS, REGISTRY, ROOT

MEND = "run: python -c 'from tests.contract.test_codebook import renew; renew()'"


def renew() -> None:
    """Write the codebook anew."""
    write_codebook(ROOT / "expectations/codebook.csv", CONTRACTS, REGISTRY.codes)


def test_the_committed_codebook_is_current() -> None:
    assert codebook_is_current(ROOT / "expectations/codebook.csv", CONTRACTS, REGISTRY.codes), MEND


def test_a_changed_codebook_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "codebook.csv"
    assert not codebook_is_current(path, CONTRACTS, REGISTRY.codes)
    write_codebook(path, CONTRACTS, REGISTRY.codes)
    assert codebook_is_current(path, CONTRACTS, REGISTRY.codes)
    path.write_text(path.read_text(encoding="utf-8").replace("L203", "L999"), encoding="utf-8")
    assert not codebook_is_current(path, CONTRACTS, REGISTRY.codes)


def test_it_holds_every_rule_column_and_code() -> None:
    rows = codebook_rows(CONTRACTS, REGISTRY.codes)
    rules = {row["id"]: row for row in rows if row["kind"] == "rule"}
    assert set(rules) == {rule.id for contract in CONTRACTS.values() for rule in contract.rules}
    assert rules["L203"]["condition"] == "matures_on > issued_on"
    assert rules["L101"]["condition"] == "loan_no IS NOT NULL"
    assert rules["L106"]["condition"] == "balance_yuan (as delivered) IS NOT NULL"
    assert rules["L140"]["condition"] == "loan_no is unique within the delivery"
    assert {
        "kind": "coding",
        "id": "five_class",
        "family": "pboc",
        "condition": "FQ01",
        "zh": "normal",
        "en": "normal",
        "clause": "",
    } in rows
    delivered = {(row["table"], row["column"]) for row in rows if row["kind"] == "delivered"}
    assert ("core_loans", "borrower_id_no") in delivered


def test_it_is_plain_csv(tmp_path: Path) -> None:
    path = tmp_path / "codebook.csv"
    write_codebook(path, CONTRACTS, REGISTRY.codes)
    with path.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(codebook_rows(CONTRACTS, REGISTRY.codes))
