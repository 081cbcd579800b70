"""Drop zones on an SFTP server and in an object store: the same scan, the same landing, hosts checked, secrets kept."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncssh
import pytest
import s3fs

from etl import pipeline
from etl.intake.arrivals import Scan, scan
from etl.intake.delivery import SourceChangedError, land, open_landed
from etl.intake.drops import CALL_SECONDS, Drops, DropUnreachableError, Listed
from etl.period import Period
from etl.registry import Registry, load_registry
from etl.settings import PROJECT_ROOT, Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace
from tests.intake.bankdesk import NOW, configured, put, settings_at, small_world
from tests.intake.making import make_pboc
from tests.intake.servers import PASSWORD, USER, SshServer, s3_server

BANK = "xinhe_vb"
NAME = "贷款台账2024-03.xlsx"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    server = SshServer(tmp_path / "server")
    yield server
    server.end()


@pytest.fixture
def access(server: SshServer, tmp_path: Path) -> Path:
    """The folder that says who we are: a key, and the one host we know."""
    folder = tmp_path / "access"
    folder.mkdir()
    (folder / "known_hosts").write_text(server.known_host())
    server.client_key.write_private_key(str(folder / "xinhe.key"))
    write_access(folder, "client_key: xinhe.key\n")
    return folder


def write_access(folder: Path, text: str, mode: int = 0o600) -> None:
    place = folder / f"{BANK}.yml"
    place.write_text(text)
    place.chmod(mode)


@pytest.fixture
def config(server: SshServer, tmp_path: Path) -> Path:
    return configured(tmp_path / "config", BANK, drop=server.address)


@pytest.fixture
def desk(access: Path, config: Path, home: Path) -> Desk:
    return Desk(settings_at(home, "postgresql://nobody@localhost/none", CONFIG=config, DROP_ACCESS=access))


class Desk:
    """Scans that remember the one before, ten seconds apart."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.registry = settings, load_registry(settings.config)
        self.last, self.looks = Scan(), 0

    def look(self) -> Scan:
        self.looks += 1
        now = NOW + timedelta(seconds=10 * self.looks)
        self.last = scan(self.registry, self.settings, now=now, seen=self.last.observations)
        return self.last

    def reasons(self) -> dict[str, str]:
        found = self.look()
        return {one.name: one.reason for one in (*found.waiting, *found.unrecognised)}


def zone_of(server: SshServer, access: Path, seconds: float = CALL_SECONDS) -> list[Listed]:
    return Drops(access, seconds=seconds, connect_seconds=seconds).zone(BANK, server.address).list()


def upload(server: SshServer, name: str, content: bytes) -> Path:
    place = server.root / "in" / name
    place.write_bytes(content)
    return place


def test_a_file_is_scanned_twice_landed_and_left_alone(desk: Desk, server: SshServer, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    place = upload(server, NAME, content)
    before = place.stat()
    assert desk.reasons() == {NAME: "growing"}
    [arrival] = desk.look().arrivals
    assert (arrival.supplier, arrival.address) == (BANK, f"{server.address}/{NAME}")
    landed = land(
        arrival.address, (), tmp_path / "landing", tmp_path / "master.key", delivery_id="d", owner=BANK,
        size_bytes=arrival.size_bytes, mtime_ns=arrival.mtime_ns, drops=Drops(desk.settings.drop_access),
    )  # fmt: skip
    with open_landed(landed.path, landed.wrapped_key, tmp_path / "master.key") as file:
        assert file.read() == content
    assert landed.sha256 == hashlib.sha256(content).hexdigest()
    after = place.stat()
    assert (after.st_ino, after.st_nlink, after.st_mtime_ns) == (before.st_ino, 1, before.st_mtime_ns)


def test_no_connection_is_left_behind(desk: Desk, server: SshServer, access: Path) -> None:
    upload(server, NAME, b"x")
    for _ in range(3):
        desk.look()
    zone = Drops(access).zone(BANK, server.address)
    with zone.open(NAME) as file:
        assert (file.read(), server.connected >= 1) == (b"x", True)
    zone.close()
    del file
    for _ in range(100):
        if server.connected == 0:
            break
        time.sleep(0.1)
    assert server.connected == 0


def test_an_upload_under_way_is_not_taken(desk: Desk, server: SshServer) -> None:
    place = upload(server, NAME, b"first")
    for part in (b"second", b"third"):
        assert desk.reasons() == {NAME: "growing"}
        with place.open("ab") as file:
            file.write(part)
    assert desk.reasons() == {NAME: "growing"}
    assert [one.size_bytes for one in desk.look().arrivals] == [len(b"firstsecondthird")]


def test_a_zip_on_a_server_is_taken_when_its_directory_can_be_read(
    server: SshServer, access: Path, home: Path, tmp_path: Path
) -> None:
    config = configured(tmp_path / "config", "qinghe_rcb", drop=server.address)
    (access / f"{BANK}.yml").rename(access / "qinghe_rcb.yml")
    desk = Desk(settings_at(home, "postgresql://nobody@localhost/none", CONFIG=config, DROP_ACCESS=access))
    content = make_pboc(b"A1|x|1", 1)
    upload(server, "CLGRDK_20240331.zip", content[:-30])
    desk.look()
    assert desk.reasons() == {"CLGRDK_20240331.zip": "incomplete_zip"}
    upload(server, "CLGRDK_20240331.zip", content)
    desk.look()
    assert [one.name for one in desk.look().arrivals] == ["CLGRDK_20240331.zip"]


def test_a_temporary_name_is_ignored_until_its_owner_renames_it(desk: Desk, server: SshServer) -> None:
    place = upload(server, f"{NAME}.part", b"x")
    assert (desk.reasons(), desk.look().arrivals) == ({}, [])
    place.rename(place.with_name(NAME))
    desk.look()
    assert [one.name for one in desk.look().arrivals] == [NAME]


def test_a_file_rewritten_after_the_scan_is_not_landed(desk: Desk, server: SshServer, tmp_path: Path) -> None:
    place = upload(server, NAME, b"first")
    desk.look()
    [arrival] = desk.look().arrivals
    os.utime(place, (1, 1))
    with pytest.raises(SourceChangedError, match="written again"):
        land(
            arrival.address, (), tmp_path / "landing", tmp_path / "master.key", delivery_id="d", owner=BANK,
            size_bytes=5, mtime_ns=arrival.mtime_ns, drops=Drops(desk.settings.drop_access),
        )  # fmt: skip


def test_a_link_on_the_server_is_not_followed(desk: Desk, server: SshServer) -> None:
    upload(server, "secret", b"x").rename(server.root / "secret")
    (server.root / "in" / NAME).symlink_to("../secret")
    assert desk.reasons() == {NAME: "not_a_file"}


def test_a_host_with_another_key_is_not_talked_to_and_the_others_are(
    desk: Desk, server: SshServer, access: Path
) -> None:
    (access / "known_hosts").write_text(server.known_host(asyncssh.generate_private_key("ssh-ed25519")))
    upload(server, NAME, b"x")
    put(desk.settings, "qinghe_rcb", "notes.txt", b"x")
    assert desk.reasons() == {"": "unreachable", "notes.txt": "no_pattern"}
    with pytest.raises(DropUnreachableError, match="HostKeyNotVerifiable"):
        zone_of(server, access)


def test_without_a_known_host_nothing_is_asked(server: SshServer, access: Path) -> None:
    (access / "known_hosts").unlink()
    with pytest.raises(ConfigurationError, match="no host is known"):
        zone_of(server, access)


def test_a_server_that_refuses_us_is_unreachable(server: SshServer, access: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(access / "xinhe.key"))
    with pytest.raises(DropUnreachableError, match="PermissionError"):
        zone_of(server, access)


def test_a_password_works_and_is_seen_nowhere(
    server: SshServer, access: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write_access(access, f"password: {PASSWORD}\n")
    upload(server, NAME, b"x")
    zone = Drops(access).zone(BANK, server.address)
    assert [one.name for one in zone.list()] == [NAME]
    write_access(access, f"password: wrong-{PASSWORD}\n")
    with pytest.raises(DropUnreachableError) as refused:
        zone_of(server, access)
    assert PASSWORD not in caplog.text + str(refused.value) + repr(zone)


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (f"password: {PASSWORD}\n", 0o644, "chmod 600"),
        (f"pasword: {PASSWORD}\n", 0o600, "unknown key"),
        (f"password: [{PASSWORD}]\n", 0o600, "password"),
    ],
)
def test_a_bad_access_file_is_named_without_its_content(
    server: SshServer, access: Path, text: str, mode: int, says: str
) -> None:
    write_access(access, text, mode)
    with pytest.raises(ConfigurationError, match=says) as refused:
        zone_of(server, access)
    assert PASSWORD not in str(refused.value)


def test_an_address_with_a_password_is_a_configuration_error(tmp_path: Path) -> None:
    config = configured(tmp_path / "config", BANK, drop=f"sftp://{USER}:{PASSWORD}@127.0.0.1/in")
    with pytest.raises(ConfigurationError, match=r"drop: .*password") as refused:
        load_registry([config])
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("sftp://baiyun@bank/in", "no host is known"),
        ("gopher://bank/in", "nobody knows gopher://"),
    ],
)
def test_a_zone_that_cannot_be_asked_at_all_is_found_before_anything_runs(
    address: str, says: str, tmp_path: Path, home: Path
) -> None:
    config = configured(tmp_path / "config", BANK, drop=address)
    settings = Settings.from_environment({"CREDITVILLAGE_HOME": str(home), "CREDITVILLAGE_CONFIG": str(config)})
    with pytest.raises(ConfigurationError, match=says):
        Workspace(settings).require_configuration(Period(2024, 3))
    assert not home.exists()


def test_a_server_that_stops_answering_is_left_in_time(server: SshServer, access: Path) -> None:
    server.stalls = True
    with pytest.raises(DropUnreachableError, match="TimeoutError"):
        zone_of(server, access, seconds=1.0)


def test_a_port_that_never_speaks_is_left_in_time(access: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"sftp://{USER}@127.0.0.1:{silent.getsockname()[1]}/in"
        with pytest.raises(DropUnreachableError):
            Drops(access, seconds=3.0, connect_seconds=0.5).zone(BANK, address).list()


def test_a_bank_on_a_server_gets_its_receipt_also_after_an_outage(
    server: SshServer, access: Path, config: Path, home: Path, database_url: str, tmp_path: Path
) -> None:
    source = next((small_world(tmp_path / "world") / "drop" / BANK).glob("*.xlsx"))
    upload(server, NAME, source.read_bytes())
    settings = settings_at(home, database_url, CONFIG=config, DROP_ACCESS=access)
    assert pipeline.scan(settings, now=NOW) == []
    assert (settings.outbox / BANK / "not_taken.txt").read_text("utf-8").startswith(NAME)
    [claimed] = pipeline.scan(settings, now=NOW + timedelta(seconds=10))
    server.stop()
    with pytest.raises(DropUnreachableError) as outage:
        pipeline.take_in(settings, claimed.delivery_id, now=NOW)
    assert isinstance(outage.value, ConnectionError), "a task that meets it is tried again"
    server.start()
    taken = pipeline.take_in(settings, claimed.delivery_id, now=NOW)
    assert taken.outcome in ("accepted", "accepted_with_warnings")
    assert taken.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert len(list(settings.outbox.rglob("*.receipt.json"))) == 1


# -- object store -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3: str) -> Iterator[s3fs.S3FileSystem]:
    files = s3fs.S3FileSystem(
        key="bank", secret=PASSWORD, client_kwargs={"endpoint_url": s3, "region_name": "eu-west-1"}
    )
    files.mkdir("drops")
    files.pipe_file("drops/xinhe/", b"")
    yield files
    files.rm("drops", recursive=True)


def s3_registry(tmp_path: Path) -> Registry:
    return load_registry([configured(tmp_path / "config", BANK, drop="s3://drops/xinhe"), PROJECT_ROOT / "config"])


def test_an_object_is_scanned_and_landed_by_the_same_code(s3: str, bucket: s3fs.S3FileSystem, tmp_path: Path) -> None:
    access, content = tmp_path / "access", os.urandom(2_500_000)
    access.mkdir()
    write_access(access, f"key: bank\nsecret: {PASSWORD}\nendpoint_url: {s3}\nregion: eu-west-1\n")
    bucket.pipe_file(f"drops/xinhe/{NAME}", content)
    bucket.pipe_file("drops/xinhe/older/x.xlsx", b"x")
    settings = settings_at(tmp_path / "home", "postgresql://nobody@localhost/none", DROP_ACCESS=access)
    registry = s3_registry(tmp_path)
    first = scan(registry, settings, now=NOW)
    assert {one.name: one.reason for one in (*first.waiting, *first.unrecognised)} == {
        NAME: "growing", "older": "not_a_file",
    }  # fmt: skip
    [arrival] = scan(registry, settings, now=NOW + timedelta(seconds=10), seen=first.observations).arrivals
    assert arrival.address == f"s3://drops/xinhe/{NAME}"
    landed = land(
        arrival.address, (), tmp_path / "landing", tmp_path / "master.key", delivery_id="d", owner=BANK,
        size_bytes=arrival.size_bytes, mtime_ns=arrival.mtime_ns, drops=Drops(access),
    )  # fmt: skip
    assert (landed.sha256, landed.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def test_a_folder_nothing_was_ever_put_in_is_empty_and_a_missing_bucket_is_not(
    s3: str, bucket: s3fs.S3FileSystem, tmp_path: Path
) -> None:
    write_access(tmp_path, f"key: bank\nsecret: {PASSWORD}\nendpoint_url: {s3}\nregion: eu-west-1\n")
    assert Drops(tmp_path).zone(BANK, "s3://drops/nobody").list() == []
    with pytest.raises(FileNotFoundError):
        Drops(tmp_path).zone(BANK, "s3://no-such-bucket/in").list()


def test_an_object_store_out_of_reach_is_one_named_error(tmp_path: Path) -> None:
    access = tmp_path / "access"
    access.mkdir()
    write_access(access, f"key: bank\nsecret: {PASSWORD}\nendpoint_url: http://127.0.0.1:1\n")
    with pytest.raises(DropUnreachableError, match="s3://drops/xinhe") as refused:
        Drops(access, seconds=20.0, connect_seconds=0.5).zone(BANK, "s3://drops/xinhe").list()
    assert PASSWORD not in str(refused.value)
