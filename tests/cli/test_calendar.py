"""`creditvillage calendar`: a table and JSON over a real ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etl.cli.app import run
from etl.findings import Arrival
from etl.ledger.repository import Ledger

NOW = datetime(2024, 4, 2, 1, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def deployment(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CREDITVILLAGE_WAREHOUSE_URL", database_url)


@pytest.fixture(autouse=True)
def on_its_way(ledger: Ledger) -> str:
    """One file of March, claimed on the second of April, before its due time."""
    name = "CLGRDK_202403.zip"
    claimed = ledger.claim(Arrival("qinghe_rcb", "loans", "2024-03", f"/drop/{name}", name, 1, 0), now=NOW)
    assert claimed is not None
    return claimed.delivery_id


def test_json_says_how_each_delivery_stands(on_its_way: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["calendar", "--period", "2024-03", "--json"]) == 1
    rows = {(one["supplier"], one["dataset"]): one for one in json.loads(capfd.readouterr().out)}
    assert rows[("qinghe_rcb", "loans")] == {
        "period": "2024-03",
        "supplier": "qinghe_rcb",
        "dataset": "loans",
        "kind": "bank",
        "due_at": "2024-04-08T18:00:00+08:00",
        "state": "on_time",
        "arrived_at": "2024-04-02T09:00:00+08:00",
        "delivery_id": on_its_way,
        "under_way": True,
        "carried_forward": False,
        "nothing_to_carry": False,
        "refused": 0,
    }
    assert rows[("xinhe_vb", "loans")]["state"] == "missing"
    assert rows[("xinhe_vb", "loans")]["nothing_to_carry"]
    assert rows[("government", "households")]["due_at"] == "2024-04-03T18:00:00+08:00"
    assert len(rows) == 4 + 3 + 16


def test_the_table_names_the_calendars_source(capfd: pytest.CaptureFixture[str]) -> None:
    run(["calendar", "--period", "2024-03"])
    printed = capfd.readouterr().out
    assert "国办发明电〔2023〕7号" in printed
    assert "按时收到 on time" in printed
    assert "无上期可沿用，该月等待此文件" in "".join(printed.split())


def test_an_unknown_year_is_no_failure(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["calendar", "--period", "2031-05"]) == 0
    assert "工作日历未收录 2031 年" in capfd.readouterr().out


def test_enforcing_writes_the_calendars(tmp_path: Path) -> None:
    run(["calendar", "--period", "2024-03", "--enforce"])
    text = (tmp_path / "home" / "outbox" / "qinghe_rcb" / "calendar.txt").read_text(encoding="utf-8")
    assert text.startswith("清河农商行（合成） 报送日历")
