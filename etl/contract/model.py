"""Contracts: one YAML file per table, read from an overlay of folders, resolved against `fields.yml`.

A field (one name, one meaning) gives type, unit, privacy and label; the contract says which fields a table has, what
is delivered, what is published in place of identity, and every rule with its id. Facts of one column stand on the
column, conditions over several columns are checks in the language of `etl.contract.language`, table-level rules name
a Great Expectations expectation. Everything wrong raises ConfigurationError naming file, key and mend.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError
from pydantic import Field as ModelField
from sqlglot import exp

from etl.contract import language, messages
from etl.contract.across import AcrossRule, load_across
from etl.contract.context import DELIVERY_FACTS, LISTS, SCALARS
from etl.period import Period
from etl.registry import (
    Bilingual,
    CodeLists,
    PeriodField,
    Strict,
    configuration_error,
    overlay_files,
    parse_model,
    read_yaml,
)
from etl.vocabulary import ConfigurationError

FIELDS_FILE = "fields.yml"
Family = Literal["syntax", "validity", "quality", "macro"]
Action = Literal["reject_file", "reject_row", "warn", "shadow"]
FactKind = Literal["required", "type", "codes", "min", "max", "range", "pattern", "check", "unique"]
Stage = Literal["delivery", "release"]
_TYPE = r"^(text|integer|bigint|boolean|date|decimal\([1-9][0-9]?,[0-9]{1,2}\))$"
_FAMILY_OF: Mapping[str, Family] = {
    "min": "validity",
    "max": "validity",
    "range": "validity",
    "resident_id": "validity",
    "credit_code": "validity",
}


def _bilingual(value: object) -> object:
    return {"zh": value, "en": value} if isinstance(value, str) else value


def _decimal(value: object) -> object:
    return Decimal(str(value)) if isinstance(value, int | float) else value


Text = Annotated[Bilingual, BeforeValidator(_bilingual)]
Bound = Annotated[Decimal, BeforeValidator(_decimal)]


class FieldEntry(Strict):
    """One entry of fields.yml."""

    type: str = ModelField(pattern=_TYPE)
    unit: str | None = None
    privacy: Literal["open", "personal", "identity"]
    label: Bilingual
    says: Bilingual | None = None


class Token(Strict):
    """The keyed token published in place of an identity column; `of` lists what goes into it, `bank_code` first."""

    name: str
    domain: str = ModelField(pattern=r"^[a-z_]+$")
    of: list[str] | None = None


class PublishAs(Strict):
    """A harmless value derived from an identity column, in the language of checks."""

    name: str
    sql: str


class FactTexts(Strict):
    """What a contract says of one fact of a column besides its id: texts, action, and the months it binds."""

    says: Text | None = None
    fix: Text | None = None
    clause: str | None = None
    family: Family | None = None
    action: Action | None = None
    from_: PeriodField | None = ModelField(default=None, alias="from")
    to: PeriodField | None = None

    @property
    def is_dated(self) -> bool:
        """Whether the fact binds some months only."""
        return self.from_ is not None or self.to is not None


class ColumnEntry(Strict):
    """The facts of one column as written in a contract."""

    derived: bool | None = None
    publish: bool = True
    required: bool = False
    min: Bound | None = None
    max: Bound | None = None
    codes: str | None = None
    values: list[str] | None = None
    pattern: str | None = None
    check: Literal["resident_id", "credit_code"] | None = None
    when: str | None = None
    unique: bool = False
    correctable: bool = False
    token: Token | None = None
    publish_as: PublishAs | None = None
    rules: dict[FactKind, str] = ModelField(default_factory=dict)
    texts: dict[FactKind, FactTexts] = ModelField(default_factory=dict)


class RuleEntry(Strict):
    """One rule as written in a contract."""

    id: str = ModelField(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$")
    family: Family
    action: Action
    check: str | None = None
    expect: str | None = ModelField(default=None, pattern=r"^expect_[a-z_]+$")
    kwargs: dict[str, Any] = ModelField(default_factory=dict)
    at: Stage | None = None
    clause: str | None = None
    from_: PeriodField | None = ModelField(default=None, alias="from")
    to: PeriodField | None = None
    says: Text
    fix: Text | None = None


class Reference(Strict):
    """Values of some columns must exist in another table of the same release; NULL refers to nothing."""

    columns: list[str] = ModelField(min_length=1)
    table: str
    to: list[str] = ModelField(min_length=1)
    action: Action = "reject_file"


class ContractEntry(Strict):
    """One contract file."""

    table: str = ModelField(pattern=r"^[a-z][a-z0-9_]*$")
    dataset: str | None = None
    says: Text
    key: list[str] = ModelField(min_length=1)
    partition_by: str | None = None
    columns: dict[str, ColumnEntry | None]
    references: list[Reference] = ModelField(default_factory=list)
    rules: list[RuleEntry] = ModelField(default_factory=list)


@dataclass(frozen=True)
class Column:
    """A column of one table: the field's meaning and the contract's facts."""

    name: str
    type: str
    unit: str | None
    privacy: str
    label: Bilingual
    says: Bilingual | None
    facts: ColumnEntry
    derived: bool

    @property
    def codes(self) -> str | None:
        return self.facts.codes

    @property
    def values(self) -> list[str] | None:
        return self.facts.values

    @property
    def required(self) -> bool:
        return self.facts.required

    @property
    def token(self) -> Token | None:
        return self.facts.token

    @property
    def publish_as(self) -> PublishAs | None:
        return self.facts.publish_as

    @property
    def is_text(self) -> bool:
        return self.type == "text"

    @property
    def is_validated(self) -> bool:
        """Whether the cast adds `<name>__valid`, the result of its identity check."""
        return self.facts.check == "resident_id"

    @property
    def can_fail_to_cast(self) -> bool:
        """Whether a delivered cell can end as NULL."""
        return not self.is_text or self.codes is not None

    @property
    def raw_name(self) -> str:
        """The column of TYPED that is NULL exactly when no cell was delivered."""
        return self.name + language.RAW if self.can_fail_to_cast else self.name

    @property
    def decimal(self) -> tuple[int, int] | None:
        """Precision and scale of a decimal column."""
        found = re.fullmatch(r"decimal\((\d+),(\d+)\)", self.type)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def staged_decimal(self) -> tuple[int, int] | None:
        """Precision and scale while rules run: 18 digits where a range rule will judge the size, so that a number
        too large for the column is out of range rather than unreadable."""
        if self.decimal is None:
            return None
        precision, scale = self.decimal
        judged = self.facts.min is not None and self.facts.max is not None and self._range_rejects
        return (max(precision, 18), scale) if judged else (precision, scale)

    @property
    def _range_rejects(self) -> bool:
        texts = [self.facts.texts.get(kind) for kind in ("min", "max", "range")]
        return not any(text and (text.is_dated or text.action in ("warn", "shadow")) for text in texts)


@dataclass(frozen=True)
class Rule:
    """One rule with its texts. `sql` is the condition that must not be false; None for unique, expect and key rules."""

    id: str
    family: str
    action: str
    kind: str
    columns: tuple[str, ...]
    sql: str | None
    says: Bilingual
    fix: Bilingual
    at: Stage = "delivery"
    since: Period | None = None
    until: Period | None = None
    clause: str | None = None
    expect: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    reference: Reference | None = None

    @cached_property
    def tree(self) -> exp.Expr:
        """The condition as a tree of the language of checks."""
        if self.sql is None:
            raise ValueError(f"rule {self.id} has no condition")
        return language.parse(self.sql)

    @cached_property
    def context_names(self) -> tuple[str, ...]:
        """What its condition refers to besides the cells of the row."""
        return tuple(name for name in language.names(self.tree) if name in (*SCALARS, *LISTS))

    @property
    def is_told(self) -> bool:
        """Whether its supplier hears of it: it speaks of the supplier's own bytes and does not count silently."""
        return self.at == "delivery" and self.action != "shadow"

    @property
    def column(self) -> str:
        """The column a finding is shown at; empty for a rule over the whole delivery."""
        return self.columns[0] if self.columns else ""

    @property
    def is_row_rule(self) -> bool:
        return self.at == "delivery" and self.family != "macro"

    @property
    def rejects(self) -> bool:
        return self.action in ("reject_row", "reject_file")

    def applies_in(self, month_start: date) -> bool:
        """Whether the rule is in force in the month starting on that day."""
        month = Period(month_start.year, month_start.month)
        return (self.since is None or self.since <= month) and (self.until is None or month <= self.until)


@dataclass(frozen=True)
class Contract:
    """What one table is: its columns in published order, its key and its rules."""

    table: str
    dataset: str | None
    says: Bilingual
    key: tuple[str, ...]
    partition_by: str | None
    columns: Mapping[str, Column]
    rules: tuple[Rule, ...]
    path: Path
    fields: Mapping[str, FieldEntry] = field(repr=False, default_factory=dict)

    @cached_property
    def delivered(self) -> tuple[Column, ...]:
        """Columns a supplier may deliver."""
        return tuple(column for column in self.columns.values() if not column.derived)

    @cached_property
    def guarded(self) -> tuple[str, ...]:
        """Columns whose NULL may be a cell that could not be read."""
        return tuple(column.name for column in self.delivered if column.can_fail_to_cast)

    @cached_property
    def validated(self) -> tuple[str, ...]:
        """Columns whose identity check the cast has done."""
        return tuple(column.name for column in self.delivered if column.is_validated)

    @cached_property
    def published(self) -> tuple[Column, ...]:
        """Columns of lake and warehouse: no identity, tokens and derived values in their place."""
        return tuple(shown for column in self.columns.values() if (shown := self._shown(column)) is not None)

    @cached_property
    def row_rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.is_row_rule)

    @cached_property
    def macro_rules(self) -> tuple[Rule, ...]:
        """Rules over one delivery as a whole."""
        return tuple(rule for rule in self.rules if rule.at == "delivery" and rule.family == "macro")

    @cached_property
    def release_rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.at == "release")

    @cached_property
    def correctable(self) -> tuple[str, ...]:
        """Columns whose single values two people of the county may set right (`etl.mended`)."""
        return tuple(column.name for column in self.delivered if column.facts.correctable)

    @cached_property
    def numbered_by(self) -> Column | None:
        """The delivered column that tells the rows of a delivery apart and is published as a token."""
        return next((column for column in self.delivered if column.facts.unique and column.token is not None), None)

    @cached_property
    def own_number(self) -> str | None:
        """The column with the supplier's own number of a row: the one whose token is in the published key."""
        return next((c.name for c in self.delivered if c.token is not None and c.token.name in self.key), None)

    def rule(self, rule_id: str) -> Rule:
        """The rule of that id; raises KeyError."""
        return self._by_id[rule_id]

    @cached_property
    def _by_id(self) -> dict[str, Rule]:
        return {rule.id: rule for rule in self.rules}

    def _shown(self, column: Column) -> Column | None:
        if not column.facts.publish:
            return None
        if column.token is not None:
            return self.field_column(column.token.name)
        if column.publish_as is not None:
            return self.field_column(column.publish_as.name)
        return None if column.privacy == "identity" else column

    def field_column(self, name: str) -> Column:
        """A published column that exists only as a field (a token, say)."""
        return _column(name, ColumnEntry(), self.fields[name], derived=True)


@dataclass(frozen=True)
class Contracts(Mapping[str, Contract]):
    """All contracts by table, and the rules that look across files."""

    tables: Mapping[str, Contract]
    fields: Mapping[str, FieldEntry]
    across: Mapping[str, AcrossRule] = field(default_factory=dict)

    def __getitem__(self, table: str) -> Contract:
        return self.tables[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def for_dataset(self, dataset: str) -> Contract:
        """The contract that describes a feed; raises ConfigurationError when none does."""
        for contract in self.tables.values():
            if contract.dataset == dataset:
                return contract
        raise ConfigurationError(
            "expectations", dataset, "no contract has this dataset", f"add `dataset: {dataset}` to one"
        )


def load_contracts(folders: Sequence[Path]) -> Contracts:
    """Read every contract of the overlay; raises ConfigurationError for the first thing wrong."""
    fields = load_fields(folders)
    tables: dict[str, Contract] = {}
    for path in overlay_files(folders, "*.yml"):
        if path.name != FIELDS_FILE:
            contract = _contract(path, fields)
            tables[contract.table] = contract
    _check_unique_ids(tables.values())
    _check_references(tables)
    taken = {rule.id for contract in tables.values() for rule in contract.rules}
    datasets = {contract.dataset: set(contract.columns) for contract in tables.values() if contract.dataset}
    return Contracts(tables, fields, load_across(folders, datasets, taken))


def load_fields(folders: Sequence[Path]) -> dict[str, FieldEntry]:
    """All fields of the overlay, the first folder that names one wins."""
    fields: dict[str, FieldEntry] = {}
    for folder in folders:
        path = folder / FIELDS_FILE
        if path.is_file():
            for name, entry in _read_fields(path).items():
                fields.setdefault(name, entry)
    if not fields:
        raise ConfigurationError(folders[-1] / FIELDS_FILE, "", "no such file", "create it or correct the folder list")
    return fields


def _read_fields(path: Path) -> dict[str, FieldEntry]:
    return {name: _read_field(path, name, entry) for name, entry in read_yaml(path).items()}


def _read_field(path: Path, name: str, entry: Any) -> FieldEntry:
    try:
        return FieldEntry.model_validate(entry)
    except ValidationError as error:
        found = configuration_error(error, path)
        key = ".".join(part for part in (name, found.key) if part)
        raise ConfigurationError(path, key, found.problem, found.mend) from None


def _contract(path: Path, fields: Mapping[str, FieldEntry]) -> Contract:
    entry = parse_model(ContractEntry, read_yaml(path), path)
    if entry.table != path.stem:
        raise ConfigurationError(path, "table", f"{entry.table!r} is not the file's name", f"write table: {path.stem}")
    columns = {name: _resolved(path, entry, name, facts, fields) for name, facts in entry.columns.items()}
    contract = Contract(
        entry.table, entry.dataset, entry.says, tuple(entry.key), entry.partition_by, columns, (), path, fields
    )
    _check_key(contract)
    _check_published_values(contract)
    _check_correctable(contract)
    rules = tuple(_rules(contract, entry))
    _check_times(contract, rules)
    return replace(contract, rules=rules)


def _check_times(contract: Contract, rules: Sequence[Rule]) -> None:
    for rule in rules:
        if rule.since is not None and rule.until is not None and rule.until < rule.since:
            problem = f"ends in {rule.until}, before it begins in {rule.since}"
            raise ConfigurationError(contract.path, f"rules.{rule.id}", problem, "correct from or to")


def _resolved(
    path: Path, entry: ContractEntry, name: str, facts: ColumnEntry | None, fields: Mapping[str, FieldEntry]
) -> Column:
    facts = facts or ColumnEntry()
    published = [made.name for made in (facts.token, facts.publish_as) if made is not None]
    for needed in (name, *published):
        if needed not in fields:
            raise ConfigurationError(
                path,
                f"columns.{name}",
                f"unknown field {needed!r}",
                f"describe it in {FIELDS_FILE} or correct the name",
            )
    derived = facts.derived if facts.derived is not None else entry.dataset is None
    return _column(name, facts, fields[name], derived=derived)


def _column(name: str, facts: ColumnEntry, meaning: FieldEntry, *, derived: bool) -> Column:
    return Column(name, meaning.type, meaning.unit, meaning.privacy, meaning.label, meaning.says, facts, derived)


def _check_key(contract: Contract) -> None:
    published = [column.name for column in contract.published]
    twice = sorted({name for name in published if published.count(name) > 1})
    if twice:
        raise ConfigurationError(contract.path, "columns", f"{twice[0]!r} is published twice", "publish it once")
    for name in (*contract.key, *([contract.partition_by] if contract.partition_by else [])):
        if name not in published:
            raise ConfigurationError(contract.path, "key", f"{name!r} is not published", "name published columns only")


def _check_published_values(contract: Contract) -> None:
    for column in contract.columns.values():
        if column.publish_as is not None:
            _columns_of(contract, f"columns.{column.name}.publish_as.sql", column.publish_as.sql)


def _check_correctable(contract: Contract) -> None:
    """A row keeps its key and its people whatever is corrected, and needs a number by which it is found."""
    for column in contract.columns.values():
        is_fixed = column.derived or column.token or column.publish_as or column.privacy == "identity"
        if column.facts.correctable and (is_fixed or column.name in contract.key):
            problem = "keys, identities and derived values cannot be corrected"
            raise ConfigurationError(contract.path, f"columns.{column.name}.correctable", problem, "drop the word")
        if column.facts.correctable and contract.numbered_by is None:
            mend = "mark the column of its number `unique` and give it a token"
            raise ConfigurationError(contract.path, f"columns.{column.name}.correctable", "no row has a number", mend)


def _rules(contract: Contract, entry: ContractEntry) -> Iterator[Rule]:
    for column in contract.columns.values():
        yield from _fact_rules(contract, column)
    for reference in entry.references:
        yield _reference_rule(contract, reference)
    for rule in entry.rules:
        yield _written_rule(contract, rule)


def _fact_rules(contract: Contract, column: Column) -> Iterator[Rule]:
    facts, name = column.facts, column.name
    stage: Stage = "release" if column.derived else "delivery"
    unknown = set(facts.rules) - set(_facts_present(column))
    if unknown:
        raise ConfigurationError(
            contract.path,
            f"columns.{name}.rules.{sorted(unknown)[0]}",
            "the column has no such fact",
            "add the fact or drop the id",
        )
    for kind, sql in _facts_present(column).items():
        texts = facts.texts.get(kind, FactTexts())  # type: ignore[call-overload]
        text_kind = _text_kind(kind, column)
        bounds = {"min": facts.min, "max": facts.max}
        yield Rule(
            id=facts.rules.get(kind, f"{contract.table}.{name}.{kind}"),  # type: ignore[call-overload]
            family=texts.family or _FAMILY_OF.get(text_kind, "syntax"),
            action=texts.action or "reject_row",
            kind=text_kind if kind == "check" else kind,
            columns=_columns_of(contract, f"columns.{name}", sql, first=name) if facts.when else (name,),
            sql=sql,
            says=texts.says or messages.says(text_kind, column.label, **bounds),
            fix=texts.fix or messages.fix(text_kind, column.label, **bounds),
            at=stage,
            since=texts.from_,
            until=texts.to,
            clause=texts.clause,
        )


def _text_kind(kind: str, column: Column) -> str:
    if kind == "type":
        return f"type_{'decimal' if column.decimal else column.type.replace('bigint', 'integer')}"
    return str(column.facts.check) if kind == "check" else kind


def _facts_present(column: Column) -> dict[str, str | None]:
    """Kind of fact -> condition (None for uniqueness), in a fixed order."""
    name, facts = language.quote(column.name), column.facts
    raw = language.quote(column.raw_name)
    conditions: dict[str, str | None] = {}
    if facts.required:
        conditions["required"] = f"{name if column.derived else raw} IS NOT NULL"
    if not column.derived and column.can_fail_to_cast:
        conditions["codes" if facts.codes else "type"] = f"{raw} IS NULL OR {name} IS NOT NULL"
    if column.derived and facts.values:
        conditions["codes"] = f"{name} IN ({', '.join(language.text_sql(value) for value in facts.values)})"
    conditions |= _bounds(name, facts)
    if facts.pattern is not None:
        conditions["pattern"] = f"regexp_matches({name}, {language.text_sql(facts.pattern)})"
    if facts.check is not None:
        valid = f"{facts.check}_is_valid({name})"
        conditions["check"] = f"NOT ({facts.when}) OR {valid}" if facts.when else valid
    if facts.unique:
        conditions["unique"] = None
    return conditions


def _bounds(name: str, facts: ColumnEntry) -> dict[str, str | None]:
    low = f"{name} >= {facts.min}" if facts.min is not None else None
    high = f"{name} <= {facts.max}" if facts.max is not None else None
    if low and high and not {"min", "max"} & set(facts.rules):
        return {"range": f"{low} AND {high}"}
    return {kind: sql for kind, sql in (("min", low), ("max", high)) if sql}


def _columns_of(contract: Contract, key: str, sql: str | None, first: str = "") -> tuple[str, ...]:
    """Columns a condition is about; raises ConfigurationError for one the table does not have."""
    if sql is None:
        return (first,)
    try:
        named = language.column_names(language.parse(sql))
    except ValueError as error:
        raise ConfigurationError(contract.path, key, str(error), "write it in the language of checks") from None
    for name in named:
        if name not in contract.columns:
            raise ConfigurationError(
                contract.path, key, f"unknown column {name!r}", "correct the name or add the column"
            )
    return tuple(dict.fromkeys((first, *named) if first else named))


def _reference_rule(contract: Contract, reference: Reference) -> Rule:
    texts = {"columns": ", ".join(reference.columns), "target": reference.table}
    return Rule(
        id=f"{contract.table}.{'.'.join(reference.columns)}.reference",
        family="validity",
        action=reference.action,
        kind="reference",
        columns=tuple(reference.columns),
        sql=None,
        says=messages.says("reference", contract.says, **texts),
        fix=messages.fix("reference", contract.says, **texts),
        at="release",
        reference=reference,
    )


def _written_rule(contract: Contract, entry: RuleEntry) -> Rule:
    key = f"rules.{entry.id}"
    if (entry.check is None) == (entry.expect is None):
        raise ConfigurationError(contract.path, key, "needs exactly one of check and expect", "keep one")
    stage: Stage = entry.at or ("delivery" if contract.dataset else "release")
    return Rule(
        id=entry.id,
        family=entry.family,
        action=entry.action,
        kind="check" if entry.check else "expect",
        columns=_written_columns(contract, key, entry, stage),
        sql=entry.check,
        says=entry.says,
        fix=entry.fix or Bilingual(zh="", en=""),
        at=stage,
        since=entry.from_,
        until=entry.to,
        clause=entry.clause,
        expect=entry.expect,
        kwargs=entry.kwargs,
    )


def _written_columns(contract: Contract, key: str, entry: RuleEntry, stage: Stage) -> tuple[str, ...]:
    if entry.check is None:
        return _expected_columns(contract, key, entry.kwargs)
    if stage == "release":
        return _release_columns(contract, key, entry.check)
    columns = _columns_of(contract, key, entry.check)
    for name in columns:
        if contract.columns[name].derived:
            raise ConfigurationError(
                contract.path, key, f"{name!r} is not delivered", "use delivered columns, or at: release"
            )
    facts = set(language.names(language.parse(entry.check))) & set(DELIVERY_FACTS)
    if facts and entry.family != "macro":
        raise ConfigurationError(
            contract.path, key, f"{sorted(facts)[0]!r} is a fact of the delivery", "use family: macro"
        )
    return columns


def _expected_columns(contract: Contract, key: str, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    named = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    named += list(kwargs.get("column_list", []))
    known = {*contract.columns, *(column.name for column in contract.published)}
    for name in named:
        if name not in known:
            raise ConfigurationError(
                contract.path, key, f"unknown column {name!r}", "correct the name or add the column"
            )
    return tuple(named)


def _release_columns(contract: Contract, key: str, check: str) -> tuple[str, ...]:
    """Release checks run as plain SQL in the warehouse over published columns."""
    try:
        named = language.release_names(check)
    except ValueError as error:
        raise ConfigurationError(contract.path, key, str(error), "write one boolean SQL expression") from None
    published = {column.name for column in contract.published}
    for name in named:
        if name not in published:
            raise ConfigurationError(contract.path, key, f"{name!r} is not published", "use published columns")
    return tuple(named)


def _check_unique_ids(contracts: Any) -> None:
    seen: dict[str, Contract] = {}
    for contract in contracts:
        for rule in contract.rules:
            if rule.id in seen:
                raise ConfigurationError(
                    contract.path,
                    f"rules.{rule.id}",
                    f"rule id used twice (also in {seen[rule.id].path.name})",
                    "choose another id",
                )
            seen[rule.id] = contract


def _check_references(tables: Mapping[str, Contract]) -> None:
    for contract in tables.values():
        for rule in contract.release_rules:
            if rule.reference is not None:
                _check_reference(contract, rule.reference, tables)


def _check_reference(contract: Contract, reference: Reference, tables: Mapping[str, Contract]) -> None:
    key = f"references.{reference.table}"
    if reference.table not in tables:
        raise ConfigurationError(contract.path, key, "no such table", "correct the name or add its contract")
    if len(reference.columns) != len(reference.to):
        raise ConfigurationError(contract.path, key, "columns and to differ in length", "pair them one to one")
    for owner, names in ((contract, reference.columns), (tables[reference.table], reference.to)):
        unknown = sorted(set(names) - {column.name for column in owner.published})
        if unknown:
            raise ConfigurationError(
                contract.path, key, f"{owner.table} has no column {unknown[0]!r}", "correct the name"
            )


def ruleset_checksum(contract: Contract, codes: CodeLists) -> str:
    """32 hexadecimal digits that change when a column, a told rule or a code list the contract uses changes.

    Suppliers see it in receipts, and compute it from their pack, which says nothing of the other rules. What the county
    may correct later decides about no row of theirs.
    """
    lists = {column.codes: codes.lists[column.codes] for column in contract.columns.values() if column.codes}
    content = {
        "columns": {
            name: [column.type, column.facts.model_dump(mode="json", exclude={"correctable"})]
            for name, column in contract.columns.items()
        },
        "rules": [_rule_content(rule) for rule in contract.rules if rule.is_told],
        "codes": lists,
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _rule_content(rule: Rule) -> list[Any]:
    return [
        rule.id,
        rule.action,
        rule.kind,
        rule.sql,
        rule.at,
        str(rule.since),
        str(rule.until),
        rule.expect,
        rule.kwargs,
    ]
