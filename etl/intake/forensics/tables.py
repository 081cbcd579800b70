"""Causes that show over a whole column or the whole table: units, months, places of columns, totals, repeated rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.casts import date_pattern
from etl.contract.context import Context
from etl.contract.model import Column, Rule
from etl.findings import RowFinding
from etl.intake.forensics.rows import MAX_CELLS, Cells, Delivered
from etl.intake.forensics.wording import Diagnosis, diagnosis

_SHARE: Final = 0.9
_MIN_CELLS: Final = 5
_MIN_AMOUNTS: Final = 10
_TEN_THOUSAND: Final = 10_000
_MAC_DAYS: Final = timedelta(days=1462)
_TOTAL: Final = r"^[\s　]*(?:合\s*计|总\s*计|小\s*计|汇\s*总|共\s*计|总\s*额|(?i:sub)?(?i:total)|(?i:sum))[\s　:：]*$"
_LAST_ROWS: Final = 3
_IS_PERIOD_END: Final = re.compile(r"\s*(\w+) = period_end\s*")
_AT_MOST: Final = re.compile(r"\s*(\w+) <= ([0-9]+)\s*")
_FACTS: Final = ("type", "codes", "resident_id", "pattern")


def diagnose_table(delivered: Delivered, context: Context, unsplit: Sequence[RowFinding]) -> Iterator[Diagnosis]:
    """What the rows say together; the units of amounts are looked at even where no rule fired."""
    yield from _units(delivered)
    if not delivered.fired and not unsplit:
        return
    yield from _months(delivered, context)
    yield from _header_as_row(delivered)
    yield from _places_of_columns(delivered)
    yield from _totals(delivered, unsplit)
    yield from _repeated(delivered)
    yield from _lost_keys(delivered)
    yield from _lost_text(delivered)


# -- units ------------------------------------------------------------------------------------------------------------


def _units(delivered: Delivered) -> Iterator[Diagnosis]:
    cap = _largest_plausible(delivered)
    for column in delivered.columns:
        unit = delivered.layout.units.get(column.name)
        if column.decimal is None:
            continue
        if (column.unit or "").startswith("percent") and delivered.fired_on(column.name):
            yield from _rates(delivered, column, is_fraction=unit == "fraction")
        elif column.unit == "yuan" and cap and unit == "10k_yuan":
            yield from _amounts_in_yuan(delivered, column, cap)
        elif column.unit == "yuan" and cap:
            yield from _amounts_in_10k(delivered, column, cap)


def _largest_plausible(delivered: Delivered) -> int | None:
    """What the contract's own quality rules call a large amount, such as `balance_yuan <= 2000000`."""
    found = [_AT_MOST.fullmatch(rule.sql) for rule in delivered.contract.row_rules if rule.sql]
    yuan = {column.name for column in delivered.contract.delivered if column.unit == "yuan"}
    return max((int(match[2]) for match in found if match and match[1] in yuan), default=None)


def _rates(delivered: Delivered, column: Column, *, is_fraction: bool) -> Iterator[Diagnosis]:
    cells = delivered.sample(column)
    rates = cells.numbers()
    rates = rates[rates > 0]
    other = rates >= 1 if is_fraction else rates < 1
    if len(rates) >= _MIN_CELLS and other.mean() >= _SHARE:
        code = "fraction_as_percent" if is_fraction else "percent_as_fraction"
        yield _of_column(code, delivered, cells, int(other.sum()), len(rates))


def _amounts_in_10k(delivered: Delivered, column: Column, cap: int) -> Iterator[Diagnosis]:
    """Every amount so small that it would still be plausible ten thousand times as large."""
    cells, limit = delivered.sample(column), cap / _TEN_THOUSAND
    amounts = cells.numbers()
    amounts = amounts[amounts > 0]
    if len(amounts) >= _MIN_AMOUNTS and (amounts <= limit).all():
        yield _of_column("amount_in_10k_yuan", delivered, cells, len(amounts), len(amounts), limit=int(limit))


def _amounts_in_yuan(delivered: Delivered, column: Column, cap: int) -> Iterator[Diagnosis]:
    """Nearly every amount far above what a rule calls large, once it is taken for 万元."""
    cells, limit = delivered.sample(column), cap / _TEN_THOUSAND
    amounts = cells.numbers()
    amounts = amounts[amounts > 0]
    large = amounts >= limit
    if len(amounts) >= _MIN_CELLS and large.mean() >= _SHARE:
        yield _of_column("amount_in_yuan", delivered, cells, int(large.sum()), len(amounts), limit=int(limit))


def _of_column(code: str, delivered: Delivered, cells: Cells, n: int, of: int, **words: object) -> Diagnosis:
    name = cells.column.name
    return diagnosis(
        code, field=name, column=delivered.heading(name), n=n, of=of, explains=delivered.fired_on(name), words=words
    )


# -- months -----------------------------------------------------------------------------------------------------------


def _months(delivered: Delivered, context: Context) -> Iterator[Diagnosis]:
    for rule in delivered.contract.row_rules:
        match = _IS_PERIOD_END.fullmatch(rule.sql or "")
        if match and rule.id in delivered.fired:
            yield from _other_end(delivered, rule, match[1], context.period_end)


def _other_end(delivered: Delivered, rule: Rule, name: str, period_end: date) -> Iterator[Diagnosis]:
    """The date most rows bear instead of the period's end."""
    column = delivered.contract.columns[name]
    if column not in delivered.columns:
        return
    cells = delivered.sample(column)
    top = max(pc.value_counts(cells.texts).to_pylist(), key=lambda entry: entry["counts"], default=None)
    if top is None or top["counts"] < cells.count * _SHARE:
        return
    day = _read(top["values"], delivered.layout.dates)
    code = _why_another_day(day, period_end) if day else None
    if code:
        yield _of_column(code, delivered, cells, top["counts"], cells.count)


def _why_another_day(day: date, period_end: date) -> str | None:
    if abs(day - period_end) == _MAC_DAYS:
        return "date_system_1904"
    is_month_end = (day + timedelta(days=1)).day == 1
    return "other_month" if is_month_end and day != period_end else None


def _read(text: str, form: str) -> date | None:
    try:
        return datetime.strptime(text, form).date()
    except ValueError:
        return None


# -- places -----------------------------------------------------------------------------------------------------------


def _header_as_row(delivered: Delivered) -> Iterator[Diagnosis]:
    """A first row without a digit where dates and numbers belong, in a layout without a header."""
    if delivered.layout.header or delivered.layout.format != "delimited" or not delivered.row_count:
        return
    first = delivered.table.slice(0, 1).to_pylist()[0]
    typed = [column for column in delivered.columns if column.codes is None and not column.is_text]
    cells = [first[column.name] for column in typed if first[column.name].strip()]
    without = [cell for cell in cells if not re.search("[0-9]", cell)]
    if first["_row"] == 1 and len(cells) >= 2 and len(without) == len(cells):
        rules = sorted(rule.id for rule in delivered.contract.row_rules if rule.id in delivered.fired)
        yield diagnosis(
            "header_unexpected",
            member=first["_member"],
            n=len(without),
            of=len(cells),
            places=[1],
            explains=[rule for rule in rules if delivered.contract.rule(rule).kind in _FACTS],
        )


def _places_of_columns(delivered: Delivered) -> Iterator[Diagnosis]:
    """Columns whose cells are nearly all refused, have not their own form and nearly all that of another such column."""
    refused = [column for column in delivered.columns if _is_refused(delivered, column)]
    cells = {column.name: delivered.sample(column).texts for column in refused}
    misplaced = [column for column in refused if not _fit(cells[column.name], column, delivered)]
    fits = [
        column
        for column in misplaced
        if any(other is not column and _fit(cells[column.name], other, delivered) for other in misplaced)
    ]
    if len(fits) >= 2:
        rules = [rule for column in fits for rule in delivered.fired_on(column.name)]
        yield diagnosis(
            "columns_reordered",
            field=" | ".join(column.name for column in fits),
            column=" | ".join(delivered.heading(column.name) for column in fits),
            n=len(fits),
            of=len(delivered.columns),
            explains=list(dict.fromkeys(rules)),
        )


def _is_refused(delivered: Delivered, column: Column) -> bool:
    return delivered.refused(column, _FACTS).count >= max(_MIN_CELLS, min(delivered.row_count, MAX_CELLS) * _SHARE)


def _fit(cells: pa.Array, column: Column, delivered: Delivered) -> bool:
    """Whether nearly all cells have the form a column asks for; free text asks for none."""
    if column.codes is not None:
        own = delivered.codes.mapping(column.codes, delivered.layout.codes)
        fitting = pc.is_in(cells, pa.array(list(own), pa.string()))
    elif column.is_text and not column.is_validated:
        return False
    else:
        fitting = pc.match_substring_regex(cells, _form_of(column, delivered.layout.dates))
    return bool(len(cells) and pc.mean(pc.cast(fitting, pa.int8())).as_py() >= _SHARE)


def _form_of(column: Column, dates: str) -> str:
    if column.type == "date":
        return date_pattern(dates)[0]
    return "^[1-9][0-9]{16}[0-9Xx]$" if column.is_validated else "^[+-]?[0-9]{1,12}(?:[.][0-9]{1,8})?$"


# -- rows -------------------------------------------------------------------------------------------------------------


def _totals(delivered: Delivered, unsplit: Sequence[RowFinding]) -> Iterator[Diagnosis]:
    """One of the last rows holds a word for total alone in a cell, or the last one is a sum and nobody's row."""
    last = delivered.table.slice(max(delivered.row_count - _LAST_ROWS, 0)).to_pylist()
    places = [row["_row"] for row in last if any(_is_total(str(cell)) for cell in row.values())]
    places += [row["_row"] for row in last[-1:] if not places and _is_sum(row, delivered)]
    end = max((row["_row"] for row in last), default=0)
    marks = re.escape(delivered.layout.delimiter)
    places += [f.row for f in unsplit[-_LAST_ROWS:] if f.row >= end and any(map(_is_total, re.split(marks, f.raw)))]
    if places:
        rules = [
            r.id for r in delivered.contract.row_rules if r.id in delivered.fired and r.kind in (*_FACTS, "required")
        ]
        yield diagnosis("total_row", n=len(places), places=places, explains=rules or ["P201"])


def _sums_before(delivered: Delivered) -> dict[str, Decimal]:
    """The sums of all decimal columns over the rows before the last, as far as they are plain numbers."""
    if not 2 <= delivered.row_count <= MAX_CELLS:
        return {}
    before = delivered.table.slice(0, delivered.row_count - 1)
    names = [column.name for column in delivered.columns if column.decimal is not None]
    return {name: sum(map(_decimal, before[name].to_pylist()), Decimal()) for name in names}


def _is_sum(row: Mapping[str, Any], delivered: Delivered) -> bool:
    """Whether most required cells are blank and an amount is the sum of all before it."""
    required = [column.name for column in delivered.columns if column.required]
    if sum(not row[name].strip() for name in required) * 2 <= len(required):
        return False
    return any(total and _decimal(row[name]) == total for name, total in _sums_before(delivered).items())


def _decimal(text: str) -> Decimal:
    return Decimal(text.strip()) if re.fullmatch(r"\s*[+-]?[0-9]{1,15}([.][0-9]{1,15})?\s*", text) else Decimal()


def _is_total(cell: str) -> bool:
    return bool(re.match(_TOTAL, cell.strip('"')))


def _repeated(delivered: Delivered) -> Iterator[Diagnosis]:
    """Among rows with a number that occurs twice, those alike in every column."""
    rules = [rule.id for rule in delivered.contract.row_rules if rule.kind == "unique" and rule.id in delivered.fired]
    if not rules:
        return
    taken = delivered.table.take(pa.array(delivered.rows_of(rules)[:MAX_CELLS]))
    texts = [taken[column.name] for column in delivered.columns]
    joined = pc.binary_join_element_wise(*texts, "\x1f").combine_chunks().dictionary_encode()
    places = joined.indices.to_numpy(zero_copy_only=False)
    counts = np.bincount(places)[places]
    alike = taken["_row"].to_numpy()[counts > 1]
    if len(alike):
        yield diagnosis("rows_repeated", n=len(alike), of=taken.num_rows, places=alike.tolist()[:5], explains=rules)


def _lost_keys(delivered: Delivered) -> Iterator[Diagnosis]:
    """Numbers that became alike because a spreadsheet keeps fifteen digits."""
    for column in delivered.columns:
        cells = delivered.refused(column, ["unique"])
        if not cells.count:
            continue
        lost = pc.match_substring_regex(cells.texts, "^[0-9]{15}0+$").to_numpy(zero_copy_only=False)
        if lost.mean() >= _SHARE:
            yield diagnosis(
                "digits_lost",
                field=column.name,
                column=delivered.heading(column.name),
                n=int(lost.sum()),
                of=cells.count,
                places=cells.rows[lost].tolist()[:5],
                explains=cells.rules,
            )


def _lost_text(delivered: Delivered) -> Iterator[Diagnosis]:
    """The marks that a wrong conversion leaves for good: U+FFFD, and U+FFFD once more read as GB18030."""
    for column in delivered.columns:
        if not column.is_text or column.is_validated:
            continue
        cells = delivered.sample(column)
        lost = pc.match_substring_regex(cells.texts, "\ufffd|锟斤拷").to_numpy(zero_copy_only=False)
        if lost.any():
            yield diagnosis(
                "text_lost",
                field=column.name,
                column=delivered.heading(column.name),
                n=int(lost.sum()),
                of=cells.count,
                places=cells.rows[lost].tolist()[:5],
                explains=delivered.fired_on(column.name),
            )
