"""Sample rows of any feed: good ones that break no rule, and for every rule one row that breaks it.

Nothing is written by hand for a dataset. Cells come from pools made of the contract (types, bounds, codes, patterns) and
of what the checks compare with; rows are then mended, or spoilt, by trying variants against the very rules of intake
until none fires, or the wanted one does. The same contract gives the same rows.

People in samples are plainly invented, like those of the synthetic county: sequence numbers from 900 on, names that
begin with 合成.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import rstr
from sqlglot import exp

from etl.contract.casts import cast_select, shift_of, source_codes
from etl.contract.model import Column, Rule
from etl.contract.predicates import active_rules, findings_select
from etl.deliveries import Subject
from etl.engine.duck import DuckEngine
from etl.identifiers import credit_code_check_character, resident_check_character
from etl.intake.strings import frame

Row = dict[str, str]
MOST_GOOD_ROWS: Final = 500
_FEW: Final = 5
_ATTEMPTS: Final = 40
_VARIANTS: Final = 120
_TEXT: Final = "示例"
_PERSON: Final = "合成示例"
_DAYS: Final = (0, -30, -200, -400, -800, 200, 400, 1100)
_FAR_DAYS: Final = (1, 15_000, -15_000)
_NUMBERS: Final = ("5000", "12000", "4.35", "1", "0")
_WRONG_NUMBERS: Final = ("12,000.00", "-1", "0.0435", "99999999", "30", "2500000")
_WHOLE: Final = ("0", "1", "3", "35", "95")
_WRONG_WHOLE: Final = ("三十", "-1", "100000", "200")
_LONGEST_LIST: Final = 400
_READABLE: Final = ("SAMPLE-{n:04d}", "SAMPLE{n:06d}", "{n:08d}", "{n:012d}", "M{n:06d}")


@dataclass(frozen=True)
class Broken:
    """A row of the bad sample (1-based) and the rule it was made to break."""

    row: int
    rule: str


@dataclass(frozen=True)
class Samples:
    """Rows as canonical column -> cell as delivered; `bad` begins with the good rows.

    `unattained` are rules that run on this layout and for which no row was found.
    """

    good: Sequence[Row]
    bad: Sequence[Row]
    broken: Sequence[Broken]
    unattained: Sequence[str]


@dataclass(frozen=True)
class _Pool:
    """Cells to try for one column: those that may be right, and those that are meant to be wrong."""

    good: tuple[str, ...]
    wrong: tuple[str, ...]


def make_samples(subject: Subject) -> Samples | None:
    """Sample rows of one delivery; None when no row without a finding was found."""
    with DuckEngine(memory_limit="400MB", threads=1) as engine:
        maker = _Maker(engine, subject)
        good = maker.good_rows()
        return maker.with_bad_rows(good) if good else None


class _Maker:
    """Tries rows of one feed against its rules."""

    def __init__(self, engine: DuckEngine, subject: Subject) -> None:
        self._engine, self._subject = engine, subject
        self._random = random.Random(f"{subject.contract.table}/{subject.delivery.supplier}")
        layout, contract = subject.layout, subject.contract
        self._columns = [contract.columns[name] for name in layout.canonical if name not in layout.defaults]
        self._pools = {column.name: self._pool(column) for column in self._columns}
        self._unique = [column.name for column in self._columns if column.facts.unique]
        rules = active_rules(contract, layout, subject.context)
        self._rules = {rule.id: rule for rule in rules if rule.kind != "unique"}
        self._repeats = [rule for rule in rules if rule.kind == "unique" and rule.column in self._unique]
        of_rows = replace(contract, rules=tuple(rule for rule in contract.rules if rule.kind != "unique"))
        self._findings_sql = findings_select(of_rows, layout, relation="typed", context=subject.context)

    # -- good rows ----------------------------------------------------------------------------------------------------

    def good_rows(self) -> list[Row]:
        """Rows that break nothing, as many as the feed asks for; empty when the pools hold none."""
        rows = [self._plain(number) for number in range(_FEW)]
        for _ in range(_ATTEMPTS):
            fired = self._fired(rows)
            if not any(fired):
                break
            rows = self._mended(rows, fired)
        sound = [row for row, broken in zip(rows, self._fired(rows), strict=True) if not broken]
        if not sound:
            return []
        wanted = min(max(self._subject.feed.accept.rows.min, len(sound)), MOST_GOOD_ROWS)
        return [self._numbered(sound[place % len(sound)], place) for place in range(wanted)]

    def _plain(self, number: int) -> Row:
        """The first guess: every column filled, codes and identity numbers in turn."""
        row = {}
        for column in self._columns:
            pool = self._pools[column.name].good
            turns = max(len(pool) - (not column.required), 1) if column.codes or column.is_validated else 1
            row[column.name] = pool[number % turns]
        return self._numbered(row, number)

    def _numbered(self, row: Row, number: int) -> Row:
        """The row under numbers of its own."""
        return {**row, **{name: self._own_number(name, number) for name in self._unique}}

    def _own_number(self, name: str, number: int) -> str:
        facts = self._subject.contract.columns[name].facts
        if facts.check == "credit_code":
            return _credit_code(number)
        pattern = facts.pattern
        readable = (form.format(n=number + 1) for form in _READABLE)
        fitting = next((text for text in readable if pattern is None or re.search(pattern, text)), None)
        return fitting or str(rstr.Rstr(random.Random(f"{name}{number}")).xeger(str(pattern)))

    def _mended(self, rows: Sequence[Row], fired: Sequence[frozenset[str]]) -> list[Row]:
        """Each broken row replaced by the best of its variants."""
        variants = [
            [row, *(self._varied(row, broken) for _ in range(_VARIANTS))] if broken else [row]
            for row, broken in zip(rows, fired, strict=True)
        ]
        fired_again = iter(self._fired([row for group in variants for row in group]))
        scored = [[(len(next(fired_again)), self._blanks(row)) for row in group] for group in variants]
        return [group[scores.index(min(scores))] for group, scores in zip(variants, scored, strict=True)]

    def _blanks(self, row: Row) -> int:
        """Of two rows the one that shows more is the better sample."""
        return sum(cell in self._subject.layout.nulls or not cell for cell in row.values())

    def _varied(self, row: Row, broken: frozenset[str]) -> Row:
        rule = self._rules[self._random.choice(sorted(broken))]
        names = [name for name in rule.columns if name in self._pools and name not in self._unique]
        chosen = self._random.sample(names, self._random.randint(1, len(names))) if names else []
        return {**row, **{name: self._random.choice(self._pools[name].good) for name in chosen}}

    # -- bad rows -----------------------------------------------------------------------------------------------------

    def with_bad_rows(self, good: list[Row]) -> Samples:
        """The good rows, one row for each rule that can be broken, and one number twice."""
        rules = [rule for rule in self._rules.values() if rule.action != "shadow"]
        spoilt = self._spoilt(good[: len({tuple(row.values()) for row in good[:_FEW]})], rules)
        bad, broken = list(good), []
        for rule in rules:
            if rule.id in spoilt:
                bad.append(self._renumbered(spoilt[rule.id], rule, len(bad)))
                broken.append(Broken(len(bad), rule.id))
        for rule in self._repeats:
            twice = self._numbered(good[0], len(bad))
            bad += [twice, {**self._numbered(good[-1], len(bad) + 1), rule.column: twice[rule.column]}]
            broken += [Broken(len(bad) - 1, rule.id), Broken(len(bad), rule.id)]
        missed = [rule.id for rule in rules if rule.id not in spoilt]
        return Samples(good, bad, broken, missed)

    def _renumbered(self, row: Row, rule: Rule, number: int) -> Row:
        """A number of its own unless the number is what is wrong."""
        fresh = self._numbered(row, number)
        return {**fresh, **{name: row[name] for name in self._unique if name in rule.columns}}

    def _spoilt(self, bases: Sequence[Row], rules: Sequence[Rule]) -> dict[str, Row]:
        """For each rule the variant that breaks it and as little else as possible."""
        tried = [(rule, variant) for rule in rules for base in bases for variant in self._spoiling(base, rule)]
        best: dict[str, tuple[int, int]] = {}
        fired = self._fired([variant for _, variant in tried])
        for place, ((rule, _), found) in enumerate(zip(tried, fired, strict=True)):
            if rule.id in found:
                best[rule.id] = min(best.get(rule.id, (len(found), place)), (len(found), place))
        return {rule: tried[place][1] for rule, (_, place) in best.items()}

    def _spoiling(self, base: Row, rule: Rule) -> Iterator[Row]:
        pools = {name: self._every(name) for name in rule.columns if name in self._pools}
        for name, pool in pools.items():
            yield from ({**base, name: cell} for cell in pool)
        if len(pools) > 1:
            for _ in range(_VARIANTS):
                yield {**base, **{name: self._random.choice(pool) for name, pool in pools.items()}}

    def _every(self, name: str) -> list[str]:
        pool = self._pools[name]
        return list(dict.fromkeys((*pool.wrong, *pool.good)))

    # -- the rules ----------------------------------------------------------------------------------------------------

    def _fired(self, rows: Sequence[Row]) -> list[frozenset[str]]:
        """The rules each row breaks."""
        layout = self._subject.layout
        cells = {column.name: pa.array([row[column.name] for row in rows], pa.string()) for column in self._columns}
        numbers = np.arange(1, len(rows) + 1, dtype=np.int64)
        batch = frame(cells, layout, delivery_id="sample", member="sample", rows=numbers, lines=numbers)
        self._engine.register_arrow("strings", pa.Table.from_batches([batch]))
        self._engine.run_model("typed", cast_select(self._subject.contract, layout, self._subject.codes))
        found: list[set[str]] = [set() for _ in rows]
        for row, rule in self._engine.fetch(f"SELECT _row, rule FROM ({self._findings_sql})"):
            found[row - 1].add(rule)
        return [frozenset(rules) for rules in found]

    # -- cells to try -------------------------------------------------------------------------------------------------

    def _pool(self, column: Column) -> _Pool:
        good, wrong = self._cells(column)
        blank = self._subject.layout.nulls[0] if self._subject.layout.nulls else ""
        optional = () if column.required else (blank,)
        kept = [cell for cell in (*good, *optional) if self._fits(cell)]
        return _Pool(tuple(dict.fromkeys(kept)), tuple(cell for cell in (*wrong, blank) if self._fits(cell)))

    def _fits(self, cell: str) -> bool:
        """Whether the layout can carry the cell: without quotes, the delimiter cannot stand in it."""
        layout = self._subject.layout
        return not (layout.format == "delimited" and layout.quote == "none" and layout.delimiter in cell)

    def _cells(self, column: Column) -> tuple[Iterable[str], Iterable[str]]:
        if column.codes is not None:
            by_value = {
                value: code for code, value in source_codes(column, self._subject.layout, self._subject.codes).items()
            }
            return by_value.values(), ("??",)
        if column.type == "date":
            return self._dates(_DAYS), (*self._dates(_FAR_DAYS), self._no_date())
        if column.decimal is not None:
            bounds = _around(column.facts.min, column.facts.max)
            return self._amounts(column, _NUMBERS), (*self._amounts(column, (*_WRONG_NUMBERS, *bounds)), "不详")
        if column.type in ("integer", "bigint"):
            return _WHOLE, (*_WRONG_WHOLE, *_around(column.facts.min, column.facts.max))
        if column.type == "boolean":
            return ("1", "0"), ("也许",)
        return self._texts(column)

    def _dates(self, days: Iterable[int]) -> list[str]:
        end, form = self._subject.context.period_end, self._subject.layout.dates
        return [_shifted(end, offset).strftime(form) for offset in days]

    def _no_date(self) -> str:
        """A 30th of February in the agreed form."""
        return self._subject.layout.dates.replace("%Y", "2023").replace("%m", "02").replace("%d", "30")

    def _amounts(self, column: Column, numbers: Iterable[str]) -> list[str]:
        """Numbers in the unit in which the column is delivered."""
        shift = shift_of(column, self._subject.layout)
        if shift == 0:
            return list(numbers)
        return [text if "," in text else format((Decimal(text).scaleb(-shift)).normalize(), "f") for text in numbers]

    def _texts(self, column: Column) -> tuple[Iterable[str], Iterable[str]]:
        if column.is_validated:
            numbers = [self._resident(sequence) for sequence in (901, 902, 911, 930)]
            return numbers, (numbers[0][:-1] + ("0" if numbers[0][-1] != "0" else "1"), numbers[0][:15])
        if column.facts.check == "credit_code":
            return [_credit_code(number) for number in range(3)], ("91341181990000001X", "341181990000001")
        if column.facts.pattern is not None:
            drawn = [self._own_number(column.name, number) for number in range(3)]
            return drawn, ("!", f"{drawn[0]}!")
        own = (_PERSON,) if column.privacy == "identity" else (_TEXT,)
        return (*own, *self._compared(column)), ("其他",)

    def _resident(self, sequence: int) -> str:
        area = next(iter(self._subject.context.id_prefixes), "999999")
        first = f"{area}19800101{sequence}"
        return first + resident_check_character(first)

    def _compared(self, column: Column) -> list[str]:
        """What checks compare the column with: literals, and the lists of the context they name."""
        found: list[str] = []
        for rule in self._subject.contract.row_rules:
            if rule.kind == "check" and column.name in rule.columns:
                found += [node.this for node in rule.tree.find_all(exp.Literal) if node.is_string]
                named = {node.name for node in rule.tree.find_all(exp.Column)}
                found += self._listed(named)
        return list(dict.fromkeys(found))

    def _listed(self, named: set[str]) -> Iterator[str]:
        context = self._subject.context
        lists: Mapping[str, Sequence[str]] = {
            "institution_codes": context.institution_codes,
            "known_villages": context.known_villages,
            "county_codes": context.county_codes,
            "id_prefixes": context.id_prefixes,
        }
        return itertools.chain.from_iterable(values[:_LONGEST_LIST] for name, values in lists.items() if name in named)


def _credit_code(number: int) -> str:
    """A plainly invented code of an individual business: no organisation number begins with 99."""
    first = f"9234118199{number:07d}"
    return first + credit_code_check_character(first)


def _around(low: Decimal | None, high: Decimal | None) -> list[str]:
    """Numbers just beyond the bounds."""
    return [*([str(low - 1)] if low is not None else []), *([str(high + 1)] if high is not None else [])]


def _shifted(end: date, days: int) -> date:
    return end + timedelta(days=days)
