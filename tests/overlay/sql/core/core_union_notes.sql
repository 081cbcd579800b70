-- Notes of a credit union as delivered for the month, under tokens.
SELECT
    $period AS period,
    supplier AS bank_code,
    union_note_key,
    union_member_key,
    union_begins_on,
    union_ends_on,
    union_principal_eur,
    union_open_eur,
    union_rate_pct,
    union_state
FROM accepted_union_notes
