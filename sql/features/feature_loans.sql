-- Repayment facts of each household over the notes of this period and of the eleven before.
-- A joint debt counts for both borrowers' households; each must have let the lender inform the county.
-- Days in arrears: as delivered; $overdue_flag_days where the bank gives only a flag; 9999 for a written-off note.
WITH informed AS (
    SELECT person_key
    FROM feature_consents
    WHERE bank_data_consent = 'in_force'
),

notes AS (
    SELECT
        bank_code, loan_key, household_key, co_person_key, issued_on, input_state, is_overdue,
        note_state IN ('active', 'ended_unknown') AS is_open,
        CASE WHEN note_state IN ('active', 'ended_unknown') THEN balance_yuan END AS open_balance_yuan,
        note_state = 'written_off' OR coalesce(five_class IN ('substandard', 'doubtful', 'loss'), FALSE) AS is_bad,
        CAST(CASE
            WHEN note_state = 'written_off' THEN 9999
            WHEN overdue_days > 0 THEN overdue_days
            WHEN is_overdue THEN $overdue_flag_days
            ELSE 0
        END AS INTEGER) AS arrears_days
    FROM core_loans
),

past_notes AS (
    SELECT
        bank_code, loan_key, person_key, co_person_key, household_key, issued_on,
        CAST(CASE
            WHEN note_state = 'written_off' THEN 9999
            WHEN overdue_days > 0 THEN overdue_days
            WHEN is_overdue THEN $overdue_flag_days
            ELSE 0
        END AS INTEGER) AS arrears_days,
        concat('core_loans@', period, ':', loan_key) AS evidence
    FROM history_core_loans
),

past_shares AS (
    -- conduct follows the person into another household; without any it stays with the household last known
    SELECT coalesce(m.household_key, p.household_key) AS household_key, p.issued_on, p.arrears_days, p.evidence
    FROM past_notes AS p
    INNER JOIN informed AS i ON i.person_key = p.person_key
    LEFT JOIN core_members AS m ON m.person_key = p.person_key
    UNION ALL
    SELECT m.household_key, p.issued_on, p.arrears_days, p.evidence
    FROM past_notes AS p
    INNER JOIN informed AS i ON i.person_key = p.co_person_key
    INNER JOIN core_members AS m ON m.person_key = p.co_person_key
),

joint_notes AS (
    SELECT n.*, m.household_key AS co_household_key
    FROM notes AS n
    INNER JOIN informed AS i ON i.person_key = n.co_person_key
    INNER JOIN core_members AS m ON m.person_key = n.co_person_key
    WHERE n.co_person_key IS NOT NULL AND (n.household_key IS NULL OR m.household_key <> n.household_key)
),

shares AS (
    SELECT
        household_key, bank_code, loan_key, issued_on, input_state, is_overdue, is_open, open_balance_yuan, is_bad,
        arrears_days, CAST(NULL AS VARCHAR) AS past_evidence
    FROM notes
    WHERE household_key IS NOT NULL
    UNION ALL
    SELECT
        co_household_key AS household_key, bank_code, loan_key, issued_on, input_state, is_overdue, is_open,
        open_balance_yuan, is_bad, arrears_days, CAST(NULL AS VARCHAR) AS past_evidence
    FROM joint_notes
    UNION ALL
    SELECT
        household_key, NULL AS bank_code, NULL AS loan_key, issued_on, 'complete' AS input_state, FALSE AS is_overdue,
        FALSE AS is_open, NULL AS open_balance_yuan, FALSE AS is_bad, arrears_days, evidence AS past_evidence
    FROM past_shares
    WHERE household_key IS NOT NULL
),

counted AS (
    SELECT
        household_key,
        CAST(count(loan_key) AS BIGINT) AS note_count,
        CAST(count(open_balance_yuan) AS BIGINT) AS open_note_count,
        CAST(coalesce(sum(open_balance_yuan), 0) AS DECIMAL(18, 2)) AS open_balance_yuan,
        CAST(coalesce(sum(open_balance_yuan) FILTER (WHERE is_overdue), 0) AS DECIMAL(18, 2)) AS arrears_balance_yuan,
        CAST(coalesce(sum(open_balance_yuan) FILTER (WHERE is_bad), 0) AS DECIMAL(18, 2)) AS bad_balance_yuan,
        min(issued_on) AS first_issued_on,
        max(arrears_days) AS worst_arrears_days,
        max(CASE
            WHEN arrears_days > 0
                THEN concat(lpad(CAST(arrears_days AS VARCHAR), 4, '0'), coalesce(past_evidence, concat('core_loans:', loan_key)))
        END) AS worst_evidence,
        min(CASE WHEN arrears_days > 0 OR is_bad THEN bank_code END) AS first_adverse_bank,
        max(CASE WHEN arrears_days > 0 OR is_bad THEN bank_code END) AS last_adverse_bank,
        min(loan_key) AS first_loan_key,
        max(loan_key) AS last_loan_key,
        count(*) FILTER (WHERE input_state <> 'complete') > 0 AS has_carried_note
    FROM shares
    GROUP BY household_key
)

SELECT
    household_key,
    note_count,
    open_note_count,
    open_balance_yuan,
    arrears_balance_yuan,
    bad_balance_yuan,
    first_issued_on,
    worst_arrears_days,
    substr(worst_evidence, 5) AS worst_evidence,
    first_adverse_bank,
    last_adverse_bank,
    CASE
        WHEN note_count = 0 THEN NULL
        WHEN note_count = 1 THEN concat('core_loans:', first_loan_key)
        WHEN note_count = 2 THEN concat('core_loans:', first_loan_key, ',', last_loan_key)
        ELSE concat('core_loans:', first_loan_key, ',', last_loan_key, ' +', CAST(note_count - 2 AS VARCHAR))
    END AS notes_evidence,
    has_carried_note
FROM counted
