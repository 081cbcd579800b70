-- Balance of notes now in arrears over the balance of all open notes, in whole percent rounded up: one fen in arrears counts.
-- A note written off within twelve months (9999 days) is wholly in arrears: it has no balance any more and is owed all the same.
SELECT
    household_key,
    CAST(CASE
        WHEN worst_arrears_days = 9999 THEN 100
        WHEN open_balance_yuan > 0
            THEN
                (CAST(arrears_balance_yuan * 10000 AS BIGINT) + CAST(open_balance_yuan * 100 AS BIGINT) - 1)
                // CAST(open_balance_yuan * 100 AS BIGINT)
        WHEN open_note_count > 0 THEN 0
    END AS DECIMAL(18, 2)) AS value,
    CASE
        WHEN open_note_count > 0 OR worst_arrears_days = 9999 THEN 'present'
        WHEN bank_data_consent <> 'in_force' THEN 'no_consent'
        ELSE 'missing'
    END AS state,
    CASE WHEN worst_arrears_days = 9999 THEN worst_evidence ELSE coalesce(notes_evidence, 'core_loans') END AS evidence
FROM household_features
