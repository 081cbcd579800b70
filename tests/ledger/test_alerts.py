"""A breach is told once, whoever asks and however many ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from etl.ledger.records import Alert
from etl.ledger.repository import Ledger

DUE = datetime(2024, 4, 8, 10, tzinfo=UTC)
NOW = datetime(2024, 4, 8, 11, tzinfo=UTC)
ALERT = Alert("2024-03", "a", "loans", "missing", DUE, NOW)


def test_only_the_first_who_says_so_tells_it(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: ledger.raise_alert(ALERT), range(16)))
    assert sorted(told) == [False] * 15 + [True]


def test_a_missing_delivery_that_comes_late_is_the_same_breach(ledger: Ledger) -> None:
    assert ledger.raise_alert(ALERT)
    assert not ledger.raise_alert(replace(ALERT, breach="late", raised_at=NOW.replace(hour=20)))
    assert ledger.raise_alert(replace(ALERT, supplier="b"))
    assert ledger.raise_alert(replace(ALERT, period="2024-02"))
    assert ledger.alerts("2024-03") == [ALERT, replace(ALERT, supplier="b")]
    assert len(ledger.alerts()) == 3


def test_an_alert_is_one_line_in_both_languages() -> None:
    assert str(ALERT) == "2024-03 a/loans: 逾期未收到 missing (截止 due 2024-04-08T10:00:00+00:00)"
