-- Repayment facts of each household over the notes of this period and of the eleven before.
-- A joint debt counts for both borrowers' households; each must have let the lender inform the county.
-- Days in arrears: as delivered; $overdue_flag_days where the bank gives only a flag; 9999 for a written-off note.
WITH held AS (
    SELECT
        household_key, bank_code, loan_key, issued_on, note_state, five_class, balance_yuan, is_overdue, overdue_days,
        input_state, CAST(NULL AS VARCHAR) AS past_period
    FROM core_loans
    WHERE household_key IS NOT NULL
    UNION ALL
    SELECT
        m.household_key, l.bank_code, l.loan_key, l.issued_on, l.note_state, l.five_class, l.balance_yuan, l.is_overdue,
        l.overdue_days, l.input_state, CAST(NULL AS VARCHAR) AS past_period
    FROM core_loans AS l
    INNER JOIN feature_consents AS c ON c.person_key = l.co_person_key AND c.bank_data_consent = 'in_force'
    INNER JOIN core_members AS m ON m.person_key = l.co_person_key
    WHERE l.household_key IS NULL OR m.household_key <> l.household_key
    UNION ALL
    -- conduct follows the person into another household; without any it stays with the household last known
    SELECT
        coalesce(m.household_key, l.household_key) AS household_key, NULL AS bank_code, l.loan_key, l.issued_on, l.note_state,
        NULL AS five_class, NULL AS balance_yuan, l.is_overdue, l.overdue_days, 'complete' AS input_state,
        l.period AS past_period
    FROM history_core_loans AS l
    INNER JOIN feature_consents AS c ON c.person_key = l.person_key AND c.bank_data_consent = 'in_force'
    LEFT JOIN core_members AS m ON m.person_key = l.person_key
    UNION ALL
    SELECT
        m.household_key, NULL AS bank_code, l.loan_key, l.issued_on, l.note_state, NULL AS five_class, NULL AS balance_yuan,
        l.is_overdue, l.overdue_days, 'complete' AS input_state, l.period AS past_period
    FROM history_core_loans AS l
    INNER JOIN feature_consents AS c ON c.person_key = l.co_person_key AND c.bank_data_consent = 'in_force'
    INNER JOIN core_members AS m ON m.person_key = l.co_person_key
),

shares AS (
    SELECT
        household_key, bank_code, issued_on, past_period, input_state, is_overdue,
        loan_key AS any_loan_key,
        CASE WHEN past_period IS NULL THEN loan_key END AS loan_key,
        CASE
            WHEN past_period IS NULL AND note_state IN ('active', 'ended_unknown') THEN balance_yuan
        END AS open_balance_yuan,
        note_state = 'written_off' OR coalesce(five_class IN ('substandard', 'doubtful', 'loss'), FALSE) AS is_bad,
        CAST(CASE
            WHEN note_state = 'written_off' THEN 9999
            WHEN overdue_days > 0 THEN overdue_days
            WHEN is_overdue THEN $overdue_flag_days
            ELSE 0
        END AS INTEGER) AS arrears_days
    FROM held
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
                THEN concat(
                    lpad(CAST(arrears_days AS VARCHAR), 4, '0'),
                    CASE WHEN past_period IS NULL THEN 'core_loans:' ELSE concat('core_loans@', past_period, ':') END,
                    any_loan_key
                )
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
