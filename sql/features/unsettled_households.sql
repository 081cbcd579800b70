-- Households with any row carried forward or withheld: their points may have to be compared with last month's.
SELECT household_key FROM core_households WHERE input_state <> 'complete'
UNION
SELECT household_key FROM feature_loans WHERE has_carried_note
UNION
SELECT household_key FROM feature_members WHERE has_carried_member
UNION
SELECT household_key FROM feature_inputs
UNION
SELECT household_key FROM feature_lists WHERE has_carried_item
UNION
SELECT h.former_household_key AS household_key
FROM core_households AS h
WHERE h.former_household_key IS NOT NULL
