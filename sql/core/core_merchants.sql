-- Merchants as known at the period end: what was last accepted stands until the merchant is reported again.
WITH refused AS (
    SELECT DISTINCT merchant_key FROM rejected_merchants WHERE merchant_key IS NOT NULL
),

known AS (
    SELECT
        merchant_key, business_key, trade_code, village_code, owner_person_key, operating_status, joined_on,
        left_on, 'complete' AS input_state
    FROM accepted_merchants
    UNION ALL
    SELECT
        p.merchant_key, p.business_key, p.trade_code, p.village_code, p.owner_person_key, p.operating_status,
        p.joined_on, p.left_on,
        CASE WHEN r.merchant_key IS NOT NULL THEN 'carried_forward' ELSE p.input_state END AS input_state
    FROM previous_core_merchants AS p
    LEFT JOIN refused AS r ON r.merchant_key = p.merchant_key
    WHERE NOT EXISTS (SELECT 1 FROM accepted_merchants AS a WHERE a.merchant_key = p.merchant_key)
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
    m.merchant_key,
    m.business_key,
    m.trade_code,
    v.town_code,
    m.village_code,
    m.owner_person_key,
    m.operating_status,
    m.joined_on,
    m.left_on,
    m.input_state
FROM known AS m
LEFT JOIN villages AS v ON v.place_code = m.village_code
