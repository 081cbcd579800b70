-- Reviewers whose ballots of a round are not their own judgment: the same marks for every household, or mark for mark those
-- of another reviewer. Both are asked over $civility_copied_households households at least; who copied from whom is not
-- known, so neither counts, and a person looks at the list.
WITH informed AS (
    SELECT round, household_key, reviewer_key, marks
    FROM feature_ballots
    WHERE is_informed
),

uniform AS (
    SELECT
        round, reviewer_key, 'same_marks' AS exclusion_reason, CAST(NULL AS VARCHAR) AS other_reviewer_key,
        count(*) AS households_compared
    FROM informed
    GROUP BY round, reviewer_key
    HAVING count(*) >= $civility_copied_households AND count(DISTINCT marks) = 1
),

pairs AS (
    SELECT
        a.round, a.reviewer_key, b.reviewer_key AS other_reviewer_key,
        count(*) AS households_compared,
        count(*) FILTER (WHERE a.marks <> b.marks) AS households_different
    FROM informed AS a
    INNER JOIN informed AS b
        ON b.round = a.round AND b.household_key = a.household_key AND b.reviewer_key <> a.reviewer_key
    GROUP BY a.round, a.reviewer_key, b.reviewer_key
),

found AS (
    SELECT * FROM uniform
    UNION ALL
    SELECT round, reviewer_key, 'same_as_other' AS exclusion_reason, other_reviewer_key, households_compared
    FROM pairs
    WHERE households_compared >= $civility_copied_households AND households_different = 0
)

SELECT round, reviewer_key, exclusion_reason, other_reviewer_key, households_compared
FROM found
QUALIFY row_number() OVER (
    PARTITION BY round, reviewer_key
    ORDER BY
        CASE WHEN other_reviewer_key IS NULL THEN 0 ELSE 1 END ASC, households_compared DESC, other_reviewer_key ASC
) = 1
