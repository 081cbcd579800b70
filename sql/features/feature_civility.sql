-- Result of the civility review of each household, 0 to 100, rounded down to a hundredth. In each dimension the lowest and
-- the highest $civility_trim_pct percent of the ballots that count are left out by rank, the rest is averaged; dimensions
-- weigh alike. A ballot counts once: of an informed reviewer, not of the own family, not copied. The latest round with
-- $civility_minimum_reviewers such ballots stands, also when it is older than the ballots at hand; a household split off
-- has the result of the one it came from until it is reviewed itself. Without any such round there is no result.
WITH judged AS (
    SELECT
        b.round, b.household_key, b.reviewer_key, b.period,
        CASE
            WHEN NOT b.is_informed THEN 'uninformed'
            WHEN b.is_own_family THEN 'own_family'
            WHEN c.reviewer_key IS NOT NULL THEN 'copied'
            ELSE 'counted'
        END AS fate
    FROM feature_ballots AS b
    LEFT JOIN feature_copied_ballots AS c ON c.round = b.round AND c.reviewer_key = b.reviewer_key
),

rounds AS (
    SELECT
        household_key, round,
        max(period) AS ballots_period,
        count(*) AS ballots_cast,
        count(*) FILTER (WHERE fate = 'uninformed') AS ballots_uninformed,
        count(*) FILTER (WHERE fate = 'own_family') AS ballots_own_family,
        count(*) FILTER (WHERE fate = 'copied') AS ballots_copied,
        count(*) FILTER (WHERE fate = 'counted') AS ballots_counted
    FROM judged
    GROUP BY household_key, round
),

enough AS (
    SELECT household_key, round, ballots_counted, ballots_counted * $civility_trim_pct // 100 AS ballots_trimmed
    FROM rounds
    WHERE ballots_counted >= $civility_minimum_reviewers
),

delivered AS (
    SELECT period, round, household_key, reviewer_key, dimension, mark FROM core_civility_ballots
    UNION ALL
    SELECT period, round, household_key, reviewer_key, dimension, mark FROM history_core_civility_ballots
),

ranked AS (
    SELECT
        d.household_key, d.round, d.mark, r.ballots_counted, r.ballots_trimmed,
        row_number() OVER (
            PARTITION BY d.household_key, d.round, d.dimension ORDER BY d.mark, d.reviewer_key
        ) AS place
    FROM judged AS j
    INNER JOIN enough AS r ON r.household_key = j.household_key AND r.round = j.round
    INNER JOIN delivered AS d
        ON
            d.household_key = j.household_key AND d.round = j.round
            AND d.reviewer_key = j.reviewer_key AND d.period = j.period
    WHERE j.fate = 'counted'
),

scores AS (
    SELECT
        household_key, round,
        CAST(CAST(sum(mark) AS BIGINT) * 1000 // count(*) AS BIGINT) AS review_hundredths
    FROM ranked
    WHERE place > ballots_trimmed AND place <= ballots_counted - ballots_trimmed
    GROUP BY household_key, round
),

known AS (
    SELECT
        r.household_key, r.round, r.ballots_period, r.ballots_cast, r.ballots_uninformed, r.ballots_own_family,
        r.ballots_copied, r.ballots_counted,
        CAST(s.review_hundredths * CAST(0.01 AS DECIMAL(3, 2)) AS DECIMAL(5, 2)) AS review_score
    FROM rounds AS r
    LEFT JOIN scores AS s ON s.household_key = r.household_key AND s.round = r.round
    UNION ALL
    SELECT
        p.household_key, p.round, p.ballots_period, p.ballots_cast, p.ballots_uninformed, p.ballots_own_family,
        p.ballots_copied, p.ballots_counted, p.review_score
    FROM previous_mart_civility_reviews AS p
    WHERE NOT EXISTS (SELECT 1 FROM rounds AS r WHERE r.household_key = p.household_key AND r.round = p.round)
),

standing AS (
    SELECT *
    FROM known
    QUALIFY row_number() OVER (
        PARTITION BY household_key ORDER BY CASE WHEN review_score IS NULL THEN 1 ELSE 0 END ASC, round DESC
    ) = 1
)

SELECT
    h.household_key,
    s.round,
    s.ballots_period,
    s.ballots_cast,
    s.ballots_uninformed,
    s.ballots_own_family,
    s.ballots_copied,
    s.ballots_counted,
    s.review_score,
    concat(
        'core_civility_ballots',
        CASE WHEN s.ballots_period < $period THEN concat('@', s.ballots_period) ELSE '' END,
        ':', s.round, ' ', CAST(s.ballots_counted AS VARCHAR), '/', CAST(s.ballots_cast AS VARCHAR)
    ) AS review_evidence
FROM core_households AS h
LEFT JOIN standing AS own ON own.household_key = h.household_key
INNER JOIN standing AS s
    ON s.household_key = CASE WHEN own.household_key IS NULL THEN h.former_household_key ELSE h.household_key END
