-- Everything the business indicators read, one row per business. What belongs to a person (family farms, individual
-- businesses) needs that person's consents; companies and cooperatives are no persons and need none.
WITH sorted AS (
    SELECT *, business_kind IN ('family_farm', 'individual') AS is_personal
    FROM core_businesses
)

SELECT
    b.business_key,
    b.town_code,
    b.village_code,
    b.business_kind,
    b.operating_status,
    b.is_personal,
    CASE WHEN b.is_personal THEN coalesce(c.grading_consent, 'none') ELSE 'in_force' END AS grading_consent,
    CASE WHEN b.is_personal THEN coalesce(c.bank_data_consent, 'none') ELSE 'in_force' END AS bank_data_consent,
    NOT b.is_personal OR coalesce(c.has_income_consent, FALSE) AS has_income_consent,
    NOT b.is_personal OR coalesce(c.has_property_consent, FALSE) AS has_property_consent,
    date_diff('day', b.founded_on, CAST($period_end AS DATE)) AS operating_days,
    b.operating_income_yuan,
    b.business_assets_yuan,
    b.business_debt_yuan,
    b.worker_count,
    b.led_household_count,
    b.is_report_filed,
    b.is_listed_abnormal,
    l.worst_arrears_days,
    l.worst_evidence,
    b.input_state AS operation_input_state,
    b.input_state AS finance_input_state,
    b.input_state AS standing_input_state,
    CASE
        WHEN l.has_unseen_note THEN 'withheld'
        WHEN l.has_carried_note OR b.input_state <> 'complete' THEN 'carried_forward'
        ELSE 'complete'
    END AS credit_input_state
FROM sorted AS b
LEFT JOIN feature_consents AS c ON c.person_key = b.in_charge_person_key
LEFT JOIN feature_business_loans AS l ON b.is_personal AND l.person_key = b.in_charge_person_key
