-- Loan flows delivered for the period, of borrowers who let their lender inform the county.
WITH informed AS (
    SELECT DISTINCT person_key
    FROM core_consents
    WHERE is_in_force AND purpose = 'bank_data' AND recipient = 'county'
)

SELECT
    $period AS period,
    f.supplier AS bank_code,
    f.flow_key,
    f.loan_key,
    f.person_key,
    f.flow_kind,
    f.flow_on,
    f.amount_yuan,
    f.currency,
    f.issued_on,
    f.ended_on
FROM accepted_loan_flows AS f
INNER JOIN informed AS i ON i.person_key = f.person_key
