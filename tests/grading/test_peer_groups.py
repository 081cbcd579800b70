"""Peers are shown from twenty on: the village's, else the town's, else the county's; quartiles by rank, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from etl.engine.duck import DuckEngine
from etl.reports.peers import Quartiles, peer_group, quartiles

VILLAGE, NEIGHBOUR, FAR = "341181100201", "341181100202", "341181101201"


@pytest.fixture
def engine() -> Iterator[DuckEngine]:
    with DuckEngine(threads=1) as engine:
        engine.con.execute(
            "CREATE TABLE core_shop_grades (shop_key VARCHAR, village_code VARCHAR, town_code VARCHAR, score DECIMAL(7, 2))"
        )
        engine.con.execute("CREATE TABLE core_shop_points (shop_key VARCHAR, block VARCHAR, points DECIMAL(7, 2))")
        yield engine


def shops(engine: DuckEngine, village: str, count: int, *, rated: bool = True) -> None:
    """Shops with 1, 2, 3, … points in one block and twice as many in another."""
    for number in range(1, count + 1):
        key = f"{village}-{number:02d}-{rated}"
        score = 3 * number if rated else None
        engine.con.execute(
            "INSERT INTO core_shop_grades VALUES (?, ?, ?, ?)", [key, village, f"{village[:9]}000", score]
        )
        if rated:
            engine.con.execute(
                "INSERT INTO core_shop_points VALUES (?, 'a', ?), (?, 'b', ?)", [key, number, key, 2 * number]
            )


@pytest.mark.parametrize(
    ("here", "beside", "far", "group"),
    [
        (20, 0, 0, ("village", 20)), (19, 0, 0, None), (19, 1, 0, ("town", 20)), (10, 9, 0, None),
        (10, 9, 1, ("county", 20)), (20, 5, 5, ("village", 20)),
    ],
)  # fmt: skip
def test_the_smallest_group_of_twenty_rated_counts(
    engine: DuckEngine, here: int, beside: int, far: int, group: tuple[str, int] | None
) -> None:
    for village, count in ((VILLAGE, here), (NEIGHBOUR, beside), (FAR, far)):
        shops(engine, village, count)
        shops(engine, village, 30, rated=False)
    found = peer_group(engine, "shop", f"{VILLAGE}-01-True")
    assert ((found.name, found.size) if found else None) == group


def test_who_has_no_score_has_no_peers(engine: DuckEngine) -> None:
    shops(engine, VILLAGE, 30)
    shops(engine, VILLAGE, 1, rated=False)
    assert peer_group(engine, "shop", f"{VILLAGE}-01-False") is None


@pytest.mark.parametrize(
    ("count", "bounds"), [(20, (5, 10, 15)), (21, (6, 11, 16)), (22, (6, 11, 17)), (23, (6, 12, 18))]
)
def test_quartiles_are_the_points_at_a_rank(engine: DuckEngine, count: int, bounds: tuple[int, int, int]) -> None:
    """Of n in order, those at n/4, n/2 and 3n/4, rounded up."""
    shops(engine, VILLAGE, count)
    group = peer_group(engine, "shop", f"{VILLAGE}-07-True")
    assert group is not None
    one = quartiles(engine, group, f"{VILLAGE}-07-True", ["a"])
    assert (one.low, one.median, one.high, one.own) == (*bounds, 7)
    both = quartiles(engine, group, f"{VILLAGE}-07-True", ["a", "b"])
    assert (both.low, both.own) == (3 * bounds[0], 21)


@pytest.mark.parametrize(
    ("own", "position"),
    [(4, "bottom_quarter"), (5, "below_middle"), (9, "below_middle"), (10, "middle"), (11, "above_middle"),
     (15, "above_middle"), (16, "top_quarter")],
)  # fmt: skip
def test_who_equals_a_bound_is_not_below_it(own: int, position: str) -> None:
    assert Quartiles(Decimal(5), Decimal(10), Decimal(15), Decimal(own)).position == position
