-- Closed mediation cases a member helped to settle within twelve months.
SELECT
    household_key,
    CAST(helped_count AS DECIMAL(18, 2)) AS value,
    'present' AS state,
    CASE WHEN helped_count > 0 THEN helped_evidence ELSE 'core_mediation_parties' END AS evidence
FROM household_features
