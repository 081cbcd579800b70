"""The population stability index: how far a distribution has moved from an earlier one.

PSI = sum over bins of (after - before) * ln(after / before), shares of each population; formula and the customary bounds
0.1 and 0.25 after N. Siddiqi, Intelligent Credit Scoring, 2nd ed., Wiley 2017, p. 369. A bin that is empty in one of the
two has no logarithm: it counts as half a subject (our choice, see docs/decisions/0018); empty in both it counts nothing.
Computed with decimals of fixed precision, so that it is the same on every machine, and given to six places.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import accumulate
from typing import TypeVar

_EXACT = Context(prec=34, rounding=ROUND_HALF_EVEN)
_PLACES = Decimal("0.000001")
_HALF_A_SUBJECT = Decimal("0.5")
BIN_COUNT = 10
Bin = TypeVar("Bin", bound=Hashable)


def stability_index(before: Mapping[Bin, int], after: Mapping[Bin, int]) -> Decimal | None:
    """PSI of two distributions, given as bin -> number of subjects; None where one of them has no subjects."""
    totals = Decimal(sum(before.values())), Decimal(sum(after.values()))
    if not all(totals):
        return None
    filled = (name for name in {**before, **after} if before.get(name) or after.get(name))
    terms = (_term(_share(before.get(name, 0), totals[0]), _share(after.get(name, 0), totals[1])) for name in filled)
    return _EXACT.quantize(sum(sorted(terms), Decimal(0)), _PLACES)


def _share(count: int, total: Decimal) -> Decimal:
    return _EXACT.divide(Decimal(count) or _HALF_A_SUBJECT, total)


def _term(before: Decimal, after: Decimal) -> Decimal:
    return _EXACT.multiply(_EXACT.subtract(after, before), _EXACT.ln(_EXACT.divide(after, before)))


def decile_bounds(scores: Mapping[Decimal, int]) -> list[Decimal]:
    """The nine scores that cut a population, given as score -> number, into tenths by rank; equal ones stand once.

    A bound is the score of the subject whose rank reaches the tenth; it belongs to the bin below.
    """
    ordered = sorted(scores)
    reached = list(accumulate(scores[score] for score in ordered))
    if not reached or not reached[-1]:
        return []
    found = {
        next(score for score, rank in zip(ordered, reached, strict=True) if rank * BIN_COUNT >= tenth * reached[-1])
        for tenth in range(1, BIN_COUNT)
    }
    return sorted(found)


def binned(scores: Mapping[Decimal, int], bounds: list[Decimal]) -> dict[int, int]:
    """Number of the bin (how many bounds lie below the score) -> number of subjects."""
    counts: dict[int, int] = {}
    for score, count in scores.items():
        place = sum(bound < score for bound in bounds)
        counts[place] = counts.get(place, 0) + count
    return counts


def score_stability(before: Mapping[Decimal, int], after: Mapping[Decimal, int]) -> Decimal | None:
    """PSI of scores, given as score -> number of subjects, over the tenths of the earlier population."""
    bounds = decile_bounds(before)
    return stability_index(binned(before, bounds), binned(after, bounds))
