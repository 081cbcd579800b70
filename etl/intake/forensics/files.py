"""Causes that show in the bytes: encodings, kinds of file, delimiters, headers, quotes, cut-off ends."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from etl.findings import FileFinding, RowFinding
from etl.intake.forensics.encodings import NAMES, found_encoding
from etl.intake.forensics.samples import Sample
from etl.intake.forensics.wording import Diagnosis, diagnosis
from etl.registry import Layout

_DELIMITERS: Final = {
    ",": ",", ";": ";", "|": "|", "\t": "Tab", "，": "，", "；": "；", "^": "^", "~": "~", "\x1b": "ESC", "\x01": "0x01",
}  # fmt: skip
_KINDS: Final = {  # first bytes -> what it is, and the name such a file would have by agreement
    b"\xd0\xcf\x11\xe0": ("XLS / Office 97", ".xls"), b"%PDF": ("PDF", ".pdf"), b"\x1f\x8b": ("gzip", ".gz"),
    b"Rar!": ("RAR", ".rar"), b"7z\xbc\xaf": ("7z", ".7z"), b"<html": ("HTML", ".html"),
    b"<!doctype html": ("HTML", ".html"), b"<?xml": ("XML", ".xml"), b"{\\rtf": ("RTF", ".rtf"),
}  # fmt: skip
_SHARE = 0.9
_HEADER_SHARE = 0.8
_LINES_LOOKED_AT = 200
_TITLE_LINES = 10
_BAD_LINES_LOOKED_AT = 10_000
_FAR_LINES = 2


@dataclass(frozen=True)
class FileCase:
    """One member's sample with what was agreed and found; `date_count` dates stand in every sound row."""

    sample: Sample
    layout: Layout
    file_findings: Sequence[FileFinding]
    row_findings: Sequence[RowFinding]
    date_count: int

    @property
    def encoding(self) -> str:
        return self.layout.encoding

    @property
    def member(self) -> str:
        return self.sample.member

    @property
    def width(self) -> int:
        """How many columns a line has at least; ignored ones that the layout names apart may be there or not."""
        return len(self.layout.source_to_canonical)

    @property
    def widest(self) -> int:
        return len({*self.layout.source_to_canonical, *self.layout.ignore})

    def has(self, *rules: str) -> bool:
        return any(finding.rule in rules for finding in self.file_findings)

    def lines(self) -> list[str]:
        """The whole lines at the beginning."""
        text = self.sample.head.decode(self.encoding, "replace").removeprefix("\ufeff")
        lines = text.splitlines()
        return lines if self.sample.is_all_head else lines[:-1]


def diagnose_file(case: FileCase) -> list[Diagnosis]:
    """What the bytes of one member say about its findings; causes that rule the others out come first and alone."""
    layout = case.layout
    for alone in (
        _other_kind,
        _truncated_zip,
        _nuls_at_the_end,
        *((_encoding, _nuls_inside) if case.sample.is_member else ()),
    ):
        found = alone(case)
        if found:
            return [found]
    if not case.sample.is_member or layout.format not in ("delimited", "json_lines"):
        return []
    causes = _DELIMITED if layout.format == "delimited" else (_line_ends, _truncated_line)
    return [found for cause in causes if (found := cause(case)) is not None]


def _explained(case: FileCase, *rules: str) -> list[str]:
    present = {finding.rule for finding in case.file_findings} | {finding.rule for finding in case.row_findings}
    return sorted(present & set(rules))


# -- causes that stand alone ------------------------------------------------------------------------------------------


def _other_kind(case: FileCase) -> Diagnosis | None:
    if not case.has("P104", "P105", "P106", "P107"):
        return None
    head = case.sample.head[:64].lower().lstrip()
    marked = [kind for mark, kind in _KINDS.items() if head.startswith(mark.lower())]
    found = next((kind for kind, ending in marked if not case.member.lower().endswith(ending)), None)
    if found is None and case.sample.head.startswith(b"PK\x03\x04") and case.layout.format != "workbook":
        is_book = b"xl/" in case.sample.head or b"[Content_Types].xml" in case.sample.head
        found = "XLSX" if is_book else None
    if found is None and case.layout.format == "workbook" and _is_text(case.sample.head):
        found = "CSV / TXT"
    if found is None:
        return None
    by_format = {"workbook": "XLSX", "json_lines": "JSON Lines"}
    agreed = by_format.get(case.layout.format, "CSV / TXT") if case.sample.is_member else "ZIP"
    explains = _explained(case, "P104", "P105", "P106", "P107")
    return diagnosis(
        "other_kind_of_file", member=case.member, explains=explains, words={"found": found, "agreed": agreed}
    )


def _is_text(head: bytes) -> bool:
    return bool(head) and not head.startswith(b"PK") and b"\0" not in head and head.count(b"\n") > 1


def _truncated_zip(case: FileCase) -> Diagnosis | None:
    sample = case.sample
    is_zip = sample.head.startswith(b"PK\x03\x04") and case.has("P107")
    if not is_zip or not sample.tail or b"PK\x05\x06" in sample.tail:
        return None
    return diagnosis("truncated_zip", member=case.member, explains=["P107"])


def _nuls_at_the_end(case: FileCase) -> Diagnosis | None:
    tail = case.sample.tail
    count = len(tail) - len(tail.rstrip(b"\0"))
    if count < 64:  # a field's padding is shorter than that
        return None
    return diagnosis("nul_tail", member=case.member, n=count, explains=_explained(case, "P107"))


def _encoding(case: FileCase) -> Diagnosis | None:
    if not case.has("P104", "P105", "P106", "P107") or case.layout.format == "workbook":
        return None
    found = found_encoding(case.sample.head, case.sample.window, case.layout.encoding)
    if found is None:
        return None
    return diagnosis(
        "encoding",
        member=case.member,
        n=found.characters,
        words={"found": NAMES[found.encoding], "agreed": NAMES.get(case.layout.encoding, case.layout.encoding)},
        explains=_explained(case, "P104", "P105", "P106", "P107"),
    )


def _nuls_inside(case: FileCase) -> Diagnosis | None:
    count = case.sample.head.count(b"\0")
    if not count or case.layout.format == "workbook" or not case.has("P107"):
        return None
    return diagnosis("nul_bytes", member=case.member, n=count, explains=["P107"])


# -- lines ------------------------------------------------------------------------------------------------------------


def _cells(line: str, delimiter: str, layout: Layout) -> list[str]:
    if layout.quote == "none":
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, quotechar=layout.quote), [])
    except csv.Error:
        return line.split(delimiter)


def _share_of_header(cells: Sequence[str], layout: Layout) -> float:
    agreed = set(layout.source_to_canonical)
    return len(agreed & {cell.strip() for cell in cells}) / len(agreed)


def _wrong_delimiter(case: FileCase) -> Diagnosis | None:
    lines, layout = case.lines()[:_LINES_LOOKED_AT], case.layout
    if not lines or _fitting(lines, layout.delimiter, case) > len(lines) // 2:
        return None
    for other, name in _DELIMITERS.items():
        fitting = 0 if other == layout.delimiter else _fitting(lines, other, case)
        is_header = not layout.header or _share_of_header(_cells(lines[0], other, layout), layout) >= _HEADER_SHARE
        if fitting >= len(lines) * _SHARE and is_header:
            agreed = _DELIMITERS.get(layout.delimiter, layout.delimiter)
            explains = _explained(case, "P105", "P107", "P201")
            return diagnosis(
                "wrong_delimiter",
                member=case.member,
                n=fitting,
                of=len(lines),
                words={"found": name, "agreed": agreed},
                explains=explains,
            )
    return None


def _fitting(lines: Sequence[str], delimiter: str, case: FileCase) -> int:
    """How many lines have about as many fields as agreed; a text may hold a delimiter of another agreement."""
    return sum(case.width <= line.count(delimiter) + 1 <= case.widest + 2 for line in lines)


def _header_missing(case: FileCase) -> Diagnosis | None:
    layout = case.layout
    lines = case.lines()[:5]
    if not layout.header or not case.has("P105") or not lines:
        return None
    rows = [_cells(line, layout.delimiter, layout) for line in lines]
    if not case.width <= len(rows[0]) <= case.widest or _share_of_header(rows[0], layout) > 0:
        return None
    dated = [row for row in rows if sum(map(_is_date, row)) >= case.date_count]
    if not case.date_count or rows[0] not in dated:
        return None
    return diagnosis("header_missing", member=case.member, n=len(dated), of=len(rows), explains=["P105"])


def _is_date(cell: str) -> bool:
    return bool(re.fullmatch(r"[12][0-9]{3}[-/.]?[01][0-9][-/.]?[0-3][0-9]", cell.strip()))


def _header_lower_down(case: FileCase) -> Diagnosis | None:
    if not case.layout.header or not case.has("P105"):
        return None
    for number, line in enumerate(case.lines()[1:_TITLE_LINES], start=2):
        if _share_of_header(_cells(line, case.layout.delimiter, case.layout), case.layout) >= _HEADER_SHARE:
            return diagnosis(
                "header_lower_down",
                member=case.member,
                places=[number],
                explains=["P105"],
                words={"line": number, "agreed": 1},
            )
    return None


def _header_spelled(case: FileCase) -> Diagnosis | None:
    lines = case.lines()
    if not case.layout.header or not lines or not case.has("P105", "P106"):
        return None
    return spelled_otherwise(_cells(lines[0], case.layout.delimiter, case.layout), case.layout, case.member)


def spelled_otherwise(names: Sequence[str], layout: Layout, member: str) -> Diagnosis | None:
    """Headings that are the agreed ones but for blanks, full-width forms or case."""
    agreed = [name for name in layout.source_to_canonical if name not in names]
    strange = {_plain(name) for name in names if name.strip() not in layout.source_to_canonical}
    alike = [name for name in agreed if _plain(name) in strange]
    if not alike:
        return None
    return diagnosis("header_spelled_otherwise", member=member, n=len(alike), explains=["P105", "P106"])


def _plain(name: str) -> str:
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", name)).casefold()


def _unbalanced_quote(case: FileCase) -> Diagnosis | None:
    """A quote that is not closed on its line, nor before lines that are rows of their own."""
    quote, layout = case.layout.quote, case.layout
    if quote == "none" or quote.encode() not in case.sample.head:
        return None
    lines = case.lines()
    for opened, closed in _quoted_over_lines(lines, quote):
        between = lines[opened : closed - 1]
        whole = _fitting(between, layout.delimiter, case)
        if len(between) >= _FAR_LINES and whole >= len(between) * _SHARE:
            explains = _explained(case, "P107", "P201")
            return diagnosis(
                "unbalanced_quote",
                member=case.member,
                n=len(between) + (closed <= len(lines)),
                places=[opened],
                explains=explains,
                words={"line": opened},
            )
    return None


def _quoted_over_lines(lines: Sequence[str], quote: str) -> Iterator[tuple[int, int]]:
    """Line numbers where a quote opens and where the next one closes it; the last may find none before the end."""
    opened = 0
    for number, line in enumerate(lines, start=1):
        count = line.count(quote)
        if opened and count:
            yield opened, number
            opened = 0
        elif count % 2:
            opened = number
    if opened:
        yield opened, len(lines) + 1


def _line_break_in_text(case: FileCase) -> Diagnosis | None:
    """Two refused lines in a row that are one row together."""
    delimiter = case.layout.delimiter
    bad = [finding for finding in case.row_findings[:_BAD_LINES_LOOKED_AT] if finding.member == case.member]
    broken, place = [], 0
    while place + 1 < len(bad):
        first, second = bad[place], bad[place + 1]
        fields = first.raw.count(delimiter) + second.raw.count(delimiter) + 1
        joined = second.row == first.row + 1 and case.width <= fields <= case.widest
        broken += [first.line] if joined else []
        place += 2 if joined else 1
    if not broken:
        return None
    return diagnosis(
        "line_break_in_text", member=case.member, n=len(broken), places=broken, is_line=True, explains=["P201"]
    )


def _delimiter_in_text(case: FileCase) -> Diagnosis | None:
    bad = [finding for finding in case.row_findings[:_BAD_LINES_LOOKED_AT] if finding.member == case.member]
    long = [f.line for f in bad if f.raw.count(case.layout.delimiter) >= case.widest and "\n" not in f.raw]
    if not long or len(long) * 2 > max(case.sample.line_ends, 2):
        return None
    return diagnosis("delimiter_in_text", member=case.member, n=len(long), places=long, is_line=True, explains=["P201"])


def _truncated_line(case: FileCase) -> Diagnosis | None:
    """The text ends inside a row: the lines before the last are as agreed, the last has fewer fields and no end."""
    tail = case.sample.tail
    if not tail or tail.endswith((b"\n", b"\r")) or case.encoding.startswith("utf-16"):
        return None
    lines = tail.decode(case.encoding, "replace").splitlines()
    before = lines[-1 - _LINES_LOOKED_AT : -1] if case.sample.size_bytes <= len(tail) else lines[1:-1]
    if case.layout.format == "json_lines":
        missing = int(lines[-1].startswith("{") and not lines[-1].rstrip().endswith("}"))
    elif _fitting(before, case.layout.delimiter, case) < max(1, len(before) * _SHARE):
        return None
    else:
        missing = case.width - 1 - lines[-1].count(case.layout.delimiter)
    if missing <= 0:
        return None
    explains = _explained(case, "P101", "P102", "P103", "P201")
    return diagnosis("truncated_last_line", member=case.member, n=missing, explains=explains)


def _line_ends(case: FileCase) -> Diagnosis | None:
    """The size is off by exactly one byte a line."""
    sample = case.sample
    if sample.promise is None or not sample.is_whole or not sample.line_ends or not case.has("P102"):
        return None
    off = sample.size_bytes - sample.promise.size_bytes
    returns = sample.head.count(b"\r\n")
    is_grown = off == sample.line_ends and returns > 0
    is_shrunk = off == -sample.line_ends and returns == 0
    if not is_grown and not is_shrunk:
        return None
    explains = _explained(case, "P101", "P102")
    return diagnosis("line_ends_converted", member=case.member, n=sample.line_ends, explains=explains)


_Cause = Callable[[FileCase], Diagnosis | None]
_DELIMITED: Final[tuple[_Cause, ...]] = (
    _wrong_delimiter,
    _header_missing,
    _header_lower_down,
    _header_spelled,
    _unbalanced_quote,
    _line_break_in_text,
    _delimiter_in_text,
    _line_ends,
    _truncated_line,
)
