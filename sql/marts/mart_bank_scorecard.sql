-- How well each bank reported: rows of its deliveries in force, revisions, punctuality, and what the county could use.
-- What depends on the register or on consents (linking, notes kept) is given as a share in whole percent only (DESIGN 6):
-- from a count a bank could learn who gave consent, by sending a note more. The columns _12m are sums and shares over this
-- month and up to eleven before it; feeds whose due date the calendar does not know are not judged.
WITH expected AS (
    SELECT supplier, dataset, state, is_due_known
    FROM expected_inputs
    WHERE kind = 'bank'
),

banks AS (
    SELECT
        supplier AS bank_code,
        count(*) AS expected_feeds,
        count(*) FILTER (WHERE is_due_known) AS feeds_judged,
        count(*) FILTER (WHERE state = 'in_force') AS feeds_in_force,
        count(*) FILTER (WHERE state = 'carried_forward') AS feeds_carried_forward
    FROM expected
    GROUP BY supplier
),

deliveries AS (
    SELECT d.*
    FROM period_deliveries AS d
    INNER JOIN expected AS e ON e.supplier = d.supplier AND e.dataset = d.dataset
    WHERE d.outcome <> 'duplicate'
),

sent AS (
    SELECT
        supplier AS bank_code,
        count(*) AS deliveries,
        count(*) - count(DISTINCT dataset) AS revisions,
        count(*) FILTER (WHERE outcome IN ('rejected', 'unreadable', 'expired')) AS refused_deliveries,
        CAST(coalesce(sum(rows_read) FILTER (WHERE in_force), 0) AS BIGINT) AS rows_read,
        CAST(coalesce(sum(rows_accepted) FILTER (WHERE in_force), 0) AS BIGINT) AS rows_accepted,
        CAST(coalesce(sum(rows_rejected) FILTER (WHERE in_force), 0) AS BIGINT) AS rows_rejected,
        CAST(coalesce(sum(warnings) FILTER (WHERE in_force), 0) AS BIGINT) AS warnings,
        count(DISTINCT CASE WHEN is_on_time AND outcome IN ('accepted', 'accepted_with_warnings') THEN dataset END)
            AS feeds_on_time
    FROM deliveries
    GROUP BY supplier
),

notes AS (
    SELECT
        bank_code,
        count(*) AS loan_rows,
        count(household_key) AS linked_rows,
        count(*) FILTER (WHERE note_state = 'ended_unknown') AS unexplained_notes
    FROM core_loans
    GROUP BY bank_code
),

this_month AS (
    SELECT
        b.bank_code,
        b.expected_feeds,
        b.feeds_in_force,
        b.feeds_carried_forward,
        b.feeds_judged,
        coalesce(s.feeds_on_time, 0) AS feeds_on_time,
        coalesce(s.deliveries, 0) AS deliveries,
        coalesce(s.revisions, 0) AS revisions,
        coalesce(s.refused_deliveries, 0) AS refused_deliveries,
        coalesce(s.rows_read, 0) AS rows_read,
        coalesce(s.rows_accepted, 0) AS rows_accepted,
        coalesce(s.rows_rejected, 0) AS rows_rejected,
        coalesce(s.warnings, 0) AS warnings
    FROM banks AS b
    LEFT JOIN sent AS s ON s.bank_code = b.bank_code
),

window_months AS (
    SELECT bank_code, feeds_judged, feeds_on_time, feeds_carried_forward, refused_deliveries, rows_read, rows_accepted
    FROM this_month
    UNION ALL
    SELECT bank_code, feeds_judged, feeds_on_time, feeds_carried_forward, refused_deliveries, rows_read, rows_accepted
    FROM history_mart_bank_scorecard
),

over_time AS (
    SELECT
        bank_code,
        count(*) AS months_12m,
        CAST(coalesce(sum(feeds_judged), 0) AS BIGINT) AS feeds_judged_12m,
        CAST(coalesce(sum(CASE WHEN feeds_judged > 0 THEN feeds_on_time END), 0) AS BIGINT) AS feeds_on_time_12m,
        count(*) FILTER (WHERE feeds_carried_forward > 0) AS months_carried_12m,
        CAST(coalesce(sum(refused_deliveries), 0) AS BIGINT) AS refused_deliveries_12m,
        CAST(coalesce(sum(rows_read), 0) AS BIGINT) AS rows_read_12m,
        CAST(coalesce(sum(rows_accepted), 0) AS BIGINT) AS rows_accepted_12m
    FROM window_months
    GROUP BY bank_code
)

SELECT
    $period AS period,
    m.bank_code,
    m.expected_feeds,
    m.feeds_in_force,
    m.feeds_carried_forward,
    m.feeds_judged,
    m.feeds_on_time,
    m.deliveries,
    m.revisions,
    m.refused_deliveries,
    m.rows_read,
    m.rows_accepted,
    m.rows_rejected,
    CAST(
        CASE WHEN m.rows_read > 0 THEN CAST(m.rows_accepted * 10000 // m.rows_read AS DECIMAL(9, 0)) * 0.01 END
        AS DECIMAL(5, 2)
    ) AS accepted_share_pct,
    m.warnings,
    CAST(CASE WHEN n.loan_rows > 0 THEN n.linked_rows * 100 // n.loan_rows END AS INTEGER) AS linked_share_pct,
    CAST(CASE WHEN n.loan_rows > 0 THEN n.unexplained_notes * 100 // n.loan_rows END AS INTEGER) AS unexplained_share_pct,
    o.months_12m,
    CAST(
        CASE
            WHEN o.feeds_judged_12m > 0
                THEN CAST(o.feeds_on_time_12m * 10000 // o.feeds_judged_12m AS DECIMAL(9, 0)) * 0.01
        END
        AS DECIMAL(5, 2)
    ) AS on_time_share_12m_pct,
    o.months_carried_12m,
    o.refused_deliveries_12m,
    CAST(
        CASE
            WHEN o.rows_read_12m > 0
                THEN CAST(o.rows_accepted_12m * 10000 // o.rows_read_12m AS DECIMAL(9, 0)) * 0.01
        END
        AS DECIMAL(5, 2)
    ) AS accepted_share_12m_pct
FROM this_month AS m
INNER JOIN over_time AS o ON o.bank_code = m.bank_code
LEFT JOIN notes AS n ON n.bank_code = m.bank_code
