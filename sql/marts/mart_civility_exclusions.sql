-- Reviewers whose ballots do not count because they are identical, for a person to look at.
SELECT
    $period AS period,
    round,
    reviewer_key,
    exclusion_reason,
    other_reviewer_key,
    households_compared
FROM feature_copied_ballots
