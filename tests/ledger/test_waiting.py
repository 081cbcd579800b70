"""Before a claim: what the ledger keeps of files that wait, what it tells afterwards, and what it refuses by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.ledger.repository import Arrival, DailyLimits, Ledger, LimitReachedError
from etl.ledger.transitions import ALLOWED, checksum_of_code, code_version
from etl.settings import PROJECT_ROOT
from etl.vocabulary import OUTCOME_LABELS, OUTCOMES, STEP_LABELS, STEPS

NOW = datetime(2024, 4, 5, 10, 0, tzinfo=UTC)
ZONE = "sftp://bank@host/in"
FILE = Arrival("qinghe_rcb", "loans", "2024-03", f"{ZONE}/CLGRDK_202403.zip", "CLGRDK_202403.zip", 10, 1_000)
DAY = DailyLimits(NOW - timedelta(hours=10), NOW + timedelta(hours=14), files_per_day=3, bytes_per_day=100, findings=5)


def at(minute: float) -> datetime:
    return NOW + timedelta(minutes=minute)


def look(ledger: Ledger, minute: float, *seen: tuple[Arrival, str]) -> None:
    ledger.remember(list(seen), [ZONE], now=at(minute))


def test_a_file_arrives_settles_and_rests(ledger: Ledger) -> None:
    look(ledger, 0, (FILE, "growing"))
    [waiting] = ledger.waiting()
    assert (waiting.step, waiting.first_seen_at, waiting.unchanged_since_at) == ("arrived", NOW, NOW)
    look(ledger, 1, (replace(FILE, size_bytes=20), "growing"))
    look(ledger, 2, (replace(FILE, size_bytes=20), ""))
    [waiting] = ledger.waiting()
    assert (waiting.step, waiting.reason, waiting.size_bytes) == ("settling", "", 20)
    assert (waiting.first_seen_at, waiting.settling_at, waiting.unchanged_since_at) == (NOW, at(1), at(1))


def test_the_claim_tells_the_whole_way(ledger: Ledger) -> None:
    look(ledger, 0, (FILE, "growing"))
    look(ledger, 1, (FILE, "growing"))
    claimed = ledger.claim(FILE, now=at(2))
    assert claimed is not None
    way = ledger.transitions(claimed.delivery_id)
    assert [(each.from_state, each.to_state, each.at, each.cause) for each in way] == [
        (None, "arrived", at(0), ""),
        ("arrived", "settling", at(1), "growing"),
        ("settling", "claimed", at(2), ""),
    ]
    assert ledger.waiting() == []


def test_what_has_gone_is_forgotten_but_not_what_could_not_be_seen(ledger: Ledger) -> None:
    elsewhere = replace(FILE, address="s3://drops/in/CLGRDK_202403.zip")
    look(ledger, 0, (FILE, "growing"), (elsewhere, "growing"))
    look(ledger, 1)
    assert [one.address for one in ledger.waiting()] == [elsewhere.address]


def test_two_scans_at_once_keep_every_file_once(ledger: Ledger) -> None:
    files = [(replace(FILE, address=f"{ZONE}/{number}"), "growing") for number in range(100)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda order: ledger.remember(files[::order], [ZONE], now=NOW), (1, -1, 1, -1)))
    assert len(ledger.waiting()) == 100


# -- limits of a day --------------------------------------------------------------------------------------------------


def drop(ledger: Ledger, number: int, *, size_bytes: int = 10, minute: float = 0) -> str:
    arrival = replace(FILE, address=f"{ZONE}/{number}", size_bytes=size_bytes)
    claimed = ledger.claim(arrival, now=at(minute), limits=DAY)
    assert claimed is not None
    return claimed.delivery_id


def test_files_of_a_day_are_counted_until_midnight(ledger: Ledger) -> None:
    for number in range(3):
        drop(ledger, number)
    with pytest.raises(LimitReachedError, match="files_per_day"):
        drop(ledger, 4)
    assert len(ledger.deliveries()) == 3
    tomorrow = replace(DAY, since=DAY.until, until=DAY.until + timedelta(days=1))
    assert ledger.claim(replace(FILE, address="next"), now=DAY.until, limits=tomorrow) is not None


def test_bytes_of_a_day_are_added_up(ledger: Ledger) -> None:
    drop(ledger, 1, size_bytes=60)
    drop(ledger, 2, size_bytes=40)
    with pytest.raises(LimitReachedError, match="bytes_per_day"):
        drop(ledger, 3, size_bytes=1)


def test_a_file_larger_than_any_day_is_claimed_to_be_refused_and_takes_nobodys_room(ledger: Ledger) -> None:
    drop(ledger, 1, size_bytes=101)
    drop(ledger, 2, size_bytes=100)


def test_findings_of_a_day_are_added_up(ledger: Ledger) -> None:
    for number, found in ((1, {"L101": 2, "L110": 2}), (2, {"L101": 1})):
        ledger.finish(drop(ledger, number), "rejected", now=NOW, counts_by_rule=found)
    with pytest.raises(LimitReachedError, match="findings"):
        drop(ledger, 3)


def test_eight_at_once_stay_within_the_limits_of_one_bank(ledger: Ledger) -> None:
    def attempt(number: int) -> bool:
        try:
            return bool(drop(ledger, number))
        except LimitReachedError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == 3
    assert ledger.claim(replace(FILE, supplier="baiyun_rcb"), now=NOW, limits=DAY) is not None


# -- what the database itself refuses ---------------------------------------------------------------------------------


def test_the_database_allows_the_same_steps_as_the_code(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        for state in (*STEPS, *OUTCOMES):
            allowed = connection.scalar(sa.text("SELECT ledger.allowed_states(:state)"), {"state": state})
            assert set(allowed) == ALLOWED.get(state, frozenset()), state


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.deliveries SET step = 'validating'",
        "UPDATE ledger.deliveries SET outcome = 'accepted', finished_at = now()",
        "UPDATE ledger.delivery_transitions SET cause = 'another'",
        "DELETE FROM ledger.delivery_transitions",
    ],
)
def test_who_goes_around_the_code_is_stopped(ledger: Ledger, statement: str) -> None:
    drop(ledger, 1)
    with pytest.raises(sa.exc.IntegrityError), ledger.engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_an_outcome_is_final_in_the_database_too(ledger: Ledger) -> None:
    ledger.finish(drop(ledger, 1), "rejected", now=NOW)
    with pytest.raises(sa.exc.IntegrityError), ledger.engine.begin() as connection:
        connection.execute(sa.text("UPDATE ledger.deliveries SET outcome = 'expired'"))


# -- words and versions -----------------------------------------------------------------------------------------------


def test_every_state_has_a_chinese_and_an_english_text() -> None:
    assert set(STEP_LABELS) == set(STEPS)
    assert set(OUTCOME_LABELS) == set(OUTCOMES)
    for label in (*STEP_LABELS.values(), *OUTCOME_LABELS.values()):
        assert set(label) == {"zh", "en"}
        assert all(label.values())


def test_the_code_version_changes_with_a_line_of_code(tmp_path: Path) -> None:
    assert code_version().endswith("+" + checksum_of_code(PROJECT_ROOT / "etl"))
    seen = set()
    for name, text in (("a.py", "x = 1\n"), ("a.py", "x = 2\n"), ("b.py", ""), ("b.txt", "no code")):
        (tmp_path / name).write_text(text)
        seen.add(checksum_of_code(tmp_path))
    assert len(seen) == 3, "a changed line and a new file, but not what is no code"


def test_a_lock_in_other_hands_is_not_waited_for(ledger: Ledger) -> None:
    with ledger.lock("x"), ledger.lock_if_free("x") as mine, ledger.lock_if_free("y") as other:
        assert (mine, other) == (False, True)
    with ledger.lock_if_free("x") as mine:
        assert mine
