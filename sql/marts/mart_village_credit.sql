-- Grades of each village's households as counts and shares. "A and above" is said inclusively and "AA and above" apart,
-- each over the rated and over the register: shares of unnamed base cannot be compared. Whole hundredths of a percent,
-- rounded down; NULL where the base is empty.
WITH names AS (
    SELECT place_code, place_name, in_programme
    FROM core_places
    QUALIFY row_number() OVER (PARTITION BY place_code ORDER BY valid_from_on DESC) = 1
)

SELECT
    $period AS period,
    f.town_code,
    t.place_name AS town_name,
    f.village_code,
    v.place_name AS village_name,
    v.in_programme,
    f.registered_households,
    f.rated_households,
    f.grade_aaa_households,
    f.grade_aa_households,
    f.grade_a_households,
    f.grade_b_households,
    f.grade_c_households,
    f.grade_d_households,
    f.registered_households - f.rated_households AS not_rated_households,
    f.credited_households,
    f.aa_plus_households,
    CAST(CASE
        WHEN f.rated_households > 0 THEN CAST(f.credited_households * 10000 // f.rated_households AS DECIMAL(9, 0)) * 0.01
    END AS DECIMAL(5, 2)) AS share_a_inclusive_of_rated_pct,
    CAST(CASE
        WHEN f.registered_households > 0
            THEN CAST(f.credited_households * 10000 // f.registered_households AS DECIMAL(9, 0)) * 0.01
    END AS DECIMAL(5, 2)) AS share_a_inclusive_of_register_pct,
    CAST(CASE
        WHEN f.rated_households > 0 THEN CAST(f.aa_plus_households * 10000 // f.rated_households AS DECIMAL(9, 0)) * 0.01
    END AS DECIMAL(5, 2)) AS share_aa_plus_of_rated_pct,
    CAST(CASE
        WHEN f.registered_households > 0
            THEN CAST(f.aa_plus_households * 10000 // f.registered_households AS DECIMAL(9, 0)) * 0.01
    END AS DECIMAL(5, 2)) AS share_aa_plus_of_register_pct,
    f.borrower_households,
    f.non_arrears_households,
    g.village_grade,
    g.not_rated_reason,
    g.input_state,
    g.policy_version,
    g.policy_status
FROM village_features AS f
INNER JOIN core_village_grades AS g ON g.village_code = f.village_code
LEFT JOIN names AS t ON t.place_code = f.town_code
LEFT JOIN names AS v ON v.place_code = f.village_code
