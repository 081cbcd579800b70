"""Where one stands among its peers (households among households): quartiles by rank, of groups of twenty or more only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from etl.engine.duck import DuckEngine

MINIMUM_GROUP: Final = 20
_GROUPS: Final = {"village": "village_code", "town": "town_code", "county": None}
_MEASURED = """
    WITH peers AS (SELECT {key} FROM {grades} WHERE score IS NOT NULL {within}),
    measured AS (
        SELECT p.{key}, CAST(sum(p.points) AS DECIMAL(9, 2)) AS points
        FROM {points} AS p INNER JOIN peers USING ({key})
        WHERE p.block IN (SELECT unnest($blocks)) GROUP BY p.{key}
    ),
    ranked AS (SELECT points, row_number() OVER (ORDER BY points) AS rank, count(*) OVER () AS peers FROM measured)
    SELECT max(points) FILTER (WHERE rank = (peers + 3) // 4),
        max(points) FILTER (WHERE rank = (2 * peers + 3) // 4),
        max(points) FILTER (WHERE rank = (3 * peers + 3) // 4),
        (SELECT points FROM measured WHERE {key} = $key)
    FROM ranked"""

_OF_SHARE = """
    WITH shares AS (
        SELECT {place}_code AS code,
            CAST({numerator} * 100 AS BIGINT) * 10000 // CAST({denominator} * 100 AS BIGINT) AS hundredths
        FROM core_{place}_grades WHERE {place}_grade IS NOT NULL AND {denominator} > 0 {within}
    ),
    ranked AS (
        SELECT hundredths, row_number() OVER (ORDER BY hundredths) AS rank, count(*) OVER () AS peers FROM shares
    )
    SELECT max(hundredths) FILTER (WHERE rank = (peers + 3) // 4),
        max(hundredths) FILTER (WHERE rank = (2 * peers + 3) // 4),
        max(hundredths) FILTER (WHERE rank = (3 * peers + 3) // 4),
        (SELECT hundredths FROM shares WHERE code = $own), coalesce(max(peers), 0)
    FROM ranked"""


@dataclass(frozen=True)
class Group:
    """The smallest group with enough rated peers, and how many they are: village, else town, else county."""

    subject: str
    name: str
    size: int
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


def peer_group(engine: DuckEngine, subject: str, subject_key: str) -> Group | None:
    """The peers of one subject; None for one without a score, or when even the county has too few."""
    grades = f"core_{subject}_grades"
    place = f"SELECT village_code, town_code FROM {grades} WHERE {subject}_key = $key AND score IS NOT NULL"
    found = engine.fetch(place, {"key": subject_key})
    if not found:
        return None
    codes = {"village": found[0][0], "town": found[0][1], "county": None}
    for name, column in _GROUPS.items():
        condition = f"AND {column} = $code" if column else ""
        query = f"SELECT count(*) FROM {grades} WHERE score IS NOT NULL {condition}"
        [(size,)] = engine.fetch(query, {"code": codes[name]})
        if size >= MINIMUM_GROUP:
            return Group(subject, name, size, condition, codes[name])
    return None


def quartiles(engine: DuckEngine, group: Group, subject_key: str, blocks: Sequence[str]) -> Quartiles:
    """Quartiles of the points of some blocks together within the group."""
    names = {
        "key": f"{group.subject}_key",
        "grades": f"core_{group.subject}_grades",
        "points": f"core_{group.subject}_points",
    }
    params = {"blocks": list(blocks), "key": subject_key, "code": group.code}
    [row] = engine.fetch(_MEASURED.format(**names, within=group.condition), params)
    return Quartiles(*row)


def place_group(engine: DuckEngine, place: str, town_code: str | None) -> Group | None:
    """The rated places one is compared with: a village with those of its town, else of the county; None below twenty."""
    within = {"town": "AND town_code = $code"} if place == "village" and town_code else {}
    for name, condition in {**within, "county": ""}.items():
        query = f"SELECT count(*) FROM core_{place}_grades WHERE {place}_grade IS NOT NULL {condition}"
        [(size,)] = engine.fetch(query, {"code": town_code})
        if size >= MINIMUM_GROUP:
            return Group(place, name, size, condition, town_code)
    return None


def share_quartiles(
    engine: DuckEngine, group: Group, place_code: str, numerator: str, denominator: str
) -> Quartiles | None:
    """Quartiles of a share in percent, cut after two decimals; None without an own one, or of fewer than twenty places."""
    query = _OF_SHARE.format(place=group.subject, numerator=numerator, denominator=denominator, within=group.condition)
    [(*found, size)] = engine.fetch(query, {"own": place_code, "code": group.code})
    return Quartiles(*(Decimal(one) / 100 for one in found)) if None not in found and size >= MINIMUM_GROUP else None
