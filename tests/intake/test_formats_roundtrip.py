"""Write, take in, cast: for random tables and random layouts the typed table is the one that was written, exactly."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.contract.casts import blank_free_columns, cast_select
from etl.engine.duck import DuckEngine
from etl.intake.strings import Strings
from tests.contract.delivery import CONTRACTS, REGISTRY
from tests.intake.making import read_delivery
from tests.intake.tables import FORMATS, KINDS, Row, Spelling, spellings, tables, write

CONTRACT = CONTRACTS.for_dataset("loans")
PACKAGES = ("bare", "gzip", "zip")
CHECKED_PACKAGES = ("gzip", "zip", "pboc")
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def engine() -> Any:
    with DuckEngine(threads=1) as engine:
        yield engine


def taken_in(content: bytes, spelling: Spelling) -> Strings:
    return read_delivery(io.BytesIO(content), "L.dat", spelling.feed, spelling.layout, "d")


def typed(engine: DuckEngine, strings: Strings, spelling: Spelling) -> list[Row]:
    """What core is made of: the typed columns that the layout delivers, in delivered order."""
    engine.register_arrow("strings", strings.table)
    free = blank_free_columns(strings.table)
    select = cast_select(CONTRACT, spelling.layout, REGISTRY.codes, blank_free=free)
    found = engine.con.sql(f"SELECT * FROM ({select}) ORDER BY _member, _row").to_arrow_table()
    names = [name for name in KINDS if name in spelling.layout.canonical]
    rows: list[Row] = found.select(names).to_pylist()
    return rows


def in_order(table: list[Row], spelling: Spelling) -> list[Row]:
    return [{name: row[name] for name in KINDS if name in spelling.layout.canonical} for row in table]


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_every_table_comes_back_in_every_format(kind: str, data: st.DataObject, engine: DuckEngine) -> None:
    spelling = data.draw(spellings(kind, PACKAGES if kind != "database" else ("bare",)))
    table = data.draw(tables(spelling))
    read = taken_in(write(table, spelling), spelling)
    assert (read.file_findings, read.row_findings, read.rows_read) == ([], [], len(table))
    assert typed(engine, read, spelling) == in_order(table, spelling)


@settings(max_examples=80, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_damage_to_a_package_with_a_checksum_is_never_silent(data: st.DataObject, engine: DuckEngine) -> None:
    """Bytes changed, cut off, doubled or added: there is a finding, or the table is the one that was sent."""
    kind = data.draw(st.sampled_from(["delimited", "fixed_width"]))
    spelling = data.draw(spellings(kind, CHECKED_PACKAGES))
    table = data.draw(tables(spelling).filter(bool))
    content = bytearray(write(table, spelling))
    place = data.draw(st.integers(0, len(content) - 1))
    harm = data.draw(st.sampled_from(["change", "cut", "remove", "double", "append"]))
    if harm == "change":
        content[place] ^= data.draw(st.integers(1, 255))
    elif harm == "cut":
        del content[place:]
    elif harm == "remove":
        del content[place : place + data.draw(st.integers(1, 40))]
    elif harm == "double":
        content[place:place] = content[place : place + min(40, len(content) - 1)]  # a whole gzip file twice is legal
    else:
        content += data.draw(st.binary(min_size=1, max_size=40))
    read = taken_in(bytes(content), spelling)
    if not read.file_findings:
        assert (read.row_findings, read.rows_read) == ([], len(table))
        assert typed(engine, read, spelling) == in_order(table, spelling)


@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_a_trailer_notices_what_a_bare_file_lost(data: st.DataObject, engine: DuckEngine) -> None:
    """Without a checksum, a file cut off anywhere before its trailer's last digit is answered."""
    kind = data.draw(st.sampled_from(["delimited", "fixed_width"]))
    spelling = data.draw(spellings(kind).filter(lambda spelling: spelling.layout.trailer is not None))
    table = data.draw(tables(spelling))
    content = write(table, spelling)
    line = content.rstrip(b"\r\n\0")
    cut = data.draw(st.integers(1, max(line.rfind(b"\n"), 1)))
    read = taken_in(content[:cut], spelling)
    assert read.file_findings
