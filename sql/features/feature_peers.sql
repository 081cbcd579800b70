-- Town medians of income and assets, by rank (the lower of two middle values), in fen: first a histogram by 1,000 yuan finds
-- the middle interval, then only its rows are ranked. A town with fewer than $peer_minimum_sample households that gave
-- their consent is compared with the county; below that in the county there is no median.
WITH amounts AS (
    SELECT town_code, 'income' AS measure, CAST(annual_income_yuan * 100 AS BIGINT) AS amount_fen
    FROM core_households
    WHERE annual_income_yuan IS NOT NULL AND town_code IS NOT NULL
    UNION ALL
    SELECT town_code, 'assets' AS measure, CAST(total_assets_yuan * 100 AS BIGINT) AS amount_fen
    FROM core_households
    WHERE total_assets_yuan IS NOT NULL AND town_code IS NOT NULL
),

town_intervals AS (
    SELECT town_code, measure, amount_fen // 100000 AS interval_no, CAST(count(*) AS BIGINT) AS households
    FROM amounts
    GROUP BY town_code, measure, amount_fen // 100000
),

intervals AS (
    SELECT town_code AS scope, measure, interval_no, households FROM town_intervals
    UNION ALL
    SELECT 'county' AS scope, measure, interval_no, CAST(sum(households) AS BIGINT) AS households
    FROM town_intervals
    GROUP BY measure, interval_no
),

cumulated AS (
    SELECT
        scope, measure, interval_no, households,
        CAST(sum(households) OVER (PARTITION BY scope, measure ORDER BY interval_no) AS BIGINT) AS up_to,
        CAST(sum(households) OVER (PARTITION BY scope, measure) AS BIGINT) AS sample
    FROM intervals
),

middle AS (
    SELECT scope, measure, interval_no, sample, (sample + 1) // 2 - (up_to - households) AS rank_within
    FROM cumulated
    WHERE up_to >= (sample + 1) // 2 AND up_to - households < (sample + 1) // 2
),

candidates AS (
    SELECT m.scope, m.measure, m.sample, m.rank_within, a.amount_fen
    FROM middle AS m
    INNER JOIN amounts AS a
        ON a.town_code = m.scope AND a.measure = m.measure AND a.amount_fen // 100000 = m.interval_no
    WHERE m.scope <> 'county'
    UNION ALL
    SELECT m.scope, m.measure, m.sample, m.rank_within, a.amount_fen
    FROM middle AS m
    INNER JOIN amounts AS a ON a.measure = m.measure AND a.amount_fen // 100000 = m.interval_no
    WHERE m.scope = 'county'
),

medians AS (
    SELECT scope, measure, amount_fen AS median_fen
    FROM candidates
    WHERE sample >= $peer_minimum_sample
    QUALIFY row_number() OVER (PARTITION BY scope, measure ORDER BY amount_fen) = rank_within
),

county AS (
    SELECT
        max(median_fen) FILTER (WHERE measure = 'income') AS income_fen,
        max(median_fen) FILTER (WHERE measure = 'assets') AS assets_fen
    FROM medians
    WHERE scope = 'county'
),

towns AS (
    SELECT
        scope AS town_code,
        max(median_fen) FILTER (WHERE measure = 'income') AS income_fen,
        max(median_fen) FILTER (WHERE measure = 'assets') AS assets_fen
    FROM medians
    WHERE scope <> 'county'
    GROUP BY scope
),

known_towns AS (
    SELECT DISTINCT town_code FROM core_households WHERE town_code IS NOT NULL
)

SELECT
    k.town_code,
    coalesce(t.income_fen, c.income_fen) AS income_median_fen,
    coalesce(t.assets_fen, c.assets_fen) AS assets_median_fen
FROM known_towns AS k
LEFT JOIN towns AS t ON t.town_code = k.town_code
CROSS JOIN county AS c
