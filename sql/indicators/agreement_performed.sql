-- Mediation agreements of twelve months that a document says a member did not perform; being a party never counts.
SELECT
    household_key,
    CAST(unperformed_count AS DECIMAL(18, 2)) AS value,
    'present' AS state,
    CASE WHEN unperformed_count > 0 THEN unperformed_evidence ELSE 'core_mediation_cases' END AS evidence
FROM household_features
