-- Working-age members of each household and the state of its member rows.
SELECT
    household_key,
    CAST(count(*) AS BIGINT) AS member_count,
    CAST(count(*) FILTER (WHERE age_band = '16-59') AS BIGINT) AS labour_count,
    count(*) FILTER (WHERE input_state <> 'complete') > 0 AS has_carried_member
FROM core_members
GROUP BY household_key
