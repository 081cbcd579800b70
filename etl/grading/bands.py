"""Bands: the steps, half-open bins or categories that turn an indicator's value into points."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from etl.registry import Strict


def _decimal(value: object) -> object:
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


Number = Annotated[Decimal, BeforeValidator(_decimal)]
Points = Annotated[Decimal, BeforeValidator(_decimal), Field(ge=-99999, le=99999, decimal_places=2)]
Bound = Decimal | str | tuple[str, ...]


class Band(Strict):
    """One step of an indicator; exactly one condition. `{else: 0}` is the rest and gives its points directly.

    `at_least` with `below` is the half-open bin [at_least, below); `equals` names one category, `in` several.
    """

    at_most: Number | None = None
    at_least: Number | None = None
    below: Number | None = None
    equals: str | None = None
    in_: tuple[str, ...] | None = Field(default=None, alias="in", min_length=1)
    else_: Points | None = Field(default=None, alias="else")
    points: Points | None = None

    @model_validator(mode="after")
    def _is_one_step(self) -> Self:
        if self.else_ is not None:
            if self.points is not None or self.conditions:
                raise ValueError("else gives its points directly: write {else: 0}")
        elif self.points is None or not self.conditions:
            raise ValueError("a band needs a condition (at_most, at_least, below, equals, in) and points")
        if len(self.conditions) > 1 and set(self.conditions) != {"at_least", "below"}:
            raise ValueError("a band has one condition, or at_least and below for a half-open bin")
        return self

    @property
    def conditions(self) -> dict[str, Bound]:
        """Condition name -> bound, those that are given."""
        found = {
            "at_least": self.at_least, "at_most": self.at_most, "below": self.below, "equals": self.equals, "in": self.in_
        }  # fmt: skip
        return {name: bound for name, bound in found.items() if bound is not None}

    @property
    def categories(self) -> tuple[str, ...]:
        """The words the band is for; empty for numbers and for the rest."""
        return self.in_ or ((self.equals,) if self.equals is not None else ())

    @property
    def bounds(self) -> list[Decimal]:
        """The numbers the band compares with."""
        return [bound for bound in self.conditions.values() if isinstance(bound, Decimal)]

    @property
    def gives(self) -> Decimal:
        points = self.else_ if self.else_ is not None else self.points
        if points is None:
            raise ValueError("a band without points")
        return points

    @property
    def label(self) -> str:
        """How the band is named in the points tables."""
        named = {
            name: "|".join(bound) if isinstance(bound, tuple) else str(bound) for name, bound in self.conditions.items()
        }
        return " ".join(f"{name} {bound}" for name, bound in named.items()) or "else"


def check_bands(bands: Sequence[Band]) -> None:
    """Bands are all of one kind, in order, without overlap or gap; raises ValueError saying which is not."""
    steps, rest = (bands[:-1], True) if bands[-1].else_ is not None else (bands, False)
    if any(band.else_ is not None for band in steps):
        raise ValueError("bands overlap: else stands last")
    kinds = {frozenset(band.conditions) for band in steps}
    if not kinds:
        return
    if set().union(*kinds) <= {"equals", "in"}:
        _check_categories(steps, rest)
    elif len(kinds) == 1 and len(next(iter(kinds))) == 1:
        [kind] = next(iter(kinds))
        _check_steps(steps, kind, rest, ascending=kind != "at_least")
    elif set().union(*kinds) <= {"at_least", "below"}:
        _check_bins(steps, rest)
    else:
        raise ValueError("bands of different kinds overlap: use one of at_most, at_least, below, equals, or bins")


def _check_categories(steps: Sequence[Band], rest: bool) -> None:
    values = [value for band in steps for value in band.categories]
    if len(set(values)) < len(values):
        raise ValueError("bands overlap: a value stands twice")
    if not rest:
        raise ValueError("bands leave a gap: end with {else: points}")


def _check_steps(steps: Sequence[Band], kind: str, rest: bool, *, ascending: bool) -> None:
    bounds = [bound for band in steps for bound in band.bounds]
    ordered = all((low < high) == ascending and low != high for low, high in pairwise(bounds))
    if not ordered:
        raise ValueError(f"bands overlap: {kind} must be strictly {'ascending' if ascending else 'descending'}")
    if not rest:
        raise ValueError("bands leave a gap: end with {else: points}")


def _check_bins(steps: Sequence[Band], rest: bool) -> None:
    if rest:
        raise ValueError("half-open bins need no else: leave out below in the last one")
    for position, (band, following) in enumerate(pairwise(steps)):
        if band.below is None or following.at_least is None or (position and band.at_least is None):
            raise ValueError("bins overlap: only the first may lack at_least, only the last may lack below")
        if band.below != following.at_least:
            raise ValueError(f"bins leave a gap or overlap between {band.below} and {following.at_least}")
        if band.at_least is not None and band.at_least >= band.below:
            raise ValueError(f"the bin from {band.at_least} below {band.below} is empty")
    if steps[0].at_least is not None or steps[-1].below is not None:
        raise ValueError("bins leave a gap: the first has no at_least, the last no below")
