-- Result of the village panel's civility review (乡风文明评议), 0 to 100: of the ballots, or of the register where no round was
-- held with ballots.
SELECT
    household_key,
    CAST(civility_score AS DECIMAL(18, 2)) AS value,
    CASE WHEN civility_score IS NULL THEN 'missing' ELSE 'present' END AS state,
    civility_evidence AS evidence
FROM household_features
