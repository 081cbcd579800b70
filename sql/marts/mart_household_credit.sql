-- The grade in effect of every registered household, with the points of its blocks, by town and village.
WITH names AS (
    SELECT place_code, place_name
    FROM core_places
    QUALIFY row_number() OVER (PARTITION BY place_code ORDER BY valid_from_on DESC) = 1
)

SELECT
    $period AS period,
    g.household_key,
    g.town_code,
    t.place_name AS town_name,
    g.village_code,
    v.place_name AS village_name,
    g.effective_grade,
    p.effective_grade AS previous_grade,
    coalesce(g.effective_grade IN ('AAA', 'AA', 'A'), FALSE) AS is_credited,
    g.score,
    CASE WHEN g.score IS NOT NULL THEN s.bank_points END AS bank_points,
    CASE WHEN g.score IS NOT NULL THEN s.capacity_points END AS capacity_points,
    CASE WHEN g.score IS NOT NULL THEN s.civility_points END AS civility_points,
    g.status,
    g.is_disputed,
    g.effective_from_on,
    g.effective_to_on,
    g.round,
    g.not_rated_reason,
    g.hold_reason,
    g.input_state,
    g.policy_version,
    g.policy_status
FROM core_household_grades AS g
INNER JOIN household_scores AS s ON s.household_key = g.household_key
LEFT JOIN previous_core_household_grades AS p ON p.household_key = g.household_key
LEFT JOIN names AS t ON t.place_code = g.town_code
LEFT JOIN names AS v ON v.place_code = g.village_code
