"""The county as it stands at the end of a month: register, consents, loan books, cases and planted mistakes.

The world begins at 2024-01, which is never delivered, and lives forward month by month from the seed alone. Households
are sorted into lanes by their serial number, so that known stories never meet: lanes 0 and 1 may carry the loan notes
whose fate `truth.json` names, lane 2 carries the mistakes planted in the register (its people neither borrow nor appear
in mediation), the others live freely.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etl.period import Period
from simulator.people import NOBODY
from simulator.settings import Config, Places
from simulator.sheets import Sheet
from simulator.tables import Table, stream
from simulator.text import NO_DAY, day_number

FIRST_MONTH = Period(2024, 1)
LANES = 8
STORY_LANES = (0, 1)
MISTAKE_LANE = 2
PURPOSES = ("grading", "bank_data", "income", "property", "credit_line")
GRADING, BANK_DATA, INCOME, PROPERTY, CREDIT_LINE = range(5)
BANKS = ("qinghe_rcb", "baiyun_rcb", "xinhe_vb")
QINGHE, BAIYUN, XINHE = range(3)
RECIPIENTS = ("county", *BANKS)
COUNTY = 0


@dataclass
class Mistake:
    """One planted row of the register: which entity, since when, what differs, and the rules that must find it.

    `extra` rows are copies that exist beside the entity's own row (duplicates); all rows of `finds` carry the rules.
    """

    dataset: str
    position: int
    month: Period
    rules: tuple[str, ...]
    edits: dict[str, str | None]
    extra: bool = False
    extra_edits: dict[str, str | None] = field(default_factory=dict)
    healed: bool = False


@dataclass(frozen=True)
class Listed:
    """One list of the county offices as it will be written: with planted mistakes, and what must come of them."""

    dataset: str
    sheet: Sheet
    findings: list[tuple[int, str]]
    rejected: set[int]


@dataclass
class Enterprises:
    """Businesses, collectives, merchants and applications, and the lists of the month.

    `due` are the positions that the next list of a dataset names.
    """

    subjects: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    due: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    lists: list[Listed] = field(default_factory=list)

    def add(self, dataset: str, subject: dict[str, Any]) -> None:
        """A new subject, which the next list names."""
        self.due[dataset].add(len(self.subjects[dataset]))
        self.subjects[dataset].append(subject)


@dataclass
class County:
    """Everything known at the end of `month`. Positions in tables never change; money is in fen, days since 1970."""

    seed: int
    size: int
    config: Config
    places: Places
    month: Period
    households: Table
    people: Table
    consents: Table
    notes: Table = field(default_factory=Table)
    flows: Table = field(default_factory=Table)
    cases: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    told_items: list[dict[str, Any]] = field(default_factory=list)
    enterprises: Enterprises = field(default_factory=Enterprises)
    mistakes: list[Mistake] = field(default_factory=list)
    quiet: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    left_stock: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    worsened: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    register_events: dict[str, int] = field(default_factory=dict)
    offset: int = 0  # added to positions wherever they become serial numbers: a province is written in parts

    @property
    def age(self) -> int:
        """Months since the world began."""
        return (self.month.year - FIRST_MONTH.year) * 12 + self.month.month - FIRST_MONTH.month

    @property
    def first_day(self) -> int:
        return day_number(self.month.start)

    @property
    def last_day(self) -> int:
        return day_number(self.month.end)

    @property
    def copies(self) -> int:
        """How many rows are planted for each rule in one file."""
        return 1 if self.size < 5_000 else 3

    def stream(self, name: str) -> np.random.Generator:
        """The random stream of one purpose in the current month."""
        return stream(self.seed, self.age, name)

    def moments(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random office hours on days 1–27 of the month in even seconds; odd seconds are left to planted rows."""
        day = self.first_day + rng.integers(0, 27, count)
        return day * 86_400 + 8 * 3600 + 2 * rng.integers(0, 5 * 3600, count)

    def serial(self, positions: np.ndarray) -> np.ndarray:
        """Serial numbers of entities: what their household, member, consent and loan numbers are made of."""
        return np.asarray(positions, dtype=np.int64) + self.offset

    def lane(self, households: np.ndarray) -> np.ndarray:
        return households % LANES

    def adults(self) -> np.ndarray:
        """Positions of registered people between 18 and 79 at the end of the month."""
        age_days = self.last_day - self.people["birth"]
        grown = (age_days > 18 * 366) & (age_days < 80 * 365)
        return np.flatnonzero(grown & self.people["alive"] & (self.people["household"] != NOBODY))

    def registered(self) -> np.ndarray:
        """For every person: is he or she in the register at the end of the month."""
        household = self.people["household"]
        living = self.households["alive"][np.where(household == NOBODY, 0, household)]
        return self.people["alive"] & (household != NOBODY) & living

    def in_force(self, purpose: int, on_day: int | None = None) -> np.ndarray:
        """For every person: a consent for the purpose to the county in force on a day (default: end of the month)."""
        day = self.last_day if on_day is None else on_day
        consents = self.consents
        holds = (
            consents["granted_yes"]
            & (consents["purpose"] == purpose)
            & (consents["recipient"] == COUNTY)
            & (consents["granted"] <= day)
            & ((consents["withdrawn"] == NO_DAY) | (consents["withdrawn"] > day))
            & ((consents["expires"] == NO_DAY) | (consents["expires"] >= day))
        )
        result = np.zeros(self.people.rows, dtype=bool)
        result[consents["subject"][holds]] = True
        return result

    def heads(self) -> np.ndarray:
        """Position of each household's head."""
        return self.households["head"]
