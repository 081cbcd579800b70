"""Whatever arrives when: late, revised, in another order, added or removed, the months come out right."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from etl import months, pipeline
from etl.intake.database import SourceUnavailableError
from etl.local.postgres import database
from etl.publish.lake import columns_of
from etl.vocabulary import DataError
from etl.workspace import Workspace
from tests.acceptance.county import DELIVERED, NOW, PERIODS, County, SmallCounty, county_at

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


@pytest.fixture
def fresh(tmp_path: Path, small: SmallCounty) -> Iterator[County]:
    """An empty home with the same world, the same configuration and the same token key as the small county."""
    with county_at(tmp_path / "home", **small.beginnings) as home:
        yield home


@pytest.fixture
def february(small: SmallCounty) -> Iterator[County]:
    """The small county when its first month was released."""
    with small.after("february") as county:
        yield county


def contents(county: County) -> dict[str, dict[str, str]]:
    return {period: dict(graded.contents) for period, graded in county.ledger.last_gradings(PERIODS).items()}


def test_both_months_before_any_grade_give_the_same_content(small: SmallCounty, fresh: County) -> None:
    with small.after("march") as in_order:
        pipeline.grade_period(in_order.settings, PERIODS[-1], now=NOW)
        expected = contents(in_order)
    for period in PERIODS:
        fresh.deliver(period)
        fresh.take_in(period)
    pipeline.grade_period(fresh.settings, PERIODS[-1], now=NOW)
    pipeline.publish_period(fresh.settings, PERIODS[-1], now=NOW)
    assert contents(fresh) == expected


def test_a_late_bank_is_carried_forward_and_lifts_nobody(february: County) -> None:
    february.deliver("2024-03")
    shutil.rmtree(february.settings.drop / "baiyun_rcb")
    february.take_in("2024-03")
    assert pipeline.ready_periods(february.settings, now=NOW, again=True) == []
    pipeline.carry_forward(february.settings, "2024-03", "baiyun_rcb", "loans", "deadline passed", now=NOW)
    assert pipeline.ready_periods(february.settings, now=NOW, again=True) == ["2024-03"]
    pipeline.grade_period(february.settings, "2024-03", now=NOW)
    pipeline.publish_period(february.settings, "2024-03", now=NOW)
    states = february.rows(
        "SELECT DISTINCT input_state FROM core.core_loans WHERE period = '2024-03' AND bank_code = 'baiyun_rcb' "
        "AND note_state IN ('active', 'ended_unknown')"
    )
    assert states == [("carried_forward",)]
    [(risen,)] = february.rows(
        "SELECT count(*) FROM core.core_household_grades after JOIN core.core_household_grades before USING (household_key) "
        "WHERE before.period = '2024-02' AND after.period = '2024-03' AND after.score > before.score AND EXISTS ("
        "SELECT 1 FROM core.core_loans l WHERE l.household_key = after.household_key AND l.period = '2024-03' "
        "AND l.bank_code = 'baiyun_rcb' AND l.note_state = 'active') AND after.effective_grade < before.effective_grade"
    )
    assert risen == 0
    before = february.ledger.current_release()
    assert before is not None
    arrive_late(february)
    assert pipeline.ready_periods(february.settings, now=NOW, again=True) == ["2024-03"]
    pipeline.grade_period(february.settings, "2024-03", now=NOW)
    released = pipeline.publish_period(february.settings, "2024-03", now=NOW)
    assert released is not None


def arrive_late(county: County) -> None:
    from etl.cli.demo import drop_files

    drop_files(county.worlds / "2024-03" / "drop", county.settings.drop, DELIVERED["2024-03"])
    for delivery in pipeline.scan(county.settings, now=NOW, quiet_seconds=0.0):
        pipeline.take_in(county.settings, delivery.delivery_id, now=NOW)


def test_a_revision_regrades_alone_and_a_rejected_one_changes_nothing(february: County) -> None:
    place = february.settings.drop / "baiyun_rcb" / "农户贷款借据_202402.csv"
    lines = place.read_bytes().split(b"\n")
    revise(february, place.with_name("农户贷款借据_202402_2.csv"), b"\n".join(lines[:5]))
    [rejected] = [d for d in february.ledger.deliveries("2024-02", "baiyun_rcb") if d.name.endswith("_2.csv")]
    assert (rejected.outcome, rejected.in_force) == ("rejected", False)
    revise(february, place.with_name("农户贷款借据_202402_3.csv"), b"\n".join(lines[:-6]) + b"\n")
    accepted = february.ledger.deliveries("2024-02", "baiyun_rcb")[-1]
    assert accepted.in_force
    assert pipeline.ready_periods(february.settings, now=NOW, again=True) == ["2024-02"]
    assert pipeline.grade_period(february.settings, "2024-02", now=NOW).changed
    released = pipeline.publish_period(february.settings, "2024-02", now=NOW)
    assert released is not None
    assert released.release_id == "2024-02-002"


def test_a_revision_is_graded_in_part_and_all_tables_are_as_from_the_whole(fresh: County, tmp_path: Path) -> None:
    fresh.settings = replace(fresh.settings, config=(in_part(fresh.settings.config[0], tmp_path / "config"),))
    fresh.live("2024-02")
    place = next((fresh.settings.drop / "baiyun_rcb").glob("农户贷款借据_202402.csv"))
    revise(fresh, place.with_name("农户贷款借据_202402_2.csv"), place.read_bytes().rsplit(b"\n", 4)[0] + b"\n")
    pipeline.grade_period(fresh.settings, "2024-02", now=NOW)
    steps = fresh.rows(
        "SELECT step, rows_in FROM audit.step_outcomes WHERE step LIKE 'grade%' ORDER BY step_outcome_id"
    )
    assert [step for step, _ in steps] == ["grade", "grade_affected"]
    assert steps[1][1] > 0
    assert contents(fresh)["2024-02"] == whole_contents(fresh, "2024-02")


def in_part(config: Path, folder: Path) -> Path:
    """The same configuration, but that a month is graded again only where its inputs changed."""
    shutil.copytree(config, folder)
    with (folder / "county.yml").open("a", encoding="utf-8") as file:
        file.write("regrade: affected\n")
    return folder


def whole_contents(county: County, period: str) -> dict[str, str]:
    """The contents of all tables when nothing that was graded before is used."""
    ws = Workspace(county.settings)
    inputs = months.inputs_of(ws, period)
    with ws.engine() as engine:
        months.register_inputs(engine, inputs)
        months.conform(engine, inputs)
        months.grade(engine, inputs)
        made = list(contents(county)[period])
        return {table: str(engine.content(table, list(columns_of(ws.contracts[table])))) for table in made}


def revise(county: County, place: Path, content: bytes) -> None:
    place.write_bytes(content)
    place.with_name(place.name + ".ok").touch()
    for delivery in pipeline.scan(county.settings, now=NOW, quiet_seconds=0.0):
        pipeline.take_in(county.settings, delivery.delivery_id, now=NOW)


def test_the_same_bytes_again_are_a_duplicate(february: County) -> None:
    place = february.settings.drop / "baiyun_rcb" / "农户贷款借据_202402.csv"
    revise(february, place.with_name("农户贷款借据_202402_2.csv"), place.read_bytes())
    assert february.ledger.deliveries("2024-02", "baiyun_rcb")[-1].outcome == "duplicate"
    assert pipeline.ready_periods(february.settings, now=NOW, again=True) == []
    receipts = list((february.settings.outbox / "baiyun_rcb" / "2024-02").glob("*_2.csv.*.receipt.json"))
    assert len(receipts) == 1


def test_a_bank_added_or_removed_between_months_loses_none(fresh: County, tmp_path: Path) -> None:
    """The configuration is the only list of banks: without one the month is complete without it."""
    fresh.deliver("2024-02")
    overlay = tmp_path / "config"
    shutil.copytree(fresh.settings.config[-1], overlay)
    bank = overlay / "banks" / "xinhe_vb.yml"
    text = bank.read_text(encoding="utf-8")
    bank.write_text(text.replace("since: 2024-02", "since: 2024-03"), encoding="utf-8")
    with database(replace(fresh.settings, config=(overlay,))) as settings:
        pipeline.pull(settings, "government", "2024-02", now=NOW)
        for delivery in pipeline.scan(settings, now=NOW, quiet_seconds=0.0):
            pipeline.take_in(settings, delivery.delivery_id, now=NOW)
        pipeline.collect_files(settings, "mediation", "2024-02", now=NOW)
        assert pipeline.ready_periods(settings, now=NOW, again=True) == ["2024-02"]


def test_a_month_waits_for_the_month_before(fresh: County) -> None:
    """Pulls bring changes only: a month graded on an incomplete past would lose every household that did not change."""
    for period in PERIODS:
        fresh.deliver(period)
    held = fresh.settings.drop / "xinhe_vb" / "贷款台账2024-02.xlsx"
    later = held.rename(fresh.home / held.name)
    for period in PERIODS:
        fresh.take_in(period)
    assert pipeline.ready_periods(fresh.settings, now=NOW, again=True) == []
    with pytest.raises(DataError, match="2024-02"):
        pipeline.grade_period(fresh.settings, "2024-03", now=NOW)
    later.rename(held)
    fresh.take_in("2024-02")
    assert pipeline.ready_periods(fresh.settings, now=NOW, again=True) == list(PERIODS)


def test_a_rollback_stays(february: County) -> None:
    place = february.settings.drop / "baiyun_rcb" / "农户贷款借据_202402.csv"
    revise(february, place.with_name("农户贷款借据_202402_2.csv"), place.read_bytes().rsplit(b"\n", 6)[0] + b"\n")
    pipeline.grade_period(february.settings, "2024-02", now=NOW)
    assert pipeline.publish_period(february.settings, "2024-02", now=NOW) is not None
    months.publisher(Workspace(february.settings)).rollback("2024-02-001", now=NOW)
    assert pipeline.ready_periods(february.settings, now=NOW, again=True) == []
    assert pipeline.publish_period(february.settings, "2024-02", now=NOW) is None
    current = february.ledger.current_release()
    assert current is not None
    assert current.release_id == "2024-02-001"


def test_an_outage_of_the_register_costs_nothing_but_time(fresh: County) -> None:
    fresh.deliver("2024-02")
    elsewhere = replace(fresh.settings, government_url="postgresql+psycopg://nobody:x@127.0.0.1:1/government")
    with pytest.raises(SourceUnavailableError):
        pipeline.pull(elsewhere, "government", "2024-02", now=NOW)
    assert pipeline.stuck(fresh.settings, now=NOW + timedelta(days=1)) == []
    outcomes = [delivery.outcome for delivery in pipeline.pull(fresh.settings, "government", "2024-02", now=NOW)]
    assert outcomes == ["accepted_with_warnings"] * 3


def test_a_file_of_a_month_without_layout_is_answered(fresh: County) -> None:
    fresh.deliver("2024-02")
    good = next((fresh.settings.drop / "qinghe_rcb").glob("CLGRDK_*_2.zip"))
    shutil.copy2(good, good.with_name("CLGRDK_20231231.zip"))
    scanned = pipeline.scan(fresh.settings, now=NOW, quiet_seconds=0.0, closed_too=True)
    claimed = [one for one in scanned if one.period == "2023-12"]
    [answered] = [pipeline.take_in(fresh.settings, one.delivery_id, now=NOW) for one in claimed]
    assert (answered.outcome, dict(answered.counts_by_rule)) == ("rejected", {"P109": 1})
    assert len(list((fresh.settings.outbox / "qinghe_rcb" / "2023-12").glob("*.receipt.json"))) == 1


def test_a_lost_file_of_the_restricted_zone_is_not_an_empty_one(small: SmallCounty) -> None:
    with small.after("march") as county:
        accepted = county.settings.restricted / "accepted" / "loans" / "xinhe_vb"
        next(accepted.glob("*2024-03*.parquet")).unlink()
        with pytest.raises(DataError, match="gone from the restricted zone"):
            pipeline.grade_period(county.settings, "2024-03", now=NOW)
