-- Open loan balance over yearly net income in whole percent, rounded up; needs the consents to loan data and to income.
-- What is owed on a note written off within twelve months (9999 days) is not delivered any more: it counts as more than can be borne.
SELECT
    household_key,
    CAST(CASE
        WHEN worst_arrears_days = 9999 THEN 9999
        WHEN annual_income_yuan > 0
            THEN
                (CAST(open_balance_yuan * 10000 AS BIGINT) + CAST(annual_income_yuan * 100 AS BIGINT) - 1)
                // CAST(annual_income_yuan * 100 AS BIGINT)
        WHEN annual_income_yuan = 0 AND open_balance_yuan > 0 THEN 9999
        WHEN annual_income_yuan = 0 THEN 0
    END AS DECIMAL(18, 2)) AS value,
    CASE
        WHEN NOT has_income_consent OR (bank_data_consent <> 'in_force' AND note_count = 0) THEN 'no_consent'
        WHEN annual_income_yuan IS NULL THEN 'missing'
        ELSE 'present'
    END AS state,
    CASE WHEN worst_arrears_days = 9999 THEN worst_evidence ELSE coalesce(notes_evidence, 'core_households') END AS evidence
FROM household_features
