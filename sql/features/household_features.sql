-- Everything the household indicators read, one row per household of the register at the period end.
-- `<block>_input_state` says whether the rows behind a block are complete, carried_forward or withheld.
SELECT
    h.household_key,
    h.former_household_key,
    h.town_code,
    h.village_code,
    h.residence_status,
    x.household_key IS NOT NULL AS has_opted_out,
    coalesce(c.grading_consent, 'none') AS grading_consent,
    coalesce(c.bank_data_consent, 'none') AS bank_data_consent,
    e.bank_data_ended,
    coalesce(c.has_income_consent, FALSE) AS has_income_consent,
    coalesce(c.has_property_consent, FALSE) AS has_property_consent,
    h.annual_income_yuan,
    h.total_assets_yuan,
    h.farmland_mu,
    h.has_stable_income,
    m.member_count,
    coalesce(m.labour_count, 0) AS labour_count,
    CASE WHEN v.household_key IS NULL THEN h.civility_score ELSE v.review_score END AS civility_score,
    coalesce(v.review_evidence, 'core_households') AS civility_evidence,
    coalesce(l.note_count, 0) AS note_count,
    coalesce(l.open_note_count, 0) AS open_note_count,
    coalesce(l.open_balance_yuan, 0) AS open_balance_yuan,
    coalesce(l.arrears_balance_yuan, 0) AS arrears_balance_yuan,
    l.first_issued_on,
    date_diff('day', l.first_issued_on, CAST($period_end AS DATE)) AS track_record_days,
    l.worst_arrears_days,
    l.worst_evidence,
    l.notes_evidence,
    coalesce(d.helped_count, 0) AS helped_count,
    d.helped_evidence,
    coalesce(d.unperformed_count, 0) AS unperformed_count,
    d.unperformed_evidence,
    coalesce(d.confirmed_unperformed_count, 0) AS confirmed_unperformed_count,
    coalesce(q.veto_item_count, 0) AS veto_item_count,
    CASE
        WHEN i.bank_mark = 2 THEN 'withheld'
        WHEN l.has_carried_note OR m.has_carried_member OR i.bank_mark = 1 THEN 'carried_forward'
        ELSE 'complete'
    END AS bank_input_state,
    CASE
        WHEN i.capacity_mark = 2 THEN 'withheld'
        WHEN h.input_state <> 'complete' OR m.has_carried_member OR i.capacity_mark = 1 THEN 'carried_forward'
        ELSE 'complete'
    END AS capacity_input_state,
    CASE
        WHEN h.input_state <> 'complete' OR i.civility_mark = 1 OR q.has_carried_item THEN 'carried_forward'
        ELSE 'complete'
    END AS civility_input_state
FROM core_households AS h
LEFT JOIN feature_consents AS c ON c.person_key = h.head_person_key
LEFT JOIN feature_ended_consents AS e ON e.household_key = h.household_key
LEFT JOIN feature_members AS m ON m.household_key = h.household_key
LEFT JOIN feature_loans AS l ON l.household_key = h.household_key
LEFT JOIN feature_mediation AS d ON d.household_key = h.household_key
LEFT JOIN feature_civility AS v ON v.household_key = h.household_key
LEFT JOIN feature_lists AS q ON q.household_key = h.household_key
LEFT JOIN feature_inputs AS i ON i.household_key = h.household_key
LEFT JOIN feature_opt_outs AS x ON x.household_key = h.household_key
