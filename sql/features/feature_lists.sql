-- What the lists say of each household: vetoes in force that reach it, and whether an item waits for a version that was refused.
WITH carried AS (
    SELECT DISTINCT m.household_key
    FROM core_credit_events AS e
    INNER JOIN core_members AS m ON m.person_key = e.person_key
    WHERE e.input_state <> 'complete'
),

vetoes AS (
    SELECT household_key, CAST(count(*) AS BIGINT) AS veto_item_count
    FROM feature_list_items
    WHERE list_kind = 'veto' AND reaches_household
    GROUP BY household_key
),

named AS (
    SELECT household_key FROM carried
    UNION
    SELECT household_key FROM vetoes
)

SELECT
    n.household_key,
    coalesce(v.veto_item_count, 0) AS veto_item_count,
    c.household_key IS NOT NULL AS has_carried_item
FROM named AS n
LEFT JOIN vetoes AS v ON v.household_key = n.household_key
LEFT JOIN carried AS c ON c.household_key = n.household_key
