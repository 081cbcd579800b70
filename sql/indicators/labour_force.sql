-- Members of working age (16 to 59).
SELECT
    household_key,
    CAST(labour_count AS DECIMAL(18, 2)) AS value,
    CASE WHEN member_count IS NULL THEN 'missing' ELSE 'present' END AS state,
    'core_members' AS evidence
FROM household_features
