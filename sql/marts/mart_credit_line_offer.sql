-- Credit lines a bank may offer, only where the household's head agreed that this very bank learns the grade (DESIGN 9.7).
-- The bank sees grade and limit; the amounts behind them stay with the county. Exact in fen, rounded down to the step.
WITH agreed AS (
    SELECT DISTINCT person_key, recipient AS bank_code
    FROM core_consents
    WHERE is_in_force AND purpose = 'credit_line' AND recipient <> 'county'
),

offered AS (
    SELECT
        a.bank_code,
        g.household_key,
        g.town_code,
        g.village_code,
        g.effective_grade,
        p.base_yuan,
        p.cap_yuan,
        p.step_yuan,
        p.base_yuan * 100
        + CAST(coalesce(h.total_assets_yuan, 0) * 100 AS BIGINT) * p.assets_pct // 100
        + CAST(coalesce(h.annual_income_yuan, 0) * 100 AS BIGINT) * p.income_pct // 100 AS uncapped_fen,
        g.input_state,
        p.policy_version,
        p.policy_status
    FROM core_household_grades AS g
    INNER JOIN core_households AS h ON h.household_key = g.household_key
    INNER JOIN agreed AS a ON a.person_key = h.head_person_key
    INNER JOIN policy_credit_line AS p ON p.grade = g.effective_grade
)

SELECT
    $period AS period,
    bank_code,
    household_key,
    town_code,
    village_code,
    effective_grade,
    CAST(base_yuan AS DECIMAL(18, 2)) AS base_yuan,
    CAST(least(uncapped_fen // 100, cap_yuan) // step_yuan * step_yuan AS DECIMAL(18, 2)) AS limit_yuan,
    uncapped_fen > cap_yuan * 100 AS is_capped,
    input_state,
    policy_version,
    policy_status
FROM offered
