"""`creditvillage precheck` says of a file what intake will say, and leaves no trace."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etl import pipeline
from etl.cli.app import run
from etl.ledger.repository import Ledger
from etl.reports import precheck as prechecking
from etl.reports.precheck import precheck
from etl.settings import PROJECT_ROOT, Settings
from etl.workspace import Workspace
from simulator import simulate

PERIOD = "2024-03"
NOW = datetime(2024, 4, 5, tzinfo=UTC)
WATCH = """
import json, os, sys
seen = []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & WRITES and args[0] != os.devnull:
        seen.append(str(args[0]))
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.rename", "os.remove"):
        seen.append(event)
sys.dont_write_bytecode = True
sys.addaudithook(hook)
from etl.cli.app import run
code = run(sys.argv[1:])
print("\\n" + json.dumps([code, seen]))
"""


@dataclass
class World:
    drop: Path
    truth: dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Files of one synthetic month, with planted errors."""
    folder = tmp_path_factory.mktemp("world")
    simulate(folder, PERIOD, 2_000, 7)
    sent = datetime(2024, 4, 3, tzinfo=UTC).timestamp()
    for path in (folder / "drop").rglob("*.*"):
        os.utime(path, (sent, sent))
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return World(folder / "drop", truth)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(Settings.from_environment({"CREDITVILLAGE_HOME": str(tmp_path / "home")}))


def bank_files(world: World) -> Iterator[tuple[str, Path]]:
    for bank in ("baiyun_rcb", "qinghe_rcb", "xinhe_vb"):
        for path in sorted((world.drop / bank).iterdir()):
            if path.suffix != ".ok":
                yield bank, path


def test_it_says_what_the_receipt_will_say(world: World, ws: Workspace, ledger: Ledger) -> None:
    url = ledger.engine.url.render_as_string(hide_password=False)
    settings = replace(ws.settings, warehouse_url=url, quiet_seconds=0.0)
    for delivery in pipeline.scan(settings, now=NOW, drop=world.drop, quiet_seconds=0.0):
        pipeline.take_in(settings, delivery.delivery_id, now=NOW)
    receipts = {}
    for path in settings.outbox.glob("*/2024-03/*.receipt.json"):
        receipt = json.loads(path.read_text(encoding="utf-8"))
        receipts[receipt["sha256"]] = receipt
    compared = 0
    for bank, path in bank_files(world):
        found = precheck(ws, path, bank)
        receipt = receipts[found.sha256]
        told = found.document()
        for key in ("bank", "period", "outcome", "rows_read", "rows_accepted", "rows_rejected", "ruleset"):
            assert told[key] == receipt[key], (path.name, key)
        assert told["counts_by_rule"] == receipt["counts_by_rule"] != {}
        assert told["diagnoses"] == receipt["diagnoses"]
        assert {
            (f["member"], f["row"], f["rule"], f["line"], f["column_no"], f["value"]) for f in told["findings"]
        } == {(f["member"], f["row"], f["rule"], f["line"], f["column_no"], f["value"]) for f in receipt["findings"]}
        assert set(receipt["not_checked"]) <= {one.rule for one in found.not_run}
        compared += 1
    assert compared == 4


def test_every_planted_mistake_is_found(world: World, ws: Workspace) -> None:
    planted = {(one["row"], one["rule"]) for one in world.truth["periods"][PERIOD]["findings"] if is_baiyun(one)}
    [path] = [path for bank, path in bank_files(world) if bank == "baiyun_rcb"]
    found = precheck(ws, path, "baiyun_rcb", per_rule=None).findings.to_pylist()
    assert {(one["row"], one["rule"]) for one in found} == planted != set()


def is_baiyun(one: dict[str, Any]) -> bool:
    return bool(one["supplier"] == "baiyun_rcb")


@pytest.mark.parametrize("rows", [3, 50])
def test_the_size_of_the_chunks_changes_nothing(
    rows: int, world: World, ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.intake.delimited.BLOCK_BYTES", 4_000)
    lines = (world.drop / "baiyun_rcb" / "农户贷款借据_202403.csv").read_bytes().splitlines(keepends=True)
    path = tmp_path / "农户贷款借据_202403.csv"
    path.write_bytes(b"".join([*lines, lines[1]]))  # a number that stands twice, in the first chunk and in the last
    whole = precheck(ws, path, "baiyun_rcb").document()
    monkeypatch.setattr(prechecking, "PIECE_ROWS", rows)
    in_chunks = precheck(ws, path, "baiyun_rcb").document()
    assert in_chunks | {"diagnoses": whole["diagnoses"]} == whole  # causes are looked for in the first rows only
    repeated = [(one["row"], one["line"]) for one in whole["findings"] if one["rule"] == "L140"]
    assert repeated == [(1, 2), (len(lines), len(lines) + 1)]


def test_it_opens_no_connection_and_writes_nothing(world: World, tmp_path: Path) -> None:
    bank, path = next(bank_files(world))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CREDITVILLAGE")},
        "CREDITVILLAGE_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(PROJECT_ROOT),
    }
    command = [sys.executable, "-c", WATCH, "precheck", str(path), "--bank", bank, "--json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [1, []]
    assert list(tmp_path.iterdir()) == []


def test_exit_codes_and_forms(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = world.drop / "baiyun_rcb" / "农户贷款借据_202403.csv"
    clean = tmp_path / "农户贷款借据_202403.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    wrong = {one["row"] for one in document(path, "baiyun_rcb", capfd)["findings"]}
    clean.write_bytes(b"".join([lines[0], *(line for row, line in enumerate(lines[1:], 1) if row not in wrong)]))
    assert run(["precheck", str(clean), "--bank", "baiyun_rcb"]) == 0
    assert "将接收" in capfd.readouterr().out
    assert run(["precheck", str(path), str(clean), "--bank", "baiyun_rcb", "--html", str(tmp_path / "x.html")]) == 1
    assert "拒收该行" in capfd.readouterr().out
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<h2>") == 2
    assert run(["precheck", str(path), "--bank", "baiyun_rcb", "--format", "csv"]) == 1


def test_csv_lists_all_findings_in_the_banks_encoding(world: World, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = world.drop / "baiyun_rcb" / "农户贷款借据_202403.csv"
    run(["precheck", str(path), "--bank", "baiyun_rcb", "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode("gb18030"))))
    run(["precheck", str(path), "--bank", "baiyun_rcb", "--json"])
    [told] = json.loads(capfdbinary.readouterr().out)
    assert len(rows) == sum(told["counts_by_rule"].values())


def document(path: Path, bank: str, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    run(["precheck", str(path), "--bank", bank, "--json"])
    [found] = json.loads(capfd.readouterr().out)
    return dict(found)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("no such file.csv", ["--bank", "baiyun_rcb"], "no such file"),
        ("x.csv", ["--bank", "nobody"], "no such bank"),
        ("x.csv", ["--bank", "baiyun_rcb"], "fits no agreed pattern"),
        ("x.csv", ["--bank", "baiyun_rcb", "--dataset", "flows"], "delivers no such dataset"),
        ("x.csv", ["--bank", "baiyun_rcb", "--dataset", "loans"], "fits no agreed pattern"),
        ("x.csv", ["--bank", "baiyun_rcb", "--dataset", "loans", "--period", "2024-3"], "YYYY-MM"),
        ("农户贷款借据_202413.csv", ["--bank", "baiyun_rcb"], "is no month"),
        ("x.csv", ["--bank", "baiyun_rcb", "--format", "xml"], "no such format"),
        ("x.csv", ["--bank", "baiyun_rcb", "--html", "nowhere/x.html"], "no such folder"),
        ("x.csv", [], "--bank"),
    ],
)
def test_misuse_is_one_line_and_exit_2(
    name: str, more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name != "no such file.csv":
        (tmp_path / name).write_bytes(b"a")
    assert run(["precheck", str(tmp_path / name), *more]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_name_that_would_not_be_taken_is_said(world: World, ws: Workspace, tmp_path: Path) -> None:
    source = world.drop / "baiyun_rcb" / "农户贷款借据_202403.csv"
    path = tmp_path / "三月.csv"
    path.write_bytes(source.read_bytes())
    found = precheck(ws, path, "baiyun_rcb", dataset="loans", period="2024-03")
    assert "不会被受理" in found.notes[0].zh
    assert precheck(ws, source, "baiyun_rcb", period="2024-02").notes[0].en == "the name says 2024-03, not 2024-02"


def test_a_file_that_cannot_be_read_shows_no_rows(ws: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "农户贷款借据_202403.csv"
    path.write_bytes("采集日期,内部机构号\n".encode() + b"\xff\xff\n")
    found = precheck(ws, path, "baiyun_rcb")
    assert found.outcome in ("rejected", "unreadable")
    assert {one["row"] for one in found.findings.to_pylist()} == {None}
    assert not found.is_clean


def test_a_month_before_any_agreement(ws: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "农户贷款借据_202312.csv"
    path.write_bytes(b"x\n")
    found = precheck(ws, path, "baiyun_rcb")
    assert (found.outcome, dict(found.counts_by_rule)) == ("rejected", {"P109": 1})


def test_too_many_findings_stop_it_and_it_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil_config = tmp_path / "config" / "banks"
    shutil_config.mkdir(parents=True)
    text = (PROJECT_ROOT / "config/banks/baiyun_rcb.yml").read_text(encoding="utf-8")
    (shutil_config / "baiyun_rcb.yml").write_text(text.replace("findings: 1_000_000", "findings: 5"), encoding="utf-8")
    environment = {"CREDITVILLAGE_HOME": str(tmp_path / "home"), "CREDITVILLAGE_CONFIG": str(tmp_path / "config")}
    monkeypatch.setattr(prechecking, "PIECE_ROWS", 50)
    monkeypatch.setattr("etl.intake.delimited.BLOCK_BYTES", 4_000)
    path = world.drop / "baiyun_rcb" / "农户贷款借据_202403.csv"
    found = precheck(Workspace(Settings.from_environment(environment)), path, "baiyun_rcb")
    assert found.stopped_at_row is not None
    assert found.rows_read == found.stopped_at_row < 190
    assert sum(found.counts_by_rule.values()) > 5


def test_a_town_log_is_checked_by_the_same_command(world: World, ws: Workspace) -> None:
    path = next((world.drop / "village_logs").glob("*.jsonl"))
    found = precheck(ws, path, "mediation")
    assert (found.dataset, found.period) == ("mediation", PERIOD)
    assert found.bank in path.name


def test_it_says_why(world: World, ws: Workspace, tmp_path: Path) -> None:
    """A GB18030 file sent as UTF-8 is told apart from a broken one, before it is sent."""
    sent = (world.drop / "baiyun_rcb" / "农户贷款借据_202403.csv").read_bytes()
    path = tmp_path / "农户贷款借据_202403.csv"
    path.write_bytes(sent.decode("gb18030").encode("utf-8"))
    found = precheck(ws, path, "baiyun_rcb")
    assert found.outcome == "unreadable"
    [cause] = found.diagnoses
    assert (cause["code"], "UTF-8" in cause["message_zh"]) == ("encoding", True)
