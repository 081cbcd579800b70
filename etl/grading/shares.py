"""Grades of places (villages, towns) compiled from shares of what lies in them; compared by cross-multiplication."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from etl.engine.models import Model
from etl.grading.card import columns_of, rows_of
from etl.grading.policy import CreditLineVersion, Policies, Share, ShareCondition, ShareGrade, ShareVersion
from etl.grading.words import VALUE, number, text
from etl.vocabulary import ConfigurationError

REGISTER = "registered_households"
UNSETTLED = "unsettled_households"


def features_of(place: str) -> str:
    """The relation of counts a place is graded from."""
    return f"{place}_features"


def share_grades_sql(policies: Policies, place: str, models: Mapping[str, Model]) -> str:
    """SELECT of core_<place>_grades from `<place>_features`: its counts, `<place>_grade` and why there is none.

    A place below the policy's minimum of households is not rated ('incomplete'). A town's own version grades what lies in
    it, the county's the rest. Raises ConfigurationError for a share over a column the features lack.
    """
    path, scopes = policies.files[place], policies.shares[place]
    columns = columns_of(models, features_of(place), path)
    for name in (f"{place}_code", "town_code", REGISTER, UNSETTLED):
        _require(columns, name, path, place)
    parts = []
    for scope, version in scopes.items():
        for name, share in version.shares.items():
            for column in (share.numerator, share.denominator):
                _require(columns, column, path, f"shares.{name}")
        where = f" WHERE {rows_of(scope, scopes)}" if len(scopes) > 1 else ""
        parts.append(f"{_graded(place, version, sorted(columns))}{where}")
    return f"SELECT * FROM (\n{' UNION ALL '.join(parts)}\n) AS graded ORDER BY {place}_code"


def conditions_sql(policies: Policies, place: str) -> str:
    """SELECT of every condition of every grade, place by place, from `<place>_features`; the grades are made of the same.

    Columns: `code` of the place, `grade`, `number` of the condition within it (from 1), `share`, `numerator`,
    `denominator`, `is_met`.
    """
    scopes = policies.shares[place]
    parts = [
        _one_condition(place, version, grade, number, rows_of(scope, scopes) if len(scopes) > 1 else "TRUE")
        for scope, version in scopes.items()
        for grade in version.grades
        for number in range(len(grade.all))
    ]
    return " UNION ALL ".join(parts)


def _one_condition(place: str, version: ShareVersion, grade: ShareGrade, number: int, rows: str) -> str:
    condition = grade.all[number]
    share = version.shares[condition.share]
    return (
        f"SELECT {place}_code AS code, {text(grade.grade)} AS grade, {number + 1} AS number, "
        f"{text(condition.share)} AS share, CAST({share.numerator} AS {VALUE}) AS numerator, "
        f"CAST({share.denominator} AS {VALUE}) AS denominator, {_condition(share, condition)} AS is_met "
        f"FROM {features_of(place)} WHERE {rows}"
    )


def credit_line_sql(version: CreditLineVersion) -> str:
    """SELECT of `policy_credit_line`: one row per grade that carries a line, amounts in whole yuan."""
    rows = " UNION ALL ".join(
        f"SELECT {text(grade)} AS grade, CAST({base} AS BIGINT) AS base_yuan, CAST({version.assets_pct} AS BIGINT) AS "
        f"assets_pct, CAST({version.income_pct} AS BIGINT) AS income_pct, CAST({version.cap_yuan} AS BIGINT) AS cap_yuan, "
        f"CAST({version.step_yuan} AS BIGINT) AS step_yuan, {text(version.version)} AS policy_version, "
        f"{text(version.status)} AS policy_status"
        for grade, base in version.base_yuan.items()
    )
    return f"SELECT * FROM ({rows}) AS lines ORDER BY grade"


def _require(columns: frozenset[str], column: str, path: Path, key: str) -> None:
    if column not in columns:
        raise ConfigurationError(path, key, f"no column {column!r}", f"use columns of its features: {sorted(columns)}")


def _graded(place: str, version: ShareVersion, columns: list[str]) -> str:
    steps = " ".join(
        f"WHEN {_all_of(version, grade.all)} THEN {text(grade.grade)}" for grade in version.grades if grade.all
    )
    rated = f"{REGISTER} >= {version.minimum_households}"
    return (
        f"SELECT $period AS period, {', '.join(columns)}, "
        f"CASE WHEN {rated} THEN CASE {steps} ELSE {text(version.grades[-1].grade)} END END AS {place}_grade, "
        f"CASE WHEN NOT {rated} THEN 'incomplete' END AS not_rated_reason, "
        f"CASE WHEN {UNSETTLED} > 0 THEN 'carried_forward' ELSE 'complete' END AS input_state, "
        f"{text(version.version)} AS policy_version, {text(version.status)} AS policy_status\n"
        f"FROM {features_of(place)}"
    )


def _all_of(version: ShareVersion, conditions: list[ShareCondition]) -> str:
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
