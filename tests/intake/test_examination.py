"""A delivery taken in piece by piece comes to what is known of it, however small the pieces are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from etl import deliveries, examination
from etl.deliveries import Subject, Verdict
from etl.intake.delivery import land
from etl.intake.sealing import create_master_key
from etl.intake.strings import Strings
from etl.ledger.records import Delivery
from etl.settings import Settings
from etl.tokens import TokenKey
from etl.workspace import Workspace
from simulator import simulate

NOW = datetime(2024, 3, 6, 1, 0, tzinfo=UTC)
PERIOD = "2024-02"
HOUSEHOLDS = 6_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    simulate(folder, PERIOD, HOUSEHOLDS, 7)
    return folder


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    made = Workspace(Settings.from_environment({"CREDITVILLAGE_HOME": str(tmp_path / "home")}))
    create_master_key(made.master_key_path)
    TokenKey.create(made.settings.token_key_path)
    return made


def _truth(world: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world / "truth.json").read_text("utf-8"))
    return found.get("periods", {}).get(PERIOD, found)


def _subject(ws: Workspace, path: Path, supplier: str, dataset: str) -> Subject:
    found = path.stat()
    delivery = Delivery(
        delivery_id=f"{supplier}-{dataset}-{PERIOD}-0001", supplier=supplier, dataset=dataset, period=PERIOD, sequence=1,
        revision=1, name=path.name, address=str(path), parts=(), mtime_ns=found.st_mtime_ns, size_bytes=found.st_size,
        sha256=None, landed_path=None, wrapped_key=None, step="claimed", outcome=None, in_force=False, superseded_by=None,
        rows_read=None, rows_accepted=None, rows_rejected=None, counts_by_rule={}, not_checked=(), ruleset=None,
        content=None, details={}, cutoff_at=None, claimed_at=NOW, stepped_at=NOW, finished_at=None,
        attempts=0,
    )  # fmt: skip
    landed = land(delivery.address, (), ws.settings.landing, ws.master_key_path, delivery_id=delivery.delivery_id)
    known = replace(
        delivery, sha256=landed.sha256, landed_path=str(landed.path), wrapped_key=landed.wrapped_key, step="landed"
    )
    return deliveries.subject_of(ws, known)


def _examined(ws: Workspace, subject: Subject, now: datetime | None = None) -> tuple[Verdict, Strings]:
    with ws.engine() as engine:
        return examination.examine(engine, ws, subject, now=now)


def _loan_files(world: Path) -> Iterator[tuple[str, str, Path]]:
    for entry in _truth(world)["deliveries"]:
        path = world / "drop" / entry["supplier"] / entry["file"]
        if path.is_file() and entry["outcome"].startswith("accepted"):
            yield entry["supplier"], entry["dataset"], path


@pytest.mark.parametrize("piece_rows", [60, 1 << 40])
def test_pieces_of_any_size_give_the_findings_of_truth(
    world: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch, piece_rows: int
) -> None:
    monkeypatch.setattr(examination, "PIECE_ROWS", piece_rows)
    truth = _truth(world)
    seen = 0
    for supplier, dataset, path in _loan_files(world):
        verdict, _ = _examined(ws, _subject(ws, path, supplier, dataset))
        planted = {
            (f["row"], f["rule"]) for f in truth["findings"] if (f["supplier"], f["file"]) == (supplier, path.name)
        }
        assert verdict.findings is not None
        found = verdict.findings.filter(pc.not_equal(verdict.findings["action"], "shadow"))
        assert set(zip(found["_row"].to_pylist(), found["rule"].to_pylist(), strict=True)) == planted, path.name
        seen += len(planted)
    assert seen > 30


def _csv(world: Path) -> tuple[list[str], bytes]:
    [path] = sorted((world / "drop" / "baiyun_rcb").glob("*.csv"))
    return path.read_bytes().decode("gb18030").split("\n"), path.name.encode()


@pytest.fixture
def repeated(world: Path, tmp_path: Path) -> Path:
    """The bank's CSV with its first clean line once more at the very end, and a second time in the middle."""
    lines, name = _csv(world)
    held = {f["row"] for f in _truth(world)["findings"] if f["file"] == name.decode()}
    first = next(row for row in range(1, len(lines)) if row not in held)
    body = [line for line in lines[1:] if line]
    twice = [*body[:120], body[first - 1], *body[120:], body[first - 1]]
    path = tmp_path / name.decode()
    path.write_bytes("\n".join([lines[0], *twice, ""]).encode("gb18030"))
    return path


def test_a_number_repeated_in_far_pieces_is_found_and_loses_nothing(
    repeated: Path, world: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "PIECE_ROWS", 50)
    subject = _subject(ws, repeated, "baiyun_rcb", "loans")
    verdict, strings = _examined(ws, subject, now=NOW)
    [unique] = [rule.id for rule in subject.contract.row_rules if rule.kind == "unique"]
    lines = repeated.read_bytes().decode("gb18030").rstrip("\n").split("\n")[1:]
    copies = [row for row, line in enumerate(lines, start=1) if line == lines[-1]]
    assert len(copies) == 3
    assert verdict.findings is not None
    of_rule = verdict.findings.filter(pc.equal(verdict.findings["rule"], unique))
    assert set(copies) <= set(of_rule["_row"].to_pylist())

    rejecting = {rule.id for rule in subject.contract.row_rules if rule.rejects}
    pairs = list(zip(*_columns(verdict.findings, "_row", "rule"), strict=True))
    unsplit = {row for row, rule in pairs if rule == "P201"}
    refused = {row for row, rule in pairs if rule in rejecting} | unsplit
    accepted = pq.read_table(deliveries.path_of(ws, "accepted", subject.delivery))
    rejected = pq.read_table(deliveries.path_of(ws, "rejected", subject.delivery))
    quarantine = pq.read_table(deliveries.path_of(ws, "quarantine", subject.delivery))
    assert accepted["_row"].to_pylist() == [row for row in range(1, len(lines) + 1) if row not in refused]
    assert verdict.rows_rejected == len(refused) == len(rejected) + len(unsplit)
    assert quarantine["refused_row"].to_pylist() == sorted(refused)
    assert quarantine["_row"].null_count == len(unsplit) == 1
    assert strings.table["_row"].to_pylist() == sorted({row for row, _ in pairs} - unsplit)


def _columns(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def test_a_delivery_refused_as_a_whole_leaves_no_rows_behind(
    repeated: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "PIECE_ROWS", 50)
    lines = repeated.read_bytes().split(b"\n")
    repeated.write_bytes(b"\n".join([*lines[:200], b"\xff\xfe" + lines[200], *lines[201:]]))
    subject = _subject(ws, repeated, "baiyun_rcb", "loans")
    verdict, _ = _examined(ws, subject)
    assert verdict.outcome == "unreadable"
    assert not [path for path in ws.settings.restricted.rglob("*.parquet*") if path.is_file()]
