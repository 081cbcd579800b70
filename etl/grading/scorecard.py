"""Scorecards of any subject compiled to SQL: one wide row per subject, then one row per subject and indicator.

`<subject>_scores` holds per indicator the value, the band as a small number and the points; the texts of bands, evidence
and labels are put in only when `core_<subject>_points` is written, in the order of its key, so that five million
households need neither a second sort nor a join per indicator. An indicator that is an expression over
`<subject>_features` is merged into one SELECT; any other is joined by the subject's key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl.grading.bands import Band
from etl.grading.card import Card
from etl.grading.indicators import Indicator
from etl.grading.measures import Measured, measure, reads_features
from etl.grading.peers import PEER_CODE, peers_within
from etl.grading.policy import BASE, CutOff, ScorecardVersion
from etl.grading.words import DIALECT, POINTS, added, chosen, enum, number, text, word
from etl.vocabulary import INPUT_STATES, ConfigurationError

MISSING, NO_CONSENT, HELD, LOWERED = -1, -2, -3, -4
STATES = ("present", "missing", "withheld", "no_consent")
SPECIAL_BANDS = {MISSING: "missing", NO_CONSENT: "no_consent", HELD: "held", LOWERED: "held_lower"}
EVENTS_BAND = "events"
FORMER = "former_{}_key"
STATE_TYPE = enum(INPUT_STATES)
INCOMPLETE = "incomplete"


def scores_sql(card: Card) -> str:
    """SELECT of `<subject>_scores`, one row per subject. States and reasons are ENUMs: narrow, yet read as text.

    Columns: <subject>_key, former_<subject>_key, town_code, village_code, not_rated_reason, veto_<id>, input_state, score,
    <block>_points, <block>_input_state, computed_rank (1 = best), per indicator <id>_value, <id>_band, <id>_points, and
    the features that evidence names.
    Raises ConfigurationError for an indicator without SQL, a condition over an unknown column, or a block whose
    `<block>_input_state` the features lack.
    """
    _check_conditions(card)
    measured = _measured(card)
    return _summed(card, _pointed(card, measured, _measured_sql(card, measured)), measured)


def keeps_features(card: Card) -> bool:
    """Whether an indicator's own SQL reads the features beside other relations, so that they become a table."""
    return any(reads_features(card, indicator) for indicator in card.version.indicators)


def shared_columns(card: Card) -> list[str]:
    """The columns of the scores that do not depend on the indicators of a version."""
    blocks = sorted(card.version.blocks)
    return [
        card.key, FORMER.format(card.subject), "town_code", "village_code", "not_rated_reason", "input_state", "score",
        *(f"{block}_points" for block in blocks), *(f"{block}_input_state" for block in blocks), "computed_rank",
    ]  # fmt: skip


def held_points_sql(card: Card) -> str:
    """SELECT of last month's points, one column an indicator, of the subjects that are not settled."""
    wanted = ", ".join(
        f"max(p.points) FILTER (WHERE p.indicator = {text(indicator.id)}) AS {indicator.id}"
        for indicator in card.version.ordered
    )
    unsettled = f" INNER JOIN {card.unsettled} AS u ON u.{card.key} = p.{card.key}" if card.unsettled else ""
    return (
        f"SELECT p.{card.key}, {wanted} FROM previous_core_{card.subject}_points AS p{unsettled} GROUP BY p.{card.key}"
    )


def points_sql(card: Card) -> str:
    """SELECT of core_<subject>_points from the scores, already in the order of its key.

    Each subject's row is unnested into one row per indicator, indicators in the order of their ids; a base score is a
    row of its own, so that points always sum to the score. Columns that repeat a few words are ENUMs (Parquet and every
    reader see strings): they cost a tenth of text at 60 million rows.
    """
    version = card.version
    kinds = _word_types(version)
    entries = {one.indicator.id: _entry(card, one, kinds) for one in _measured(card)}
    if version.base:
        entries[BASE] = _base_entry(card, kinds)
    ordered = [entries[name] for name in sorted(entries)]
    unnested = ",\n  ".join(
        f"unnest([{', '.join(entry[field] for entry in ordered)}]) AS {field}" for field in ordered[0]
    )
    period, policy_version = str(card.period), version.version
    return (
        f"SELECT {word(period, enum([period]))} AS period, {card.key}, indicator, block, value_text, band, points, "
        f"max_points, state, evidence, {word(policy_version, enum([policy_version]))} AS policy_version, input_state\n"
        f"FROM (\n  SELECT {card.key},\n  {unnested}\n"
        f"  FROM (SELECT * FROM {card.scores} WHERE not_rated_reason IS NULL ORDER BY {card.key}) AS rated\n) AS spread"
    )


def plain_grades_sql(card: Card) -> str:
    """SELECT of core_<subject>_grades for subjects without a lifecycle of their own: what is computed is in effect."""
    version = card.version
    return (
        f"SELECT $period AS period, {card.key}, town_code, village_code, "
        "CASE WHEN not_rated_reason IS NULL THEN score END AS score, "
        f"{grade_sql(version.grades, 'computed_rank')} AS computed_grade, 'effective' AS status, "
        f"CAST(not_rated_reason AS VARCHAR) AS not_rated_reason, {veto_ids_sql(version)} AS veto_ids, "
        "CAST(input_state AS VARCHAR) AS input_state, "
        f"{text(version.version)} AS policy_version, {text(version.status)} AS policy_status\nFROM {card.scores}"
    )


def veto_rank_sql(version: ScorecardVersion) -> str:
    """The best rank that the vetoes of a subject leave: 1 without any."""
    caps = [f"CASE WHEN veto_{veto.id} THEN {version.rank_of(veto.cap)} ELSE 1 END" for veto in version.veto]
    return f"greatest({', '.join(['1', *caps])})"


def veto_ids_sql(version: ScorecardVersion) -> str:
    """The vetoes that caught a household, by name; NULL for none."""
    if not version.veto:
        return "CAST(NULL AS VARCHAR)"
    named = ", ".join(
        f"CASE WHEN veto_{veto.id} THEN {text(veto.id)} END" for veto in sorted(version.veto, key=lambda veto: veto.id)
    )
    return f"nullif(concat_ws(',', {named}), '')"


def rank_sql(grades: Sequence[CutOff], score: str) -> str:
    """1 for the best grade, and so on, of a score."""
    steps = " ".join(
        f"WHEN {score} >= {number(cut.at_least)} THEN {rank}"
        for rank, cut in enumerate(grades, start=1)
        if cut.at_least is not None
    )
    return f"CASE {steps} ELSE {len(grades)} END"


def rank_of_grade_sql(grades: Sequence[CutOff], grade: str) -> str:
    """The rank of a grade's name; NULL for none."""
    steps = " ".join(f"WHEN {text(cut.grade)} THEN {rank}" for rank, cut in enumerate(grades, start=1))
    return f"CASE {grade} {steps} END"


def grade_sql(grades: Sequence[CutOff], rank: str) -> str:
    """The name of a rank; NULL for none."""
    steps = " ".join(f"WHEN {position} THEN {text(cut.grade)}" for position, cut in enumerate(grades, start=1))
    return f"CASE {rank} {steps} END"


def _measured(card: Card) -> list[Measured]:
    return [measure(card, indicator) for indicator in card.version.ordered]


def _check_conditions(card: Card) -> None:
    version = card.version
    entries = [(f"veto.{veto.id}", veto.when) for veto in version.veto]
    entries += [(f"not_rated.{entry.reason}", entry.when) for entry in version.not_rated]
    for key, condition in entries:
        try:
            tree = sqlglot.parse_one(condition, dialect=DIALECT)
        except SqlglotError:
            raise ConfigurationError(
                card.path, key, "not an SQL condition", "write a comparison over features"
            ) from None
        for column in tree.find_all(exp.Column):
            card.require(column.name, key)


def _measured_sql(card: Card, measured: Sequence[Measured]) -> str:
    """Value, state and evidence of every indicator, with what decides whether the subject is rated at all."""
    joined = [entry for entry in measured if entry.joined is not None]
    fused = f"SELECT {', '.join(_fused_columns(card, measured))} FROM {_features_sql(card)}"
    if not joined:
        return fused
    more = ", ".join(
        f"{entry.value} AS {entry.indicator.id}_value, {_joined_state(entry)} AS {entry.indicator.id}_state, "
        f"x_{entry.indicator.id}.evidence AS {entry.indicator.id}_evidence"
        for entry in joined
    )
    relations = " ".join(
        f"LEFT JOIN ({entry.joined}) AS x_{entry.indicator.id} ON x_{entry.indicator.id}.{card.key} = fused.{card.key}"
        for entry in joined
    )
    return f"SELECT fused.*, {more} FROM ({fused}) AS fused {relations}"


def _fused_columns(card: Card, measured: Sequence[Measured]) -> list[str]:
    version, former, kind = card.version, FORMER.format(card.subject), _reason_type(card.version)
    excluded = " ".join(f"WHEN {entry.when} THEN {word(entry.reason, kind)}" for entry in version.not_rated)
    columns = [
        card.key, former if former in card.columns else f"CAST(NULL AS VARCHAR) AS {former}", "town_code", "village_code",
        *(f"CAST({block}_input_state AS {STATE_TYPE}) AS {block}_input_state" for block in version.blocks),
        f"{f'CASE {excluded} END' if excluded else f'CAST(NULL AS {kind})'} AS excluded",
        *(f"coalesce({veto.when}, FALSE) AS veto_{veto.id}" for veto in version.veto),
    ]  # fmt: skip
    for entry in measured:
        name = entry.indicator.id
        if entry.joined is None:
            columns += [f"{entry.value} AS {name}_value", f"{entry.state} AS {name}_state"]
            columns += [column for column in entry.named if column not in columns]
        elif entry.consent:
            columns.append(f"{card.consent(entry.consent, f'indicators.{name}.consent')} AS {name}_agreed")
    return columns


def _joined_state(entry: Measured) -> str:
    if not entry.consent:
        return entry.state
    return f"CASE WHEN NOT {entry.indicator.id}_agreed THEN 'no_consent' ELSE {entry.state} END"


def _features_sql(card: Card) -> str:
    """The features of the subjects this version is for, beside the medians of their peers."""
    features = card.features if keeps_features(card) else f"(\n{card.models[card.features].sql}\n)"
    if card.rows:
        features = f"(SELECT * FROM {features} AS whole WHERE {card.rows})"
    peers = "".join(
        f" LEFT JOIN {card.peers(within)} ON {card.peers(within)}.{PEER_CODE} = {card.features}.{within}_code"
        for within in ("town", "village")
        if peers_within(card, within)
    )
    return f"{features} AS {card.features}{peers}"


def _pointed(card: Card, measured: Sequence[Measured], source: str) -> str:
    """Band and points of every indicator: as the policy says, or held at last month's points (DESIGN 9.6)."""
    identifiers = [entry.indicator.id for entry in measured]
    banded = ", ".join(f"{_band_sql(entry.indicator)} AS {entry.indicator.id}_new" for entry in measured)
    scored = ", ".join(f"{_fresh_points_sql(entry.indicator)} AS {entry.indicator.id}_raw" for entry in measured)
    held = ", ".join(f"coalesce(own.{name}, former.{name}) AS {name}_before" for name in identifiers)
    settled = ", ".join(_settled(entry.indicator) for entry in measured)
    return (
        f"SELECT *, {settled} FROM (\n"
        f"SELECT raw.*, {held} FROM (\n"
        f"SELECT *, {scored} FROM (\nSELECT *, {banded} FROM (\n{source}\n) AS measured\n) AS banded\n) AS raw\n"
        f"LEFT JOIN {card.held} AS own ON own.{card.key} = raw.{card.key}\n"
        f"LEFT JOIN {card.held} AS former ON former.{card.key} = raw.{FORMER.format(card.subject)}\n) AS compared"
    )


def _band_sql(indicator: Indicator) -> str:
    """The number of the band: 0, 1, … in the policy's order, negative for what is not a value; 0 for events."""
    value = f"{indicator.id}_value"
    steps = " ".join(
        f"WHEN {_condition(band, value)} THEN {position}"
        for position, band in enumerate(indicator.bands)
        if band.conditions
    )
    rest = f"ELSE {len(indicator.bands) - 1}" if indicator.bands and indicator.bands[-1].else_ is not None else ""
    of_value = "0" if indicator.events else f"CASE WHEN {value} IS NULL THEN {MISSING} {steps} {rest} END"
    return (
        f"CAST(CASE {indicator.id}_state WHEN 'present' THEN {of_value} "
        f"WHEN 'no_consent' THEN {NO_CONSENT} WHEN 'withheld' THEN {HELD} ELSE {MISSING} END AS TINYINT)"
    )


def _condition(band: Band, value: str) -> str:
    if band.categories:
        return f"{value} IN ({', '.join(text(word) for word in band.categories)})"
    signs = {"at_most": "<=", "at_least": ">=", "below": "<"}
    bounds = zip(band.conditions, band.bounds, strict=True)
    return " AND ".join(f"{value} {signs[name]} {number(bound)}" for name, bound in bounds)


def _fresh_points_sql(indicator: Indicator) -> str:
    """Points by this month's value alone."""
    neutral = number(indicator.missing)
    if indicator.events:
        counted = f"{number(indicator.events.start)} + {indicator.id}_value"
        limited = f"least(greatest({counted}, {number(indicator.events.floor)}), {number(indicator.max)})"
        return f"CAST(CASE WHEN {indicator.id}_new = 0 THEN {limited} ELSE {neutral} END AS {POINTS})"
    steps = " ".join(f"WHEN {position} THEN {number(band.gives)}" for position, band in enumerate(indicator.bands))
    return f"CAST(CASE {indicator.id}_new {steps} ELSE {neutral} END AS {POINTS})"


def _settled(indicator: Indicator) -> str:
    """Points and band after looking at the state of the rows behind them.

    Withheld rows neither raise nor lower: last month's points stay, and without any there is no score (least() would
    pass over the NULL). Rows carried forward never raise: the lower of the two counts. Points of an older version never
    exceed the maximum of this one.
    """
    name, state = indicator.id, f"{indicator.block}_input_state"
    most = number(indicator.max)
    before = f"CASE WHEN {name}_before <= {most} THEN {name}_before WHEN {name}_before > {most} THEN {most} END"
    withheld = f"{state} = 'withheld' OR {name}_new = {HELD}"
    lowered = f"{state} = 'carried_forward' AND {name}_before < {name}_raw"
    points = f"CASE WHEN {withheld} THEN {before} WHEN {lowered} THEN {name}_before ELSE {name}_raw END"
    band = f"CASE WHEN {withheld} THEN {HELD} WHEN {lowered} THEN {LOWERED} ELSE {name}_new END"
    return f"CAST({points} AS {POINTS}) AS {name}_points, CAST({band} AS TINYINT) AS {name}_band"


def _summed(card: Card, source: str, measured: Sequence[Measured]) -> str:
    """Score, rank and reason; one row per subject."""
    version = card.version
    kept = ", ".join(dict.fromkeys(column for entry in measured for column in _kept_columns(entry)))
    points = added([f"{entry.indicator.id}_points" for entry in measured])
    score = f"{points} + {number(version.base)}" if version.base else points
    incomplete = word(INCOMPLETE, _reason_type(version))
    columns = ", ".join(
        (
            card.key, FORMER.format(card.subject), "town_code", "village_code",
            f"coalesce(excluded, CASE WHEN ({score}) IS NULL THEN {incomplete} END) AS not_rated_reason",
            *(f"veto_{veto.id}" for veto in version.veto),
            f"{_worst_state(version)} AS input_state",
            f"CAST({score} AS {POINTS}) AS score",
            *(f"{_block_sum(version, block)} AS {block}_points" for block in version.blocks),
            *(f"{block}_input_state" for block in version.blocks),
        )
    )  # fmt: skip
    rank = f"CAST(greatest({rank_sql(version.grades, 'score')}, {veto_rank_sql(version)}) AS TINYINT)"
    return (
        f"SELECT *, CASE WHEN not_rated_reason IS NULL THEN {rank} END AS computed_rank\n"
        f"FROM (\nSELECT {columns}, {kept} FROM (\n{source}\n) AS settled\n) AS scored"
    )


def _kept_columns(entry: Measured) -> Iterator[str]:
    name = entry.indicator.id
    yield from (f"{name}_value", f"{name}_band", f"{name}_points")
    yield from entry.named


def _worst_state(version: ScorecardVersion) -> str:
    steps = " ".join(
        f"WHEN {' OR '.join(f'{block}_input_state = {text(state)}' for block in version.blocks)} THEN {word(state, STATE_TYPE)}"
        for state in ("withheld", "carried_forward")
    )
    return f"CASE {steps} ELSE {word('complete', STATE_TYPE)} END"


def _block_sum(version: ScorecardVersion, block: str) -> str:
    return f"CAST({added([f'{one.id}_points' for one in version.ordered if one.block == block])} AS {POINTS})"


def _reason_type(version: ScorecardVersion) -> str:
    return enum({entry.reason for entry in version.not_rated} | {INCOMPLETE})


def _word_types(version: ScorecardVersion) -> dict[str, str]:
    """ENUM types of the columns of the points that repeat a few words."""
    labels = {band.label for indicator in version.indicators for band in indicator.bands}
    own = {EVENTS_BAND} if any(indicator.events for indicator in version.indicators) else set()
    base = {BASE} if version.base else set()
    return {
        "indicator": enum({indicator.id for indicator in version.indicators} | base),
        "block": enum({*version.blocks} | base),
        "band": enum(labels | set(SPECIAL_BANDS.values()) | own | base),
        "state": enum(STATES),
        "input_state": STATE_TYPE,
    }


def _entry(card: Card, entry: Measured, kinds: Mapping[str, str]) -> dict[str, str]:
    """One subject's values for one indicator, by column."""
    indicator, name = entry.indicator, entry.indicator.id
    known = f"{name}_band >= 0 OR {name}_band = {LOWERED}"
    labels = {0: EVENTS_BAND} if indicator.events else {at: band.label for at, band in enumerate(indicator.bands)}
    held = f"core_{card.subject}_points of the previous period"
    states = {MISSING: "missing", NO_CONSENT: "no_consent", HELD: "withheld"}
    return {
        "indicator": word(name, kinds["indicator"]),
        "block": word(indicator.block, kinds["block"]),
        "value_text": f"CASE WHEN {known} THEN CAST({name}_value AS VARCHAR) END",
        "band": chosen(f"{name}_band", labels | SPECIAL_BANDS, kinds["band"]),
        "points": f"{name}_points",
        "max_points": f"CAST({number(indicator.max)} AS {POINTS})",
        "state": chosen(f"{name}_band", states, kinds["state"], otherwise="present"),
        "evidence": f"CASE {name}_band WHEN {HELD} THEN {text(held)} ELSE {entry.evidence} END",
        "input_state": f"{indicator.block}_input_state",
    }


def _base_entry(card: Card, kinds: Mapping[str, str]) -> dict[str, str]:
    """The base score as a row: it rests on the policy alone."""
    base = f"CAST({number(card.version.base)} AS {POINTS})"
    return {
        "indicator": word(BASE, kinds["indicator"]),
        "block": word(BASE, kinds["block"]),
        "value_text": "CAST(NULL AS VARCHAR)",
        "band": word(BASE, kinds["band"]),
        "points": base,
        "max_points": base,
        "state": word("present", kinds["state"]),
        "evidence": text(f"policy/{card.path.name}"),
        "input_state": word("complete", kinds["input_state"]),
    }
