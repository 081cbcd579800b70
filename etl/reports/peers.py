"""Where a household stands among its peers: quartiles by rank, of groups of twenty or more only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from etl.engine.duck import DuckEngine

MINIMUM_GROUP: Final = 20
_GROUPS: Final = {"village": "village_code", "town": "town_code", "county": None}
_MEASURED = """
    WITH peers AS (SELECT household_key FROM core_household_grades WHERE score IS NOT NULL {within}),
    measured AS (
        SELECT p.household_key, CAST(sum(p.points) AS DECIMAL(9, 2)) AS points
        FROM core_household_points AS p INNER JOIN peers USING (household_key)
        WHERE p.block IN (SELECT unnest($blocks)) GROUP BY p.household_key
    ),
    ranked AS (SELECT points, row_number() OVER (ORDER BY points) AS rank, count(*) OVER () AS households FROM measured)
    SELECT max(points) FILTER (WHERE rank = (households + 3) // 4),
        max(points) FILTER (WHERE rank = (2 * households + 3) // 4),
        max(points) FILTER (WHERE rank = (3 * households + 3) // 4),
        (SELECT points FROM measured WHERE household_key = $key)
    FROM ranked"""


@dataclass(frozen=True)
class Group:
    """The smallest group with enough rated households: village, else town, else county."""

    name: str
    households: int
    condition: str
    code: str | None


@dataclass(frozen=True)
class Quartiles:
    """Bounds of the quarters (the points at rank ⌈kn/4⌉ from below) and the household's own points."""

    low: Decimal
    median: Decimal
    high: Decimal
    own: Decimal

    @property
    def position(self) -> str:
        """Where the household stands; whoever equals a bound is not below it."""
        if self.own == self.median:
            return "middle"
        if self.own > self.median:
            return "top_quarter" if self.own > self.high else "above_middle"
        return "bottom_quarter" if self.own < self.low else "below_middle"


def peer_group(engine: DuckEngine, household_key: str) -> Group | None:
    """The household's group of peers; None for a household without a score, or when even the county is too small."""
    place = "SELECT village_code, town_code FROM core_household_grades WHERE household_key = $key AND score IS NOT NULL"
    found = engine.fetch(place, {"key": household_key})
    if not found:
        return None
    codes = {"village": found[0][0], "town": found[0][1], "county": None}
    for name, column in _GROUPS.items():
        condition = f"AND {column} = $code" if column else ""
        query = f"SELECT count(*) FROM core_household_grades WHERE score IS NOT NULL {condition}"
        [(households,)] = engine.fetch(query, {"code": codes[name]})
        if households >= MINIMUM_GROUP:
            return Group(name, households, condition, codes[name])
    return None


def quartiles(engine: DuckEngine, group: Group, household_key: str, blocks: Sequence[str]) -> Quartiles:
    """Quartiles of the points of some blocks together within the group."""
    params = {"blocks": list(blocks), "key": household_key, "code": group.code}
    [row] = engine.fetch(_MEASURED.format(within=group.condition), params)
    return Quartiles(*row)
