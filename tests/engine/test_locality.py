"""How far a SELECT looks is read from it, and what links rows from the names of columns."""

from __future__ import annotations

import pytest

from etl.engine.locality import Reach, is_token, look

KNOWN = {"accepted_loans": Reach.SUBJECT, "core_members": Reach.SUBJECT, "village_counts": Reach.VILLAGE}


@pytest.mark.parametrize(
    ("sql", "reach"),
    [
        ("SELECT place_code FROM core_places", Reach.CONSTANT),
        ("SELECT person_key, count(*) AS notes FROM accepted_loans GROUP BY person_key", Reach.SUBJECT),
        ("SELECT l.loan_key FROM accepted_loans AS l JOIN core_members AS m ON m.person_key = l.person_key", Reach.SUBJECT),
        ("SELECT l.loan_key FROM accepted_loans AS l JOIN core_members AS m ON m.sex = l.currency", Reach.EVERYTHING),
        ("SELECT l.loan_key FROM accepted_loans AS l CROSS JOIN core_members AS m", Reach.EVERYTHING),
        ("SELECT loan_key FROM accepted_loans AS l CROSS JOIN core_places AS p", Reach.SUBJECT),
        ("SELECT village_code, count(*) AS people FROM core_members GROUP BY village_code", Reach.VILLAGE),
        ("SELECT person_key FROM village_counts", Reach.VILLAGE),
        ("SELECT count(*) AS notes FROM accepted_loans", Reach.EVERYTHING),
        ("SELECT supplier, count(*) AS notes FROM accepted_loans GROUP BY supplier", Reach.EVERYTHING),
        ("SELECT loan_key, row_number() OVER (ORDER BY loan_key) AS place FROM accepted_loans", Reach.EVERYTHING),
        ("SELECT loan_key FROM accepted_loans ORDER BY loan_key LIMIT 3", Reach.EVERYTHING),
        ("SELECT loan_key FROM accepted_loans AS l WHERE EXISTS (SELECT 1 FROM core_members AS m WHERE m.sex = 'male')",
         Reach.EVERYTHING),
    ],
)  # fmt: skip
def test_reach(sql: str, reach: Reach) -> None:
    assert look("model", sql, KNOWN, ()).reach is reach


def test_a_count_over_an_input_is_taken_beforehand() -> None:
    sql = "WITH counted AS (SELECT count(*) AS n FROM accepted_loans) SELECT m.person_key FROM core_members AS m CROSS JOIN counted"
    seen = look("model", sql, KNOWN, ["accepted_loans"])
    assert (seen.reach, list(seen.hoisted)) == (Reach.SUBJECT, ["model__counted"])
    assert look("model", sql, KNOWN, []).reach is Reach.EVERYTHING


@pytest.mark.parametrize("column", ["loan_key", "household_key_before", "key_before", "token", "case_id"])
def test_what_links_rows(column: str) -> None:
    assert is_token(column)


@pytest.mark.parametrize("column", ["id_type", "village_code", "supplier", "_delivery"])
def test_what_many_rows_share_links_none(column: str) -> None:
    assert not is_token(column)
