"""Pulling a source database: the window of change times, the order, the key list, and what lands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text

from etl.intake import database
from etl.intake.database import Pulled, SourceUnavailableError, pull
from etl.intake.delivery import open_landed
from etl.intake.pulled import read_keys
from etl.intake.strings import Strings
from etl.vocabulary import ConfigurationError
from tests.intake.making import DELIVERY, make_feed, make_layout, read_delivery

pytestmark = pytest.mark.postgres

COLUMNS = ["household_no", "income_yuan", "is_stable", "registered_on", "changed_at", "note"]
LAYOUT = make_layout(format="database", columns=COLUMNS, ignore=["note"])
FEED = make_feed(files=None, relation="register.household", key="household_no", changed_at="changed_at")
ROWS = [
    ("H-2", "8.50", True, "2015-03-04", "2024-02-10 12:00:00+08", "x"),
    ("H-10", None, False, "2015-03-04", "2024-02-10 12:00:00+08", "x"),
    ("H-3", "0.00", None, None, "2024-03-01 00:00:00+08", "x"),
    ("H-4", "1.00", True, "2015-03-04", "2024-04-01 00:00:00+08", "x"),
]
MARCH = datetime.fromisoformat("2024-03-01T00:00:00+08:00")
APRIL = datetime.fromisoformat("2024-04-01T00:00:00+08:00")
Puller = Callable[..., Pulled]


@pytest.fixture
def source_url(empty_database_url: str) -> str:
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA register"))
        connection.execute(
            text(
                "CREATE TABLE register.household (household_no text PRIMARY KEY, income_yuan numeric(12,2), "
                "is_stable boolean, registered_on date, changed_at timestamptz, note text)"
            )
        )
        names = ("no", "income", "stable", "on", "at", "note")
        connection.execute(
            text("INSERT INTO register.household VALUES (:no, :income, :stable, :on, :at, :note)"),
            [dict(zip(names, row, strict=True)) for row in ROWS],
        )
    engine.dispose()
    return empty_database_url


@pytest.fixture
def puller(source_url: str, tmp_path: Path) -> Puller:
    def run(since: datetime | None = None, cutoff: datetime = APRIL, **changes: Any) -> Pulled:
        arguments = {"delivery_id": DELIVERY, "since": since, "cutoff": cutoff, "chunk_rows": 2}
        feed = changes.pop("feed", FEED)
        url = changes.pop("url", source_url)
        place = (tmp_path / "landing", tmp_path / "master.key")
        return pull(url, feed, LAYOUT, "households", *place, **{**arguments, **changes})

    return run


def strings_of(pulled: Pulled, tmp_path: Path) -> Strings:
    with open_landed(pulled.landed.path, pulled.landed.wrapped_key, tmp_path / "master.key") as file:
        return read_delivery(file, "households", FEED, LAYOUT, DELIVERY)


def keys_of(pulled: Pulled, tmp_path: Path) -> list[str]:
    with open_landed(pulled.landed.path, pulled.landed.wrapped_key, tmp_path / "master.key", part=1) as file:
        return read_keys(file)["household_no"].to_pylist()  # type: ignore[no-any-return]


def test_the_first_pull_takes_everything_before_the_cutoff_in_change_order(puller: Puller, tmp_path: Path) -> None:
    read = strings_of(puller(), tmp_path)
    assert read.table.drop_columns(["_delivery", "_line"]).to_pylist() == [
        {"_member": "households", "_row": 1, "household_no": "H-10", "income_yuan": "", "is_stable": "false",
         "registered_on": "2015-03-04", "changed_at": "2024-02-10 12:00:00+08"},
        {"_member": "households", "_row": 2, "household_no": "H-2", "income_yuan": "8.50", "is_stable": "true",
         "registered_on": "2015-03-04", "changed_at": "2024-02-10 12:00:00+08"},
        {"_member": "households", "_row": 3, "household_no": "H-3", "income_yuan": "0.00", "is_stable": "",
         "registered_on": "", "changed_at": "2024-03-01 00:00:00+08"},
    ]  # fmt: skip
    assert (read.rows_read, read.file_findings, read.row_findings) == (3, [], [])


def test_the_window_includes_its_start_and_excludes_its_end(puller: Puller, tmp_path: Path) -> None:
    assert strings_of(puller(MARCH), tmp_path).table["household_no"].to_pylist() == ["H-3"]
    assert strings_of(puller(None, MARCH), tmp_path).table["household_no"].to_pylist() == ["H-10", "H-2"]


def test_the_key_list_holds_every_row_that_exists(puller: Puller, tmp_path: Path, source_url: str) -> None:
    pulled = puller(APRIL)
    assert (pulled.rows, pulled.keys) == (0, 4)
    assert keys_of(pulled, tmp_path) == ["H-10", "H-2", "H-3", "H-4"]
    with psycopg.connect(source_url.replace("+psycopg", "")) as connection:
        connection.execute("DELETE FROM register.household WHERE household_no = 'H-2'")
    deleted = puller(APRIL)
    assert keys_of(deleted, tmp_path) == ["H-10", "H-3", "H-4"]
    assert deleted.landed.sha256 != pulled.landed.sha256


def test_the_same_state_gives_the_same_bytes(puller: Puller) -> None:
    first, second = puller(), puller()
    assert (first.landed.sha256, first.landed.size_bytes) == (second.landed.sha256, second.landed.size_bytes)


def test_an_empty_window_has_no_rows(puller: Puller, tmp_path: Path) -> None:
    read = strings_of(puller(APRIL), tmp_path)
    assert (read.rows_read, read.table.num_rows, read.file_findings) == (0, 0, [])


def test_rows_and_keys_are_of_one_state(puller: Puller, source_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row deleted between the two queries is still in both."""
    writer = database._part_writer

    def write_then_delete(*arguments: Any) -> Any:
        write = writer(*arguments)

        def run(sink: Any) -> None:
            write(sink)
            with psycopg.connect(source_url.replace("+psycopg", "")) as connection:
                connection.execute("DELETE FROM register.household")

        return run

    monkeypatch.setattr(database, "_part_writer", write_then_delete)
    pulled = puller()
    assert (pulled.rows, pulled.keys) == (3, 4)


def test_the_source_cannot_be_written(source_url: str) -> None:
    with pytest.raises(Exception, match="read-only"), database._snapshot(source_url) as connection:
        connection.execute(text("DELETE FROM register.household"))


def test_a_source_that_is_away_is_said_in_one_line_without_its_password(puller: Puller, tmp_path: Path) -> None:
    away = "postgresql+psycopg://someone:hidden@127.0.0.1:9/nowhere"
    with pytest.raises(SourceUnavailableError) as caught:
        puller(url=away)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "landing").rglob("*")) == []


def test_a_relation_that_is_not_there_leaves_nothing_behind(puller: Puller, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"register\.nothing"):
        puller(feed=FEED.model_copy(update={"relation": "register.nothing"}))
    assert list((tmp_path / "landing").rglob("*.*")) == []


def test_a_feed_without_a_key_is_a_configuration_error(puller: Puller) -> None:
    with pytest.raises(ConfigurationError, match="relation, key and changed_at"):
        puller(feed=FEED.model_copy(update={"key": None}))


def test_a_pull_of_another_layout_is_p107(puller: Puller, tmp_path: Path) -> None:
    pulled = puller()
    layout = make_layout(format="database", columns=[*COLUMNS, "more"])
    with open_landed(pulled.landed.path, pulled.landed.wrapped_key, tmp_path / "master.key") as file:
        read = read_delivery(file, "households", FEED, layout, DELIVERY)
    assert [finding.rule for finding in read.file_findings] == ["P107"]
