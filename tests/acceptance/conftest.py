"""One county for all acceptance tests that only look, and a smaller one that can be had back for those that act."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.county import PERIODS, County, SmallCounty, county_at

HOUSEHOLDS = 2_000


@pytest.fixture(scope="session")
def county(tmp_path_factory: pytest.TempPathFactory) -> Iterator[County]:
    """Two months of 2,000 households, delivered, graded and released."""
    with county_at(tmp_path_factory.mktemp("county") / "home", HOUSEHOLDS) as lived:
        for period in PERIODS:
            lived.live(period)
        yield lived


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCounty:
    """A county of 600 households, as it was after a step of two months."""
    return SmallCounty(tmp_path_factory.mktemp("small"))
