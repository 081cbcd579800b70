-- Balance of notes now in arrears over the balance of all open notes, in whole percent rounded up: one fen in arrears counts.
SELECT
    household_key,
    CAST(CASE
        WHEN open_balance_yuan > 0
            THEN
                (CAST(arrears_balance_yuan * 10000 AS BIGINT) + CAST(open_balance_yuan * 100 AS BIGINT) - 1)
                // CAST(open_balance_yuan * 100 AS BIGINT)
        WHEN open_note_count > 0 THEN 0
    END AS DECIMAL(18, 2)) AS value,
    CASE
        WHEN open_note_count > 0 THEN 'present'
        WHEN bank_data_consent <> 'in_force' THEN 'no_consent'
        ELSE 'missing'
    END AS state,
    coalesce(notes_evidence, 'core_loans') AS evidence
FROM household_features
