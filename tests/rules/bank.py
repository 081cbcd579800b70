"""One bank of a county without a register: hand-made files, taken in by the real pipeline over a real PostgreSQL."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from etl import pipeline
from etl.ledger.records import Delivery
from etl.settings import PROJECT_ROOT, Settings
from etl.workspace import Workspace
from tests.contract.delivery import ANOTHER, MALE

CODE = "muster_rcb"
NOW = datetime(2024, 4, 5, 3, 0, tzinfo=UTC)
ENDS = {"2024-01": "2024-01-31", "2024-02": "2024-02-29", "2024-03": "2024-03-31"}
LOAN = {
    "as_of_on": "", "institution_code": "99000000000044", "id_type": "B01", "borrower_id_no": MALE, "loan_no": "",
    "product_code": "F022", "issued_on": "2023-01-15", "matures_on": "2025-01-15", "currency": "CNY",
    "balance_yuan": "50000.00", "annual_rate_pct": "4.35", "five_class": "FQ01", "loan_status": "LS01",
    "overdue_kind": "", "overdue_days": "0",
}  # fmt: skip
FLOW = {
    "as_of_on": "", "institution_code": "99000000000044", "id_type": "B01", "borrower_id_no": MALE, "flow_no": "",
    "loan_no": "", "flow_kind": "0", "flow_on": "", "amount_yuan": "1000.00", "currency": "CNY", "ended_on": "",
}  # fmt: skip
TOTALS = {"controlled_dataset": "", "declared_rows": "", "declared_sum_yuan": ""}
FILES = {"loans": LOAN, "loan_flows": FLOW, "control_totals": TOTALS}
PEOPLE = (MALE, ANOTHER)


def loan(number: int, period: str, **cells: str) -> dict[str, str]:
    """A note without findings, with some cells changed; odd and even notes belong to two people."""
    own = {"as_of_on": ENDS[period], "loan_no": f"MU-{number:07d}", "borrower_id_no": PEOPLE[number % 2]}
    return {**LOAN, **own, **cells}


def flow(number: int, period: str, loan_number: int, **cells: str) -> dict[str, str]:
    """A repayment without findings, with some cells changed."""
    own = {"as_of_on": ENDS[period], "flow_on": f"{period}-10", "flow_no": f"FL-{number:07d}"}
    return {**FLOW, **own, "loan_no": f"MU-{loan_number:07d}", "borrower_id_no": PEOPLE[loan_number % 2], **cells}


def total(dataset: str, rows: int, amount: str = "") -> dict[str, str]:
    return {"controlled_dataset": dataset, "declared_rows": str(rows), "declared_sum_yuan": amount}


@dataclass
class Bank:
    """The bank's side of the counter, and the operator's view of it."""

    folder: Path
    database_url: str
    datasets: Sequence[str] = ("loans", "loan_flows")
    _sent: int = field(default=0)

    def __post_init__(self) -> None:
        self.config, self.expectations = self.folder / "config", self.folder / "expectations"
        shutil.copytree(PROJECT_ROOT / "config", self.config)
        shutil.copytree(PROJECT_ROOT / "expectations", self.expectations)
        for path in (self.config / "banks").iterdir():
            path.unlink()
        self.write_bank({dataset: {} for dataset in self.datasets})
        self.engine = sa.create_engine(self.database_url)

    def write_bank(self, feeds: Mapping[str, Mapping[str, Any]]) -> None:
        """The bank's YAML; each feed is a plain CSV with the canonical names, unless changed."""
        file = {
            "code": CODE, "name": {"zh": "样例银行（合成）", "en": "sample bank (synthetic)"}, "drop": f"{{drop}}/{CODE}",
            "institution_codes": ["99000000000044"], "since": "2024-01", "due": {"workday": 5, "time": "18:00"},
            "open_periods": 3, "limits": {"files_per_day": 50, "bytes_per_day": "2GB", "findings": 1000},
            "receipt_encoding": "utf-8", "feeds": {name: _feed(name, changes) for name, changes in feeds.items()},
        }  # fmt: skip
        (self.config / "banks" / f"{CODE}.yml").write_text(yaml.safe_dump(file, allow_unicode=True), encoding="utf-8")

    @property
    def settings(self) -> Settings:
        """Read anew each time, as every command does."""
        return Settings.from_environment(
            {
                "CREDITVILLAGE_HOME": str(self.folder / "home"),
                "CREDITVILLAGE_CONFIG": str(self.config),
                "CREDITVILLAGE_EXPECTATIONS": str(self.expectations),
                "CREDITVILLAGE_WAREHOUSE_URL": self.database_url,
                "CREDITVILLAGE_QUIET_SECONDS": "0",
            }
        )

    @property
    def ws(self) -> Workspace:
        return Workspace(self.settings)

    def send(self, dataset: str, period: str, rows: Sequence[Mapping[str, str]]) -> Delivery:
        """Drop a file and have it taken in; returns the delivery with its outcome."""
        delivery = self.claim(dataset, period, rows)
        return pipeline.take_in(self.settings, delivery.delivery_id, now=NOW)

    def claim(self, dataset: str, period: str, rows: Sequence[Mapping[str, str]]) -> Delivery:
        """Drop a file and have it claimed."""
        self._sent += 1
        path = self.settings.drop / CODE / f"{dataset}_{period.replace('-', '')}_{self._sent}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(FILES[dataset]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8")
        os.utime(path, (NOW.timestamp() - 3600 + self._sent,) * 2)
        [delivery] = pipeline.scan(self.settings, now=NOW, quiet_seconds=0.0)
        return delivery

    def receipt(self, delivery: Delivery) -> dict[str, Any]:
        """The JSON receipt of a delivery."""
        [path] = (self.settings.outbox / CODE / delivery.period).glob(f"*.{delivery.delivery_id}.receipt.json")
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def receipts(self) -> list[str]:
        """Everything in the bank's outbox, file by file."""
        folder = self.settings.outbox / CODE
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))

    def told(self, delivery: Delivery, letter: str) -> list[tuple[str, int | None]]:
        """(rule, row) of the findings of its receipt whose rule begins with a letter."""
        findings = self.receipt(delivery)["findings"]
        return [(one["rule"], one["row"]) for one in findings if one["rule"].startswith(letter)]

    def audit(self, letter: str) -> list[tuple[str, str, int | None]]:
        """(rule, delivery, row) of the findings kept for the county."""
        query = "SELECT rule, delivery_id, row_no FROM audit.findings WHERE rule LIKE :like ORDER BY 1, 2, 3"
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query), {"like": f"{letter}%"})]

    def change_rules(self, table: str, change: Any) -> None:
        """Rewrite one contract."""
        path = self.expectations / f"{table}.yml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")

    def correct(self, *corrections: Mapping[str, Any]) -> None:
        """Write config/corrections.yml."""
        text = yaml.safe_dump({"corrections": list(corrections)}, allow_unicode=True)
        (self.config / "corrections.yml").write_text(text, encoding="utf-8")


def rule_of(content: Mapping[str, Any], rule_id: str) -> dict[str, Any]:
    """The entry of a written rule in a contract's content."""
    [found] = [rule for rule in content["rules"] if rule["id"] == rule_id]
    return found  # type: ignore[no-any-return]


def _feed(dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    layout = {
        "from": "2024-01", "format": "delimited", "encoding": "utf-8", "delimiter": ",", "header": True,
        "columns": list(FILES[dataset]), "nulls": [""], "dates": "%Y-%m-%d", "codes": "pboc",
    }  # fmt: skip
    return {
        "files": f"{dataset}_{{period:%Y%m}}*.csv",
        "package": "bare",
        "provides": ["issued_amount", "overdue_days", "overdue_flag", "terminal_states", "write_offs"],
        "id_form": "plain",
        "accept": {"rows": {"min": 0}, "max_rejected_share": 0.5, "empty": "accepted", **changes.get("accept", {})},
        "layouts": [{**layout, **changes.get("layout", {})}],
    }
