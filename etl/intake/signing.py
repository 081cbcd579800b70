"""Signed documents: Ed25519 (RFC 8032) over one canonical text, so that a receipt can be checked far from its server.

What is signed is `creditvillage-receipt-v1`, a line feed, and the document as JSON without `signature.value`: keys
sorted at every level, no blanks, characters as they are, UTF-8. There are no fractions in it, so that any language
writes the same text. The mark of a key is the start of the SHA-256 of its 32 public bytes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from etl.vocabulary import ConfigurationError

ALGORITHM: Final = "Ed25519"
PREFIX: Final = b"creditvillage-receipt-v1\n"
KEY_ID_HEX: Final = 16
_MEND: Final = "restore the key file from the county's safe; without it, banks must be given the new public key"


@dataclass(frozen=True, repr=False)
class SigningKey:
    """The county's key for receipts."""

    private: Ed25519PrivateKey

    @classmethod
    def create(cls, path: Path) -> SigningKey:
        """Write a fresh key (PEM, mode 0600) unless there is one already, and read it.

        Linking a finished temporary file makes the key appear whole, and only for the first of two processes.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(pem)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        return cls.from_file(path)

    @classmethod
    def from_file(cls, path: Path) -> SigningKey:
        """Read a key written by `create`; raises ConfigurationError when it is absent or no Ed25519 key."""
        try:
            private = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(path, "receipt key", f"unreadable ({type(error).__name__})", _MEND) from None
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigurationError(path, "receipt key", "not an Ed25519 key", _MEND)
        return cls(private)

    @property
    def public(self) -> VerifyingKey:
        return VerifyingKey(self.private.public_key())

    def sign(self, document: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
        """The document with its `signature`, which also covers `files`: {name of a file beside it: SHA-256, hex}."""
        stamp = {"algorithm": ALGORITHM, "key_id": self.public.key_id, "files": dict(files)}
        signed = {**document, "signature": stamp}
        value = base64.b64encode(self.private.sign(message_of(signed))).decode("ascii")
        return {**document, "signature": {**stamp, "value": value}}


@dataclass(frozen=True)
class VerifyingKey:
    """The public half, as banks hold it."""

    public: Ed25519PublicKey

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyingKey:
        """Read a public key; raises ValueError when it is no Ed25519 key in PEM."""
        public = load_pem_public_key(pem)
        if not isinstance(public, Ed25519PublicKey):
            raise ValueError("not an Ed25519 key")
        return cls(public)

    @property
    def pem(self) -> bytes:
        return self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> str:
        """Sixteen hexadecimal digits that name the key."""
        raw = self.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(raw).hexdigest()[:KEY_ID_HEX]

    def holds(self, document: Mapping[str, Any]) -> bool:
        """Whether the document is as this key signed it; False for any document that cannot have been signed."""
        try:
            value = base64.b64decode(document["signature"]["value"], validate=True)
            self.public.verify(value, message_of(document))
        except (InvalidSignature, KeyError, TypeError, ValueError, binascii.Error):
            return False
        return True


def public_key_name(key_id: str) -> str:
    """What the published key is called in a bank's outbox: a new key stands beside the old one."""
    return f"receipt_key.{key_id}.pem"


def message_of(document: Mapping[str, Any]) -> bytes:
    """The signed bytes of a document; raises KeyError or TypeError when it has no signature part."""
    stamp = {name: value for name, value in document["signature"].items() if name != "value"}
    text = json.dumps(
        {**document, "signature": stamp}, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return PREFIX + text.encode("utf-8")
