-- List items in force, one row per item and household of the person bound. Points count for the household a person lives in;
-- a veto binds the person named: it reaches the household through its head, or through a joint debt, where the person named
-- and another member of the household owe the note together.
SELECT
    m.household_key,
    e.event_key,
    e.list_kind,
    e.item_code,
    e.event_from_on,
    concat('core_credit_events:', e.event_key) AS evidence,
    h.household_key IS NOT NULL OR j.household_key IS NOT NULL AS reaches_household,
    e.input_state
FROM core_credit_events AS e
INNER JOIN core_members AS m ON m.person_key = e.person_key
LEFT JOIN core_households AS h ON h.household_key = m.household_key AND h.head_person_key = e.person_key
LEFT JOIN core_members AS j
    ON j.person_key = e.joint_person_key AND j.person_key <> e.person_key AND j.household_key = m.household_key
WHERE e.is_in_force
