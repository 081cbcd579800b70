-- Applications as they come: nothing is computed, nothing is ever withheld.
SELECT
    a.applicant_key,
    a.town_code,
    a.village_code,
    a.credit_amount,
    a.housing,
    'complete' AS loan_input_state,
    'complete' AS home_input_state
FROM applications AS a
