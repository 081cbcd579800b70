"""Turns a sound table into the file an entry of the corpus describes.

What may stand under `make:`, in the order it is applied (columns by their canonical name or their heading):

table     rows: 30 | column: {col: value} | cells: {row: {col: value}} | each: {col: {as: NAME, rows: [..]}} |
          scale: {col: factor} | copies: [row, ..] | last: {col: value} | rename: {col: heading} | drop: [col, ..] |
          add: {heading: value} | order: [col, ..] or reversed | swap: [col, col]
text      header: false or true | title: line above the header | delimiter | line_end | final_line_end | quote_all |
          lines: {line: [old, new]} | insert: {after: line, text: ..} | cut: characters off the end
bytes     encoding | errors | bom: hex | hex_after_line: {line: hex} | tail: hex | cut_bytes | content: text or {hex: ..}
package   log: {name, md5, size, at, count, text, as_if} | zip: NAME of zips.py | members: {name: text}
workbook  sheet | date1904 | title: .. | parts: {part: [old, new]} | book: NAME of zips.py
A value is a text, a number, a date, or {formula: "=1+1"}; only workbooks tell them apart.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import openpyxl

from etl.registry import Layout
from tests.intake.corpus import zips
from tests.intake.corpus.sound import SOUND, Row, id_no, old_id_no
from tests.intake.making import make_log, make_zip

Make = Mapping[str, Any]
_EXCEL_DAY_0 = date(1899, 12, 30)


def content_of(kind: tuple[str, str], layout: Layout, package: str, file_name: str, make: Make) -> bytes:
    """The bytes of the file an entry delivers."""
    if "content" in make:
        return _content(make["content"])
    table = _table(kind, layout, make)
    if layout.format == "workbook":
        return _workbook(table, layout, make)
    text = _json_lines(table, make) if layout.format == "json_lines" else _delimited(table, layout, make)
    octets = _octets(text, layout, make)
    if package != "pboc":
        return octets
    whole = _octets(_delimited(table, layout, {**make, "cut": 0}), layout, make)
    return _pboc(octets, len(text.splitlines()), file_name, make, whole)


def _content(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode()
    if "zip" in content:
        return zips.MAKERS[content["zip"]](b"", b"")
    return bytes.fromhex(content["hex"]) * int(content.get("times", 1))


# -- the table --------------------------------------------------------------------------------------------------------


def _table(kind: tuple[str, str], layout: Layout, make: Make) -> list[Row]:
    rows = [SOUND[kind](number) for number in range(1, make.get("rows", 30) + 1)]
    names = {canonical: heading for heading, canonical in layout.source_to_canonical.items()}
    for step in (_set_columns, _set_cells, _change_each, _scale, _copy, _reshape):
        rows = step(rows, make, lambda name: names.get(name, name))
    return rows


Place = Callable[[str], str]


def _set_columns(rows: list[Row], make: Make, place: Place) -> list[Row]:
    wanted = {place(name): value for name, value in make.get("column", {}).items()}
    return [{**row, **{name: _nth(value, number) for name, value in wanted.items()}} for number, row in enumerate(rows)]


def _nth(value: Any, number: int) -> Any:
    return value[number % len(value)] if isinstance(value, list) else value


def _set_cells(rows: list[Row], make: Make, place: Place) -> list[Row]:
    for number, cells in make.get("cells", {}).items():
        rows[number - 1].update({place(name): value for name, value in cells.items()})
    return rows


def _change_each(rows: list[Row], make: Make, place: Place) -> list[Row]:
    for name, change in make.get("each", {}).items():
        for number in change.get("rows", range(1, len(rows) + 1)):
            rows[number - 1][place(name)] = CHANGES[change["as"]](rows[number - 1][place(name)], number)
    return rows


def _scale(rows: list[Row], make: Make, place: Place) -> list[Row]:
    for name, factor in make.get("scale", {}).items():
        for row in rows:
            value = row[place(name)]
            scaled = Decimal(str(value)) * Decimal(str(factor))
            row[place(name)] = float(scaled) if isinstance(value, float) else f"{scaled.normalize():f}"
    return rows


def _copy(rows: list[Row], make: Make, place: Place) -> list[Row]:
    rows = [*rows, *(dict(rows[number - 1]) for number in make.get("copies", []))]
    if "last" in make:
        rows.append(dict.fromkeys(rows[0], "") | {place(name): value for name, value in make["last"].items()})
    return rows


def _reshape(rows: list[Row], make: Make, place: Place) -> list[Row]:
    order = list(dict.fromkeys(name for row in rows for name in row))
    if make.get("order") == "reversed":
        order.reverse()
    elif "order" in make:
        order = [place(name) for name in make["order"]]
    if "swap" in make:
        first, second = (order.index(place(name)) for name in make["swap"])
        order[first], order[second] = order[second], order[first]
    dropped = {place(name) for name in make.get("drop", [])}
    headings = {place(name): heading for name, heading in make.get("rename", {}).items()}
    added = make.get("add", {})
    kept = [name for name in order if name not in dropped]
    return [{headings.get(name, name): row[name] for name in kept if name in row} | added for row in rows]


def _day(value: Any) -> date:
    text = str(value)
    return date.fromisoformat(text if "-" in text else f"{text[:4]}-{text[4:6]}-{text[6:]}")


def _written(value: Any, day: date) -> Any:
    return day if isinstance(value, date) else (f"{day:%Y-%m-%d}" if "-" in str(value) else f"{day:%Y%m%d}")


def _wide(value: Any, _: int) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in str(value))


CHANGES: dict[str, Callable[[Any, int], Any]] = {
    "fullwidth": _wide,
    "thousands": lambda value, _: f"{Decimal(str(value)):,}",
    "scientific": lambda value, _: f"{Decimal(str(value)):.4E}",
    "apostrophe": lambda value, _: f"'{value}",
    "excel_digits": lambda value, _: f"{str(value)[:15]}{'0' * (len(str(value)) - 15)}",
    "excel_exponent": lambda value, _: f"{int(str(value)[:17] + '0') / 1e17:.5f}E+17",
    "old_id": lambda _, number: old_id_no(number),
    "other_area": lambda _, number: id_no(number, "342321"),
    "masked": lambda value, _: f"{str(value)[:6]}********{str(value)[14:]}",
    "lower": lambda value, _: str(value).lower(),
    "blanks": lambda value, _: f"{str(value)[:6]} {str(value)[6:14]} {str(value)[14:]}",
    "percent_sign": lambda value, _: f"{value}%",
    "unit": lambda value, _: f"{value}元",
    "serial": lambda value, _: str((_day(value) - _EXCEL_DAY_0).days),
    "mac": lambda value, _: _written(value, _day(value) - timedelta(days=1462)),
    "day_month": lambda value, _: f"{_day(value):%Y-%d-%m}",
    "day_first": lambda value, _: f"{_day(value):%d/%m/%Y}",
    "slashes": lambda value, _: f"{_day(value):%Y/%m/%d}",
    "chinese": lambda value, _: f"{_day(value):%Y年%m月%d日}",
    "iso": lambda value, _: _day(value).isoformat(),
    "with_time": lambda value, _: f"{value} 00:00:00",
    "label": lambda value, _: f"{value}-标签",
    "no_zero": lambda value, _: str(value).lstrip("0"),
    "excel_digits_number": lambda value, _: float(int(str(value)[:15] + "000")),
    "letters": lambda value, _: "x",
    "huge": lambda value, _: "x" * (2 << 20),
    "long": lambda value, _: "坏" * 100_000,
    "pipes": lambda value, _: "|" * 100_000,
}


# -- text and bytes ---------------------------------------------------------------------------------------------------


def _delimited(rows: list[Row], layout: Layout, make: Make) -> str:
    out = io.StringIO(newline="")
    quoting = csv.QUOTE_NONE if layout.quote == "none" else csv.QUOTE_MINIMAL
    writer = csv.writer(
        out,
        delimiter=make.get("delimiter", layout.delimiter),
        quotechar=None if layout.quote == "none" else layout.quote,
        quoting=csv.QUOTE_ALL if make.get("quote_all") else quoting,
        lineterminator="\n",
        **({"escapechar": "\x1a"} if quoting == csv.QUOTE_NONE else {}),
    )
    if make.get("header", layout.header):
        headings = list(rows[0]) if rows else list(layout.source_to_canonical)
        writer.writerow([*headings])
    for row in rows:
        writer.writerow([str(value) for value in row.values()])
    return _lines(out.getvalue().replace("\x1a", ""), make)


def _json_lines(rows: list[Row], make: Make) -> str:
    return _lines("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), make)


def _lines(text: str, make: Make) -> str:
    lines = text.split("\n")
    for number, (old, new) in make.get("lines", {}).items():
        if old not in lines[number - 1]:
            raise ValueError(f"line {number} does not hold {old!r}")
        text = new if isinstance(new, str) else new["open"] * new["times"] + new["close"] * new["times"]
        lines[number - 1] = lines[number - 1].replace(old, text, 1)
    if "insert" in make:
        lines.insert(make["insert"]["after"], make["insert"]["text"])
    if "title" in make:
        lines.insert(0, make["title"])
    text = "\n".join(lines)
    if make.get("final_line_end") is False:
        text = text.rstrip("\n")
    text = text.replace("\n", make.get("line_end", "\n"))
    return text[: len(text) - make.get("cut", 0)]


def _octets(text: str, layout: Layout, make: Make) -> bytes:
    octets = text.encode(make.get("encoding", layout.encoding), make.get("errors", "strict"))
    if "hex_after_line" in make:
        lines = octets.split(b"\n")
        for number, inserted in make["hex_after_line"].items():
            lines[number - 1] += bytes.fromhex(inserted)
        octets = b"\n".join(lines)
    octets = bytes.fromhex(make.get("bom", "")) + octets + bytes.fromhex(make.get("tail", ""))
    return octets[: len(octets) - make.get("cut_bytes", 0)]


# -- packages and workbooks -------------------------------------------------------------------------------------------


def _pboc(octets: bytes, count: int, file_name: str, make: Make, whole: bytes) -> bytes:
    base = file_name.removesuffix(".zip")
    log = _log(octets, count, base, make.get("log", {}), whole)
    if "zip" in make:
        return zips.MAKERS[make["zip"]](octets, log)
    members = {f"{base}.dat": octets, f"{base}.log": log}
    members |= {name: content.encode() for name, content in make.get("members", {}).items()}
    for ending in make.get("without", []):
        members.pop(f"{base}.{ending}")
    packed = make_zip(members)
    return packed[: len(packed) - make.get("cut_zip", 0)]


def _log(octets: bytes, count: int, base: str, changes: Make, whole: bytes) -> bytes:
    """The log; `as_if`: written before line ends were turned around or the end was lost, or with its MD5 in capitals."""
    told = {"lf": octets.replace(b"\r\n", b"\n"), "whole": whole}.get(changes.get("as_if", ""), octets)
    stated = {key: str(value) for key, value in changes.items() if key != "as_if"}
    log = make_log(told, count, **{"name": f"{base}.dat", **stated})
    return (
        log.upper().replace(f"{base}.dat".upper().encode(), f"{base}.dat".encode())
        if changes.get("as_if") == "capitals"
        else log
    )


def _workbook(rows: list[Row], layout: Layout, make: Make) -> bytes:
    book = openpyxl.Workbook()
    if make.get("date1904"):
        book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    sheet = book.active
    sheet.title = make.get("sheet", layout.sheet)
    for _ in range(make.get("header_row", layout.header_row) - 1):
        sheet.append([make.get("title", "贷款台账（合成）")])
    if make.get("header", True):
        sheet.append(list(rows[0]) if rows else list(layout.source_to_canonical))
    first = make.get("header_row", layout.header_row) + int(make.get("header", True))
    for number, row in enumerate(rows):
        _write_row(sheet, first + number, row)
    out = io.BytesIO()
    book.save(out)
    octets = _with_parts(out.getvalue(), make.get("parts", {}))
    octets = zips.BOOKS[make["book"]](octets) if "book" in make else octets
    return octets[: len(octets) - make.get("cut_bytes", 0)]


def _write_row(sheet: Any, line: int, row: Row) -> None:
    for place, value in enumerate(row.values(), start=1):
        _write_cell(sheet.cell(line, place), value)


def _write_cell(cell: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        cell.value = value["formula"]
        return
    cell.value = value if value != "" else None
    if isinstance(value, str) and value:
        cell.data_type = "s"


def _with_parts(octets: bytes, parts: Mapping[str, Any]) -> bytes:
    """The workbook with texts of its parts replaced."""
    if not parts:
        return octets
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    for name, (old, new) in parts.items():
        if old.encode() not in members[name]:
            raise ValueError(f"{name} does not hold {old!r}")
        members[name] = members[name].replace(old.encode(), new.encode(), 1)
    return make_zip(members)
