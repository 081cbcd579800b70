"""What a scorecard is compiled from: one version of one subject's policy, and the SQL models of that subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from etl.engine.dialect import parse
from etl.engine.models import Model
from etl.grading.indicators import Purpose
from etl.grading.policy import COUNTY, Policies, ScorecardVersion
from etl.grading.words import text
from etl.period import Period
from etl.vocabulary import ConfigurationError


@dataclass(frozen=True)
class Card:
    """One version of a subject's scorecard. `part` names its relations, `rows` chooses its subjects among the features.

    Where a month has one version, `part` is empty and `rows` is None; a town's own version gives each its part.
    """

    subject: str
    version: ScorecardVersion
    period: Period
    path: Path
    models: Mapping[str, Model]
    part: str = ""
    rows: str | None = None

    @property
    def key(self) -> str:
        return f"{self.subject}_key"

    @property
    def features(self) -> str:
        return f"{self.subject}_features"

    @property
    def scores(self) -> str:
        return f"{self.subject}_scores{self.part}"

    @property
    def held(self) -> str:
        """Points of the month before, one column an indicator."""
        return f"held_{self.subject}_points{self.part}"

    def peers(self, within: str) -> str:
        """Medians of the subject's towns or villages."""
        return f"feature_peers_{self.subject}_{within}{self.part}"

    @property
    def core(self) -> str:
        """The core table of the subject itself."""
        return f"core_{plural(self.subject)}"

    @property
    def unsettled(self) -> str | None:
        """The relation of subjects that are not settled, where the SQL has one: only their points of last month count."""
        name = f"unsettled_{plural(self.subject)}"
        return name if name in self.models else None

    @cached_property
    def columns(self) -> frozenset[str]:
        """Columns of the features; raises ConfigurationError when they or their SQL are missing."""
        found = columns_of(self.models, self.features, self.path)
        for name in (self.key, "town_code", "village_code", *(f"{block}_input_state" for block in self.version.blocks)):
            if name not in found:
                raise self.lacks(name, "features")
        return found

    def require(self, column: str, key: str) -> str:
        """The name of a features column; raises ConfigurationError for one they lack."""
        if column not in self.columns:
            raise self.lacks(column, key)
        return column

    def lacks(self, column: str, key: str) -> ConfigurationError:
        problem, mend = f"{self.features} has no column {column!r}", "correct the name or add it to the SQL"
        return ConfigurationError(self.path, key, problem, mend)

    def consent(self, purpose: Purpose, key: str) -> str:
        """Whether the subject agreed to a use of its data; raises ConfigurationError when the features do not say."""
        if f"{purpose}_consent" in self.columns:
            return f"{purpose}_consent = 'in_force'"
        return f"coalesce({self.require(f'has_{purpose}_consent', key)}, FALSE)"


def cards_of(policies: Policies, subject: str, models: Mapping[str, Model]) -> list[Card]:
    """The scorecards in force of a subject: the county's, then those of towns that have their own."""
    scopes = policies.scorecards[subject]
    path = policies.files[subject]
    if len(scopes) == 1:
        return [Card(subject, scopes[COUNTY], policies.period, path, models)]
    return [
        Card(subject, version, policies.period, path, models, f"_{scope}", rows_of(scope, scopes))
        for scope, version in scopes.items()
    ]


def rows_of(scope: str, scopes: Mapping[str, object]) -> str:
    """The condition for the rows of a scope: a town's own, or all of the county that no town claims."""
    if scope != COUNTY:
        return f"town_code = {text(scope)}"
    towns = ", ".join(text(town) for town in scopes if town != COUNTY)
    return f"(town_code IS NULL OR town_code NOT IN ({towns}))"


def columns_of(models: Mapping[str, Model], name: str, path: Path) -> frozenset[str]:
    """The columns a model selects; raises ConfigurationError when there is no such model."""
    if name not in models:
        raise ConfigurationError(path, name, "no such SQL model", f"add sql/features/{name}.sql")
    return frozenset(column.alias_or_name for column in parse(models[name].sql).selects)


def plural(subject: str) -> str:
    """
    >>> plural("household"), plural("business")
    ('households', 'businesses')
    """
    return f"{subject}es" if subject.endswith("s") else f"{subject}s"
