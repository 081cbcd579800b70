-- Applications of merchants as known at the period end: an application is reported again at each of its steps.
WITH refused AS (
    SELECT DISTINCT application_key FROM rejected_merchant_reviews WHERE application_key IS NOT NULL
),

known AS (
    SELECT
        application_key, merchant_key, applied_on, town_checked_on, town_decision, town_reason, city_reviewed_on,
        city_decision, city_reason, licence_mark, product_safety_mark, fire_safety_mark, fair_employment_mark,
        site_order_mark, price_display_mark, true_measure_mark, no_fakes_mark, complaints_mark, contracts_mark,
        coupons_mark, local_jobs_mark, local_produce_mark, public_welfare_mark, civility_lead_mark,
        'complete' AS input_state
    FROM accepted_merchant_reviews
    UNION ALL
    SELECT
        p.application_key, p.merchant_key, p.applied_on, p.town_checked_on, p.town_decision, p.town_reason,
        p.city_reviewed_on, p.city_decision, p.city_reason, p.licence_mark, p.product_safety_mark,
        p.fire_safety_mark, p.fair_employment_mark, p.site_order_mark, p.price_display_mark, p.true_measure_mark,
        p.no_fakes_mark, p.complaints_mark, p.contracts_mark, p.coupons_mark, p.local_jobs_mark,
        p.local_produce_mark, p.public_welfare_mark, p.civility_lead_mark,
        CASE WHEN r.application_key IS NOT NULL THEN 'carried_forward' ELSE p.input_state END AS input_state
    FROM previous_core_merchant_reviews AS p
    LEFT JOIN refused AS r ON r.application_key = p.application_key
    WHERE NOT EXISTS (SELECT 1 FROM accepted_merchant_reviews AS a WHERE a.application_key = p.application_key)
)

SELECT
    $period AS period,
    application_key,
    merchant_key,
    applied_on,
    town_checked_on,
    town_decision,
    town_reason,
    city_reviewed_on,
    city_decision,
    city_reason,
    licence_mark,
    product_safety_mark,
    fire_safety_mark,
    fair_employment_mark,
    site_order_mark,
    price_display_mark,
    true_measure_mark,
    no_fakes_mark,
    complaints_mark,
    contracts_mark,
    coupons_mark,
    local_jobs_mark,
    local_produce_mark,
    public_welfare_mark,
    civility_lead_mark,
    input_state
FROM known
