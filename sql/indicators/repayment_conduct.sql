-- Days in arrears at worst over twelve months, any note of the household; no note known: missing.
SELECT
    household_key,
    CAST(worst_arrears_days AS DECIMAL(18, 2)) AS value,
    CASE
        WHEN worst_arrears_days IS NOT NULL THEN 'present'
        WHEN bank_data_consent <> 'in_force' THEN 'no_consent'
        ELSE 'missing'
    END AS state,
    coalesce(worst_evidence, notes_evidence, 'core_loans') AS evidence
FROM household_features
