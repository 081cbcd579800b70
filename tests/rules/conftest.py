"""A bank of one's own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rules.bank import Bank


@pytest.fixture
def bank(tmp_path: Path, database_url: str) -> Iterator[Bank]:
    """A bank that delivers notes and flows."""
    opened = Bank(tmp_path, database_url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def desk(tmp_path: Path) -> Bank:
    """The same bank's configuration without a database."""
    return Bank(tmp_path, "postgresql+psycopg://nobody@127.0.0.1:1/nothing")
