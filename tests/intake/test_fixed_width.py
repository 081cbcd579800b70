"""Fixed width: columns counted in bytes of the encoding, lines of another width, characters cut in two."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.intake import fixed_width
from tests.intake.making import NAMES, cells_of, make_feed, make_layout, read_bytes, rules_of

FIXED = {"format": "fixed_width", "header": False, "widths": [4, 6, 8]}
UTF8, GB18030 = make_layout(**FIXED), make_layout(**FIXED, encoding="gb18030")


def test_widths_count_bytes_of_the_encoding() -> None:
    gb = "A1  王秀英    1.50\nA2  李      2.00  \n".encode("gb18030")  # 王秀英 is 6 bytes, 李 is 2
    utf = "A1  王秀    1.50\nA2  李      2.00 \n".encode()  # 王秀 is 6 bytes, 李 is 3
    assert [len(line) for line in gb.split(b"\n")] == [18, 18, 0]
    read = read_bytes(gb, GB18030)
    assert cells_of(read, "_row", "_line", *NAMES) == [(1, 1, "A1", "王秀英", "1.50"), (2, 2, "A2", "李", "2.00")]
    assert cells_of(read_bytes(utf, UTF8), *NAMES) == [("A1", "王秀", "1.50"), ("A2", "李", "2.00")]
    assert read.column_no == {"loan_no": 1, "borrower_name": 2, "balance_yuan": 3}


def test_a_rare_surname_is_four_bytes_of_gb18030() -> None:
    read = read_bytes("A1  𠮷一    1.50\n".encode("gb18030"), GB18030)
    assert cells_of(read, *NAMES) == [("A1", "𠮷一", "1.50")]


def test_a_line_of_another_width_is_a_finding_and_shifts_nothing() -> None:
    content = "A1  x     1       \nA2  王     2       \n\nA4  x     4        \r\nA5  x     5       \r\nA6  王".encode()
    read = read_bytes(content, UTF8)
    assert cells_of(read, "_row", "_line", "loan_no") == [(1, 1, "A1"), (5, 5, "A5")]
    assert [(found.rule, found.row, found.line, found.raw) for found in read.row_findings] == [
        ("P201", 2, 2, "A2  王     2       "),
        ("P201", 3, 3, ""),
        ("P201", 4, 4, "A4  x     4        "),
        ("P201", 6, 6, "A6  王"),
    ]
    assert (read.rows_read, read.file_findings) == (6, [])


def test_blank_lines_at_the_end_are_no_rows_however_the_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_width, "READ_BYTES", 7)
    line = b"A1  x     1       \n"
    read = read_bytes(line + b"\n\n\n" + line + b"\n" * 40, UTF8)
    assert cells_of(read, "_row") == [(1,), (5,)]
    assert [found.row for found in read.row_findings] == [2, 3, 4]
    assert read.rows_read == 5


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ("A1  ab王秀  1.50\n".encode(), UTF8),  # the edge after byte 10 goes through 秀
        ("A1  x王秀英   1.50\n".encode("gb18030"), GB18030),
        (b"A1  ab\x81\x30\x81\x301       \n", make_layout(**FIXED | {"widths": [4, 4, 10]}, encoding="gb18030")),
    ],
)
def test_a_width_that_cuts_a_character_is_undecodable(content: bytes, layout: object) -> None:
    good = b"A0  x     1       \n"
    assert len(content) == 19
    read = read_bytes(good + content, layout)  # type: ignore[arg-type]
    assert [(found.rule, "line 2" in found.message_en) for found in read.file_findings] == [("P104", True)]
    assert (read.rows_read, read.table.num_rows) == (0, 0)


def test_a_line_of_another_encoding_is_undecodable_and_a_truncated_one_is_not() -> None:
    assert rules_of(read_bytes("A1  王秀英\n".encode("gb18030"), UTF8)) == ["P104"]
    cut = read_bytes("A0  x     1       \nA1  王".encode()[:-1], UTF8)
    assert (rules_of(cut), [found.raw for found in cut.row_findings]) == ([], ["A1  "])


def test_a_utf8_mark_is_no_part_of_the_first_cell_and_not_gb18030() -> None:
    content = b"\xef\xbb\xbfA1  x     1       \n"
    assert cells_of(read_bytes(content, UTF8), "loan_no") == [("A1",)]
    assert rules_of(read_bytes(content, GB18030)) == ["P104"]


def test_padding_and_leading_zeros_are_taken_off_as_agreed() -> None:
    layout = make_layout(**FIXED, padding="*", zero_padded=["balance_yuan"])
    read = read_bytes(b"007***ab**00012.30\n008* a****-0000.50\n009*******00000000\n", layout)
    assert cells_of(read, *NAMES) == [("007", "ab", "12.30"), ("008", " a", "-0.50"), ("009", "", "0")]


def test_ignored_columns_take_their_width_and_defaults_are_filled_in() -> None:
    read = read_bytes(
        b"A1  x     1       \n", make_layout(**FIXED, ignore=["borrower_name"], defaults={"currency": "CNY"})
    )
    assert cells_of(read, "loan_no", "balance_yuan", "currency") == [("A1", "1", "CNY")]
    assert "borrower_name" not in read.table.column_names


def test_nothing_is_no_rows() -> None:
    for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
        read = read_bytes(content, UTF8)
        assert (read.rows_read, read.file_findings, read.row_findings) == (0, [], [])


def test_what_is_no_text_in_lines_is_p107(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "line 2" in read_bytes(b"A1  x     1       \nA2\0 x     1       \n", UTF8).file_findings[0].message_en
    assert rules_of(read_bytes(b"x" * (2 << 20), UTF8)) == ["P107"]
    monkeypatch.setattr(fixed_width, "MAX_BAD_LINES", 3)
    assert rules_of(read_bytes(b"short\n" * 4, UTF8)) == ["P107"]
    assert rules_of(read_bytes(b"\n" * 4 + b"A1  x     1       \n", UTF8)) == ["P107"]
    assert rules_of(read_bytes(b"short\n" * 3, UTF8)) == []


TEXTS = st.text(st.sampled_from("ab1王秀𠮷é€"), max_size=6).filter(lambda text: text == text.strip())


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=40),
    encoding=st.sampled_from(["utf-8", "gb18030"]),
    block_bytes=st.sampled_from([5, 64, 1 << 19]),
    end=st.sampled_from([b"\n", b"\r\n"]),
    is_ended=st.booleans(),
)
def test_every_table_is_read_back(
    rows: list[tuple[str, ...]], encoding: str, block_bytes: int, end: bytes, is_ended: bool
) -> None:
    widths = [max([1, *(len(row[place].encode(encoding)) for row in rows)]) for place in range(3)]
    lines = [b"".join(c.encode(encoding).ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    content = end.join(lines) + (end if is_ended and rows else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed_width, "READ_BYTES", block_bytes)
        layout = make_layout(**FIXED | {"widths": widths}, encoding=encoding)
        read = read_bytes(content, layout, make_feed(empty="accepted"))
    assert cells_of(read, *NAMES) == rows
    assert (read.rows_read, read.file_findings, read.row_findings) == (len(rows), [], [])
