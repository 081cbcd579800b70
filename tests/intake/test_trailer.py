"""Trailers: never a row, always checked."""

from __future__ import annotations

import io
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.findings import unreadable
from etl.intake import decoding, delimited, trailer
from etl.intake.strings import Strings
from tests.intake.making import cells_of, make_feed, make_layout, make_zip, read_bytes, rules_of

TRAILER = {"marker": "合计", "rows": 2, "totals": {"balance_yuan": 3}}
LAYOUT = make_layout(trailer=TRAILER)
HEADER = "loan_no,borrower_name,balance_yuan\n"
BODY = HEADER + "A1,王,0.10\nA2,李,0.20\n"


def read_text(text: str, layout: Any = LAYOUT, **feed: Any) -> Strings:
    return read_bytes(text.encode(layout.encoding), layout, make_feed(**feed))


def said(read: Strings) -> list[tuple[str, str]]:
    return [(finding.rule, finding.message_en) for finding in read.file_findings]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
@pytest.mark.parametrize(
    "last", ["合计,2,0.3", "合计,2,0.30\n", "合计,2,0.3\r\n\r\n", ' 合计 ,"2",+0.300', ",合计,", "\n合计,2,0.3"]
)
def test_a_trailer_is_no_row(encoding: str, last: str) -> None:
    layout = make_layout(
        encoding=encoding, trailer=TRAILER | ({"rows": None, "totals": {"loan_no": 1}} if last[0] == "," else {})
    )
    read = read_text(BODY + last, layout)
    assert (cells_of(read, "_row", "loan_no"), read.rows_read) == ([(1, "A1"), (2, "A2")], 2)
    assert rules_of(read) == ([] if last[0] != "," else ["P121"])


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ("", [("P121", "no trailer that begins with 合计")]),
        ("总计,2,0.3", [("P121", "no trailer that begins with 合计")]),
        ("合计,x,0.3", [("P121", "cell 2 of the trailer is no number")]),
        ("合计,2,", [("P121", "cell 3 of the trailer is no number")]),
        ("合计,2,1，000", [("P121", "cell 3 of the trailer is no number")]),
        ("合计,2", [("P121", "cell 3 of the trailer is no number")]),
        ("合计,3,0.3", [("P122", "the trailer counts 3 rows, there are 2")]),
        ("合计,2,0.31", [("P122", "balance_yuan does not add up to the trailer's total")]),
        ("合计,1,3", [("P122", "the trailer counts 1 rows, there are 2"),
                     ("P122", "balance_yuan does not add up to the trailer's total")]),
    ],
)  # fmt: skip
def test_a_trailer_that_is_not_right_is_answered(last: str, found: list[tuple[str, str]]) -> None:
    read = read_text(BODY + last)
    assert said(read) == found
    assert not unreadable(read.file_findings)


def test_rows_that_cannot_be_read_count_and_are_named_when_the_total_differs() -> None:
    read = read_text(
        HEADER + "A1,王,0.10\nA2,李\nA3,赵,0.2O\nA4,钱,-\nA5,孙,\n合计,5,0.30\n",
        make_layout(trailer=TRAILER, nulls=["-"]),
    )
    assert said(read) == [("P122", "balance_yuan does not add up to the trailer's total (1 no numbers)")]
    assert ([found.row for found in read.row_findings], read.rows_read) == ([2], 5)


def test_no_amount_is_repeated_in_what_is_said() -> None:
    read = read_text(HEADER + "A1,王,98765.43\n合计,1,12345.67\n")
    assert rules_of(read) == ["P122"]
    assert not [digits for digits in ("98765", "12345") if digits in str(read.file_findings)]


def test_totals_are_exact_and_in_the_delivered_unit() -> None:
    cells = ["0.1"] * 30 + ["123456789012.34", "-0.00000001"]
    rows = "".join(f"A{number},x,{cell}\n" for number, cell in enumerate(cells))
    assert said(read_text(HEADER + rows + "合计,32,123456789015.33999999")) == []
    assert rules_of(read_text(HEADER + rows + "合计,32,123456789015.34")) == ["P122"]


def test_the_legal_empty_file_has_no_trailer_and_another_must() -> None:
    assert rules_of(read_text("", empty="accepted")) == []
    assert rules_of(read_text(HEADER, empty="accepted")) == ["P121"]
    assert rules_of(read_text(HEADER + "合计,0,0", empty="accepted")) == []
    assert rules_of(read_text("合计,0,0", empty="accepted")) == ["P105"]
    without_header = make_layout(header=False, trailer=TRAILER)
    assert rules_of(read_text("", without_header)) == ["P121"]


def test_columns_that_are_missing_are_said_and_nothing_else() -> None:
    assert rules_of(read_text("loan_no,balance_yuan\nA1,1\n合计,7,1\n")) == ["P105"]


def test_every_part_has_its_own() -> None:
    content = {f"L_{number}of2.csv": (BODY + f"合计,{number},0.3").encode() for number in (1, 2)}
    read = read_bytes(make_zip(content), LAYOUT, make_feed("zip", parts="numbered"))
    assert [(found.member, found.rule) for found in read.file_findings] == [("L_1of2.csv", "P122")]


def test_a_fixed_width_trailer_has_widths_of_its_own() -> None:
    fixed = {"format": "fixed_width", "header": False, "encoding": "gb18030", "widths": [4, 6, 8]}
    layout = make_layout(**fixed, trailer=TRAILER | {"widths": [6, 5, 12]})
    body = "A1  王秀英    0.10\nA2  李        0.20\n"
    for last, rules in (
        ("合计  00002      000.30", []),
        ("合计      2        0.3\n\n", ["P121"]),
        ("合计  00003      000.30\n", ["P122"]),
        ("合计      2         0.3\r\n", []),
    ):
        read = read_text(body + last, layout)
        assert rules_of(read) == rules, last
        assert read.rows_read == (3 if rules == ["P121"] else 2)


def make_book(rows: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("last", "rules"),
    [(["合计", 2, 0.1 + 0.2], []), ([None, "合计", None], ["P121"]), (["合计", 2, 0.31], ["P122"]), (["小计", 2, 0.3], ["P121"]),
     (["合计", "=COUNTA(A2:A3)", 0.3], ["P121"])],
)  # fmt: skip
def test_a_total_row_of_a_workbook(last: list[Any], rules: list[str]) -> None:
    layout = make_layout(format="workbook", trailer=TRAILER)
    read = read_bytes(
        make_book([["loan_no", "borrower_name", "balance_yuan"], ["A1", "王", 0.1], ["A2", "李", 0.2], last]), layout
    )
    assert rules_of(read) == rules
    assert read.rows_read == (3 if last[0] == "小计" else 2)


@settings(max_examples=150, deadline=None)
@given(
    amounts=st.lists(st.decimals(-1000, 1000, places=2), max_size=30),
    blanks=st.integers(0, 3),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    held_bytes=st.sampled_from([30, 64, 1 << 16]),
    block_bytes=st.sampled_from([1, 16, 1 << 19]),
    wrong=st.sampled_from([0, 0, 1]),
)
def test_a_trailer_is_found_however_the_text_is_cut(
    amounts: list[Any], blanks: int, end: str, held_bytes: int, block_bytes: int, wrong: int
) -> None:
    lines = [
        *(f"A{number},x,{amount}" for number, amount in enumerate(amounts)),
        f"合计,{len(amounts) + wrong},{sum(amounts)}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trailer, "_HELD_BYTES", held_bytes)
        patch.setattr(decoding, "READ_BYTES", block_bytes)
        patch.setattr(delimited, "BLOCK_BYTES", 100)
        read = read_text(end.join(lines) + end * blanks, make_layout(header=False, trailer=TRAILER))
    assert (rules_of(read), read.rows_read) == (["P122"] if wrong else [], len(amounts))
