"""Bad configuration ends any command with one line that names file, key and mend, and exit code 2."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.cli.app import run
from etl.settings import PROJECT_ROOT


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped configuration that a test may spoil."""
    folder = tmp_path / "config"
    shutil.copytree(PROJECT_ROOT / "config", folder)
    monkeypatch.setenv("CREDITVILLAGE_CONFIG", str(folder))
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


Spoil = Callable[[Path], None]
SPOILT: dict[str, tuple[Spoil, str, str]] = {
    "unknown key in a bank": (
        lambda c: edit(c / "banks/qinghe_rcb.yml", "open_periods: 3", "open_periods: 3\ncolour: red"),
        "banks/qinghe_rcb.yml",
        "colour: unknown key",
    ),
    "missing column in a layout": (
        lambda c: edit(c / "banks/qinghe_rcb.yml", "borrower_area_code, loan_no,", "borrower_area_code,"),
        "banks/qinghe_rcb.yml",
        "missing column loan_no",
    ),
    "unknown column in a layout": (
        lambda c: edit(c / "banks/baiyun_rcb.yml", "贷款余额: balance_yuan", "贷款余额: balance_yaun"),
        "banks/baiyun_rcb.yml",
        "unknown column balance_yaun",
    ),
    "unreadable policy": (
        lambda c: (c / "policy/household.yml").write_text("policy: [household\n", encoding="utf-8"),
        "policy/household.yml",
        "not YAML",
    ),
    "policy that is not text": (
        lambda c: (c / "policy/household.yml").write_bytes(b"\xff\xfe\x00\x01"),
        "policy/household.yml",
        "unreadable",
    ),
    "an indicator no feed can supply": (
        lambda c: edit(
            c / "banks/xinhe_vb.yml", "provides: [issued_amount, overdue_days, overdue_flag]", "provides: []"
        ),
        "policy/business.yml",  # policies are checked in the order of their names
        "xinhe_vb does not provide overdue",
    ),
    "a dataset without contract": (
        lambda c: edit(c / "banks/xinhe_vb.yml", "feeds:\n  loans:", "feeds:\n  lones:"),
        "banks/xinhe_vb.yml",
        "feeds.lones: no contract",
    ),
    "no places": (lambda c: (c / "places.csv").unlink(), "places.csv", "no such file"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_one_line_names_file_key_and_mend(case: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, file, problem = SPOILT[case]
    spoil(config)
    assert run(["run", "--period", "2024-02"]) == 2
    printed = capsys.readouterr()
    [line] = printed.err.strip().splitlines()
    assert file in line
    assert problem in line
    assert " — " in line
    assert not (config.parent / "home").exists()


@pytest.mark.parametrize("arguments", [["run"], ["run", "--period", "2024-13"], ["nonsense"], ["run", "--period"]])
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_simulate_writes_a_month(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--out", str(config.parent / "world"), "--period", "2024-02", "--households", "200"]) == 0
    assert (config.parent / "world" / "truth.json").is_file()
