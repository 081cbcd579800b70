-- Who took part in a mediation case, by role, with the household at the period end where the person is a member of one.
WITH parties AS (
    SELECT case_key, 'applicant' AS party_role, applicant_key AS person_key FROM accepted_mediation
    UNION ALL
    SELECT case_key, 'respondent' AS party_role, respondent_key AS person_key FROM accepted_mediation
    UNION ALL
    SELECT case_key, 'helper' AS party_role, helper_key AS person_key FROM accepted_mediation
)

SELECT
    $period AS period,
    p.case_key,
    p.party_role,
    p.person_key,
    m.household_key
FROM parties AS p
LEFT JOIN core_members AS m ON m.person_key = p.person_key
WHERE p.person_key IS NOT NULL
