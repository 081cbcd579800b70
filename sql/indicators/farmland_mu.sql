-- Contracted farmland in mu.
SELECT
    household_key,
    CAST(farmland_mu AS DECIMAL(18, 2)) AS value,
    CASE WHEN farmland_mu IS NULL THEN 'missing' ELSE 'present' END AS state,
    'core_households' AS evidence
FROM household_features
