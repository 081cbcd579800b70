"""Landing: the copy is true, sealed, write-once, and every change to it is noticed."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from etl.intake import delivery
from etl.intake.delivery import Landed, SourceChangedError, land, land_written, landed_parts, open_landed
from etl.intake.sealing import FRAME_BYTES, LandingDamagedError, create_master_key, read_master_key
from etl.vocabulary import ConfigurationError
from tests.intake.making import DELIVERY

SIZES = [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES + 17]


@pytest.fixture
def master(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "master.key"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "drop" / "贷款.csv"
    path.parent.mkdir()
    path.write_bytes(os.urandom(2 * FRAME_BYTES + 100))
    return path


def landed(source: Path, master: Path, *parts: str) -> Landed:
    return land(str(source), parts, source.parent.parent / "landing", master, delivery_id=DELIVERY)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_landed_reads_back_from_any_position(size: int, source: Path, master: Path) -> None:
    content = os.urandom(size)
    source.write_bytes(content)
    found = landed(source, master)
    assert (found.sha256, found.size_bytes) == (hashlib.sha256(content).hexdigest(), size)
    with open_landed(found.path, found.wrapped_key, master) as file:
        assert file.read() == content
        for place in (0, size // 2, max(0, size - 3), size):
            file.seek(place)
            assert file.read(5) == content[place : place + 5]
        file.seek(-min(size, 4), os.SEEK_END)
        assert file.read() == content[-min(size, 4) :] if size else file.read() == b""


def test_the_landed_file_is_private_and_holds_no_plain_text(source: Path, master: Path) -> None:
    source.write_bytes("王秀英 341181198001010016".encode() * 1000)
    found = landed(source, master)
    assert found.path.name.startswith(f"{found.sha256}.{DELIVERY}.")
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.path.parent.stat().st_mode) == 0o700
    assert b"341181198001010016" not in found.path.read_bytes()
    assert [path for path in found.path.parent.parent.iterdir() if path.is_file()] == []


def test_the_suppliers_file_is_not_touched(source: Path, master: Path) -> None:
    before = source.stat()
    found = landed(source, master)
    after = source.stat()
    assert (after.st_ino, after.st_nlink, after.st_mtime_ns, after.st_mode) == (
        before.st_ino, before.st_nlink, before.st_mtime_ns, before.st_mode)  # fmt: skip
    assert found.path.stat().st_ino != before.st_ino


def test_a_file_rewritten_through_an_open_handle_does_not_change_the_landed_copy(source: Path, master: Path) -> None:
    content = source.read_bytes()
    with source.open("r+b") as handle:
        found = landed(source, master)
        handle.write(b"changed afterwards")
    with open_landed(found.path, found.wrapped_key, master) as file:
        assert file.read() == content


def test_parts_lie_in_one_landed_file_and_the_hash_is_that_of_the_suppliers_file(source: Path, master: Path) -> None:
    flag = source.with_name(source.name + ".ok")
    flag.write_bytes(b"done")
    found = landed(source, master, str(flag))
    assert [part.name for part in landed_parts(found.path, found.wrapped_key, master)] == ["贷款.csv", "贷款.csv.ok"]
    assert found.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    with open_landed(found.path, found.wrapped_key, master, part=1) as file:
        assert file.read() == b"done"
    with pytest.raises(LandingDamagedError, match="no part 3"):
        open_landed(found.path, found.wrapped_key, master, part=2)


def test_a_zip_can_be_read_in_place(source: Path, master: Path) -> None:
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("a.dat", b"x" * (3 * FRAME_BYTES))
    found = landed(source, master)
    with open_landed(found.path, found.wrapped_key, master) as file, zipfile.ZipFile(file) as archive:
        assert archive.read("a.dat") == b"x" * (3 * FRAME_BYTES)


def test_landing_twice_gives_two_files_and_overwrites_none(source: Path, master: Path) -> None:
    first, second = landed(source, master), landed(source, master)
    assert (first.sha256, first.path != second.path) == (second.sha256, True)
    for found in (first, second):
        with open_landed(found.path, found.wrapped_key, master) as file:
            assert file.read() == source.read_bytes()


def _flip(content: bytearray, place: int) -> None:
    content[place] ^= 1


def _swap_frames(content: bytearray) -> None:
    size, start = FRAME_BYTES + 16, 20
    first, second = content[start : start + size], content[start + size : start + 2 * size]
    content[start : start + 2 * size] = second + first


@pytest.mark.parametrize(
    "change",
    [
        lambda content: _flip(content, 9),
        lambda content: _flip(content, 15),
        lambda content: _flip(content, 100),
        lambda content: _flip(content, FRAME_BYTES + 100),
        lambda content: _flip(content, len(content) - 10),
        lambda content: _flip(content, len(content) - 1),
        _swap_frames,
        lambda content: content.__delitem__(slice(len(content) - 1, None)),
        lambda content: content.__delitem__(slice(len(content) - 200, None)),
        lambda content: content.__delitem__(slice(20, 20 + FRAME_BYTES + 16)),
        lambda content: content.__delitem__(slice(10, None)),
        lambda content: content.clear(),
        lambda content: content.extend(b"more"),
    ],
)
def test_any_change_of_a_landed_file_is_noticed(change, source: Path, master: Path) -> None:  # type: ignore[no-untyped-def]
    found = landed(source, master)
    content = bytearray(found.path.read_bytes())
    change(content)
    found.path.write_bytes(content)
    with pytest.raises(LandingDamagedError), open_landed(found.path, found.wrapped_key, master) as file:
        while file.read(1 << 16):
            pass


def test_without_its_keys_a_landed_file_stays_shut(source: Path, master: Path, tmp_path: Path) -> None:
    found = landed(source, master)
    other_source = source.with_name("other.csv")
    other_source.write_bytes(source.read_bytes())
    other = landed(other_source, master)
    stranger = tmp_path / "other.key"
    create_master_key(stranger)
    for key, master_key in ((other.wrapped_key, master), (found.wrapped_key, stranger), (b"", master)):
        with pytest.raises(LandingDamagedError, match="does not open it"):
            open_landed(found.path, key, master_key)


@pytest.mark.parametrize("changes", [{"size_bytes": 1}, {"mtime_ns": 1}])
def test_a_file_that_is_not_what_the_scan_saw_is_left(changes: dict[str, int], source: Path, master: Path) -> None:
    with pytest.raises(SourceChangedError):
        land(str(source), [], source.parent.parent / "landing", master, delivery_id=DELIVERY, **changes)


def test_a_file_that_grows_while_it_is_copied_is_left(
    source: Path, master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = delivery._seal_all

    def seal_and_grow(*arguments: object) -> object:
        sealed = seal(*arguments)  # type: ignore[arg-type]
        source.open("ab").write(b"late")
        return sealed

    monkeypatch.setattr(delivery, "_seal_all", seal_and_grow)
    with pytest.raises(SourceChangedError, match="changed while"):
        landed(source, master)
    assert list((source.parent.parent / "landing").rglob("*.landed")) == []


def test_links_folders_pipes_and_absent_files_are_refused(source: Path, master: Path) -> None:
    link, folder, pipe = (source.with_name(name) for name in ("link.csv", "folder.csv", "pipe.csv"))
    link.symlink_to(source)
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (link, folder, pipe, source.with_name("absent.csv")):
        with pytest.raises(SourceChangedError):
            landed(path, master)


def test_a_pull_is_hashed_as_the_sum_of_its_parts(tmp_path: Path, master: Path) -> None:
    writers = [("rows", lambda sink: sink.write(b"same")), ("keys", lambda sink: sink.write(b"k1k2"))]
    found = land_written(writers, tmp_path / "landing", master, delivery_id=DELIVERY, hash_all_parts=True)
    assert (found.sha256, found.size_bytes) == (hashlib.sha256(b"samek1k2").hexdigest(), 8)


def test_two_processes_agree_on_one_master_key(master: Path) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(create_master_key(master))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    assert stat.S_IMODE(master.stat().st_mode) == 0o600
    assert list(master.parent.iterdir()) == [master]


@pytest.mark.parametrize("content", ["", "zz", "ab" * 31])
def test_a_master_key_that_is_none_is_said_in_one_line(content: str, master: Path) -> None:
    master.parent.mkdir()
    master.write_text(content)
    master.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"master\.key: master key: .* — "):
        read_master_key(master)


def test_a_master_key_others_can_read_is_refused(master: Path) -> None:
    create_master_key(master)
    master.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_master_key(master)
