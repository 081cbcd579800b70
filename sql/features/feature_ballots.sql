-- Ballots of the civility review over this period and the eleven before, one row per ballot with its marks as one text; of
-- a ballot delivered again the last version counts.
WITH delivered AS (
    SELECT period, round, household_key, reviewer_key, dimension, mark, is_informed, is_own_family
    FROM core_civility_ballots
    UNION ALL
    SELECT period, round, household_key, reviewer_key, dimension, mark, is_informed, is_own_family
    FROM history_core_civility_ballots
),

ballots AS (
    SELECT
        round, household_key, reviewer_key, period,
        bool_and(is_informed) AS is_informed,
        bool_or(is_own_family) AS is_own_family,
        string_agg(CAST(mark AS VARCHAR), ',' ORDER BY dimension) AS marks
    FROM delivered
    GROUP BY round, household_key, reviewer_key, period
)

SELECT round, household_key, reviewer_key, period, is_informed, is_own_family, marks
FROM ballots
QUALIFY row_number() OVER (PARTITION BY round, household_key, reviewer_key ORDER BY period DESC) = 1
