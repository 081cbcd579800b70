"""From computed to effective grades: what waits, for whom, and from when to when a grade holds.

A computed grade takes effect at its period end or, where the county gives notice, so many days after it was noticed.
Until then, and in these cases, the grade that stood before stays, and `hold_reason` says why (docs/decisions/0016):
- awaiting_input: rows of the household are carried forward or withheld, so its grade cannot rise (DESIGN 9.6);
- awaiting_bank_confirmation: a deep fall rests on one bank's delivery and that bank has not confirmed it (DESIGN 9.7);
- disputed: an objection is open, so its grade cannot fall;
- awaiting_notice: the notice has not run out;
- overridden: two people set another grade for a time.
What ends a household's being rated needs a legal ground, not a notice, and takes effect at once.
"""

from __future__ import annotations

from etl.grading.policy import HouseholdVersion
from etl.grading.scorecard import grade_sql, rank_of_grade_sql, rank_sql, veto_ids_sql, veto_rank_sql
from etl.grading.words import text

AWAITING_INPUT = "awaiting_input"
AWAITING_BANK = "awaiting_bank_confirmation"
AWAITING_NOTICE = "awaiting_notice"
DISPUTED = "disputed"
OVERRIDDEN = "overridden"

_CASES = """
SELECT
  household_key,
  coalesce(bool_or(case_kind IN ('objection', 'correction') AND is_open), FALSE) AS is_disputed,
  max(CASE WHEN case_kind IN ('objection', 'correction') THEN closed_on
      WHEN case_kind = 'bank_confirmation' AND verdict = 'confirmed' THEN answered_on END) AS lifted_on,
  max(CASE WHEN is_override_in_force THEN override_grade END) AS override_grade,
  max(CASE WHEN is_override_in_force THEN answered_on END) AS overridden_on,
  max(CASE WHEN is_override_in_force THEN expires_on END) AS override_to_on
FROM core_cases GROUP BY household_key
"""
_STAGES = """
SELECT
  max(CASE WHEN stage = 'reviewed' THEN happened_on END) AS reviewed_on,
  max(CASE WHEN stage = 'noticed' THEN happened_on END) AS noticed_on
FROM grade_stages
"""


def _standing_sql(version: HouseholdVersion, notice_days: int) -> str:
    """SELECT of scores beside the grade that stood before, with what is open about the household.

    A household that was split off takes over the standing grade of the one it came from until it has its own. Where two
    became one, the worse of both stands, and what was disputed about either is. A grade whose notice has run out stands,
    unless it fell and is disputed.
    """
    matured = _has_matured(version, notice_days)
    return (
        f"SELECT *, {_rank(version, 'standing_grade')} AS standing_rank\nFROM (\n"
        "SELECT s.*, past.household_key AS household_key_before, past.hold_reason AS hold_reason_before, "
        "past.round AS round_before, "
        f"CASE WHEN {matured} THEN past.computed_grade ELSE past.effective_grade END AS standing_grade, "
        f"CASE WHEN {matured} THEN CAST(past.noticed_on + {notice_days} AS DATE) ELSE past.effective_from_on END "
        "AS standing_from_on\n"
        f"FROM (\n{_concerned_sql(version)}\n) AS s\n"
        "LEFT JOIN previous_core_household_grades AS past ON past.household_key = s.key_before\n) AS stood"
    )


def _has_matured(version: HouseholdVersion, notice_days: int) -> str:
    """Whether the grade of the month before took effect since, its notice having run out without an objection to a fall."""
    fell = f"{_rank(version, 'past.computed_grade')} > {_rank(version, 'past.effective_grade')}"
    return (
        f"coalesce(past.hold_reason = {text(AWAITING_NOTICE)} AND past.noticed_on + {notice_days} <= "
        f"CAST($period_end AS DATE) AND NOT (s.is_disputed AND coalesce({fell}, FALSE)), FALSE)"
    )


def _concerned_sql(version: HouseholdVersion) -> str:
    """Scores with the open cases of the household and of the one it came from, and whose former grade stands."""
    worse = f"{_rank(version, 'former.effective_grade')} > {_rank(version, 'own.effective_grade')}"
    return (
        "SELECT s.household_key, s.town_code, s.village_code, s.score, s.not_rated_reason, s.input_state, "
        f"s.computed_rank, {veto_ids_sql(version)} AS veto_ids, {veto_rank_sql(version)} AS veto_rank, "
        f"s.{version.single_source_fall.block}_points AS source_points, "
        f"CASE WHEN own.household_key IS NULL OR {worse} THEN coalesce(former.household_key, own.household_key) "
        "ELSE own.household_key END AS key_before, "
        "coalesce(c.is_disputed, FALSE) OR coalesce(f.is_disputed, FALSE) AS is_disputed, "
        "greatest(c.lifted_on, f.lifted_on) AS lifted_on, c.override_grade, c.overridden_on, c.override_to_on\n"
        "FROM household_scores AS s\n"
        "LEFT JOIN previous_core_household_grades AS own ON own.household_key = s.household_key\n"
        "LEFT JOIN core_households AS still ON still.household_key = s.former_household_key\n"
        "LEFT JOIN previous_core_household_grades AS former ON former.household_key = "
        "CASE WHEN own.household_key IS NULL OR still.household_key IS NULL THEN s.former_household_key END\n"
        f"LEFT JOIN ({_CASES}) AS c ON c.household_key = s.household_key\n"
        f"LEFT JOIN ({_CASES}) AS f ON f.household_key = "
        "CASE WHEN former.household_key IS NOT NULL OR own.is_disputed THEN s.former_household_key END"
    )


def _rank(version: HouseholdVersion, grade: str) -> str:
    return rank_of_grade_sql(version.grades, grade)


def deep_falls_sql(version: HouseholdVersion, notice_days: int) -> str:
    """SELECT of `deep_falls`: households that fall deep because of what one bank alone reports (arrears, bad loans), with
    that bank and last month's points of the block."""
    return (
        "SELECT f.household_key, l.first_adverse_bank AS bank_code, "
        "CAST(sum(p.points) AS DECIMAL(7,2)) AS source_points_before\n"
        f"FROM (\n{_standing_sql(version, notice_days)}\n) AS f\n"
        "INNER JOIN feature_loans AS l "
        "ON l.household_key = f.household_key AND l.first_adverse_bank = l.last_adverse_bank\n"
        "INNER JOIN previous_core_household_points AS p ON p.household_key = f.household_key_before\n"
        f"WHERE p.block = {text(version.single_source_fall.block)} AND {_is_deep(version, 'computed_rank')}\n"
        "GROUP BY f.household_key, l.first_adverse_bank"
    )


def grades_sql(version: HouseholdVersion, notice_days: int) -> str:
    """SELECT of core_household_grades from `household_scores`, `deep_falls`, `core_cases` and `grade_stages`."""
    return (
        "SELECT $period AS period, household_key, town_code, village_code, "
        "CASE WHEN not_rated_reason IS NULL THEN score END AS score, "
        f"{grade_sql(version.grades, 'computed_rank')} AS computed_grade, effective_grade, {_STATUS} AS status, "
        f"is_disputed, {_EFFECTIVE_FROM} AS effective_from_on, {_effective_to(notice_days)} AS effective_to_on, "
        f"CASE WHEN hold_reason = {text(AWAITING_NOTICE)} THEN noticed_on END AS noticed_on, $round AS round, "
        "CAST(not_rated_reason AS VARCHAR) AS not_rated_reason, hold_reason, veto_ids, "
        "CAST(input_state AS VARCHAR) AS input_state, "
        f"{text(version.version)} AS policy_version, {text(version.status)} AS policy_status\n"
        f"FROM (\nSELECT *, {_effective_grade(version)} AS effective_grade\n"
        f"FROM (\nSELECT *, {_hold_reason(version, notice_days)} AS hold_reason\n"
        f"FROM (\n{_with_falls(version, notice_days)}\n) AS compared\n) AS held\n) AS decided\n"
        f"CROSS JOIN ({_STAGES}) AS stages"
    )


def _is_deep(version: HouseholdVersion, rank: str) -> str:
    """Whether a rank lies so far below the standing one that the fall may have to wait; NULL without a standing grade."""
    rule = version.single_source_fall
    lowest = version.rank_of(rule.to)
    return f"({rank} - standing_rank >= {rule.grades} OR ({rank} >= {lowest} AND standing_rank < {lowest}))"


def _with_falls(version: HouseholdVersion, notice_days: int) -> str:
    """Adds the rank the household would have with the block's points of last month."""
    without = rank_sql(version.grades, "s.score - s.source_points + f.source_points_before")
    return (
        f"SELECT s.*, CASE WHEN f.household_key IS NOT NULL THEN {without} END AS rank_without_source, "
        f"c.household_key IS NOT NULL AS is_confirmed\nFROM (\n{_standing_sql(version, notice_days)}\n) AS s\n"
        "LEFT JOIN deep_falls AS f ON f.household_key = s.household_key\n"
        "LEFT JOIN (SELECT DISTINCT household_key, bank_code FROM core_cases "
        "WHERE case_kind = 'bank_confirmation' AND verdict = 'confirmed') AS c "
        "ON c.household_key = f.household_key AND c.bank_code = f.bank_code"
    )


def _hold_reason(version: HouseholdVersion, notice_days: int) -> str:
    """Why the computed grade is not the one in effect; NULL where it is.

    A deep fall rests on one bank when, with last month's points of its block, it would not be deep; it stays on hold in
    later months until the bank confirms or the fall is gone, whatever else is open meanwhile. What a veto alone brings
    down rests on no bank.
    """
    hold = version.single_source_fall.hold
    rests = f"(NOT {_is_deep(version, 'rank_without_source')} OR hold_reason_before = {text(AWAITING_BANK)})"
    rests = f"{rests} AND NOT {_is_deep(version, 'veto_rank')}"
    waits = f"{'TRUE' if hold else 'FALSE'} AND rank_without_source IS NOT NULL AND {rests} AND NOT is_confirmed"
    rises = "input_state <> 'complete' AND computed_rank < standing_rank"
    falls = "is_disputed AND computed_rank > standing_rank"
    changes = f"{notice_days} > 0 AND coalesce(computed_rank <> standing_rank, computed_rank IS NOT NULL)"
    return (
        f"CASE WHEN computed_rank IS NULL THEN NULL WHEN override_grade IS NOT NULL THEN {text(OVERRIDDEN)} "
        f"WHEN {rises} THEN {text(AWAITING_INPUT)} WHEN {waits} THEN {text(AWAITING_BANK)} "
        f"WHEN {falls} THEN {text(DISPUTED)} WHEN {changes} THEN {text(AWAITING_NOTICE)} END"
    )


def _effective_grade(version: HouseholdVersion) -> str:
    return (
        f"CASE WHEN hold_reason IS NULL THEN {grade_sql(version.grades, 'computed_rank')} "
        f"WHEN hold_reason = {text(OVERRIDDEN)} THEN override_grade ELSE standing_grade END"
    )


_STATUS = (
    f"CASE WHEN hold_reason IS NULL OR hold_reason = {text(OVERRIDDEN)} THEN 'effective' "
    f"WHEN hold_reason = {text(DISPUTED)} OR (hold_reason = {text(AWAITING_BANK)} AND is_disputed) THEN 'frozen' "
    f"WHEN hold_reason <> {text(AWAITING_NOTICE)} THEN 'computed' "
    "WHEN noticed_on IS NOT NULL THEN 'noticed' WHEN reviewed_on IS NOT NULL THEN 'reviewed' ELSE 'computed' END"
)
# What waited takes effect when the wait ended, be it after the period end; a new round dates every grade anew.
_EFFECTIVE_FROM = (
    f"CASE WHEN effective_grade IS NULL THEN NULL WHEN hold_reason <> {text(OVERRIDDEN)} THEN standing_from_on "
    "WHEN effective_grade = standing_grade AND round_before = $round THEN standing_from_on "
    "ELSE greatest(CAST($period_end AS DATE), CASE WHEN hold_reason IS NULL THEN lifted_on ELSE overridden_on END) END"
)


def _effective_to(notice_days: int) -> str:
    """The last day of the grade in effect, as far as it is known."""
    return (
        f"CASE WHEN effective_grade IS NULL THEN NULL WHEN hold_reason = {text(OVERRIDDEN)} THEN override_to_on "
        f"WHEN hold_reason = {text(AWAITING_NOTICE)} THEN CAST(noticed_on + {notice_days} - 1 AS DATE) END"
    )
