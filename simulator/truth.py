"""What the pipeline must find: deliveries, findings, rows without legal ground, unmatched people, and canaries."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CANARIES = 2_000
"""At most so many identity numbers, names and phones each, over all periods of a folder."""
_PER_PERIOD = 900


@dataclass(frozen=True)
class Delivery:
    """One file (or one pulled relation) and its row counts."""

    supplier: str
    dataset: str
    file: str
    rows_read: int
    rows_rejected: int


@dataclass
class Truth:
    """The truth of one period. `record` is the period's entry in truth.json; rows are 1-based."""

    seed: int
    households: int
    profile: str
    period: str
    record: dict[str, Any] = field(default_factory=dict)
    canaries: dict[str, dict[str, None]] = field(
        default_factory=lambda: {"id_nos": {}, "names": {}, "phones": {}, "credit_codes": {}}
    )

    def __post_init__(self) -> None:
        empty: dict[str, Any] = {
            "deliveries": [], "findings": [], "no_basis": [], "unmatched": {}, "must_not_rise": [], "rows": {},
        }  # fmt: skip
        self.record = {**empty, **self.record}

    def deliver(self, delivery: Delivery, member: str, findings: Iterable[tuple[int, str]], where: str = "") -> None:
        """Note a readable delivery and its findings (0-based rows)."""
        found = sorted(set(findings))
        warned = bool(found) or delivery.rows_rejected > 0
        target = self.record.setdefault(where, {"deliveries": [], "findings": []}) if where else self.record
        target["deliveries"].append(
            {"supplier": delivery.supplier, "dataset": delivery.dataset, "file": delivery.file,
             "outcome": "accepted_with_warnings" if warned else "accepted", "rows_read": delivery.rows_read,
             "rows_rejected": delivery.rows_rejected}
        )  # fmt: skip
        target["findings"] += [
            _finding(delivery.supplier, delivery.dataset, delivery.file, member, row + 1, rule) for row, rule in found
        ]

    def unreadable(self, supplier: str, dataset: str, file: str, member: str, rule: str) -> None:
        """Note a file that must end as unreadable with one finding about the file as a whole."""
        self.record["deliveries"].append(
            {"supplier": supplier, "dataset": dataset, "file": file, "outcome": "unreadable", "rows_read": 0,
             "rows_rejected": 0}
        )  # fmt: skip
        self.record["findings"].append(_finding(supplier, dataset, file, member, None, rule))

    def no_basis(self, delivery: Delivery, rows: np.ndarray) -> None:
        """Rows (0-based) whose subject has no consent in force at the end of the period."""
        self.record["no_basis"] += [
            {"supplier": delivery.supplier, "dataset": delivery.dataset, "file": delivery.file, "row": int(row) + 1}
            for row in rows
        ]

    def unmatched(self, dataset: str, count: int) -> None:
        self.record["unmatched"][dataset] = self.record["unmatched"].get(dataset, 0) + count

    def must_not_rise(self, household_no: str, because: str) -> None:
        self.record["must_not_rise"].append({"household_no": household_no, "because": because})

    def count(self, name: str, rows: int) -> None:
        self.record["rows"][name] = rows

    def watch(
        self,
        id_nos: Iterable[str | None],
        names: Iterable[str | None],
        phones: Iterable[str | None],
        credit_codes: Iterable[str | None] = (),
    ) -> None:
        """Remember planted identities that must never leave the restricted zone."""
        for kind, values in zip(self.canaries, (id_nos, names, phones, credit_codes), strict=True):
            known = self.canaries[kind]
            known.update((value, None) for value in values if value and len(known) < _PER_PERIOD)

    def save(self, path: Path) -> None:
        """Write truth.json, keeping the other periods that are already in it."""
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        periods = {**kept.get("periods", {}), self.period: self.record}
        canaries = {
            kind: sorted({*kept.get("canaries", {}).get(kind, []), *values})[:CANARIES]
            for kind, values in self.canaries.items()
        }
        document = {
            "seed": self.seed, "households": self.households, "profile": self.profile,
            "periods": dict(sorted(periods.items())), "canaries": canaries,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _finding(supplier: str, dataset: str, file: str, member: str, row: int | None, rule: str) -> dict[str, Any]:
    return {"supplier": supplier, "dataset": dataset, "file": file, "member": member, "row": row, "rule": rule}
