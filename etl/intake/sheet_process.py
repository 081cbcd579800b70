"""Load one sheet of an XLSX in a process of its own: a workbook made to harm ends that process and nothing else.

The native reader is memory-safe, but a count in the XML makes it ask for any amount of memory, and an allocation that
fails ends the process it runs in. Run as a script with the sheet's name (or nothing), it reads the workbook from its
standard input and writes one JSON object: `visible` (name of each sheet to whether it can be seen), and of the chosen
sheet `name`, `rows`, `columns` (each a list of texts) and `merged`. It stands alone, so that it starts at once.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from python_calamine import CalamineWorkbook, SheetVisibleEnum

MEMORY_BYTES: Final = 4 << 30
_EXACT_WHOLE = 1e15


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


_TEXT_OF: Final[dict[type, Callable[[Any], str]]] = {
    str: str,
    float: number_text,
    int: str,
    bool: lambda value: "TRUE" if value else "FALSE",
    date: date.isoformat,
    datetime: _moment_text,
}


def cell_text(value: Any) -> str:
    """Numbers as their shortest decimal text, dates as YYYY-MM-DD, text as it stands."""
    return _TEXT_OF.get(type(value), str)(value)


def column_text(column: Sequence[Any]) -> list[str]:
    """The same of a whole column."""
    kinds = set(map(type, column))
    if kinds <= {str}:
        return list(column)
    if len(kinds) == 1:
        return list(map(_TEXT_OF.get(kinds.pop(), str), column))
    return list(map(cell_text, column))


def chosen(agreed: str, is_visible: dict[str, bool]) -> str | None:
    """The agreed sheet if it can be seen; where none is agreed, the only one that can."""
    visible = [name for name in is_visible if is_visible[name]]
    if agreed:
        return agreed if agreed in visible else None
    return visible[0] if len(visible) == 1 else None


def load(content: bytes, agreed: str) -> dict[str, Any]:
    """What the script writes."""
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    visible = {sheet.name: sheet.visible == SheetVisibleEnum.Visible for sheet in book.sheets_metadata}
    name = chosen(agreed, visible)
    if name is None:
        return {"visible": visible}
    sheet = book.get_sheet_by_name(name)
    grid = sheet.to_python(skip_empty_area=False)
    columns = [column_text(column) for column in zip(*grid, strict=True)]
    merged = sheet.merged_cell_ranges or []
    return {"visible": visible, "name": name, "rows": len(grid), "columns": columns, "merged": merged}


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    loaded = load(sys.stdin.buffer.read(), sys.argv[1])
    sys.stdout.buffer.write(json.dumps(loaded, ensure_ascii=False).encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    _main()
