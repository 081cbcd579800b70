"""Read a sheet of an XLSX or XLS workbook into strings: numbers as their shortest decimal text, dates as YYYY-MM-DD, text as it stands.

The sheet is measured before it is loaded, because a single cell at XFD1048576 would make a reader allocate them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum

from etl.findings import FileFinding
from etl.intake.package import BROKEN_ZIP, Caps, open_zip
from etl.intake.sheets import (
    OLE_MAGIC,
    UNLIKE_XLSX,
    Area,
    EntityError,
    SheetFacts,
    column_letters,
    sheet_entries,
    xls_facts,
    xls_grid,
    xls_names,
    xlsx_facts,
)
from etl.intake.strings import Readout, Rows, UnreadableError, bad_line, broken, classify, delivered_columns, frame
from etl.intake.trailer import trailer_cells
from etl.registry import Feed, Layout

WORKBOOK_CAPS: Final = Caps(members=2_000, member_bytes=512 << 20, total_bytes=1 << 30)
MAX_CELLS: Final = 8_000_000
MAX_FILE_BYTES: Final = 256 << 20
MAX_XLS_BYTES: Final = 64 << 20
MAX_XLS_CELLS: Final = 4_000_000
_EXACT_WHOLE = 1e15
_FIX = "另存为新的 .xlsx 工作簿后重报"
_FIX_DOUBT = "取消合并单元格，将公式粘贴为数值，更正错误值后重报"
_DOUBTS: Final = {"formula": ("公式", "a formula"), "error": ("错误值", "an error value")}
_ToText = Callable[[Any], str]


@dataclass(frozen=True)
class _Sheet:
    """All cells from A1 on, the facts about them, and the merged areas as ((row, column), (row, column)) from 0."""

    grid: list[list[Any]]
    facts: SheetFacts
    merged: Sequence[Area]


def read_workbook(
    raw: BinaryIO, member: str, feed: Feed, layout: Layout, *, delivery_id: str, readout: Readout
) -> Iterator[pa.RecordBatch]:
    """One batch of the strings relation from one sheet of an XLSX or XLS; `_line` is the sheet's row number.

    Raises UnreadableError (P107). Empty rows at the end are dropped; an empty row between others is a P201. A formula,
    an error value or a merged area in an agreed column is a P123, and no row is handed on: nothing is guessed.
    """
    sheet = _load_xls(raw, member, layout) if _is_xls(raw) else _load_xlsx(raw, member, layout)
    grid = sheet.grid
    header = grid[layout.header_row - 1] if len(grid) >= layout.header_row else []
    body = grid[layout.header_row :] if layout.header else grid
    first_line = (layout.header_row if layout.header else 0) + 1
    cells = [_column_text(column) for column in zip(*body, strict=True)]
    trailer_row = _take_trailer(cells, len(body), layout, readout)
    if trailer_row:
        cells = [column[: trailer_row - 1] for column in cells]
    filled = _filled_rows(cells, trailer_row - 1 if trailer_row else len(body))
    names = [_cell_text(cell).strip() for cell in header]
    columns = _columns(names, cells, layout, member, readout)
    readout.note_columns(columns)
    readout.rows_read = int(filled[-1]) if len(filled) else 0
    _note_blank_rows(filled, first_line, member, readout)
    lines = filled + (first_line - 1)
    doubt = _doubt_in(sheet, columns, layout, trailer_row + first_line - 1 if trailer_row else 0)
    if doubt:
        readout.file_findings.append(FileFinding("P123", member, *doubt, _FIX_DOUBT))
    elif len(filled) and not any(finding.rule == "P105" for finding in readout.file_findings):
        blank = [""] * len(cells[0])  # a column without any content may be cut off
        texts = [*cells, *[blank] * (len(columns) - len(cells))]
        kept = {name: pa.array(texts[place], pa.string()) for place, name in enumerate(columns) if name}
        chosen = {name: column.take(filled - 1) for name, column in kept.items()}
        yield frame(chosen, layout, delivery_id=delivery_id, member=member, rows=filled, lines=lines)


def _take_trailer(cells: list[list[str]], count: int, layout: Layout, readout: Readout) -> int:
    """The row of the body that is the agreed trailer, its cells noted; 0 when the last filled row is none."""
    filled = _filled_rows(cells, count)
    if layout.trailer is None or not len(filled):
        return 0
    last = int(filled[-1])
    readout.trailer = trailer_cells([column[last - 1] for column in cells], layout)
    return 0 if readout.trailer is None else last


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
        columns = delivered_columns(layout)
        beyond = sum(1 for column in cells[len(columns) :] if any(column))
        if beyond:
            zh, en = f"比约定多 {beyond} 列", f"{beyond} columns more than agreed"
            readout.file_findings.append(FileFinding("P106", member, zh, en, "删除多余的列，或先与县里约定后再增加"))
        return columns
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


def _is_xls(raw: BinaryIO) -> bool:
    raw.seek(0)
    return raw.read(len(OLE_MAGIC)) == OLE_MAGIC


def _load_xlsx(raw: BinaryIO, member: str, layout: Layout) -> _Sheet:
    """The agreed sheet; raises UnreadableError when there is none, it is not to be seen, or the file is damaged."""
    facts = _xlsx_facts(raw, member)
    raw.seek(0)
    try:
        book = CalamineWorkbook.from_filelike(raw)
        visible = {sheet.name: sheet.visible == SheetVisibleEnum.Visible for sheet in book.sheets_metadata}
        name = _chosen_sheet(member, layout.sheet, visible)
        sheet = book.get_sheet_by_name(name)
        grid = sheet.to_python(skip_empty_area=False)
        return _Sheet(grid, facts.get(name) or _united(facts), sheet.merged_cell_ranges or [])
    except (CalamineError, ValueError, OverflowError, IndexError) as error:
        raise _damaged(member, error) from None
    except BaseException as error:  # a panic of the Rust reader derives from nothing narrower
        if type(error).__name__ == "PanicException":
            raise _damaged(member, error) from None
        raise


def _united(facts: Mapping[str, SheetFacts]) -> SheetFacts:
    """Where the parts of a sheet cannot be told from the others, all cells in doubt of the workbook count."""
    return SheetFacts(doubtful={cell for one in facts.values() for cell in one.doubtful})


def _load_xls(raw: BinaryIO, member: str, layout: Layout) -> _Sheet:
    """The same from an XLS."""
    content = _all_of(raw, member, MAX_XLS_BYTES)
    try:
        facts, names = xls_facts(content), xls_names(content)
        visible = {name: one.is_visible for name, one in zip(names, facts, strict=True)}
        place = names.index(_chosen_sheet(member, layout.sheet, visible))
        if facts[place].cells > MAX_XLS_CELLS:
            raise _too_wide(member)
        return _Sheet(xls_grid(content, place), facts[place], facts[place].merged)
    except UnreadableError:
        raise
    except Exception as error:  # damaged bytes surface in the reader as anything from IndexError to AssertionError
        raise _damaged(member, error) from None


def _all_of(raw: BinaryIO, member: str, limit: int) -> bytes:
    raw.seek(0)
    content = raw.read(limit + 1)
    if len(content) > limit:
        raise broken(member, "工作簿过大", "the workbook is too large", "按月拆分，或改用 CSV")
    return content


def _chosen_sheet(member: str, agreed: str | None, is_visible: Mapping[str, bool]) -> str:
    """The agreed sheet, or the only one to be seen where none is named. A hidden sheet is nobody's statement."""
    visible = [name for name in is_visible if is_visible[name]]
    if agreed is None:
        if len(visible) == 1:
            return visible[0]
        en = f"it has {len(visible)} visible sheets, and none is agreed"
        raise broken(member, f"有 {len(visible)} 个可见工作表，无法确定是哪一个", en, "只保留一个工作表后重报")
    if agreed not in is_visible:
        en = f"it has no sheet named {agreed}"
        raise broken(member, f"没有名为“{agreed}”的工作表", en, "使用约定的工作表名称")
    if agreed not in visible:
        raise broken(member, f"工作表“{agreed}”被隐藏", f"the sheet {agreed} is hidden", "取消隐藏，核对后重报")
    return agreed


def _damaged(member: str, error: BaseException) -> UnreadableError:
    en = f"the workbook is damaged or encrypted ({type(error).__name__})"
    return broken(member, "工作簿损坏或已加密", en, _FIX)


def _too_wide(member: str) -> UnreadableError:
    return broken(member, "工作表范围过大", "a sheet spans too many cells", "删除表格右侧和下方的空单元格后重报")


def _xlsx_facts(raw: BinaryIO, member: str) -> dict[str, SheetFacts]:
    """Facts by sheet (by zip entry where it cannot be told which is which).

    Raises UnreadableError for what is no sound XLSX, or has a sheet that spans more cells than MAX_CELLS.
    """
    if raw.seek(0, 2) > MAX_FILE_BYTES:
        raise broken(member, "工作簿过大", "the workbook is too large", "按月拆分，或改用 CSV")
    archive, findings = open_zip(raw, member, WORKBOOK_CAPS)
    if archive is None:
        raise broken(member, findings[0].message_zh, findings[0].message_en, _FIX)
    try:
        by_entry, entries = xlsx_facts(archive), sheet_entries(archive)
    except EntityError:
        raise broken(member, "含 XML 实体声明", "it declares XML entities", _FIX) from None
    except BROKEN_ZIP as error:
        raise _damaged(member, error) from None
    if max((facts.cells for facts in by_entry.values()), default=0) > MAX_CELLS:
        raise _too_wide(member)
    if any(name in by_entry for name in UNLIKE_XLSX):
        raise broken(member, "不是 .xlsx 或 .xls 工作簿", "it is neither an .xlsx nor an .xls workbook", _FIX)
    return {name: by_entry[entry] for name, entry in entries.items() if entry in by_entry} or by_entry


def _doubt_in(sheet: _Sheet, columns: Sequence[str | None], layout: Layout, trailer_row: int) -> tuple[str, str] | None:
    """A cell of the agreed columns, from the header down, whose value would be a guess (Chinese, English), or None.

    A row that holds nothing but such cells reads as blank, so rows without content count too; a trailer, which is
    checked, may be a formula. In a merged area only the first cell has the value.
    """
    used = {place for place, name in enumerate(columns, start=1) if name}
    first = layout.header_row if layout.header else 1
    for cell in sorted(sheet.facts.doubtful):
        is_below = not cell.row or (cell.row >= first and cell.row != trailer_row)
        if is_below and (cell.column in used or not cell.column):
            zh, en = _DOUBTS[cell.kind]
            return f"{zh}：{_place(cell.row, cell.column)}", f"{en}: {_place(cell.row, cell.column)}"
    for (top, left), (bottom, right) in sheet.merged:
        is_below = bottom + 1 >= first and top + 1 != trailer_row
        if is_below and any(left < place <= right + 1 for place in used):
            return f"合并单元格：{_place(top + 1, left + 1)}", f"merged cells: {_place(top + 1, left + 1)}"
    return None


def _place(row: int, column: int) -> str:
    return f"{column_letters(column)}{row}" if row and column else "?"
