-- Counts behind a village's grade, over the households registered in it and the grades in effect at the period end.
WITH villages AS (
    SELECT place_code AS village_code, parent_code AS town_code
    FROM core_places
    WHERE
        place_level = 'village'
        AND valid_from_on <= $period_end
        AND (valid_to_on IS NULL OR valid_to_on >= $period_end)
),

households AS (
    SELECT
        g.village_code,
        g.effective_grade,
        g.input_state,
        coalesce(l.open_note_count, 0) AS open_note_count,
        coalesce(l.open_balance_yuan, 0) AS open_balance_yuan,
        coalesce(l.arrears_balance_yuan, 0) AS arrears_balance_yuan,
        coalesce(l.bad_balance_yuan, 0) AS bad_balance_yuan
    FROM core_household_grades AS g
    LEFT JOIN feature_loans AS l ON l.household_key = g.household_key
),

counted AS (
    SELECT
        village_code,
        count(*) AS registered_households,
        count(effective_grade) AS rated_households,
        count(*) FILTER (WHERE effective_grade IN ('AAA', 'AA', 'A')) AS credited_households,
        count(*) FILTER (WHERE effective_grade IN ('AAA', 'AA')) AS aa_plus_households,
        count(*) FILTER (WHERE effective_grade = 'AAA') AS grade_aaa_households,
        count(*) FILTER (WHERE effective_grade = 'AA') AS grade_aa_households,
        count(*) FILTER (WHERE effective_grade = 'A') AS grade_a_households,
        count(*) FILTER (WHERE effective_grade = 'B') AS grade_b_households,
        count(*) FILTER (WHERE effective_grade = 'C') AS grade_c_households,
        count(*) FILTER (WHERE effective_grade = 'D') AS grade_d_households,
        count(*) FILTER (WHERE open_note_count > 0) AS borrower_households,
        count(*) FILTER (WHERE open_note_count > 0 AND arrears_balance_yuan = 0) AS non_arrears_households,
        CAST(sum(open_balance_yuan) AS DECIMAL(18, 2)) AS open_balance_yuan,
        CAST(sum(bad_balance_yuan) AS DECIMAL(18, 2)) AS bad_balance_yuan,
        count(*) FILTER (WHERE input_state <> 'complete') AS unsettled_households
    FROM households
    GROUP BY village_code
)

SELECT
    v.town_code,
    v.village_code,
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
FROM villages AS v
LEFT JOIN counted AS c ON c.village_code = v.village_code
