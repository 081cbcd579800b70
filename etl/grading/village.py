"""Village grades and credit lines compiled to SQL from their policies; shares are compared by cross-multiplication."""

from __future__ import annotations

from collections.abc import Mapping

from etl.engine.dialect import parse
from etl.engine.models import Model
from etl.grading.policy import Policies, Share, ShareCondition, VillageVersion
from etl.grading.scorecard import number, text
from etl.vocabulary import ConfigurationError

FEATURES = "village_features"
COUNTS = (
    "registered_households", "rated_households", "credited_households", "aa_plus_households", "borrower_households",
    "non_arrears_households", "open_balance_yuan", "bad_balance_yuan", "unsettled_households",
)  # fmt: skip


def village_grades_sql(policies: Policies, models: Mapping[str, Model]) -> str:
    """SELECT of core_village_grades from `village_features`, ordered by village.

    A village below the policy's minimum of households is not rated ('incomplete'). Raises ConfigurationError for a share
    over a column the features lack.
    """
    version = policies.village
    _check_shares(policies, models)
    steps = " ".join(
        f"WHEN {_all_of(version, grade.all)} THEN {text(grade.grade)}" for grade in version.grades if grade.all
    )
    rated = f"registered_households >= {version.minimum_households}"
    return (
        f"SELECT $period AS period, town_code, village_code, {', '.join(COUNTS)}, "
        f"CASE WHEN {rated} THEN CASE {steps} ELSE {text(version.grades[-1].grade)} END END AS village_grade, "
        f"CASE WHEN NOT {rated} THEN 'incomplete' END AS not_rated_reason, "
        "CASE WHEN unsettled_households > 0 THEN 'carried_forward' ELSE 'complete' END AS input_state, "
        f"{text(version.version)} AS policy_version, {text(version.status)} AS policy_status\n"
        f"FROM {FEATURES} ORDER BY village_code"
    )


def credit_line_sql(policies: Policies) -> str:
    """SELECT of `policy_credit_line`: one row per grade that carries a line, amounts in whole yuan."""
    version = policies.credit_line
    rows = " UNION ALL ".join(
        f"SELECT {text(grade)} AS grade, CAST({base} AS BIGINT) AS base_yuan, CAST({version.assets_pct} AS BIGINT) AS "
        f"assets_pct, CAST({version.income_pct} AS BIGINT) AS income_pct, CAST({version.cap_yuan} AS BIGINT) AS cap_yuan, "
        f"CAST({version.step_yuan} AS BIGINT) AS step_yuan, {text(version.version)} AS policy_version, "
        f"{text(version.status)} AS policy_status"
        for grade, base in version.base_yuan.items()
    )
    return f"SELECT * FROM ({rows}) AS lines ORDER BY grade"


def _check_shares(policies: Policies, models: Mapping[str, Model]) -> None:
    path = policies.files["village"]
    if FEATURES not in models:
        raise ConfigurationError(path, FEATURES, "no such SQL model", f"add sql/features/{FEATURES}.sql")
    known = {column.alias_or_name for column in parse(models[FEATURES].sql).selects}
    for name, share in policies.village.shares.items():
        for column in (share.numerator, share.denominator):
            if column not in known:
                raise ConfigurationError(path, f"shares.{name}", f"no column {column!r}", f"use columns of {FEATURES}")


def _all_of(version: VillageVersion, conditions: list[ShareCondition]) -> str:
    return " AND ".join(_condition(version.shares[condition.share], condition) for condition in conditions)


def _condition(share: Share, condition: ShareCondition) -> str:
    """numerator / denominator against a percentage, without dividing."""
    sign, bound = (">=", condition.at_least) if condition.at_least is not None else ("<", condition.below)
    if bound is None:
        raise ValueError("a condition without a bound")
    empty = "TRUE" if share.empty == "met" else "FALSE"
    return (
        f"CASE WHEN {share.denominator} = 0 THEN {empty} "
        f"ELSE {share.numerator} * 100 {sign} {number(bound)} * {share.denominator} END"
    )
