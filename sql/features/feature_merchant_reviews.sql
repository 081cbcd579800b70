-- The application that stands of each merchant: the latest that came to an end (refused by the town, or decided by the city),
-- else the latest under way, so that a renewal under way takes nothing away.
WITH applications AS (
    SELECT *, coalesce(town_decision = 'refused', FALSE) OR city_decision IS NOT NULL AS is_ended
    FROM core_merchant_reviews
),

standing AS (
    SELECT *
    FROM applications
    QUALIFY row_number() OVER (PARTITION BY merchant_key ORDER BY is_ended DESC, applied_on DESC, application_key DESC) = 1
),

refused AS (
    SELECT DISTINCT merchant_key FROM rejected_merchant_reviews WHERE merchant_key IS NOT NULL
)

SELECT
    m.merchant_key,
    CASE
        WHEN s.merchant_key IS NULL THEN 'not_applied'
        WHEN s.town_decision IS NULL THEN 'awaiting_town_check'
        WHEN s.town_decision = 'refused' THEN 'town_check_failed'
        WHEN s.city_decision IS NULL THEN 'awaiting_city_review'
        WHEN s.city_decision = 'refused' THEN 'city_review_failed'
        ELSE 'passed'
    END AS circle_state,
    s.applied_on,
    s.town_checked_on,
    s.city_reviewed_on,
    s.licence_mark,
    s.product_safety_mark,
    s.fire_safety_mark,
    s.fair_employment_mark,
    s.site_order_mark,
    s.price_display_mark,
    s.true_measure_mark,
    s.no_fakes_mark,
    s.complaints_mark,
    s.contracts_mark,
    s.coupons_mark,
    s.local_jobs_mark,
    s.local_produce_mark,
    s.public_welfare_mark,
    s.civility_lead_mark,
    concat('core_merchant_reviews:', s.application_key) AS review_evidence,
    CASE
        WHEN m.input_state <> 'complete' OR s.input_state <> 'complete' OR r.merchant_key IS NOT NULL
            THEN 'carried_forward'
        ELSE 'complete'
    END AS input_state
FROM core_merchants AS m
LEFT JOIN standing AS s ON s.merchant_key = m.merchant_key
LEFT JOIN refused AS r ON r.merchant_key = m.merchant_key
