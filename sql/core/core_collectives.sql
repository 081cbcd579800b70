-- Village collectives as known at the period end: what was last accepted stands until the collective is reported again.
WITH refused AS (
    SELECT DISTINCT collective_key FROM rejected_collectives WHERE collective_key IS NOT NULL
),

known AS (
    SELECT
        collective_key, collective_name, village_code, in_charge_person_key, established_on, operating_status,
        accounts_on, member_household_count, collective_income_yuan, dividend_yuan, collective_assets_yuan,
        collective_debt_yuan, is_accounts_published, is_audited, 'complete' AS input_state
    FROM accepted_collectives
    UNION ALL
    SELECT
        p.collective_key, p.collective_name, p.village_code, p.in_charge_person_key, p.established_on,
        p.operating_status, p.accounts_on, p.member_household_count, p.collective_income_yuan, p.dividend_yuan,
        p.collective_assets_yuan, p.collective_debt_yuan, p.is_accounts_published, p.is_audited,
        CASE WHEN r.collective_key IS NOT NULL THEN 'carried_forward' ELSE p.input_state END AS input_state
    FROM previous_core_collectives AS p
    LEFT JOIN refused AS r ON r.collective_key = p.collective_key
    WHERE NOT EXISTS (SELECT 1 FROM accepted_collectives AS a WHERE a.collective_key = p.collective_key)
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
    c.collective_key,
    c.collective_name,
    v.town_code,
    c.village_code,
    c.in_charge_person_key,
    c.established_on,
    c.operating_status,
    c.accounts_on,
    c.member_household_count,
    c.collective_income_yuan,
    c.dividend_yuan,
    c.collective_assets_yuan,
    c.collective_debt_yuan,
    c.is_accounts_published,
    c.is_audited,
    c.input_state
FROM known AS c
LEFT JOIN villages AS v ON v.place_code = c.village_code
