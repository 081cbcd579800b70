"""Commands from outside: help everywhere, tables or JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl.cli.app import run
from etl.cli.tables import as_json_text, bar, cell, outcome_text
from etl.vocabulary import OUTCOMES

COMMANDS = ["demo", "simulate", "intake", "run", "up", "down", "backfill", "carry", "sql", "verify", "doctor", "release",
            "requalify", "backtest", "corrections", "across", "precheck", "pack", "calendar", "grade", "replay", "forget"]  # fmt: skip


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_in_both_languages(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert any("\u4e00" <= character <= "\u9fff" for character in printed)
    assert "--help" in printed


def test_doctor_prints_pure_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"Python", "duckdb", "config"} <= {next(iter(row.values())) for row in rows}


def test_down_is_harmless_when_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down"]) == 0
    assert "nothing was running" in capsys.readouterr().out


def test_backfill_needs_a_running_airflow(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backfill", "--from", "2024-02", "--to", "2024-03"]) == 2
    assert "make up" in capsys.readouterr().err


def test_an_unknown_role_is_refused_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sql", "nobody"]) == 2
    assert "use one of analyst, owner" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("outcome", [*OUTCOMES, None])
def test_every_outcome_can_be_shown(outcome: str | None) -> None:
    assert outcome_text(outcome)


def test_cells_and_bars() -> None:
    assert (cell(None), cell(12345), cell(True)) == ("", "12,345", "是 yes")
    assert bar(0.5, 4) == "██░░"
    assert bar(7.0, 4) == "████"


def test_json_refuses_what_it_cannot_say() -> None:
    with pytest.raises(TypeError):
        as_json_text([{1, 2}])


def test_a_supplier_cannot_write_markup_into_our_tables() -> None:
    assert cell("CLGRDK_202403[/x].zip") == "CLGRDK_202403\\[/x].zip"


def test_markup_in_an_argument_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--period", "[/x]"]) == 2
    assert "[/x]" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--bank", "nobody"], ["--dataset", "nothing"]])
def test_run_knows_its_banks_and_datasets(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--period", "2024-02", *arguments]) == 2
    assert "use one of" in capsys.readouterr().err


def test_a_fresh_home_has_no_releases(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["release", "show", "2024-02-001"]) == 1
    assert run(["release", "verify"]) == 1


def test_only_what_is_expected_can_be_carried(capsys: pytest.CaptureFixture[str]) -> None:
    what = ["--period", "2024-02", "--supplier", "nobody", "--dataset", "loans", "--reason", "late"]
    assert run(["carry", *what]) == 2
    assert "not expected in 2024-02" in capsys.readouterr().err
