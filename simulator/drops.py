"""Profile `drops`: many banks with one loan file each, and nothing else; for benchmarks of intake. Nothing is planted.

Every bank sends its notes in the layout of baiyun_rcb (GB18030 CSV with an .ok flag) under an institution code of its own.
The configuration of such a county is written beside the drop zones. Files are written part by part, so that memory does
not grow with their size.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etl.period import Period
from simulator import bankfiles, province
from simulator.settings import Config
from simulator.world import BAIYUN, BANKS

PATTERN = BANKS[BAIYUN]
PART_ROWS = 250_000
_CODE = "99000000000022"
_SECOND_OPINION_PCT = 5


@dataclass(frozen=True)
class Drop:
    """One bank and the serial numbers of its notes."""

    code: str
    institution: str
    first: int
    rows: int


def write(out: Path, month: Period, banks: int, rows: int, seed: int, config_folder: Path) -> int:
    """Write `out`/config and `out`/drop/<bank>/…: `banks` banks with `rows` notes each; gives the rows written.

    The county lets Great Expectations count every twentieth delivery, as one with so many banks would.
    """
    drops = [Drop(f"bank_{n:03d}_rcb", f"9900000001{n:04d}", n * rows, rows) for n in range(banks)]
    _write_config(out / "config", drops, config_folder)
    config = Config(config_folder)
    for drop in drops:
        name = f"农户贷款借据_{month.year}{month.month:02d}.csv"
        path = out / "drop" / drop.code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for number, first in enumerate(range(drop.first, drop.first + rows, PART_ROWS)):
                size = min(PART_ROWS, drop.first + rows - first)
                file.write(_text(drop, first, size, month, seed, config, with_header=number == 0))
        path.with_name(f"{name}.ok").write_bytes(b"")
    return banks * rows


def _text(drop: Drop, first: int, size: int, month: Period, seed: int, config: Config, *, with_header: bool) -> bytes:
    county = province.part_of(province.Part(first, first, size), month, seed, config, config.places(month))
    sheet = bankfiles.loan_sheet(county, BAIYUN, np.arange(county.notes.rows))
    text = bankfiles.delimited(sheet).replace(_CODE.encode(), drop.institution.encode())
    return text if with_header else text[text.index(b"\n") + 1 :]


def _write_config(folder: Path, drops: list[Drop], shipped: Path) -> None:
    shutil.copytree(shipped, folder, dirs_exist_ok=True)
    pattern = (folder / "banks" / f"{PATTERN}.yml").read_text(encoding="utf-8")
    for bank in (folder / "banks").glob("*.yml"):
        bank.unlink()
    for drop in drops:
        text = pattern.replace(PATTERN, drop.code).replace(_CODE, drop.institution)
        text = text.replace("bytes_per_day: 2GB, findings", "bytes_per_day: 20GB, findings")
        (folder / "banks" / f"{drop.code}.yml").write_text(text, encoding="utf-8")
    county = folder / "county.yml"
    said = county.read_text(encoding="utf-8").replace(
        "share_pct: 100, max_bytes", f"share_pct: {_SECOND_OPINION_PCT}, max_bytes"
    )
    county.write_text(said, encoding="utf-8")
