"""A dataset nobody here has seen: contract, layout, codes and rules lie in this folder alone, and that is enough.

What each line of the file breaks was worked out by hand from the overlay's contract:
row 3 owes more than was lent (a warning), 4 begins on a 31 February, 5 ends before it begins, 6 is of another institution
and settled with 10 open, 7 has a wrong number, no member, a thousands dot, a rate of 75 and an unknown state, 8 is negative.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl import pipeline
from etl.cli.app import run
from etl.contract.predicates import accepted_columns
from etl.engine.duck import DuckEngine
from etl.engine.models import wrap
from etl.ledger.repository import Ledger
from etl.period import Period
from etl.reports.precheck import precheck
from etl.settings import Settings
from etl.workspace import Workspace

HERE = Path(__file__).parent
NOW = datetime(2024, 3, 5, tzinfo=UTC)
NAME = "Kredite-02.2024.csv"
FOUND = {
    (3, "U204"),
    (4, "U002"),
    (5, "U202"),
    (6, "U201"),
    (6, "U203"),
    (7, "U130"),
    (7, "U102"),
    (7, "U004"),
    (7, "U122"),
    (7, "U110"),
    (8, "U120"),
    (8, "U204"),
}


@pytest.fixture(autouse=True)
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The overlay in front of what the project ships, as a deployment sets it."""
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CREDITVILLAGE_CONFIG", str(HERE / "config"))
    monkeypatch.setenv("CREDITVILLAGE_EXPECTATIONS", str(HERE / "expectations"))
    monkeypatch.setenv("CREDITVILLAGE_SQL", str(HERE / "sql"))


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """The file in the credit union's drop zone, with its checksum beside it."""
    folder = tmp_path / "home" / "drop" / "nordsund_cu"
    folder.mkdir(parents=True)
    path = folder / NAME
    shutil.copyfile(HERE / "files" / NAME, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{NAME}.sha256").write_text(f"{digest}  {NAME}\n", encoding="ascii")
    for one in folder.iterdir():
        os.utime(one, (NOW.timestamp() - 3600, NOW.timestamp() - 3600))
    return path


def found_by(findings: list[dict[str, object]]) -> set[tuple[object, object]]:
    return {(one["row"], one["rule"]) for one in findings}


def test_it_is_prechecked(dropped: Path) -> None:
    found = precheck(Workspace(Settings.from_environment()), dropped, "nordsund_cu")
    assert (found.dataset, found.period) == ("union_notes", "2024-02")
    assert found_by(found.findings.to_pylist()) == FOUND
    assert (found.rows_read, found.rows_rejected, found.outcome) == (8, 5, "accepted_with_warnings")


def test_it_is_taken_in(dropped: Path, database_url: str, ledger: Ledger) -> None:
    settings = replace(Settings.from_environment(), warehouse_url=database_url)
    ws = Workspace(settings)
    ws.require_configuration(Period.parse("2024-02"))
    [claimed] = pipeline.scan(settings, now=NOW, quiet_seconds=0.0)
    taken = pipeline.take_in(settings, claimed.delivery_id, now=NOW)
    assert (taken.supplier, taken.dataset, taken.period) == ("nordsund_cu", "union_notes", "2024-02")
    assert (taken.outcome, taken.in_force) == ("accepted_with_warnings", True)
    assert (taken.rows_read, taken.rows_accepted, taken.rows_rejected) == (8, 3, 5)
    [path] = (settings.outbox / "nordsund_cu" / "2024-02").glob("*.receipt.json")
    receipt = json.loads(path.read_text(encoding="utf-8"))
    assert found_by(receipt["findings"]) == FOUND
    assert precheck(ws, dropped, "nordsund_cu").ruleset == receipt["ruleset"]
    [accepted] = (settings.restricted / "accepted" / "union_notes" / "nordsund_cu").glob("*.parquet")
    rows = duckdb.sql(
        f"SELECT union_begins_on, union_principal_eur, union_open_eur, union_state FROM '{accepted}' ORDER BY _row"
    ).fetchall()
    assert [(str(a), str(b), str(c), d) for a, b, c, d in rows] == [
        ("2021-03-01", "12000.00", "4100.50", "running"),
        ("2022-06-15", "800.00", "0.00", "settled"),
        ("2023-01-10", "5000.00", "5200.00", "in_arrears"),
    ]
    published = published_rows(ws, accepted)
    assert [(row["union_note_key"] is None, row["period"], row["union_state"]) for row in published] == [
        (False, "2024-02", "running"),
        (False, "2024-02", "settled"),
        (False, "2024-02", "in_arrears"),
    ]
    assert not {"union_note_no", "union_member_no"} & set(published[0])


def published_rows(ws: Workspace, accepted: Path) -> list[dict[str, Any]]:
    """What the overlay's own model makes of the accepted rows, in the shape of its contract."""
    model, contract = ws.models["core_union_notes"], ws.contract_of("union_notes")
    with DuckEngine(threads=1) as engine:
        engine.register_parquet("accepted_union_notes", [accepted], accepted_columns(contract))
        engine.run_model(model.name, wrap(model, contract, in_order=False), {"period": "2024-02"})
        rows: list[dict[str, Any]] = engine.con.sql("SELECT * FROM core_union_notes").to_arrow_table().to_pylist()
    order = {"running": 0, "settled": 1, "in_arrears": 2}
    return sorted(rows, key=lambda row: order[row["union_state"]])


def test_it_is_due_like_any_other(dropped: Path, database_url: str, ledger: Ledger) -> None:
    settings = replace(Settings.from_environment(), warehouse_url=database_url)
    told = pipeline.watch_deadlines(settings, now=datetime(2024, 3, 6, 4, 1, tzinfo=UTC))  # 12:01 on March's fourth
    assert ("nordsund_cu", "union_notes", "missing") in {(one.supplier, one.dataset, one.breach) for one in told}
    text = (settings.outbox / "nordsund_cu" / "calendar.txt").read_text(encoding="utf-8")
    first_month = "无上期可沿用，该月等待此文件 no earlier month to carry forward: the month waits for this file"
    state = f"逾期未收到 missing （{first_month}）"
    assert f"2024-02\tunion_notes\t2024-03-06 周三 12:00\t{state}\tKredite-02.2024*.csv" in text


def test_the_command_line_knows_it(dropped: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["precheck", str(dropped), "--bank", "nordsund_cu", "--json"]) == 1
    [told] = json.loads(capfd.readouterr().out)
    assert told["counts_by_rule"]["U204"] == 2
    assert run(["precheck", str(dropped), "--bank", "qinghe_rcb"]) == 2
