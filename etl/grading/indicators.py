"""Indicators: where a value comes from, what it is worth, and what holds when it is missing, withheld or not agreed to."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from etl.grading.bands import Band, Points, check_bands
from etl.registry import Bilingual, Strict

Purpose = Literal["bank_data", "income", "deposits", "property", "tax"]
IN_WRITING: tuple[Purpose, ...] = ("income", "deposits", "property", "tax")  # 征信业管理条例 14
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Round = Literal["up", "down"]
Source = Literal["sql", "value", "peer", "ratio", "events"]
_SOURCES: tuple[Source, ...] = get_args(Source)


class Coarser(Strict):
    """What stands in for suppliers that cannot provide what the indicator needs: a value bound as a parameter."""

    provides: str
    parameter: Identifier
    value: int


class Peer(Strict):
    """A column over the median of the subject's peers, in whole percent.

    The median is taken by rank (the lower of two middle values) over the subjects of the same town or village that have a
    value; below `minimum_sample` of them, over the county, or the value is missing.
    """

    of: Identifier
    within: Literal["town", "village"]
    minimum_sample: int = Field(ge=1)
    otherwise: Literal["county", "missing"]


class Ratio(Strict):
    """Two columns of the features, numerator over denominator in whole percent; `empty` is the percentage of 0 of 0."""

    numerator: Identifier
    denominator: Identifier
    empty: int | None = None


class DecayStep(Strict):
    """Events up to so many days old count for so much of their points."""

    at_most: int = Field(ge=0)
    pct: int = Field(ge=1, le=100)


class Decay(Strict):
    """How an event fades: in a straight line to nothing at `linear_days`, or by steps; older ones count nothing."""

    linear_days: int | None = Field(default=None, ge=1)
    steps: list[DecayStep] = []

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if (self.linear_days is None) == (not self.steps):
            raise ValueError("write linear_days or steps")
        if any(younger.at_most >= older.at_most for younger, older in pairwise(self.steps)):
            raise ValueError("steps overlap: at_most must be strictly ascending")
        if any(younger.pct < older.pct for younger, older in pairwise(self.steps)):
            raise ValueError("steps grow: an older event must not count more than a younger one")
        return self


class Events(Strict):
    """Points from single events: `start` plus the points of each event, no more than the indicator's max, no less than `floor`.

    `relation` is an SQL model with the subject's key, the day `on` which the event happened, its `evidence` and, where
    `points` differ by kind, its `kind`. Kinds without points do not count, nor do events after the period end.
    """

    relation: Identifier
    on: Identifier
    evidence: Identifier = "evidence"
    kind: Identifier | None = None
    points: Points | dict[str, Points]
    decay: Decay | None = None
    start: Points = Decimal(0)
    floor: Points = Decimal(0)

    @field_validator("points", mode="after")
    @classmethod
    def _are_some(cls, value: Decimal | dict[str, Decimal]) -> Decimal | dict[str, Decimal]:
        if not (any(value.values()) if isinstance(value, dict) else value):
            raise ValueError("an event without points changes nothing")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if isinstance(self.points, dict) != (self.kind is not None):
            raise ValueError("points by kind need the column kind, one number for every event needs none")
        if self.start < self.floor:
            raise ValueError(f"start {self.start} lies below floor {self.floor}")
        return self


class Indicator(Strict):
    """One line of the scorecard.

    Its value is a column of the features (`value`), over the median of the peers (`peer`), one column over another
    (`ratio`), single events (`events`), or what `sql/indicators/<sql or id>.sql` selects.
    """

    id: Identifier
    block: str
    max: Points
    label: Bilingual
    sql: Identifier | None = None
    value: Identifier | None = None
    peer: Peer | None = None
    ratio: Ratio | None = None
    events: Events | None = None
    evidence: Identifier | None = None
    bands: list[Band] = []
    missing: Points
    withheld: Literal["hold"]
    consent: Purpose | None = None
    requires: dict[str, str] = {}
    coarser: Coarser | None = None
    advisable: bool
    clause: str

    @property
    def source(self) -> Source:
        """Where the value comes from."""
        return next((name for name in _SOURCES[1:] if getattr(self, name) is not None), "sql")

    @property
    def model(self) -> str:
        """Name of the SQL model that yields the value, where one does."""
        return self.sql or self.id

    @property
    def is_numeric(self) -> bool:
        return not any(band.categories for band in self.bands)

    @cached_property
    def worst(self) -> Decimal:
        """The fewest points the indicator can give."""
        given = [self.events.floor] if self.events else [band.gives for band in self.bands]
        return min(*given, self.missing)

    @property
    def rounding(self) -> Round:
        """Percentages are rounded so that comparing them with whole bounds stays exact: up for `at_most`, else down."""
        return "up" if any("at_most" in band.conditions for band in self.bands) else "down"

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        named = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"its value comes from {named[0]} or from {named[1]}, not from both")
        if self.evidence and named not in (["value"], ["peer"], ["ratio"]):
            raise ValueError("evidence stands beside value, peer or ratio; SQL and events bring their own")
        if (self.peer or self.ratio) and any(bound % 1 for band in self.bands for bound in band.bounds):
            raise ValueError("a percentage is compared with whole numbers")
        if (self.peer or self.ratio) and not self.is_numeric:
            raise ValueError("a percentage has no categories")
        return self

    @model_validator(mode="after")
    def _points_are_worth_max(self) -> Self:
        if (self.events is None) == (not self.bands):
            raise ValueError("needs bands; only events give their points themselves")
        if self.bands:
            check_bands(self.bands)
            best = max(band.gives for band in self.bands)
            if best != self.max:
                raise ValueError(f"the best band gives {best}, max says {self.max}")
        if self.events and self.events.start > self.max:
            raise ValueError(f"start {self.events.start} is more than max {self.max}")
        if self.missing > self.max:
            raise ValueError(f"missing gives {self.missing}, more than max {self.max}")
        return self
