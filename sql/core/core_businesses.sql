-- Businesses as known at the period end: what was last accepted stands until the business is reported again. Figures of
-- family farms and individual businesses are their owner's own and stand only with his or her consent (征信业管理条例 14).
WITH refused AS (
    SELECT DISTINCT business_key FROM rejected_businesses WHERE business_key IS NOT NULL
),

known AS (
    SELECT
        business_key, business_kind, village_code, in_charge_person_key, founded_on, operating_status, closed_on,
        operating_income_yuan, business_assets_yuan, business_debt_yuan, worker_count, operated_land_mu,
        led_household_count, is_report_filed, is_listed_abnormal, reported_on, 'complete' AS input_state
    FROM accepted_businesses
    UNION ALL
    SELECT
        p.business_key, p.business_kind, p.village_code, p.in_charge_person_key, p.founded_on, p.operating_status,
        p.closed_on, p.operating_income_yuan, p.business_assets_yuan, p.business_debt_yuan, p.worker_count,
        p.operated_land_mu, p.led_household_count, p.is_report_filed, p.is_listed_abnormal, p.reported_on,
        CASE WHEN r.business_key IS NOT NULL THEN 'carried_forward' ELSE p.input_state END AS input_state
    FROM previous_core_businesses AS p
    LEFT JOIN refused AS r ON r.business_key = p.business_key
    WHERE NOT EXISTS (SELECT 1 FROM accepted_businesses AS a WHERE a.business_key = p.business_key)
),

grounds AS (
    SELECT
        b.business_key,
        b.business_kind NOT IN ('family_farm', 'individual')
        OR count(*) FILTER (WHERE c.purpose = 'income') > 0 AS may_use_income,
        b.business_kind NOT IN ('family_farm', 'individual')
        OR count(*) FILTER (WHERE c.purpose = 'property') > 0 AS may_use_property
    FROM known AS b
    LEFT JOIN core_consents AS c
        ON c.person_key = b.in_charge_person_key AND c.is_in_force AND c.recipient = 'county'
    GROUP BY b.business_key, b.business_kind
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
    b.business_key,
    b.business_kind,
    v.town_code,
    b.village_code,
    b.in_charge_person_key,
    b.founded_on,
    b.operating_status,
    b.closed_on,
    CASE WHEN g.may_use_income THEN b.operating_income_yuan END AS operating_income_yuan,
    CASE WHEN g.may_use_property THEN b.business_assets_yuan END AS business_assets_yuan,
    CASE WHEN g.may_use_property THEN b.business_debt_yuan END AS business_debt_yuan,
    b.worker_count,
    b.operated_land_mu,
    b.led_household_count,
    b.is_report_filed,
    b.is_listed_abnormal,
    b.reported_on,
    b.input_state
FROM known AS b
INNER JOIN grounds AS g ON g.business_key = b.business_key
LEFT JOIN villages AS v ON v.place_code = b.village_code
