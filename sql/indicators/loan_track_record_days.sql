-- Days since the first note known over twelve months was issued: a long record is worth more than none.
SELECT
    household_key,
    CAST(track_record_days AS DECIMAL(18, 2)) AS value,
    CASE
        WHEN track_record_days IS NOT NULL THEN 'present'
        WHEN bank_data_consent <> 'in_force' THEN 'no_consent'
        ELSE 'missing'
    END AS state,
    coalesce(notes_evidence, 'core_loans') AS evidence
FROM household_features
