-- Household income over the town's median in whole percent, rounded down; needs the written consent to income.
SELECT
    household_key,
    CAST(CASE
        WHEN income_median_fen > 0 THEN CAST(annual_income_yuan * 10000 AS BIGINT) // income_median_fen
    END AS DECIMAL(18, 2)) AS value,
    CASE
        WHEN NOT has_income_consent THEN 'no_consent'
        WHEN annual_income_yuan IS NULL OR income_median_fen IS NULL OR income_median_fen = 0 THEN 'missing'
        ELSE 'present'
    END AS state,
    'core_households' AS evidence
FROM household_features
