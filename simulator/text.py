"""Whole columns of text at once: numbers, dates and amounts become Arrow strings without a Python loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_DAY = -999_999
"""Stands for "no date" in columns of days since 1970-01-01 (births before 1970 are negative)."""

_EPOCH = date(1970, 1, 1)


def day_number(value: date) -> int:
    """Days since 1970-01-01."""
    return (value - _EPOCH).days


def day_of(number: int) -> date:
    """The date of a number of days since 1970-01-01."""
    return _EPOCH + timedelta(days=int(number))


def digits(values: np.ndarray, width: int) -> np.ndarray:
    """Zero-padded decimal digits of non-negative integers as an ASCII matrix (rows, width)."""
    matrix = np.empty((len(values), width), dtype=np.uint8)
    rest = np.asarray(values, dtype=np.int64)
    for place in range(width - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        matrix[:, place] = digit + 48
    return matrix


def beside(*parts: np.ndarray | str) -> np.ndarray:
    """Put ASCII matrices and constants side by side."""
    rows = next(len(part) for part in parts if isinstance(part, np.ndarray))
    filled = [
        np.broadcast_to(np.frombuffer(part.encode("ascii"), np.uint8), (rows, len(part)))
        if isinstance(part, str)
        else part
        for part in parts
    ]
    return np.hstack(filled)


def strings(matrix: np.ndarray) -> pa.Array:
    """An ASCII matrix (rows, width) as an Arrow string array."""
    rows, width = matrix.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    data = np.ascontiguousarray(matrix, dtype=np.uint8)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))


def integers(values: np.ndarray) -> pa.Array:
    """Integers as plain text."""
    return pc.cast(pa.array(np.asarray(values, dtype=np.int64)), pa.string())


def numbered(prefix: str, values: np.ndarray, width: int) -> pa.Array:
    """Serial numbers such as TC000000123."""
    return strings(beside(prefix, digits(values, width)))


def calendar_parts(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Year, month and day of days since 1970-01-01."""
    dates = np.asarray(days, dtype=np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    years = dates.astype("datetime64[Y]")
    return (
        years.astype(np.int64) + 1970,
        (months - years).astype(np.int64) + 1,
        (dates - months).astype(np.int64) + 1,
    )


def dates(days: np.ndarray, separator: str = "-", missing: str | None = "") -> pa.Array:
    """Dates as YYYY-MM-DD (or with another separator); NO_DAY becomes `missing`."""
    days = np.asarray(days)
    absent = days == NO_DAY
    year, month, day = calendar_parts(np.where(absent, 0, days))
    text = strings(beside(digits(year, 4), separator, digits(month, 2), separator, digits(day, 2)))
    return pc.if_else(pa.array(~absent), text, pa.scalar(missing, pa.string())) if absent.any() else text


def instants(seconds: np.ndarray) -> pa.Array:
    """Local seconds since 1970-01-01 as ISO text in the offset of Asia/Shanghai."""
    day, second = np.divmod(np.asarray(seconds, dtype=np.int64), 86_400)
    year, month, day_in_month = calendar_parts(day)
    clock = beside(digits(second // 3600, 2), ":", digits(second // 60 % 60, 2), ":", digits(second % 60, 2))
    return strings(beside(digits(year, 4), "-", digits(month, 2), "-", digits(day_in_month, 2), "T", clock, "+08:00"))


def fixed_point(values: np.ndarray, places: int) -> pa.Array:
    """Non-negative integers in units of 10**-places as decimal text with exactly `places` decimals."""
    whole, part = np.divmod(np.asarray(values, dtype=np.int64), 10**places)
    return pc.binary_join_element_wise(integers(whole), strings(digits(part, places)), ".")


def shortest(values: np.ndarray, unit: float) -> pa.Array:
    """Integers divided by `unit`, as the shortest text of that number: how a spreadsheet stores it."""
    return pc.cast(pa.array(np.asarray(values, dtype=np.float64) / unit), pa.string())


def picked(labels: Sequence[str | None], codes: np.ndarray) -> pa.Array:
    """Labels by code; a None label stays null."""
    return pa.array(list(labels), pa.string()).take(pa.array(np.asarray(codes, dtype=np.int64)))


def blank_where(mask: np.ndarray, text: pa.Array, blank: str | None = "") -> pa.Array:
    """Replace by `blank` where the mask holds."""
    return pc.if_else(pa.array(mask), pa.scalar(blank, pa.string()), text)


def edited(column: pa.Array, edits: dict[int, str | None]) -> pa.Array:
    """The column with single cells replaced, by 0-based row."""
    if not edits:
        return column
    rows = sorted(edits)
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.replace_with_mask(column, pa.array(mask), pa.array([edits[row] for row in rows], pa.string()))


def lines(columns: Sequence[pa.Array], delimiter: str, end: str) -> bytes:
    """All rows joined to delimited lines, each closed by `end`; nulls are empty fields. Nothing is quoted."""
    joined = pc.binary_join_element_wise(*columns, delimiter, null_handling="replace", null_replacement="")
    closed = pc.binary_join_element_wise(joined, pa.scalar(end), "")
    return concatenated(closed)


def concatenated(texts: pa.Array) -> bytes:
    """All texts of the array after one another, as UTF-8."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if len(texts) == 0:
        return b""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return bytes(memoryview(texts.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
