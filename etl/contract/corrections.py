"""Known upstream errors as data: `config/corrections.yml`, applied between cast and check, counted, told to the supplier.

A correction names a supplier, a dataset, a column and the months it is for; `match` says in the language of checks which
rows, and `replace` (an expression) or `codes` (code as delivered → canonical value) says what the cell means. It has a
reason and a document, because it changes what a supplier said. One that matches nothing in a delivery it is for has
outlived its error: the source has healed, and somebody should end it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator
from sqlglot import exp

from etl.contract import language
from etl.contract.casts import source_codes, staged_type
from etl.contract.context import DELIVERY_FACTS, Context
from etl.contract.language import RAW, quote, text_sql
from etl.contract.model import Column, Contract, Contracts
from etl.period import Period
from etl.registry import Bilingual, CodeLists, Layout, PeriodField, Registry, Strict, parse_model, read_yaml
from etl.vocabulary import ConfigurationError

CORRECTIONS_FILE = "corrections.yml"
CORRECTED, HEALED = "corrected", "healed"


class CorrectionEntry(Strict):
    """One correction as written."""

    id: str = Field(pattern=r"^KE-[0-9A-Za-z_.]+$")
    bank: str
    dataset: str
    column: str
    from_: PeriodField = Field(alias="from")
    to: PeriodField | None = None
    match: str | None = None
    replace: str | None = None
    codes: dict[str, str] | None = Field(default=None, min_length=1)
    reason: Bilingual
    document: str = Field(min_length=1)

    @model_validator(mode="after")
    def _says_what_and_where(self) -> CorrectionEntry:
        if (self.replace is None) == (self.codes is None):
            raise ValueError("needs exactly one of replace and codes")
        if self.replace is not None and self.match is None:
            raise ValueError("replace needs match: which rows")
        if self.to is not None and self.to < self.from_:
            raise ValueError("ends before it begins")
        return self


class CorrectionsFile(Strict):
    corrections: list[CorrectionEntry] = []


@dataclass(frozen=True)
class Correction:
    """One known upstream error. `match` and `value` are conditions and expressions of the language of checks."""

    id: str
    bank: str
    dataset: str
    column: str
    since: Period
    until: Period | None
    match: str
    value: str
    reason: Bilingual
    document: str
    family: str = "quality"
    action: str = CORRECTED

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def reads(self) -> frozenset[str]:
        """Columns it looks at, its own included."""
        trees = (language.parse(self.match), language.parse(self.value))
        return frozenset((self.column, *(name for tree in trees for name in language.column_names(tree))))

    @property
    def says(self) -> Bilingual:
        """What the supplier reads in its receipt."""
        return Bilingual(
            zh=f"已按 {self.document} 由县里更正：{self.reason.zh}",
            en=f"corrected by the county under {self.document}: {self.reason.en}",
        )

    @property
    def fix(self) -> Bilingual:
        return Bilingual(zh="请在源系统更正，并告知数据组", en="mend it in your system and tell the county")

    def is_for(self, supplier: str, dataset: str, month: Period) -> bool:
        """Whether it is to be applied to that supplier's delivery of that month."""
        in_time = self.since <= month and (self.until is None or month <= self.until)
        return (self.bank, self.dataset) == (supplier, dataset) and in_time

    @property
    def mark(self) -> str:
        """What of it decides about a row."""
        return json.dumps([self.id, self.column, self.match, self.value], ensure_ascii=False)


def load_corrections(folders: Sequence[Path], contracts: Contracts, registry: Registry) -> tuple[Correction, ...]:
    """The corrections of the first `corrections.yml` of the overlay, in their order; none when there is no such file.

    Raises ConfigurationError for the first thing that does not fit the registry, the contract or the language of checks.
    """
    path = next((folder / CORRECTIONS_FILE for folder in folders if (folder / CORRECTIONS_FILE).is_file()), None)
    if path is None:
        return ()
    found: dict[str, Correction] = {}
    taken = {rule.id for contract in contracts.values() for rule in contract.rules} | set(contracts.across)
    for entry in parse_model(CorrectionsFile, read_yaml(path), path).corrections:
        if entry.id in found or entry.id in taken:
            raise ConfigurationError(path, entry.id, "id used twice", "choose another id")
        found[entry.id] = _correction(path, entry, contracts, registry)
    return tuple(found.values())


def _correction(path: Path, entry: CorrectionEntry, contracts: Contracts, registry: Registry) -> Correction:
    try:
        registry.feed(entry.bank, entry.dataset)
    except ConfigurationError:
        raise ConfigurationError(
            path, entry.id, f"{entry.bank} delivers no {entry.dataset}", "correct bank or dataset"
        ) from None
    contract = contracts.for_dataset(entry.dataset)
    column = contract.columns.get(entry.column)
    if column is None or column.derived:
        raise ConfigurationError(path, entry.id, f"{entry.column!r} is not delivered", "name a delivered column")
    if column.is_validated:
        mend = "ask the bank for a new delivery: nobody can guess whose number was meant"
        raise ConfigurationError(path, entry.id, f"{entry.column} identifies a person", mend)
    match, value = _match(entry, column), _value(entry, column)
    for key, text in (("match", match), ("replace", value)):
        _require_understood(path, f"{entry.id}.{key}", text, contract)
    _require_canonical(path, entry, column, registry.codes)
    return Correction(
        id=entry.id,
        bank=entry.bank,
        dataset=entry.dataset,
        column=entry.column,
        since=entry.from_,
        until=entry.to,
        match=match,
        value=value,
        reason=entry.reason,
        document=entry.document,
    )


def _match(entry: CorrectionEntry, column: Column) -> str:
    if entry.codes is None:
        return str(entry.match)
    delivered = f"{column.raw_name} IN ({', '.join(text_sql(code) for code in entry.codes)})"
    return f"({entry.match}) AND {delivered}" if entry.match else delivered


def _value(entry: CorrectionEntry, column: Column) -> str:
    if entry.codes is None:
        return str(entry.replace)
    cases = " ".join(f"WHEN {text_sql(code)} THEN {text_sql(value)}" for code, value in entry.codes.items())
    return f"CASE {column.raw_name} {cases} END"


def _require_understood(path: Path, key: str, text: str, contract: Contract) -> None:
    try:
        tree = language.parse(text)
    except ValueError as error:
        raise ConfigurationError(path, key, str(error), "write it in the language of checks") from None
    facts = set(language.names(tree)) & set(DELIVERY_FACTS)
    unknown = [name for name in language.column_names(tree) if name not in contract.columns]
    derived = [
        name for name in language.column_names(tree) if name in contract.columns and contract.columns[name].derived
    ]
    strange = [*sorted(facts), *unknown, *derived]
    if strange:
        raise ConfigurationError(path, key, f"{strange[0]!r} is no delivered column", "use delivered columns only")


def _require_canonical(path: Path, entry: CorrectionEntry, column: Column, codes: CodeLists) -> None:
    """A coded column may only become a value of its list."""
    if column.codes is None:
        if entry.codes is not None:
            raise ConfigurationError(path, entry.id, f"{column.name} has no code list", "use match and replace")
        return
    tree = language.parse(str(entry.replace)) if entry.replace is not None else None
    if tree is not None and not (isinstance(tree, exp.Literal) and tree.is_string):
        raise ConfigurationError(
            path, entry.id, "a coded column needs one value", "write replace: \"'value'\", or codes"
        )
    wanted = [tree.name] if tree is not None else list((entry.codes or {}).values())
    unknown = sorted(set(wanted) - set(codes.values(column.codes)))
    if unknown:
        mend = f"use one of {', '.join(codes.values(column.codes))}"
        raise ConfigurationError(path, entry.id, f"{unknown[0]!r} is no value of {column.codes}", mend)


# -- SQL --------------------------------------------------------------------------------------------------------------


def can_apply(correction: Correction, layout: Layout) -> bool:
    """Whether the layout delivers every column the correction looks at."""
    return correction.reads <= set(layout.canonical)


def matched_select(contract: Contract, correction: Correction, context: Context, *, relation: str) -> str:
    """SQL giving (_member, _row, rule) for each row of TYPED that the correction mends."""
    condition = _compiled(contract, correction.match, context)
    return f"SELECT _member, _row, {text_sql(correction.id)} AS rule FROM {relation} WHERE {condition}"


def correction_update(
    contract: Contract, layout: Layout, codes: CodeLists, correction: Correction, context: Context, *, relation: str
) -> str:
    """SQL mending the cells of one column of TYPED, and with them the cells as they would have been delivered."""
    column = contract.columns[correction.column]
    value = f"CAST({_compiled(contract, correction.value, context)} AS {staged_type(column)})"
    changed = {column.name: value}
    if column.can_fail_to_cast:
        changed[column.name + RAW] = _as_delivered(column, layout, codes, value)
    items = ", ".join(f"{quote(name)} = {new}" for name, new in changed.items())
    return f"UPDATE {relation} SET {items} WHERE {_compiled(contract, correction.match, context)}"


def _compiled(contract: Contract, text: str, context: Context) -> str:
    guarded = [column.name for column in contract.delivered if column.can_fail_to_cast]
    validated = [column.name for column in contract.delivered if column.is_validated]
    tree = language.bind(language.parse(text), context)
    return f"({language.compile_sql(tree, guarded=guarded, validated=validated)})"


def _as_delivered(column: Column, layout: Layout, codes: CodeLists, value: str) -> str:
    """The cell a supplier would have written for a canonical value, so that rules about the cell agree with it."""
    if column.codes is not None:
        first = {canonical: code for code, canonical in reversed(source_codes(column, layout, codes).items())}
        shown = value if column.is_text else f"CAST({value} AS VARCHAR)"
        cases = " ".join(f"WHEN {text_sql(canonical)} THEN {text_sql(code)}" for canonical, code in first.items())
        return f"CASE {shown} {cases} END"
    if column.type == "date":
        return f"strftime({value}, {text_sql(layout.dates)})"
    return f"CAST({value} AS VARCHAR)"
