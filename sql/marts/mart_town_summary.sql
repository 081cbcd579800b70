-- One row per town: its villages, its households by grade, and its own grade. Every share names its base, is in whole
-- hundredths of a percent rounded down, and is NULL where the base is empty.
WITH names AS (
    SELECT place_code, place_name
    FROM core_places
    QUALIFY row_number() OVER (PARTITION BY place_code ORDER BY valid_from_on DESC) = 1
),

village_grades AS (
    SELECT
        town_code,
        count(*) FILTER (WHERE village_grade = 'AAA') AS grade_aaa_villages,
        count(*) FILTER (WHERE village_grade = 'AA') AS grade_aa_villages,
        count(*) FILTER (WHERE village_grade = 'A') AS grade_a_villages
    FROM core_village_grades
    GROUP BY town_code
)

SELECT
    $period AS period,
    f.town_code,
    n.place_name AS town_name,
    f.villages,
    f.programme_villages,
    f.rated_villages,
    coalesce(v.grade_aaa_villages, 0) AS grade_aaa_villages,
    coalesce(v.grade_aa_villages, 0) AS grade_aa_villages,
    coalesce(v.grade_a_villages, 0) AS grade_a_villages,
    f.credited_villages,
    CAST(CASE
        WHEN f.programme_villages > 0
            THEN CAST(f.credited_villages * 10000 // f.programme_villages AS DECIMAL(9, 0)) * 0.01
    END AS DECIMAL(5, 2)) AS share_credited_of_programme_villages_pct,
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
    CAST(CASE
        WHEN f.borrower_households > 0
            THEN CAST(f.non_arrears_households * 10000 // f.borrower_households AS DECIMAL(9, 0)) * 0.01
    END AS DECIMAL(5, 2)) AS share_non_arrears_of_borrowers_pct,
    g.town_grade,
    g.not_rated_reason,
    g.input_state,
    g.policy_version,
    g.policy_status
FROM town_features AS f
INNER JOIN core_town_grades AS g ON g.town_code = f.town_code
LEFT JOIN names AS n ON n.place_code = f.town_code
LEFT JOIN village_grades AS v ON v.town_code = f.town_code
