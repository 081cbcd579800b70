"""The household scorecard compiled to SQL: one wide row per household, then one row per household and indicator.

`household_scores` holds per indicator the value, the band as a small number and the points; the texts of bands, evidence
and labels are put in only when `core_household_points` is written, in the order of its key, so that five million
households need neither a second sort nor a join per indicator. An indicator that is a plain projection of
`household_features` is merged into one SELECT; any other SELECT is joined by household_key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import get_args

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl.engine.dialect import parse
from etl.engine.models import Model
from etl.grading.policy import Band, CutOff, HouseholdVersion, Indicator, Policies, Reason
from etl.vocabulary import INPUT_STATES, ConfigurationError

DIALECT = "duckdb"
FEATURES = "household_features"
COLUMNS = ("household_key", "value", "state", "evidence")
MISSING, NO_CONSENT, HELD, LOWERED = -1, -2, -3, -4
STATES = ("present", "missing", "withheld", "no_consent")
SPECIAL_BANDS = {MISSING: "missing", NO_CONSENT: "no_consent", HELD: "held", LOWERED: "held_lower"}
POINTS = "DECIMAL(7,2)"
HELD_EVIDENCE = "core_household_points of the previous period"


def text(value: str) -> str:
    """A text literal."""
    return exp.Literal.string(value).sql(dialect=DIALECT)


def _enum(words: Iterable[str]) -> str:
    """The type of a column that holds only these words."""
    return f"ENUM({', '.join(text(word) for word in sorted(set(words)))})"


def _word(word: str, kind: str) -> str:
    return f"CAST({text(word)} AS {kind})"


STATE_TYPE = _enum(INPUT_STATES)
REASON_TYPE = _enum(get_args(Reason))


@dataclass(frozen=True)
class Measured:
    """How one indicator's value, state and evidence are read: expressions, and the relation to join if not fused.

    `evidence` is evaluated when points are written, over the columns `named` that household_scores keeps for it.
    """

    indicator: Indicator
    value: str
    state: str
    evidence: str
    named: tuple[str, ...]
    joined: str | None


def number(value: Decimal) -> str:
    """A decimal literal written out."""
    return format(value, "f")


def scores_sql(policies: Policies, models: Mapping[str, Model]) -> str:
    """SELECT of `household_scores`, one row per household. States and reasons are ENUMs: narrow, yet read as text.

    Columns: household_key, former_household_key, town_code, village_code, not_rated_reason, veto_<id>, input_state, score,
    <block>_points, <block>_input_state, computed_rank (1 = best), per indicator <id>_value, <id>_band, <id>_points, and
    the features that evidence names.
    Raises ConfigurationError for an indicator without SQL, a condition over an unknown column, or a block whose
    `<block>_input_state` the features lack.
    """
    version, path = policies.household, policies.files["household"]
    features = _columns_of(models, FEATURES, str(path))
    _check_conditions(policies, features)
    measured = [_measure(indicator, models, str(path)) for indicator in version.ordered]
    return _summed(
        version, _pointed(version, measured, _measured_sql(version, measured, models[FEATURES].sql)), measured
    )


def held_points_sql(version: HouseholdVersion) -> str:
    """SELECT of `held_points`: last month's points of the households that are not settled, one column an indicator."""
    wanted = ", ".join(
        f"max(p.points) FILTER (WHERE p.indicator = {text(indicator.id)}) AS {indicator.id}"
        for indicator in version.ordered
    )
    return (
        f"SELECT p.household_key, {wanted} FROM previous_core_household_points AS p "
        "INNER JOIN unsettled_households AS u ON u.household_key = p.household_key GROUP BY p.household_key"
    )


def points_sql(policies: Policies, models: Mapping[str, Model]) -> str:
    """SELECT of core_household_points from `household_scores`, already in the order of its key.

    Each household's row is unnested into one row per indicator, indicators in the order of their ids. Columns that
    repeat a few words are ENUMs (Parquet and every reader see strings): they cost a tenth of text at 60 million rows.
    """
    version, path = policies.household, policies.files["household"]
    measured = [_measure(indicator, models, str(path)) for indicator in version.ordered]
    kinds = _word_types(version)
    entries = [_entry(entry, kinds) for entry in measured]
    unnested = ",\n  ".join(
        f"unnest([{', '.join(entry[field] for entry in entries)}]) AS {field}" for field in entries[0]
    )
    period, policy_version = str(policies.period), version.version
    return (
        f"SELECT {_word(period, _enum([period]))} AS period, household_key, indicator, block, value_text, band, points, "
        f"max_points, state, evidence, {_word(policy_version, _enum([policy_version]))} AS policy_version, input_state\n"
        f"FROM (\n  SELECT household_key,\n  {unnested}\n"
        "  FROM (SELECT * FROM household_scores WHERE not_rated_reason IS NULL ORDER BY household_key) AS rated\n) AS spread"
    )


def veto_ids_sql(version: HouseholdVersion) -> str:
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


def _columns_of(models: Mapping[str, Model], name: str, path: str) -> set[str]:
    if name not in models:
        raise ConfigurationError(path, name, "no such SQL model", f"add sql/features/{name}.sql")
    return {column.alias_or_name for column in parse(models[name].sql).selects}


def _check_conditions(policies: Policies, features: set[str]) -> None:
    version, path = policies.household, policies.files["household"]
    entries = [(f"veto.{veto.id}", veto.when) for veto in version.veto]
    entries += [(f"not_rated.{entry.reason}", entry.when) for entry in version.not_rated]
    entries += [(f"blocks.{block}", f"{block}_input_state IS NULL") for block in version.blocks]
    for key, condition in entries:
        try:
            tree = sqlglot.parse_one(condition, dialect=DIALECT)
        except SqlglotError:
            raise ConfigurationError(path, key, "not an SQL condition", "write a comparison over features") from None
        for column in tree.find_all(exp.Column):
            if column.name not in features:
                raise ConfigurationError(
                    path, key, f"{FEATURES} has no column {column.name!r}", "correct the name or add it to the SQL"
                )


def _measure(indicator: Indicator, models: Mapping[str, Model], path: str) -> Measured:
    model = models.get(indicator.model)
    key = f"indicators.{indicator.id}"
    if model is None:
        raise ConfigurationError(path, key, "its SQL is missing", f"add sql/indicators/{indicator.model}.sql")
    query = parse(model.sql)
    found = {column.alias_or_name: column for column in query.selects}
    if set(found) != set(COLUMNS):
        raise ConfigurationError(model.path, indicator.model, "wrong columns", f"select {', '.join(COLUMNS)}")
    if not _is_projection(query):
        joined = f"x_{indicator.id}"
        state = f"coalesce({joined}.state, 'missing')"
        kept = f"{indicator.id}_evidence"
        return Measured(indicator, f"{joined}.value", state, kept, (kept,), model.sql)
    named = tuple(dict.fromkeys(column.name for column in found["evidence"].find_all(exp.Column)))
    value, state, evidence = (found[name].unalias().sql(dialect=DIALECT) for name in COLUMNS[1:])
    return Measured(indicator, value, state, evidence, named, None)


def _is_projection(query: exp.Query) -> bool:
    source = query.args.get("from") or query.args.get("from_")
    extra = [
        name for name, value in query.args.items() if value and name not in ("expressions", "from", "from_", "kind")
    ]
    return source is not None and isinstance(source.this, exp.Table) and source.this.name == FEATURES and not extra


def _measured_sql(version: HouseholdVersion, measured: Sequence[Measured], features: str) -> str:
    """Value, state and evidence of every indicator, with what decides whether the household is rated at all."""
    columns = [
        "household_key", "former_household_key", "town_code", "village_code",
        *(f"CAST({block}_input_state AS {STATE_TYPE}) AS {block}_input_state" for block in version.blocks),
        f"CASE {' '.join(f'WHEN {entry.when} THEN {_word(entry.reason, REASON_TYPE)}' for entry in version.not_rated)} "
        "END AS excluded",
        *(f"coalesce({veto.when}, FALSE) AS veto_{veto.id}" for veto in version.veto),
    ]  # fmt: skip
    for entry in measured:
        if entry.joined is None:
            columns += [f"{entry.value} AS {entry.indicator.id}_value", f"{entry.state} AS {entry.indicator.id}_state"]
            columns += [name for name in entry.named if name not in columns]
    fused = f"SELECT {', '.join(columns)} FROM (\n{features}\n) AS {FEATURES}"
    joined = [entry for entry in measured if entry.joined is not None]
    if not joined:
        return fused
    more = ", ".join(
        f"{entry.value} AS {entry.indicator.id}_value, {entry.state} AS {entry.indicator.id}_state, "
        f"x_{entry.indicator.id}.evidence AS {entry.evidence}"
        for entry in joined
    )
    relations = " ".join(
        f"LEFT JOIN ({entry.joined}) AS x_{entry.indicator.id} "
        f"ON x_{entry.indicator.id}.household_key = fused.household_key"
        for entry in joined
    )
    return f"SELECT fused.*, {more} FROM ({fused}) AS fused {relations}"


def _pointed(version: HouseholdVersion, measured: Sequence[Measured], source: str) -> str:
    """Band and points of every indicator: as the bands say, or held at last month's points (DESIGN 9.6)."""
    identifiers = [entry.indicator.id for entry in measured]
    banded = ", ".join(f"{_band_sql(entry)} AS {entry.indicator.id}_new" for entry in measured)
    scored = ", ".join(f"{_band_points_sql(entry.indicator)} AS {entry.indicator.id}_raw" for entry in measured)
    held = ", ".join(f"coalesce(own.{name}, former.{name}) AS {name}_before" for name in identifiers)
    settled = ", ".join(_settled(entry.indicator) for entry in measured)
    return (
        f"SELECT *, {settled} FROM (\n"
        f"SELECT raw.*, {held} FROM (\n"
        f"SELECT *, {scored} FROM (\nSELECT *, {banded} FROM (\n{source}\n) AS measured\n) AS banded\n) AS raw\n"
        "LEFT JOIN held_points AS own ON own.household_key = raw.household_key\n"
        "LEFT JOIN held_points AS former ON former.household_key = raw.former_household_key\n) AS compared"
    )


def _band_sql(entry: Measured) -> str:
    """The number of the band: 0, 1, … in the policy's order, negative for what is not a value."""
    indicator, value = entry.indicator, f"{entry.indicator.id}_value"
    steps = " ".join(
        f"WHEN {_condition(band, value)} THEN {position}"
        for position, band in enumerate(indicator.bands)
        if band.conditions
    )
    rest = f"ELSE {len(indicator.bands) - 1}" if indicator.bands[-1].else_ is not None else ""
    return (
        f"CAST(CASE {indicator.id}_state WHEN 'present' THEN CASE WHEN {value} IS NULL THEN {MISSING} {steps} {rest} END "
        f"WHEN 'no_consent' THEN {NO_CONSENT} WHEN 'withheld' THEN {HELD} ELSE {MISSING} END AS TINYINT)"
    )


def _condition(band: Band, value: str) -> str:
    signs = {"at_most": "<=", "at_least": ">=", "below": "<", "equals": "="}
    parts = [
        f"{value} {signs[name]} {text(bound) if isinstance(bound, str) else number(bound)}"
        for name, bound in band.conditions.items()
    ]
    return " AND ".join(parts)


def _band_points_sql(indicator: Indicator) -> str:
    steps = " ".join(f"WHEN {position} THEN {number(band.gives)}" for position, band in enumerate(indicator.bands))
    neutral = number(indicator.missing)
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


def _summed(version: HouseholdVersion, source: str, measured: Sequence[Measured]) -> str:
    """Score, rank and reason; one row per household."""
    kept = ", ".join(dict.fromkeys(column for entry in measured for column in _kept_columns(entry)))
    score = " + ".join(f"{entry.indicator.id}_points" for entry in measured)
    incomplete = _word("incomplete", REASON_TYPE)
    caps = "".join(f", CASE WHEN veto_{veto.id} THEN {version.rank_of(veto.cap)} ELSE 1 END" for veto in version.veto)
    columns = ", ".join(
        (
            "household_key", "former_household_key", "town_code", "village_code",
            f"coalesce(excluded, CASE WHEN ({score}) IS NULL THEN {incomplete} END) AS not_rated_reason",
            *(f"veto_{veto.id}" for veto in version.veto),
            f"{_worst_state(version)} AS input_state",
            f"CAST({score} AS {POINTS}) AS score",
            *(f"{_block_sum(version, block)} AS {block}_points" for block in version.blocks),
            *(f"{block}_input_state" for block in version.blocks),
        )
    )  # fmt: skip
    rank = f"CAST(greatest({rank_sql(version.grades, 'score')}{caps}) AS TINYINT)"
    return (
        f"SELECT *, CASE WHEN not_rated_reason IS NULL THEN {rank} END AS computed_rank\n"
        f"FROM (\nSELECT {columns}, {kept} FROM (\n{source}\n) AS settled\n) AS scored"
    )


def _kept_columns(entry: Measured) -> Iterator[str]:
    name = entry.indicator.id
    yield from (f"{name}_value", f"{name}_band", f"{name}_points")
    yield from entry.named


def _worst_state(version: HouseholdVersion) -> str:
    steps = " ".join(
        f"WHEN {' OR '.join(f'{block}_input_state = {text(state)}' for block in version.blocks)} THEN {_word(state, STATE_TYPE)}"
        for state in ("withheld", "carried_forward")
    )
    return f"CASE {steps} ELSE {_word('complete', STATE_TYPE)} END"


def _block_sum(version: HouseholdVersion, block: str) -> str:
    members = [f"{indicator.id}_points" for indicator in version.ordered if indicator.block == block]
    return f"CAST({' + '.join(members) or '0'} AS {POINTS})"


def _word_types(version: HouseholdVersion) -> dict[str, str]:
    """ENUM types of the columns of core_household_points that repeat a few words."""
    labels = {band.label for indicator in version.indicators for band in indicator.bands}
    return {
        "indicator": _enum(indicator.id for indicator in version.indicators),
        "block": _enum(version.blocks),
        "band": _enum(labels | set(SPECIAL_BANDS.values())),
        "state": _enum(STATES),
    }


def _entry(entry: Measured, kinds: Mapping[str, str]) -> dict[str, str]:
    """One household's values for one indicator, by column."""
    indicator, name = entry.indicator, entry.indicator.id
    known = f"{name}_band >= 0 OR {name}_band = {LOWERED}"
    labels = {position: band.label for position, band in enumerate(indicator.bands)} | SPECIAL_BANDS
    states = {MISSING: "missing", NO_CONSENT: "no_consent", HELD: "withheld"}
    return {
        "indicator": _word(name, kinds["indicator"]),
        "block": _word(indicator.block, kinds["block"]),
        "value_text": f"CASE WHEN {known} THEN CAST({name}_value AS VARCHAR) END",
        "band": _chosen(f"{name}_band", labels, kinds["band"]),
        "points": f"{name}_points",
        "max_points": f"CAST({number(indicator.max)} AS {POINTS})",
        "state": _chosen(f"{name}_band", states, kinds["state"], otherwise="present"),
        "evidence": f"CASE {name}_band WHEN {HELD} THEN {text(HELD_EVIDENCE)} ELSE {entry.evidence} END",
        "input_state": f"{indicator.block}_input_state",
    }


def _chosen(code: str, words: Mapping[int, str], kind: str, otherwise: str | None = None) -> str:
    """The word of a code, as an ENUM."""
    steps = " ".join(f"WHEN {position} THEN {_word(word, kind)}" for position, word in words.items())
    return f"CASE {code} {steps} {f'ELSE {_word(otherwise, kind)} ' if otherwise else ''}END"
