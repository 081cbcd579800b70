"""Write, take in, conform: for random tables and layouts core_loans holds the table that was written, in every format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.contract.casts import cast_select
from etl.contract.context import Context
from etl.contract.predicates import accepted_select
from etl.tokens import TokenKey, token
from tests.contract.delivery import CONTRACTS, PERIOD, REGISTRY
from tests.intake.tables import FORMATS, KINDS, Row, Spelling, spellings, tables, write
from tests.intake.test_formats_roundtrip import taken_in
from tests.sql.month import Month

BANK, KEY = "muster_rcb", TokenKey(bytes(range(32)))
CONTRACT = CONTRACTS.for_dataset("loans")
CONTEXT = Context(
    period_start=PERIOD.start, period_end=PERIOD.end, institution_codes=(), county_codes=("county", BANK),
    known_villages=(), supplier=BANK, id_prefixes=(),
)  # fmt: skip
CORE = [column.name for column in CONTRACT.published if column.name in KINDS]


@pytest.fixture(scope="module")
def month() -> Iterator[Month]:
    opened = Month(str(PERIOD))
    opened.given({"core_households": [], "core_members": [], "core_consents": []})
    yield opened
    opened.close()


def _conformed(month: Month, content: bytes, spelling: Spelling) -> list[Row]:
    """core_loans of a month in which this file was all that came, and everybody agreed to be reported."""
    engine = month.engine
    engine.register_arrow("strings", taken_in(content, spelling).table)
    engine.run_model("typed", cast_select(CONTRACT, spelling.layout, REGISTRY.codes))
    accepted = engine.arrow(accepted_select(CONTRACT, CONTEXT, findings=None), KEY.params())
    for relation in ("accepted_loans", "core_consents"):
        engine.con.execute(f"DELETE FROM {relation}")
    month.load({"accepted_loans": accepted})
    engine.con.execute(
        "INSERT INTO core_consents (person_key, recipient, purpose, is_in_force) "
        "SELECT DISTINCT person_key, 'county', 'bank_data', TRUE FROM accepted_loans"
    )
    month.build(["core_loans"])
    columns = ", ".join(["loan_key", "person_key", *CORE])
    found: list[Row] = engine.arrow(f"SELECT {columns} FROM core_loans").to_pylist()
    return found


def _expected(table: list[Row], spelling: Spelling) -> list[Row]:
    """The written rows in the words of core: keyed tokens for the two numbers; what the layout lacks is unknown."""
    named = set(spelling.layout.canonical)
    return [
        {"loan_key": token(KEY, "loan", BANK, row["loan_no"]), "person_key": token(KEY, "person", row["borrower_id_no"])}
        | {name: row[name] if name in named else None for name in CORE}
        for row in table
    ]  # fmt: skip


def _sorted(rows: list[Row]) -> list[Any]:
    return sorted(tuple(map(repr, row.values())) for row in rows)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_what_was_written_is_in_core(kind: str, data: st.DataObject, month: Month) -> None:
    spelling = data.draw(spellings(kind, always=("loan_no", "borrower_id_no")))
    table = data.draw(tables(spelling))
    assert _sorted(_conformed(month, write(table, spelling), spelling)) == _sorted(_expected(table, spelling))
