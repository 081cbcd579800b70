"""Rows to publish, computed from numbers so that every test knows their sums."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa

LOAN_TYPES = pa.schema(
    [
        ("period", pa.string()),
        ("bank_code", pa.string()),
        ("loan_key", pa.string()),
        ("balance_yuan", pa.decimal128(18, 2)),
        ("annual_rate_pct", pa.decimal128(9, 5)),
        ("issued_on", pa.date32()),
        ("is_overdue", pa.bool_()),
        ("overdue_days", pa.int32()),
        ("restricted_note", pa.string()),
    ]
)
HOUSEHOLD_TYPES = pa.schema(
    [("period", pa.string()), ("household_key", pa.string()), ("town_code", pa.string()), ("people_count", pa.int64())]
)
CREDIT_TYPES = pa.schema(
    [("period", pa.string()), ("household_key", pa.string()), ("balance_yuan", pa.decimal128(18, 2))]
)


def loans(period: str, *banks: str, count: int = 20, add: str = "0") -> pa.Table:
    """`count` notes of each bank, every column with a null somewhere but in the key; `add` shifts all balances."""
    rows = [
        {
            "period": period,
            "bank_code": bank,
            "loan_key": f"{(n * 37) % 1000:04d}",
            "balance_yuan": None if n == 3 else Decimal(n * 1000) + Decimal("0.01") + Decimal(add),
            "annual_rate_pct": None if n == 4 else Decimal("4.35000"),
            "issued_on": None if n == 5 else date(2024, 1, 1 + n % 28),
            "is_overdue": None if n == 6 else n % 2 == 0,
            "overdue_days": None if n == 7 else n,
            "restricted_note": "not to be published",
        }
        for bank in banks
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=LOAN_TYPES)


def households(period: str, count: int = 15, people: int = 3) -> pa.Table:
    rows = [
        {"period": period, "household_key": f"h{n:03d}", "town_code": "341181100000", "people_count": people}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=HOUSEHOLD_TYPES)


def credit(period: str, count: int = 15, add: str = "0") -> pa.Table:
    rows = [
        {"period": period, "household_key": f"h{n:03d}", "balance_yuan": Decimal(n) + Decimal("0.10") + Decimal(add)}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=CREDIT_TYPES)
