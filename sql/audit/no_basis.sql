-- Delivered values without a legal ground (audit.no_basis): loan rows whose borrower gave no consent in force, income and
-- property values of households delivered this month whose head gave none, those of family farms and individual businesses
-- whose owner gave none. One row per delivered row and purpose.
WITH grounds AS (
    SELECT
        person_key,
        count(*) FILTER (WHERE purpose = 'bank_data') > 0 AS has_bank_data,
        count(*) FILTER (WHERE purpose = 'income') > 0 AS has_income,
        count(*) FILTER (WHERE purpose = 'property') > 0 AS has_property
    FROM core_consents
    WHERE is_in_force AND recipient = 'county'
    GROUP BY person_key
),

loan_rows AS (
    SELECT
        'loans' AS dataset, a.supplier, a.loan_key AS token,
        'bank_data' AS purpose, a._delivery AS delivery_id, a._member AS member, a._row AS row_no
    FROM accepted_loans AS a
    LEFT JOIN grounds AS g ON g.person_key = a.person_key
    WHERE NOT coalesce(g.has_bank_data, FALSE)
),

flow_rows AS (
    SELECT
        'loan_flows' AS dataset, a.supplier, a.flow_key AS token,
        'bank_data' AS purpose, a._delivery AS delivery_id, a._member AS member, a._row AS row_no
    FROM accepted_loan_flows AS a
    LEFT JOIN grounds AS g ON g.person_key = a.person_key
    WHERE NOT coalesce(g.has_bank_data, FALSE)
),

income_rows AS (
    SELECT
        'households' AS dataset, a.supplier, a.household_key AS token,
        'income' AS purpose, a._delivery AS delivery_id, a._member AS member, a._row AS row_no
    FROM accepted_households AS a
    LEFT JOIN grounds AS g ON g.person_key = a.head_person_key
    WHERE a.annual_income_yuan IS NOT NULL AND NOT coalesce(g.has_income, FALSE)
),

property_rows AS (
    SELECT
        'households' AS dataset, a.supplier, a.household_key AS token,
        'property' AS purpose, a._delivery AS delivery_id, a._member AS member, a._row AS row_no
    FROM accepted_households AS a
    LEFT JOIN grounds AS g ON g.person_key = a.head_person_key
    WHERE
        (a.total_assets_yuan IS NOT NULL OR a.total_debt_yuan IS NOT NULL)
        AND NOT coalesce(g.has_property, FALSE)
),

business_rows AS (
    SELECT
        'businesses' AS dataset, a.supplier, a.business_key AS token,
        'income' AS purpose, a._delivery AS delivery_id, a._member AS member, a._row AS row_no
    FROM accepted_businesses AS a
    LEFT JOIN grounds AS g ON g.person_key = a.in_charge_person_key
    WHERE
        a.business_kind IN ('family_farm', 'individual')
        AND a.operating_income_yuan IS NOT NULL AND NOT coalesce(g.has_income, FALSE)
    UNION ALL
    SELECT
        'businesses' AS dataset, a.supplier, a.business_key AS token,
        'property' AS purpose, a._delivery AS delivery_id, a._member AS member, a._row AS row_no
    FROM accepted_businesses AS a
    LEFT JOIN grounds AS g ON g.person_key = a.in_charge_person_key
    WHERE
        a.business_kind IN ('family_farm', 'individual')
        AND (a.business_assets_yuan IS NOT NULL OR a.business_debt_yuan IS NOT NULL)
        AND NOT coalesce(g.has_property, FALSE)
),

listed AS (
    SELECT * FROM loan_rows
    UNION ALL
    SELECT * FROM flow_rows
    UNION ALL
    SELECT * FROM income_rows
    UNION ALL
    SELECT * FROM property_rows
    UNION ALL
    SELECT * FROM business_rows
)

SELECT
    $period AS period,
    dataset,
    supplier,
    token,
    purpose,
    delivery_id,
    member,
    row_no
FROM listed
