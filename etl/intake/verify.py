"""Check a receipt offline: its signature, the files beside it, the raw file. No server, database or configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from etl.intake.signing import ALGORITHM, VerifyingKey, public_key_name
from etl.vocabulary import ConfigurationError, DataError

_ASK_AGAIN: Final = "do not rely on it; ask the county's data desk for the receipt again"
_MAX_RECEIPT_BYTES: Final = 256 << 20
_STAMP: Final = {"algorithm", "key_id", "files", "value"}


@dataclass(frozen=True)
class Verified:
    """What was found to hold. `files` are names beside the receipt that fit, `absent` those that are not there."""

    document: Mapping[str, Any]
    key_id: str
    key_file: Path
    files: tuple[str, ...]
    absent: tuple[str, ...]
    raw_checked: bool


def verify_receipt(receipt: Path, *, raw: Path | None = None, key: Path | None = None) -> Verified:
    """Check one receipt; of its four files any may be named, the signature stands in the JSON.

    Without `key` the key published in the outbox above the receipt is used, so it protects from damage, and from
    forgery only as far as that copy is known to be the county's. Raises DataError (exit 1) for whatever does not hold,
    ConfigurationError (exit 2) when there is no receipt or no key to check with.
    """
    place = _json_of(receipt)
    document = _read(place)
    stamp = _stamp_of(document, place)
    key_file = key or _published_key(place, stamp["key_id"])
    verifying = _key(key_file)
    if verifying.key_id != stamp["key_id"]:
        problem = f"{place.name}: signed with key {stamp['key_id']}, not with {verifying.key_id} of {key_file.name}"
        raise DataError(problem, "compare the key with the one the county handed over, and take that of the receipt")
    if not verifying.holds(document):
        raise DataError(f"{place.name}: content and signature do not agree, it was changed", _ASK_AGAIN)
    present, absent = _check_files(place, stamp["files"])
    if raw is not None:
        _check_raw(raw, document, place)
    return Verified(document, verifying.key_id, key_file, present, absent, raw is not None)


def _json_of(path: Path) -> Path:
    """The signed file of a receipt, whichever of its files was named."""
    for ending in (".receipt.csv", ".receipt.xlsx", ".receipt.html"):
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending) + ".receipt.json")
    return path


def _read(place: Path) -> dict[str, Any]:
    try:
        if place.stat().st_size > _MAX_RECEIPT_BYTES:
            raise DataError(f"{place.name}: larger than any receipt", _ASK_AGAIN)
        content = place.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({type(error).__name__})"
        raise ConfigurationError(place, "", problem, "name the .receipt.json of the outbox") from None
    try:
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise DataError(f"{place.name}: not a whole JSON document, it was cut off or changed", _ASK_AGAIN) from None
    if not isinstance(document, dict):
        raise DataError(f"{place.name}: not a receipt", _ASK_AGAIN)
    return document


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two values under one key read differently in different programs: no signed receipt has any."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _stamp_of(document: Mapping[str, Any], place: Path) -> Mapping[str, Any]:
    stamp = document.get("signature")
    if not isinstance(stamp, dict) or set(stamp) != _STAMP or stamp["algorithm"] != ALGORITHM:
        raise DataError(f"{place.name}: it bears no signature of this system", _ASK_AGAIN)
    names = stamp["files"]
    if not isinstance(names, dict) or not all(_is_plain(name) for name in (*names, stamp["key_id"])):
        raise DataError(f"{place.name}: its signature part was changed", _ASK_AGAIN)
    return stamp


def _is_plain(name: object) -> bool:
    """Whether a name from the document may be looked for beside it: no path leads elsewhere."""
    return isinstance(name, str) and "/" not in name and "\\" not in name and "\0" not in name


def _published_key(place: Path, key_id: str) -> Path:
    name = public_key_name(key_id)
    for folder in place.resolve().parents[:3]:
        if (folder / name).is_file():
            return folder / name
    problem = f"no public key {name} above it"
    raise ConfigurationError(place, "", problem, "name the county's key: --key receipt_key.….pem")


def _key(path: Path) -> VerifyingKey:
    try:
        return VerifyingKey.from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        problem = f"not a public key ({type(error).__name__})"
        raise ConfigurationError(path, "", problem, "name the receipt_key.….pem the county published") from None


def _check_files(place: Path, files: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the files that lie beside the receipt, and of those that do not; raises DataError for a changed one."""
    present = tuple(name for name in files if (place.parent / name).exists())
    for name in present:
        if _sha256(place.parent / name) != files[name]:
            raise DataError(f"{name}: changed since it was written", _ASK_AGAIN)
    return present, tuple(name for name in files if name not in present)


def _check_raw(raw: Path, document: Mapping[str, Any], place: Path) -> None:
    expected = document.get("sha256")
    if expected is None:
        raise DataError(
            f"{place.name}: speaks of no bytes (the file was gone before it was taken in)", "leave out --file"
        )
    if _sha256(raw) != expected:
        problem = f"{raw.name}: not the file this receipt is for, its SHA-256 differs"
        raise DataError(problem, f"name the file as it was dropped (receipt of {document.get('delivery_id')})")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        problem = f"cannot be read ({type(error).__name__})"
        raise ConfigurationError(path, "", problem, "name a file that is there") from None
