"""A candidate policy is tried on a month that stays as it is: terminal, JSON, page, and a hash over everything."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from etl import pipeline
from etl.cli.app import run
from etl.ledger import approvals
from etl.settings import PROJECT_ROOT
from tests.acceptance.county import NOW, PERIODS, County

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres]
SHIPPED = PROJECT_ROOT / "config" / "policy" / "household.yml"
AA = "{grade: AA, at_least: 70}"


@pytest.fixture(autouse=True)
def _environment(county: County, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in county.settings.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    """The shipped policy, with AA from 78 points on."""
    path, text = tmp_path / "stricter.yml", SHIPPED.read_text(encoding="utf-8")
    assert AA in text
    path.write_text(text.replace(AA, AA.replace("70", "78")), encoding="utf-8")
    return path


def tried(path: Path, county: County) -> Any:
    return pipeline.what_if(county.settings, path, PERIODS[-1], now=NOW)


BELOW_78 = (
    "SELECT count(*) FROM core.core_household_grades "
    "WHERE period = :period AND effective_grade = 'AA' AND score < 78 AND hold_reason IS NULL"
)


@pytest.fixture
def told(county: County, candidate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command says of the candidate; page and movers are in the folder."""
    files = ["--out", str(tmp_path / "page.html"), "--movers", str(tmp_path / "movers.csv")]
    code = run(["whatif", str(candidate), "--period", PERIODS[-1], "--json", *files])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == int(found["verdict"] == "block")
    return found


def test_who_moves_is_who_had_70_to_77_points(county: County, told: dict[str, Any], tmp_path: Path) -> None:
    [(expected,)] = county.rows(BELOW_78, period=PERIODS[-1])
    moves = {(row["before"], row["after"]): row["households"] for row in told["matrix"] if row["kind"] == "overall"}
    assert moves["AA", "A"] == told["movers"]["down"] == told["movers"]["households"] == expected > 50
    coupons = told["lists"]["coupons"]
    assert (sum(row["lost"] for row in coupons), sum(row["gained"] for row in coupons)) == (expected, 0)
    with (tmp_path / "movers.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert (len(listed), {row["causes"] for row in listed}) == (expected, {"cut_offs"})


def test_the_page_says_what_it_is_and_names_no_household(told: dict[str, Any], tmp_path: Path) -> None:
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for wanted in (told["report_hash"], "合成数据", "示意 illustrative", "<svg", 'name="viewport"'):
        assert wanted in text
    with (tmp_path / "movers.csv").open(encoding="utf-8", newline="") as file:
        keys = [row["household_key"] for row in csv.DictReader(file)]
    assert not [key for key in keys if key in text or key in json.dumps(told)]


def test_nothing_is_published_graded_or_asked_for(county: County, candidate: Path) -> None:
    releases, graded = county.ledger.releases(), county.ledger.last_gradings()
    report = tried(candidate, county)
    assert (county.ledger.releases(), county.ledger.last_gradings()) == (releases, graded)
    assert pipeline.ready_periods(county.settings, now=NOW, again=True) == []
    assert approvals.report(county.ledger, report.report_hash) == report


def test_the_policy_in_force_moves_nobody(county: County, capsys: pytest.CaptureFixture[str]) -> None:
    report = tried(SHIPPED, county)
    assert report.content["movers"]["households"] == 0
    assert report.content["places"] == []
    assert report.content["reasons"] == {"causes": [], "indicators": [], "patterns": []}
    assert all(row["before"] == row["after"] for row in report.content["matrix"])
    drift = [gate["value"] for gate in report.content["gates"] if "stability" in gate["gate"]]
    assert set(drift) == {"0.000000"}
    assert run(["whatif", str(SHIPPED), "--period", PERIODS[-1]]) == 0
    assert report.report_hash in capsys.readouterr().out


def test_the_hash_is_over_the_bytes_of_the_policy(county: County, candidate: Path) -> None:
    first, again = tried(candidate, county), tried(candidate, county)
    assert first == again
    candidate.write_bytes(candidate.read_bytes() + b"\n")
    changed = tried(candidate, county)
    assert changed.content == first.content
    assert changed.report_hash != first.report_hash


@pytest.mark.parametrize("text", ["policy: household\nversions: []\n", "policy: nobody\n", "- 1\n"])
def test_what_is_no_policy_is_refused(
    county: County, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yml"
    path.write_text(text, encoding="utf-8")
    assert run(["whatif", str(path), "--period", PERIODS[-1]]) == 2
    assert "wrong.yml" in capsys.readouterr().err


def test_usage(county: County, candidate: Path, tmp_path: Path) -> None:
    assert run(["whatif", str(tmp_path / "none.yml"), "--period", PERIODS[-1]]) == 2
    assert run(["whatif", str(candidate), "--period", "2024-04"]) == 1
