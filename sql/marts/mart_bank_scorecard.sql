-- How well each bank reported: rows of its deliveries in force, revisions, punctuality, and what the county could use.
-- What depends on the register (linking) is given as a share in whole percent only (DESIGN 6).
WITH expected AS (
    SELECT supplier, dataset, state
    FROM expected_inputs
    WHERE dataset IN ('loans', 'loan_flows')
),

banks AS (
    SELECT
        supplier AS bank_code,
        count(*) AS expected_feeds,
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
        count(*) FILTER (WHERE in_force AND is_on_time) AS feeds_on_time
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
)

SELECT
    $period AS period,
    b.bank_code,
    b.expected_feeds,
    b.feeds_in_force,
    b.feeds_carried_forward,
    coalesce(s.feeds_on_time, 0) AS feeds_on_time,
    coalesce(s.deliveries, 0) AS deliveries,
    coalesce(s.revisions, 0) AS revisions,
    coalesce(s.refused_deliveries, 0) AS refused_deliveries,
    coalesce(s.rows_read, 0) AS rows_read,
    coalesce(s.rows_accepted, 0) AS rows_accepted,
    coalesce(s.rows_rejected, 0) AS rows_rejected,
    CAST(
        CASE WHEN s.rows_read > 0 THEN CAST(s.rows_accepted * 10000 // s.rows_read AS DECIMAL(9, 0)) * 0.01 END
        AS DECIMAL(5, 2)
    ) AS accepted_share_pct,
    coalesce(s.warnings, 0) AS warnings,
    coalesce(n.loan_rows, 0) AS loan_rows,
    CAST(CASE WHEN n.loan_rows > 0 THEN n.linked_rows * 100 // n.loan_rows END AS INTEGER) AS linked_share_pct,
    coalesce(n.unexplained_notes, 0) AS unexplained_notes
FROM banks AS b
LEFT JOIN sent AS s ON s.bank_code = b.bank_code
LEFT JOIN notes AS n ON n.bank_code = b.bank_code
