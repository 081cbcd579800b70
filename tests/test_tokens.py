"""Tokens: DuckDB and Python agree, domains are kept apart, the key file is private."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

import duckdb
import pytest

from etl.tokens import TokenKey, token, token_sql
from etl.vocabulary import ConfigurationError

KEY = TokenKey(bytes(range(32)))


def test_a_token_is_hmac_sha256_of_domain_and_value() -> None:
    expected = hmac.new(bytes(range(32)), b"person\x1f341181198001010016", hashlib.sha256).hexdigest()[:32]
    assert token(KEY, "person", "341181198001010016") == expected


@pytest.mark.parametrize("values", [("a",), ("清河", "借据1"), ("", "x"), ("𠮷" * 40, "y")])
def test_sql_equals_python(values: tuple[str, ...]) -> None:
    names = [f"$v{place}" for place in range(len(values))]
    params = KEY.params() | {f"v{place}": value for place, value in enumerate(values)}
    with duckdb.connect() as con:
        (found,) = con.execute(f"SELECT {token_sql('loan', *names)}", params).fetchone()
    assert found == token(KEY, "loan", *values)


def test_a_missing_part_gives_no_token() -> None:
    with duckdb.connect() as con:
        assert con.execute(f"SELECT {token_sql('loan', chr(39) + 'b' + chr(39), 'NULL')}", KEY.params()).fetchone() == (
            None,
        )


def test_domains_differ() -> None:
    assert token(KEY, "person", "1") != token(KEY, "household", "1")


def test_the_key_file_is_private_and_stable(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "token.key"
    key = TokenKey.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TokenKey.create(path) == key
    assert key.secret.hex() not in repr(key)


@pytest.mark.parametrize("content", ["", "xyz", "00" * 16])
def test_a_spoilt_key_file_stops(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token.key"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="token key"):
        TokenKey.from_file(path)
