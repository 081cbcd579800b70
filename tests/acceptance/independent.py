"""Readers of the dropped files that share no code with the pipeline: csv, zipfile, openpyxl, Decimal."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import openpyxl

PBOC_COLUMNS = 28
_QUANTUM = Decimal("0.01")


@dataclass(frozen=True)
class Note:
    """One loan note as its bank wrote it: the bank's number, the borrower's number, the balance in yuan."""

    bank: str
    row: int
    loan_no: str
    borrower_id_no: str
    balance_yuan: str

    @property
    def balance(self) -> Decimal:
        return Decimal(self.balance_yuan).quantize(_QUANTUM)


def qinghe(path: Path) -> Iterator[Note]:
    """Stock notes of a PBoC package: column 6 borrower, 8 note, 15 balance; lines with other field counts are skipped."""
    with zipfile.ZipFile(path) as package:
        [name] = [name for name in package.namelist() if name.endswith(".dat")]
        lines = package.read(name).decode("utf-8").split("\n")
    for row, line in enumerate(lines, start=1):
        cells = line.split("|")
        if len(cells) == PBOC_COLUMNS:
            yield Note("qinghe_rcb", row, cells[7].strip(), cells[5].strip().upper(), cells[14].strip())


def baiyun(path: Path) -> Iterator[Note]:
    """Notes of a GB18030 CSV with a Chinese header."""
    text = path.read_bytes().decode("gb18030")
    for row, cells in enumerate(csv.DictReader(io.StringIO(text)), start=1):
        yield Note("baiyun_rcb", row, cells["信贷借据号"], (cells["证件号码"] or "").strip().upper(), cells["贷款余额"])


def xinhe(path: Path) -> Iterator[Note]:
    """Notes of a workbook with a title row, in 10,000 yuan."""
    sheet = openpyxl.load_workbook(path, read_only=True)["贷款台账"]
    rows = sheet.iter_rows(min_row=2, values_only=True)
    header = [str(cell) for cell in next(rows)]
    for row, values in enumerate(rows, start=1):
        cells = dict(zip(header, values, strict=False))
        balance = _ten_thousands(cells["余额(万元)"])
        yield Note("xinhe_vb", row, str(cells["借据编号"] or ""), str(cells["身份证号"] or "").upper(), balance)


def _ten_thousands(value: object) -> str:
    try:
        return str(Decimal(str(value)) * 10_000)
    except ArithmeticError:
        return str(value)


READERS = {"qinghe_rcb": qinghe, "baiyun_rcb": baiyun, "xinhe_vb": xinhe}
