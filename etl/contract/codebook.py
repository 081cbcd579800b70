"""The codebook for banks and analysts: every column, rule and code of every contract as one CSV, generated."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from etl.contract.across import AcrossRule
from etl.contract.model import Column, Contract, Contracts, Rule, load_contracts
from etl.registry import CodeLists, load_registry
from etl.settings import PROJECT_ROOT

HEADER = (
    "kind", "table", "column", "id", "family", "action", "type", "unit", "privacy", "condition",
    "zh", "en", "fix_zh", "fix_en", "clause",
)  # fmt: skip


def codebook_rows(contracts: Contracts, codes: CodeLists) -> list[dict[str, str]]:
    """One row per column, rule (`across`: over files) and code, in that order by table; absent values are empty."""
    rows = [row for table in sorted(contracts) for row in _table_rows(contracts[table])]
    rows += [_across_row(rule) for rule in contracts.across.values()]
    return rows + [row for name in sorted(codes.lists) for row in _code_rows(name, codes)]


def codebook_csv(contracts: Contracts, codes: CodeLists) -> str:
    """The codebook as CSV text with a header and `\\n` line ends."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(codebook_rows(contracts, codes))
    return text.getvalue()


def write_codebook(path: Path, contracts: Contracts, codes: CodeLists) -> None:
    """Write the codebook as UTF-8."""
    path.write_text(codebook_csv(contracts, codes), encoding="utf-8")


def codebook_is_current(path: Path, contracts: Contracts, codes: CodeLists) -> bool:
    """Whether the file equals what the contracts say."""
    return path.is_file() and path.read_text(encoding="utf-8") == codebook_csv(contracts, codes)


def _table_rows(contract: Contract) -> Iterator[dict[str, str]]:
    for column in contract.delivered:
        yield _column_row("delivered", contract, column)
    for column in contract.published:
        yield _column_row("published", contract, column)
    for rule in contract.rules:
        yield _rule_row(contract, rule)


def _column_row(kind: str, contract: Contract, column: Column) -> dict[str, str]:
    return {
        "kind": kind,
        "table": contract.table,
        "column": column.name,
        "id": column.codes or "",
        "type": column.type,
        "unit": column.unit or "",
        "privacy": column.privacy,
        "condition": "required" if column.required else "",
        "zh": "：".join(text.zh for text in (column.label, column.says) if text),
        "en": ": ".join(text.en for text in (column.label, column.says) if text),
    }


def _rule_row(contract: Contract, rule: Rule) -> dict[str, str]:
    return {
        "kind": "rule",
        "table": contract.table,
        "column": " ".join(rule.columns),
        "id": rule.id,
        "family": rule.family,
        "action": rule.action,
        "condition": _condition(rule),
        "zh": rule.says.zh,
        "en": rule.says.en,
        "fix_zh": rule.fix.zh,
        "fix_en": rule.fix.en,
        "clause": rule.clause or "",
    }


def _across_row(rule: AcrossRule) -> dict[str, str]:
    return {
        "kind": "across",
        "table": " ".join(relation.name for relation in rule.relations),
        "column": " ".join(rule.columns),
        "id": rule.id,
        "family": rule.family,
        "action": rule.action,
        "condition": " ".join(rule.sql.split()),
        "zh": rule.says.zh,
        "en": rule.says.en,
        "fix_zh": rule.fix.zh,
        "fix_en": rule.fix.en,
        "clause": rule.clause or "",
    }


def _condition(rule: Rule) -> str:
    """What must hold, for a reader: SQL, or the words of a rule that is no condition over one row."""
    if rule.sql is not None:
        return rule.sql.replace("__raw", " (as delivered)").replace('"', "")
    if rule.reference is not None:
        return f"{', '.join(rule.reference.columns)} exists in {rule.reference.table} ({', '.join(rule.reference.to)})"
    if rule.expect is not None:
        arguments = ", ".join(f"{name}={value}" for name, value in rule.kwargs.items())
        return f"{rule.expect}({arguments})"
    return f"{rule.column} is unique within the delivery"


def _code_rows(name: str, codes: CodeLists) -> Iterator[dict[str, str]]:
    content = codes.lists[name]
    for value, label in codes.values(name).items():
        yield {"kind": "code", "id": name, "condition": value, "zh": label["zh"], "en": label["en"]}
    for coding in content["codings"]:
        for source, value in codes.mapping(name, coding).items():
            yield {
                "kind": "coding",
                "id": name,
                "family": coding,
                "condition": source,
                "zh": value,
                "en": value,
                "clause": codes.term(name, coding, source),
            }


def main(arguments: list[str]) -> int:
    """`python -m etl.contract.codebook [--check]`: write the shipped codebook, or return 1 when it is out of date."""
    path = PROJECT_ROOT / "expectations" / "codebook.csv"
    contracts, codes = load_contracts([path.parent]), load_registry([PROJECT_ROOT / "config"]).codes
    if "--check" in arguments:
        return int(not codebook_is_current(path, contracts, codes))
    write_codebook(path, contracts, codes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
