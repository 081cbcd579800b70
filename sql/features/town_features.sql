-- Counts behind a town's grade: its villages and their grades, and the households of all of them. Only villages in the
-- programme count as programme and credited villages; households count wherever they live in the town.
WITH places AS (
    SELECT place_code, place_level, in_programme
    FROM core_places
    WHERE valid_from_on <= $period_end AND (valid_to_on IS NULL OR valid_to_on >= $period_end)
),

counted AS (
    SELECT
        f.town_code,
        count(*) AS villages,
        count(*) FILTER (WHERE v.in_programme) AS programme_villages,
        count(g.village_grade) AS rated_villages,
        count(*) FILTER (WHERE v.in_programme AND g.village_grade IN ('AAA', 'AA', 'A')) AS credited_villages,
        CAST(sum(f.registered_households) AS BIGINT) AS registered_households,
        CAST(sum(f.rated_households) AS BIGINT) AS rated_households,
        CAST(sum(f.credited_households) AS BIGINT) AS credited_households,
        CAST(sum(f.aa_plus_households) AS BIGINT) AS aa_plus_households,
        CAST(sum(f.grade_aaa_households) AS BIGINT) AS grade_aaa_households,
        CAST(sum(f.grade_aa_households) AS BIGINT) AS grade_aa_households,
        CAST(sum(f.grade_a_households) AS BIGINT) AS grade_a_households,
        CAST(sum(f.grade_b_households) AS BIGINT) AS grade_b_households,
        CAST(sum(f.grade_c_households) AS BIGINT) AS grade_c_households,
        CAST(sum(f.grade_d_households) AS BIGINT) AS grade_d_households,
        CAST(sum(f.borrower_households) AS BIGINT) AS borrower_households,
        CAST(sum(f.non_arrears_households) AS BIGINT) AS non_arrears_households,
        CAST(sum(f.open_balance_yuan) AS DECIMAL(18, 2)) AS open_balance_yuan,
        CAST(sum(f.bad_balance_yuan) AS DECIMAL(18, 2)) AS bad_balance_yuan,
        CAST(sum(f.unsettled_households) AS BIGINT) AS unsettled_households
    FROM village_features AS f
    INNER JOIN core_village_grades AS g ON g.village_code = f.village_code
    INNER JOIN places AS v ON v.place_code = f.village_code
    GROUP BY f.town_code
)

SELECT
    t.place_code AS town_code,
    coalesce(c.villages, 0) AS villages,
    coalesce(c.programme_villages, 0) AS programme_villages,
    coalesce(c.rated_villages, 0) AS rated_villages,
    coalesce(c.credited_villages, 0) AS credited_villages,
    coalesce(c.registered_households, 0) AS registered_households,
    coalesce(c.rated_households, 0) AS rated_households,
    coalesce(c.credited_households, 0) AS credited_households,
    coalesce(c.aa_plus_households, 0) AS aa_plus_households,
    coalesce(c.grade_aaa_households, 0) AS grade_aaa_households,
    coalesce(c.grade_aa_households, 0) AS grade_aa_households,
    coalesce(c.grade_a_households, 0) AS grade_a_households,
    coalesce(c.grade_b_households, 0) AS grade_b_households,
    coalesce(c.grade_c_households, 0) AS grade_c_households,
    coalesce(c.grade_d_households, 0) AS grade_d_households,
    coalesce(c.borrower_households, 0) AS borrower_households,
    coalesce(c.non_arrears_households, 0) AS non_arrears_households,
    coalesce(c.open_balance_yuan, 0) AS open_balance_yuan,
    coalesce(c.bad_balance_yuan, 0) AS bad_balance_yuan,
    coalesce(c.unsettled_households, 0) AS unsettled_households
FROM places AS t
LEFT JOIN counted AS c ON c.town_code = t.place_code
WHERE t.place_level = 'town'
