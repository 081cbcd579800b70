"""Encodings and delimiters: what their marks say, where they are broken, and that no mark is taken for content."""

from __future__ import annotations

import codecs

import pytest

from etl.intake import decoding
from tests.intake.making import NAMES, cells_of, make_layout, read_bytes, rules_of

TEXT = "loan_no,borrower_name,balance_yuan\r\nA1,王𠮷,1.50\r\nA2,上一行,2\r\n"
ROWS = [("A1", "王𠮷", "1.50"), ("A2", "上一行", "2")]
UTF16 = make_layout(encoding="utf-16")
LITTLE, BIG = (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")


@pytest.mark.parametrize(("mark", "encoding"), [LITTLE, BIG])
@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 19])
def test_utf16_is_read_in_the_byte_order_of_its_mark(
    mark: bytes, encoding: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "READ_BYTES", block_bytes)
    read = read_bytes(mark + TEXT.encode(encoding), UTF16)
    assert cells_of(read, *NAMES) == ROWS
    assert (read.rows_read, read.file_findings, read.row_findings) == (2, [], [])


@pytest.mark.parametrize("content", [TEXT.encode("utf-16-le"), TEXT.encode(), TEXT.encode("gb18030"), b"x"])
def test_utf16_without_its_mark_is_not_guessed(content: bytes) -> None:
    read = read_bytes(content, UTF16)
    assert (rules_of(read), read.table.num_rows) == (["P104"], 0)
    assert "line 1" in read.file_findings[0].message_en


@pytest.mark.parametrize(("mark", "encoding"), [LITTLE, BIG])
def test_half_a_pair_is_undecodable_in_its_line(mark: bytes, encoding: str) -> None:
    broken = (TEXT + "A3,\ud842,3\r\nA4,x,4\r\n").encode(encoding, "surrogatepass")
    assert "line 4" in read_bytes(mark + broken, UTF16).file_findings[0].message_en
    assert rules_of(read_bytes(mark + TEXT.encode(encoding)[:-1], UTF16)) == ["P104"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("agreed", ["utf-8", "gb18030"])
def test_utf16_is_never_taken_for_another_encoding(encoding: str, agreed: str) -> None:
    read = read_bytes(TEXT.encode(encoding), make_layout(encoding=agreed))
    assert rules_of(read) in (["P104"], ["P107"])  # its marks are undecodable; without them it is full of NULs
    assert read.table.num_rows == 0


@pytest.mark.parametrize("delimiter", [",", "|", "@"])  # @ may end a GB18030 character: such text is decoded first
def test_a_utf8_mark_before_gb18030_is_undecodable(delimiter: str) -> None:
    content = b"\xef\xbb\xbf" + TEXT.replace(",", delimiter).encode()
    assert rules_of(read_bytes(content, make_layout(encoding="gb18030", delimiter=delimiter))) == ["P104"]
    assert cells_of(read_bytes(content, make_layout(delimiter=delimiter)), *NAMES) == ROWS


@pytest.mark.parametrize("delimiter", ["\t", "\x01", "\x02", "\x1b", "|", ";", "^", "~", "a"])
@pytest.mark.parametrize("quote", ['"', "'", "none"])
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_any_ascii_character_may_delimit(delimiter: str, quote: str, encoding: str) -> None:
    rows = [("1", "王𠮷", "1.50"), ("2", "李", "2")]
    body = [delimiter.join(row) for row in rows]
    if quote != "none":
        body[1] = delimiter.join(["2", f"{quote}李{delimiter}{quote * 2}\n{quote}", "2"])
        rows[1] = ("2", f"李{delimiter}{quote}\n", "2")
    layout = make_layout(delimiter=delimiter, quote=quote, encoding=encoding, header=False)
    read = read_bytes("\n".join(body).encode(encoding), layout)
    assert cells_of(read, *NAMES) == rows
