"""Workbooks: how cells become text, and which workbooks are not opened at all."""

from __future__ import annotations

import io
from datetime import date, datetime
from typing import Any

import openpyxl
import pytest

from etl.intake import workbook
from etl.intake.sheet_process import number_text
from tests.intake.making import cells_of, make_layout, make_zip, read_bytes, rules_of

HEADINGS = {"借据编号": "loan_no", "姓名": "borrower_name", "余额(万元)": "balance_yuan"}
LAYOUT = make_layout(format="workbook", sheet="台账", header_row=2, columns=HEADINGS, ignore=["序号"])


def make_workbook(rows: list[list[Any]], sheet: str = "台账") -> bytes:
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    for row in rows:
        page.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def make_sheet(*rows: list[Any], header: list[str] | None = None) -> bytes:
    return make_workbook([["某行贷款台账"], header or ["序号", *HEADINGS], *rows])


def test_cells_become_text_and_keep_their_place() -> None:
    content = make_sheet([1, "A1", "王𠮷", 5.4321], [2, "A2", None, 50000], [3, 12345, "李", "1,000"])
    read = read_bytes(content, LAYOUT, name="台账.xlsx")
    assert cells_of(read, "_member", "_row", "_line", *HEADINGS.values()) == [
        ("台账.xlsx", 1, 3, "A1", "王𠮷", "5.4321"),
        ("台账.xlsx", 2, 4, "A2", "", "50000"),
        ("台账.xlsx", 3, 5, "12345", "李", "1,000"),
    ]
    assert read.column_no == {"loan_no": 2, "borrower_name": 3, "balance_yuan": 4}


def test_dates_are_written_the_iso_way() -> None:
    read = read_bytes(make_sheet([1, date(2024, 3, 31), datetime(2024, 3, 31, 8, 30), True]), LAYOUT)
    assert cells_of(read, *HEADINGS.values()) == [("2024-03-31", "2024-03-31 08:30:00", "TRUE")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2, "0.30000000000000004"), (5.4321, "5.4321"), (0.0415, "0.0415"), (120000.0, "120000"), (-3.5, "-3.5"),
     (1e-7, "0.0000001"), (3.41181198001010e17, "341181198001010000"), (1e15, "1000000000000000"), (0.0, "0")],
)  # fmt: skip
def test_numbers_come_without_exponent_or_trailing_zero(value: float, text: str) -> None:
    assert number_text(value) == text


def test_empty_rows_at_the_end_are_none_and_one_in_between_is_a_finding() -> None:
    content = make_sheet([1, "A1", "x", 1], [None] * 4, [3, "A3", "y", 3], [None] * 4, ["", "", "", ""])
    read = read_bytes(content, LAYOUT)
    assert cells_of(read, "_row", "_line", "loan_no") == [(1, 3, "A1"), (3, 5, "A3")]
    assert [(found.rule, found.row, found.line) for found in read.row_findings] == [("P201", 2, 4)]
    assert read.rows_read == 3


def test_columns_are_classified_like_any_header() -> None:
    missing = read_bytes(make_sheet([1, "A1", "x"], header=["序号", "借据编号", "姓名"]), LAYOUT)
    unknown = read_bytes(make_sheet([1, "A1", "x", 1, "?"], header=["序号", *HEADINGS, "新列"]), LAYOUT)
    unnamed = read_bytes(make_sheet([1, "A1", "x", 1, "?"], header=["序号", *HEADINGS]), LAYOUT)
    assert (rules_of(missing), missing.table.num_rows, missing.rows_read) == (["P105"], 0, 1)
    assert (rules_of(unknown), cells_of(unknown, "loan_no")) == (["P106"], [("A1",)])
    assert rules_of(unnamed) == ["P106"]


def test_without_a_header_the_width_is_the_agreed_one() -> None:
    layout = make_layout(format="workbook", header=False)
    assert cells_of(
        read_bytes(make_workbook([["A1"], ["A2", None, None, None]]), layout), "loan_no", "balance_yuan"
    ) == [
        ("A1", ""),
        ("A2", ""),
    ]
    read = read_bytes(make_workbook([["A1", "x", 1, "?"]]), layout)
    assert [finding.message_en for finding in read.file_findings] == ["1 columns more than agreed"]


def test_a_sheet_without_rows_is_no_rows_and_without_header_p105() -> None:
    assert rules_of(read_bytes(make_sheet(), LAYOUT)) == []
    assert rules_of(read_bytes(make_workbook([["标题"]]), LAYOUT)) == ["P105"]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no workbook", make_zip({"a.txt": b"x"}), make_workbook([["x"]], sheet="别的表")]
)
def test_what_is_not_the_agreed_workbook_is_p107(content: bytes) -> None:
    read = read_bytes(content, LAYOUT)
    assert (rules_of(read), read.table.num_rows) == (["P107"], 0)


def test_one_far_cell_does_not_make_a_sheet_of_billions() -> None:
    book = openpyxl.Workbook()
    book.active.title = "台账"
    book.active["XFD1048576"] = 1
    file = io.BytesIO()
    book.save(file)
    assert rules_of(read_bytes(file.getvalue(), LAYOUT)) == ["P107"]


def test_a_workbook_that_unpacks_to_too_much_is_p107(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_FILE_BYTES", 1000)
    assert rules_of(read_bytes(make_sheet([1, "A1", "x", 1]), LAYOUT)) == ["P107"]
    monkeypatch.setattr(workbook, "MAX_FILE_BYTES", 1 << 20)
    assert rules_of(read_bytes(make_zip({"xl/worksheets/sheet1.xml": b"0" * (32 << 20)}), LAYOUT)) == ["P107"]


@pytest.mark.parametrize(
    "cell",
    [
        '<c r="XFD1048576"/>',
        "<c r='xfd1048576'/>",
        '<c r = "XFD1048576"/>',
        '<c\nr="ZZZ99999"/>',
        '<row r="999999999">',
    ],
)
def test_a_far_cell_is_seen_however_it_is_written(cell: str) -> None:
    rows = "".join(f'<row r="{row}"><c r="A{row}"/></row>' for row in range(1, 60_000))
    content = make_zip({"xl/worksheets/sheet1.xml": f"<sheetData>{rows}{cell}</sheetData>".encode()})
    read = read_bytes(content, LAYOUT)
    assert [finding.message_en for finding in read.file_findings] == ["a sheet spans too many cells"]
