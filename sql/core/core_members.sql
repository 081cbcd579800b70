-- Members of households at the period end. Of a child under 14 only the age band is kept (PIPL 28).
-- A person belongs to one household: a row delivered now wins over one kept from before.
WITH source_state AS (
    SELECT count(*) FILTER (WHERE state = 'in_force') = 0 AS is_carried
    FROM expected_inputs
    WHERE dataset = 'members'
),

previous_state AS (
    SELECT count(*) FILTER (WHERE input_state = 'complete') = 0 AS was_carried
    FROM previous_core_members
),

refused AS (
    SELECT DISTINCT member_key FROM rejected_members WHERE member_key IS NOT NULL
),

listed AS (
    SELECT DISTINCT member_key FROM keys_members
),

kept AS (
    SELECT
        p.person_key, p.member_key, p.household_key, p.relation_code, p.sex, p.age_band,
        CASE
            WHEN s.is_carried OR r.member_key IS NOT NULL THEN 'carried_forward'
            WHEN b.was_carried THEN 'complete'
            ELSE p.input_state
        END AS input_state
    FROM previous_core_members AS p
    CROSS JOIN source_state AS s
    CROSS JOIN previous_state AS b
    LEFT JOIN refused AS r ON r.member_key = p.member_key
    LEFT JOIN listed AS k ON k.member_key = p.member_key
    WHERE
        (s.is_carried OR k.member_key IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM accepted_members AS a WHERE a.member_key = p.member_key)
        AND NOT EXISTS (SELECT 1 FROM accepted_members AS a WHERE a.person_key = p.person_key)
),

known AS (
    SELECT person_key, member_key, household_key, relation_code, sex, age_band, 'complete' AS input_state
    FROM accepted_members
    UNION ALL
    SELECT person_key, member_key, household_key, relation_code, sex, age_band, input_state
    FROM kept
)

SELECT
    $period AS period,
    person_key,
    member_key,
    household_key,
    CASE WHEN age_band <> '0-13' THEN relation_code END AS relation_code,
    CASE WHEN age_band <> '0-13' THEN sex END AS sex,
    age_band,
    input_state
FROM known
