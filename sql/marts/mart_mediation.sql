-- Mediation by town, dispute type and outcome as counts of cases, so that every rate is a sum over a sum of rows:
--   success rate        = success_cases / closed_cases          closed in the period, partial success apart
--   settled share       = cohort_success_cases / cohort_cases   accepted in the period, as known at the cut-off date
--   self-settled share  = self_settled_cases / village_cases    registered in the period; success by village-level actors
--                                                               without referral to town, police or court
-- A case in progress and an agreement in part are no success (DOMAIN 4).
WITH cases AS (
    SELECT
        *,
        coalesce(closed_on BETWEEN $period_start AND $period_end, FALSE) AS is_closed,
        coalesce(accepted_on BETWEEN $period_start AND $period_end, FALSE) AS is_cohort,
        coalesce(registered_on BETWEEN $period_start AND $period_end, FALSE) AS is_registered
    FROM core_mediation_cases
),

names AS (
    SELECT place_code, place_name
    FROM core_places
    QUALIFY row_number() OVER (PARTITION BY place_code ORDER BY valid_from_on DESC) = 1
),

counted AS (
    SELECT
        town_code,
        dispute_type,
        result AS outcome,
        count(*) AS cases,
        count(*) FILTER (WHERE is_closed) AS closed_cases,
        count(*) FILTER (WHERE is_closed AND result = 'success') AS success_cases,
        count(*) FILTER (WHERE is_closed AND result = 'partial') AS partial_cases,
        count(*) FILTER (WHERE is_cohort) AS cohort_cases,
        count(*) FILTER (WHERE is_cohort AND result = 'success') AS cohort_success_cases,
        count(*) FILTER (WHERE is_cohort AND result = 'partial') AS cohort_partial_cases,
        count(*) FILTER (WHERE is_registered) AS village_cases,
        count(*) FILTER (
            WHERE is_registered AND result = 'success' AND handled_level = 'village' AND referred_to IS NULL
        ) AS self_settled_cases,
        count(*) FILTER (WHERE performance = 'performed') AS performed_cases,
        count(*) FILTER (WHERE performance = 'unperformed' AND has_unperformed_document) AS unperformed_cases,
        CAST(coalesce(sum(people_count), 0) AS BIGINT) AS people_total,
        CAST(coalesce(sum(amount_yuan), 0) AS DECIMAL(18, 2)) AS amount_yuan
    FROM cases
    GROUP BY town_code, dispute_type, result
)

SELECT
    $period AS period,
    c.town_code,
    n.place_name AS town_name,
    c.dispute_type,
    c.outcome,
    c.cases,
    c.closed_cases,
    c.success_cases,
    c.partial_cases,
    c.cohort_cases,
    c.cohort_success_cases,
    c.cohort_partial_cases,
    c.village_cases,
    c.self_settled_cases,
    c.performed_cases,
    c.unperformed_cases,
    c.people_total,
    c.amount_yuan,
    CAST($period_end AS DATE) AS cut_off_on
FROM counted AS c
LEFT JOIN names AS n ON n.place_code = c.town_code
