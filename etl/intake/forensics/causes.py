"""All diagnoses of one delivery, from its landed bytes, its strings and its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook

from etl.contract.context import Context
from etl.contract.model import Contract
from etl.findings import FileFinding
from etl.intake.forensics.cells import diagnose_cells
from etl.intake.forensics.files import FileCase, diagnose_file, spelled_otherwise
from etl.intake.forensics.rows import Delivered
from etl.intake.forensics.samples import Sample, sample_delivery
from etl.intake.forensics.tables import diagnose_table
from etl.intake.forensics.wording import Diagnosis, diagnosis
from etl.intake.strings import Strings
from etl.registry import CodeLists, Feed, Layout

MAX_DIAGNOSES: Final = 50
_HEADER_SHARE = 0.8
_TITLE_LINES = 10


@dataclass(frozen=True)
class Case:
    """Everything a diagnosis may look at. `findings` has _member, _row, rule; `open_landed` opens the supplier's bytes."""

    name: str
    feed: Feed
    layout: Layout
    contract: Contract
    context: Context
    codes: CodeLists
    strings: Strings
    findings: pa.Table
    file_findings: Sequence[FileFinding]
    open_landed: Callable[[], BinaryIO]
    keyring: Path | None = None
    scratch: Path | None = None


def diagnose(case: Case) -> list[Diagnosis]:
    """The causes with evidence, of the file before those of its cells; none for a clean delivery.

    Where whole columns stand in each other's place, single cells say nothing.
    """
    found = list(_of_file(case))
    if case.strings.table.num_rows:
        delivered = Delivered(case.strings.table, case.findings, case.layout, case.contract, case.codes)
        found += diagnose_table(delivered, case.context, case.strings.row_findings)
        found += [] if any(one.code == "columns_reordered" for one in found) else diagnose_cells(delivered)
    return found[:MAX_DIAGNOSES]


def _of_file(case: Case) -> Iterator[Diagnosis]:
    """What the bytes show; they are read again only where something is wrong with the file or its lines."""
    unsplit = case.strings.row_findings
    if case.layout.format == "database" or not (case.file_findings or unsplit):
        return
    required = [column for column in case.contract.delivered if column.type == "date" and column.required]
    dates = len([column for column in required if column.name in case.layout.canonical])
    opened = sample_delivery(case.open_landed, case.name, case.feed, keyring=case.keyring, scratch=case.scratch)
    for sample in opened:
        of_member = [finding for finding in unsplit if finding.member == sample.member]
        causes = diagnose_file(FileCase(sample, case.layout, case.file_findings, of_member, dates))
        yield from causes
        if case.layout.format == "workbook" and not causes:
            yield from _of_workbook(case, sample)


def _of_workbook(case: Case, sample: Sample) -> Iterator[Diagnosis]:
    """Where the agreed header stands in a sheet that lacks it in its place; P105 shows that the sheet was measured."""
    if not any(finding.rule in ("P105", "P106") for finding in case.file_findings):
        return
    if any(finding.rule == "P107" for finding in case.file_findings):
        return
    layout, lines = case.layout, _first_lines(case)
    places = [place for place, cells in enumerate(lines, start=1) if _is_header(cells, layout)]
    if places and layout.header_row not in places:
        words = {"line": places[0], "agreed": layout.header_row}
        yield diagnosis("header_lower_down", member=sample.member, places=places[:1], explains=["P105"], words=words)
    elif len(lines) >= layout.header_row:
        spelled = spelled_otherwise(lines[layout.header_row - 1], layout, sample.member)
        yield from [spelled] if spelled else []


def _is_header(cells: Sequence[str], layout: Layout) -> bool:
    agreed = set(layout.source_to_canonical)
    return len(agreed & set(cells)) >= len(agreed) * _HEADER_SHARE


def _first_lines(case: Case) -> list[list[str]]:
    """The first rows of the agreed sheet of an XLSX, which was loaded once already (`etl.intake.sheet_process`)."""
    with case.open_landed() as file:
        if file.read(2) != b"PK":
            return []
        file.seek(0)
        try:
            book = CalamineWorkbook.from_filelike(file)
            sheet = book.get_sheet_by_name(case.layout.sheet or book.sheet_names[0])
            rows = sheet.to_python(skip_empty_area=False, nrows=_TITLE_LINES)
        except (CalamineError, ValueError, OverflowError, IndexError):
            return []
    return [[str(cell).strip() for cell in row] for row in rows]
