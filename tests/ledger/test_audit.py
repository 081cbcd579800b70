"""What was found: loaded in bulk, replaced as a whole, and free of what PostgreSQL cannot hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from etl.ledger.repository import Arrival, Ledger, UnknownDeliveryError
from etl.vocabulary import CreditVillageError

NOW = datetime(2024, 4, 5, 10, 0, tzinfo=UTC)
FINDINGS = pa.table(
    {
        "member": ["a.dat", 'b,"c"\n.dat', None],
        "row_no": pa.array([1, None, 3], pa.int64()),
        "rule": pa.array(["L203", "P101", "L301"]).dictionary_encode(),
        "family": ["validity", "syntax", "quality"],
        "action": ["reject_row", "reject_file", "warn"],
        "column_name": pa.array([None, None, "balance_yuan"], pa.string()),
        "masked_key": ["借据 1", "", "with\0nul"],
    }
)


@pytest.fixture
def delivery_id(ledger: Ledger) -> str:
    claimed = ledger.claim(Arrival("qinghe_rcb", "loans", "2024-03", "file:///a", "a", 1, 1), now=NOW)
    assert claimed is not None
    return claimed.delivery_id


def rows(ledger: Ledger, query: str) -> Sequence[Any]:
    with ledger.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_findings_arrive_as_they_are_with_their_delivery(ledger: Ledger, delivery_id: str) -> None:
    assert ledger.save_findings(delivery_id, FINDINGS) == 3
    columns = "member, row_no, rule, family, action, column_name, masked_key"
    assert rows(ledger, f"SELECT {columns} FROM audit.findings ORDER BY finding_id") == [
        ("a.dat", 1, "L203", "validity", "reject_row", None, "借据 1"),
        ('b,"c"\n.dat', None, "P101", "syntax", "reject_file", None, ""),
        (None, 3, "L301", "quality", "warn", "balance_yuan", "with\ufffdnul"),
    ]
    assert rows(ledger, "SELECT DISTINCT delivery_id, supplier, dataset, period FROM audit.findings") == [
        (delivery_id, "qinghe_rcb", "loans", "2024-03")
    ]


def test_findings_of_a_delivery_are_replaced_and_those_of_others_left(ledger: Ledger, delivery_id: str) -> None:
    other = ledger.claim(Arrival("qinghe_rcb", "loans", "2024-03", "file:///b", "b", 1, 1), now=NOW)
    assert other is not None
    ledger.save_findings(other.delivery_id, FINDINGS)
    ledger.save_findings(delivery_id, FINDINGS)
    ledger.save_findings(delivery_id, FINDINGS.slice(0, 1))
    counts = rows(ledger, "SELECT delivery_id, count(*) FROM audit.findings GROUP BY 1 ORDER BY 1")
    assert counts == [(delivery_id, 1), (other.delivery_id, 3)]
    assert ledger.save_findings(delivery_id, FINDINGS.slice(0, 0)) == 0
    assert rows(ledger, "SELECT DISTINCT delivery_id FROM audit.findings") == [(other.delivery_id,)]


def test_findings_that_cannot_be_loaded_leave_the_old_ones(ledger: Ledger, delivery_id: str) -> None:
    ledger.save_findings(delivery_id, FINDINGS)
    without_rule = FINDINGS.drop_columns(["rule"])
    with pytest.raises(Exception, match='"rule"'):
        ledger.save_findings(delivery_id, without_rule)
    with pytest.raises(CreditVillageError, match=r"audit.findings: no column value — hand over delivery_id"):
        ledger.save_findings(delivery_id, FINDINGS.append_column("value", pa.array(["x"] * 3)))
    with pytest.raises(UnknownDeliveryError):
        ledger.save_findings("nobody", FINDINGS)
    assert rows(ledger, "SELECT count(*) FROM audit.findings") == [(3,)]


def test_many_findings_are_loaded_in_batches(ledger: Ledger, delivery_id: str) -> None:
    count = 250_001
    many = pa.table(
        {
            "row_no": pa.array(range(count), pa.int64()),
            "rule": pa.repeat("L203", count),
            "family": pa.repeat("validity", count),
            "action": pa.repeat("reject_row", count),
        }
    )
    assert ledger.save_findings(delivery_id, many) == count
    found = rows(ledger, "SELECT count(*), count(DISTINCT row_no), max(row_no), count(member) FROM audit.findings")
    assert found == [(count, count, count - 1, 0)]


def test_unmatched_and_no_basis_are_replaced_per_month(ledger: Ledger) -> None:
    unmatched = pa.table(
        {"dataset": ["loans"], "supplier": ["b"], "subject_kind": ["borrower"], "token": ["t"], "reason": ["unknown"]}
    )
    no_basis = pa.table(
        {"dataset": ["loans"] * 2, "supplier": ["b"] * 2, "token": ["t", None], "purpose": ["bank_data"] * 2}
    )
    for period in ("2024-02", "2024-03", "2024-03"):
        assert ledger.save_unmatched(period, unmatched) == 1
        assert ledger.save_no_basis(period, no_basis) == 2
    assert rows(ledger, "SELECT period, count(*) FROM audit.unmatched GROUP BY 1 ORDER BY 1") == [
        ("2024-02", 1),
        ("2024-03", 1),
    ]
    assert rows(
        ledger, "SELECT period, token, purpose FROM audit.no_basis WHERE period = '2024-03' ORDER BY token"
    ) == [
        ("2024-03", "t", "bank_data"),
        ("2024-03", None, "bank_data"),
    ]


def test_step_outcomes_add_up(ledger: Ledger, delivery_id: str) -> None:
    ledger.save_step_outcome(delivery_id, "2024-03", "check", 10, 8, 2, 0.12345, now=NOW)
    ledger.save_step_outcome(None, "2024-03", "grade", 8, 8, None, 2, now=NOW)
    query = "SELECT delivery_id, step, rows_in, rows_out, rows_rejected, seconds, at FROM audit.step_outcomes"
    assert rows(ledger, f"{query} ORDER BY step_outcome_id") == [
        (delivery_id, "check", 10, 8, 2, Decimal("0.123"), NOW),
        (None, "grade", 8, 8, None, Decimal("2.000"), NOW),
    ]
