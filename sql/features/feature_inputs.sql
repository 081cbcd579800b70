-- Households with rows that were rejected or are not settled, by block: 1 carried_forward, 2 withheld.
-- A row that was never accepted before (withheld) may hide good or bad news: the block waits at last month's points.
WITH seen_notes AS (
    SELECT r.supplier, r.loan_key
    FROM rejected_loans AS r
    INNER JOIN previous_core_loans AS p ON p.bank_code = r.supplier AND p.loan_key = r.loan_key
    UNION
    SELECT r.supplier, r.loan_key
    FROM rejected_loans AS r
    INNER JOIN accepted_loans AS a ON a.supplier = r.supplier AND a.loan_key = r.loan_key
),

unseen_notes AS (
    SELECT r.person_key, r.co_person_key
    FROM rejected_loans AS r
    WHERE NOT EXISTS (SELECT 1 FROM seen_notes AS s WHERE s.supplier = r.supplier AND s.loan_key = r.loan_key)
),

unseen_people AS (
    SELECT person_key FROM unseen_notes
    UNION
    SELECT co_person_key AS person_key FROM unseen_notes
),

unseen_borrowers AS (
    SELECT u.person_key
    FROM unseen_people AS u
    INNER JOIN feature_consents AS c ON c.person_key = u.person_key
    WHERE c.bank_data_consent = 'in_force'
),

kept_members AS (
    SELECT r.member_key
    FROM rejected_members AS r
    INNER JOIN core_members AS m ON m.member_key = r.member_key
),

mediation_parties AS (
    SELECT applicant_key AS person_key FROM rejected_mediation
    UNION
    SELECT respondent_key AS person_key FROM rejected_mediation
    UNION
    SELECT helper_key AS person_key FROM rejected_mediation
),

doubtful_people AS (
    -- what they agreed to or took back may not have arrived
    SELECT person_key FROM core_consents WHERE input_state <> 'complete'
    UNION
    SELECT person_key FROM rejected_consents
),

marks AS (
    SELECT m.household_key, 2 AS bank, 0 AS capacity, 0 AS civility
    FROM unseen_borrowers AS b
    INNER JOIN core_members AS m ON m.person_key = b.person_key
    UNION ALL
    SELECT r.household_key, 2 AS bank, 2 AS capacity, 0 AS civility
    FROM rejected_members AS r
    WHERE
        r.household_key IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM kept_members AS k WHERE k.member_key = r.member_key)
    UNION ALL
    SELECT m.household_key, 0 AS bank, 0 AS capacity, 1 AS civility
    FROM mediation_parties AS p
    INNER JOIN core_members AS m ON m.person_key = p.person_key
    UNION ALL
    SELECT m.household_key, 0 AS bank, 0 AS capacity, 1 AS civility
    FROM rejected_credit_events AS e
    INNER JOIN core_members AS m ON m.person_key = e.person_key
    UNION ALL
    SELECT household_key, 0 AS bank, 0 AS capacity, 1 AS civility
    FROM rejected_civility_ballots
    WHERE household_key IS NOT NULL
    UNION ALL
    SELECT m.household_key, 1 AS bank, 1 AS capacity, 0 AS civility
    FROM doubtful_people AS d
    INNER JOIN core_members AS m ON m.person_key = d.person_key
)

SELECT
    household_key,
    max(bank) AS bank_mark,
    max(capacity) AS capacity_mark,
    max(civility) AS civility_mark
FROM marks
GROUP BY household_key
