-- What each person agreed to towards the county: one row per person with any consent row.
-- in_force, else withdrawn, else refused, else expired: the strongest statement the person made.
WITH statements AS (
    SELECT
        person_key,
        purpose,
        CASE
            WHEN is_in_force THEN 4
            WHEN withdrawn_on <= $period_end THEN 3
            WHEN decision = 'refused' THEN 2
            ELSE 1
        END AS strength
    FROM core_consents
    WHERE recipient = 'county'
),

strongest AS (
    SELECT
        person_key,
        max(CASE WHEN purpose = 'grading' THEN strength ELSE 0 END) AS grading,
        max(CASE WHEN purpose = 'bank_data' THEN strength ELSE 0 END) AS bank_data,
        max(CASE WHEN purpose = 'income' THEN strength ELSE 0 END) AS income,
        max(CASE WHEN purpose = 'property' THEN strength ELSE 0 END) AS property
    FROM statements
    GROUP BY person_key
)

SELECT
    person_key,
    CASE grading
        WHEN 4 THEN 'in_force' WHEN 3 THEN 'withdrawn' WHEN 2 THEN 'refused' WHEN 1 THEN 'expired' ELSE 'none'
    END AS grading_consent,
    CASE bank_data
        WHEN 4 THEN 'in_force' WHEN 3 THEN 'withdrawn' WHEN 2 THEN 'refused' WHEN 1 THEN 'expired' ELSE 'none'
    END AS bank_data_consent,
    income = 4 AS has_income_consent,
    property = 4 AS has_property_consent
FROM strongest
