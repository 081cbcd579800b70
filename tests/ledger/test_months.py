"""Months and releases in the ledger: what is missing, what was graded, what readers see."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from etl.ledger.repository import Arrival, Carried, Ledger
from etl.vocabulary import DataError

NOW = datetime(2024, 4, 5, 10, 0, tzinfo=UTC)
EXPECTED = [("qinghe_rcb", "loans"), ("qinghe_rcb", "loan_flows"), ("government", "households")]


def deliver(ledger: Ledger, supplier: str, dataset: str, outcome: str = "accepted") -> None:
    arrival = Arrival(supplier, dataset, "2024-03", f"file:///{supplier}/{dataset}", "name", 1, 1)
    claimed = ledger.claim(arrival, now=NOW)
    assert claimed is not None
    ledger.landed(claimed.delivery_id, "aa", "path", b"key", 1, now=NOW)
    ledger.step(claimed.delivery_id, "validating", now=NOW)
    ledger.finish(claimed.delivery_id, outcome, now=NOW, in_force=outcome == "accepted")


def test_what_is_neither_in_force_nor_carried_forward_is_missing(ledger: Ledger) -> None:
    assert ledger.missing("2024-03", EXPECTED) == EXPECTED
    deliver(ledger, "qinghe_rcb", "loans")
    deliver(ledger, "qinghe_rcb", "loan_flows", "rejected")
    assert ledger.missing("2024-03", EXPECTED) == [("qinghe_rcb", "loan_flows"), ("government", "households")]
    assert ledger.missing("2024-02", EXPECTED) == EXPECTED
    ledger.carry_forward("2024-03", "government", "households", "deadline", now=NOW)
    assert ledger.missing("2024-03", EXPECTED) == [("qinghe_rcb", "loan_flows")]
    assert ledger.missing("2024-03", []) == []


def test_a_delivery_that_comes_after_all_ends_the_carrying_forward(ledger: Ledger) -> None:
    ledger.carry_forward("2024-03", "qinghe_rcb", "loans", "deadline", now=NOW)
    ledger.carry_forward("2024-03", "qinghe_rcb", "loans", "second thought", now=NOW + timedelta(days=1))
    assert ledger.carried("2024-03") == [Carried("2024-03", "qinghe_rcb", "loans", "deadline", NOW)]
    assert ledger.carried("2024-02") == []
    deliver(ledger, "qinghe_rcb", "loans")
    assert ledger.carried("2024-03") == []
    assert ledger.missing("2024-03", [("qinghe_rcb", "loans")]) == []


def test_the_last_grading_counts(ledger: Ledger) -> None:
    assert ledger.last_grading("2024-03") is None
    ledger.record_grading("2024-03", "f1", "staging/1", {"core_loans": "1:1"}, now=NOW)
    ledger.record_grading("2024-02", "f0", "staging/0", {}, now=NOW)
    ledger.record_grading("2024-03", "f2", "staging/2", {"core_loans": "2:5"}, now=NOW + timedelta(days=1))
    last = ledger.last_grading("2024-03")
    assert last is not None
    assert (last.fingerprint, last.staged_path, last.contents) == ("f2", "staging/2", {"core_loans": "2:5"})
    found = ledger.last_gradings()
    assert {period: each.fingerprint for period, each in found.items()} == {"2024-02": "f0", "2024-03": "f2"}


def test_grades_for_the_same_inputs_are_asked_for_once(ledger: Ledger) -> None:
    asked = [ledger.request_grading("2024-03", each, now=NOW) for each in ("f1", "f1", "f2", "f2", "f1")]
    assert asked == [True, False, True, False, True]
    assert ledger.request_grading("2024-02", "f1", now=NOW)


def test_of_many_who_ask_at_once_one_is_told_to(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda _: ledger.request_grading("2024-03", "f1", now=NOW), range(40)))
    assert sum(asked) == 1


def publish(ledger: Ledger, release_id: str, day: int, previous: str | None) -> None:
    with ledger.engine.begin() as connection:
        ledger.record_release(
            connection,
            release_id=release_id,
            period=release_id[:7],
            previous_id=previous,
            manifest={"id": release_id},
            now=NOW + timedelta(days=day),
        )


def test_a_release_takes_the_place_of_the_current_one(ledger: Ledger) -> None:
    assert ledger.current_release() is None
    publish(ledger, "2024-02-001", 0, None)
    publish(ledger, "2024-03-001", 1, "2024-02-001")
    publish(ledger, "2024-03-002", 2, "2024-03-001")
    found = [(each.release_id, each.sequence, each.status, each.previous_id) for each in ledger.releases()]
    assert found == [
        ("2024-02-001", 1, "superseded", None),
        ("2024-03-001", 1, "superseded", "2024-02-001"),
        ("2024-03-002", 2, "current", "2024-03-001"),
    ]
    current = ledger.current_release()
    assert current is not None
    assert (current.manifest, current.published_at) == ({"id": "2024-03-002"}, NOW + timedelta(days=2))


def test_a_release_is_part_of_the_callers_transaction(ledger: Ledger) -> None:
    publish(ledger, "2024-02-001", 0, None)
    with pytest.raises(ZeroDivisionError), ledger.engine.begin() as connection:
        ledger.record_release(
            connection, release_id="2024-03-001", period="2024-03", previous_id=None, manifest={}, now=NOW
        )
        _ = 1 / 0
    assert [(each.release_id, each.status) for each in ledger.releases()] == [("2024-02-001", "current")]


def test_rolling_back_makes_an_earlier_release_current_again(ledger: Ledger) -> None:
    publish(ledger, "2024-02-001", 0, None)
    publish(ledger, "2024-03-001", 1, "2024-02-001")
    for _ in range(2):
        with ledger.engine.begin() as connection:
            ledger.make_current(connection, "2024-02-001", now=NOW + timedelta(days=3))
    assert [each.status for each in ledger.releases()] == ["current", "rolled_back"]
    with pytest.raises(DataError, match="no release '2023-01-001'"), ledger.engine.begin() as connection:
        ledger.make_current(connection, "2023-01-001", now=NOW)
    assert [each.status for each in ledger.releases()] == ["current", "rolled_back"]


def test_the_database_itself_allows_one_current_release(ledger: Ledger) -> None:
    publish(ledger, "2024-02-001", 0, None)
    publish(ledger, "2024-03-001", 1, "2024-02-001")
    with pytest.raises(sa.exc.IntegrityError, match="one_current"), ledger.engine.begin() as connection:
        connection.execute(sa.text("UPDATE ledger.releases SET status = 'current'"))
