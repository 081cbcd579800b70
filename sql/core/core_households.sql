-- Household records at the period end. Income and property values stand only where the head's consent to their use is in
-- force (征信业管理条例 14); the others are listed by sql/audit/no_basis.sql.
WITH source_state AS (
    SELECT count(*) FILTER (WHERE state = 'in_force') = 0 AS is_carried
    FROM expected_inputs
    WHERE dataset = 'households'
),

previous_state AS (
    SELECT count(*) FILTER (WHERE input_state = 'complete') = 0 AS was_carried
    FROM previous_core_households
),

refused AS (
    SELECT DISTINCT household_key FROM rejected_households WHERE household_key IS NOT NULL
),

listed AS (
    SELECT DISTINCT household_key FROM keys_households
),

kept AS (
    SELECT
        p.household_key, p.former_household_key, p.head_person_key, p.village_code, p.registered_on,
        p.residence_status, p.absent_since_on, p.annual_income_yuan, p.total_assets_yuan, p.total_debt_yuan,
        p.farmland_mu, p.has_stable_income, p.civility_score, p.civility_reviewed_on,
        CASE
            WHEN s.is_carried OR r.household_key IS NOT NULL THEN 'carried_forward'
            WHEN b.was_carried THEN 'complete'
            ELSE p.input_state
        END AS input_state
    FROM previous_core_households AS p
    CROSS JOIN source_state AS s
    CROSS JOIN previous_state AS b
    LEFT JOIN refused AS r ON r.household_key = p.household_key
    LEFT JOIN listed AS k ON k.household_key = p.household_key
    WHERE
        (s.is_carried OR k.household_key IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM accepted_households AS a WHERE a.household_key = p.household_key)
),

known AS (
    SELECT
        household_key, former_household_key, head_person_key, village_code, registered_on,
        residence_status, absent_since_on, annual_income_yuan, total_assets_yuan, total_debt_yuan,
        farmland_mu, has_stable_income, civility_score, civility_reviewed_on, 'complete' AS input_state
    FROM accepted_households
    UNION ALL
    SELECT
        household_key, former_household_key, head_person_key, village_code, registered_on,
        residence_status, absent_since_on, annual_income_yuan, total_assets_yuan, total_debt_yuan,
        farmland_mu, has_stable_income, civility_score, civility_reviewed_on, input_state
    FROM kept
),

grounds AS (
    SELECT
        person_key,
        count(*) FILTER (WHERE purpose = 'income') > 0 AS may_use_income,
        count(*) FILTER (WHERE purpose = 'property') > 0 AS may_use_property
    FROM core_consents
    WHERE is_in_force AND recipient = 'county' AND purpose IN ('income', 'property')
    GROUP BY person_key
),

villages AS (
    -- the newest entry of a village, also of one that was merged away since
    SELECT place_code, parent_code AS town_code
    FROM core_places
    WHERE place_level = 'village'
    QUALIFY row_number() OVER (PARTITION BY place_code ORDER BY valid_from_on DESC) = 1
)

SELECT
    $period AS period,
    h.household_key,
    h.former_household_key,
    h.head_person_key,
    v.town_code,
    h.village_code,
    h.registered_on,
    h.residence_status,
    h.absent_since_on,
    CASE WHEN g.may_use_income THEN h.annual_income_yuan END AS annual_income_yuan,
    CASE WHEN g.may_use_property THEN h.total_assets_yuan END AS total_assets_yuan,
    CASE WHEN g.may_use_property THEN h.total_debt_yuan END AS total_debt_yuan,
    h.farmland_mu,
    h.has_stable_income,
    h.civility_score,
    h.civility_reviewed_on,
    h.input_state
FROM known AS h
LEFT JOIN villages AS v ON v.place_code = h.village_code
LEFT JOIN grounds AS g ON g.person_key = h.head_person_key
