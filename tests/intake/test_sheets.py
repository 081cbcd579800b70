"""XLS beside XLSX, and cells that nobody may guess: formulas, errors, merged areas, hidden and unnamed sheets."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import date
from typing import Any

import openpyxl
import pytest
import xlwt

from etl.intake import workbook
from etl.intake.sheets import Doubtful, SheetFacts, _note_doubtful, column_letters, column_number
from etl.intake.strings import Strings
from tests.intake.making import cells_of, make_feed, make_layout, make_zip, read_bytes, rules_of

HEADINGS = {"借据编号": "loan_no", "姓名": "borrower_name", "余额(万元)": "balance_yuan"}
HEADER = ["序号", *HEADINGS]
LAYOUT = make_layout(format="workbook", sheet="台账", header_row=2, columns=HEADINGS, ignore=["序号"])
Change = Callable[[Any], None]


def make_xlsx(rows: list[list[Any]], change: Change = lambda page: None, sheet: str = "台账") -> bytes:
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    for row in rows:
        page.append(row)
    change(page)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def make_xls(rows: list[list[Any]], change: Change = lambda page: None, sheet: str = "台账") -> bytes:
    book = xlwt.Workbook(encoding="utf-8")
    page = book.add_sheet(sheet, cell_overwrite_ok=True)
    page.book = book
    iso = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for row, cells in enumerate(rows):
        for column, value in enumerate(cells):
            if value is not None:
                page.write(row, column, value, *([iso] if isinstance(value, date) else []))
    change(page)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


MAKERS = pytest.mark.parametrize("make", [make_xlsx, make_xls])
TITLED = [["某行贷款台账"], HEADER]
ROWS = [[1, "A1", "王𠮷", 5.4321], [2, "A2", None, 50000]]


def said(read: Strings) -> list[tuple[str, str]]:
    return [(finding.rule, finding.message_en) for finding in read.file_findings]


@MAKERS
def test_both_kinds_give_the_same_strings(make: Any) -> None:
    read = read_bytes(make([*TITLED, *ROWS, [3, 12345, date(2024, 3, 31), True]]), LAYOUT, name="台账.xls")
    assert cells_of(read, "_row", "_line", *HEADINGS.values()) == [
        (1, 3, "A1", "王𠮷", "5.4321"),
        (2, 4, "A2", "", "50000"),
        (3, 5, "12345", "2024-03-31", "TRUE"),
    ]
    assert (read.file_findings, read.rows_read) == ([], 3)


@MAKERS
def test_a_text_that_looks_like_a_formula_is_text(make: Any) -> None:
    def as_text(page: Any) -> None:
        if isinstance(page, xlwt.Worksheet):
            page.write(2, 2, "=1+1")
        else:
            page["C3"].data_type = "s"
            page["C3"].value = "=1+1"
            page["C3"].data_type = "s"

    assert cells_of(read_bytes(make([*TITLED, *ROWS[:1]], as_text), LAYOUT), "borrower_name") == [("=1+1",)]


def formula(page: Any, row: int, column: int) -> None:
    if isinstance(page, xlwt.Worksheet):
        page.write(row - 1, column - 1, xlwt.Formula("1+1"))
    else:
        page.cell(row, column).value = "=1+1"


def error(page: Any, row: int, column: int) -> None:
    if isinstance(page, xlwt.Worksheet):
        page.row(row - 1).set_cell_error(column - 1, "#REF!")
    else:
        page.cell(row, column).value = "#REF!"


@MAKERS
@pytest.mark.parametrize(("put", "name"), [(formula, "a formula"), (error, "an error value")])
def test_a_cell_in_doubt_is_answered_with_its_place(make: Any, put: Any, name: str) -> None:
    read = read_bytes(make([*TITLED, *ROWS], lambda page: put(page, 4, 4)), LAYOUT)
    assert said(read) == [("P123", f"{name}: D4")]
    assert (read.table.num_rows, read.rows_read) == (0, 2)


@MAKERS
@pytest.mark.parametrize("put", [formula, error])
def test_rows_of_nothing_else_are_not_taken_for_blank(make: Any, put: Any) -> None:
    """What openpyxl or a script saves has no values beside its formulas: such a row reads as empty."""
    read = read_bytes(make(TITLED, lambda page: [put(page, 3, column) for column in (2, 3, 4)]), LAYOUT)
    assert (read.table.num_rows, [rule for rule, _ in said(read)]) == (0, ["P123"])


@MAKERS
@pytest.mark.parametrize("put", [formula, error])
@pytest.mark.parametrize("place", [(1, 1), (3, 1), (4, 1), (30, 6)])
def test_it_is_harmless_where_no_agreed_cell_is(make: Any, put: Any, place: tuple[int, int]) -> None:
    """In the title, in an ignored column, or beside and below the table (where it counts as blank)."""
    read = read_bytes(make([*TITLED, *ROWS], lambda page: put(page, *place)), LAYOUT)
    assert (read.table.num_rows, [found.rule for found in read.file_findings if found.rule == "P123"]) == (2, [])


def merge(page: Any, area: tuple[int, int, int, int]) -> None:
    first_row, last_row, first_column, last_column = area
    if isinstance(page, xlwt.Worksheet):
        page.write_merge(first_row - 1, last_row - 1, first_column - 1, last_column - 1, "")
    else:
        page.merge_cells(start_row=first_row, end_row=last_row, start_column=first_column, end_column=last_column)


@MAKERS
@pytest.mark.parametrize(
    ("area", "found"),
    [
        ((3, 4, 3, 3), [("P123", "merged cells: C3")]),
        ((4, 4, 2, 3), [("P123", "merged cells: B4")]),
        ((4, 4, 1, 2), [("P123", "merged cells: A4")]),
        ((1, 1, 1, 4), []),
        ((3, 4, 1, 1), []),
        ((9, 9, 5, 6), []),
    ],
)
def test_merged_cells_count_where_they_hide_values(make: Any, area: tuple[int, ...], found: list[Any]) -> None:
    read = read_bytes(make([*TITLED, *ROWS], lambda page: merge(page, area)), LAYOUT)  # type: ignore[arg-type]
    assert [one for one in said(read) if one[0] != "P106"] == found
    assert read.table.num_rows == (0 if found else 2)


def hide(page: Any) -> None:
    if isinstance(page, xlwt.Worksheet):
        page.book.add_sheet("别的")
        page.visibility = 1
    else:
        page.parent.create_sheet("别的")
        page.sheet_state = "hidden"


def add_visible(page: Any) -> None:
    if isinstance(page, xlwt.Worksheet):
        page.book.add_sheet("别的")
    else:
        page.parent.create_sheet("别的")


def add_hidden(page: Any) -> None:
    if isinstance(page, xlwt.Worksheet):
        page.book.add_sheet("别的").visibility = 2
    else:
        page.parent.create_sheet("别的").sheet_state = "veryHidden"


@MAKERS
def test_a_hidden_sheet_is_nobodys_statement(make: Any) -> None:
    content = make([*TITLED, *ROWS], hide)
    assert said(read_bytes(content, LAYOUT)) == [("P107", "the sheet 台账 is hidden")]


@MAKERS
def test_without_an_agreed_name_there_must_be_one_visible_sheet(make: Any) -> None:
    unnamed = LAYOUT.model_copy(update={"sheet": None})
    assert cells_of(read_bytes(make([*TITLED, *ROWS], add_hidden), unnamed), "loan_no") == [("A1",), ("A2",)]
    read = read_bytes(make([*TITLED, *ROWS], add_visible), unnamed)
    assert said(read) == [("P107", "it has 2 visible sheets, and none is agreed")]


@MAKERS
def test_doubts_of_another_sheet_do_not_matter(make: Any) -> None:
    def other(page: Any) -> None:
        added = page.book.add_sheet("别的") if isinstance(page, xlwt.Worksheet) else page.parent.create_sheet("别的", 0)
        formula(added, 3, 3)

    assert read_bytes(make([*TITLED, *ROWS], other), LAYOUT).table.num_rows == 2


def test_a_formula_is_seen_however_the_xml_writes_it() -> None:
    sheet = '<{p}c r="B2" s="1"{e}>\n <{p}f t="shared" si="0"/><{p}v>1</{p}v></{p}c>'
    for prefix in ("", "x:"):
        facts = SheetFacts()
        _note_doubtful(sheet.format(p=prefix, e="").encode(), facts)
        assert facts.doubtful == {Doubtful(2, 2, "formula")}
    unplaced = SheetFacts()
    _note_doubtful(b"<row><c t = 'e'><v>#REF!</v></c><c><f>A1</f></c><cols><c/></cols>", unplaced)
    assert unplaced.doubtful == {Doubtful(0, 0, "error"), Doubtful(0, 0, "formula")}
    none = SheetFacts()
    _note_doubtful(b'<c r="A1" t="inlineStr"><is><t>f t="e"</t></is></c><cf r="A1"><f/></cf>', none)
    assert none.doubtful == set()


@pytest.mark.parametrize(
    ("number", "letters"), [(1, "A"), (26, "Z"), (27, "AA"), (702, "ZZ"), (703, "AAA"), (16384, "XFD")]
)
def test_columns_have_letters(number: int, letters: str) -> None:
    assert (column_letters(number), column_number(letters)) == (letters, number)


def test_a_far_cell_of_an_xls_is_seen_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_xls(TITLED, lambda page: page.write(65_535, 255, "x"))
    monkeypatch.setattr(workbook, "xls_grid", None)  # it must not come to that
    assert said(read_bytes(content, LAYOUT)) == [("P107", "a sheet spans too many cells")]


@pytest.mark.parametrize("cut", [8, 100, 600, 2000])
def test_a_damaged_xls_is_p107(cut: int) -> None:
    content = make_xls([*TITLED, *ROWS * 200])
    assert rules_of(read_bytes(content[:cut], LAYOUT)) == ["P107"]
    assert rules_of(read_bytes(content[:512] + bytes(cut) + content[512 + cut :], LAYOUT)) == ["P107"]


def test_an_xls_beyond_its_size_is_p107(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_XLS_BYTES", 1000)
    assert said(read_bytes(make_xls(TITLED), LAYOUT)) == [("P107", "the workbook is too large")]


def test_xml_entities_are_refused_before_anything_expands_them() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><workbook>&b;</workbook>'
    for name in ("xl/workbook.xml", "xl/sharedStrings.xml", "xl/worksheets/sheet1.xml"):
        read = read_bytes(make_zip({name: bomb.encode()}), LAYOUT)
        assert said(read) == [("P107", "it declares XML entities")]


def test_other_kinds_of_workbook_are_not_opened() -> None:
    ods = make_zip({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet", "content.xml": b"<x/>"})
    xlsb = make_zip({"[Content_Types].xml": b"<x/>", "xl/workbook.bin": b"x"})
    for content in (ods, xlsb):
        assert said(read_bytes(content, LAYOUT)) == [("P107", "it is neither an .xlsx nor an .xls workbook")]


def test_a_workbook_in_a_package_is_read() -> None:
    content = make_zip({"台账.xls": make_xls([*TITLED, *ROWS])})
    read = read_bytes(content, LAYOUT, make_feed("zip"), "x.zip")
    assert cells_of(read, "_member", "loan_no") == [("台账.xls", "A1"), ("台账.xls", "A2")]


@pytest.mark.parametrize("count", [4_294_967_295, 99_999_999_999, 18_446_744_073_709_551_615])
def test_a_workbook_that_asks_for_all_memory_ends_its_reader_and_nothing_else(count: int) -> None:
    """The native reader reserves what the table of shared texts says it holds."""
    file = io.BytesIO(make_xlsx([*TITLED, *ROWS]))
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    with zipfile.ZipFile(file, "a") as archive:
        table = f'<sst xmlns="{space}" count="{count}" uniqueCount="{count}"><si><t>x</t></si></sst>'
        archive.writestr("xl/sharedStrings.xml", table)
    assert rules_of(read_bytes(file.getvalue(), LAYOUT)) == ["P107"]
