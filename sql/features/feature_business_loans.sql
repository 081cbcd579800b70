-- How the person in charge of a family farm or an individual business repaid over twelve months, if he or she lets the banks
-- tell. Notes of companies and cooperatives are in no feed (单位贷款, CLDWDK), and co-borrowed notes are not looked at.
-- Days in arrears: as delivered; $in_charge_flag_days where the bank gives only a flag; 9999 for a written-off note.
WITH people AS (
    SELECT DISTINCT b.in_charge_person_key AS person_key
    FROM core_businesses AS b
    INNER JOIN feature_consents AS c ON c.person_key = b.in_charge_person_key
    WHERE b.business_kind IN ('family_farm', 'individual') AND c.bank_data_consent = 'in_force'
),

held AS (
    SELECT
        l.person_key, l.loan_key, l.note_state, l.is_overdue, l.overdue_days, l.input_state,
        'core_loans:' AS source
    FROM core_loans AS l
    INNER JOIN people AS p ON p.person_key = l.person_key
    UNION ALL
    SELECT
        l.person_key, l.loan_key, l.note_state, l.is_overdue, l.overdue_days, 'complete' AS input_state,
        concat('core_loans@', l.period, ':') AS source
    FROM history_core_loans AS l
    INNER JOIN people AS p ON p.person_key = l.person_key
),

measured AS (
    SELECT
        person_key,
        input_state,
        concat(source, loan_key) AS note,
        CAST(CASE
            WHEN note_state = 'written_off' THEN 9999
            WHEN overdue_days > 0 THEN overdue_days
            WHEN is_overdue THEN $in_charge_flag_days
            ELSE 0
        END AS INTEGER) AS arrears_days
    FROM held
),

counted AS (
    SELECT
        person_key,
        max(arrears_days) AS worst_arrears_days,
        max(concat(lpad(CAST(arrears_days AS VARCHAR), 4, '0'), note)) AS worst_evidence,
        count(*) FILTER (WHERE input_state <> 'complete') > 0 AS has_carried_note
    FROM measured
    GROUP BY person_key
),

unseen AS (
    -- a refused note that was never accepted may hide good or bad news
    SELECT DISTINCT r.person_key
    FROM rejected_loans AS r
    WHERE NOT EXISTS (SELECT 1 FROM core_loans AS l WHERE l.bank_code = r.supplier AND l.loan_key = r.loan_key)
)

SELECT
    p.person_key,
    c.worst_arrears_days,
    substr(c.worst_evidence, 5) AS worst_evidence,
    coalesce(c.has_carried_note, FALSE) AS has_carried_note,
    u.person_key IS NOT NULL AS has_unseen_note
FROM people AS p
LEFT JOIN counted AS c ON c.person_key = p.person_key
LEFT JOIN unseen AS u ON u.person_key = p.person_key
