"""OpenPGP packages with the real gpg: decrypted whole or not at all, and nothing of a key in what is said."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from etl import deliveries
from etl.intake.delivery import land
from etl.intake.strings import Strings
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace
from tests.intake.making import (
    DELIVERY,
    NAMES,
    cells_of,
    make_feed,
    make_layout,
    make_zip,
    read_bytes,
    read_delivery,
    rules_of,
)

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="needs Debian's gnupg")

BODY = "loan_no,borrower_name,balance_yuan\nA1,王𠮷,1\nA2,李,2\n".encode()
ROWS = [("A1", "王𠮷", "1"), ("A2", "李", "2")]
OPENPGP = make_feed("openpgp")
COUNTY, BANK, STRANGER = "county@example.invalid", "bank@example.invalid", "stranger@example.invalid"


@dataclass(frozen=True)
class Ring:
    """A GnuPG home with the secret keys of its owners; gpg's sockets need a short path."""

    home: Path

    def gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--trust-model", "always"]
        command += ["--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout

    def add_key(self, owner: str, *, passphrase: str = "") -> None:
        secret = ["--passphrase", passphrase] if passphrase else []
        self.gpg(*secret, "--quick-generate-key", owner, "future-default", "default", "never")

    def fingerprint(self, owner: str) -> str:
        listing = self.gpg("--with-colons", "--list-keys", owner).decode()
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))

    def encrypt(self, plain: bytes, *options: str, to: str = COUNTY) -> bytes:
        return self.gpg("--recipient", to, *options, "--encrypt", given=plain)


@pytest.fixture(scope="module")
def make_ring() -> Iterator[Any]:
    homes: list[Path] = []

    def make(*owners: str) -> Ring:
        homes.append(Path(tempfile.mkdtemp(prefix="ring-")))
        ring = Ring(homes[-1])
        for owner in owners:
            ring.add_key(owner)
        return ring

    yield make
    for home in homes:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def county(make_ring: Any) -> Ring:
    return make_ring(COUNTY)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def bank(make_ring: Any, county: Ring) -> Ring:
    """The bank's ring knows the county's public key; the county knows the bank's."""
    ring: Ring = make_ring(BANK, STRANGER)
    ring.gpg("--import", given=county.gpg("--export", COUNTY))
    county.gpg("--import", given=ring.gpg("--export", BANK))
    return ring


def opened(content: bytes, county: Ring, feed: Any = OPENPGP, name: str = "LOANS.csv.gpg", **more: Any) -> Strings:
    return read_bytes(content, make_layout(), feed, name, keyring=county.home, **more)


def test_an_encrypted_file_is_read_under_the_name_it_had(county: Ring, bank: Ring, tmp_path: Path) -> None:
    for content in (bank.encrypt(BODY), bank.encrypt(BODY, "--armor")):
        read = opened(content, county, scratch=tmp_path)
        assert cells_of(read, "_member", *NAMES) == [("LOANS.csv", *row) for row in ROWS]
        assert (read.file_findings, list(tmp_path.iterdir())) == ([], [])


def test_what_is_inside_is_opened_too(county: Ring, bank: Ring) -> None:
    inner = {"gzip": gzip.compress(BODY), "zip": make_zip({"a.csv": BODY})}
    for kind, content in inner.items():
        read = opened(bank.encrypt(content), county, make_feed("openpgp", inside=kind))
        assert (cells_of(read, *NAMES), read.file_findings) == (ROWS, [])
    packed = gzip.compress(bank.encrypt(BODY))
    assert cells_of(opened(packed, county, make_feed("gzip", inside="openpgp")), *NAMES) == ROWS


def test_what_is_damaged_foreign_or_not_encrypted_is_p107(county: Ring, bank: Ring) -> None:
    whole = bank.encrypt(BODY * 2000, "--compress-algo", "none")
    altered = bytearray(whole)
    altered[-200] ^= 1
    contents = {
        "truncated": whole[:-30],
        "cut in the middle": whole[: len(whole) // 2],
        "altered": bytes(altered),
        "empty": b"",
        "plain text": BODY,
        "only signed": bank.gpg("--local-user", BANK, "--sign", given=BODY),
        "only packed": bank.gpg("--store", given=BODY),
        "with a password": bank.gpg("--passphrase", "x", "--symmetric", given=BODY),
        "for somebody else": bank.encrypt(BODY, to=STRANGER),
    }
    for what, content in contents.items():
        read = opened(content, county)
        assert (rules_of(read), read.table.num_rows) == (["P107"], 0), what
    (finding,) = opened(contents["for somebody else"], county).file_findings
    assert finding.message_en == "it is not encrypted to the county's key"


def test_the_agreed_signer_must_have_signed(county: Ring, bank: Ring) -> None:
    feed = make_feed("openpgp", signer=bank.fingerprint(BANK))
    bank.gpg("--import", given=county.gpg("--export", COUNTY))
    county.gpg("--import", given=bank.gpg("--export", STRANGER))
    signed = bank.encrypt(BODY, "--local-user", BANK, "--sign")
    assert cells_of(opened(signed, county, feed), *NAMES) == ROWS
    for options in ((), ("--local-user", STRANGER, "--sign")):
        read = opened(bank.encrypt(BODY, *options), county, feed)
        assert [found.message_en for found in read.file_findings] == ["it is not signed by the agreed key"]
    assert cells_of(opened(signed, county), *NAMES) == ROWS


def test_a_bomb_is_given_up(county: Ring, bank: Ring) -> None:
    bomb = bank.encrypt(b"1,x,1\n" * (6 << 20), "--compress-algo", "zlib", "--compress-level", "9")
    assert len(bomb) < 100_000
    (finding,) = opened(bomb, county).file_findings
    assert (finding.rule, finding.message_en) == ("P107", "it unpacks to too much")


def test_nothing_said_names_a_key_or_its_owner(county: Ring, bank: Ring, capfd: pytest.CaptureFixture[str]) -> None:
    said = ""
    for content in (bank.encrypt(BODY, to=STRANGER), bank.encrypt(BODY)[:-30], bank.encrypt(BODY)):
        said += str(opened(content, county).file_findings)
    captured = capfd.readouterr()
    said += captured.out + captured.err
    secret = [COUNTY, STRANGER, *(ring.fingerprint(owner) for ring, owner in ((county, COUNTY), (bank, STRANGER)))]
    assert not [word for word in (*secret, *(long[-16:] for long in secret)) if word in said]


def test_a_key_with_a_passphrase_is_opened_by_its_file(make_ring: Any, bank: Ring) -> None:
    ring = make_ring()
    ring.add_key("locked@example.invalid", passphrase="correct horse")
    bank.gpg("--import", given=ring.gpg("--export", "locked@example.invalid"))
    content = bank.encrypt(BODY, to="locked@example.invalid")
    subprocess.run(["gpgconf", "--homedir", str(ring.home), "--kill", "all"], check=True)
    for wrong in (None, "wrong"):
        if wrong:
            (ring.home / "passphrase").write_text(wrong)
        with pytest.raises(ConfigurationError, match="the secret key is locked — write its passphrase to"):
            opened(content, ring)
    (ring.home / "passphrase").write_text("correct horse\n")
    assert cells_of(opened(content, ring), *NAMES) == ROWS


def test_a_missing_key_or_program_is_our_fault_in_one_line(
    county: Ring, bank: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bank.encrypt(BODY)
    for keyring in (None, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match=r"no secret key to decrypt with — gpg --homedir .* --import"):
            read_bytes(content, make_layout(), OPENPGP, keyring=keyring)
    county.home.chmod(0o750)
    with pytest.raises(ConfigurationError, match="readable by other users — run: chmod 700"):
        opened(content, county)
    county.home.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="GnuPG is not installed — install Debian's gnupg"):
        opened(content, county)


def test_the_call_leaves_no_agent_and_no_file(county: Ring, bank: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="cv-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        before = sorted(path.name for path in county.home.iterdir())
        assert cells_of(opened(bank.encrypt(BODY), county), *NAMES) == ROWS
        assert list(Path(folder).iterdir()) == []
        assert sorted(path.name for path in county.home.iterdir()) == before
        running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
        assert not [command for command in running if folder.encode() in command]


def test_a_fault_of_the_source_is_not_taken_for_the_suppliers(county: Ring, bank: Ring) -> None:
    content = bank.encrypt(BODY * 1000)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100:
                raise OSError("the disk is gone")
            return super().read(50)

    with pytest.raises(OSError, match="the disk is gone"):
        read_delivery(Failing(content), "x.gpg", OPENPGP, make_layout(), "d", keyring=county.home)


def test_a_landed_package_is_opened_in_the_restricted_zone(county: Ring, bank: Ring, tmp_path: Path) -> None:
    """The way of a delivery: dropped, landed sealed, read with the key ring of the home."""
    settings = Settings.from_environment({"CREDITVILLAGE_HOME": str(tmp_path / "home")})
    workspace = Workspace(settings)
    dropped = tmp_path / "LOANS_202403.zip.gpg"
    dropped.write_bytes(bank.encrypt(make_zip({"L_1of1.csv": BODY})))
    settings.secrets.mkdir(parents=True, mode=0o700)
    (settings.secrets / "gnupg").symlink_to(county.home)
    landed = land(str(dropped), (), settings.landing, workspace.master_key_path, delivery_id=DELIVERY)
    delivery = SimpleNamespace(
        delivery_id=DELIVERY, name=dropped.name, sha256=landed.sha256, landed_path=str(landed.path),
        wrapped_key=landed.wrapped_key,
    )  # fmt: skip
    feed = make_feed("openpgp", inside="zip", parts="numbered")
    subject: Any = SimpleNamespace(delivery=delivery, feed=feed, layout=make_layout())
    with deliveries.reading(workspace, subject) as reading:
        read = reading.result(pa.concat_tables(reading.pieces(10)))
    assert cells_of(read, "_member", *NAMES) == [("L_1of1.csv", *row) for row in ROWS]
    assert list((settings.restricted / "spill").iterdir()) == []
