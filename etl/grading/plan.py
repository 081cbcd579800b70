"""The statements that turn core tables into grades, in order: features, scores, points, grades, villages, credit lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etl.engine.models import Model, order
from etl.grading import lifecycle, scorecard, village
from etl.grading.policy import Policies
from etl.vocabulary import ConfigurationError

BEFORE_SCORES = (
    "feature_consents", "feature_ended_consents", "feature_members", "feature_loans", "feature_mediation", "feature_inputs",
    "feature_peers", "unsettled_households",
)  # fmt: skip
RESERVED_PARAMETERS = frozenset({"period", "period_start", "period_end", "previous_period_end", "round"})
_PARAMETER = re.compile(r"\$([a-z_][a-z0-9_]*)")


@dataclass(frozen=True)
class Statement:
    """One relation of the plan. `published` ones are core tables with a contract, their SELECT is in key order.

    A `streamed` statement is large and read by no later one: write it straight to its file instead of keeping a table.
    """

    name: str
    sql: str
    published: bool = False
    streamed: bool = False


def grading_plan(policies: Policies, models: Mapping[str, Model], *, notice_days: int = 0) -> list[Statement]:
    """The grading statements in the order in which they run; policy parameters are bound, period parameters are not.

    Raises ConfigurationError for what the policies ask of the SQL and do not find there.
    """
    household = policies.household
    parameters = household.all_parameters
    taken = sorted(RESERVED_PARAMETERS & parameters.keys())
    if taken:
        raise ConfigurationError(
            policies.files["household"], f"parameters.{taken[0]}", "the name is taken", "rename it"
        )
    statements = [
        *(Statement(model.name, model.sql) for model in _features(models)),
        Statement("held_points", scorecard.held_points_sql(household)),
        Statement("household_scores", scorecard.scores_sql(policies, models)),
        Statement("core_household_points", scorecard.points_sql(policies, models), published=True, streamed=True),
        Statement("deep_falls", lifecycle.deep_falls_sql(household, notice_days)),
        Statement("core_household_grades", lifecycle.grades_sql(household, notice_days), published=True),
        Statement(village.FEATURES, models[village.FEATURES].sql if village.FEATURES in models else ""),
        Statement("core_village_grades", village.village_grades_sql(policies, models), published=True),
        Statement("policy_credit_line", village.credit_line_sql(policies)),
    ]
    return [_bound(statement, parameters, str(policies.files["household"])) for statement in statements]


def _features(models: Mapping[str, Model]) -> Sequence[Model]:
    """Feature models in dependency order; the wide one is compiled into the scores instead of being kept."""
    wanted = [name for name in BEFORE_SCORES if name in models]
    wanted += sorted(
        name for name in models[scorecard.FEATURES].depends & models.keys() if models[name].layer == "features"
    )
    return [model for model in order(models, wanted) if model.layer == "features"]


def _bound(statement: Statement, parameters: Mapping[str, int], path: str) -> Statement:
    """Policy parameters as literals; raises ConfigurationError for one that nothing gives a value."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name in RESERVED_PARAMETERS:
            return found[0]
        if name not in parameters:
            raise ConfigurationError(
                path, f"parameters.{name}", f"{statement.name} needs it", "give it a value under parameters or coarser"
            )
        return str(parameters[name])

    return Statement(statement.name, _PARAMETER.sub(value, statement.sql), statement.published, statement.streamed)
