-- Everything the merchant indicators read, one row per merchant: what the city found in the application that stands.
SELECT
    m.merchant_key,
    m.town_code,
    m.village_code,
    m.operating_status,
    coalesce(m.left_on <= $period_end, FALSE) AS has_left,
    s.circle_state,
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
    s.review_evidence,
    s.input_state AS lawful_input_state,
    s.input_state AS honest_input_state,
    s.input_state AS exemplary_input_state
FROM core_merchants AS m
INNER JOIN feature_merchant_reviews AS s ON s.merchant_key = m.merchant_key
