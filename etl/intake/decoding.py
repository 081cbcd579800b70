"""Decode a member's bytes strictly, fast enough not to be what a delivery waits for.

GB18030 decoded as a whole costs more than everything else. But where delimiter and quote can never be the last byte of
a character, cells may be split first and decoded after: each byte travels as the character of the same number (Latin-1),
and only columns with a byte above 0x7F are turned back and decoded, each distinct value once. A cell decodes exactly
where the whole text would: delimiters, quotes and line ends are no legal continuation of a character.
"""

from __future__ import annotations

import codecs
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.intake.package import BROKEN_ZIP, READ_BYTES, MeteredStream, TooMuchError
from etl.intake.strings import UnreadableError, broken
from etl.intake.trailer import TailCut
from etl.registry import Layout

_UTF8_MARK: Final = codecs.BOM_UTF8
_GB18030_MARK: Final = b"\x84\x31\x95\x33"
_MARKS: Final = {"utf-8": _UTF8_MARK, "gb18030": _GB18030_MARK}
_UTF16_MARKS: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_LINE_END: Final = "\n"
_LINE_FEED: Final = 10
_RETURN: Final = 13


class Decoding(Protocol):
    """How bytes become text: what the parser is fed (always UTF-8), and how cells of it are turned into text."""

    encoding: str

    def feed(self, raw: bytes, *, is_last: bool) -> bytes: ...

    def cell(self, text: str, errors: str = "strict") -> str: ...

    def column(self, column: pa.StringArray) -> pa.StringArray: ...

    def line_ends(self, raw: bytes) -> int: ...


class WholeText:
    """Decodes block by block before parsing. Raises UnicodeError in `feed`."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._is_start = True

    def feed(self, raw: bytes, *, is_last: bool) -> bytes:
        if self._is_start and raw:
            refuse_foreign_mark(raw, self.encoding)
        text = self._decoder.decode(raw, is_last)
        octets = raw if self.encoding == "utf-8" else text.encode("utf-8")
        if self._is_start and octets:
            octets, self._is_start = octets.removeprefix(_UTF8_MARK), False
        return octets

    def cell(self, text: str, errors: str = "strict") -> str:
        return text

    def column(self, column: pa.StringArray) -> pa.StringArray:
        return column

    def line_ends(self, raw: bytes) -> int:
        return raw.count(b"\n")


class Utf16Text:
    """Decodes UTF-16 whose byte order its mark states; without the mark nothing is read. Raises UnicodeError in `feed`."""

    encoding = "utf-16"

    def __init__(self) -> None:
        self._head = b""
        self._order = ""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, raw: bytes, *, is_last: bool) -> bytes:
        if self._decoder is None:
            self._head += raw
            if not self._head or (len(self._head) < 2 and not is_last):
                return b""
            raw = self._without_mark(self._head)
            self._decoder = codecs.getincrementaldecoder(self._order)("strict")
        return self._decoder.decode(raw, is_last).encode("utf-8")

    def _without_mark(self, head: bytes) -> bytes:
        self._order = _UTF16_MARKS.get(head[:2], "")
        if not self._order:
            raise UnicodeDecodeError("utf-16", head, 0, min(2, len(head)), "no byte order mark")
        return head[2:]

    def cell(self, text: str, errors: str = "strict") -> str:
        return text

    def column(self, column: pa.StringArray) -> pa.StringArray:
        return column

    def line_ends(self, raw: bytes) -> int:
        return raw.decode(self._order, "ignore").count("\n") if self._order else 0


class SplitBytes:
    """Lets GB18030 bytes travel as Latin-1 characters and decodes cells. Raises UnicodeError in `cell` and `column`."""

    encoding = "gb18030"

    def __init__(self) -> None:
        self._is_start = True

    def feed(self, raw: bytes, *, is_last: bool) -> bytes:
        if self._is_start and raw:
            refuse_foreign_mark(raw, self.encoding)
            raw, self._is_start = raw.removeprefix(_GB18030_MARK), False
        return raw if raw.isascii() else raw.decode("latin-1").encode("utf-8")

    def cell(self, text: str, errors: str = "strict") -> str:
        return text.encode("latin-1").decode("gb18030", errors)

    def column(self, column: pa.StringArray) -> pa.StringArray:
        if _is_ascii(column):
            return column
        encoded = column.dictionary_encode()
        return self._values(encoded.dictionary).take(encoded.indices)

    def line_ends(self, raw: bytes) -> int:
        return raw.count(b"\n")

    def _values(self, values: pa.StringArray) -> pa.StringArray:
        """All values in one decode; a value with a line end inside makes it one by one."""
        one_list = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
        texts = self.cell(pc.binary_join(one_list, _LINE_END)[0].as_py()).split(_LINE_END)
        if len(texts) != len(values):
            texts = [self.cell(value) for value in values.to_pylist()]
        return pa.array(texts, pa.string())


def decoding_for(layout: Layout) -> Decoding:
    """The fastest decoding that is safe for the layout's delimiter and quote."""
    marks = [layout.delimiter, *([layout.quote] if layout.quote != "none" else [])]
    if layout.encoding == "gb18030" and not any(_may_end_a_character(mark) for mark in marks):
        return SplitBytes()
    return whole_text(layout.encoding)


def whole_text(encoding: str) -> Decoding:
    """A decoding of everything before anything is parsed."""
    return Utf16Text() if encoding == "utf-16" else WholeText(encoding)


def refuse_foreign_mark(head: bytes, encoding: str) -> None:
    """Raise UnicodeDecodeError for a UTF-8 mark before GB18030: both read it, and one of them reads nonsense."""
    if encoding == "gb18030" and head.startswith(_UTF8_MARK):
        raise UnicodeDecodeError(encoding, head, 0, len(_UTF8_MARK), "a mark of UTF-8")


def mark_of(head: bytes, encoding: str, member: str) -> int:
    """The size of the byte order mark of UTF-8 or GB18030 at the head of a file. Raises UnreadableError (P104)."""
    try:
        refuse_foreign_mark(head, encoding)
    except UnicodeDecodeError:
        raise undecodable_line(member, 1, encoding) from None
    return len(_MARKS[encoding]) if head.startswith(_MARKS[encoding]) else 0


def _may_end_a_character(mark: str) -> bool:
    """Whether an ASCII mark is a legal last byte in GB18030: 0x30-0x39 or 0x40-0x7E (other bytes are above 0x7F)."""
    return mark.isdigit() or ord(mark) > ord("?")


def _is_ascii(column: pa.StringArray) -> bool:
    data = column.buffers()[2]
    return data is None or data.to_pybytes().isascii()


class Utf8Stream:
    """A member as the UTF-8 a parser is fed, without byte order mark.

    Raises UnreadableError: P104 undecodable, P107 NUL or damaged zip.
    """

    def __init__(self, raw: MeteredStream, decoding: Decoding, member: str, tail: TailCut | None = None) -> None:
        self._raw, self._decoding, self._member, self._tail = raw, decoding, member, tail
        self._pieces: list[bytes] = []
        self._size = 0
        self._at_end = False
        self._lines = 0
        self._last_end = -1
        self._ended_in_return = False
        self.has_blank_lines = False

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes unless the text ends."""
        text = self.peek(size)
        taken, rest = (text, b"") if size < 0 else (text[:size], text[size:])
        self._pieces, self._size = [rest], len(rest)
        return taken

    def peek(self, size: int) -> bytes:
        """What is read next, at least `size` bytes of it unless the text ends (all of it if negative)."""
        while not self._at_end and (size < 0 or self._size < size):
            self._refill()
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def _refill(self) -> None:
        raw = read_raw(self._raw, self._member, READ_BYTES)
        self._at_end = not raw
        text = self._decoded(raw)
        if b"\0" in text:
            line = self._line_of(text, text.index(b"\0"))
            raise broken(self._member, f"第 {line} 行含空字节（NUL）", f"line {line}: a NUL byte", "重新导出为纯文本")
        self._note_lines(text)
        if self._tail:
            text = self._tail.feed(text, is_last=self._at_end)
        self._pieces.append(text)
        self._size += len(text)

    def _note_lines(self, text: bytes) -> None:
        """Count line ends and notice blank lines (two ends with nothing, or a carriage return, between them)."""
        octets = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(octets == _LINE_FEED)
        if len(ends):
            gaps = np.diff(ends, prepend=self._last_end)
            after_return = octets[ends - 1] == _RETURN
            if ends[0] == 0:
                after_return[0] = self._ended_in_return
            self.has_blank_lines |= bool(((gaps == 1) | ((gaps == 2) & after_return)).any())
            self._last_end = int(ends[-1])
        self._lines += len(ends)
        self._last_end -= len(text)
        self._ended_in_return = text.endswith(b"\r")

    def _decoded(self, raw: bytes) -> bytes:
        try:
            return self._decoding.feed(raw, is_last=not raw)
        except UnicodeDecodeError as error:
            line = self._lines + self._decoding.line_ends(error.object[: error.start]) + 1
            raise undecodable(self._member, line, self._decoding) from None
        except UnicodeEncodeError:
            raise undecodable(self._member, self._lines + 1, self._decoding) from None

    def _line_of(self, text: bytes, place: int) -> int:
        return self._lines + text[:place].count(b"\n") + 1


def read_raw(raw: MeteredStream, member: str, size: int) -> bytes:
    """The next bytes of a member. Raises UnreadableError (P107) when what it was packed in is damaged or unpacks to too much."""
    try:
        return raw.read(size)
    except TooMuchError:
        raise broken(member, "解压后过大", "it unpacks to too much", "按月拆分后重新压缩报送") from None
    except BROKEN_ZIP as error:
        raise damaged(member, error) from None


def damaged(member: str, error: Exception) -> UnreadableError:
    """P107 for a member whose zip or gzip file does not give what it should."""
    en = f"what it is packed in is damaged ({type(error).__name__})"
    return broken(member, "压缩包内容损坏", en, "重新压缩后再报送")


def undecodable(member: str, line: int, decoding: Decoding) -> UnreadableError:
    """P104 for a line with bytes that are not of the declared encoding."""
    return undecodable_line(member, line, decoding.encoding)


def undecodable_line(member: str, line: int, encoding: str) -> UnreadableError:
    """The same by the name of the encoding."""
    name = encoding.upper()
    zh, en = f"第 {line} 行含非 {name} 编码的字节", f"line {line}: bytes that are not {name}"
    return broken(member, zh, en, f"用 {name} 编码重新导出", rule="P104")
