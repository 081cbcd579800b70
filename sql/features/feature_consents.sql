-- What each person agreed to towards the county: one row per person with any consent row.
-- in_force, else withdrawn, else refused, else expired: the strongest statement the person made.
WITH counted AS (
    SELECT
        person_key,
        count(*) FILTER (WHERE purpose = 'grading' AND is_in_force) AS grading_in_force,
        count(*) FILTER (WHERE purpose = 'grading' AND withdrawn_on <= $period_end) AS grading_withdrawn,
        count(*) FILTER (WHERE purpose = 'grading' AND decision = 'refused') AS grading_refused,
        count(*) FILTER (WHERE purpose = 'grading') AS grading_rows,
        count(*) FILTER (WHERE purpose = 'bank_data' AND is_in_force) AS bank_in_force,
        count(*) FILTER (WHERE purpose = 'bank_data' AND withdrawn_on <= $period_end) AS bank_withdrawn,
        count(*) FILTER (WHERE purpose = 'bank_data' AND decision = 'refused') AS bank_refused,
        count(*) FILTER (WHERE purpose = 'bank_data') AS bank_rows,
        count(*) FILTER (WHERE purpose = 'income' AND is_in_force) AS income_in_force,
        count(*) FILTER (WHERE purpose = 'property' AND is_in_force) AS property_in_force
    FROM core_consents
    WHERE recipient = 'county'
    GROUP BY person_key
)

SELECT
    person_key,
    CASE
        WHEN grading_in_force > 0 THEN 'in_force'
        WHEN grading_withdrawn > 0 THEN 'withdrawn'
        WHEN grading_refused > 0 THEN 'refused'
        WHEN grading_rows > 0 THEN 'expired'
        ELSE 'none'
    END AS grading_consent,
    CASE
        WHEN bank_in_force > 0 THEN 'in_force'
        WHEN bank_withdrawn > 0 THEN 'withdrawn'
        WHEN bank_refused > 0 THEN 'refused'
        WHEN bank_rows > 0 THEN 'expired'
        ELSE 'none'
    END AS bank_data_consent,
    income_in_force > 0 AS has_income_consent,
    property_in_force > 0 AS has_property_consent
FROM counted
