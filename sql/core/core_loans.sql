-- Loan notes at the period end, of borrowers who let their lender inform the county.
-- Absence is never evidence (DESIGN 9.6): a rejected or late note keeps its last accepted state, a note that left the stock
-- file is looked up in the flows, and one that is not found there is `ended_unknown` with its last balance and arrears.
WITH informed AS (
    SELECT DISTINCT person_key
    FROM core_consents
    WHERE is_in_force AND purpose = 'bank_data' AND recipient = 'county'
),

late_banks AS (
    SELECT DISTINCT supplier AS bank_code
    FROM expected_inputs
    WHERE dataset = 'loans' AND state = 'carried_forward'
),

refused AS (
    SELECT DISTINCT supplier AS bank_code, loan_key FROM rejected_loans WHERE loan_key IS NOT NULL
),

endings AS (
    -- how a note ended by the flows of this month; a loss outranks a sale, a sale outranks repayment
    SELECT
        supplier AS bank_code,
        loan_key,
        CASE
            WHEN count(*) FILTER (WHERE flow_kind = 'write_off') > 0 THEN 'written_off'
            WHEN count(*) FILTER (WHERE flow_kind = 'transfer') > 0 THEN 'transferred'
            ELSE 'repaid'
        END AS note_state,
        max(ended_on) AS ended_on
    FROM accepted_loan_flows
    WHERE flow_kind IN ('write_off', 'transfer') OR (flow_kind = 'collect' AND ended_on IS NOT NULL)
    GROUP BY supplier, loan_key
),

delivered AS (
    -- what a bank says it had delivered wrongly counts for the month as it should have been
    SELECT
        a.supplier AS bank_code, a.loan_key, a.person_key, a.co_person_key,
        CAST(NULL AS VARCHAR) AS last_household_key,
        a.as_of_on, a.branch_code, a.product_code, a.issued_on, a.matures_on, a.extended_to_on, a.closed_on, a.currency,
        a.issued_amount_yuan, a.balance_yuan, a.annual_rate_pct, a.guarantee_code,
        coalesce(m.five_class, a.five_class) AS five_class,
        CASE WHEN m.overdue_days = 0 AND a.loan_status = 'overdue' THEN 'normal' ELSE a.loan_status END AS loan_status,
        CASE
            WHEN m.overdue_days IS NOT NULL THEN m.overdue_days > 0
            ELSE coalesce(a.overdue_days > 0, FALSE) OR coalesce(a.loan_status = 'overdue', FALSE)
        END AS is_overdue,
        CASE WHEN m.overdue_days IS NULL OR m.overdue_days > 0 THEN a.overdue_kind END AS overdue_kind,
        coalesce(m.overdue_days, a.overdue_days) AS overdue_days,
        CASE
            WHEN a.loan_status IN ('repaid', 'written_off', 'transferred') THEN a.loan_status
            ELSE 'active'
        END AS note_state,
        'complete' AS input_state
    FROM accepted_loans AS a
    LEFT JOIN mended_notes AS m ON m.bank_code = a.supplier AND m.loan_key = a.loan_key
),

not_delivered AS (
    SELECT p.*
    FROM previous_core_loans AS p
    WHERE
        p.note_state IN ('active', 'ended_unknown')
        AND NOT EXISTS (
            SELECT 1 FROM accepted_loans AS a WHERE a.supplier = p.bank_code AND a.loan_key = p.loan_key
        )
),

fates AS (
    -- NULL fate: the last accepted state stays in force as it is; a flow says how a note ended even if the stock file is late
    SELECT
        n.*,
        CASE
            WHEN r.loan_key IS NOT NULL THEN NULL
            WHEN e.note_state IS NOT NULL THEN e.note_state
            WHEN b.bank_code IS NULL THEN 'ended_unknown'
        END AS fate,
        e.ended_on
    FROM not_delivered AS n
    LEFT JOIN late_banks AS b ON b.bank_code = n.bank_code
    LEFT JOIN refused AS r ON r.bank_code = n.bank_code AND r.loan_key = n.loan_key
    LEFT JOIN endings AS e ON e.bank_code = n.bank_code AND e.loan_key = n.loan_key
),

carried AS (
    SELECT
        bank_code, loan_key, person_key, co_person_key, household_key AS last_household_key,
        as_of_on, branch_code, product_code, issued_on, matures_on, extended_to_on, closed_on, currency,
        issued_amount_yuan, balance_yuan, annual_rate_pct, guarantee_code, five_class, loan_status,
        is_overdue, overdue_kind, overdue_days,
        coalesce(fate, note_state) AS note_state,
        'carried_forward' AS input_state
    FROM fates
    WHERE fate IS NULL OR fate = 'ended_unknown'
),

ended AS (
    SELECT
        bank_code, loan_key, person_key, co_person_key, household_key AS last_household_key,
        CAST($period_end AS DATE) AS as_of_on, branch_code, product_code, issued_on, matures_on, extended_to_on,
        coalesce(ended_on, closed_on) AS closed_on, currency,
        issued_amount_yuan, CAST(0 AS DECIMAL(18, 2)) AS balance_yuan, annual_rate_pct, guarantee_code, five_class,
        fate AS loan_status,
        is_overdue AND fate <> 'repaid' AS is_overdue,
        CASE WHEN fate <> 'repaid' THEN overdue_kind END AS overdue_kind,
        CASE WHEN fate <> 'repaid' THEN overdue_days END AS overdue_days,
        fate AS note_state,
        'complete' AS input_state
    FROM fates
    WHERE fate IN ('repaid', 'written_off', 'transferred')
),

notes AS (
    SELECT * FROM delivered
    UNION ALL
    SELECT * FROM carried
    UNION ALL
    SELECT * FROM ended
),

linked AS (
    -- a borrower who is no longer on any household's list stays with the household last known, if that still exists
    SELECT n.*, m.household_key, h.household_key AS kept_household_key
    FROM notes AS n
    INNER JOIN informed AS i ON i.person_key = n.person_key
    LEFT JOIN core_members AS m ON m.person_key = n.person_key
    LEFT JOIN previous_core_loans AS p ON p.bank_code = n.bank_code AND p.loan_key = n.loan_key
    LEFT JOIN core_households AS h
        ON h.household_key = CASE
            WHEN m.household_key IS NULL THEN coalesce(n.last_household_key, p.household_key)
        END
)

SELECT
    $period AS period,
    bank_code,
    loan_key,
    person_key,
    coalesce(household_key, kept_household_key) AS household_key,
    co_person_key,
    as_of_on,
    branch_code,
    product_code,
    issued_on,
    matures_on,
    extended_to_on,
    closed_on,
    currency,
    issued_amount_yuan,
    balance_yuan,
    annual_rate_pct,
    guarantee_code,
    five_class,
    loan_status,
    is_overdue,
    overdue_kind,
    overdue_days,
    note_state,
    CASE WHEN kept_household_key IS NOT NULL THEN 'carried_forward' ELSE input_state END AS input_state
FROM linked
