"""Bytes on disk: PBoC packages, delimited files, workbooks. The same input always gives the same bytes."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.sheets import Sheet
from simulator.text import concatenated, edited, integers

_FIXED_TIME = (2024, 1, 1, 0, 0, 0)
_EXCEL_EPOCH_DAYS = 25_569  # days from 1899-12-30, where Excel counts from, to 1970-01-01


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    """A deflated zip with fixed time stamps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=5) as package:
        for name, content in members.items():
            package.writestr(zipfile.ZipInfo(name, _FIXED_TIME), content, zipfile.ZIP_DEFLATED)


def write_pboc(path: Path, content: bytes, rows: int, *, spoil_md5: bool = False) -> None:
    """A .dat with its five-line .log (file name, MD5, size, time, record count) in one zip (DOMAIN 2.3)."""
    data, log = f"{path.stem}.dat", f"{path.stem}.log"
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if spoil_md5:
        digest = digest[::-1]
    stamp = "2024-01-01 09:00:00"
    text = "\n".join([data, digest if rows else "", str(len(content)), stamp, str(rows)])
    write_zip(path, {data: content, log: f"{text}\n".encode()})


def write_workbook(path: Path, sheet: Sheet, title_of_sheet: str, title_row: str | None = None) -> None:
    """One worksheet: an optional title row, the headings, the rows. Edited cells are always text cells.

    The sheet's XML is written directly from whole columns; inline strings, so that no table of strings is needed.
    """
    first = 3 if title_row is not None else 2
    count = len(sheet.layout.names)
    head = _text_row([title_row], 1) if title_row is not None else ""
    head += _text_row(list(sheet.layout.headings), first - 1)
    numbers = integers(np.arange(first, first + sheet.rows))
    cells = [_cells(sheet, name, _letters(place), numbers) for place, name in enumerate(sheet.layout.names)]
    opening = pc.binary_join_element_wise('<row r="', numbers, '">', "")
    body = pc.binary_join_element_wise(opening, *cells, "</row>", "") if sheet.rows else pa.array([], pa.string())
    xml = (
        (
            f'{_XML}<worksheet xmlns="{_MAIN}"><dimension ref="A1:{_letters(count - 1)}{first + sheet.rows - 1}"/>'
            f"<sheetData>{head}"
        ).encode()
        + concatenated(body)
        + b"</sheetData></worksheet>"
    )
    write_zip(path, {**_workbook_parts(title_of_sheet), "xl/worksheets/sheet1.xml": xml})


def _cells(sheet: Sheet, name: str, letters: str, numbers: pa.Array) -> pa.Array:
    """One column as cell elements; blank cells are left out."""
    plain = sheet.columns[name]
    if name in sheet.date_cells:
        cells = _elements(letters, numbers, ' s="1"><v>', _excel_days(plain), "</v></c>")
    elif name in sheet.numeric:
        cells = _elements(letters, numbers, "><v>", plain, "</v></c>")
    else:
        cells = _elements(letters, numbers, _TEXT, _escaped(plain), _TEXT_END)
    cells = pc.if_else(pc.equal(plain, ""), "", cells)
    return edited(
        cells, {row: _text_cell(letters, numbers[row].as_py(), text) for row, text in sheet.edits.get(name, {}).items()}
    )


def _elements(letters: str, numbers: pa.Array, opening: str, values: pa.Array, closing: str) -> pa.Array:
    return pc.binary_join_element_wise(f'<c r="{letters}', numbers, f'"{opening}', values, closing, "")


def _text_cell(letters: str, number: str, text: str | None) -> str:
    if not text:
        return ""
    return f'<c r="{letters}{number}"{_TEXT}{_escaped_text(text)}{_TEXT_END}'


def _text_row(texts: list[str], number: int) -> str:
    cells = "".join(_text_cell(_letters(place), str(number), text) for place, text in enumerate(texts))
    return f'<row r="{number}">{cells}</row>'


def _escaped(texts: pa.Array) -> pa.Array:
    for plain, escape in _ESCAPES:
        texts = pc.replace_substring(texts, plain, escape)
    return texts


def _escaped_text(text: str) -> str:
    for plain, escape in _ESCAPES:
        text = text.replace(plain, escape)
    return text


def _excel_days(iso_dates: pa.Array) -> pa.Array:
    """Dates as Excel's serial numbers; blanks stay blank."""
    blank = pc.equal(iso_dates, "")
    days = pc.cast(pc.cast(pc.if_else(blank, "1970-01-01", iso_dates), pa.date32()), pa.int32())
    return pc.if_else(blank, "", pc.cast(pc.add(days, _EXCEL_EPOCH_DAYS), pa.string()))


def _letters(place: int) -> str:
    """Column letters of a 0-based place: A … Z, AA …"""
    return chr(65 + place) if place < 26 else chr(64 + place // 26) + chr(65 + place % 26)


_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
_TEXT, _TEXT_END = ' t="inlineStr"><is><t>', "</t></is></c>"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def _workbook_parts(title: str) -> dict[str, bytes]:
    """The small parts every workbook needs; style 1 is a date."""
    plain = 'numFmtId="0" fontId="0" fillId="0" borderId="0"'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_KIND}.styles+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_KIND}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_DOCS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_DOCS}"><sheets>'
        f'<sheet name="{_escaped_text(title)}" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_DOCS}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="rId2" Type="{_DOCS}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}">'
        '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/></numFmts>'
        '<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>'
        '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
        f'<cellStyleXfs count="1"><xf {plain}/></cellStyleXfs><cellXfs count="2"><xf {plain} xfId="0"/>'
        '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
    }
    return {name: (_XML + text).encode() for name, text in parts.items()}
