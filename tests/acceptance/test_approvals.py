"""A release that breaks a bound is held: readers keep the old one until enough people have approved exactly this report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl import gates, months, pipeline
from etl.cli.app import run
from etl.ledger import approvals
from etl.ledger.records import Grading, Report
from etl.publish.manifest import Manifest
from etl.vocabulary import DataError
from etl.workspace import Workspace
from tests.acceptance.county import NOW, PERIODS, County, SmallCounty

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres, pytest.mark.slow]
FIRST, SECOND = PERIODS
COVERAGE = "coverage_pct: {warn_below: 70, block_below: 50}"
EVERYBODY = "coverage_pct: {warn_below: 100, block_below: 100}"


@pytest.fixture(scope="module")
def county(small: SmallCounty) -> Iterator[County]:
    """A first month released, a second one graded, and from now on a bound that nobody meets."""
    with small.after("march") as lived:
        pipeline.grade_period(lived.settings, SECOND, now=NOW)
        configure(lived, COVERAGE, EVERYBODY)
        yield lived


@pytest.fixture(autouse=True)
def _environment(county: County, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in county.settings.environment().items():
        monkeypatch.setenv(name, value)


def configure(county: County, before: str, after: str) -> None:
    path = county.settings.config[0] / "county.yml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def publish(county: County) -> Manifest | None:
    return pipeline.publish_period(county.settings, SECOND, now=NOW)


def current(county: County) -> str:
    release = county.ledger.current_release()
    return release.release_id if release else ""


def months_read(county: County) -> list[tuple[Any, ...]]:
    return county.rows("SELECT DISTINCT period FROM mart.mart_household_credit")


def test_a_first_release_is_reconciled_and_compared_with_nothing(county: County) -> None:
    [release] = [one for one in county.ledger.releases() if one.period == FIRST]
    passed = release.manifest["gates"]
    assert (passed["verdict"], passed["compared_with"], passed["approvals"], passed["noted"]) == (
        "unjudged",
        None,
        0,
        [],
    )
    assert len(passed["report_hash"]) == 64


def test_a_held_release_leaves_readers_on_the_old_one(county: County, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=f"{SECOND}: the release is held: rated of the register, % [0-9.]+, overall"):
        publish(county)
    assert (current(county), months_read(county)) == (f"{FIRST}-001", [(FIRST,)])
    assert sorted(path.name for path in (county.settings.lake / "releases").iterdir()) == [f"{FIRST}-001"]
    assert run(["run", "--period", SECOND]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "the release is held" in line
    assert f"creditvillage release approve {SECOND} --reason" in line


def test_what_waits_for_an_approval_is_not_asked_for_again(county: County) -> None:
    assert pipeline.ready_periods(county.settings, now=NOW, again=True) == []


def test_the_gates_say_what_holds_it(county: County, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "gates", SECOND, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["compared_with"], told["approvers_missing"]) == ("block", FIRST, 1)
    assert {gate["gate"] for gate in told["gates"] if gate["verdict"] == "block"} == {"coverage_pct"}
    assert run(["release", "gates", SECOND]) == 1
    assert "拦截 held" in capsys.readouterr().out


def test_an_approval_needs_a_reason_a_name_and_a_report(county: County) -> None:
    ws = Workspace(county.settings)
    for by, reason in (("", "seen"), ("a", " ")):
        with pytest.raises(DataError, match="without a name or a reason"):
            gates.approve(ws, SECOND, by, reason, now=NOW)
    with pytest.raises(DataError, match="no report has the hash 0000"):
        gates.approve(ws, "0000", "a", "seen", now=NOW)
    with pytest.raises(DataError, match=f"{FIRST}: nothing is held as it stands now"):
        gates.approve(ws, FIRST, "a", "seen", now=NOW)


def test_approved_is_one_report_and_no_other(county: County, capsys: pytest.CaptureFixture[str]) -> None:
    """The bound is part of the report: lowered by the least bit afterwards, it is another one, and held."""
    assert run(["release", "approve", SECOND, "--reason", "a new village joined", "--by", "li"]) == 0
    assert "已批准 approved: gates 2024-03" in capsys.readouterr().out
    assert pipeline.ready_periods(county.settings, now=NOW, again=True) == [SECOND]
    configure(county, EVERYBODY, EVERYBODY.replace("warn_below: 100", "warn_below: 100.0"))
    configure(county, "approvers: 1", "approvers: 2")
    with pytest.raises(DataError, match="the release is held"):
        publish(county)
    assert current(county) == f"{FIRST}-001"


def test_four_eyes_are_two_people(county: County) -> None:
    for reason in ("seen", "seen again"):
        assert run(["release", "approve", SECOND, "--reason", reason, "--by", "li"]) == 0
        with pytest.raises(DataError, match="the release is held"):
            publish(county)
    assert run(["release", "approve", SECOND, "--reason", "seen, too", "--by", "wang"]) == 0
    assert publish(county) is not None
    assert (current(county), sorted(months_read(county))) == (f"{SECOND}-001", [(FIRST,), (SECOND,)])


def test_the_release_says_how_it_passed(county: County, capsys: pytest.CaptureFixture[str]) -> None:
    release = county.ledger.current_release()
    assert release is not None
    passed = release.manifest["gates"]
    assert (passed["verdict"], passed["approvals"]) == ("block", 2)
    assert {one["gate"] for one in passed["noted"]} == {"coverage_pct"}
    given = approvals.approvals(county.ledger, [passed["report_hash"]])
    assert [(one.approved_by, one.reason) for one in given] == [("li", "seen"), ("wang", "seen, too")]
    assert run(["release", "show", f"{SECOND}-001"]) == 0
    assert f"批准 approvals 2 ({passed['report_hash'][:12]})" in capsys.readouterr().out
    assert run(["release", "gates", SECOND]) == 0


NEWER = """
  - version: "2024.3"
    scope: county
    from: 2024-03"""


def newer_policy(folder: Path, bound: int) -> str:
    """The shipped policy with a further version from the second month on, whose AA begins at another score."""
    text = (folder / "policy/household.yml").read_text(encoding="utf-8")
    head, _, version = text.partition('  - version: "2024.1"')
    body = version.partition("from: 2024-01")[2].replace(
        "{grade: AA, at_least: 70}", f"{{grade: AA, at_least: {bound}}}"
    )
    return f'{head}  - version: "2024.1"{version.rstrip()}{NEWER}{body}'


def test_a_changed_policy_grades_only_with_the_very_bytes_that_were_approved(county: County, tmp_path: Path) -> None:
    """Tried out and approved, it is in force as it was tried; one blank more, and nobody is graded by it."""
    in_force = county.settings.config[0] / "policy" / "household.yml"
    candidate = tmp_path / "household.yml"
    candidate.write_text(newer_policy(county.settings.config[0], 71), encoding="utf-8")
    configure(county, "approval: none", "approval: required")
    configure(county, EVERYBODY.replace("warn_below: 100", "warn_below: 100.0"), COVERAGE)
    report = pipeline.what_if(county.settings, candidate, SECOND, now=NOW)
    approved = candidate.read_bytes()
    graded = county.ledger.last_grading(SECOND)

    in_force.write_bytes(approved)
    with pytest.raises(DataError, match=f"{SECOND}: .*household.yml is not approved as it stands"):
        pipeline.grade_period(county.settings, SECOND, now=NOW)
    for by in ("li", "wang"):
        gates.approve(Workspace(county.settings), report.report_hash, by, "seen", now=NOW)
    in_force.write_bytes(approved + b" ")
    with pytest.raises(DataError, match="is not approved as it stands"):
        pipeline.grade_period(county.settings, SECOND, now=NOW)
    assert county.ledger.last_grading(SECOND) == graded

    in_force.write_bytes(approved)
    assert pipeline.grade_period(county.settings, SECOND, now=NOW).changed
    predicted = {(row["before"], row["after"]): row["households"] for row in overall(report)}
    assert moves_staged(county, graded) == predicted
    with pytest.raises(DataError, match="the release is held: the county wants every release approved"):
        publish(county)


def overall(report: Report) -> list[dict[str, Any]]:
    return [row for row in report.content["matrix"] if row["kind"] == "overall"]


def moves_staged(county: County, before: Grading | None) -> dict[tuple[str, str], int]:
    """Households from grade to grade between an earlier grading of the second month and the present one."""
    ws, after = Workspace(county.settings), county.ledger.last_grading(SECOND)
    assert before is not None and after is not None
    with ws.engine() as engine:
        for name, grading in (("before", before), ("after", after)):
            months.register_staged(engine, ws, name, "core_household_grades", [grading])
        query = (
            "SELECT coalesce(b.effective_grade, 'not_rated'), coalesce(a.effective_grade, 'not_rated'), count(*) "
            "FROM before AS b JOIN after AS a USING (household_key) GROUP BY ALL"
        )
        return {(was, now): households for was, now, households in engine.fetch(query)}
