"""Tables as XLSX, written column by column: a receipt may have a million findings, and a library writes cell by cell.

Every text is a text cell (format `@`), so that no digit of a long number is lost, and none can start a formula, be it
after it was saved as CSV. The same tables give the same bytes. Office Open XML, ECMA-376 part 1, section 18.3.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.compute as pc

FORMULA_START: Final = r"^([=+\-@\t\r\n＝＋－＠'])"
MAX_SHEET_ROWS: Final = 1_000_000
_CHUNK_ROWS: Final = 20_000
_MAX_CELL_CHARACTERS: Final = 32_000
_UNPRINTABLE: Final = r"[\x{0}-\x{8}\x{B}\x{C}\x{E}-\x{1F}\x{FFFE}\x{FFFF}]"
_LOOKS_ESCAPED: Final = "_(x[0-9A-Fa-f]{4}_)"
_WRITTEN_AT: Final = (1980, 1, 1, 0, 0, 0)
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS: Final = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPES: Final = "http://schemas.openxmlformats.org/package/2006/content-types"
_KIND: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_STYLES: Final = (
    f'{_HEAD}<styleSheet xmlns="{_MAIN}"><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="3"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '<fill><patternFill patternType="solid"><fgColor rgb="FFE8EEF4"/></patternFill></fill></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="3"><xf/>'
    '<xf numFmtId="49" applyNumberFormat="1" applyAlignment="1"><alignment vertical="top" wrapText="1"/></xf>'
    '<xf numFmtId="49" fontId="1" fillId="2" applyNumberFormat="1" applyFont="1" applyFill="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)
_TEXT: Final = '<c t="inlineStr" s="1"><is><t xml:space="preserve">'
_TEXT_END: Final = "</t></is></c>"


@dataclass(frozen=True)
class Sheet:
    """One table: `headings` and `widths` (in characters) by column, both in the order of the table."""

    name: str
    table: pa.Table
    headings: Sequence[str]
    widths: Sequence[int]


def write_workbook(path: Path, sheets: Sequence[Sheet]) -> None:
    """Write a new file with one frozen heading row a sheet; raises FileExistsError.

    A table of more than a million rows goes on in further sheets.
    """
    pages = [page for sheet in sheets for page in _pages(sheet)]
    with path.open("xb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, text in _frame(pages).items():
            archive.writestr(_entry(name), text)
        for number, page in enumerate(pages, start=1):
            with archive.open(_entry(f"xl/worksheets/sheet{number}.xml"), "w") as part:
                _write_sheet(part, page)


def disarmed(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Texts none of which starts a formula: a spreadsheet shows a cell with a leading ' as text."""
    return pc.replace_substring_regex(column, FORMULA_START, r"'\1")


def _pages(sheet: Sheet) -> Iterator[Sheet]:
    for number, start in enumerate(range(0, max(len(sheet.table), 1), MAX_SHEET_ROWS), start=1):
        name = sheet.name if number == 1 else f"{sheet.name} {number}"
        yield Sheet(name, sheet.table.slice(start, MAX_SHEET_ROWS), sheet.headings, sheet.widths)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _WRITTEN_AT)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _frame(pages: Sequence[Sheet]) -> Mapping[str, str]:
    """Everything but the sheets themselves."""
    numbers = range(1, len(pages) + 1)
    parts = "".join(
        f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{_KIND}.worksheet+xml"/>' for n in numbers
    )
    names = "".join(
        f'<sheet name="{escape(page.name)}" sheetId="{n}" r:id="rId{n}"/>'
        for n, page in zip(numbers, pages, strict=True)
    )
    links = "".join(
        f'<Relationship Id="rId{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
    )
    return {
        "[Content_Types].xml": f'{_HEAD}<Types xmlns="{_TYPES}">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_KIND}.styles+xml"/>{parts}</Types>',
        "_rels/.rels": f'{_HEAD}<Relationships xmlns="{_RELATIONS}">'
        f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'{_HEAD}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'{_HEAD}<Relationships xmlns="{_RELATIONS}">{links}'
        f'<Relationship Id="rIdStyles" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": _STYLES,
    }


def _write_sheet(part: IO[bytes], page: Sheet) -> None:
    widths = "".join(
        f'<col min="{n}" max="{n}" width="{width}" customWidth="1"/>' for n, width in enumerate(page.widths, start=1)
    )
    headings = "".join(f'<c t="inlineStr" s="2"><is><t>{escape(text)}</t></is></c>' for text in page.headings)
    part.write(
        f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        f"<cols>{widths}</cols><sheetData><row>{headings}</row>".encode()
    )
    for batch in page.table.to_batches(max_chunksize=_CHUNK_ROWS):
        part.write(_rows_xml(batch))
    part.write(b"</sheetData></worksheet>")


def _rows_xml(batch: pa.RecordBatch) -> bytes:
    """The rows of a batch as XML: the texts of an Arrow array lie one behind the other."""
    if not len(batch):
        return b""
    cells = [_cells(column) for column in batch.columns]
    rows = pc.binary_join_element_wise("<row>", *cells, "</row>", "")
    rows = pc.cast(rows, pa.large_string())
    chunks = rows.chunks if isinstance(rows, pa.ChunkedArray) else [rows]
    return b"".join(_texts(chunk) for chunk in chunks)


def _texts(array: pa.Array) -> bytes:
    start, end = array.offset, array.offset + len(array)
    offsets = memoryview(array.buffers()[1]).cast("q")
    return bytes(memoryview(array.buffers()[2])[offsets[start] : offsets[end]])


def _cells(column: pa.Array) -> pa.Array:
    """One cell for each value; nothing but its place where there is none."""
    is_coded = pa.types.is_dictionary(column.type)
    if not is_coded and not pa.types.is_string(column.type):
        numbers = pc.binary_join_element_wise("<c><v>", pc.cast(column, pa.string()), "</v></c>", "")
        return pc.fill_null(numbers, "<c/>")
    encoded = column if is_coded else column.dictionary_encode()
    texts = pc.binary_join_element_wise(_TEXT, _escaped(encoded.dictionary), _TEXT_END, "")
    return pc.fill_null(texts.take(encoded.indices), "<c/>")


def _escaped(texts: pa.Array) -> pa.Array:
    """Harmless as a cell, and as XML; `_x0041_` would be read as a character (ECMA-376 part 1, 22.9.2.19)."""
    texts = pc.utf8_slice_codeunits(disarmed(texts), 0, _MAX_CELL_CHARACTERS)
    texts = pc.replace_substring_regex(texts, _UNPRINTABLE, "\ufffd")
    texts = pc.replace_substring_regex(texts, _LOOKS_ESCAPED, r"_x005F_\1")
    for character, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        texts = pc.replace_substring(texts, character, written)
    return texts
