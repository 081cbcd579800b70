"""A code that a list no longer has in a month is no code of that month; the months before keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.period import Period
from etl.registry import load_registry
from etl.settings import PROJECT_ROOT
from etl.vocabulary import ConfigurationError
from tests.rules.bank import Bank, loan

CONFIG = PROJECT_ROOT / "config"
RETIRED = {"means": "extended", "to": "2024-02"}
COMING = {"means": "extended", "from": "2024-03"}


def _redate(folder: Path, changes: dict[str, Any]) -> Path:
    """The shipped list of loan states with some PBoC codes changed."""
    content = yaml.safe_load((CONFIG / "codes" / "loans.yml").read_text(encoding="utf-8"))
    content["loan_status"]["codings"]["pboc"] |= changes
    (folder / "codes").mkdir(exist_ok=True)
    (folder / "codes" / "loans.yml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("month", "known"), [("2024-02", {"LS02"}), ("2024-03", {"LS09"})])
def test_the_lists_of_a_month(tmp_path: Path, month: str, known: set[str]) -> None:
    codes = load_registry([_redate(tmp_path, {"LS02": RETIRED, "LS09": COMING}), CONFIG]).codes
    assert {code for code, value in codes.at(Period.parse(month)).mapping("loan_status", "pboc").items()
            if value == "extended"} == known  # fmt: skip
    assert {"LS02", "LS09"} <= set(codes.mapping("loan_status", "pboc"))
    assert codes.term("loan_status", "pboc", "LS09") == "from 2024-03"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"means": "extended"}, r"pboc\.LS02: a dated code needs from, to or both"),
        ({"means": "extended", "from": "2024-03", "to": "2024-02"}, r"pboc\.LS02: its last month comes before its first"),
        ({"means": "prolonged", "to": "2024-02"}, r"pboc: maps to unknown value 'prolonged'"),
        ({"means": "extended", "until": "2024-02"}, r"pboc\.LS02: unknown key"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named(tmp_path: Path, entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        load_registry([_redate(tmp_path, {"LS02": entry}), CONFIG])


@pytest.mark.postgres
def test_a_file_is_read_by_the_codes_of_its_own_month(bank: Bank) -> None:
    _redate(bank.config, {"LS02": RETIRED})
    rows = {month: [loan(1, month, loan_status="LS02"), loan(2, month)] for month in ("2024-02", "2024-03")}
    before, after = (bank.send("loans", month, rows[month]) for month in rows)
    assert (before.outcome, bank.told(before, "L")) == ("accepted", [])
    assert (after.outcome, bank.told(after, "L111")) == ("accepted_with_warnings", [("L111", 1)])
    assert before.ruleset != after.ruleset
