-- The civility review that stands for each household at the period end, with the ballots cast, left out and counted.
SELECT
    $period AS period,
    c.household_key,
    h.town_code,
    h.village_code,
    c.round,
    c.ballots_period,
    c.ballots_cast,
    c.ballots_uninformed,
    c.ballots_own_family,
    c.ballots_copied,
    c.ballots_counted,
    c.review_score
FROM feature_civility AS c
INNER JOIN core_households AS h ON h.household_key = c.household_key
