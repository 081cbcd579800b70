-- Whether the household has a stable income ("true" or "false"); needs the written consent to income.
SELECT
    household_key,
    CASE WHEN has_stable_income THEN 'true' WHEN NOT has_stable_income THEN 'false' END AS value,
    CASE
        WHEN NOT has_income_consent THEN 'no_consent'
        WHEN has_stable_income IS NULL THEN 'missing'
        ELSE 'present'
    END AS state,
    'core_households' AS evidence
FROM household_features
