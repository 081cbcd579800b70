"""A delivery's way through the ledger: claimed once, one outcome, one in force."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from etl.ledger.repository import (
    Arrival,
    Delivery,
    IllegalTransitionError,
    Ledger,
    LockTimeoutError,
    UnknownDeliveryError,
)
from etl.ledger.transitions import ALLOWED
from etl.vocabulary import OUTCOMES, STEPS

NOW = datetime(2024, 4, 5, 10, 0, tzinfo=UTC)
SPAWN = multiprocessing.get_context("spawn")
FILE = Arrival(
    supplier="qinghe_rcb",
    dataset="loans",
    period="2024-03",
    address="file:///drop/qinghe_rcb/CLGRDK_202403.zip",
    name="CLGRDK_202403.zip",
    size_bytes=1234,
    mtime_ns=1_712_300_000_123_456_789,
    parts=("file:///drop/qinghe_rcb/CLGRDK_202403.zip.ok",),
)


def claimed(ledger: Ledger, minute: int = 0, **changes: Any) -> Delivery:
    """A new delivery of FILE, dropped again `minute` minutes later."""
    again = replace(FILE, mtime_ns=FILE.mtime_ns + minute * 60_000_000_000, **changes)
    delivery = ledger.claim(again, now=NOW + timedelta(minutes=minute))
    assert delivery is not None
    return delivery


def validating(ledger: Ledger, minute: int = 0, sha256: str = "aa", **changes: Any) -> Delivery:
    delivery = claimed(ledger, minute, **changes)
    ledger.landed(delivery.delivery_id, sha256, f"landing/{delivery.delivery_id}", b"wrapped", 1234, now=NOW)
    return ledger.step(delivery.delivery_id, "validating", now=NOW)


def accepted(ledger: Ledger, minute: int = 0, sha256: str = "aa", **changes: Any) -> Delivery:
    delivery = validating(ledger, minute, sha256, **changes)
    return ledger.finish(delivery.delivery_id, "accepted", now=NOW, ruleset="r1", content="9:1", in_force=True)


def test_a_claim_keeps_what_arrived(ledger: Ledger) -> None:
    delivery = claimed(ledger)
    assert delivery.delivery_id == "qinghe_rcb-loans-2024-03-001"
    assert (delivery.supplier, delivery.dataset, delivery.period) == ("qinghe_rcb", "loans", "2024-03")
    assert (delivery.name, delivery.address, delivery.parts) == (FILE.name, FILE.address, FILE.parts)
    assert (delivery.size_bytes, delivery.mtime_ns) == (1234, FILE.mtime_ns)
    assert (delivery.revision, delivery.step, delivery.outcome, delivery.in_force) == (1, "claimed", None, False)
    assert delivery.claimed_at == NOW
    assert ledger.delivery(delivery.delivery_id) == delivery


def test_the_same_file_is_claimed_once_and_the_same_bytes_dropped_again_are_new(ledger: Ledger) -> None:
    claimed(ledger)
    assert ledger.claim(FILE, now=NOW + timedelta(hours=1)) is None
    assert claimed(ledger, minute=5).delivery_id == "qinghe_rcb-loans-2024-03-002"
    assert ledger.claim(replace(FILE, size_bytes=1235), now=NOW) is not None
    assert [each.sequence for each in ledger.deliveries("2024-03")] == [1, 2, 3]


def test_each_series_counts_for_itself(ledger: Ledger) -> None:
    claimed(ledger)
    others = [("loans", "2024-02"), ("loan_flows", "2024-03")]
    ids = [claimed(ledger, address=f"f{n}", dataset=d, period=p).delivery_id for n, (d, p) in enumerate(others)]
    assert ids == ["qinghe_rcb-loans-2024-02-001", "qinghe_rcb-loan_flows-2024-03-001"]


def test_a_scan_learns_in_one_question_what_was_taken(ledger: Ledger) -> None:
    claimed(ledger)
    claimed(ledger, address="file:///other")
    mark = (FILE.address, FILE.size_bytes, FILE.mtime_ns)
    assert ledger.already_seen([FILE.address, "file:///never"]) == {mark}
    assert ledger.already_seen() == {mark, ("file:///other", FILE.size_bytes, FILE.mtime_ns)}
    assert ledger.already_seen([]) == set()


def test_every_change_is_recorded_with_time_cause_and_version(ledger: Ledger) -> None:
    delivery_id = validating(ledger).delivery_id
    later = NOW + timedelta(hours=2)
    ledger.finish(delivery_id, "expired", now=later, cause="no answer for two hours")
    changes = ledger.transitions(delivery_id)
    assert [(each.from_state, each.to_state) for each in changes] == [
        (None, "claimed"),
        ("claimed", "landed"),
        ("landed", "validating"),
        ("validating", "expired"),
    ]
    assert (changes[-1].at, changes[-1].cause) == (later, "no answer for two hours")
    assert all(each.code_version for each in changes)


def test_landing_keeps_hash_path_and_key(ledger: Ledger) -> None:
    delivery = claimed(ledger)
    ledger.landed(delivery.delivery_id, "ab" * 32, "landing/ab/x", b"\x00wrapped", 4321, now=NOW)
    landed = ledger.delivery(delivery.delivery_id)
    assert (landed.sha256, landed.landed_path, landed.wrapped_key) == ("ab" * 32, "landing/ab/x", b"\x00wrapped")
    assert (landed.size_bytes, landed.step) == (4321, "landed")
    assert ledger.claim(FILE, now=NOW) is None, "what was landed does not change what was claimed"


def test_a_repeated_step_changes_nothing(ledger: Ledger) -> None:
    delivery = validating(ledger)
    before = ledger.transitions(delivery.delivery_id)
    assert ledger.step(delivery.delivery_id, "validating", now=NOW + timedelta(hours=1)) == delivery
    path = str(delivery.landed_path)
    assert ledger.landed(delivery.delivery_id, "aa", path, b"other", 1, now=NOW) == delivery
    assert ledger.transitions(delivery.delivery_id) == before
    done = ledger.finish(delivery.delivery_id, "accepted", now=NOW, rows_read=5, in_force=True)
    again = ledger.finish(delivery.delivery_id, "accepted", now=NOW + timedelta(hours=1), rows_read=6)
    assert again == done


def test_other_bytes_cannot_land_in_the_place_of_those_that_did(ledger: Ledger) -> None:
    delivery = validating(ledger)
    with pytest.raises(IllegalTransitionError, match="validating → landed"):
        ledger.landed(delivery.delivery_id, "bb", "landing/elsewhere", b"k", 1, now=NOW)
    assert ledger.delivery(delivery.delivery_id) == delivery


REACH: dict[str, Callable[[Ledger], Delivery]] = {
    "claimed": claimed,
    "landed": lambda ledger: ledger.landed(claimed(ledger).delivery_id, "aa", "p", b"k", 1, now=NOW),
    "validating": validating,
    "accepted": accepted,
}


@pytest.mark.parametrize("state", REACH)
def test_only_allowed_steps_are_taken(ledger: Ledger, state: str) -> None:
    delivery = REACH[state](ledger)
    allowed = ALLOWED.get(state, frozenset())
    for wanted in (*STEPS, *OUTCOMES):
        if wanted not in allowed | {state}:
            take = ledger.finish if wanted in OUTCOMES else ledger.step
            with pytest.raises(IllegalTransitionError, match=f"{state} → {wanted} is not a step"):
                take(delivery.delivery_id, wanted, now=NOW)
    assert ledger.delivery(delivery.delivery_id) == delivery


def test_nothing_follows_an_outcome() -> None:
    assert not set(ALLOWED) & set(OUTCOMES)
    assert set(ALLOWED) == set(STEPS)
    assert frozenset().union(*ALLOWED.values()) == {*STEPS, *OUTCOMES} - {"arrived"}


def test_an_unknown_delivery_is_named(ledger: Ledger) -> None:
    for ask in (ledger.delivery, lambda each: ledger.step(each, "landed", now=NOW)):
        with pytest.raises(UnknownDeliveryError, match="no delivery 'nobody-loans'"):
            ask("nobody-loans")


def test_finishing_keeps_all_results(ledger: Ledger) -> None:
    delivery = validating(ledger)
    ledger.finish(
        delivery.delivery_id,
        "accepted_with_warnings",
        now=NOW,
        rows_read=100,
        rows_accepted=97,
        rows_rejected=3,
        counts_by_rule={"L203": 2, "L131": 1},
        not_checked=["L211", "L207"],
        ruleset="r1",
        content="97:123",
        in_force=True,
        details={"warnings": 4},
    )
    found = ledger.delivery(delivery.delivery_id)
    assert (found.rows_read, found.rows_accepted, found.rows_rejected) == (100, 97, 3)
    assert found.counts_by_rule == {"L203": 2, "L131": 1}
    assert found.not_checked == ("L211", "L207")
    assert (found.ruleset, found.content, found.details) == ("r1", "97:123", {"warnings": 4})
    assert (found.outcome, found.in_force, found.finished_at) == ("accepted_with_warnings", True, NOW)


# -- in force ---------------------------------------------------------------------------------------------------------


def test_a_better_delivery_takes_the_place_of_the_one_in_force(ledger: Ledger) -> None:
    first, second = accepted(ledger), accepted(ledger, minute=1, sha256="bb")
    assert [each.delivery_id for each in ledger.in_force("2024-03")] == [second.delivery_id]
    old = ledger.delivery(first.delivery_id)
    assert (old.outcome, old.in_force, old.superseded_by) == ("accepted", False, second.delivery_id)


def test_a_refused_revision_leaves_the_accepted_one_in_force(ledger: Ledger) -> None:
    first = accepted(ledger)
    for minute, outcome in enumerate(("rejected", "unreadable", "duplicate", "expired"), start=1):
        ledger.finish(validating(ledger, minute, sha256=outcome).delivery_id, outcome, now=NOW)
    assert ledger.in_force("2024-03") == [first]


def test_an_older_delivery_that_finishes_late_does_not_push_out_a_newer_one(ledger: Ledger) -> None:
    older, newer = validating(ledger), validating(ledger, minute=1, sha256="bb")
    ledger.finish(newer.delivery_id, "accepted", now=NOW, in_force=True)
    late = ledger.finish(older.delivery_id, "accepted", now=NOW + timedelta(hours=1), in_force=True)
    assert (late.outcome, late.in_force) == ("accepted", False)
    assert [each.delivery_id for each in ledger.in_force("2024-03")] == [newer.delivery_id]


def test_the_database_itself_allows_only_accepted_deliveries_in_force_and_one_of_them(ledger: Ledger) -> None:
    accepted(ledger)
    rejected = ledger.finish(validating(ledger, minute=1).delivery_id, "rejected", now=NOW)
    for assignment in ("in_force = true", "in_force = true, outcome = 'accepted'"):
        statement = sa.text(f"UPDATE ledger.deliveries SET {assignment} WHERE delivery_id = :id")
        with pytest.raises(sa.exc.IntegrityError), ledger.engine.begin() as connection:
            connection.execute(statement, {"id": rejected.delivery_id})


def test_deliveries_in_force_at_once_end_with_the_newest(ledger: Ledger) -> None:
    ids = [validating(ledger, minute, sha256=str(minute)).delivery_id for minute in range(24)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda each: ledger.finish(each, "accepted", now=NOW, in_force=True), [*ids[::2], *ids[1::2]]))
    assert [each.delivery_id for each in ledger.in_force("2024-03")] == [ids[-1]]
    assert {each.outcome for each in ledger.deliveries()} == {"accepted"}


# -- revisions and duplicates -----------------------------------------------------------------------------------------


def test_a_duplicate_bears_its_originals_revision_and_uses_up_none(ledger: Ledger) -> None:
    first = accepted(ledger)
    again = validating(ledger, minute=1)
    assert ledger.finish(again.delivery_id, "duplicate", now=NOW).revision == first.revision == 1
    corrected = accepted(ledger, minute=2, sha256="bb")
    assert (corrected.revision, corrected.delivery_id) == (2, "qinghe_rcb-loans-2024-03-003")


def test_a_duplicate_has_bytes_and_rules_of_the_delivery_in_force(ledger: Ledger) -> None:
    first = accepted(ledger)
    series = ("qinghe_rcb", "loans", "2024-03")
    assert ledger.duplicate_of(*series, "aa", "r1") == first
    assert ledger.duplicate_of(*series, "aa", "r2") is None, "the rules have changed since"
    assert ledger.duplicate_of(*series, "bb", "r1") is None
    assert ledger.duplicate_of("qinghe_rcb", "loans", "2024-02", "aa", "r1") is None
    accepted(ledger, minute=1, sha256="bb")
    assert ledger.duplicate_of(*series, "aa", "r1") is None, "going back to an earlier file is a revision"


def test_a_refused_delivery_has_no_duplicates(ledger: Ledger) -> None:
    ledger.finish(validating(ledger).delivery_id, "rejected", now=NOW, ruleset="r1")
    assert ledger.duplicate_of("qinghe_rcb", "loans", "2024-03", "aa", "r1") is None


def test_of_two_alike_in_progress_only_the_later_is_a_duplicate(ledger: Ledger) -> None:
    first, second = validating(ledger), validating(ledger, minute=1)
    series = ("qinghe_rcb", "loans", "2024-03", "aa", "r1")
    assert ledger.duplicate_of(*series, delivery_id=second.delivery_id) == first
    assert ledger.duplicate_of(*series, delivery_id=first.delivery_id) is None


def test_stuck_deliveries_are_those_whose_last_step_is_long_ago(ledger: Ledger) -> None:
    waiting = claimed(ledger)
    moving = claimed(ledger, minute=1)
    ledger.landed(moving.delivery_id, "aa", "p", b"k", 1, now=NOW + timedelta(hours=3))
    accepted(ledger, minute=2, sha256="bb")
    assert ledger.stuck(NOW + timedelta(hours=1)) == [waiting]


# -- pulls ------------------------------------------------------------------------------------------------------------


def test_the_watermark_is_that_of_the_pulls_in_force_of_earlier_months(ledger: Ledger) -> None:
    months = {"2024-02": datetime(2024, 3, 1, tzinfo=UTC), "2024-03": datetime(2024, 4, 1, tzinfo=UTC)}
    for period, cutoff in months.items():
        pull = {"supplier": "government", "dataset": "households", "address": f"pull:{period}"}
        ledger.pulled(validating(ledger, period=period, **pull).delivery_id, cutoff)
    ids = [each.delivery_id for each in ledger.deliveries(supplier="government")]
    ledger.finish(ids[0], "accepted", now=NOW, in_force=True)
    ledger.finish(ids[1], "rejected", now=NOW)
    assert ledger.watermark("government", "households", "2024-02") is None
    assert ledger.watermark("government", "households", "2024-03") == months["2024-02"]
    assert ledger.watermark("government", "households", "2024-04") == months["2024-02"], "a refused pull read nothing"
    assert ledger.watermark("government", "members", "2024-04") is None


# -- at once ----------------------------------------------------------------------------------------------------------


def _files(count: int) -> list[Arrival]:
    """Files of two banks, a hundred in a row from each, so that not only claims but also numbers collide."""
    return [replace(FILE, supplier=f"bank{n // 100}", address=f"file:///{n}", name=str(n)) for n in range(count)]


def _claim_all(url: str, count: int, step: int, gate: Any, answers: Any) -> None:
    """From one end or the other, and connected before the start: so both find work, and meet in the middle."""
    ledger = Ledger(url)
    ledger.releases()
    gate.wait(60)
    answers.put([each.delivery_id for file in list(_files(count))[::step] if (each := ledger.claim(file, now=NOW))])
    ledger.close()


def test_two_processes_claim_200_files_exactly_once(ledger: Ledger, database_url: str) -> None:
    gate, answers = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=_claim_all, args=(database_url, 200, step, gate, answers), daemon=True) for step in (1, -1)
    ]
    for process in processes:
        process.start()
    claims = [answers.get(timeout=60) for _ in processes]
    taken = [delivery_id for each in claims for delivery_id in each]
    for process in processes:
        process.join(30)
    assert max(Counter(taken).values()) == 1
    assert sorted(taken) == sorted(each.delivery_id for each in ledger.deliveries())
    assert all(claims), "both were at work"
    _assert_numbered(ledger, 200)


def test_eight_threads_claim_200_files_exactly_once(ledger: Ledger) -> None:
    work = [file for file in _files(200) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        claims = [each for each in pool.map(lambda file: ledger.claim(file, now=NOW), work) if each]
    assert len(claims) == len({each.delivery_id for each in claims}) == 200
    _assert_numbered(ledger, 200)


def _assert_numbered(ledger: Ledger, count: int) -> None:
    """Every series counts 1, 2, 3, … without a gap."""
    deliveries = ledger.deliveries()
    assert len(deliveries) == count
    for supplier in {each.supplier for each in deliveries}:
        numbers = [each.sequence for each in deliveries if each.supplier == supplier]
        assert numbers == list(range(1, len(numbers) + 1))


# -- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_keeps_others_out_until_it_is_let_go(ledger: Ledger, database_url: str) -> None:
    other = Ledger(database_url)
    with ledger.lock("release"):
        with (
            pytest.raises(LockTimeoutError, match="lock 'release' was held by somebody else"),
            other.lock("release", 0.2),
        ):
            pass
        with other.lock("another"):
            pass
    with other.lock("release", 0.2):
        pass
    other.close()


def test_a_lock_is_let_go_when_the_work_fails_and_blocks_until_then(ledger: Ledger) -> None:
    order = []

    def second() -> None:
        with ledger.lock("month", 20):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), ledger.lock("month"):
            waiting = pool.submit(second)
            order.append("first")
            _ = 1 / 0
        waiting.result(20)
    assert order == ["first", "second"]
