"""From computed to effective grades: caps by the state of the input and falls that wait for a bank's confirmation.

A month's computed grade takes effect at its period end (notice of 0 days), except that
- while rows of the household are carried forward or withheld, its grade cannot rise (DESIGN 9.6);
- a deep fall that rests on one bank's delivery waits for that bank's confirmation (DESIGN 9.7).
Both leave the previous effective grade standing and say so in `hold_reason`.
"""

from __future__ import annotations

from etl.grading.policy import HouseholdVersion
from etl.grading.scorecard import grade_sql, rank_of_grade_sql, rank_sql, veto_ids_sql
from etl.grading.words import text

AWAITING_INPUT = "awaiting_input"
AWAITING_BANK = "awaiting_bank_confirmation"


def _standing_sql(version: HouseholdVersion) -> str:
    """SELECT of scores beside the grade that stood before.

    A household that was split off takes over the standing grade of the one it came from until it has its own.
    """
    before = ", ".join(
        f"coalesce(own.{column}, former.{column}) AS {column}_before"
        for column in ("household_key", "effective_grade", "effective_from_on", "hold_reason", "round")
    )
    return (
        "SELECT s.household_key, s.town_code, s.village_code, s.score, s.not_rated_reason, s.input_state, "
        f"s.computed_rank, {veto_ids_sql(version)} AS veto_ids, "
        f"s.{version.single_source_fall.block}_points AS source_points, "
        f"{rank_of_grade_sql(version.grades, 'coalesce(own.effective_grade, former.effective_grade)')} AS standing_rank, "
        f"{before}\nFROM household_scores AS s\n"
        "LEFT JOIN previous_core_household_grades AS own ON own.household_key = s.household_key\n"
        "LEFT JOIN previous_core_household_grades AS former "
        "ON former.household_key = CASE WHEN own.household_key IS NULL THEN s.former_household_key END"
    )


def deep_falls_sql(version: HouseholdVersion) -> str:
    """SELECT of `deep_falls`: households that fall deep because of what one bank alone reports (arrears, bad loans), with
    that bank and last month's points of the block."""
    return (
        "SELECT f.household_key, l.first_adverse_bank AS bank_code, "
        "CAST(sum(p.points) AS DECIMAL(7,2)) AS source_points_before\n"
        f"FROM (\n{_standing_sql(version)}\n) AS f\n"
        "INNER JOIN feature_loans AS l "
        "ON l.household_key = f.household_key AND l.first_adverse_bank = l.last_adverse_bank\n"
        "INNER JOIN previous_core_household_points AS p ON p.household_key = f.household_key_before\n"
        f"WHERE p.block = {text(version.single_source_fall.block)} AND {_is_deep(version, 'computed_rank')}\n"
        "GROUP BY f.household_key, l.first_adverse_bank"
    )


def grades_sql(version: HouseholdVersion) -> str:
    """SELECT of core_household_grades from `household_scores`, `deep_falls` and `bank_confirmations`."""
    return (
        "SELECT $period AS period, household_key, town_code, village_code, "
        "CASE WHEN not_rated_reason IS NULL THEN score END AS score, "
        f"{grade_sql(version.grades, 'computed_rank')} AS computed_grade, "
        f"{grade_sql(version.grades, 'effective_rank')} AS effective_grade, "
        "CASE WHEN hold_reason IS NULL THEN 'effective' ELSE 'computed' END AS status, "
        f"CASE WHEN effective_rank IS NULL THEN NULL WHEN {_is_unchanged(version)} THEN effective_from_on_before "
        "ELSE CAST($period_end AS DATE) END AS effective_from_on, "
        "CAST(NULL AS DATE) AS effective_to_on, $round AS round, "
        "CAST(not_rated_reason AS VARCHAR) AS not_rated_reason, hold_reason, veto_ids, "
        "CAST(input_state AS VARCHAR) AS input_state, "
        f"{text(version.version)} AS policy_version, {text(version.status)} AS policy_status\n"
        f"FROM (\nSELECT *, CASE WHEN hold_reason IS NOT NULL THEN standing_rank ELSE computed_rank END AS effective_rank\n"
        f"FROM (\nSELECT *, {_hold_reason(version)} AS hold_reason\n"
        f"FROM (\n{_with_falls(version)}\n) AS compared\n) AS held\n) AS decided"
    )


def _is_deep(version: HouseholdVersion, rank: str) -> str:
    """Whether a rank lies so far below the standing one that the fall may have to wait; NULL without a standing grade."""
    rule = version.single_source_fall
    lowest = version.rank_of(rule.to)
    return f"({rank} - standing_rank >= {rule.grades} OR ({rank} >= {lowest} AND standing_rank < {lowest}))"


def _with_falls(version: HouseholdVersion) -> str:
    """Adds the rank the household would have with the block's points of last month."""
    without = rank_sql(version.grades, "s.score - s.source_points + f.source_points_before")
    return (
        f"SELECT s.*, CASE WHEN f.household_key IS NOT NULL THEN {without} END AS rank_without_source, "
        f"c.household_key IS NOT NULL AS is_confirmed\nFROM (\n{_standing_sql(version)}\n) AS s\n"
        "LEFT JOIN deep_falls AS f ON f.household_key = s.household_key\n"
        "LEFT JOIN (SELECT DISTINCT household_key, bank_code FROM bank_confirmations) AS c "
        "ON c.household_key = f.household_key AND c.bank_code = f.bank_code"
    )


def _hold_reason(version: HouseholdVersion) -> str:
    """Why the previous effective grade stays; NULL where the computed grade takes effect.

    A deep fall rests on one bank when, with last month's points of its block, it would not be deep; it stays on hold in
    later months until the bank confirms or the fall is gone.
    """
    hold = version.single_source_fall.hold
    rests = f"(NOT {_is_deep(version, 'rank_without_source')} OR hold_reason_before = {text(AWAITING_BANK)})"
    waits = f"{'TRUE' if hold else 'FALSE'} AND rank_without_source IS NOT NULL AND {rests} AND NOT is_confirmed"
    rises = "input_state <> 'complete' AND computed_rank < standing_rank"
    return f"CASE WHEN {rises} THEN {text(AWAITING_INPUT)} WHEN {waits} THEN {text(AWAITING_BANK)} END"


def _is_unchanged(version: HouseholdVersion) -> str:
    return f"{grade_sql(version.grades, 'effective_rank')} = effective_grade_before AND round_before = $round"
