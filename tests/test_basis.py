"""What gradings rested on is kept under its hash, comes back as it was, and is missed when it is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from etl.basis import Shelf, keep_configuration, keep_plan, keep_table, plan_then, settings_then, table_then
from etl.grading.plan import Statement
from etl.settings import Settings
from etl.vocabulary import DataError


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "restricted" / "snapshots")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A county with an overlay of two configuration folders."""
    for folder, text in (("over", "mine"), ("shipped", "theirs"), ("expectations", "table"), ("sql", "SELECT 1")):
        place = tmp_path / folder / "banks"
        place.mkdir(parents=True)
        (place / "a.yml").write_text(text, encoding="utf-8")
    roots = {name: (tmp_path / name,) for name in ("expectations", "sql")}
    given = Settings.from_environment({"CREDITVILLAGE_HOME": str(tmp_path / "home")})
    return replace(given, config=(tmp_path / "over", tmp_path / "shipped"), **roots)


def test_a_configuration_comes_back_overlay_by_overlay(shelf: Shelf, settings: Settings, tmp_path: Path) -> None:
    name = keep_configuration(shelf, settings)
    (tmp_path / "over" / "banks" / "a.yml").write_text("changed since", encoding="utf-8")
    then = settings_then(shelf, name, settings, tmp_path / "scratch")
    assert [(root / "banks" / "a.yml").read_text(encoding="utf-8") for root in then.config] == ["mine", "theirs"]
    assert (then.sql[0] / "banks" / "a.yml").read_text(encoding="utf-8") == "SELECT 1"
    assert keep_configuration(shelf, settings) != name
    assert keep_configuration(shelf, then) == name


def test_what_is_hidden_or_compiled_is_no_configuration(shelf: Shelf, settings: Settings, tmp_path: Path) -> None:
    name = keep_configuration(shelf, settings)
    for folder in (".git", "__pycache__"):
        (tmp_path / "over" / folder).mkdir()
        (tmp_path / "over" / folder / "x").touch()
    assert keep_configuration(shelf, settings) == name


def test_plans_and_relations_come_back(shelf: Shelf) -> None:
    plan = [Statement("a", "SELECT '户' AS x"), Statement("core_household_points", "SELECT 1", True, True)]
    table = pa.table({"bank": pa.array(["甲", None]), "revision": pa.array([1, 2], pa.int32())})
    assert plan_then(shelf, keep_plan(shelf, plan)) == plan
    assert table_then(shelf, keep_table(shelf, table)).equals(table)


def test_bytes_are_kept_once_and_privately(shelf: Shelf) -> None:
    assert shelf.put(b"the same") == shelf.put(b"the same")
    [path] = shelf.folder.iterdir()
    assert (path.stat().st_mode & 0o777, shelf.folder.stat().st_mode & 0o077) == (0o400, 0)


def test_a_changed_or_lost_file_is_missed(shelf: Shelf) -> None:
    path = shelf.folder / shelf.put(b"what it was")
    path.chmod(0o600)
    path.write_bytes(b"what it is")
    with pytest.raises(DataError, match="its bytes have changed"):
        shelf.get(path.name)
    path.unlink()
    with pytest.raises(DataError, match="it is missing"):
        shelf.get(path.name)
