"""Random tables, random layouts, and writers for every format: the counterpart of intake, written from the other side.

A table holds what the contract of loans means (dates, decimals, canonical codes, text). A layout says how one bank writes
it down. The writers know nothing of the readers: they spell values by the layout and use the libraries banks' tools use.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import xlwt
from hypothesis import strategies as st

from etl.registry import Feed, Layout
from tests.contract.delivery import REGISTRY
from tests.intake.making import make_feed

Row = dict[str, Any]
MARKER = "合计"
KINDS = {
    "loan_no": "text", "borrower_id_no": "identity", "borrower_name": "free", "purpose_text": "free",
    "issued_on": "date", "closed_on": "date", "balance_yuan": "amount", "issued_amount_yuan": "amount",
    "annual_rate_pct": "rate", "overdue_days": "count", "five_class": "code", "loan_status": "code",
    "guarantee_code": "code",
}  # fmt: skip
FREE = "ab0王秀é，。“” \"'|,;=+-@#\n"
FORMATS = ("delimited", "fixed_width", "xlsx", "xls", "json_lines", "database")


@dataclass(frozen=True)
class Spelling:
    """How one bank writes: the layout, and what a layout leaves open."""

    kind: str
    layout: Layout
    feed: Feed
    line_end: str = "\n"
    is_ended: bool = True
    seed: int = 0
    parts: int = 1


@dataclass
class Written:
    """Rows as cells of text (None: the layout's blank), in the layout's columns."""

    headings: list[str]
    rows: list[list[str | None]]
    names: list[str | None] = field(default_factory=list)


# -- tables -----------------------------------------------------------------------------------------------------------


def cells(kind: str, name: str, characters: str) -> st.SearchStrategy[Any]:
    """Values of one column; None is a blank."""
    dates = st.dates(date(1900, 1, 1), date(9999, 12, 30))
    if kind == "text":
        return st.text("AZaz09-", min_size=6, max_size=12)
    if kind == "identity":
        return st.text("0123456789", min_size=17, max_size=17).map(lambda digits: f"999{digits[3:]}X")
    if kind == "free":
        return st.none() | st.text(characters, min_size=1, max_size=8).map(lambda text: text.strip() or "x")
    if kind == "date":
        return st.none() | dates
    if kind == "amount":
        return st.none() | st.decimals(0, 10**9, places=2)
    if kind == "rate":
        return st.none() | st.decimals(0, 36, places=5)
    if kind == "count":
        return st.none() | st.integers(0, 9999)
    values = sorted({value for coding in ("pboc", "east", "core_digit") for value in codes_of(name, coding)})
    return st.none() | st.sampled_from(values)


def codes_of(name: str, coding: str) -> dict[str, list[str]]:
    """Canonical value to the source codes that mean it."""
    found: dict[str, list[str]] = {}
    for source, value in REGISTRY.codes.mapping(name, coding).items():
        found.setdefault(value, []).append(source)
    return found


@st.composite
def tables(draw: st.DrawFn, spelling: Spelling) -> list[Row]:
    """Rows that the spelling can express."""
    layout = spelling.layout
    characters = free_characters(spelling)
    columns = {}
    for name in layout.canonical:
        strategy = cells(KINDS[name], name, characters)
        if KINDS[name] == "code":
            known = set(codes_of(name, layout.codes))
            strategy = strategy.filter(lambda value, known=known: value is None or value in known)
        if KINDS[name] == "free":
            strategy = strategy.filter(lambda value: value not in layout.nulls)
        columns[name] = strategy
    return draw(st.lists(st.fixed_dictionaries(columns), max_size=12))


def free_characters(spelling: Spelling) -> str:
    layout, allowed = spelling.layout, FREE
    if spelling.kind == "delimited" and layout.quote == "none":
        allowed = allowed.replace("\n", "").replace(layout.delimiter, "")
    if spelling.kind == "fixed_width":
        allowed = allowed.replace("\n", "").replace(layout.padding, "")
    return allowed if spelling.kind == "xls" else allowed + "𠮷"  # xlwt counts it as one character, BIFF as two


# -- layouts ----------------------------------------------------------------------------------------------------------


@st.composite
def spellings(
    draw: st.DrawFn, kind: str, packages: tuple[str, ...] = ("bare",), always: tuple[str, ...] = ("loan_no",)
) -> Spelling:
    """A random layout of one format, with these columns among others, and a feed with one of the packages."""
    names = draw(st.permutations(list(KINDS)).map(lambda order: order[: draw(st.integers(1, len(order)))]))
    names = [*(name for name in always if name not in names), *names]
    has_header = kind in ("json_lines", "database") or (kind != "fixed_width" and draw(st.booleans()))
    ignored = draw(st.sampled_from([[], ["备注"], ["序号", "备注"]]))
    sources = draw(st.permutations([*(f"列{name}" for name in names), *ignored]))
    content: dict[str, Any] = {
        "from": "2024-01",
        "format": "workbook" if kind in ("xlsx", "xls") else kind,
        "columns": {source: source.removeprefix("列") for source in sources},
        "ignore": ignored,
        "header": has_header,
        "nulls": draw(st.sampled_from([[""], ["", "-"], ["", "99991231"]])),
        "dates": draw(st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y年%m月%d日"])),
        "codes": draw(st.sampled_from(["pboc", "east", "core_digit"])),
        "units": draw(
            st.fixed_dictionaries({name: st.sampled_from(units) for name, units in UNITS.items() if name in names})
        ),
    }
    content |= _of_format(draw, kind, len(sources))
    if kind in ("delimited", "fixed_width", "xlsx", "xls") and draw(st.booleans()):
        content["trailer"] = _trailer(kind, names)
    package = draw(st.sampled_from(packages))
    feed = make_feed(package, empty="accepted", **({"parts": "numbered"} if package == "zip" else {}))
    return Spelling(
        kind, Layout.model_validate(content), feed, draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans()),
        draw(st.integers(0, 999)), draw(st.integers(1, 3)) if package == "zip" else 1,
    )  # fmt: skip


UNITS = {
    "balance_yuan": ["yuan", "10k_yuan"],
    "issued_amount_yuan": ["yuan", "10k_yuan"],
    "annual_rate_pct": ["percent", "fraction"],
}


def _of_format(draw: st.DrawFn, kind: str, count: int) -> dict[str, Any]:
    if kind in ("xlsx", "xls"):
        return {"sheet": "台账", "header_row": draw(st.integers(1, 3))}
    if kind == "database":
        return {}
    encodings = ["utf-8", "gb18030"] if kind == "fixed_width" else ["utf-8", "gb18030", "utf-16"]
    found: dict[str, Any] = {"encoding": draw(st.sampled_from(encodings))}
    if kind == "delimited":
        found["delimiter"] = draw(st.sampled_from([",", "|", "\t", ";", "\x01", "~"]))
        found["quote"] = draw(st.sampled_from(['"', "'", "none"]))
    if kind == "fixed_width":
        found["padding"] = draw(st.sampled_from([" ", "*"]))
        found["widths"] = [draw(st.sampled_from([80, 81, 95])) for _ in range(count)]
        found["zero_padded"] = []
    return found


def _trailer(kind: str, names: list[str]) -> dict[str, Any]:
    totals = {name: place for place, name in enumerate(UNITS, start=3) if name in names and name != "annual_rate_pct"}
    return {"marker": MARKER, "rows": 2, "totals": totals} | (
        {"widths": [8, 6, 24, 24]} if kind == "fixed_width" else {}
    )


# -- spelling ---------------------------------------------------------------------------------------------------------


def spelled(table: list[Row], spelling: Spelling) -> Written:
    """The table as the cells the bank writes; ignored columns hold anything."""
    layout, dice = spelling.layout, random.Random(spelling.seed)
    names = [None if source in layout.ignore else name for source, name in layout.source_to_canonical.items()]
    rows = [
        [f"#{number}" if name is None else _cell(name, row[name], layout, dice) for name in names]
        for number, row in enumerate(table)
    ]
    return Written(list(layout.source_to_canonical), rows, names)


def _cell(name: str, value: Any, layout: Layout, dice: random.Random) -> str | None:
    if value is None:
        return dice.choice(layout.nulls) or None
    if isinstance(value, date):
        return (
            layout.dates.replace("%Y", f"{value.year:04}")
            .replace("%m", f"{value.month:02}")
            .replace("%d", f"{value.day:02}")
        )
    if isinstance(value, Decimal):
        return _number(delivered(name, value, layout), dice)
    return dice.choice(codes_of(name, layout.codes)[value]) if KINDS[name] == "code" else str(value)


def delivered(name: str, value: Decimal, layout: Layout) -> Decimal:
    """The value in the unit the bank uses: yuan to 万元, percent to a fraction."""
    return value.scaleb({"10k_yuan": -4, "fraction": -2}.get(layout.units.get(name, ""), 0))


def _number(value: Decimal, dice: random.Random) -> str:
    text = format(value, "f")
    return dice.choice([text, text, f"+{text}", text.rstrip("0").rstrip(".") if "." in text else text])


def trailer_line(table: list[Row], layout: Layout) -> list[str] | None:
    """The control line: marker, count, totals in the delivered unit."""
    if layout.trailer is None:
        return None
    line = [MARKER, str(len(table)), "", ""]
    for name, place in layout.trailer.totals.items():
        total = sum((delivered(name, row[name], layout) for row in table if row[name] is not None), Decimal(0))
        line[place - 1] = format(total, "f")
    return line


# -- writers ----------------------------------------------------------------------------------------------------------


def write(table: list[Row], spelling: Spelling) -> bytes:
    """The delivery as the bank drops it."""
    if spelling.feed.package == "zip":
        return _parts(table, spelling)
    content = WRITERS[spelling.kind](table, spelling)
    if spelling.feed.package == "gzip":
        return gzip.compress(content)
    if spelling.feed.package == "pboc":
        return _pboc(content, len(table))
    return content


def _parts(table: list[Row], spelling: Spelling) -> bytes:
    """The rows dealt out over numbered files, each complete with header and trailer."""
    cuts = [len(table) * number // spelling.parts for number in range(spelling.parts + 1)]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in reversed(range(spelling.parts)):
            part = table[cuts[number] : cuts[number + 1]]
            archive.writestr(f"L_{number + 1}of{spelling.parts}.dat", WRITERS[spelling.kind](part, spelling))
    return file.getvalue()


def _pboc(content: bytes, rows: int) -> bytes:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if content else ""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("L.dat", content)
        archive.writestr("L.log", f"L.dat\n{md5}\n{len(content)}\n2024-04-01 08:00:00\n{rows}")
    return file.getvalue()


def _delimited(table: list[Row], spelling: Spelling) -> bytes:
    layout, written = spelling.layout, spelled(table, spelling)
    trailer = trailer_line(table, layout)
    lines = [*([written.headings] if layout.header else []), *written.rows, *([trailer] if trailer else [])]
    if layout.quote == "none":
        text = spelling.line_end.join(layout.delimiter.join(cell or "" for cell in line) for line in lines)
    else:
        file = io.StringIO(newline="")
        quoting = csv.QUOTE_ALL if spelling.seed % 2 else csv.QUOTE_MINIMAL
        writer = csv.writer(
            file, delimiter=layout.delimiter, quotechar=layout.quote, quoting=quoting, lineterminator=spelling.line_end
        )
        writer.writerows(lines)
        text = file.getvalue().removesuffix(spelling.line_end)
    return _encoded(text + (spelling.line_end if spelling.is_ended and lines else ""), spelling)


def _encoded(text: str, spelling: Spelling) -> bytes:
    encoding = spelling.layout.encoding
    if encoding == "utf-16":
        return (
            (b"\xfe\xff" + text.encode("utf-16-be")) if spelling.seed % 3 else (b"\xff\xfe" + text.encode("utf-16-le"))
        )
    return (b"\xef\xbb\xbf" if encoding == "utf-8" and spelling.seed % 5 == 0 else b"") + text.encode(encoding)


def _fixed_width(table: list[Row], spelling: Spelling) -> bytes:
    layout, dice = spelling.layout, random.Random(spelling.seed)
    pad, encoding = layout.padding.encode(), layout.encoding
    lines = []
    for row in spelled(table, spelling).rows:
        pairs = zip(row, layout.widths, strict=True)
        octets = [((cell or "").encode(encoding), width, dice.random() < 0.5) for cell, width in pairs]
        lines.append(b"".join(c.rjust(w, pad) if is_right else c.ljust(w, pad) for c, w, is_right in octets))
    trailer = trailer_line(table, layout)
    if trailer and layout.trailer:
        pairs = zip(trailer, layout.trailer.widths, strict=True)
        lines.append(b"".join(cell.encode(encoding).rjust(width, pad) for cell, width in pairs))
    end = spelling.line_end.encode()
    return end.join(lines) + (end if spelling.is_ended and lines else b"")


def _json_lines(table: list[Row], spelling: Spelling) -> bytes:
    written, dice = spelled(table, spelling), random.Random(spelling.seed)
    lines = []
    for row in written.rows:
        pairs = [pair for pair in zip(written.headings, row, strict=True) if pair[1] is not None or dice.random() < 0.5]
        dice.shuffle(pairs)
        lines.append(json.dumps(dict(pairs), ensure_ascii=spelling.seed % 2 == 0))
    text = spelling.line_end.join(lines) + (spelling.line_end if spelling.is_ended and lines else "")
    return _encoded(text, spelling)


def _grid(table: list[Row], spelling: Spelling) -> list[list[Any]]:
    """Sheet rows: titles, header, rows (numbers and dates as such or as text), trailer."""
    layout, written, dice = spelling.layout, spelled(table, spelling), random.Random(spelling.seed)
    rows: list[list[Any]] = []
    if layout.header:
        rows += [["标题"]] * (layout.header_row - 1) + [written.headings]
    for row, cells_of_row in zip(table, written.rows, strict=True):
        pairs = zip(written.names, cells_of_row, strict=True)
        rows.append([_native(name, row, text, layout, dice) for name, text in pairs])
    trailer = trailer_line(table, layout)
    return [*rows, *([[cell or None for cell in trailer]] if trailer else [])]


def _native(name: str | None, row: Row, text: str | None, layout: Layout, dice: random.Random) -> Any:
    """A cell as Excel keeps it: half of the numbers and ISO dates are typed, the rest is text."""
    value = row[name] if name else None
    if isinstance(value, Decimal) and text is not None and dice.random() < 0.5:
        return float(text)
    if isinstance(value, int) and dice.random() < 0.5:
        return value
    is_iso = isinstance(value, date) and layout.dates == "%Y-%m-%d" and value > date(1900, 3, 1)
    return value if is_iso and dice.random() < 0.5 else text


def _xlsx(table: list[Row], spelling: Spelling) -> bytes:
    book = openpyxl.Workbook()
    page = book.active
    page.title = "台账"
    for row, line in enumerate(_grid(table, spelling), start=1):
        for column, value in enumerate(line, start=1):
            cell = page.cell(row, column, value)
            if isinstance(value, str):
                cell.data_type = "s"  # a text that begins with = is text
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _xls(table: list[Row], spelling: Spelling) -> bytes:
    book = xlwt.Workbook(encoding="utf-8")
    page = book.add_sheet("台账")
    iso = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for row, line in enumerate(_grid(table, spelling)):
        for column, value in enumerate(line):
            if value is not None:
                page.write(row, column, value, *([iso] if isinstance(value, date) else []))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _database(table: list[Row], spelling: Spelling) -> bytes:
    written = spelled(table, spelling)
    columns = list(zip(*written.rows, strict=True)) or [()] * len(written.headings)
    arrays = [pa.array([cell or "" for cell in column], pa.string()) for column in columns]
    file = io.BytesIO()
    pq.write_table(pa.table(dict(zip(written.headings, arrays, strict=True))), file)
    return file.getvalue()


WRITERS: dict[str, Callable[[list[Row], Spelling], bytes]] = {
    "delimited": _delimited,
    "fixed_width": _fixed_width,
    "xlsx": _xlsx,
    "xls": _xls,
    "json_lines": _json_lines,
    "database": _database,
}
