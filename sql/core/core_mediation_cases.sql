-- Mediation cases registered or changed in the period, as the town logs delivered them; no text, no party.
WITH villages AS (
    -- the newest entry of a village, also of one that was merged away since
    SELECT place_code, parent_code AS town_code
    FROM core_places
    WHERE place_level = 'village'
    QUALIFY row_number() OVER (PARTITION BY place_code ORDER BY valid_from_on DESC) = 1
)

SELECT
    $period AS period,
    c.case_key,
    coalesce(v.town_code, c.supplier) AS town_code,
    c.village_code,
    c.dispute_type,
    c.registered_on,
    c.accepted_on,
    c.due_on,
    c.closed_on,
    c.result,
    c.handled_level,
    c.actor_tier,
    c.referred_to,
    c.agreement_kind,
    c.agreement_on,
    c.performance,
    c.has_unperformed_document,
    c.unperformed_by,
    c.judicially_confirmed_on,
    c.amount_yuan,
    c.people_count,
    'complete' AS input_state
FROM accepted_mediation AS c
LEFT JOIN villages AS v ON v.place_code = c.village_code
