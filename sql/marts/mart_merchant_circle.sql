-- Merchants and their way into the credit circle: class points, grade in effect, and whether they are in it. A merchant is
-- in the circle with grade A or above (A included) while the agreement it signed holds.
WITH names AS (
    SELECT place_code, place_name
    FROM core_places
    QUALIFY row_number() OVER (PARTITION BY place_code ORDER BY valid_from_on DESC) = 1
)

SELECT
    $period AS period,
    m.merchant_key,
    m.town_code,
    t.place_name AS town_name,
    m.village_code,
    v.place_name AS village_name,
    m.trade_code,
    f.circle_state,
    g.computed_grade AS effective_grade,
    coalesce(g.computed_grade IN ('AAA', 'AA', 'A') AND m.joined_on <= $period_end, FALSE) AS is_in_circle,
    g.score,
    CASE WHEN g.score IS NOT NULL THEN s.lawful_points END AS lawful_points,
    CASE WHEN g.score IS NOT NULL THEN s.honest_points END AS honest_points,
    CASE WHEN g.score IS NOT NULL THEN s.exemplary_points END AS exemplary_points,
    f.applied_on,
    f.town_checked_on,
    f.city_reviewed_on,
    m.joined_on,
    m.left_on,
    g.not_rated_reason,
    g.input_state,
    g.policy_version,
    g.policy_status
FROM core_merchants AS m
INNER JOIN core_merchant_grades AS g ON g.merchant_key = m.merchant_key
INNER JOIN merchant_scores AS s ON s.merchant_key = m.merchant_key
INNER JOIN feature_merchant_reviews AS f ON f.merchant_key = m.merchant_key
LEFT JOIN names AS t ON t.place_code = m.town_code
LEFT JOIN names AS v ON v.place_code = m.village_code
