"""Medians of a subject's peers, compiled from `peer:` of its indicators: the first of two passes over the county.

By rank (the lower of two middle values), in hundredths: a histogram by 1,000 finds the middle interval, then only its rows
are ranked. Speed comes from reading the table the features begin with instead of the features themselves.
"""

from __future__ import annotations

from sqlglot import exp

from etl.engine.dialect import parse
from etl.grading.card import Card
from etl.grading.indicators import Peer
from etl.grading.words import text
from etl.vocabulary import ConfigurationError

PEER_CODE = "peer_code"
INTERVAL = 100_000


def median_column(peer: Peer) -> str:
    """The column of the medians that one declaration compares with, in hundredths."""
    fallback = "" if peer.otherwise == "county" else "_only"
    return f"{peer.of}_median_{peer.minimum_sample}{fallback}"


def peers_within(card: Card, within: str) -> list[Peer]:
    """The different comparisons the indicators declare within towns or within villages."""
    declared = [one.peer for one in card.version.ordered if one.peer and one.peer.within == within]
    return list({median_column(peer): peer for peer in declared}.values())


def peers_sql(card: Card, within: str) -> str:
    """SELECT of the medians of each town or village: `peer_code` and one column a comparison.

    Raises ConfigurationError for a column that is not simply one of the table the features begin with.
    """
    peers = peers_within(card, within)
    table, code = _source(card, f"{within}_code", f"within {within}")
    measures = {peer.of: _source(card, peer.of, f"peer.of {peer.of}")[1] for peer in peers}
    amounts = " UNION ALL ".join(
        f"SELECT {code} AS code, {text(of)} AS measure, CAST({column} * 100 AS BIGINT) AS amount FROM {table} "
        f"WHERE {column} IS NOT NULL AND {code} IS NOT NULL"
        for of, column in measures.items()
    )
    county = ", ".join(_picked(peer) for peer in peers if peer.otherwise == "county")
    own = ", ".join(_picked(peer) for peer in peers)
    return (
        f"WITH amounts AS ({amounts}), {_MEDIANS}, "
        f"county AS (SELECT {county or 'count(*) AS nothing'} FROM medians WHERE code IS NULL), "
        f"own AS (SELECT code, {own} FROM medians WHERE code IS NOT NULL GROUP BY code), "
        f"known AS (SELECT DISTINCT {code} AS code FROM {table} WHERE {code} IS NOT NULL)\n"
        f"SELECT k.code AS {PEER_CODE}, {', '.join(_with_fallback(peer) for peer in peers)} "
        "FROM known AS k LEFT JOIN own AS o ON o.code = k.code CROSS JOIN county AS c"
    )


_MEDIANS = f"""small_intervals AS (
    SELECT code, measure, amount // {INTERVAL} AS interval_no, CAST(count(*) AS BIGINT) AS subjects
    FROM amounts
    GROUP BY code, measure, amount // {INTERVAL}
),
intervals AS (
    SELECT code, measure, interval_no, subjects FROM small_intervals
    UNION ALL
    SELECT CAST(NULL AS VARCHAR) AS code, measure, interval_no, CAST(sum(subjects) AS BIGINT) AS subjects
    FROM small_intervals
    GROUP BY measure, interval_no
),
cumulated AS (
    SELECT
        code, measure, interval_no, subjects,
        CAST(sum(subjects) OVER (PARTITION BY code, measure ORDER BY interval_no) AS BIGINT) AS up_to,
        CAST(sum(subjects) OVER (PARTITION BY code, measure) AS BIGINT) AS sample
    FROM intervals
),
middle AS (
    SELECT code, measure, interval_no, sample, (sample + 1) // 2 - (up_to - subjects) AS rank_within
    FROM cumulated
    WHERE up_to >= (sample + 1) // 2 AND up_to - subjects < (sample + 1) // 2
),
candidates AS (
    SELECT m.code, m.measure, m.sample, m.rank_within, a.amount
    FROM middle AS m
    INNER JOIN amounts AS a
        ON a.code = m.code AND a.measure = m.measure AND a.amount // {INTERVAL} = m.interval_no
    WHERE m.code IS NOT NULL
    UNION ALL
    SELECT m.code, m.measure, m.sample, m.rank_within, a.amount
    FROM middle AS m
    INNER JOIN amounts AS a ON a.measure = m.measure AND a.amount // {INTERVAL} = m.interval_no
    WHERE m.code IS NULL
),
medians AS (
    SELECT code, measure, sample, amount
    FROM candidates
    QUALIFY row_number() OVER (PARTITION BY code, measure ORDER BY amount) = rank_within
)"""


def _picked(peer: Peer) -> str:
    return (
        f"max(amount) FILTER (WHERE measure = {text(peer.of)} AND sample >= {peer.minimum_sample}) "
        f"AS {median_column(peer)}"
    )


def _with_fallback(peer: Peer) -> str:
    name = median_column(peer)
    return f"coalesce(o.{name}, c.{name}) AS {name}" if peer.otherwise == "county" else f"o.{name}"


def _source(card: Card, column: str, key: str) -> tuple[str, str]:
    """The table the features begin with, and the name a features column has there."""
    query = parse(card.models[card.features].sql)
    begins = query.args.get("from") or query.args.get("from_")
    table = begins.this if begins is not None and not query.ctes else None
    found = {selected.alias_or_name: selected.unalias() for selected in query.selects}[card.require(column, key)]
    if isinstance(table, exp.Table) and isinstance(found, exp.Column) and found.table in ("", table.alias_or_name):
        return table.name, found.name
    problem = f"{column!r} is not simply a column of the table that {card.features} begins with"
    raise ConfigurationError(card.path, key, problem, f"select it there, without WITH, or add it to {card.core}")
