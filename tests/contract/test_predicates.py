"""What follows from findings: accepted rows without identity, rejected rows as tokens, keys, and rules over a file."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from etl.contract.predicates import (
    accepted_columns,
    accepted_select,
    keys_columns,
    keys_select,
    macro_select,
    rejected_columns,
    rejected_select,
    unchecked_rules,
)
from etl.registry import Accept
from etl.tokens import TokenKey, token
from tests.contract.delivery import ANOTHER, MALE, SAMPLES, Checked, Sample, checked

KEY = TokenKey(b"0123456789abcdef0123456789abcdef")


def _rows(made: Checked, select: str) -> list[dict[str, object]]:
    return made.connection.execute(select, KEY.params()).fetch_df().to_dict("records")


def _described(made: Checked, select: str) -> dict[str, str]:
    made.connection.execute(f"CREATE OR REPLACE TEMP TABLE result AS {select}", KEY.params())
    return dict(made.connection.execute("SELECT column_name, column_type FROM (DESCRIBE result)").fetchall())


@pytest.mark.parametrize("name", SAMPLES)
def test_accepted_and_rejected_have_the_promised_columns_and_no_identity(name: str) -> None:
    sample = SAMPLES[name]
    made = checked(sample, [sample.good])
    accepted = accepted_select(sample.contract, sample.context)
    assert _described(made, accepted) == accepted_columns(sample.contract)
    assert _described(made, rejected_select(sample.contract, sample.context)) == rejected_columns(sample.contract)
    identity = {column.name for column in sample.contract.delivered if column.privacy == "identity"}
    assert not identity & set(accepted_columns(sample.contract))
    assert MALE not in str(_rows(made, accepted))


def test_rows_with_a_rejecting_finding_are_rejected_and_warned_rows_are_kept() -> None:
    sample = SAMPLES["pboc"]
    warned = sample.row(loan_no="QH-0000002", annual_rate_pct="0.0435", borrower_id_no=ANOTHER)
    refused = sample.row(loan_no="QH-0000003", five_class="?")
    made = checked(sample, [sample.good, warned, refused])
    assert made.findings == [(2, "L132"), (2, "L302"), (3, "L110")]
    accepted = _rows(made, accepted_select(sample.contract, sample.context))
    assert [row["_row"] for row in accepted] == [1, 2]
    rejected = _rows(made, rejected_select(sample.contract, sample.context))
    assert [row["loan_key"] for row in rejected] == [token(KEY, "loan", "qinghe_rcb", "QH-0000003")]


def test_a_finding_the_contract_does_not_know_rejects_its_row() -> None:
    sample = SAMPLES["pboc"]
    made = checked(sample, [sample.good])
    made.connection.execute("INSERT INTO findings VALUES ('m', 1, 'P201')")
    assert _rows(made, accepted_select(sample.contract, sample.context)) == []
    assert len(_rows(made, rejected_select(sample.contract, sample.context))) == 1


def test_tokens_are_those_of_python_over_normalised_values() -> None:
    sample = SAMPLES["east"]
    made = checked(sample, [sample.row(co_borrower_id_no=" 34118119800101018x ", loan_no="BY-0000001\t")])
    row = _rows(made, accepted_select(sample.contract, sample.context))[0]
    assert row["person_key"] == token(KEY, "person", MALE)
    assert row["co_person_key"] == token(KEY, "person", "34118119800101018X")
    assert row["loan_key"] == token(KEY, "loan", "baiyun_rcb", "BY-0000001")
    assert row["supplier"] == "baiyun_rcb"


def test_a_token_of_nothing_is_nothing() -> None:
    sample = SAMPLES["pboc"]
    made = checked(sample, [sample.row(loan_no="")])
    row = made.connection.execute(rejected_select(sample.contract, sample.context), KEY.params()).fetchone()
    assert row is not None
    assert row[list(rejected_columns(sample.contract)).index("loan_key")] is None


@pytest.mark.parametrize(
    ("birth", "band"),
    [
        ("2010-04-01", "0-13"), ("2010-03-31", "14-15"), ("2008-04-01", "14-15"), ("2008-03-31", "16-59"),
        ("1964-04-01", "16-59"), ("1964-03-31", "60-"),
    ],
)  # fmt: skip
def test_instead_of_the_birth_date_the_age_band_at_the_month_end_is_published(birth: str, band: str) -> None:
    sample = SAMPLES["member"]
    made = checked(sample, [sample.row(birth_on=birth)])
    made.connection.execute("DELETE FROM findings")
    assert _rows(made, accepted_select(sample.contract, sample.context))[0]["age_band"] == band


def test_whether_a_document_exists_is_published_but_not_its_number() -> None:
    sample = SAMPLES["case"]
    broken = sample.row(
        case_no="TJ-2", performance="unperformed", unperformed_document_no="J-1", unperformed_by="applicant"
    )
    rows = _rows(checked(sample, [sample.good, broken]), accepted_select(sample.contract, sample.context))
    assert [row["has_unperformed_document"] for row in rows] == [False, True]


def test_keys_are_distinct_tokens() -> None:
    sample = SAMPLES["member"]
    connection = duckdb.connect()
    connection.register("listed", pa.table({"member_no": ["M2", "M1", "M2", None]}))
    select = keys_select(sample.contract, "member_no", sample.context, relation="listed")
    found = [key for (key,) in connection.execute(select, KEY.params()).fetchall()]
    assert found == sorted(token(KEY, "member", number) for number in ("M1", "M2"))
    assert keys_columns(sample.contract, "member_no") == {"member_key": "VARCHAR"}
    with pytest.raises(KeyError):
        keys_columns(sample.contract, "sex")


@pytest.mark.parametrize(
    ("rows", "rejected", "broken"),
    [
        (100, 10, []),
        (100, 11, [("L402", "reject_file")]),
        (9, 0, [("L401", "reject_file")]),
        (1001, 0, [("L401", "warn")]),
        (0, 0, [("L401", "reject_file")]),
    ],
)
def test_rules_over_the_whole_file(rows: int, rejected: int, broken: list[tuple[str, str]]) -> None:
    sample = SAMPLES["pboc"]
    accept = Accept.model_validate({"rows": {"min": 10, "warn_above": 1000}, "max_rejected_share": 0.1})
    select = macro_select(sample.contract, accept, rows_read=rows, rows_rejected=rejected, context=sample.context)
    assert duckdb.sql(select).fetchall() == broken


def test_rules_without_their_columns_are_named_and_do_not_run() -> None:
    sample = SAMPLES["workbook"]
    unchecked = unchecked_rules(sample.contract, sample.layout)
    assert {"L004", "L115", "L133", "L205", "L207", "L211"} <= set(unchecked)
    assert not {"L131", "L109", "L208"} & set(unchecked)


def test_a_context_without_villages_rejects_every_village() -> None:
    sample = SAMPLES["household"]
    empty = Sample(sample.supplier, sample.dataset, sample.good)
    object.__setattr__(empty, "context", type(sample.context)(**{**sample.context.__dict__, "known_villages": ()}))
    assert checked(empty, [sample.good]).findings == [(1, "H111")]
