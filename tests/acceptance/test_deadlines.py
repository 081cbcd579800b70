"""A bank that misses its due date holds up nobody; when its file comes after all, the month is graded again."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etl import pipeline
from etl.cli.demo import drop_files
from etl.publish.manifest import Manifest
from tests.acceptance.county import County, SmallCounty

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

BEFORE_DUE = datetime(2024, 4, 5, 3, 0, tzinfo=UTC)
PAST_DUE = datetime(2024, 4, 8, 10, 1, tzinfo=UTC)  # 18:01 on the fifth working day of April
CAME_AT = datetime(2024, 4, 9, 1, 0, tzinfo=UTC)
AFTER = datetime(2024, 4, 9, 2, 0, tzinfo=UTC)
SCORE = """
SELECT feeds_in_force, feeds_carried_forward, feeds_on_time, months_12m, on_time_share_12m_pct, months_carried_12m
FROM mart.mart_bank_scorecard WHERE period = '2024-03' AND bank_code = 'baiyun_rcb'
"""
LABELS = """
SELECT DISTINCT input_state FROM core.core_loans
WHERE period = '2024-03' AND bank_code = 'baiyun_rcb' AND note_state = 'active' ORDER BY 1
"""


def graded(county: County, now: datetime) -> list[str]:
    """Grade and publish what the sweep would ask for; the months."""
    ready = pipeline.ready_periods(county.settings, now=now, again=True)
    for period in ready:
        pipeline.grade_period(county.settings, period, now=now)
        pipeline.publish_period(county.settings, period, now=now)
    return ready


def completeness(county: County) -> list[str]:
    current = county.ledger.current_release()
    assert current is not None
    return list(Manifest.from_json(current.manifest).facts["2024-03"]["completeness"]["carried_forward"])


def test_a_missed_deadline_is_carried_and_a_late_file_is_taken(small: SmallCounty, tmp_path: Path) -> None:
    with small.after("february") as county:
        county.deliver("2024-03")
        late = tmp_path / "late"
        shutil.move(county.settings.drop / "baiyun_rcb", late / "baiyun_rcb")
        (county.settings.drop / "baiyun_rcb").mkdir()
        for path in late.rglob("*202402*"):
            path.unlink()
        county.take_in("2024-03")

        pipeline.watch_deadlines(county.settings, now=BEFORE_DUE)
        assert graded(county, BEFORE_DUE) == []
        told = pipeline.watch_deadlines(county.settings, now=PAST_DUE)
        assert [(one.supplier, one.breach) for one in told] == [("baiyun_rcb", "missing")]
        assert pipeline.watch_deadlines(county.settings, now=PAST_DUE) == []
        assert graded(county, PAST_DUE) == ["2024-03"]
        assert completeness(county) == ["baiyun_rcb/loans"]
        assert county.rows(LABELS) == [("carried_forward",)]
        assert [tuple(map(float, row)) for row in county.rows(SCORE)] == [(0, 1, 0, 2, 50, 1)]

        drop_files(late, county.settings.drop, CAME_AT)
        [delivery] = pipeline.scan(county.settings, now=AFTER, quiet_seconds=0.0)
        taken = pipeline.take_in(county.settings, delivery.delivery_id, now=AFTER)
        assert taken.in_force
        assert pipeline.watch_deadlines(county.settings, now=AFTER) == []
        assert graded(county, AFTER) == ["2024-03"]
        assert completeness(county) == []
        assert ("complete",) in county.rows(LABELS)
        assert [tuple(map(float, row)) for row in county.rows(SCORE)] == [(1, 0, 0, 2, 50, 0)]
        text = (county.settings.outbox / "baiyun_rcb" / "calendar.txt").read_bytes().decode("gb18030")
        assert "2024-03\tloans\t2024-04-08 周一 18:00\t逾期收到 late 2024-04-09 09:00" in text
        assert graded(county, AFTER) == []
