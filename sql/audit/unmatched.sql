-- Rows that could not be linked, listed instead of dropped (audit.unmatched).
WITH informed AS (
    SELECT DISTINCT person_key
    FROM core_consents
    WHERE is_in_force AND purpose = 'bank_data' AND recipient = 'county'
),

loan_rows AS (
    SELECT
        'loans' AS dataset, a.supplier, 'borrower' AS subject_kind, a.person_key AS token,
        'borrower is no member of a registered household' AS reason
    FROM accepted_loans AS a
    INNER JOIN informed AS i ON i.person_key = a.person_key
    WHERE NOT EXISTS (SELECT 1 FROM core_members AS m WHERE m.person_key = a.person_key)
),

flow_rows AS (
    SELECT
        'loan_flows' AS dataset, f.bank_code AS supplier, 'borrower' AS subject_kind, f.person_key AS token,
        'borrower is no member of a registered household' AS reason
    FROM core_loan_flows AS f
    WHERE NOT EXISTS (SELECT 1 FROM core_members AS m WHERE m.person_key = f.person_key)
),

party_rows AS (
    SELECT
        'mediation' AS dataset, c.town_code AS supplier, p.party_role AS subject_kind, p.person_key AS token,
        'party is no member of a registered household' AS reason
    FROM core_mediation_parties AS p
    INNER JOIN core_mediation_cases AS c ON c.case_key = p.case_key
    WHERE p.household_key IS NULL
),

member_rows AS (
    SELECT
        'members' AS dataset, 'government' AS supplier, 'member' AS subject_kind, m.person_key AS token,
        'household of the member is not in the register' AS reason
    FROM core_members AS m
    WHERE NOT EXISTS (SELECT 1 FROM core_households AS h WHERE h.household_key = m.household_key)
),

consent_rows AS (
    SELECT
        'consents' AS dataset, 'government' AS supplier, 'subject' AS subject_kind, c.person_key AS token,
        'subject is no member of a registered household' AS reason
    FROM core_consents AS c
    WHERE NOT EXISTS (SELECT 1 FROM core_members AS m WHERE m.person_key = c.person_key)
),

household_rows AS (
    SELECT
        'households' AS dataset, 'government' AS supplier, 'household' AS subject_kind, k.household_key AS token,
        'in the key list of the register but never accepted: withheld, not graded' AS reason
    FROM keys_households AS k
    WHERE NOT EXISTS (SELECT 1 FROM core_households AS h WHERE h.household_key = k.household_key)
),

ballot_rows AS (
    SELECT DISTINCT
        'civility_ballots' AS dataset, b.supplier, 'household' AS subject_kind, b.household_key AS token,
        'household of the ballots is not in the register' AS reason
    FROM accepted_civility_ballots AS b
    WHERE NOT EXISTS (SELECT 1 FROM core_households AS h WHERE h.household_key = b.household_key)
),

item_rows AS (
    SELECT
        'credit_events' AS dataset, a.supplier, 'bound' AS subject_kind, a.person_key AS token,
        'person bound is no member of a registered household' AS reason
    FROM accepted_credit_events AS a
    WHERE NOT EXISTS (SELECT 1 FROM core_members AS m WHERE m.person_key = a.person_key)
),

subject_rows AS (
    SELECT DISTINCT
        'businesses' AS dataset, r.supplier, 'business' AS subject_kind, r.business_key AS token,
        'reported but never accepted: not graded' AS reason
    FROM rejected_businesses AS r
    WHERE
        r.business_key IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM core_businesses AS b WHERE b.business_key = r.business_key)
    UNION ALL
    SELECT DISTINCT
        'collectives' AS dataset, r.supplier, 'collective' AS subject_kind, r.collective_key AS token,
        'reported but never accepted: not graded' AS reason
    FROM rejected_collectives AS r
    WHERE
        r.collective_key IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM core_collectives AS c WHERE c.collective_key = r.collective_key)
    UNION ALL
    SELECT DISTINCT
        'merchants' AS dataset, r.supplier, 'merchant' AS subject_kind, r.merchant_key AS token,
        'reported but never accepted: not graded' AS reason
    FROM rejected_merchants AS r
    WHERE
        r.merchant_key IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM core_merchants AS m WHERE m.merchant_key = r.merchant_key)
),

review_rows AS (
    SELECT
        'merchant_reviews' AS dataset, a.supplier, 'merchant' AS subject_kind, a.merchant_key AS token,
        'application of a merchant that nobody reported' AS reason
    FROM accepted_merchant_reviews AS a
    WHERE NOT EXISTS (SELECT 1 FROM core_merchants AS m WHERE m.merchant_key = a.merchant_key)
),

listed AS (
    SELECT * FROM loan_rows
    UNION ALL
    SELECT * FROM flow_rows
    UNION ALL
    SELECT * FROM party_rows
    UNION ALL
    SELECT * FROM member_rows
    UNION ALL
    SELECT * FROM consent_rows
    UNION ALL
    SELECT * FROM household_rows
    UNION ALL
    SELECT * FROM ballot_rows
    UNION ALL
    SELECT * FROM item_rows
    UNION ALL
    SELECT * FROM subject_rows
    UNION ALL
    SELECT * FROM review_rows
)

SELECT
    $period AS period,
    dataset,
    supplier,
    subject_kind,
    token,
    reason
FROM listed
