"""Which encoding Chinese text is really in: strict decoding, then how common the characters are that come out.

GB18030 and Big5 decode nearly every text of the other, but into rare characters: common ones stand in rows 16 to 55 of
GB 2312 and in 0xA4-0xC6 of Big5, the tables' first levels.
"""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple

NAMES: Final = {
    "utf-8": "UTF-8", "gb18030": "GB18030", "big5": "Big5", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16",
}  # fmt: skip
_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LEADS: Final = {"gb18030": ("gb2312", 0xB0, 0xD7), "big5": ("big5", 0xA4, 0xC6)}
_MIN_CHARACTERS = 4
_COMMON_SHARE = 0.8
_MARGIN = 0.1
_NUL_SHARE = 0.2


class Found(NamedTuple):
    """An encoding and how many Chinese characters of the sample speak for it."""

    encoding: str
    characters: int


def found_encoding(head: bytes, window: bytes, agreed: str) -> Found | None:
    """The encoding a sample is in, where it is another than the agreed one and the evidence is plain."""
    wide = _utf16(head)
    if wide is not None:
        return wide if not agreed.startswith("utf-16") else None
    lines = _whole_lines(window)
    text = _decoded(lines, "utf-8")
    if text is not None:
        count = _chinese(text)
        return Found("utf-8", count) if count >= _MIN_CHARACTERS and agreed != "utf-8" else None
    best = _commonest(lines)
    return best if best and best.encoding != agreed and best.characters >= _MIN_CHARACTERS else None


def _utf16(head: bytes) -> Found | None:
    """A byte order mark, or NUL in every other place as ASCII delimiters and digits have it."""
    piece = head[: len(head) - len(head) % 2][: 1 << 14]
    if head.startswith(_MARKS):
        return Found("utf-16", len(piece) // 2)
    even, odd = piece[0::2], piece[1::2]
    for encoding, nuls, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if nuls and nuls.count(0) > len(nuls) * _NUL_SHARE and others.count(0) == 0 and _decoded(piece, encoding):
            return Found(encoding, len(piece) // 2)
    return None


def _whole_lines(window: bytes) -> bytes:
    """The window without its last, perhaps cut, line; the window itself when it is one line."""
    return window[: window.rfind(b"\n") + 1] or window


def _decoded(octets: bytes, encoding: str) -> str | None:
    try:
        return octets.decode(encoding)
    except UnicodeDecodeError:
        return None


def _chinese(text: str) -> int:
    return sum("\u3400" <= character <= "\u9fff" or character > "\uffff" for character in text)


def _commonest(octets: bytes) -> Found | None:
    """GB18030 or Big5, whichever makes common characters of the bytes; None when neither clearly does."""
    shares = {encoding: _common_share(octets, encoding) for encoding in _LEADS}
    best, other = sorted(_LEADS, key=lambda encoding: shares[encoding][0], reverse=True)
    share, count = shares[best]
    if share < _COMMON_SHARE or share < shares[other][0] + _MARGIN:
        return None
    return Found(best, count)


def _common_share(octets: bytes, encoding: str) -> tuple[float, int]:
    """Share of first-level characters among the Chinese ones, and how many there are."""
    text = _decoded(octets, encoding)
    characters = [character for character in text or "" if _chinese(character)]
    table, low, high = _LEADS[encoding]
    common = sum(low <= code[0] <= high for c in characters if (code := c.encode(table, "ignore")))
    return (common / len(characters) if characters else 0.0), len(characters)
