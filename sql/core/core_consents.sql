-- Consents as known at the period end. The register is pulled by change: what was not delivered again stays as it was,
-- what left the key list is deleted, and a rejected change leaves the last accepted row in force (DESIGN 9.6).
WITH source_state AS (
    SELECT count(*) FILTER (WHERE state = 'in_force') = 0 AS is_carried
    FROM expected_inputs
    WHERE dataset = 'consents'
),

previous_state AS (
    -- a month in which nothing was complete was carried forward as a whole: a new pull heals it
    SELECT count(*) FILTER (WHERE input_state = 'complete') = 0 AS was_carried
    FROM previous_core_consents
),

refused AS (
    SELECT DISTINCT consent_key FROM rejected_consents WHERE consent_key IS NOT NULL
),

listed AS (
    SELECT DISTINCT consent_key FROM keys_consents
),

kept AS (
    SELECT
        p.consent_key, p.person_key, p.recipient, p.purpose, p.decision,
        p.granted_on, p.expires_on, p.withdrawn_on, p.channel,
        CASE
            WHEN s.is_carried OR r.consent_key IS NOT NULL THEN 'carried_forward'
            WHEN b.was_carried THEN 'complete'
            ELSE p.input_state
        END AS input_state
    FROM previous_core_consents AS p
    CROSS JOIN source_state AS s
    CROSS JOIN previous_state AS b
    LEFT JOIN refused AS r ON r.consent_key = p.consent_key
    LEFT JOIN listed AS k ON k.consent_key = p.consent_key
    WHERE
        (s.is_carried OR k.consent_key IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM accepted_consents AS a WHERE a.consent_key = p.consent_key)
),

known AS (
    SELECT
        consent_key, person_key, recipient, purpose, decision, granted_on, expires_on, withdrawn_on, channel,
        'complete' AS input_state
    FROM accepted_consents
    UNION ALL
    SELECT
        consent_key, person_key, recipient, purpose, decision, granted_on, expires_on, withdrawn_on, channel,
        input_state
    FROM kept
)

SELECT
    $period AS period,
    consent_key,
    person_key,
    recipient,
    purpose,
    decision,
    granted_on,
    expires_on,
    withdrawn_on,
    channel,
    coalesce(
        decision = 'granted'
        AND granted_on <= $period_end
        AND (withdrawn_on IS NULL OR withdrawn_on > $period_end)
        AND (expires_on IS NULL OR expires_on >= $period_end),
        FALSE
    ) AS is_in_force,
    input_state
FROM known
