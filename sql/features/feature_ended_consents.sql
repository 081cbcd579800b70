-- Households with a member whose consent to be reported by lenders came to an end: withdrawn counts before expired.
WITH ended AS (
    SELECT person_key, bank_data_consent
    FROM feature_consents
    WHERE bank_data_consent IN ('withdrawn', 'expired')
)

SELECT m.household_key, max(e.bank_data_consent) AS bank_data_ended
FROM ended AS e
INNER JOIN core_members AS m ON m.person_key = e.person_key
GROUP BY m.household_key
