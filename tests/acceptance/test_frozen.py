"""A graded month can be graded again, whole or in part, with the same result."""

from __future__ import annotations

import pytest

from etl.frozen import FrozenMonth, frozen_month
from etl.vocabulary import DataError
from etl.workspace import Workspace
from tests.acceptance.county import PERIODS, County

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres]
GRADES = (
    "SELECT household_key, score, computed_grade, effective_grade, hold_reason, veto_ids FROM core_household_grades"
)


def _graded_again(month: FrozenMonth) -> dict[str, tuple[object, ...]]:
    month.grade()
    return {str(row[0]): row[1:] for row in month.engine.fetch(GRADES)}


@pytest.fixture(scope="module")
def published(county: County) -> dict[str, tuple[object, ...]]:
    query = f"{GRADES.replace('FROM ', 'FROM core.')} WHERE period = :period"
    return {str(row[0]): row[1:] for row in county.rows(query, period=PERIODS[-1])}


def test_the_whole_month_comes_out_as_published(county: County, published: dict[str, tuple[object, ...]]) -> None:
    with frozen_month(Workspace(county.settings), PERIODS[-1]) as month:
        assert _graded_again(month) == published


def test_a_few_households_get_the_grades_they_have_among_all(
    county: County, published: dict[str, tuple[object, ...]]
) -> None:
    few = sorted(published)[::97]
    with frozen_month(Workspace(county.settings), PERIODS[-1], households=few) as month:
        assert _graded_again(month) == {key: published[key] for key in few}


def test_a_month_that_was_never_graded_is_not_frozen(county: County) -> None:
    with pytest.raises(DataError, match="2024-04: not graded yet"), frozen_month(Workspace(county.settings), "2024-04"):
        pass
