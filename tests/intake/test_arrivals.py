"""Arrivals: what is complete is taken, what is half written is not, and what nobody agreed on is reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from etl.intake.arrivals import (
    Listed,
    Patience,
    Scan,
    file_pattern,
    observe,
    scan,
    settled,
)
from etl.intake.delivery import land, open_landed
from etl.registry import Registry, load_registry
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from tests.intake.making import make_pboc

NOW = datetime(2024, 4, 3, 9, 0, tzinfo=UTC)
TOWN = "341181100000"


@pytest.fixture
def registry(project_root: Path) -> Registry:
    return load_registry([project_root / "config"])


@pytest.fixture
def desk(registry: Registry, tmp_path: Path) -> Desk:
    return Desk(registry, tmp_path / "home")


class Desk:
    """A home with drop zones and scans that remember the one before."""

    def __init__(self, registry: Registry, home: Path) -> None:
        self.registry = registry
        self.settings = Settings.from_environment({"CREDITVILLAGE_HOME": str(home)})
        self.last = Scan()
        owners = (*registry.banks.values(), *registry.sources.values())
        for zone in {owner.drop for owner in owners if owner.drop}:
            Path(zone.format(drop=self.settings.drop)).mkdir(parents=True)

    def put(self, zone: str, name: str, content: bytes = b"x") -> Path:
        path = self.settings.drop / zone / name
        path.write_bytes(content)
        os.utime(path, (NOW.timestamp() - 600, NOW.timestamp() - 600))
        return path

    def look(self, minutes: float = 0, **more: object) -> Scan:
        now = NOW + timedelta(minutes=minutes)
        self.last = scan(self.registry, self.settings, now=now, seen=self.last.observations, **more)  # type: ignore[arg-type]
        return self.last


def names(found: Scan) -> list[str]:
    return [arrival.name for arrival in found.arrivals]


def reasons(found: Scan) -> dict[str, str]:
    return {entry.name: entry.reason for entry in (*found.waiting, *found.unrecognised)}


def test_an_arrival_says_whose_it_is_and_what_it_is(desk: Desk) -> None:
    path = desk.put("xinhe_vb", "贷款台账2024-03-v2.xlsx", b"12345")
    desk.look()
    (arrival,) = desk.look(1).arrivals
    assert (arrival.supplier, arrival.dataset, arrival.period, arrival.name) == (
        "xinhe_vb", "loans", "2024-03", "贷款台账2024-03-v2.xlsx")  # fmt: skip
    assert (arrival.address, arrival.size_bytes, arrival.parts) == (str(path), 5, ())
    assert arrival.mtime_ns == path.stat().st_mtime_ns


def test_a_file_without_a_flag_must_look_the_same_twice(desk: Desk) -> None:
    path = desk.put("xinhe_vb", "贷款台账2024-03.xlsx")
    assert reasons(desk.look()) == {path.name: "growing"}
    path.write_bytes(b"xx")
    assert reasons(desk.look(1)) == {path.name: "growing"}
    os.utime(path, ns=(1, 1))
    assert reasons(desk.look(2)) == {path.name: "growing"}
    assert names(desk.look(3)) == [path.name]


def test_the_two_looks_must_be_far_enough_apart(desk: Desk) -> None:
    path = desk.put("xinhe_vb", "贷款台账2024-03.xlsx")
    patience = Patience(quiet_seconds=120)
    assert names(desk.look(0, patience=patience)) == []
    assert names(desk.look(1, patience=patience)) == []
    assert names(desk.look(2, patience=patience)) == [path.name]


def test_an_old_file_may_be_taken_at_first_sight(desk: Desk) -> None:
    path = desk.put("xinhe_vb", "贷款台账2024-03.xlsx")
    assert names(desk.look(0, patience=Patience(single_scan_after_seconds=601))) == []
    desk.last = Scan()
    assert names(desk.look(0, patience=Patience(single_scan_after_seconds=600))) == [path.name]


def test_a_flagged_file_is_taken_with_its_flag_and_not_before(desk: Desk) -> None:
    path = desk.put("baiyun_rcb", "农户贷款借据_20240331.csv")
    assert reasons(desk.look()) == {path.name: "flag_missing"}
    assert reasons(desk.look(5)) == {path.name: "flag_missing"}
    flag = desk.put("baiyun_rcb", path.name + ".ok", b"")
    found = desk.look(6)
    assert [arrival.parts for arrival in found.arrivals] == [(str(flag),)]
    assert reasons(found) == {}


def test_the_flag_of_the_file_before_does_not_vouch_for_one_that_is_being_written_over_it(desk: Desk) -> None:
    path = desk.put("baiyun_rcb", "农户贷款借据_202403.csv", b"new, and only ha")
    flag = desk.put("baiyun_rcb", path.name + ".ok", b"")
    os.utime(path, (NOW.timestamp() - 1, NOW.timestamp() - 1))
    assert reasons(desk.look()) == {path.name: "growing"}
    path.write_bytes(b"new, and whole")
    assert reasons(desk.look(1)) == {path.name: "growing"}
    flag.touch()
    assert names(desk.look(1.5)) == [path.name]


def test_a_flag_that_came_first_is_no_reason_to_wait_for_ever(desk: Desk) -> None:
    path = desk.put("baiyun_rcb", "农户贷款借据_202403.csv")
    flag = desk.put("baiyun_rcb", path.name + ".ok", b"")
    os.utime(flag, (NOW.timestamp() - 700, NOW.timestamp() - 700))
    assert names(desk.look()) == []
    assert names(desk.look(1)) == [path.name]


def test_a_flag_without_its_file_waits(desk: Desk) -> None:
    flag = desk.put("baiyun_rcb", "农户贷款借据_202403.csv.ok")
    assert reasons(desk.look()) == {flag.name: "file_missing"}


def test_a_zip_is_taken_when_its_directory_can_be_read(desk: Desk) -> None:
    content = make_pboc(b"A1|x|1", 1)
    path = desk.put("qinghe_rcb", "CLGRDK_202403.zip", content[:-30])
    desk.look()
    assert reasons(desk.look(1)) == {path.name: "incomplete_zip"}
    path.write_bytes(content)
    assert reasons(desk.look(2)) == {path.name: "growing"}
    assert names(desk.look(3)) == [path.name]


def test_a_zip_that_stays_broken_is_taken_in_the_end_to_be_answered(desk: Desk) -> None:
    path = desk.put("qinghe_rcb", "CLGRDK_202403.zip", b"broken")
    desk.look()
    assert names(desk.look(4.9)) == []
    assert names(desk.look(5)) == [path.name]


@pytest.mark.parametrize("name", [".CLGRDK_202403.zip", "CLGRDK_202403.zip.part", "x.tmp", "x.filepart"])
def test_temporary_names_are_ignored(desk: Desk, name: str) -> None:
    desk.put("qinghe_rcb", name)
    desk.look()
    found = desk.look(1)
    assert (names(found), reasons(found)) == ([], {})


@pytest.mark.parametrize(
    ("zone", "name", "reason"),
    [
        ("qinghe_rcb", "notes.txt", "no_pattern"),
        ("qinghe_rcb", "CLGRDK_202413.zip", "no_period"),
        ("qinghe_rcb", "CLGRDK_２０２４０３.zip", "no_pattern"),
        ("qinghe_rcb", "CLGRDK_202403.zip.ok", "no_pattern"),
        ("qinghe_rcb", "CLGRDK_202403\n.zip", "bad_name"),
        ("qinghe_rcb", "CLGRDK_202403\u202egpj.zip", "bad_name"),
        ("village_logs", "mediation_999999999999_202403.jsonl", "no_supplier"),
        ("village_logs", f"mediation_{TOWN}_202403.csv", "no_pattern"),
    ],
)
def test_what_nobody_agreed_on_is_reported(desk: Desk, zone: str, name: str, reason: str) -> None:
    desk.put(zone, name)
    desk.look()
    found = desk.look(1)
    assert (names(found), reasons(found)) == ([], {name: reason})


def test_links_and_folders_are_never_followed(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret.zip"
    secret.write_bytes(make_pboc(b"", 0))
    (desk.settings.drop / "qinghe_rcb" / "CLGRDK_202403.zip").symlink_to(secret)
    (desk.settings.drop / "qinghe_rcb" / "CLGRDK_202402.zip").mkdir()
    desk.look()
    assert reasons(desk.look(1)) == {"CLGRDK_202402.zip": "not_a_file", "CLGRDK_202403.zip": "not_a_file"}


def test_towns_are_suppliers_named_by_the_file(desk: Desk) -> None:
    for ending in ("jsonl", "xlsx"):
        desk.put("village_logs", f"mediation_{TOWN}_202403.{ending}")
    desk.look()
    assert {(entry.supplier, entry.dataset) for entry in desk.look(1).arrivals} == {(TOWN, "mediation")}


def test_arrivals_come_in_one_order(desk: Desk) -> None:
    for seconds, name in ((3, "CLGRDK_20240331_a.zip"), (1, "CLGRDK_20240331_b.zip"), (2, "CLGRDK_20240229.zip")):
        path = desk.put("qinghe_rcb", name, make_pboc(b"", 0))
        os.utime(path, (seconds, seconds))
    desk.look()
    assert names(desk.look(1)) == ["CLGRDK_20240229.zip", "CLGRDK_20240331_b.zip", "CLGRDK_20240331_a.zip"]


def test_what_is_already_claimed_is_passed_over(desk: Desk) -> None:
    desk.put("xinhe_vb", "贷款台账2024-03.xlsx")
    desk.look()
    (arrival,) = desk.look(1).arrivals
    taken = {(arrival.address, arrival.size_bytes, arrival.mtime_ns)}
    found = desk.look(2, taken=taken)
    assert (names(found), reasons(found)) == ([], {})


def test_a_zone_out_of_reach_disturbs_no_other(desk: Desk) -> None:
    (desk.settings.drop / "qinghe_rcb").rmdir()
    desk.put("xinhe_vb", "贷款台账2024-03.xlsx")
    desk.look()
    found = desk.look(1)
    assert names(found) == ["贷款台账2024-03.xlsx"]
    assert [(entry.supplier, entry.reason) for entry in found.waiting] == [("qinghe_rcb", "unreachable")]


def test_another_drop_folder_may_be_scanned(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "other" / "xinhe_vb"
    other.mkdir(parents=True)
    (other / "贷款台账2024-03.xlsx").write_bytes(b"x")
    desk.look(0, drop=other.parent)
    assert names(desk.look(1, drop=other.parent)) == ["贷款台账2024-03.xlsx"]


def test_settling_is_decided_by_size_and_time() -> None:
    listing = [Listed("a", "a", 1, 10), Listed("b", "b", 2, 20)]
    before = observe({}, [Listed("a", "a", 1, 10), Listed("b", "b", 2, 19)], now=NOW)
    assert settled(before, listing, now=NOW + timedelta(seconds=1)) == {"a"}
    again = observe(before, listing, now=NOW + timedelta(seconds=1))
    assert (again["a"].since, again["b"].since) == (NOW.isoformat(), (NOW + timedelta(seconds=1)).isoformat())


@pytest.mark.parametrize("pattern", ["LOANS*.csv", "{period:%Y}.csv", "{period:%Y%m}_{period:%Y%m}.csv"])
def test_a_pattern_without_one_month_is_a_configuration_error(pattern: str) -> None:
    with pytest.raises(ConfigurationError):
        file_pattern(pattern)


@pytest.fixture
def remote_zone(registry: Registry) -> Iterator[Registry]:
    """The bank's drop zone on another kind of file system."""
    files = fsspec.filesystem("memory")
    files.mkdirs("/bank")
    bank = registry.banks["xinhe_vb"].model_copy(update={"drop": "memory://bank"})
    yield Registry(registry.county, {"xinhe_vb": bank}, {}, registry.codes, registry.places, registry.folders)
    files.rm("/bank", recursive=True)


def test_any_file_system_is_scanned_and_landed_by_the_same_code(remote_zone: Registry, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/bank/贷款台账2024-03.xlsx", b"12345")
    settings = Settings.from_environment({"CREDITVILLAGE_HOME": str(tmp_path)})
    first = scan(remote_zone, settings, now=NOW)
    (arrival,) = scan(remote_zone, settings, now=NOW, seen=first.observations).arrivals
    master = tmp_path / "master.key"
    landed = land(
        arrival.address, arrival.parts, tmp_path / "landing", master,
        delivery_id="d", size_bytes=arrival.size_bytes, mtime_ns=arrival.mtime_ns,
    )  # fmt: skip
    with open_landed(landed.path, landed.wrapped_key, master) as file:
        assert file.read() == b"12345"
