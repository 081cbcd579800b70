"""Receipts checked offline: what was signed holds, and whatever is changed is told in one line with exit code 1."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from etl.cli.app import run
from etl.intake.signing import SigningKey
from etl.intake.verify import verify_receipt
from etl.ledger.records import Delivery
from etl.vocabulary import ConfigurationError, DataError
from tests.intake.one_bank import OneBank, csv_of, note, one_bank

ROWS = [note(1), note(2, balance_yuan="2500000"), note(3, matures_on="2020-01-01"), note(4)]


@pytest.fixture
def bank(home: Path, database_url: str) -> Iterator[OneBank]:
    with one_bank(home, database_url) as found:
        yield found


@pytest.fixture
def delivery(bank: OneBank) -> Delivery:
    return bank.deliver(ROWS)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A signed document with a file beside it and its public key above, without any server."""
    key = SigningKey.create(tmp_path / "secrets" / "receipt.key")
    folder = tmp_path / "outbox" / "bank" / "2024-03"
    folder.mkdir(parents=True)
    (folder / "a.receipt.csv").write_bytes(b"rule\nL301\n")
    digest = hashlib.sha256(b"rule\nL301\n").hexdigest()
    document = {
        "delivery_id": "bank-loans-2024-03-001", "outcome": "accepted", "in_force": True, "rows_read": 4, "sha256": "ab" * 32,
        "findings": [{"rule": "L301", "row": 2, "value": None}], "counts_by_rule": {"L301": 1}, "contact": {"zh": "数据组"},
    }  # fmt: skip
    (folder / "a.receipt.json").write_text(json.dumps(key.sign(document, {"a.receipt.csv": digest}), indent=1))
    (folder.parent / f"receipt_key.{key.public.key_id}.pem").write_bytes(key.public.pem)
    return folder / "a.receipt.json"


# -- what holds -------------------------------------------------------------------------------------------------------


def test_a_receipt_of_a_real_delivery_holds_with_its_files_and_raw_file(bank: OneBank, delivery: Delivery) -> None:
    found = verify_receipt(bank.receipt_path(delivery), raw=bank.zone / delivery.name)
    assert found.raw_checked
    assert sorted(name.rsplit(".", 1)[-1] for name in found.files) == ["csv", "html", "xlsx"]
    assert found.absent == ()
    assert found.document["sha256"] == hashlib.sha256(csv_of(ROWS)).hexdigest()


def test_it_holds_away_from_home_without_settings(bank: OneBank, delivery: Delivery, tmp_path: Path) -> None:
    """In a bare process whose configuration and warehouse point nowhere, from copies of receipt and key alone."""
    (tmp_path / "r.json").write_bytes(bank.receipt_path(delivery).read_bytes())
    [key] = bank.outbox.glob("receipt_key.*.pem")
    (tmp_path / "key.pem").write_bytes(key.read_bytes())
    command = [sys.executable, "-c", "from etl.cli import main; main()", "verify", str(tmp_path / "r.json")]
    environment = {
        **os.environ, "CREDITVILLAGE_CONFIG": "/nowhere", "CREDITVILLAGE_HOME": "/nowhere",
        "CREDITVILLAGE_WAREHOUSE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }  # fmt: skip
    given = [*command, "--key", str(tmp_path / "key.pem"), "--file", str(bank.zone / delivery.name)]
    done = subprocess.run(given, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert "the receipt holds: baiyun_rcb-loans-2024-03-001 accepted_with_warnings" in done.stdout
    assert "not there: csv、html、xlsx" in done.stdout
    assert "raw file agrees" in done.stdout


@pytest.mark.parametrize("kind", ["csv", "xlsx", "html"])
def test_any_of_the_four_files_may_be_named(bank: OneBank, delivery: Delivery, kind: str) -> None:
    assert verify_receipt(bank.receipt_path(delivery, kind)).document["delivery_id"] == delivery.delivery_id


def canonical(value: Any) -> str:
    """The signed text, by a second implementation."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{canonical(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def test_openssl_agrees_about_the_signature(bank: OneBank, delivery: Delivery, tmp_path: Path) -> None:
    document = json.loads(bank.receipt_path(delivery).read_text(encoding="utf-8"))
    (tmp_path / "value").write_bytes(base64.b64decode(document["signature"].pop("value")))
    (tmp_path / "message").write_bytes(b"creditvillage-receipt-v1\n" + canonical(document).encode())
    [key] = bank.outbox.glob("receipt_key.*.pem")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key), "-rawin"]
    done = subprocess.run(
        [*command, "-in", str(tmp_path / "message"), "-sigfile", str(tmp_path / "value")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# -- what does not ----------------------------------------------------------------------------------------------------


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document where a plain value stands."""
    if isinstance(value, dict | list) and value:
        places = value.items() if isinstance(value, dict) else enumerate(value)
        for place, inner in places:
            yield from paths_of(inner, (*path, place))
    else:
        yield path


def with_change(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    inner = changed
    for place in path[:-1]:
        inner = inner[place]
    old = inner[path[-1]]
    inner[path[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}x"
    return changed


def test_a_change_of_any_field_is_told(bank: OneBank, delivery: Delivery) -> None:
    place = bank.receipt_path(delivery)
    document = json.loads(place.read_text(encoding="utf-8"))
    everywhere = list(paths_of(document))
    assert len(everywhere) > 60
    for path in everywhere:
        place.write_text(json.dumps(with_change(document, path), ensure_ascii=False), encoding="utf-8")
        with pytest.raises((DataError, ConfigurationError)) as told:
            verify_receipt(place)
        assert "\n" not in str(told.value)
    place.write_text(json.dumps(document), encoding="utf-8")
    assert verify_receipt(place), "another spelling of the same content holds"


@pytest.mark.parametrize("key", ["rows_read", "sha256", "findings", "signature", "diff"])
def test_a_field_left_out_or_added_is_told(signed: Path, key: str) -> None:
    document = json.loads(signed.read_text())
    for changed in ({name: value for name, value in document.items() if name != key}, {**document, f"{key}_2": 1}):
        if changed != document:
            signed.write_text(json.dumps(changed))
            with pytest.raises(DataError):
                verify_receipt(signed)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"rows_read": 4', '"rows_read": 4, "rows_read": 4', "not a whole JSON document"),
        ('"rows_read": 4', '"rows_read": 4.0', "content and signature do not agree"),
        ('"rows_read": 4', '"rows_read": NaN', "not a whole JSON document"),
        ('"accepted"', '"\\ud800"', "content and signature do not agree"),
        ('"Ed25519"', '"none"', "bears no signature"),
        ('"a.receipt.csv"', '"../a.receipt.csv"', "signature part was changed"),
        ("}", "", "not a whole JSON document"),
    ],
)
def test_tricks_with_the_text_are_told(
    signed: Path, before: str, after: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = signed.read_text()
    assert before in text
    head, _, tail = text.rpartition(before)
    signed.write_text(head + after + tail)
    assert run(["verify", str(signed)]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert says in told.err


@pytest.mark.parametrize("kind", ["csv", "xlsx", "html"])
def test_a_changed_file_beside_it_is_told(bank: OneBank, delivery: Delivery, kind: str) -> None:
    path = bank.receipt_path(delivery, kind)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=rf"receipt\.{kind}: changed since it was written"):
        verify_receipt(bank.receipt_path(delivery))


def test_a_file_changed_together_with_its_checksum_is_told(signed: Path) -> None:
    (signed.parent / "a.receipt.csv").write_bytes(b"rule\n")
    document = json.loads(signed.read_text())
    document["signature"]["files"]["a.receipt.csv"] = hashlib.sha256(b"rule\n").hexdigest()
    signed.write_text(json.dumps(document))
    with pytest.raises(DataError, match="content and signature do not agree"):
        verify_receipt(signed)


def test_another_raw_file_is_told(bank: OneBank, delivery: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bank.zone / delivery.name
    raw.write_bytes(raw.read_bytes().replace(b"12000.00", b"12000.01", 1))
    assert run(["verify", str(bank.receipt_path(delivery)), "--file", str(raw)]) == 1
    assert "its SHA-256 differs" in capsys.readouterr().err


def test_a_receipt_forged_with_another_key_is_told(signed: Path, tmp_path: Path) -> None:
    """A key put beside the forged receipt does not help against the key a bank was handed."""
    theirs = next(signed.parent.parent.glob("*.pem")).rename(tmp_path / "from_the_county.pem")
    forger = SigningKey.create(tmp_path / "forger.key")
    document = json.loads(signed.read_text())
    del document["signature"]
    signed.write_text(json.dumps(forger.sign({**document, "rows_read": 9}, {})))
    (signed.parent / f"receipt_key.{forger.public.key_id}.pem").write_bytes(forger.public.pem)
    with pytest.raises(DataError, match=f"signed with key {forger.public.key_id}"):
        verify_receipt(signed, key=theirs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.receipt.json"], "cannot be read"),
        (["{receipt}", "--key", "{receipt}"], "not a public key"),
        (["{receipt}", "--file", "nothing.csv"], "cannot be read"),
    ],
)
def test_what_cannot_be_checked_is_a_usage_error(
    signed: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", *(argument.format(receipt=signed) for argument in arguments)]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_without_a_key_nothing_is_said_to_hold(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(signed.parent.parent.glob("*.pem")).unlink()
    assert run(["verify", str(signed)]) == 2
    assert "no public key" in capsys.readouterr().err


def test_a_missing_file_is_named_and_no_error(signed: Path) -> None:
    (signed.parent / "a.receipt.csv").unlink()
    assert verify_receipt(signed).absent == ("a.receipt.csv",)


# -- the key ----------------------------------------------------------------------------------------------------------


def test_the_key_is_made_once_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "receipt.key"
    with ThreadPoolExecutor(8) as pool:
        made = {key.public.key_id for key in pool.map(SigningKey.create, [path] * 16)}
    assert len(made) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_only_the_public_half_is_published(bank: OneBank, delivery: Delivery) -> None:
    [published] = bank.outbox.glob("receipt_key.*.pem")
    assert b"PUBLIC KEY" in published.read_bytes()
    secret = (bank.settings.secrets / "receipt.key").read_text().splitlines()[1]
    leaks = [
        path for path in bank.settings.outbox.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert leaks == []


def test_after_a_new_key_old_receipts_hold_still(bank: OneBank, delivery: Delivery) -> None:
    (bank.settings.secrets / "receipt.key").unlink()
    later = bank.deliver([*ROWS, note(5)], "loans_202403_2.csv")
    keys = {verify_receipt(bank.receipt_path(each)).key_id for each in (delivery, later)}
    assert len(keys) == len(list(bank.outbox.glob("receipt_key.*.pem"))) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", ec.generate_private_key(ec.SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())])  # fmt: skip
def test_a_damaged_key_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "receipt.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match="receipt key"):
        SigningKey.create(tmp_path / "receipt.key")
