"""Strings to typed columns: one SELECT per delivery, generated from contract, layout and code lists.

Every delivered column becomes `<name>`: typed, canonical, in yuan and percent; NULL when blank, one of the layout's null
marks, or unreadable. Columns that can be unreadable (all but plain text) keep the trimmed cell beside it as
`<name>__raw`; identity columns with a check get `<name>__valid`. Numbers and dates pass a regular expression before the
cast, so that nothing is guessed: no thousands separators, exponents, full-width digits or two-digit years.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa

from etl.contract.language import RAW, VALID, quote, text_sql
from etl.contract.model import Column, Contract
from etl.identifiers import id_digest_is_valid_sql, resident_id_sql
from etl.registry import CodeLists, Layout
from etl.vocabulary import ConfigurationError

ROW_COLUMNS = ("_delivery", "_member", "_row", "_line")
BLANKS = " \t\r\n"
_BLANKS_SQL = "' ' || chr(9) || chr(13) || chr(10)"
_POWER_OF_TEN = {"10k_yuan": 4, "fraction": 2, "yuan": 0, "percent": 0}
_MAX_DECIMALS = 8
MAX_DIGITS = 15
_DIGITS = "__digits"
_INTEGER_DIGITS = {"integer": 9, "bigint": 18}
_TRUE = ("1", "true")
_FALSE = ("0", "false")
_DATE_PARTS = {"%Y": ("[1-9][0-9]{3}", 4), "%m": ("[0-9]{2}", 2), "%d": ("[0-9]{2}", 2)}


def cast_select(
    contract: Contract,
    layout: Layout,
    codes: CodeLists,
    *,
    relation: str = "strings",
    blank_free: Collection[str] = (),
    only: Collection[str] | None = None,
    along: Sequence[str] = ROW_COLUMNS,
) -> str:
    """SQL from STRINGS to TYPED for one delivery; raises ConfigurationError for an unknown code list or column.

    Columns that the layout does not deliver are NULL of their type. `blank_free` columns (see `blank_free_columns`) are
    not trimmed, which is a third of the work. `only` these columns are cast; those named `along` come along as they are.
    """
    _check_layout(contract, layout)
    chosen = [column for column in contract.delivered if only is None or column.name in only]
    beside = [quote(name) for name in along]
    cells = [f"{_cell_sql(column, layout, blank_free)} AS {quote(column.name + RAW)}" for column in chosen]
    typed = [item for column in chosen for item in _typed_items(column, layout, codes)]
    checked = [column.name for column in chosen if column.is_validated]
    return (
        f"WITH cells AS (SELECT {', '.join([*beside, *cells])} FROM {relation}),\n"
        "converted AS (SELECT " + ",\n  ".join([*beside, *typed]) + "\nFROM cells)\n" + _with_checks(checked, layout)
    )


def typed_columns(contract: Contract, only: Collection[str] | None = None) -> list[str]:
    """The columns of TYPED that come from cells, in order: each one, its cell if it can fail to cast, then the checks."""
    chosen = [column for column in contract.delivered if only is None or column.name in only]
    names = [name for column in chosen for name in dict.fromkeys((column.name, column.raw_name))]
    return [*names, *(column.name + VALID for column in chosen if column.is_validated)]


def _with_checks(checked: Sequence[str], layout: Layout) -> str:
    """The converted columns, and for each identity column with a check whether it holds (of a digest: its form)."""
    if not checked:
        return "SELECT * FROM converted"
    if layout.id_form == "md5":
        forms = "".join(f", {id_digest_is_valid_sql(quote(c))} AS {quote(c + VALID)}" for c in checked)
        return f"SELECT *{forms} FROM converted"
    numbers = "".join(f", TRY_CAST(substr({quote(c)}, 1, 17) AS BIGINT) AS {quote(c + _DIGITS)}" for c in checked)
    valid = "".join(f", {resident_id_sql(quote(c), quote(c + _DIGITS))} AS {quote(c + VALID)}" for c in checked)
    hidden = ", ".join(quote(c + _DIGITS) for c in checked)
    return f"SELECT * EXCLUDE ({hidden}){valid} FROM (SELECT *{numbers} FROM converted) AS numbered"


def blank_free_columns(strings: pa.Table) -> frozenset[str]:
    """Columns of STRINGS without any byte up to 0x20, so that no cell needs trimming; read at memory speed."""
    return frozenset(name for name in strings.column_names if all(map(_is_blank_free, strings[name].chunks)))


def _is_blank_free(chunk: pa.Array) -> bool:
    return all(data.size == 0 or int(data.min()) > ord(" ") for data in _text_bytes(chunk))


def _text_bytes(chunk: pa.Array) -> Iterator[np.ndarray]:
    """The UTF-8 bytes of a text chunk; of another kind of chunk a blank, which says nothing."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary
    if not (pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)):
        yield np.frombuffer(b" ", dtype=np.uint8)
    elif chunk.buffers()[2] is not None:
        width = np.int32 if pa.types.is_string(chunk.type) else np.int64
        offsets = np.frombuffer(chunk.buffers()[1], dtype=width)[chunk.offset : chunk.offset + len(chunk) + 1]
        yield np.frombuffer(chunk.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]


def _check_layout(contract: Contract, layout: Layout) -> None:
    known = {column.name for column in contract.delivered}
    for name in layout.canonical:
        if name not in known:
            raise ConfigurationError(
                contract.path.name,
                f"columns.{name}",
                f"{contract.table} has no such delivered column",
                "correct the layout or the contract",
            )


def staged_type(column: Column) -> str:
    """The column's DuckDB type while rules run."""
    if column.staged_decimal is not None:
        return "DECIMAL({},{})".format(*column.staged_decimal)
    return duckdb_type(column.type)


def duckdb_type(type_: str) -> str:
    """DuckDB's name of a field type."""
    names = {"text": "VARCHAR", "integer": "INTEGER", "bigint": "BIGINT", "boolean": "BOOLEAN", "date": "DATE"}
    return names.get(type_, type_.upper())


def _cell_sql(column: Column, layout: Layout, blank_free: Collection[str]) -> str:
    """The trimmed cell, NULL when blank or a null mark; a confirmed default is a constant."""
    if column.name not in layout.canonical:
        return "CAST(NULL AS VARCHAR)"
    if column.name in layout.defaults:
        return text_sql(layout.defaults[column.name])
    cell = quote(column.name) if column.name in blank_free else _trimmed_sql(quote(column.name))
    for mark in dict.fromkeys(["", *layout.nulls]):
        cell = f"nullif({cell}, {text_sql(mark)})"
    return cell


def _trimmed_sql(cell: str) -> str:
    """The cell without ASCII blanks around it. Trimming a character set costs five times the test for whether it is
    needed, and a cell hardly ever needs it."""
    blank_at_an_end = f"{cell} < '!' OR reverse({cell}) < '!'"
    return f"CASE WHEN {blank_at_an_end} THEN trim({cell}, {_BLANKS_SQL}) ELSE {cell} END"


def _typed_items(column: Column, layout: Layout, codes: CodeLists) -> list[str]:
    raw = quote(column.name + RAW)
    typed = f"{_typed_sql(column, raw, layout, codes)} AS {quote(column.name)}"
    return [typed, raw] if column.can_fail_to_cast else [typed]


def _typed_sql(column: Column, raw: str, layout: Layout, codes: CodeLists) -> str:
    if column.name not in layout.canonical:
        return f"CAST(NULL AS {staged_type(column)})"
    if column.codes is not None:
        return _coded_sql(column, raw, source_codes(column, layout, codes))
    if column.type == "date":
        return _date_sql(raw, layout.dates)
    if column.decimal is not None:
        return _decimal_sql(column, raw, layout)
    if column.type in _INTEGER_DIGITS:
        pattern = text_sql(integer_pattern(column))
        return f"CASE WHEN regexp_matches({raw}, {pattern}) THEN TRY_CAST({raw} AS {staged_type(column)}) END"
    if column.type == "boolean":
        return _coded_sql(column, raw, {**dict.fromkeys(_TRUE, "true"), **dict.fromkeys(_FALSE, "false")})
    if column.is_validated and layout.id_form == "md5":
        return f"upper({raw})"
    return f"replace({raw}, 'x', 'X')" if column.is_validated else raw  # normalise_id of a trimmed cell


def source_codes(column: Column, layout: Layout, codes: CodeLists) -> dict[str, str]:
    """Source code -> canonical value for one coded column; raises ConfigurationError if nothing maps."""
    name = str(column.codes)
    if name not in codes:
        raise ConfigurationError(
            "config/codes", name, "no such code list", f"add it, or correct codes of {column.name}"
        )
    mapping = codes.mapping(name, layout.codes)
    if not mapping:
        raise ConfigurationError(
            "config/codes",
            f"{name}.codings.{layout.codes}",
            "the list has no such coding",
            "add the coding or correct the layout",
        )
    return mapping


def _coded_sql(column: Column, raw: str, mapping: dict[str, str]) -> str:
    cases = " ".join(f"WHEN {text_sql(source)} THEN {_value_sql(column, value)}" for source, value in mapping.items())
    return f"CASE {raw} {cases} END"


def _value_sql(column: Column, value: str) -> str:
    return value.upper() if column.type == "boolean" and value in ("true", "false") else text_sql(value)


def date_pattern(form: str) -> tuple[str, dict[str, int]]:
    """The regular expression of a date form such as `%Y%m%d`, and where each part starts (from 1)."""
    pattern, starts, place, index = "^", {}, 1, 0
    while index < len(form):
        part = form[index : index + 2]
        if part in _DATE_PARTS:
            expression, width = _DATE_PARTS[part]
            starts[part] = place
            pattern, place, index = pattern + expression, place + width, index + 2
        else:
            pattern, place, index = pattern + _escaped(form[index]), place + 1, index + 1
    if set(starts) != set(_DATE_PARTS):
        raise ConfigurationError(
            "layouts", f"dates: {form}", "a date form needs %Y, %m and %d once each", "write e.g. %Y-%m-%d"
        )
    return pattern + "$", starts


def _escaped(character: str) -> str:
    return character if character.isalnum() or character in "-/ " else f"[{character}]"


def _date_sql(raw: str, form: str) -> str:
    """Exactly the form, and a real date. A plain cast is fastest, but reads only one form."""
    pattern, _ = date_pattern(form)
    read = f"TRY_CAST({raw} AS DATE)" if form == "%Y-%m-%d" else f"CAST(try_strptime({raw}, {text_sql(form)}) AS DATE)"
    return f"CASE WHEN regexp_matches({raw}, {text_sql(pattern)}) THEN {read} END"


def shift_of(column: Column, layout: Layout) -> int:
    """Power of ten from the delivered unit to the contract's (万元 to yuan: 4, fraction to percent: 2)."""
    return _POWER_OF_TEN[layout.units.get(column.name, "yuan")]


def decimal_pattern(column: Column, layout: Layout) -> str:
    """Up to 15 digits before and 8 after the point, of which only those the column keeps may be other than 0."""
    _, scale = column.staged_decimal or (0, 0)
    kept = min(scale + shift_of(column, layout), _MAX_DECIMALS)
    return f"^[+-]?[0-9]{{1,{MAX_DIGITS}}}(?:[.][0-9]{{1,{kept}}}0{{0,{_MAX_DECIMALS - kept}}})?$"


def integer_pattern(column: Column) -> str:
    return f"^[+-]?[0-9]{{1,{_INTEGER_DIGITS[column.type]}}}$"


def whole_digits(column: Column, layout: Layout) -> int:
    """How many digits before the point still fit the column after the unit is converted."""
    precision, scale = column.staged_decimal or (0, 0)
    return max(precision - scale - shift_of(column, layout), 0)


def _decimal_sql(column: Column, raw: str, layout: Layout) -> str:
    _, scale = column.staged_decimal or (0, 0)
    shift, guard = shift_of(column, layout), text_sql(decimal_pattern(column, layout))
    if shift == 0:
        value = f"TRY_CAST({raw} AS {staged_type(column)})"
    else:
        wide = min(scale + shift, _MAX_DECIMALS)
        exact = f"CAST({raw} AS DECIMAL({MAX_DIGITS + wide},{wide})) * CAST({10**shift} AS DECIMAL({shift + 1},0))"
        value = f"TRY_CAST({exact} AS {staged_type(column)})"
    return f"CASE WHEN regexp_matches({raw}, {guard}) THEN {value} END"
