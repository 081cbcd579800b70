-- Household assets over the town's median in whole percent, rounded down; needs the written consent to property.
SELECT
    household_key,
    CAST(CASE
        WHEN assets_median_fen > 0 THEN CAST(total_assets_yuan * 10000 AS BIGINT) // assets_median_fen
    END AS DECIMAL(18, 2)) AS value,
    CASE
        WHEN NOT has_property_consent THEN 'no_consent'
        WHEN total_assets_yuan IS NULL OR assets_median_fen IS NULL OR assets_median_fen = 0 THEN 'missing'
        ELSE 'present'
    END AS state,
    'core_households' AS evidence
FROM household_features
