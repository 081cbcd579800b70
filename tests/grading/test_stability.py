"""The stability index against a published figure, against calculations by hand, and in its corners."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from etl.grading.stability import binned, decile_bounds, score_stability, stability_index

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1_000), min_size=1)


def test_a_published_figure_is_met_to_its_last_digit() -> None:
    """The example in the reference of the R package KAscore, `psi()`, prints 0.3404592 for two samples drawn after
    set.seed(123); these are the counts that R's generator draws there."""
    development = {"188-215": 248, "215-221": 247, "221-227": 260, "227-237": 245}
    monitoring = {"188-215": 13, "215-221": 43, "221-227": 63, "227-237": 81}
    assert stability_index(development, monitoring) == Decimal("0.340459")


def test_three_bins_by_hand() -> None:
    """40/30/30 to 35/25/40 %: -0.05 ln 0.875 - 0.05 ln 0.8333… + 0.1 ln 1.3333… = 0.006677 + 0.009116 + 0.028768."""
    before, after = {"low": 40, "middle": 30, "high": 30}, {"low": 70, "middle": 50, "high": 80}
    assert stability_index(before, after) == Decimal("0.044561")


def test_an_empty_bin_counts_as_half_a_subject() -> None:
    """(0.5/10 - 5/10) ln(0.05/0.5) + (10/10 - 5/10) ln(1/0.5) = 0.45 * 2.302585 + 0.5 * 0.693147 = 1.382737."""
    assert stability_index({"a": 5, "b": 5}, {"b": 10}) == Decimal("1.382737")
    assert stability_index({"b": 10}, {"a": 5, "b": 5}) == Decimal("1.382737")


def test_a_bin_empty_in_both_counts_nothing() -> None:
    before, after = {"a": 1, "b": 3}, {"a": 2, "b": 2}
    assert stability_index({**before, "c": 0}, {**after, "c": 0}) == stability_index(before, after)


def test_nobody_before_or_after_gives_no_index() -> None:
    assert stability_index({}, {"a": 1}) is None
    assert stability_index({"a": 1}, {"a": 0}) is None


@given(COUNTS, COUNTS)
def test_it_is_symmetric_never_negative_and_zero_for_equal_shares(
    before: dict[str, int], after: dict[str, int]
) -> None:
    index = stability_index(before, after)
    assert index == stability_index(after, before)
    assert index is None or index >= 0
    if sum(before.values()) and all(before.values()):
        assert stability_index(before, {name: 3 * count for name, count in before.items()}) == 0


def test_tenths_of_twenty_scores_hold_two_each() -> None:
    scores = {Decimal(number): 1 for number in range(1, 21)}
    bounds = decile_bounds(scores)
    assert bounds == [Decimal(number) for number in range(2, 20, 2)]
    assert set(binned(scores, bounds).values()) == {2}


def test_a_score_that_spans_several_tenths_bounds_them_once() -> None:
    scores = {Decimal("60"): 7, Decimal("61.5"): 2, Decimal("70"): 1}
    assert decile_bounds(scores) == [Decimal("60"), Decimal("61.5")]
    assert binned(scores, decile_bounds(scores)) == {0: 7, 1: 2, 2: 1}


def test_scores_beyond_the_earlier_ones_fall_into_the_outer_bins() -> None:
    bounds = decile_bounds({Decimal(10): 5, Decimal(20): 5})
    assert binned({Decimal(0): 1, Decimal(99): 2}, bounds) == {0: 1, 2: 2}


@given(st.dictionaries(st.integers(0, 100).map(Decimal), st.integers(1, 50), min_size=1, max_size=40))
def test_each_bound_is_where_the_rank_reaches_its_tenth(scores: dict[Decimal, int]) -> None:
    people = [score for score in sorted(scores) for _ in range(scores[score])]
    ranks = [-(-len(people) * tenth // 10) for tenth in range(1, 10)]
    assert decile_bounds(scores) == sorted({people[rank - 1] for rank in ranks})
    assert score_stability(scores, scores) == 0
