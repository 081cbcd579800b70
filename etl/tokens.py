"""Keyed tokens: HMAC-SHA-256 (RFC 2104) of an identifier under a domain, equal in DuckDB and Python.

The key reaches the engine only as two BLOB parameters (the padded inner and outer block), never as SQL text. A token
is the first 32 hexadecimal digits (128 bits); the domain keeps a household number and an identity number of the same
spelling apart. A keyed token is still personal data (PIPL art. 73).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from etl.vocabulary import ConfigurationError

TOKEN_HEX = 32
SEPARATOR = "\x1f"
_BLOCK_BYTES = 64
_MEND = "restore the key file from the county's safe, or point $CREDITVILLAGE_TOKEN_KEY at it"


@dataclass(frozen=True, repr=False)
class TokenKey:
    """A secret of 32 bytes or more (up to one hash block) and its published version mark."""

    secret: bytes

    @classmethod
    def from_file(cls, path: Path) -> TokenKey:
        """Read a key written by `create`; raises ConfigurationError when it is absent or malformed."""
        try:
            secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise ConfigurationError(path, "token key", f"unreadable ({type(error).__name__})", _MEND) from None
        if not 32 <= len(secret) <= _BLOCK_BYTES:
            raise ConfigurationError(path, "token key", f"{len(secret)} bytes instead of 32 to 64", _MEND)
        return cls(secret)

    @classmethod
    def create(cls, path: Path) -> TokenKey:
        """Write a fresh key (mode 0600) unless there is one already, and read it.

        Linking a finished temporary file makes the key appear whole, and only for the first of two processes.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        return cls.from_file(path)

    @property
    def version(self) -> str:
        """What a manifest may say of the key: a mark that does not reveal it."""
        return hashlib.sha256(b"version" + self.secret).hexdigest()[:12]

    def params(self) -> dict[str, bytes]:
        """The two padded blocks of RFC 2104, bound as parameters `$token_inner` and `$token_outer`."""
        block = self.secret.ljust(_BLOCK_BYTES, b"\0")
        return {
            "token_inner": bytes(byte ^ 0x36 for byte in block),
            "token_outer": bytes(byte ^ 0x5C for byte in block),
        }


def token(key: TokenKey, domain: str, *values: str) -> str:
    """The token of one value (or of several joined), in Python."""
    message = SEPARATOR.join((domain, *values)).encode()
    return hmac.new(key.secret, message, hashlib.sha256).hexdigest()[:TOKEN_HEX]


def token_sql(domain: str, *expressions: str) -> str:
    """The same token as DuckDB SQL over text expressions; NULL as soon as one expression is NULL."""
    message = " || chr(31) || ".join((f"'{domain}'", *expressions))
    return f"left(sha256($token_outer || unhex(sha256($token_inner || encode({message})))), {TOKEN_HEX})"
