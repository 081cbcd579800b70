"""How an indicator's value, state and evidence are read: a column, a ratio, peers, events, or an SQL model of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlglot import exp

from etl.engine.dialect import parse
from etl.engine.models import Model
from etl.grading.card import Card, columns_of
from etl.grading.indicators import IN_WRITING, Decay, Events, Indicator, Peer, Purpose, Ratio
from etl.grading.peers import median_column
from etl.grading.words import DIALECT, VALUE, ceiled, floored, text
from etl.vocabulary import ConfigurationError

COLUMNS = ("value", "state", "evidence")


@dataclass(frozen=True)
class Measured:
    """An indicator as expressions over the features, or over the relation to join by the subject's key.

    `evidence` is evaluated when points are written, over the columns `named` that the scores keep for it. `consent` is
    what the subject must have agreed to before a joined value counts.
    """

    indicator: Indicator
    value: str
    state: str
    evidence: str
    named: tuple[str, ...]
    joined: str | None = None
    consent: Purpose | None = None


def measure(card: Card, indicator: Indicator) -> Measured:
    """Raises ConfigurationError for an indicator whose SQL or column is missing or has other columns than it should."""
    if indicator.events:
        return _events(card, indicator, indicator.events)
    value = _value(card, indicator)
    return _of_features(card, indicator, value) if value else _of_model(card, indicator)


def reads_features(card: Card, indicator: Indicator) -> bool:
    """Whether a joined model reads the features, so that they have to be kept."""
    if indicator.events or _value(card, indicator):
        return False
    model = _model(card, indicator)
    return card.features in model.depends and not _is_projection(parse(model.sql), card.features)


def _value(card: Card, indicator: Indicator) -> str | None:
    key = f"indicators.{indicator.id}"
    if indicator.value:
        column = card.require(indicator.value, f"{key}.value")
        return column if indicator.is_numeric else f"CAST({column} AS VARCHAR)"
    if indicator.ratio:
        return _ratio(card, indicator.ratio, indicator.rounding == "up", key)
    if indicator.peer:
        return _to_median(card, indicator.peer, indicator.rounding == "up", key)
    return None


def _ratio(card: Card, ratio: Ratio, is_up: bool, key: str) -> str:
    upper = f"CAST({card.require(ratio.numerator, f'{key}.ratio')} * 100 AS BIGINT)"
    lower = f"CAST({card.require(ratio.denominator, f'{key}.ratio')} * 100 AS BIGINT)"
    quotient = (ceiled if is_up else floored)(f"{upper} * 100", lower)
    empty = "" if ratio.empty is None else f" WHEN {upper} = 0 AND {lower} = 0 THEN {ratio.empty}"
    return f"CAST(CASE WHEN {lower} > 0 THEN {quotient}{empty} END AS {VALUE})"


def _to_median(card: Card, peer: Peer, is_up: bool, key: str) -> str:
    amount = f"CAST({card.require(peer.of, f'{key}.peer.of')} * 10000 AS BIGINT)"
    median = f"{card.peers(peer.within)}.{median_column(peer)}"
    quotient = (ceiled if is_up else floored)(amount, median)
    return f"CAST(CASE WHEN {median} > 0 THEN {quotient} END AS {VALUE})"


def _of_features(card: Card, indicator: Indicator, value: str) -> Measured:
    key = f"indicators.{indicator.id}"
    state = f"CASE WHEN {value} IS NULL THEN 'missing' ELSE 'present' END"
    if indicator.consent:
        state = _agreed(card.consent(indicator.consent, f"{key}.consent"), state)
    evidence, named = _evidence(card, indicator)
    return Measured(indicator, value, state, evidence, named)


def _evidence(card: Card, indicator: Indicator) -> tuple[str, tuple[str, ...]]:
    """A column of the features that names rows, or the core table whose row of this subject and period it is."""
    named = indicator.evidence or card.core
    if named in card.columns:
        return f"coalesce({named}, {text(card.core)})", (named,)
    if indicator.evidence and named not in card.models:
        raise card.lacks(named, f"indicators.{indicator.id}.evidence")
    return text(named), ()


def _agreed(consent: str, state: str) -> str:
    return f"CASE WHEN NOT ({consent}) THEN 'no_consent' ELSE {state} END"


def _of_model(card: Card, indicator: Indicator) -> Measured:
    """An SQL model: merged into the features where it is a plain projection of them, else joined.

    What needs consent in writing is asked for here once more, whatever the model says of it.
    """
    model = _model(card, indicator)
    query = parse(model.sql)
    found = {column.alias_or_name: column for column in query.selects}
    wanted = (card.key, *COLUMNS)
    if set(found) != set(wanted):
        raise ConfigurationError(model.path, indicator.model, "wrong columns", f"select {', '.join(wanted)}")
    consent = indicator.consent if indicator.consent in IN_WRITING else None
    if not _is_projection(query, card.features):
        joined, kept = f"x_{indicator.id}", f"{indicator.id}_evidence"
        state = f"coalesce({joined}.state, 'missing')"
        return Measured(indicator, f"{joined}.value", state, kept, (kept,), model.sql, consent)
    named = tuple(dict.fromkeys(column.name for column in found["evidence"].find_all(exp.Column)))
    value, state, evidence = (found[name].unalias().sql(dialect=DIALECT) for name in COLUMNS)
    if consent:
        state = _agreed(card.consent(consent, f"indicators.{indicator.id}.consent"), state)
    return Measured(indicator, value, state, evidence, named)


def _model(card: Card, indicator: Indicator) -> Model:
    model = card.models.get(indicator.model)
    if model is None:
        mend = f"add sql/indicators/{indicator.model}.sql, or say where its value comes from"
        raise ConfigurationError(card.path, f"indicators.{indicator.id}", "its SQL is missing", mend)
    return model


def _is_projection(query: exp.Query, features: str) -> bool:
    source = query.args.get("from") or query.args.get("from_")
    extra = [
        name for name, value in query.args.items() if value and name not in ("expressions", "from", "from_", "kind")
    ]
    return source is not None and isinstance(source.this, exp.Table) and source.this.name == features and not extra


# -- events -----------------------------------------------------------------------------------------------------------


def _events(card: Card, indicator: Indicator, events: Events) -> Measured:
    """The sum of faded points per subject. No event is no evidence: then the value is 0 and the state present."""
    key = f"indicators.{indicator.id}.events"
    _require_columns(card, events, key)
    joined, kept = f"x_{indicator.id}", f"{indicator.id}_evidence"
    total, weight = "sum(weighted)", _full_weight(events.decay)
    value = f"CAST(CASE WHEN {total} < 0 THEN -(-{total} // {weight}) ELSE {total} // {weight} END AS DECIMAL(18,0))"
    more = "CASE WHEN count(*) > 1 THEN concat(' +', CAST(count(*) - 1 AS VARCHAR)) ELSE '' END"
    sql = (
        f"SELECT {card.key}, CAST({value} * 0.01 AS {VALUE}) AS value, concat(min(evidence), {more}) AS evidence\n"
        f"FROM ({_weighted(card, events)}) AS faded WHERE weighted <> 0 GROUP BY {card.key}"
    )
    evidence = f"coalesce({kept}, {text(events.relation)})"
    return Measured(indicator, f"coalesce({joined}.value, 0)", "'present'", evidence, (kept,), sql, indicator.consent)


def _require_columns(card: Card, events: Events, key: str) -> None:
    found = columns_of(card.models, events.relation, card.path)
    wanted = (card.key, events.on, events.evidence, *([events.kind] if events.kind else []))
    for column in wanted:
        if column not in found:
            problem, mend = f"{events.relation} has no column {column!r}", "correct the name or add it to the SQL"
            raise ConfigurationError(card.path, key, problem, mend)


def _weighted(card: Card, events: Events) -> str:
    """Each event's points in hundredths times its weight, in whole numbers."""
    return (
        f"SELECT {card.key}, evidence, CAST({_worth(events.points)} * {_weight(events.decay)} AS BIGINT) AS weighted FROM ("
        f"SELECT {card.key}, {events.evidence} AS evidence, {events.kind or 'NULL'} AS kind, "
        f"date_diff('day', {events.on}, CAST($period_end AS DATE)) AS age_days FROM {events.relation}"
        ") AS dated WHERE age_days >= 0"
    )


def _worth(points: Decimal | Mapping[str, Decimal]) -> str:
    if not isinstance(points, Mapping):
        return _hundredths(points)
    steps = " ".join(f"WHEN {text(name)} THEN {_hundredths(worth)}" for name, worth in points.items())
    return f"CASE kind {steps} ELSE 0 END"


def _hundredths(points: Decimal) -> str:
    return f"CAST({int(points * 100)} AS BIGINT)"


def _weight(decay: Decay | None) -> str:
    if decay is None:
        return "1"
    if decay.linear_days:
        return f"greatest({decay.linear_days} - age_days, 0)"
    steps = " ".join(f"WHEN age_days <= {step.at_most} THEN {step.pct}" for step in decay.steps)
    return f"CASE {steps} ELSE 0 END"


def _full_weight(decay: Decay | None) -> int:
    if decay is None:
        return 1
    return decay.linear_days or 100
