"""Read a sheet of an XLSX or XLS workbook into strings.

Numbers come as their shortest decimal text, dates as YYYY-MM-DD, text as it stands. The sheet is measured before it is
loaded, because a single cell at XFD1048576 would make a reader allocate them all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa

from etl.findings import FileFinding
from etl.intake import sheet_process
from etl.intake.package import BROKEN_ZIP, Caps, open_zip
from etl.intake.sheet_process import column_text
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
READER_SECONDS: Final = 600
_FIX = "另存为新的 .xlsx 工作簿后重报"
_FIX_DOUBT = "取消合并单元格，将公式粘贴为数值，更正错误值后重报"
_DOUBTS: Final = {"formula": ("公式", "a formula"), "error": ("错误值", "an error value")}


@dataclass(frozen=True)
class _Sheet:
    """All cells from A1 on as columns of text, the facts about them, and the merged areas."""

    rows: int
    columns: list[list[str]]
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
    above = layout.header_row if layout.header else 0
    names = [column[layout.header_row - 1].strip() for column in sheet.columns if len(column) >= layout.header_row]
    cells = [column[above:] for column in sheet.columns]
    count, first_line = max(sheet.rows - above, 0), above + 1
    trailer_row = _take_trailer(cells, count, layout, readout)
    if trailer_row:
        cells = [column[: trailer_row - 1] for column in cells]
    filled = _filled_rows(cells, trailer_row - 1 if trailer_row else count)
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
    found = _run_reader(_all_of(raw, member, MAX_FILE_BYTES), member, layout.sheet)
    name = _chosen_sheet(member, layout.sheet, found["visible"])
    merged = [((top, left), (bottom, right)) for (top, left), (bottom, right) in found["merged"]]
    return _Sheet(found["rows"], found["columns"], facts.get(name) or _united(facts), merged)


def _run_reader(content: bytes, member: str, sheet: str | None) -> dict[str, Any]:
    """What the reader's process says of the workbook; raises UnreadableError (P107) when it came to an end."""
    script = Path(sheet_process.__file__)
    command = [sys.executable, "-I", str(script), sheet or ""]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        ended = subprocess.run(command, input=content, timeout=READER_SECONDS, check=False, **pipes)
    except subprocess.TimeoutExpired:
        raise _damaged(member, f"its reader did not end within {READER_SECONDS} s") from None
    if ended.returncode:
        raise _damaged(member, f"its reader ended with {ended.returncode}")
    loaded: dict[str, Any] = json.loads(ended.stdout.decode("utf-8", "surrogatepass"))
    return loaded


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
        grid = xls_grid(content, place)
        columns = [column_text(column) for column in zip(*grid, strict=True)]
        return _Sheet(len(grid), columns, facts[place], facts[place].merged)
    except UnreadableError:
        raise
    except Exception as error:  # damaged bytes surface in the reader as anything from IndexError to AssertionError
        raise _damaged(member, type(error).__name__) from None


def _all_of(raw: BinaryIO, member: str, limit: int) -> bytes:
    raw.seek(0)
    content = raw.read(limit + 1)
    if len(content) > limit:
        raise broken(member, "工作簿过大", "the workbook is too large", "按月拆分，或改用 CSV")
    return content


def _chosen_sheet(member: str, agreed: str | None, is_visible: Mapping[str, bool]) -> str:
    """The agreed sheet, or the only one to be seen where none is named. A hidden sheet is nobody's statement."""
    visible = [name for name in is_visible if is_visible[name]]
    name = sheet_process.chosen(agreed or "", dict(is_visible))
    if name is not None:
        return name
    if not agreed:
        en = f"it has {len(visible)} visible sheets, and none is agreed"
        raise broken(member, f"有 {len(visible)} 个可见工作表，无法确定是哪一个", en, "只保留一个工作表后重报")
    if agreed not in is_visible:
        en = f"it has no sheet named {agreed}"
        raise broken(member, f"没有名为“{agreed}”的工作表", en, "使用约定的工作表名称")
    raise broken(member, f"工作表“{agreed}”被隐藏", f"the sheet {agreed} is hidden", "取消隐藏，核对后重报")


def _damaged(member: str, why: str) -> UnreadableError:
    en = f"the workbook is damaged or encrypted ({why})"
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
        raise _damaged(member, type(error).__name__) from None
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
