-- Everything the collective indicators read, one row per village collective.
WITH registered AS (
    SELECT village_code, count(*) AS registered_households
    FROM core_households
    GROUP BY village_code
)

SELECT
    c.collective_key,
    c.town_code,
    c.village_code,
    c.operating_status,
    c.collective_income_yuan,
    c.dividend_yuan,
    c.collective_assets_yuan,
    c.collective_debt_yuan,
    c.is_accounts_published,
    c.is_audited,
    date_diff('day', c.accounts_on, CAST($period_end AS DATE)) AS accounts_age_days,
    c.member_household_count,
    coalesce(r.registered_households, 0) AS registered_households,
    c.input_state AS economy_input_state,
    c.input_state AS openness_input_state,
    c.input_state AS members_input_state
FROM core_collectives AS c
LEFT JOIN registered AS r ON r.village_code = c.village_code
