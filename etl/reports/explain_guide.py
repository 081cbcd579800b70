"""`config/explain.yml`: what an explanation says beyond the policy, and what each reader of one may see."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from pydantic import Field

from etl.registry import Bilingual, Strict, overlay_file, parse_model, read_yaml


class Advice(Strict):
    """What a household can do, and the columns of household_features as they are afterwards.

    `says` names the bound of the band aimed at as {bound}, `at_zero` says the same of a bound of 0; `facts` are SQL
    expressions over the columns before, $bound is that bound.
    """

    says: Bilingual
    at_zero: Bilingual | None = None
    facts: dict[str, str] = Field(min_length=1)

    def words_for(self, bound: Decimal) -> Bilingual:
        return self.at_zero if bound == 0 and self.at_zero else self.says


class Guidance(Strict):
    """How one indicator is explained. `counts_for_months`: how long what it rests on stays in view."""

    unit: Bilingual | None = None
    counts_for_months: int | None = None
    advice: Advice | None = None


class Objection(Strict):
    """How to object; how soon it is marked and answered stands in `etl.ledger.cases`."""

    routes: list[Bilingual] = Field(min_length=1)
    routes_of_places: list[Bilingual] = Field(min_length=1)


class Clause(Bilingual):
    """A sentence with the article it comes from: a right of the person graded, say."""

    clause: str


class ListItems(Strict):
    """How items of the lists end before their term: any by `revocation`, some, by item code, by `repair`."""

    revocation: Clause
    repair: dict[str, Clause]


class ShareGuidance(Strict):
    """How one share of a place rises or falls, and the columns of its features once it has by $count.

    `says` names the number as {count}; `most` is an SQL expression for the largest one there can be.
    """

    says: Bilingual
    most: str
    facts: dict[str, str] = Field(min_length=1)


class Sight(Strict):
    """What a restricted reader sees: blocks and vetoes, or shares of a place, by name; what is not named is not shown."""

    blocks: list[str] = []
    vetoes: list[str] = []
    shares: list[str] = []


class Guide(Strict):
    """All of `config/explain.yml`. `audiences`: what a restricted reader sees, by subject; `shares`: by kind of place."""

    objection: Objection
    rights: list[Clause]
    audiences: dict[str, dict[str, Sight]]
    evidence: dict[str, Bilingual]
    indicators: dict[str, Guidance]
    list_items: ListItems
    shares: dict[str, dict[str, ShareGuidance]]

    def of(self, indicator: str) -> Guidance:
        """How an indicator is explained; plainly, where the file does not name it."""
        return self.indicators.get(indicator, Guidance())


def load_guide(folders: Sequence[Path]) -> Guide:
    """The guide of a county; raises ConfigurationError for an unreadable file or an unknown key."""
    path = overlay_file(folders, "explain.yml")
    return parse_model(Guide, read_yaml(path), path)
