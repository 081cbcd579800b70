"""Identity numbers: hand-checked examples, and the SQL form against the Python form on random text."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.identifiers import (
    normalise_id,
    normalise_id_sql,
    resident_check_character,
    resident_id_is_valid,
    resident_id_sql,
    uscc_is_valid,
)


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("341181198001010016", True),  # the area code is younger than the birth date: legal
        ("360426199101010071", True),  # the example of python-stdnum
        ("341181198001010017", False),  # wrong check digit
        ("341181198002300012", False),  # 30 February
        ("34118119800101001", False),  # 17 digits
        ("3.41181198001E+17", False),  # what a spreadsheet leaves of it
        ("３41181198001010016", False),  # a full-width digit
    ],
)
def test_resident_numbers(number: str, valid: bool) -> None:
    assert resident_id_is_valid(number) is valid


def test_lower_case_x_is_legal() -> None:
    digits = next(n for n in (f"341181198001010{i:02d}" for i in range(100)) if resident_check_character(n) == "X")
    assert resident_id_is_valid(digits + "x")


DIGITS = st.text(alphabet="0123456789Xx ", min_size=0, max_size=19)
BORN = st.dates().map(lambda day: day.strftime("%Y%m%d").zfill(8))
SHAPED = st.builds(
    lambda area, born, sequence, check: f"{area}{born}{sequence:03d}{check}",
    st.sampled_from(["341181", "342321", "341121", "110101"]),
    BORN,
    st.integers(0, 999),
    st.sampled_from("0123456789X"),
)


@given(st.lists(st.one_of(DIGITS, SHAPED), min_size=1, max_size=20))
def test_sql_equals_python(numbers: list[str]) -> None:
    checked = resident_id_sql("v")
    with duckdb.connect() as con:
        rows = con.execute(
            f"SELECT {checked} FROM (SELECT n, {normalise_id_sql('t')} AS v FROM (SELECT unnest($t) AS t, unnest($n) AS n)) ORDER BY n",
            {"t": numbers, "n": list(range(len(numbers)))},
        ).fetchall()
    assert [valid for (valid,) in rows] == [resident_id_is_valid(number) for number in numbers]


def test_normalising_repairs_nothing_but_blanks_and_x() -> None:
    assert normalise_id(" 12x\t") == "12X"
    assert normalise_id("１２") == "１２"


@pytest.mark.parametrize(
    ("code", "valid"), [("91110000600037341L", True), ("91110000600037341M", False), ("9111", False)]
)
def test_unified_social_credit_codes(code: str, valid: bool) -> None:
    assert uscc_is_valid(code) is valid
