"""Rows written as a supplier would send them: its layout, its package, its file name. The same rows give the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from openpyxl import Workbook

from etl.intake.arrivals import COMPANIONS, file_pattern
from etl.period import Period
from etl.registry import Feed, Layout

FIXED_TIME: Final = (2024, 1, 1, 0, 0, 0)
_STAMP: Final = "2024-01-01 09:00:00"
_MODIFIED: Final = re.compile(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*(</dcterms:)")
_TEXT_FORMAT: Final = "@"
Row = Mapping[str, str]


def can_write(feed: Feed, layout: Layout) -> bool:
    """Whether samples of this layout and package can be made."""
    return layout.format in _WRITERS and feed.package in _PACKAGES


def example_name(feed: Feed, layout: Layout, period: Period, supplier: str) -> str:
    """The simplest file name that fits the feed's pattern and the layout for one month."""
    name = str(feed.files).replace("{supplier}", supplier)
    name = re.sub(r"\{period:([^{}]+)\}", lambda found: period.start.strftime(found[1]), name)
    choices = re.search(r"\{([^{}:]+)\}", name)
    names = [name.replace(choices[0], one) for one in choices[1].split(",")] if choices else [name]
    ending = layout.match.removeprefix("*")
    plain = [one.replace("*", "").replace("?", "0") for one in names]
    fitting = [one for one in plain if one.endswith(ending) and file_pattern(str(feed.files)).fullmatch(one)]
    return fitting[0] if fitting else plain[0]


def as_sent(
    feed: Feed, layout: Layout, rows: Sequence[Row], name: str, *, with_torn_line: bool = False
) -> dict[str, bytes]:
    """File name -> bytes of a delivery and what goes beside it; `with_torn_line` adds a delimited line of two cells."""
    content = _WRITERS[layout.format](layout, rows, with_torn_line)
    return _PACKAGES[feed.package](content, name, len(rows) + with_torn_line)


def delivered_names(layout: Layout) -> list[tuple[str, str | None]]:
    """Columns in the order in which they are delivered, with their canonical names (None: ignored)."""
    return [(name, None if name in layout.ignore else to) for name, to in _all_columns(layout).items()]


def _all_columns(layout: Layout) -> dict[str, str | None]:
    named: dict[str, str | None] = dict(layout.source_to_canonical)
    unnamed = {name: None for name in layout.ignore if name not in named}
    return {**named, **unnamed} if layout.header else named


def _cells(layout: Layout, row: Row) -> list[str]:
    return [row.get(to, "") if to else "" for _, to in delivered_names(layout)]


def _delimited(layout: Layout, rows: Sequence[Row], with_torn_line: bool) -> bytes:
    lines = [[name for name, _ in delivered_names(layout)]] if layout.header else []
    lines += [_cells(layout, row) for row in rows]
    torn = [["残缺行", "torn line"]] if with_torn_line else []
    if layout.quote == "none":
        text = "".join(f"{layout.delimiter.join(cells)}\n" for cells in (*lines, *torn))
    else:
        held = io.StringIO()
        csv.writer(held, delimiter=layout.delimiter, quotechar=layout.quote, lineterminator="\n").writerows(
            (*lines, *torn)
        )
        text = held.getvalue()
    return text.encode(layout.encoding)


def _json_lines(layout: Layout, rows: Sequence[Row], with_torn_line: bool) -> bytes:
    names = [name for name, _ in delivered_names(layout)]
    texts = [json.dumps(dict(zip(names, _cells(layout, row), strict=True)), ensure_ascii=False) for row in rows]
    return "".join(f"{text}\n" for text in texts).encode(layout.encoding)


def _workbook(layout: Layout, rows: Sequence[Row], with_torn_line: bool) -> bytes:
    """Every cell is text: Excel then changes neither long numbers nor dates."""
    book = Workbook()
    sheet = book.active
    sheet.title = layout.sheet or "Sheet1"
    for _ in range(layout.header_row - 1 if layout.header else 0):
        sheet.append([sheet.title])
    if layout.header:
        sheet.append([name for name, _ in delivered_names(layout)])
    for row in rows:
        sheet.append([cell or None for cell in _cells(layout, row)])
    for cell in (cell for line in sheet.iter_rows() for cell in line):
        cell.number_format = _TEXT_FORMAT
    return workbook_bytes(book)


def workbook_bytes(book: Any) -> bytes:
    """An XLSX whose bytes depend on its content alone: openpyxl notes the time in two places."""
    held, fixed = io.BytesIO(), io.BytesIO()
    book.save(held)
    with zipfile.ZipFile(held) as made, zipfile.ZipFile(fixed, "w", zipfile.ZIP_DEFLATED) as package:
        for entry in made.infolist():
            content = made.read(entry)
            if entry.filename == "docProps/core.xml":
                content = _MODIFIED.sub(rb"\g<1>2024-01-01T00:00:00Z\g<2>", content)
            package.writestr(zipfile.ZipInfo(entry.filename, FIXED_TIME), content, zipfile.ZIP_DEFLATED)
    return fixed.getvalue()


def _bare(content: bytes, name: str, rows: int) -> dict[str, bytes]:
    return {name: content}


def _flag(content: bytes, name: str, rows: int) -> dict[str, bytes]:
    return {name: content, name + COMPANIONS["flag"]: b""}


def _sidecar(content: bytes, name: str, rows: int) -> dict[str, bytes]:
    digest = hashlib.sha256(content).hexdigest()
    return {name: content, name + COMPANIONS["sidecar"]: f"{digest}  {name}\n".encode()}


def _pboc(content: bytes, name: str, rows: int) -> dict[str, bytes]:
    """A .dat with its five-line .log (file name, MD5, size, time, record count) in one zip (DOMAIN 2.3)."""
    stem = name.rpartition(".")[0]
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest() if rows else ""
    log = "\n".join((f"{stem}.dat", digest, str(len(content)), _STAMP, str(rows))) + "\n"
    return {name: zipped({f"{stem}.dat": content, f"{stem}.log": log.encode()}.items())}


def zipped(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A zip with fixed time stamps."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members:
            package.writestr(zipfile.ZipInfo(name, FIXED_TIME), content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


_WRITERS: Final[Mapping[str, Callable[[Layout, Sequence[Row], bool], bytes]]] = {
    "delimited": _delimited,
    "json_lines": _json_lines,
    "workbook": _workbook,
}
_PACKAGES: Final[Mapping[str, Callable[[bytes, str, int], dict[str, bytes]]]] = {
    "bare": _bare,
    "flag": _flag,
    "sidecar": _sidecar,
    "pboc": _pboc,
}
