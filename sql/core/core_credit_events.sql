-- Items of the positive, negative and veto lists as known at the period end. They come when there is something to tell: what
-- did not come again stays as it was, a later version of the same number replaces it, and a refused version leaves the last
-- accepted one in force (DESIGN 9.6). An item counts from its start until the earliest of repair, revocation, the end of
-- publication and five years after its end (征信业管理条例 16); five years after the end an adverse item is no longer kept. A
-- repair is told by the source or decided by the county.
WITH refused AS (
    SELECT DISTINCT event_key FROM rejected_credit_events WHERE event_key IS NOT NULL
),

known AS (
    SELECT
        event_key, person_key, list_kind, item_code, has_document, issuer_kind, notice_on, legal_basis, severity,
        event_from_on, event_to_on, publication_until_on, repaired_on, revoked_on, joint_loan_key,
        CAST(NULL AS VARCHAR) AS joint_person_key, 'complete' AS input_state
    FROM accepted_credit_events
    UNION ALL
    SELECT
        p.event_key, p.person_key, p.list_kind, p.item_code, p.has_document, p.issuer_kind, p.notice_on, p.legal_basis,
        p.severity, p.event_from_on, p.event_to_on, p.publication_until_on, p.repaired_on, p.revoked_on, p.joint_loan_key,
        p.joint_person_key,
        CASE WHEN r.event_key IS NOT NULL THEN 'carried_forward' ELSE p.input_state END AS input_state
    FROM previous_core_credit_events AS p
    LEFT JOIN refused AS r ON r.event_key = p.event_key
    WHERE NOT EXISTS (SELECT 1 FROM accepted_credit_events AS a WHERE a.event_key = p.event_key)
),

notes AS (
    SELECT loan_key, person_key, co_person_key FROM core_loans
    UNION
    SELECT loan_key, person_key, co_person_key FROM history_core_loans
),

partners AS (
    -- the other borrower of the joint debt, where the person bound is one of the two
    SELECT
        k.event_key,
        max(CASE WHEN n.person_key = k.person_key THEN n.co_person_key ELSE n.person_key END) AS joint_person_key
    FROM known AS k
    INNER JOIN notes AS n ON n.loan_key = k.joint_loan_key
    WHERE k.person_key IN (n.person_key, n.co_person_key)
    GROUP BY k.event_key
),

repairs AS (
    -- decided by the county: a source that does not tell of it does not open the item again
    SELECT event_key, min(repaired_on) AS repaired_on
    FROM repaired_items
    GROUP BY event_key
),

ended AS (
    SELECT
        k.*,
        coalesce(p.joint_person_key, b.joint_person_key, k.joint_person_key) AS known_joint_person_key,
        least(k.repaired_on, r.repaired_on) AS known_repaired_on,
        CAST(k.event_to_on + INTERVAL 5 YEAR AS DATE) AS kept_until_on,
        least(
            k.repaired_on - 1, r.repaired_on - 1, k.revoked_on - 1, k.publication_until_on,
            CAST(k.event_to_on + INTERVAL 5 YEAR AS DATE)
        ) AS counts_until_on
    FROM known AS k
    LEFT JOIN repairs AS r ON r.event_key = k.event_key
    LEFT JOIN partners AS p ON p.event_key = k.event_key
    LEFT JOIN previous_core_credit_events AS b ON b.event_key = k.event_key AND b.joint_loan_key = k.joint_loan_key
)

SELECT
    $period AS period,
    event_key,
    person_key,
    list_kind,
    item_code,
    has_document,
    issuer_kind,
    notice_on,
    legal_basis,
    severity,
    event_from_on,
    event_to_on,
    publication_until_on,
    known_repaired_on AS repaired_on,
    revoked_on,
    joint_loan_key,
    known_joint_person_key AS joint_person_key,
    counts_until_on,
    event_from_on <= $period_end AND (counts_until_on IS NULL OR counts_until_on >= $period_end) AS is_in_force,
    input_state
FROM ended
WHERE list_kind = 'positive' OR kept_until_on IS NULL OR kept_until_on >= $period_end
