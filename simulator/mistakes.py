"""Mistakes planted in the register. A planted row stays wrong until it changes again; half are mended a month later."""

from __future__ import annotations

import numpy as np

from simulator.government import DATASETS, clean_sheet
from simulator.people import HEAD, NOBODY, OTHER, add_people, identity_text, name_text
from simulator.plants import CONSENTS, HOUSEHOLDS, MEMBERS
from simulator.sheets import Plant, Row, fitting, schedule
from simulator.tables import Table
from simulator.text import NO_DAY
from simulator.world import BANK_DATA, CREDIT_LINE, LANES, MISTAKE_LANE, County, Mistake

PLANTS: dict[str, tuple[Plant, ...]] = {"households": HOUSEHOLDS, "members": MEMBERS, "consents": CONSENTS}
ROWS_TO_LOSE = 0.07
"""Share of a pull that planted mistakes may cost: below `accept.max_rejected_share` of the register."""


def live_on(county: County, pulled_from: int | None) -> None:
    """Mend half of last month's mistakes and plant this month's.

    `pulled_from` is the first second of the rows that will be pulled; None means that everything will be.
    """
    mended = _mend(county)
    for dataset in DATASETS:
        table = _table(county, dataset)
        candidates = _candidates(county, dataset, mended[dataset])
        pulled = table.rows if pulled_from is None else int((table["changed"] >= pulled_from).sum())
        allowed = int(pulled * ROWS_TO_LOSE)
        wanted = schedule(list(PLANTS[dataset]), [], allowed, county.copies, county.age - 1)
        _plant(county, dataset, wanted, candidates)


def _table(county: County, dataset: str) -> Table:
    return {"households": county.households, "members": county.people, "consents": county.consents}[dataset]


def _mend(county: County) -> dict[str, np.ndarray]:
    """Every second mistake of last month is put right: the row changes, a double entry goes."""
    mended: dict[str, list[int]] = {dataset: [] for dataset in DATASETS}
    last = county.month.previous()
    for number, mistake in enumerate(county.mistakes):
        if mistake.month == last and number % 2 == 0:
            mistake.healed = True
            mended[mistake.dataset].append(mistake.position)
    for dataset, positions in mended.items():
        rows = np.array(positions, dtype=np.int64)
        table = _table(county, dataset)
        table["changed"][rows] = county.moments(county.stream(f"mend {dataset}"), len(rows))
        table["frozen"][rows] = False
    return {dataset: np.array(positions, dtype=np.int64) for dataset, positions in mended.items()}


def _candidates(county: County, dataset: str, mended: np.ndarray) -> np.ndarray:
    """Rows of the mistake lane that nothing else depends on and that were not just mended, in random order."""
    table = _table(county, dataset)
    free = ~table["frozen"]
    free[mended] = False
    if dataset == "households":
        ok = table["alive"] & ~table["absent"] & (table["civility"] != NO_DAY)
        ok &= _in_lane(county, np.arange(table.rows))
    elif dataset == "members":
        ok = table["alive"] & (table["relation"] != HEAD) & _in_lane(county, table["household"])
    else:
        ok = table["granted_yes"] & (table["withdrawn"] == NO_DAY) & (table["expires"] != NO_DAY)
        ok &= np.isin(table["purpose"], (BANK_DATA, CREDIT_LINE))
        ok &= _in_lane(county, county.people["household"][table["subject"]])
    return county.stream(f"plants {dataset}").permutation(np.flatnonzero(free & ok))


def _in_lane(county: County, household: np.ndarray) -> np.ndarray:
    return (household != NOBODY) & (household % LANES == MISTAKE_LANE) & (household < county.size)


def _plant(county: County, dataset: str, wanted: list[Plant], candidates: np.ndarray) -> None:
    """One entity per plant, changed this month at an odd second nobody else uses."""
    pool = list(candidates[: 3 * len(wanted)])
    table = _table(county, dataset)
    sheet = clean_sheet(county, dataset, np.array(pool, dtype=np.int64))
    free = list(range(len(pool)))
    for number, plant in enumerate(wanted):
        row = fitting(sheet, free, plant)
        if row is None:
            continue
        position = int(pool[row])
        table["changed"][position] = (county.first_day + 3 + number % 20) * 86_400 + 13 * 3600 + 2 * number + 1
        table["frozen"][position] = True
        county.mistakes.append(_mistake(county, dataset, position, plant, Row(sheet, row)))


def _mistake(county: County, dataset: str, position: int, plant: Plant, row: Row) -> Mistake:
    copied = plant.copy_edit(row) if plant.copy_edit else {}
    if plant.rule == "M140":
        copied = _another_person(county)
    return Mistake(dataset, position, county.month, plant.finds, plant.edit(row), plant.copy, copied)


def _another_person(county: County) -> dict[str, str | None]:
    """Identity, name, birth and sex of somebody who is nowhere else: two people under one member number."""
    rng = county.stream(f"another person {len(county.mistakes)}")
    birth = np.array([county.last_day - 14_000 - int(rng.integers(0, 5_000))])
    who = add_people(
        county.people, rng, np.array([NOBODY]), np.array([OTHER]), birth, np.array([True]), np.array([0]), 0
    )
    return {
        "id_no": identity_text(county.people, who)[0].as_py(),
        "person_name": name_text(county.people, who)[0].as_py(),
        "birth_on": str(birth.astype("datetime64[D]")[0]),
        "sex": county.config.code("sex", "register", "male"),
    }
