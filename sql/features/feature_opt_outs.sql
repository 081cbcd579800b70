-- Households that asked the county not to rate them, until they take it back.
SELECT DISTINCT household_key
FROM core_cases
WHERE case_kind = 'opt_out' AND is_open
