"""From cells to values: units, blanks, null marks, codes, and what is not guessed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from etl.contract.casts import blank_free_columns, cast_select, date_pattern
from etl.registry import CodeLists, Layout
from etl.vocabulary import ConfigurationError
from tests.contract.delivery import REGISTRY, SAMPLES, checked, strings


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("5.5", "55000.00"),
        ("0.000001", "0.01"),
        ("+12", "120000.00"),
        ("0012.50", "125000.00"),
        ("1.1234560", "11234.56"),
        ("123456789012", "1234567890120000.00"),
        ("1.1234567", None),       # a hundredth of a fen
        ("1234567890123456", None),  # 16 digits
        (".5", None),
        ("5.", None),
        ("1e3", None),
        ("１２", None),
        ("--5", None),
        ("0x10", None),
    ],
)  # fmt: skip
def test_ten_thousand_yuan_become_yuan_exactly(cell: str, value: str | None) -> None:
    made = checked(SAMPLES["workbook"], [SAMPLES["workbook"].row(balance_yuan=cell)])
    assert made.values("balance_yuan") == [None if value is None else Decimal(value)]


@pytest.mark.parametrize(("cell", "value"), [("0.0435", "4.35000"), ("0.0435001", "4.35001"), ("0.04350001", None)])
def test_fractions_become_percent_with_five_decimals(cell: str, value: str | None) -> None:
    made = checked(SAMPLES["workbook"], [SAMPLES["workbook"].row(annual_rate_pct=cell)])
    assert made.values("annual_rate_pct") == [None if value is None else Decimal(value)]


def test_a_rate_too_large_for_its_column_is_out_of_range_not_unreadable() -> None:
    assert checked(SAMPLES["pboc"], [SAMPLES["pboc"].row(annual_rate_pct="435000")]).findings == [(1, "L121")]


@pytest.mark.parametrize("cell", ["", " ", "\t", "-", " - ", "\r\n"])
def test_blanks_and_null_marks_are_nothing(cell: str) -> None:
    made = checked(SAMPLES["workbook"], [SAMPLES["workbook"].row(overdue_days=cell)])
    assert made.values("overdue_days__raw") == [None]
    assert made.findings == []


def test_a_cell_that_is_absent_is_nothing() -> None:
    made = checked(SAMPLES["case"], [{**SAMPLES["case"].good, "amount_yuan": None}])
    assert made.values("amount_yuan__raw") == [None]
    assert made.findings == []


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("20240229", date(2024, 2, 29)),
        (" 20240229\t", date(2024, 2, 29)),
        ("20230229", None),
        ("2024-02-29", None),
        ("240229", None),
        ("２０２４０２２９", None),
        ("00000101", None),
        ("202402290", None),
    ],
)
def test_dates_are_read_in_the_agreed_form_only(cell: str, value: date | None) -> None:
    made = checked(SAMPLES["east"], [SAMPLES["east"].row(closed_on=cell)])
    assert made.values("closed_on") == [value]
    assert [rule for _, rule in made.findings if rule == "L009"] == ([] if value else ["L009"])


def test_blanks_inside_text_and_wide_blanks_stay() -> None:
    made = checked(SAMPLES["east"], [SAMPLES["east"].row(purpose_text=" 养 殖　")])
    assert made.values("purpose_text") == ["养 殖　"]


def test_codes_become_canonical_values_and_defaults_are_read_like_cells() -> None:
    made = checked(SAMPLES["workbook"], [SAMPLES["workbook"].good])
    assert made.values("five_class") + made.values("id_type") + made.values("currency") == [
        "normal",
        "resident_id",
        "CNY",
    ]
    assert checked(SAMPLES["pboc"], [SAMPLES["pboc"].good]).values("is_first_loan") == [True]


def test_a_small_x_is_raised_before_the_check() -> None:
    made = checked(SAMPLES["east"], [SAMPLES["east"].row(co_borrower_id_no="34118119800101018x")])
    assert made.values("co_borrower_id_no") == ["34118119800101018X"]


def test_columns_the_layout_lacks_are_null_of_their_type() -> None:
    made = checked(SAMPLES["pboc"], [SAMPLES["pboc"].good])
    types = dict(made.connection.execute("SELECT column_name, column_type FROM (DESCRIBE typed)").fetchall())
    assert types["overdue_days"] == "INTEGER"
    assert made.values("overdue_days") == [None]


def test_a_cell_with_a_quote_is_only_text() -> None:
    made = checked(SAMPLES["pboc"], [SAMPLES["pboc"].row(five_class="'; DROP TABLE typed; --", purpose_text="O'Neil")])
    assert made.findings == [(1, "L110")]
    assert made.values("purpose_text") == ["O'Neil"]


def test_a_code_list_without_the_coding_of_the_layout_is_a_configuration_error() -> None:
    sample = SAMPLES["pboc"]
    lists = {name: content for name, content in REGISTRY.codes.lists.items() if name != "five_class"}
    for codes, key in (
        (CodeLists(lists), "five_class"),
        (CodeLists({**lists, "five_class": {"values": {}, "codings": {}}}), "five_class.codings.pboc"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            cast_select(sample.contract, sample.layout, codes)
        assert raised.value.key == key


def test_a_layout_with_a_column_the_contract_lacks_is_a_configuration_error() -> None:
    sample = SAMPLES["pboc"]
    layout = Layout.model_validate(
        {"from": "2024-01", "format": "delimited", "columns": ["loan_no", "colour"], "codes": "pboc"}
    )
    with pytest.raises(ConfigurationError, match="colour"):
        cast_select(sample.contract, layout, REGISTRY.codes)


def test_a_date_form_needs_year_month_and_day() -> None:
    assert date_pattern("%d.%m.%Y") == ("^[0-9]{2}[.][0-9]{2}[.][1-9][0-9]{3}$", {"%d": 1, "%m": 4, "%Y": 7})
    with pytest.raises(ConfigurationError, match="%Y"):
        date_pattern("%y-%m-%d")


def test_columns_without_blanks_are_recognised_whatever_their_arrow_type() -> None:
    plain = pa.array(["a", None, "养殖", ""], pa.string())
    table = pa.table(
        {
            "clean": plain,
            "large": plain.cast(pa.large_string()),
            "dictionary": plain.dictionary_encode(),
            "blank": pa.array(["a", "b ", None, "c"]),
            "tab": pa.array(["a", "b", "\tc", ""]).dictionary_encode(),
            "inside": pa.array(["a b", "c", "", ""]),
            "number": pa.array([1, 2, 3, 4]),
            "nothing": pa.array([None] * 4, pa.string()),
        }
    )
    assert blank_free_columns(table) == {"clean", "large", "dictionary", "nothing"}
    assert "blank" in blank_free_columns(table.slice(2))
    assert "blank" not in blank_free_columns(table.slice(1, 1))


def test_blank_free_columns_are_cast_alike() -> None:
    sample = SAMPLES["east"]
    cells = strings(sample, [sample.row(loan_no="BY-9"), sample.row(closed_on="", balance_yuan="1.005")])
    connection = duckdb.connect()
    connection.register("strings", cells)
    slow, fast = (
        connection.sql(cast_select(sample.contract, sample.layout, REGISTRY.codes, blank_free=columns)).fetchall()
        for columns in ((), blank_free_columns(cells))
    )
    assert slow == fast
    assert len(blank_free_columns(cells)) > 10
