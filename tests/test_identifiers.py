"""Identity numbers: hand-checked examples, and the SQL form against the Python form on random text."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.identifiers import (
    CREDIT_CODE_ALPHABET,
    credit_code_check_character,
    credit_code_is_valid,
    credit_code_sql,
    normalise_id,
    normalise_id_sql,
    resident_check_character,
    resident_id_is_valid,
    resident_id_sql,
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


# By hand: the places of N2341181MF9900001 are 22 2 3 4 1 1 8 1 21 15 9 9 0 0 0 0 1; times 3^k they sum to 1578 = 51 x 31 - 3.
@pytest.mark.parametrize(
    ("code", "valid"),
    [
        ("91110000600037341L", True),  # the example of python-stdnum
        ("N2341181MF99000013", True),  # a village collective, which python-stdnum refuses
        ("91110000600037341M", False),
        ("N2341181MF99000014", False),
        ("91110000600037341l", False),  # capital letters only
        ("9111000060003734IL", False),  # no I in the alphabet
        ("9111", False),
        ("９1110000600037341L", False),
    ],
)
def test_unified_social_credit_codes(code: str, valid: bool) -> None:
    assert credit_code_is_valid(code) is valid


CODE_LIKE = st.text(alphabet=CREDIT_CODE_ALPHABET + "IOl", min_size=16, max_size=19)
CODES = st.text(alphabet=CREDIT_CODE_ALPHABET, min_size=17, max_size=17).map(
    lambda first: first + credit_code_check_character(first)
)


@given(st.lists(st.one_of(CODE_LIKE, CODES), min_size=1, max_size=20))
def test_sql_equals_python_for_credit_codes(codes: list[str]) -> None:
    with duckdb.connect() as con:
        rows = con.execute(
            f"SELECT {credit_code_sql('v')} FROM (SELECT unnest($v) AS v, unnest($n) AS n) ORDER BY n",
            {"v": codes, "n": list(range(len(codes)))},
        ).fetchall()
    assert [valid for (valid,) in rows] == [credit_code_is_valid(code) for code in codes]
