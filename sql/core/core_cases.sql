-- Cases that bear on the month: open, or closed in it or after. No text and no identity; a case without a household of the
-- register keeps its own key and has no village.
SELECT
    $period AS period,
    c.case_id,
    c.case_kind,
    c.household_key,
    h.town_code,
    h.village_code,
    c.bank_code,
    c.concerns,
    CASE
        WHEN c.closed_on IS NOT NULL THEN 'closed'
        WHEN c.answered_on IS NOT NULL THEN 'answered'
        WHEN c.asked_on IS NOT NULL THEN 'asked'
        WHEN c.marked_on IS NOT NULL THEN 'marked'
        ELSE 'opened'
    END AS case_state,
    c.opened_on,
    c.marked_on,
    c.asked_on,
    c.answer_due_on,
    c.answered_on,
    c.closed_on,
    c.verdict,
    c.override_grade,
    c.expires_on,
    c.closed_on IS NULL AS is_open,
    coalesce(c.answered_on, CAST($period_end AS DATE)) > c.answer_due_on AS is_answer_overdue,
    coalesce(
        c.case_kind = 'override' AND c.verdict = 'upheld' AND c.closed_on IS NULL
        AND c.expires_on >= CAST($period_end AS DATE),
        FALSE
    ) AS is_override_in_force
FROM accepted_cases AS c
LEFT JOIN core_households AS h ON h.household_key = c.household_key
