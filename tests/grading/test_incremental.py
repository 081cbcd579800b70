"""What a change affects, computed again alone, gives the tables that computing the whole month gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.affected import Everything, Recipe, Step, base_of, recipe_of, recompute
from etl.engine.base import Content
from etl.engine.dialect import parse
from etl.grading import grading_plan, load_policies
from etl.period import Period
from tests.grading.county import County, graded_month, random_county
from tests.sql.month import CONTRACTS, MODELS, ROOT, Month, input_columns, published_columns

PERIOD, HOUSEHOLDS, CHANGES = "2024-03", 100, 2
Change = Callable[[County, np.random.Generator], None]


def _some(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.choice(count, CHANGES, replace=False)


def revised_notes(county: County, rng: np.random.Generator) -> None:
    county.loans.loc[_some(rng, len(county.loans)), ["overdue_days", "loan_status"]] = [200, "overdue"]


def notes_gone(county: County, rng: np.random.Generator) -> None:
    county.loans = county.loans.drop(index=_some(rng, len(county.loans))).reset_index(drop=True)


def other_borrowers(county: County, rng: np.random.Generator) -> None:
    people = county.members["person_key"].to_numpy()
    county.loans.loc[_some(rng, len(county.loans)), "co_person_key"] = people[_some(rng, len(people))]


def rejected_notes(county: County, rng: np.random.Generator) -> None:
    chosen = county.loans.iloc[_some(rng, len(county.loans))]
    county.rejected = {**county.rejected, "loans": chosen[["supplier", "loan_key", "person_key", "co_person_key"]]}
    county.loans = county.loans.drop(index=chosen.index).reset_index(drop=True)


def people_who_moved(county: County, rng: np.random.Generator) -> None:
    homes = county.households["household_key"].to_numpy()
    county.members.loc[_some(rng, len(county.members)), "household_key"] = homes[_some(rng, len(homes))]


def people_gone(county: County, rng: np.random.Generator) -> None:
    county.members = county.members.drop(index=_some(rng, len(county.members))).reset_index(drop=True)


def households_that_split(county: County, rng: np.random.Generator) -> None:
    homes = county.households["household_key"].to_numpy()
    county.households.loc[_some(rng, len(homes)), "former_household_key"] = homes[_some(rng, len(homes))]


def consents_withdrawn(county: County, rng: np.random.Generator) -> None:
    chosen = county.consents.index[county.consents["purpose"].isin(["grading", "bank_data"])]
    county.consents.loc[chosen[_some(rng, len(chosen))], "withdrawn_on"] = date(2024, 3, 1)


def agreements_broken(county: County, rng: np.random.Generator) -> None:
    columns = ["performance", "has_unperformed_document", "unperformed_by"]
    county.mediation.loc[_some(rng, len(county.mediation)), columns] = ["unperformed", True, "respondent"]


def items_repaired(county: County, rng: np.random.Generator) -> None:
    adverse = county.items[county.items["list_kind"] != "positive"]
    chosen = adverse["event_key"].iloc[_some(rng, len(adverse))]
    county.repaired = pd.DataFrame({"event_key": chosen, "repaired_on": date(2024, 3, 15)})


def ballots_cast_anew(county: County, rng: np.random.Generator) -> None:
    county.ballots.loc[_some(rng, len(county.ballots)), ["filial_mark", "honesty_mark", "hygiene_mark"]] = [0, 1, 10]


def ballots_withdrawn(county: County, rng: np.random.Generator) -> None:
    county.ballots = county.ballots.drop(index=_some(rng, len(county.ballots))).reset_index(drop=True)


def items_repaired_at_the_source(county: County, rng: np.random.Generator) -> None:
    county.items.loc[_some(rng, len(county.items)), "repaired_on"] = date(2024, 3, 1)


def items_of_others(county: County, rng: np.random.Generator) -> None:
    people = county.members["person_key"].to_numpy()
    county.items.loc[_some(rng, len(county.items)), "person_key"] = people[_some(rng, len(people))]


def notes_mended(county: County, rng: np.random.Generator) -> None:
    notes = county.loans.iloc[_some(rng, len(county.loans))][["supplier", "loan_key"]]
    mended = notes.rename(columns={"supplier": "bank_code"}).assign(overdue_days=0, five_class="normal")
    county.others = {**county.others, "mended_notes": mended}


def households_that_object(county: County, rng: np.random.Generator) -> None:
    homes = county.households["household_key"].to_numpy()[_some(rng, len(county.households))]
    cases = pd.DataFrame({"case_id": [f"case-{home}" for home in homes], "household_key": homes})
    kinds = {"case_kind": "objection", "concerns": "all", "opened_on": date(2024, 3, 5), "marked_on": date(2024, 3, 6)}
    county.others = {**county.others, "accepted_cases": cases.assign(**kinds)}


def enterprises_reported(county: County, rng: np.random.Generator) -> None:
    places = county.households.iloc[_some(rng, len(county.households))]
    farms = pd.DataFrame(
        {"supplier": "enterprises", "business_key": [f"f-{home}" for home in places["household_key"]],
         "in_charge_person_key": places["head_person_key"].to_numpy(), "village_code": places["village_code"].to_numpy(),
         "business_kind": "family_farm", "operating_income_yuan": "90000.00"}
    )  # fmt: skip
    county.others = {**county.others, "accepted_businesses": farms}


CHANGES_KNOWN: tuple[Change, ...] = (
    revised_notes, notes_gone, other_borrowers, rejected_notes, people_who_moved, people_gone, households_that_split,
    consents_withdrawn, agreements_broken, ballots_cast_anew, ballots_withdrawn, items_repaired, items_repaired_at_the_source,
    items_of_others, notes_mended, households_that_object, enterprises_reported,
)  # fmt: skip
FAR_REACHING = (
    rejected_notes, people_who_moved, consents_withdrawn, agreements_broken, ballots_cast_anew, households_that_object,
    enterprises_reported, items_repaired,
)  # fmt: skip


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    statements = grading_plan(load_policies([ROOT / "config"], Period.parse(PERIOD)), MODELS)
    inputs = {name: list(columns) for name, columns in input_columns().items()}
    return recipe_of(MODELS, CONTRACTS, statements, inputs, Month(PERIOD).params)


@pytest.fixture(scope="module")
def before() -> Iterator[Month]:
    month = graded_month("2024-02", random_county(7, HOUSEHOLDS))
    yield month
    month.close()


@pytest.fixture(scope="module")
def base(before: Month) -> Iterator[Month]:
    month = whole(unchanged(), before)
    yield month
    month.close()


def unchanged() -> County:
    return random_county(8, HOUSEHOLDS, date(2024, 3, 31))


def whole(county: County, before: Month) -> Month:
    """The month computed as a whole."""
    month = graded_month(PERIOD, county, before=before)
    month.build_layer("marts")
    month.build_layer("audit")
    return month


def affected(county: County, before: Month, base: Month, recipe: Recipe) -> dict[str, Content]:
    """The contents of all tables when only what changed since `base` is computed."""
    month = graded_month(PERIOD, county, before=before)
    differing = {}
    for name in recipe.inputs:
        was = base.engine.arrow(f"SELECT * FROM {name}")
        month.engine.run_model(f"{name}__now", f"SELECT * FROM {name}")
        month.engine.register_arrow(f"{name}__was", was)
        rows = [month.engine.content(f"{name}__{when}", recipe.inputs[name]) for when in ("was", "now")]
        if rows[0] != rows[1]:
            differing[name] = (f"{name}__was", f"{name}__now")
    for name in (*(step.name for step in recipe.steps if step.contract), *recipe.kept):
        month.engine.register_arrow(base_of(name), base.engine.arrow(f"SELECT * FROM {name}"))
    try:
        found = recompute(month.engine, recipe, differing)
        return {
            step.name: month.engine.content(found.whole(step.name), columns_of(step))
            for step in recipe.steps
            if step.contract or step.is_list
        }
    finally:
        month.close()


def columns_of(step: Step) -> list[str]:
    """What two computations of a table, or of a list for the ledger, have to agree on."""
    return list(published_columns(step.name)) if step.contract else parse(step.sql).named_selects


def assert_alike(county: County, before: Month, base: Month, recipe: Recipe) -> None:
    expected = whole(county, before)
    found = affected(county, before, base, recipe)
    steps = {step.name: step for step in recipe.steps}
    assert found == {name: expected.engine.content(name, columns_of(steps[name])) for name in found}
    assert found["core_household_grades"].rows == HOUSEHOLDS
    expected.close()


@pytest.mark.parametrize("change", FAR_REACHING, ids=lambda change: change.__name__)
def test_a_change_alone(change: Change, before: Month, base: Month, recipe: Recipe) -> None:
    county = unchanged()
    change(county, np.random.default_rng(11))
    assert_alike(county, before, base, recipe)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(CHANGES_KNOWN), min_size=3, max_size=7), st.integers(0, 1_000))
def test_changes_one_upon_another(before: Month, base: Month, recipe: Recipe, changes: list[Change], seed: int) -> None:
    county, rng = unchanged(), np.random.default_rng(seed)
    for change in changes:
        change(county, rng)
    assert_alike(county, before, base, recipe)


def test_what_reaches_everybody_is_not_computed_in_part(before: Month, base: Month, recipe: Recipe) -> None:
    county = unchanged()
    county.late = frozenset({"alpha"})
    with pytest.raises(Everything, match="expected_inputs changed"):
        affected(county, before, base, recipe)


def test_a_county_that_changed_nearly_everywhere_is_computed_as_a_whole(
    before: Month, base: Month, recipe: Recipe
) -> None:
    county = unchanged()
    county.households["farmland_mu"] = "1.00"
    with pytest.raises(Everything, match="subjects changed, of 100 households"):
        affected(county, before, base, recipe)


def test_a_median_that_moves_reaches_its_town(before: Month, base: Month, recipe: Recipe) -> None:
    county = unchanged()
    county.households.loc[county.households.index[:20], "annual_income_yuan"] = "1.00"
    with pytest.raises(Everything, match="feature_peers_household_town came out differently"):
        affected(county, before, base, recipe)
