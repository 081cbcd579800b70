"""Three readings of the contracts agree on random deliveries: DuckDB, Great Expectations on pandas, plain Python."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.contract.suite import second_opinion
from tests.contract import reference
from tests.contract.delivery import ANOTHER, MALE, REGISTRY, Sample, checked
from tests.contract.test_rules import BROKEN, SAMPLES, SOUND

ODD = (
    "", " ", "-", "0", "1", "-1", "00", "+3", "1.5", "1.50", "0.00001", "2000000.01", "99999999", "9999999999.99",
    "999999999999999", "123456789012345.12", "1e5", "1,000", "１", ".5", "5.", "x", "X", "true", "'", '"', "%", "\\", "NULL",
    "2024-03-31", "2024-02-29", "2023-02-29", "20240331", "20240229", "99991231", "9999-12-31", "1000-01-01",
    "0999-12-31", "1600-05-05", "2024-3-1", "1996-02-29", "19960229",
    MALE, ANOTHER, "34118119800101018x", " 34118119800101018X", "341181198001010017", "341181198013010011",
    "34118119800101001６", "𠮷", "养殖　", "a\tb", "正常", "逾期", "核销", "结清", "FQ01", "LS03", "CNY", "county",
    "341181101001", "341181103001", "open", "unperformed", "written", "P03", "01",
)  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(ODD),
    st.dates().map(str),
    st.dates().map(lambda day: day.strftime("%Y%m%d")),
    st.decimals(min_value=-10, max_value=3_000_000, places=3).map(str),
    st.text(alphabet="0123456789.-+xX 年\t", max_size=20),
)


def _deliveries(sample: Sample) -> st.SearchStrategy[list[dict[str, str]]]:
    """Some rows: the good one with any cells changed, to odd values or to values of other rows of its kind."""
    own = {name: [sample.good[name]] for name in sample.good}
    for name, *_, cells in (*BROKEN, *SOUND):
        if SAMPLES[name] is sample:
            for column, cell in cells.items():
                own[column].append(cell)
    changes = st.fixed_dictionaries({}, optional={name: st.sampled_from(own[name]) | CELLS for name in sample.good})
    return st.lists(changes.map(lambda cells: {**sample.good, **cells}), min_size=1, max_size=25)


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_duckdb_finds_what_plain_python_finds(name: str, data: st.DataObject) -> None:
    rows = data.draw(_deliveries(SAMPLES[name]))
    assert checked(SAMPLES[name], rows).counts == reference.counts(SAMPLES[name], rows)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("size", [300, 21_000])
def test_great_expectations_counts_what_duckdb_finds(name: str, size: int) -> None:
    """Below and above the size from which deliveries are validated in narrow frames."""
    sample = SAMPLES[name]
    rows = _mixed(sample, size)
    made = checked(sample, rows)
    opinion = second_opinion(made.typed, sample.contract, sample.layout, REGISTRY.codes, sample.context)
    assert +Counter(opinion) == made.counts
    if size == 300:
        assert made.counts == reference.counts(sample, rows)


def _mixed(sample: Sample, size: int) -> list[dict[str, str]]:
    """Many rows, a third of them with one to three odd cells, always the same."""
    chance = random.Random(f"{sample.supplier} {sample.dataset}")
    edges = [cells for name, *_, cells in (*BROKEN, *SOUND) if SAMPLES[name] is sample]
    rows = []
    for number in range(size):
        cells = dict(chance.choice(edges)) if number % 3 == 0 else {}
        if number % 7 == 0:
            cells |= {column: chance.choice(ODD) for column in chance.sample(sorted(sample.good), 3)}
        rows.append({**sample.good, **cells})
    return rows


def test_dates_beyond_the_reach_of_pandas_are_counted_too() -> None:
    sample = SAMPLES["workbook"]
    rows = [sample.row(as_of_on="9999-12-31"), sample.row(issued_on="1000-01-01"), sample.good]
    made = checked(sample, rows)
    opinion = second_opinion(made.typed, sample.contract, sample.layout, REGISTRY.codes, sample.context)
    assert +Counter(opinion) == made.counts == reference.counts(sample, rows)


def test_an_empty_delivery_has_no_counts() -> None:
    sample = SAMPLES["flow"]
    opinion = second_opinion(checked(sample, []).typed, sample.contract, sample.layout, REGISTRY.codes, sample.context)
    assert set(opinion.values()) == {0}
