"""The cheapest advisable changes that lift a grade, found by grading twins of the household under the real policy.

A twin is the household once more, in every relation that grading reads, with other facts: those that would hold if an
advice were followed. All twins are graded in one run of the plan's own statements, so vetoes, caps, holds and whatever one
fact does to several indicators count as they count for the household itself. An advice is what the engine said of a twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations, product
from typing import Literal

import pyarrow as pa
import sqlglot
from sqlglot import exp

from etl.engine.dialect import parse, tables_read
from etl.engine.duck import DuckEngine
from etl.engine.models import Model
from etl.grading import Policies, Statement, grading_plan
from etl.grading.bands import Band
from etl.grading.indicators import Indicator
from etl.grading.lifecycle import AWAITING_NOTICE
from etl.grading.policy import COUNTY, ScorecardVersion
from etl.grading.words import DIALECT
from etl.reports.explain_guide import Guide
from etl.vocabulary import ConfigurationError

FEATURES = "household_features"
KEY = "household_key"
TWINS = "advice_twins"
MOST_CHANGES = 4
SMALLEST = Decimal("0.01")  # values have two decimals
HOUSEHOLD = "household"
REGRADED = ("household_features", "household_scores", "core_household_points", "deep_falls", "core_household_grades")
_TWIN = "twin"
Outcome = Literal["found", "best_grade", "not_rated", "on_hold", "vetoed", "out_of_reach", "unavailable", "past"]


@dataclass(frozen=True)
class Step:
    """One indicator brought into a better band: `bound` is the value that just suffices, `levels` the bands climbed."""

    indicator: str
    bound: Decimal
    levels: int


@dataclass(frozen=True)
class Graded:
    """How a household, or a twin of it, is graded."""

    score: Decimal | None
    computed_grade: str | None
    effective_grade: str | None
    hold_reason: str | None
    veto_ids: str | None
    input_state: str


@dataclass(frozen=True)
class Advice:
    """What came of the search: `steps` lift the household to `graded`, with `points` by indicator, if the outcome is found.

    Otherwise `graded` is what all advisable changes together would come to (None where nothing was searched).
    """

    outcome: Outcome
    target: str | None = None
    steps: tuple[Step, ...] = ()
    graded: Graded | None = None
    points: Mapping[str, Decimal] | None = None
    problem: str = ""


def advise(
    engine: DuckEngine,
    policies: Policies,
    models: Mapping[str, Model],
    guide: Guide,
    household_key: str,
    run: Callable[[Statement], None],
    *,
    notice_days: int = 0,
) -> Advice:
    """The cheapest advice for one household: fewest indicators, then fewest bands, then the policy's order.

    `engine` holds a month that was graded with the household in it; afterwards it holds the twins instead. `run` makes
    one relation of the plan.
    """
    version = _version_of(engine, policies, household_key)
    now = graded_of(engine, household_key)
    target = _next_grade(version, now)
    if target is None:
        return Advice("not_rated" if now.effective_grade is None else "best_grade")
    options = _options(version, guide, _points(engine, household_key), _values(engine, household_key))
    plans = _plans(options)
    everything = tuple(steps[-1] for steps in options.values())
    twins = [*plans, everything]
    changed = {**models, FEATURES: _with_facts(models[FEATURES], guide, _advised(guide))}
    planned = grading_plan(policies, changed, notice_days=notice_days)
    statements = [statement for statement in planned if statement.name.startswith(REGRADED)]
    keys = _put_twins(engine, guide, household_key, twins, statements)
    for statement in statements:
        run(statement)
    found = _first_reaching(engine, version, target, dict(zip(keys[:-1], plans, strict=True)))
    if found:
        key, steps = found
        return Advice("found", target, steps, graded_of(engine, key), _points(engine, key))
    best = graded_of(engine, keys[-1])
    return Advice(_why_not(best), target, graded=best)


def scorecard_of(policies: Policies, town_code: str | None, subject: str = HOUSEHOLD) -> ScorecardVersion:
    """The scorecard of a town's subjects: its own, else the county's."""
    scopes = policies.scorecards[subject]
    return scopes.get(town_code or COUNTY, scopes[COUNTY])


def _version_of(engine: DuckEngine, policies: Policies, key: str) -> ScorecardVersion:
    query = "SELECT town_code FROM core_household_grades WHERE household_key = $key"
    [(town_code,)] = engine.fetch(query, {"key": key})
    return scorecard_of(policies, town_code)


def graded_of(engine: DuckEngine, key: str) -> Graded:
    """How a household of the month in the engine is graded."""
    columns = "score, computed_grade, effective_grade, hold_reason, veto_ids, input_state"
    [row] = engine.fetch(f"SELECT {columns} FROM core_household_grades WHERE household_key = $key", {"key": key})
    return Graded(*row)


def _points(engine: DuckEngine, key: str) -> dict[str, Decimal]:
    query = "SELECT CAST(indicator AS VARCHAR), points FROM core_household_points WHERE household_key = $key"
    return dict(engine.fetch(query, {"key": key}))


def _values(engine: DuckEngine, key: str) -> dict[str, str | None]:
    query = "SELECT CAST(indicator AS VARCHAR), value_text FROM core_household_points WHERE household_key = $key"
    return dict(engine.fetch(query, {"key": key}))


def _next_grade(version: ScorecardVersion, now: Graded) -> str | None:
    """The grade above the better of the computed one and the one in effect; None above the best and without any."""
    order = [cut.grade for cut in version.grades]
    ranks = [order.index(grade) for grade in order if grade in (now.computed_grade, now.effective_grade)]
    return order[min(ranks) - 1] if ranks and min(ranks) > 0 else None


# -- what could be changed --------------------------------------------------------------------------------------------


def _options(
    version: ScorecardVersion, guide: Guide, points: Mapping[str, Decimal], values: Mapping[str, str | None]
) -> dict[str, list[Step]]:
    """Indicator -> its better bands, the nearest first; only what is advisable and has a way to act on."""
    found = {
        indicator.id: _better(indicator, points[indicator.id], values[indicator.id])
        for indicator in version.indicators
        if indicator.advisable and guide.of(indicator.id).advice
    }
    return {name: steps for name, steps in found.items() if steps}


def _better(indicator: Indicator, points: Decimal, value: str | None) -> list[Step]:
    better = sorted((band for band in indicator.bands if band.gives > points), key=lambda band: band.gives)
    levels = sorted({band.gives for band in better})
    bounds = [(band, _nearest_bound(band, value)) for band in better]
    return [Step(indicator.id, bound, levels.index(band.gives) + 1) for band, bound in bounds if bound is not None]


def _nearest_bound(band: Band, value: str | None) -> Decimal | None:
    """The value of the band nearest to the present one; None for categories and for the rest of all values."""
    if band.at_most is not None:
        return band.at_most
    comes_from_above = band.at_least is None or (value is not None and Decimal(value) >= band.at_least)
    return band.below - SMALLEST if band.below is not None and comes_from_above else band.at_least


def _plans(options: Mapping[str, Sequence[Step]]) -> list[tuple[Step, ...]]:
    """Every choice of up to MOST_CHANGES steps, the cheapest first."""
    sizes = range(1, min(MOST_CHANGES, len(options)) + 1)
    choices = [
        steps
        for size in sizes
        for names in combinations(options, size)
        for steps in product(*(options[name] for name in names))
    ]
    return sorted(choices, key=lambda steps: (len(steps), sum(step.levels for step in steps)))


# -- twins ------------------------------------------------------------------------------------------------------------


def _advised(guide: Guide) -> list[str]:
    """Indicators with an advice, in the order in which their facts follow each other."""
    return [name for name, guidance in guide.indicators.items() if guidance.advice]


def _put_twins(
    engine: DuckEngine,
    guide: Guide,
    household_key: str,
    plans: Sequence[tuple[Step, ...]],
    statements: Sequence[Statement],
) -> list[str]:
    """Put one twin for each plan in the household's place, in all that the statements read; returns their keys."""
    keys = [f"twin-{number:06d}" for number in range(len(plans))]
    engine.register_arrow(TWINS, _twins_table(keys, plans, _advised(guide)))
    _multiply(engine, _read_by(statements), household_key)
    return keys


def _twins_table(keys: Sequence[str], plans: Sequence[tuple[Step, ...]], advised: Sequence[str]) -> pa.Table:
    """household_key of each twin, and per indicator the bound it is brought to (null: left as it is)."""
    bounds = [{step.indicator: step.bound for step in steps} for steps in plans]
    columns = {f"advice_{name}": pa.array([one.get(name) for one in bounds], pa.decimal128(18, 2)) for name in advised}
    return pa.table({"household_key": pa.array(keys, pa.string()), **columns})


def _with_facts(features: Model, guide: Guide, advised: Sequence[str]) -> Model:
    """The features with the facts of each twin: one advice after the other, each over what the former left.

    It stays the one SELECT it is, with other expressions: what compiles the features reads them as before.
    """
    query = parse(features.sql).copy()
    if not isinstance(query, exp.Select):
        raise ConfigurationError(features.path, FEATURES, "is not one SELECT", "put what is united into a WITH")
    held: dict[str, exp.Expr] = {column.alias_or_name: column.unalias() for column in query.selects}
    for name in advised:
        advice = guide.of(name).advice
        facts = advice.facts if advice else {}
        held |= {column: _followed(name, column, facts[column], held) for column in facts}
    query.set("expressions", [exp.alias_(expression, column) for column, expression in held.items()])
    on = f"{_TWIN}.{KEY} = {held[KEY].sql(dialect=DIALECT)}"
    joined = query.join(f"{TWINS} AS {_TWIN}", on=on, join_type="left", dialect=DIALECT)
    return replace(features, sql=joined.sql(dialect=DIALECT))


def _followed(name: str, column: str, fact: str, held: Mapping[str, exp.Expr]) -> exp.Expr:
    """A fact as the twin that follows an advice has it, and as it was for the others."""
    if column not in held:
        key = f"indicators.{name}.advice.facts.{column}"
        raise ConfigurationError("config/explain.yml", key, f"{FEATURES} has no such column", "correct the name")
    bound = f"{_TWIN}.advice_{name}"
    after = f"CASE WHEN {bound} IS NULL THEN {column} ELSE {fact.replace('$bound', bound)} END"
    return sqlglot.parse_one(after, dialect=DIALECT).transform(_as_selected, held)


def _as_selected(node: exp.Expr, held: Mapping[str, exp.Expr]) -> exp.Expr:
    is_fact = isinstance(node, exp.Column) and not node.table and node.name in held
    return exp.paren(held[node.name].copy()) if is_fact else node


def _read_by(statements: Sequence[Statement]) -> set[str]:
    made = {statement.name for statement in statements} | {TWINS}
    return {table for statement in statements for table in tables_read(parse(statement.sql))} - made


def _multiply(engine: DuckEngine, relations: set[str], household_key: str) -> None:
    """Leave in each relation about households only this one's rows, once per twin, and those of the one it came from."""
    query = "SELECT former_household_key FROM core_households WHERE household_key = $key"
    [(former,)] = engine.fetch(query, {"key": household_key})
    keyed = "SELECT DISTINCT table_name FROM information_schema.columns WHERE column_name = 'household_key'"
    for (name,) in engine.fetch(keyed):
        if name in relations:
            engine.run_model(
                name,
                f"SELECT r.* REPLACE (t.household_key AS household_key) FROM {name} AS r CROSS JOIN {TWINS} AS t "
                f"WHERE r.household_key = $key UNION ALL SELECT * FROM {name} WHERE household_key = $former",
                {"key": household_key, "former": former},
            )


# -- what came of it --------------------------------------------------------------------------------------------------


def _first_reaching(
    engine: DuckEngine, version: ScorecardVersion, target: str, plans: Mapping[str, tuple[Step, ...]]
) -> tuple[str, tuple[Step, ...]] | None:
    """The cheapest plan whose twin has the target or better, with nothing that holds it back but its notice."""
    order = [cut.grade for cut in version.grades]
    wanted = order[: order.index(target) + 1] if target in order else []
    free = f"coalesce(hold_reason, '{AWAITING_NOTICE}') = '{AWAITING_NOTICE}'"
    grades = dict(engine.fetch(f"SELECT household_key, computed_grade FROM core_household_grades WHERE {free}"))
    return next(((key, steps) for key, steps in plans.items() if grades.get(key) in wanted), None)


def _why_not(best: Graded) -> Outcome:
    if best.hold_reason not in (None, AWAITING_NOTICE) or best.input_state != "complete":
        return "on_hold"
    return "vetoed" if best.veto_ids else "out_of_reach"
