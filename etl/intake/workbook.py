"""Read an XLSX sheet into strings: numbers as their shortest decimal text, dates as YYYY-MM-DD, text as it stands.

The sheet is measured before it is loaded, because a single cell at XFD1048576 would make a reader allocate them all.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook

from etl.intake.package import BROKEN_ZIP, READ_BYTES, Caps, open_zip
from etl.intake.strings import Readout, Rows, UnreadableError, bad_line, broken, classify, delivered_columns, frame
from etl.registry import Feed, Layout

WORKBOOK_CAPS: Final = Caps(members=2_000, member_bytes=512 << 20, total_bytes=1 << 30)
MAX_CELLS: Final = 8_000_000
MAX_FILE_BYTES: Final = 256 << 20
_CELL_PLACE = re.compile(r"\sr\s*=\s*[\"']([A-Za-z]{0,7})([0-9]{0,9})")
_SEAM_BYTES = 64
_EQUALS, _QUOTES, _BLANK, _NAME = ord("="), (34, 39), 32, ord("r")
_LETTERS, _DIGITS = 7, 9
_EXACT_WHOLE = 1e15
_FIX = "另存为新的 .xlsx 工作簿后重报"
_ToText = Callable[[Any], str]


def read_workbook(
    raw: BinaryIO, member: str, feed: Feed, layout: Layout, *, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """One batch of the strings relation from one sheet; `_line` is the sheet's row number.

    Raises UnreadableError (P107). Empty rows at the end are dropped; an empty row between others is a P201.
    """
    _require_measured(raw, member)
    grid = _load(raw, member, layout.sheet)
    header = grid[layout.header_row - 1] if len(grid) >= layout.header_row else []
    body = grid[layout.header_row :] if layout.header else grid
    first_line = (layout.header_row if layout.header else 0) + 1
    cells = [_column_text(column) for column in zip(*body, strict=True)]
    names = [_cell_text(cell).strip() for cell in header]
    columns = _columns(names, cells, layout, member, readout)
    readout.note_columns(columns)
    filled = _filled_rows(cells, len(body))
    readout.rows_read = int(filled[-1]) if len(filled) else 0
    _note_blank_rows(filled, first_line, member, readout)
    if len(filled) and not any(finding.rule == "P105" for finding in readout.file_findings):
        kept = {name: pa.array(cells[place], pa.string()) for place, name in enumerate(columns) if name}
        chosen = {name: column.take(filled - 1) for name, column in kept.items()}
        lines = filled + (first_line - 1)
        yield frame(chosen, layout, delivery_id=delivery_id, member=member, rows=filled, lines=lines)


def number_text(value: float) -> str:
    """The shortest decimal text that reads back as the same number, without exponent.

    >>> number_text(5.4321), number_text(50000.0), number_text(1e-05), number_text(3.41181198001010e17)
    ('5.4321', '50000', '0.00001', '341181198001010000')
    """
    if value.is_integer() and abs(value) < _EXACT_WHOLE:
        return str(int(value))
    text = repr(value).removesuffix(".0")
    return format(Decimal(text), "f") if "e" in text else text


def _moment_text(value: datetime) -> str:
    return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")


_TEXT_OF: Final[dict[type, _ToText]] = {
    str: str,
    float: number_text,
    int: str,
    bool: lambda value: "TRUE" if value else "FALSE",
    date: date.isoformat,
    datetime: _moment_text,
}


def _cell_text(value: Any) -> str:
    return _TEXT_OF.get(type(value), str)(value)


def _column_text(column: Sequence[Any]) -> list[str]:
    kinds = set(map(type, column))
    if kinds <= {str}:
        return list(column)
    if len(kinds) == 1:
        return list(map(_TEXT_OF.get(kinds.pop(), str), column))
    return list(map(_cell_text, column))


def _columns(
    names: list[str], cells: list[list[str]], layout: Layout, member: str, readout: Readout
) -> list[str | None]:
    """Canonical names by position. A column without heading and without content is none."""
    if not layout.header:
        return delivered_columns(layout)
    width = max((place + 1 for place, name in enumerate(names) if name or (cells and any(cells[place]))), default=0)
    columns, findings = classify(names[:width], layout, member)
    readout.file_findings += findings
    return columns


def _filled_rows(cells: list[list[str]], count: int) -> Rows:
    """1-based numbers of the rows that have any content."""
    has_content = np.zeros(count, dtype=bool)
    for column in cells:
        has_content |= np.fromiter(map(bool, column), dtype=bool, count=count)
    return np.flatnonzero(has_content).astype(np.int64) + 1


def _note_blank_rows(filled: Rows, first_line: int, member: str, readout: Readout) -> None:
    blank = np.setdiff1d(np.arange(1, readout.rows_read + 1), filled, assume_unique=True)
    readout.row_findings += [bad_line(member, int(row), int(row) + first_line - 1, "") for row in blank]


def _load(raw: BinaryIO, member: str, sheet: str | None) -> list[list[Any]]:
    """All cells of the sheet from A1 on; raises UnreadableError when there is no such sheet or the file is damaged."""
    raw.seek(0)
    try:
        book = CalamineWorkbook.from_filelike(raw)
        if sheet is None or sheet in book.sheet_names:
            return book.get_sheet_by_name(sheet or book.sheet_names[0]).to_python(skip_empty_area=False)
    except (CalamineError, ValueError, OverflowError, IndexError) as error:
        raise _damaged(member, error) from None
    except BaseException as error:  # a panic of the Rust reader derives from nothing narrower
        if type(error).__name__ == "PanicException":
            raise _damaged(member, error) from None
        raise
    raise broken(member, f"没有名为“{sheet}”的工作表", f"it has no sheet named {sheet}", "使用约定的工作表名称")


def _damaged(member: str, error: BaseException) -> UnreadableError:
    en = f"the workbook is damaged or encrypted ({type(error).__name__})"
    return broken(member, "工作簿损坏或已加密", en, _FIX)


def _require_measured(raw: BinaryIO, member: str) -> None:
    """Refuse a workbook that is no sound zip or whose sheets span more cells than MAX_CELLS."""
    if raw.seek(0, 2) > MAX_FILE_BYTES:
        raise broken(member, "工作簿过大", "the workbook is too large", "按月拆分，或改用 CSV")
    archive, findings = open_zip(raw, member, WORKBOOK_CAPS)
    if archive is None:
        raise broken(member, findings[0].message_zh, findings[0].message_en, _FIX)
    try:
        cells = max((_span(archive, entry) for entry in archive.infolist()), default=0)
    except BROKEN_ZIP as error:
        raise _damaged(member, error) from None
    if cells > MAX_CELLS:
        raise broken(member, "工作表范围过大", "a sheet spans too many cells", "删除表格右侧和下方的空单元格后重报")


def _span(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Rows times columns a sheet spans; every entry is read to its end, which proves its size and checksum."""
    is_sheet = entry.filename.startswith("xl/worksheets/") and entry.filename.endswith(".xml")
    last_row, last_column, seam = 0, 1, b""
    with archive.open(entry) as file:
        while chunk := file.read(READ_BYTES):
            if is_sheet:
                row, column = _farthest(seam + chunk)
                last_row, last_column = max(last_row, row), max(last_column, column)
                seam = chunk[-_SEAM_BYTES:]
    return last_row * last_column


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
