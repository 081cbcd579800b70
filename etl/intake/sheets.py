"""What a workbook's bytes say before a reader loads them: how far its sheets reach, and which cells are in doubt.

A cell is in doubt when a reader would have to guess it: a formula (its saved value may be stale, or absent, which reads
as blank) and an error such as #N/A (which reads as blank too). XLSX is read as XML text in pieces, XLS as the records of
its BIFF stream; an XLS has at most 65,536 rows a sheet, so its records are walked one by one. XLS is read by xlrd: it is
slower than a native reader, but damaged bytes raise in it, where they end the process of another.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import xlrd
from xlrd.compdoc import CompDoc

from etl.intake.package import READ_BYTES

MAX_DOUBTFUL: Final = 10_000
OLE_MAGIC: Final = bytes.fromhex("D0CF11E0A1B11AE1")
UNLIKE_XLSX: Final = ("content.xml", "xl/workbook.bin")
_SEAM_BYTES = 64
_LONG_SEAM_BYTES = 4096
_SMALL_XML_BYTES = 1 << 20
_CELL_PLACE = re.compile(r"\sr\s*=\s*[\"']([A-Za-z]{0,7})([0-9]{0,9})")
_FORMULA = re.compile(rb"<(?:\w+:)?c\b([^<>]*)>\s*<(?:\w+:)?f[\s/>]")
_ERROR = re.compile(rb"<(?:\w+:)?c\b([^<>]*\st\s*=\s*[\"']e[\"'][^<>]*)>")
_PLACE = re.compile(rb"\sr\s*=\s*[\"']([A-Z]{1,3})([0-9]{1,7})")
_DOCTYPE = b"<!DOCTYPE"
_EQUALS, _QUOTES, _BLANK, _NAME = ord("="), (34, 39), 32, ord("r")
_LETTERS, _DIGITS = 7, 9
_BOF, _EOF, _BOUNDSHEET, _FORMULA_RECORD, _BOOLERR, _MERGED = 0x0809, 0x000A, 0x0085, 0x0006, 0x0205, 0x00E5
_NO_STATE: Final = 0x03  # the two bits of a sheet's state: visible, hidden, very hidden
_ONE_CELL = frozenset({_FORMULA_RECORD, _BOOLERR, 0x0201, 0x0203, 0x0204, 0x00D6, 0x00FD, 0x027E})
_SEVERAL_CELLS = frozenset({0x00BD, 0x00BE})


Area = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, order=True)
class Doubtful:
    """A cell by its 1-based row and column (0: not stated), and what it is: `formula` or `error`."""

    row: int
    column: int
    kind: str


@dataclass
class SheetFacts:
    """How many cells a sheet spans from A1 on, its first MAX_DOUBTFUL cells in doubt; of an XLS also what is merged.

    Merged areas are ((row, column), (row, column)) of their first and last cell, from 0.
    """

    cells: int = 0
    doubtful: set[Doubtful] = field(default_factory=set)
    merged: list[Area] = field(default_factory=list)
    is_visible: bool = True

    def doubt(self, row: int, column: int, kind: str) -> None:
        if len(self.doubtful) < MAX_DOUBTFUL:
            self.doubtful.add(Doubtful(row, column, kind))


class EntityError(ValueError):
    """An XML part declares a document type: entities could make it expand without end."""


# -- XLSX -------------------------------------------------------------------------------------------------------------


def xlsx_facts(archive: zipfile.ZipFile) -> dict[str, SheetFacts]:
    """Facts by name of the zip's entry; every entry is read to its end, which proves its size and checksum.

    Any entry may serve as a sheet, so each is measured. Raises EntityError, and one of BROKEN_ZIP for a damaged entry.
    """
    return {entry.filename: _entry_facts(archive, entry) for entry in archive.infolist()}


def sheet_entries(archive: zipfile.ZipFile) -> dict[str, str]:
    """Name of each sheet to its entry in the zip; sheets that cannot be resolved are left out."""
    try:
        book = ElementTree.fromstring(_small(archive, "xl/workbook.xml"))
        relations = ElementTree.fromstring(_small(archive, "xl/_rels/workbook.xml.rels"))
    except (ElementTree.ParseError, KeyError):
        return {}
    targets = {relation.get("Id"): relation.get("Target", "") for relation in relations}
    found = {}
    for sheet in book.iter():
        identity = next((value for key, value in sheet.items() if key.endswith("}id")), None)
        if sheet.tag.endswith("}sheet") and identity in targets:
            path = posixpath.normpath(posixpath.join("/xl", targets[identity]))
            found[sheet.get("name", "")] = path.lstrip("/")
    return found


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(_SMALL_XML_BYTES)


def _entry_facts(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> SheetFacts:
    facts, last_row, last_column, seam = SheetFacts(), 0, 1, b""
    with archive.open(entry) as file:
        while chunk := file.read(READ_BYTES):
            row, column = _farthest(seam[-_SEAM_BYTES:] + chunk)
            last_row, last_column = max(last_row, row), max(last_column, column)
            text = seam + chunk
            if _DOCTYPE in text:
                raise EntityError(entry.filename)
            _note_doubtful(text, facts)
            seam = chunk[-_LONG_SEAM_BYTES:]
    facts.cells = last_row * last_column
    return facts


def _note_doubtful(text: bytes, facts: SheetFacts) -> None:
    """Most pieces hold nothing in doubt, which a look for a few bytes shows a hundred times faster than the patterns."""
    for pattern, kind, signs in ((_FORMULA, "formula", (b"<f", b":f")), (_ERROR, "error", (b'"e"', b"'e'"))):
        for found in pattern.finditer(text) if any(sign in text for sign in signs) else ():
            place = _PLACE.search(found[1])
            facts.doubt(int(place[2]) if place else 0, column_number(place[1].decode()) if place else 0, kind)
            if len(facts.doubtful) >= MAX_DOUBTFUL:
                return


def column_number(letters: str) -> int:
    """The 1-based number of a column named by letters.

    >>> column_number("A"), column_number("Z"), column_number("AA"), column_number("XFD")
    (1, 26, 27, 16384)
    """
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def column_letters(number: int) -> str:
    """The letters of a 1-based column number.

    >>> column_letters(1), column_letters(26), column_letters(27), column_letters(16384)
    ('A', 'Z', 'AA', 'XFD')
    """
    letters = ""
    while number:
        number, place = divmod(number - 1, 26)
        letters = chr(65 + place) + letters
    return letters


def _farthest(text: bytes) -> tuple[int, int]:
    """The largest row and column named by an attribute r (A1, 7) in a piece of a sheet's XML."""
    octets = np.frombuffer(text + bytes(_SEAM_BYTES), dtype=np.uint8)
    is_equal = octets[1:-1] == _EQUALS
    before_quote = (octets[2:] == _QUOTES[0]) | (octets[2:] == _QUOTES[1])
    if (is_equal & (~before_quote | (octets[:-2] <= _BLANK))).any():
        return _farthest_spaced(text)
    found = np.flatnonzero(is_equal & (octets[:-2] == _NAME) & before_quote)
    return _read_places(octets, found[octets[np.maximum(found - 1, 0)] <= _BLANK] + 3)


def _farthest_spaced(text: bytes) -> tuple[int, int]:
    """The same where an equals sign stands free, as in text or in XML written with blanks around it."""
    places = [f"{letters}{digits}" for letters, digits in _CELL_PLACE.findall(text.decode("latin-1"))]
    octets = np.frombuffer(" ".join(["", *places, " " * _SEAM_BYTES]).encode(), dtype=np.uint8)
    return _read_places(octets, np.flatnonzero(octets[:-1] == _BLANK) + 1)


def _read_places(octets: npt.NDArray[np.uint8], starts: npt.NDArray[np.intp]) -> tuple[int, int]:
    """Row and column from cell names (or row numbers) that start at the given positions; the largest of each."""
    place, column, row = starts.copy(), np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    for _ in range(_LETTERS):
        letter = (octets[place] & 0xDF).astype(np.int64) - 64
        is_letter = (letter >= 1) & (letter <= 26) & (octets[place] >= 65)
        column = np.where(is_letter, column * 26 + letter, column)
        place += is_letter
    for _ in range(_DIGITS):
        digit = octets[place].astype(np.int64) - 48
        is_digit = (digit >= 0) & (digit <= 9)
        row = np.where(is_digit, row * 10 + digit, row)
        place += is_digit
    return int(row.max(initial=0)), int(column.max(initial=1))


# -- XLS --------------------------------------------------------------------------------------------------------------


def xls_facts(content: bytes) -> list[SheetFacts]:
    """Facts of each sheet in the order of the workbook. Raises whatever damaged bytes lead to."""
    container = CompDoc(content, logfile=io.StringIO())
    found = (container.locate_named_stream(name) for name in ("Workbook", "Book"))
    memory, start, size = next(stream for stream in found if stream[0] is not None)
    stream = bytes(memory[start : start + size])
    sheets = [(at, size) for kind, at, size in _records(stream, 0) if kind == _BOUNDSHEET]
    return [_substream_facts(stream, *struct.unpack_from("<IB", stream, at)) for at, _ in sheets]


def xls_grid(content: bytes, place: int) -> list[list[Any]]:
    """All cells of one sheet (from 0) from A1 on: text, numbers, truths, moments. Raises as `xls_facts` does."""
    with xlrd.open_workbook(file_contents=content, logfile=io.StringIO(), on_demand=True) as book:
        sheet = book.sheet_by_index(place)
        return [
            [_xls_value(kind, value, book.datemode) for kind, value in zip(kinds, values, strict=True)]
            for kinds, values in ((sheet.row_types(row), sheet.row_values(row)) for row in range(sheet.nrows))
        ]


def xls_names(content: bytes) -> list[str]:
    """Names of the sheets in their order. Raises as `xls_facts` does."""
    with xlrd.open_workbook(file_contents=content, logfile=io.StringIO(), on_demand=True) as book:
        return list(book.sheet_names())


def _xls_value(kind: int, value: Any, datemode: int) -> Any:
    if kind == xlrd.XL_CELL_DATE:
        moment: datetime = xlrd.xldate.xldate_as_datetime(value, datemode)
        return moment if value >= 1 else time(moment.hour, moment.minute, moment.second)
    if kind == xlrd.XL_CELL_BOOLEAN:
        return bool(value)
    return "" if kind == xlrd.XL_CELL_ERROR else value


def _records(stream: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Kind, position of the content and its size, of the records up to the end of the substream that starts there."""
    place, depth = start, 0
    while place + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, place)
        yield kind, place + 4, size
        depth += (kind == _BOF) - (kind == _EOF)
        if depth == 0:
            return
        place += 4 + size


def _substream_facts(stream: bytes, start: int, state: int) -> SheetFacts:
    facts, last_row, last_column = SheetFacts(is_visible=not state & _NO_STATE), -1, -1
    for kind, at, size in _records(stream, start):
        if kind == _MERGED:
            facts.merged += _merged_areas(stream, at)
        if kind not in _ONE_CELL and kind not in _SEVERAL_CELLS:
            continue
        row, column = struct.unpack_from("<HH", stream, at)
        if kind == _FORMULA_RECORD:
            facts.doubt(row + 1, column + 1, "formula")
        elif kind == _BOOLERR and stream[at + 7]:
            facts.doubt(row + 1, column + 1, "error")
        elif kind in _SEVERAL_CELLS:
            (column,) = struct.unpack_from("<H", stream, at + size - 2)
        last_row, last_column = max(last_row, row), max(last_column, column)
    facts.cells = (last_row + 1) * (last_column + 1)
    return facts


def _merged_areas(stream: bytes, at: int) -> Iterator[Area]:
    (count,) = struct.unpack_from("<H", stream, at)
    for number in range(count):
        top, bottom, left, right = struct.unpack_from("<4H", stream, at + 2 + 8 * number)
        yield (top, left), (bottom, right)
