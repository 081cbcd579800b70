"""Delimited text: what is read, where each row stood, and what is refused."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.intake import delimited
from etl.intake.strings import row_findings_table
from tests.intake.making import DELIVERY, HEADINGS, NAMES, cells_of, make_feed, make_layout, read_bytes, rules_of

WITHOUT_HEADER = {"header": False, "delimiter": "|", "quote": "none"}


def test_cells_come_as_delivered_with_their_place() -> None:
    read = read_bytes("loan_no,borrower_name,balance_yuan\nA1, 王𠮷 ,\nA2,李,1.50\n".encode(), make_layout())
    assert read.table.to_pylist() == [
        {"_delivery": DELIVERY, "_member": "loans.csv", "_row": 1, "_line": 2,
         "loan_no": "A1", "borrower_name": " 王𠮷 ", "balance_yuan": ""},
        {"_delivery": DELIVERY, "_member": "loans.csv", "_row": 2, "_line": 3,
         "loan_no": "A2", "borrower_name": "李", "balance_yuan": "1.50"},
    ]  # fmt: skip
    assert (read.rows_read, read.file_findings, read.row_findings) == (2, [], [])


def test_every_column_is_text() -> None:
    read = read_bytes(b"1|2|3\n", make_layout(**WITHOUT_HEADER))
    assert {read.table.schema.field(name).type for name in NAMES} == {pa.string()}


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_encodings_marks_and_endings_read_the_same(encoding: str, end: str, mark: str) -> None:
    between = "\r\n" if end == "\r\n" else "\n"
    text = mark + between.join(["借据号,姓名,余额", "A1,王𠮷,1", "A2,欧阳娜娜,2"]) + end
    read = read_bytes(text.encode(encoding), make_layout(columns=HEADINGS, encoding=encoding))
    assert cells_of(read, "_row", "_line", "loan_no", "borrower_name") == [
        (1, 2, "A1", "王𠮷"),
        (2, 3, "A2", "欧阳娜娜"),
    ]
    assert read.rows_read == 2


def test_gb18030_bytes_that_look_like_the_delimiter_do_not_split() -> None:
    character = b"\x88|".decode("gb18030")  # the second byte of the character is that of the vertical bar
    read = read_bytes(f"A1|{character}|1".encode("gb18030"), make_layout(**WITHOUT_HEADER, encoding="gb18030"))
    assert cells_of(read, *NAMES) == [("A1", character, "1")]


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [("utf-8", b"\xff"), ("utf-8", b"\xc0\xaf"), ("utf-8", b"\xed\xa0\x80"), ("gb18030", b"\x80"), ("gb18030", b"\x81\x7f"),
     ("gb18030", b"\xfe\x39\xfe\x39"), ("gb18030", b"\xff")],
)  # fmt: skip
def test_undecodable_bytes_are_p104_with_the_line(encoding: str, bad: bytes) -> None:
    read = read_bytes(b"A1|x|1\nA2|" + bad + b"|2\n", make_layout(**WITHOUT_HEADER, encoding=encoding))
    assert rules_of(read) == ["P104"]
    assert "第 2 行" in read.file_findings[0].message_zh
    assert (read.rows_read, read.table.num_rows) == (0, 0)


def test_a_character_cut_off_at_the_end_is_p104() -> None:
    content = "A1|王".encode("gb18030")[:-1]
    assert rules_of(read_bytes(content, make_layout(**WITHOUT_HEADER, encoding="gb18030"))) == ["P104"]


def test_undecodable_bytes_in_an_ignored_column_are_found_too() -> None:
    layout = make_layout(**WITHOUT_HEADER, ignore=["borrower_name"])
    assert rules_of(read_bytes(b"A1|\xff|1\n", layout)) == ["P104"]


def test_nul_is_p107_with_the_line() -> None:
    read = read_bytes(b"A1|x|1\nA2|\0|2\n", make_layout(**WITHOUT_HEADER))
    assert rules_of(read) == ["P107"]
    assert "line 2" in read.file_findings[0].message_en


@pytest.mark.parametrize("content", [b"A1|" + b"x" * (3 << 20), b'a,b,c\n"' + b"x,y\n" * (1 << 19)])
def test_a_line_without_end_is_p107(content: bytes) -> None:
    layout = make_layout(**WITHOUT_HEADER) if content.startswith(b"A1") else make_layout(columns=["a", "b", "c"])
    assert rules_of(read_bytes(content, layout)) == ["P107"]


def test_reordered_columns_are_fine_and_their_places_are_kept() -> None:
    read = read_bytes("余额,借据号,姓名\n1,A1,王\n".encode(), make_layout(columns=HEADINGS))
    assert cells_of(read, *NAMES) == [("A1", "王", "1")]
    assert read.column_no == {"balance_yuan": 1, "loan_no": 2, "borrower_name": 3}


def test_a_missing_column_is_p105_and_gives_no_rows() -> None:
    read = read_bytes("借据号,姓名\nA1,王\n".encode(), make_layout(columns=HEADINGS))
    assert rules_of(read) == ["P105"]
    assert "余额" in read.file_findings[0].message_zh
    assert (read.rows_read, read.table.num_rows) == (1, 0)


def test_an_unknown_column_is_p106_and_the_rows_are_still_read() -> None:
    read = read_bytes("借据号,姓名,余额,备注\nA1,王,1,x\n".encode(), make_layout(columns=HEADINGS))
    assert rules_of(read) == ["P106"]
    assert cells_of(read, *NAMES) == [("A1", "王", "1")]


def test_a_column_named_under_ignore_is_dropped_without_a_finding() -> None:
    read = read_bytes("柜员号,借据号,姓名,余额\n7,A1,王,1\n".encode(), make_layout(columns=HEADINGS, ignore=["柜员号"]))
    assert (rules_of(read), cells_of(read, *NAMES)) == ([], [("A1", "王", "1")])


def test_a_column_twice_is_p106() -> None:
    read = read_bytes("借据号,姓名,余额,余额\nA1,王,1,2\n".encode(), make_layout(columns=HEADINGS))
    assert rules_of(read) == ["P106"]


def test_a_file_without_its_header_never_shows_a_person_in_the_finding() -> None:
    read = read_bytes("A1,王秀英,341181198001010016\nA2,李,2\n".encode(), make_layout(columns=HEADINGS))
    assert rules_of(read) == ["P105"]
    assert "王秀英" not in str(read.file_findings)
    assert "341181198001010016" not in str(read.file_findings)


@pytest.mark.parametrize(
    ("heading", "meant"),
    [("余额（元）", "余额"), ("余 额", "余额"), ("贷款余额", "余额"), ("电话", None), ("发放金额", None)],
)
def test_a_renamed_column_is_recognised_and_not_taken(heading: str, meant: str | None) -> None:
    content = f"借据号,姓名,{heading}\nA1,王,1\n".encode()
    read = read_bytes(content, make_layout(columns=HEADINGS))
    (missing, unknown) = read.file_findings
    assert (missing.rule, unknown.rule, read.table.num_rows) == ("P105", "P106", 0)
    assert unknown.message_zh == f"未约定或重复的字段：{heading}" + (f"（疑似“{meant}”改名）" if meant else "")


def test_columns_in_another_order_are_the_same_columns() -> None:
    read = read_bytes("余额,借据号,姓名\n1,A1,王\n".encode(), make_layout(columns=HEADINGS))
    assert (cells_of(read, *NAMES), read.file_findings) == ([("A1", "王", "1")], [])
    assert read.column_no == {"balance_yuan": 1, "loan_no": 2, "borrower_name": 3}


def test_defaults_are_constants_and_ignored_columns_stay_out() -> None:
    layout = make_layout(**WITHOUT_HEADER, ignore=["borrower_name"], defaults={"currency": "CNY"})
    read = read_bytes(b"A1|x|1\nA2|y|2\n", layout)
    assert read.table.column_names == ["_delivery", "_member", "_row", "_line", "loan_no", "balance_yuan", "currency"]
    assert read.table["currency"].to_pylist() == ["CNY", "CNY"]


def test_lines_with_a_wrong_number_of_fields_keep_their_number() -> None:
    content = "A1|王|1\nA2|种|植|2\nA3|李|3\nA4\n\nA6|赵|6".encode()
    read = read_bytes(content, make_layout(**WITHOUT_HEADER))
    assert cells_of(read, "_row", "_line", "loan_no") == [(1, 1, "A1"), (3, 3, "A3"), (6, 6, "A6")]
    assert [(found.rule, found.row, found.line, found.raw) for found in read.row_findings] == [
        ("P201", 2, 2, "A2|种|植|2"),
        ("P201", 4, 4, "A4"),
        ("P201", 5, 5, ""),
    ]
    assert read.rows_read == 6
    assert row_findings_table(read.row_findings)["_row"].to_pylist() == [2, 4, 5]


def test_lines_are_counted_through_quoted_line_breaks() -> None:
    content = b'loan_no,borrower_name,balance_yuan\nA1,"x\r\ny\nz",1\nA2,"p\nq"\nA3,x,3\n'
    read = read_bytes(content, make_layout())
    assert cells_of(read, "_row", "_line", "borrower_name") == [(1, 2, "x\r\ny\nz"), (3, 7, "x")]
    assert [(found.row, found.line) for found in read.row_findings] == [(2, 5)]


def test_a_quote_that_never_closes_is_one_bad_line() -> None:
    read = read_bytes(b'loan_no,borrower_name,balance_yuan\nA1,x,1\nA2,"y,2\nA3,z,3\n', make_layout())
    assert cells_of(read, "_row") == [(1,)]
    assert [found.row for found in read.row_findings] == [2]


def test_without_quoting_a_quote_is_a_character() -> None:
    read = read_bytes(b'A1|"x|1\nA2|y"|2\n', make_layout(**WITHOUT_HEADER))
    assert cells_of(read, "borrower_name") == [('"x',), ('y"',)]


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf"])
def test_nothing_is_no_rows(content: bytes) -> None:
    read = read_bytes(content, make_layout(**WITHOUT_HEADER))
    assert (read.rows_read, read.table.num_rows, read.file_findings, read.row_findings) == (0, 0, [], [])


def test_an_empty_file_with_a_header_is_p105_unless_the_feed_accepts_it() -> None:
    assert rules_of(read_bytes(b"", make_layout())) == ["P105"]
    assert rules_of(read_bytes(b"", make_layout(), make_feed(empty="accepted"))) == []


def test_a_header_alone_is_no_rows() -> None:
    read = read_bytes(b"loan_no,borrower_name,balance_yuan", make_layout())
    assert (read.rows_read, read.file_findings) == (0, [])


def test_too_many_bad_lines_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_BAD_LINES", 3)
    read = read_bytes(b"A1;x;1\n" * 5, make_layout(**WITHOUT_HEADER))
    assert rules_of(read) == ["P107"]


LINES = st.sampled_from(["good", "good", "good", "short", "long", "blank", "broken cell", "broken and short"])
TEXTS = {
    "good": "王𠮷,x,1",
    "short": "坏𠮷,行",
    "long": "1,2,3,4",
    "blank": "",
    "broken cell": '"q\r\n\nx",b,c',
    "broken and short": '"q\n\nx",b',
}


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.lists(LINES, max_size=60),
    block_bytes=st.sampled_from([40, 100, 1000]),
    encoding=st.sampled_from(["utf-8", "gb18030"]),
    end=st.sampled_from(["\n", "\r\n"]),
    ends_after=st.integers(0, 3),
    header=st.booleans(),
)
def test_rows_and_lines_are_exact_however_the_text_is_cut(
    kinds: list[str], block_bytes: int, encoding: str, end: str, ends_after: int, header: bool
) -> None:
    while kinds and kinds[-1] == "blank":
        kinds.pop()
    text = end.join([*(["a,b,c"] if header else []), *(TEXTS[kind] for kind in kinds)]) + end * ends_after
    layout = make_layout(columns=["a", "b", "c"], encoding=encoding, header=header)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", block_bytes)
        read = read_bytes(text.encode(encoding), layout, make_feed(empty="accepted"))
    good, bad = [], []
    line = 2 if header else 1
    for row, kind in enumerate(kinds, start=1):
        if kind in ("good", "broken cell"):
            good.append((row, line, *next(csv.reader(io.StringIO(TEXTS[kind], newline="")))))
        else:
            bad.append((row, line, TEXTS[kind]))
        line += TEXTS[kind].count("\n") + 1
    assert cells_of(read, "_row", "_line", "a", "b", "c") == good
    assert [(found.row, found.line, found.raw) for found in read.row_findings] == bad
    assert read.rows_read == len(kinds)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS).filter(any), max_size=30),
    encoding=st.sampled_from(["utf-8", "gb18030"]),
    delimiter=st.sampled_from([",", "|", "\t", ";"]),
)
def test_what_a_csv_writer_writes_is_read_back(rows: list[tuple[str, str, str]], encoding: str, delimiter: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows([NAMES, *rows])
    read = read_bytes(text.getvalue().encode(encoding), make_layout(encoding=encoding, delimiter=delimiter))
    kept = len(rows)
    assert (read.rows_read, read.row_findings) == (kept, [])
    assert cells_of(read, *NAMES) == rows
