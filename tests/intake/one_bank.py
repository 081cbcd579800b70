"""A county with one bank in a plain layout: files are written, dropped, scanned and taken in against real PostgreSQL.

Numbers of people are recognisably invented (area 341181, born 1900-01-01).
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from etl import pipeline
from etl.ledger.records import Delivery
from etl.settings import PROJECT_ROOT, Settings
from etl.workspace import Workspace

BANK = "baiyun_rcb"
NOW = datetime(2024, 4, 3, 2, 0, tzinfo=UTC)
COLUMNS = {
    "采集日期": "as_of_on", "机构": "institution_code", "证件号码": "borrower_id_no", "姓名": "borrower_name",
    "借据号": "loan_no", "发放日": "issued_on", "到期日": "matures_on", "余额": "balance_yuan", "利率": "annual_rate_pct",
    "五级": "five_class", "状态": "loan_status", "逾期天数": "overdue_days",
}  # fmt: skip
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def id_no(number: int) -> str:
    """A number of the right form with its check character (GB 11643-1999), born on 1900-01-01."""
    head = f"34118119000101{number % 1000:03d}"
    return head + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(head, WEIGHTS, strict=True)) % 11]


def note(number: int, **changes: str) -> dict[str, str]:
    """One good loan note, unless changed; by canonical names."""
    row = {
        "as_of_on": "2024-03-31", "institution_code": "99000000000099", "borrower_id_no": id_no(number),
        "borrower_name": "测试", "loan_no": f"BY-{number:010d}", "issued_on": "2023-01-17", "matures_on": "2025-01-16",
        "balance_yuan": "12000.00", "annual_rate_pct": "4.35", "five_class": "正常", "loan_status": "正常",
        "overdue_days": "0",
    }  # fmt: skip
    return {**row, **changes}


def csv_of(rows: Sequence[Mapping[str, str]]) -> bytes:
    """The rows as the bank writes them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row[name] for name in COLUMNS.values()] for row in rows)
    return text.getvalue().encode()


@dataclass
class OneBank:
    """The county's home, and what the bank does."""

    settings: Settings
    minute: int = 0
    code: str = BANK

    @property
    def ws(self) -> Workspace:
        return Workspace(self.settings)

    @property
    def zone(self) -> Path:
        return self.settings.drop / self.code

    @property
    def outbox(self) -> Path:
        return self.settings.outbox / self.code

    def with_bank(self, code: str) -> OneBank:
        """Another bank of the same county, which delivers in the same way."""
        banks = self.settings.config[0] / "banks"
        text = (banks / f"{BANK}.yml").read_text(encoding="utf-8")
        (banks / f"{code}.yml").write_text(text.replace(BANK, code), encoding="utf-8")
        return OneBank(self.settings, code=code)

    def put(self, name: str, content: bytes) -> Path:
        """Write a file into the drop zone, each a minute after the one before."""
        self.zone.mkdir(parents=True, exist_ok=True)
        self.minute += 1
        path = self.zone / name
        path.write_bytes(content)
        at = int(NOW.timestamp()) - 86_400 + 60 * self.minute
        os.utime(path, (at, at))
        return path

    def scan(self) -> list[Delivery]:
        return pipeline.scan(self.settings, now=NOW, quiet_seconds=0.0)

    def deliver(self, rows: Sequence[Mapping[str, str]] | bytes, name: str = "loans_202403.csv") -> Delivery:
        """Drop one file, and bring it to its outcome."""
        self.put(name, rows if isinstance(rows, bytes) else csv_of(rows))
        [claimed] = self.scan()
        return pipeline.take_in(self.settings, claimed.delivery_id, now=NOW)

    def receipt_path(self, delivery: Delivery, kind: str = "json") -> Path:
        return self.outbox / delivery.period / f"{delivery.name}.{delivery.delivery_id}.receipt.{kind}"

    def receipt(self, delivery: Delivery) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.receipt_path(delivery).read_text(encoding="utf-8"))
        return content


def configuration(folder: Path, *, accept: Mapping[str, Any] | None = None, parts: str = "one", **bank: Any) -> Path:
    """A whole county's folder with this one bank; `bank` are further keys of its YAML, the others change its feed."""
    shutil.copytree(PROJECT_ROOT / "config", folder)
    for path in (folder / "banks").iterdir():
        path.unlink()
    layout = {
        "from": "2024-01", "format": "delimited", "columns": COLUMNS, "codes": "east", "units": {"annual_rate_pct": "percent"},
        "defaults": {"id_type": "居民身份证", "currency": "CNY"},
    }  # fmt: skip
    feed = {
        "files": "loans_{period:%Y%m}*.csv", "package": "bare", "provides": ["overdue_days", "overdue_flag"],
        "parts": parts, "accept": {"rows": {"min": 1, "warn_above": 50}, "max_rejected_share": 0.5, **(accept or {})}, "layouts": [layout],
    }  # fmt: skip
    content = {
        "code": BANK, "name": {"zh": "白云农商行（合成）", "en": "Baiyun (synthetic)"}, "drop": "{drop}/" + BANK,
        "institution_codes": ["99000000000099"], "since": "2024-02", "due": {"workday": 5, "time": "18:00"},
        "open_periods": 3, "limits": {"files_per_day": 50, "bytes_per_day": "2GB", "findings": 1_000_000},
        "receipt_encoding": "gb18030", "feeds": {"loans": feed}, **bank,
    }  # fmt: skip
    (folder / "banks" / f"{BANK}.yml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return folder


@contextmanager
def one_bank(
    home: Path, database_url: str, *, accept: Mapping[str, Any] | None = None, **bank: Any
) -> Iterator[OneBank]:
    """The county at a home of its own, on a fresh database."""
    environment = {
        "CREDITVILLAGE_HOME": str(home),
        "CREDITVILLAGE_CONFIG": str(configuration(home.with_name("config"), accept=accept, **bank)),
        "CREDITVILLAGE_WAREHOUSE_URL": database_url,
        "CREDITVILLAGE_QUIET_SECONDS": "0",
    }
    yield OneBank(Settings.from_environment(environment))
