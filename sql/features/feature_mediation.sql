-- Mediation facts of each household over the logs of this period and of the eleven before; of a case delivered more than
-- once the last version counts. Being a party never counts (人民调解法: mediation is a voluntary right); helping does, and so
-- does an agreement that a document says the named party did not perform. A veto binds the person named: it reaches the
-- household's grade only through its head.
WITH versions AS (
    SELECT
        period, case_key, result, performance, has_unperformed_document, unperformed_by, judicially_confirmed_on
    FROM core_mediation_cases
    UNION ALL
    SELECT
        period, case_key, result, performance, has_unperformed_document, unperformed_by, judicially_confirmed_on
    FROM history_core_mediation_cases
),

latest AS (
    SELECT *
    FROM versions
    QUALIFY row_number() OVER (PARTITION BY case_key ORDER BY period DESC) = 1
),

parties AS (
    SELECT period, case_key, party_role, person_key FROM core_mediation_parties
    UNION ALL
    SELECT period, case_key, party_role, person_key FROM history_core_mediation_parties
),

heads AS (
    SELECT DISTINCT h.household_key, h.head_person_key
    FROM parties AS p
    INNER JOIN core_households AS h ON h.head_person_key = p.person_key
),

roles AS (
    SELECT
        m.household_key, c.case_key,
        h.head_person_key IS NOT NULL AS is_head,
        p.party_role = 'helper' AND c.result <> 'open' AS is_help,
        coalesce(
            c.performance = 'unperformed' AND c.has_unperformed_document AND p.party_role = c.unperformed_by, FALSE
        ) AS is_unperformed,
        c.judicially_confirmed_on IS NOT NULL AS is_confirmed
    FROM latest AS c
    INNER JOIN parties AS p ON p.case_key = c.case_key AND p.period = c.period
    INNER JOIN core_members AS m ON m.person_key = p.person_key
    LEFT JOIN heads AS h ON h.household_key = m.household_key AND h.head_person_key = p.person_key
)

SELECT
    household_key,
    CAST(count(*) FILTER (WHERE is_help) AS BIGINT) AS helped_count,
    CAST(count(*) FILTER (WHERE is_unperformed) AS BIGINT) AS unperformed_count,
    CAST(count(*) FILTER (WHERE is_unperformed AND is_confirmed AND is_head) AS BIGINT) AS confirmed_unperformed_count,
    concat(
        'core_mediation_cases:', min(case_key) FILTER (WHERE is_help),
        CASE
            WHEN count(*) FILTER (WHERE is_help) > 1
                THEN concat(' +', CAST(count(*) FILTER (WHERE is_help) - 1 AS VARCHAR))
            ELSE ''
        END
    ) AS helped_evidence,
    concat(
        'core_mediation_cases:', min(case_key) FILTER (WHERE is_unperformed),
        CASE
            WHEN count(*) FILTER (WHERE is_unperformed) > 1
                THEN concat(' +', CAST(count(*) FILTER (WHERE is_unperformed) - 1 AS VARCHAR))
            ELSE ''
        END
    )
        AS unperformed_evidence
FROM roles
GROUP BY household_key
HAVING count(*) FILTER (WHERE is_help OR is_unperformed) > 0
