"""A past release comes out the same from landed bytes, whatever happened since; and what does not is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl import pipeline
from etl.cli.app import run
from etl.deletion import forget
from etl.ledger.records import Delivery
from etl.replay import CANNOT, EQUAL, Report
from etl.replay import replay as compute_again
from etl.requalify import requalify
from etl.settings import PROJECT_ROOT
from etl.vocabulary import DataError
from etl.workspace import Workspace
from tests.acceptance.county import NOW, County, SmallCounty

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

FEB, MAR = "2024-02", "2024-03"
FIRST, OTHER_POLICY, SECOND, REVISED = "2024-02-001", "2024-02-002", "2024-03-001", "2024-02-003"
LATER = NOW + timedelta(days=1)
NO_GATES = {"block_below: 50": "block_below: 0", "from: 10}": "from: 100}", "from: 0.25}": "from: 99}"}
ACCEPT_FEW = "{min: 10, warn_above: 400000}, max_rejected_share: 0.10"
ACCEPT_NEARLY_ALL = "{min: 1}, max_rejected_share: 0.99"
LAW = "PIPL 47: retention ended"


@pytest.fixture(scope="module")
def eventful(small: SmallCounty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[County]:
    """Two months taken in; then other rules and another policy, under which the second month is graded, and the first is
    revised and examined again."""
    with small.after("march") as county:
        change_everything(county, tmp_path_factory.mktemp("replayed"))
        pipeline.grade_period(county.settings, MAR, now=NOW)
        pipeline.publish_period(county.settings, MAR, now=NOW)
        revise(county)
        requalify(county.settings, "L121", bank="qinghe_rcb", period=FEB, now=LATER)
        pipeline.grade_period(county.settings, FEB, now=LATER)
        pipeline.publish_period(county.settings, FEB, now=LATER)
        yield county


def change_everything(county: County, folder: Path) -> None:
    """AAA is easier to get, a rule refuses many notes, a bank's file is named otherwise, no gate holds a release."""
    config = county.settings.config[0]
    edit(config / "policy" / "household.yml", "{grade: AAA, at_least: 80}", "{grade: AAA, at_least: 71}")
    edit(config / "banks" / "xinhe_vb.yml", "贷款台账", "新的文件名")
    for bound, none in NO_GATES.items():
        edit(config / "county.yml", bound, none)
    for bank in ("baiyun_rcb", "qinghe_rcb"):
        edit(config / "banks" / f"{bank}.yml", ACCEPT_FEW, ACCEPT_NEARLY_ALL)
    overlay = folder / "expectations"
    shutil.copytree(PROJECT_ROOT / "expectations", overlay)
    edit(overlay / "core_loans.yml", "    min: 0\n    max: 36\n", "    min: 0\n    max: 5\n")
    county.settings = replace(county.settings, expectations=(overlay, *county.settings.expectations))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} no longer holds {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def revise(county: County) -> None:
    """Baiyun sends February again, without its last note."""
    place = county.settings.drop / "baiyun_rcb" / "农户贷款借据_202402.csv"
    lines = place.read_bytes().split(b"\n")
    again = place.with_name("农户贷款借据_202402_2.csv")
    again.write_bytes(b"\n".join(lines[:-2]) + b"\n")
    again.with_name(again.name + ".ok").touch()
    for delivery in pipeline.scan(county.settings, now=NOW, quiet_seconds=0.0):
        pipeline.take_in(county.settings, delivery.delivery_id, now=NOW)


def landed(county: County, supplier: str, period: str) -> Delivery:
    """The first delivery of loans of a bank in a month."""
    return next(one for one in county.ledger.deliveries(period, supplier) if one.dataset == "loans")


def verdicts(report: Report) -> dict[tuple[str, str], str]:
    return {(line.table, line.period): line.verdict for line in report.lines}


def test_the_county_was_eventful(eventful: County) -> None:
    """Otherwise the tests below would show little: rules, policy and revision did change what was released."""
    assert [one.release_id for one in eventful.ledger.releases()] == [FIRST, OTHER_POLICY, SECOND, REVISED]
    revision = [one for one in eventful.ledger.deliveries(FEB, "baiyun_rcb") if one.dataset == "loans"][-1]
    assert (revision.revision, revision.in_force) == (2, True)
    assert (revision.rows_rejected or 0) > (landed(eventful, "baiyun_rcb", FEB).rows_rejected or 0)
    requalified = [one for one in eventful.ledger.deliveries(FEB, "qinghe_rcb") if one.requalifies]
    assert [one.in_force for one in requalified] == [True]
    first, other, march, revised = (dict(one.contents)["core_household_grades"] for one in eventful.ledger.gradings())
    assert first.split(":")[0] == revised.split(":")[0]
    assert len({first, other, march, revised}) == 4


def test_a_release_of_all_these_times_comes_out_as_it_was(eventful: County) -> None:
    """It holds March as graded before the revision, resting on a February that it does not show any more."""
    before = eventful.ledger.current_release()
    report = compute_again(eventful.settings, REVISED)
    assert (list(report.faults), set(verdicts(report).values())) == ([], {EQUAL})
    assert {line.period for line in report.lines} == {FEB, MAR}
    assert report.code_then == report.code_now
    assert eventful.ledger.current_release() == before
    assert list(Workspace(eventful.settings).spill.glob("replay-*")) == []


def test_the_command_finds_what_a_release_says_otherwise(
    eventful: County, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One content of the first release is falsified: just that table differs, all others are equal."""
    for name, value in eventful.settings.environment().items():
        monkeypatch.setenv(name, value)
    with eventful.engine.begin() as connection:
        connection.execute(sa.text(TAMPER), {"release": FIRST})
    code = run(["replay", "--release", FIRST, "--json"])
    told = json.loads(capsys.readouterr().out)
    with eventful.engine.begin() as connection:
        connection.execute(sa.text(MEND), {"release": FIRST})
    assert (code, told["is_equal"]) == (1, False)
    differing = [(line["table"], line["period"]) for line in told["lines"] if line["verdict"] != EQUAL]
    assert differing == [("core_places", FEB)]


PLACES = "{tables,core_places,2024-02,files,0,content}"
TAMPER = (
    "UPDATE ledger.releases SET manifest = jsonb_set(manifest || jsonb_build_object('kept', manifest #> "
    f"'{PLACES}'), '{PLACES}', '\"50:1\"') WHERE release_id = :release"
)
MEND = (
    f"UPDATE ledger.releases SET manifest = jsonb_set(manifest - 'kept', '{PLACES}', manifest -> 'kept') "
    "WHERE release_id = :release"
)


def test_one_flipped_byte_is_found(eventful: County) -> None:
    delivery = landed(eventful, "xinhe_vb", FEB)
    path = Path(str(delivery.landed_path))
    sound = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    report = compute_again(eventful.settings, FIRST)
    path.write_bytes(sound)
    assert not report.is_equal
    assert [fault.startswith(f"{delivery.delivery_id}: landed file {path.name}") for fault in report.faults] == [True]
    assert verdicts(report)["core_loans", FEB] == CANNOT
    assert verdicts(report)["core_households", FEB] == EQUAL


def test_what_was_deleted_by_law_is_named_and_the_rest_is_equal(eventful: County) -> None:
    """Without Xinhe's February nothing can be said of loans and grades as a whole; households and mediation are equal,
    and so is every row that has nothing to do with that bank."""
    delivery = landed(eventful, "xinhe_vb", FEB)
    ws = Workspace(eventful.settings)
    assert [one.delivery_id for one in forget(ws, delivery.delivery_id, LAW, now=NOW)] == [delivery.delivery_id]
    forget(ws, delivery.delivery_id, "another reason", now=NOW + timedelta(days=1))
    report = compute_again(eventful.settings, FIRST)
    assert report.is_equal
    assert [(one.delivery_id, one.sha256, one.reason, one.deleted_at) for one in report.deleted] == [
        (delivery.delivery_id, delivery.sha256, LAW, NOW)
    ]
    found = verdicts(report)
    equal = {table for table in found if found[table] == EQUAL}
    assert {(name, FEB) for name in ("core_places", "core_households", "core_members", "core_consents")} <= equal
    assert found["core_loans", FEB] == found["core_household_points", FEB] == CANNOT
    loans = next(line for line in report.lines if line.table == "core_loans")
    assert (loans.because, list(loans.equal_sources)) == (
        f"rests on {delivery.delivery_id}",
        ["baiyun_rcb", "qinghe_rcb"],
    )
    assert 0 < (loans.rows_alike or 0) < loans.rows


def test_a_month_with_a_deleted_delivery_can_be_graded_again(eventful: County) -> None:
    """Accepted rows hold tokens and stay: deletion takes the raw bytes, not what grades in force rest on."""
    assert not pipeline.grade_period(eventful.settings, FEB, now=NOW).changed
    with pytest.raises(DataError, match="no reason is given"):
        forget(Workspace(eventful.settings), landed(eventful, "qinghe_rcb", FEB).delivery_id, " ", now=NOW)
