-- Ballots of the civility review delivered in the period, one row per dimension. Of several ballots of one reviewer for one
-- household and round the one given last stands. A family is a household with the one it split from and those split off it.
WITH standing AS (
    SELECT *
    FROM accepted_civility_ballots
    QUALIFY row_number() OVER (
        PARTITION BY round, household_key, reviewer_key ORDER BY reviewed_on DESC, ballot_key ASC
    ) = 1
),

families AS (
    SELECT household_key, person_key FROM core_members
    UNION
    SELECT h.household_key, m.person_key
    FROM core_households AS h
    INNER JOIN core_members AS m ON m.household_key = h.former_household_key
    UNION
    SELECT h.former_household_key AS household_key, m.person_key
    FROM core_households AS h
    INNER JOIN core_members AS m ON m.household_key = h.household_key
    WHERE h.former_household_key IS NOT NULL
),

marks AS (
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'filial' AS dimension, filial_mark AS mark
    FROM standing
    UNION ALL
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'neighbour' AS dimension, neighbour_mark AS mark
    FROM standing
    UNION ALL
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'public_spirit' AS dimension, public_spirit_mark AS mark
    FROM standing
    UNION ALL
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'customs' AS dimension, customs_mark AS mark
    FROM standing
    UNION ALL
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'law_abiding' AS dimension, law_abiding_mark AS mark
    FROM standing
    UNION ALL
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'honesty' AS dimension, honesty_mark AS mark
    FROM standing
    UNION ALL
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'hygiene' AS dimension, hygiene_mark AS mark
    FROM standing
    UNION ALL
    SELECT round, household_key, reviewer_key, is_informed, reviewed_on, 'diligence' AS dimension, diligence_mark AS mark
    FROM standing
)

SELECT
    $period AS period,
    b.round,
    b.household_key,
    b.reviewer_key,
    b.dimension,
    b.mark,
    b.is_informed,
    f.person_key IS NOT NULL AS is_own_family,
    b.reviewed_on
FROM marks AS b
LEFT JOIN families AS f ON f.household_key = b.household_key AND f.person_key = b.reviewer_key
