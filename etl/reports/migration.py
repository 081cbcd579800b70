"""Two gradings of one month side by side: who moves where, why, which lists and places change.

Compared are the relations of the plan as they stand in an engine with those of the same names behind `standing_`, which
hold the month as it was graded. Every answer is counted by grade, town, bank, village or reason; no household is named in
one, but `migration` and `point_moves` stay in the engine for whoever may look at households.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from etl.engine.duck import DuckEngine
from etl.grading.gates import NOT_RATED, groups_sql
from etl.grading.policy import COUNTY, Policies
from etl.grading.scorecard import rank_sql
from etl.vocabulary import GRADES

STANDING = "standing_"
COMPARED: Final = ("core_household_grades", "core_household_points", "core_loans")
OFFERS: Final = "mart_credit_line_offer"
COUPON_GRADES: Final = ("AAA", "AA")
PATTERNS_SHOWN = 25
Rows = list[dict[str, Any]]
_POINT_MOVES = """
SELECT household_key, indicator, p.before AS points_before, p.after AS points_after, p.after - p.before AS points
FROM (
    SELECT household_key, indicator, coalesce(b.points, 0) AS before, coalesce(a.points, 0) AS after
    FROM core_household_points AS a
    FULL JOIN standing_core_household_points AS b USING (household_key, indicator)
) AS p
SEMI JOIN (
    SELECT a.household_key FROM core_household_grades AS a
    INNER JOIN standing_core_household_grades AS b USING (household_key)
    WHERE a.score IS NOT NULL AND b.score IS NOT NULL
) AS rated USING (household_key)
WHERE p.after <> p.before
"""
_MIGRATION = """
SELECT
    household_key, a.town_code, a.village_code, b.effective_grade AS grade_before, a.effective_grade AS grade_after,
    b.score AS score_before, a.score AS score_after,
    list_position([{grades}], b.effective_grade) - list_position([{grades}], a.effective_grade) AS steps,
    concat_ws(
        ',',
        CASE WHEN a.not_rated_reason IS DISTINCT FROM b.not_rated_reason THEN 'rating' END,
        CASE WHEN a.hold_reason IS DISTINCT FROM b.hold_reason THEN 'hold' END,
        CASE WHEN a.veto_ids IS DISTINCT FROM b.veto_ids THEN 'veto' END,
        CASE WHEN b.score IS NOT NULL AND {rank_before} <> {rank_after} THEN 'cut_offs' END,
        CASE WHEN a.score <> b.score THEN 'points' END
    ) AS causes,
    coalesce(m.reasons, '') AS reasons
FROM core_household_grades AS a
INNER JOIN standing_core_household_grades AS b USING (household_key)
LEFT JOIN (
    SELECT household_key, string_agg(concat_ws(' ', indicator, printf('%+.2f', points)), ', ' ORDER BY indicator) AS reasons
    FROM point_moves GROUP BY household_key
) AS m USING (household_key)
WHERE a.effective_grade IS DISTINCT FROM b.effective_grade
"""
_MATRIX = """
SELECT m.kind, m.code, coalesce(b.effective_grade, '{none}') AS before, coalesce(a.effective_grade, '{none}') AS after,
    count(*) AS households
FROM ({groups}) AS m
INNER JOIN core_household_grades AS a USING (household_key)
INNER JOIN standing_core_household_grades AS b USING (household_key)
GROUP BY ALL ORDER BY ALL
"""
_PATTERNS = """
SELECT coalesce(grade_before, '{none}') AS before, coalesce(grade_after, '{none}') AS after, causes, reasons,
    count(*) AS households
FROM migration GROUP BY ALL ORDER BY households DESC, before, after, causes, reasons LIMIT {shown}
"""
_CAUSES = """
SELECT unnest(string_split(causes, ',')) AS cause, count(*) AS households, count(*) FILTER (WHERE steps > 0) AS up,
    count(*) FILTER (WHERE steps < 0) AS down
FROM migration GROUP BY cause ORDER BY households DESC, cause
"""
_INDICATORS = """
SELECT p.indicator, count(*) AS households, count(*) FILTER (WHERE p.points > 0) AS gaining,
    count(*) FILTER (WHERE p.points < 0) AS losing, coalesce(sum(p.points) FILTER (WHERE p.points > 0), 0) AS points_gained,
    coalesce(sum(p.points) FILTER (WHERE p.points < 0), 0) AS points_lost, count(m.household_key) AS movers
FROM point_moves AS p LEFT JOIN migration AS m USING (household_key)
GROUP BY p.indicator ORDER BY households DESC, p.indicator
"""
_LIST = """
SELECT {group} AS code, count(b.is_listed) AS before, count(a.is_listed) AS after,
    count(*) FILTER (WHERE b.is_listed IS NULL) AS gained, count(*) FILTER (WHERE a.is_listed IS NULL) AS lost
    {more}
FROM (SELECT *, TRUE AS is_listed FROM ({after})) AS a
FULL JOIN (SELECT *, TRUE AS is_listed FROM ({before})) AS b USING ({keys})
GROUP BY ALL ORDER BY code
"""
_AMOUNTS = """,
    count(*) FILTER (WHERE a.limit_yuan > b.limit_yuan) AS raised,
    count(*) FILTER (WHERE a.limit_yuan < b.limit_yuan) AS lowered,
    coalesce(sum(b.limit_yuan), 0) AS limit_before_yuan, coalesce(sum(a.limit_yuan), 0) AS limit_after_yuan
"""
_PLACES = """
SELECT '{place}' AS place, {place}_code AS code, coalesce(n.place_name, '') AS name,
    coalesce(b.{place}_grade, '{none}') AS before, coalesce(a.{place}_grade, '{none}') AS after
FROM core_{place}_grades AS a
INNER JOIN standing_core_{place}_grades AS b USING ({place}_code)
LEFT JOIN (SELECT place_code, max_by(place_name, valid_from_on) AS place_name FROM core_places GROUP BY place_code) AS n
    ON n.place_code = {place}_code
WHERE a.{place}_grade IS DISTINCT FROM b.{place}_grade
ORDER BY code
"""


def compare(engine: DuckEngine, candidate: Policies, standing: Policies) -> None:
    """Make `point_moves` (indicators whose points differ, of households rated both times) and `migration` (households whose
    grade in effect differs: from, to, scores, steps up, causes, and what moved how many points)."""
    grades = ", ".join(f"'{grade}'" for grade in GRADES)
    before, after = (_rank_by_scope(policies, "b.score") for policies in (standing, candidate))
    engine.run_model("point_moves", _POINT_MOVES)
    engine.run_model("migration", _MIGRATION.format(grades=grades, rank_before=before, rank_after=after))


def _rank_by_scope(policies: Policies, score: str) -> str:
    """The rank the cut-offs in force where a household lives give a score."""
    scopes = policies.scorecards["household"]
    steps = " ".join(
        f"WHEN '{scope}' THEN {rank_sql(version.grades, score)}" for scope, version in scopes.items() if scope != COUNTY
    )
    county = rank_sql(scopes[COUNTY].grades, score)
    return f"CASE a.town_code {steps} ELSE {county} END" if steps else county


def matrix(engine: DuckEngine) -> Rows:
    """Households from each grade to each, overall, by town, and by bank with notes of theirs."""
    return _rows(engine, _MATRIX.format(groups=groups_sql("after"), none=NOT_RATED))


def movers(engine: DuckEngine) -> dict[str, Any]:
    """How many move up, down, in and out; the checksum stands for who they are."""
    query = (
        "SELECT count(*) AS households, count(*) FILTER (WHERE steps > 0) AS up, count(*) FILTER (WHERE steps < 0) AS down, "
        "count(*) FILTER (WHERE grade_before IS NULL) AS newly_rated, "
        "count(*) FILTER (WHERE grade_after IS NULL) AS no_longer_rated FROM migration"
    )
    [counts] = _rows(engine, query)
    columns = ("household_key", "grade_before", "grade_after", "score_before", "score_after", "causes", "reasons")
    return {**counts, "content": str(engine.content("migration", columns))}


def reasons(engine: DuckEngine) -> dict[str, Rows]:
    """Why: by cause, by indicator, and the most frequent patterns of from, to, causes and points moved."""
    return {
        "causes": _rows(engine, _CAUSES),
        "indicators": _rows(engine, _INDICATORS),
        "patterns": _rows(engine, _PATTERNS.format(none=NOT_RATED, shown=PATTERNS_SHOWN)),
    }


def lists(engine: DuckEngine, marts: Iterable[str]) -> dict[str, Rows]:
    """Who gets onto, and off, each list: coupons by town (AA and above), credit lines with amounts by bank, and further
    marts (given by name) that list households, counted as a whole."""
    grades = ", ".join(f"'{grade}'" for grade in COUPON_GRADES)
    coupons = f"SELECT household_key, town_code FROM {{}}core_household_grades WHERE effective_grade IN ({grades})"
    found = {"coupons": _listed(engine, coupons, "town_code", ("household_key", "town_code"))}
    for mart in marts:
        is_offer = mart == OFFERS
        group, keys = ("bank_code", ("bank_code", "household_key")) if is_offer else ("'county'", ("household_key",))
        held = f"SELECT {'*' if is_offer else 'DISTINCT household_key'} FROM {{}}{mart}"
        found[mart] = _listed(engine, held, group, keys, _AMOUNTS if is_offer else "")
    return found


def _listed(engine: DuckEngine, held: str, group: str, keys: tuple[str, ...], more: str = "") -> Rows:
    after, before = held.format(""), held.format(STANDING)
    return _rows(engine, _LIST.format(group=group, more=more, keys=", ".join(keys), after=after, before=before))


def places(engine: DuckEngine, kinds: Iterable[str]) -> Rows:
    """Villages and towns whose grade differs."""
    return [row for place in kinds for row in _rows(engine, _PLACES.format(place=place, none=NOT_RATED))]


def _rows(engine: DuckEngine, query: str) -> Rows:
    """Rows by name, decimals as text: the same figures are the same bytes."""
    return [{name: _plain(value) for name, value in row.items()} for row in engine.arrow(query).to_pylist()]


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Decimal) else value


def total(rows: Iterable[Mapping[str, Any]], kind: str, code: str) -> dict[tuple[str, str], int]:
    """One group's matrix: (from, to) -> households."""
    return {
        (row["before"], row["after"]): row["households"] for row in rows if (row["kind"], row["code"]) == (kind, code)
    }
