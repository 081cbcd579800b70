"""The statements that turn core tables into grades: for each subject features, peers, scores, points and grades.

Subjects are the policies found; one whose features read another's grades comes after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from etl.engine.models import Model, order
from etl.grading import lifecycle, scorecard, shares
from etl.grading.card import Card, cards_of
from etl.grading.peers import peers_sql, peers_within
from etl.grading.policy import HouseholdVersion, Policies
from etl.vocabulary import ConfigurationError

RESERVED_PARAMETERS = frozenset({"period", "period_start", "period_end", "previous_period_end", "round"})
_PARAMETER = re.compile(r"\$([a-z_][a-z0-9_]*)")


@dataclass(frozen=True)
class Statement:
    """One relation of the plan. `published` ones are core tables with a contract, their SELECT is in key order.

    A `streamed` statement is large and read by no later one: write it straight to its file instead of keeping a table.
    One `is_of_peers` looks at all subjects, also when only some of them are graded.
    """

    name: str
    sql: str
    published: bool = False
    streamed: bool = False
    is_of_peers: bool = False


def grading_plan(policies: Policies, models: Mapping[str, Model], *, notice_days: int = 0) -> list[Statement]:
    """The grading statements in the order in which they run; policy parameters are bound, period parameters are not.

    Raises ConfigurationError for what the policies ask of the SQL and do not find there.
    """
    planned: dict[str, Statement] = {}
    for subject in _subjects(policies, models):
        for statement in _statements(policies, subject, models, notice_days):
            _add(planned, statement, policies.files[subject])
    return [*planned.values(), Statement("policy_credit_line", shares.credit_line_sql(policies.credit_line))]


def _subjects(policies: Policies, models: Mapping[str, Model]) -> list[str]:
    """Everything that is graded, each after those whose scores, points or grades its SQL reads."""
    names = sorted([*policies.scorecards, *policies.shares])
    made = {relation: name for name in names for relation in _made_by(name)}
    graph = {}
    for name in names:
        read = {relation for model in _models_of(policies, name, models) for relation in model.depends}
        graph[name] = sorted({made[relation] for relation in read & made.keys()} - {name})
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise ConfigurationError("policy", circle, "subjects read each other's grades", "break the circle") from None


def _made_by(name: str) -> list[str]:
    return [f"{name}_scores", f"core_{name}_points", f"core_{name}_grades"]


def _models_of(policies: Policies, name: str, models: Mapping[str, Model]) -> list[Model]:
    """The SQL models behind a subject: its features, its indicators' own SQL, its events, and all that these read."""
    if name in policies.shares:
        wanted = {shares.features_of(name)}
    else:
        cards = cards_of(policies, name, models)
        wanted = {relation for card in cards for relation in _relations(card)}
    return order(models, sorted(wanted & models.keys()))


def _relations(card: Card) -> Iterator[str]:
    yield card.features
    if card.unsettled:
        yield card.unsettled
    for indicator in card.version.indicators:
        if indicator.events:
            yield indicator.events.relation
        elif indicator.source == "sql":
            yield indicator.model


def _statements(policies: Policies, subject: str, models: Mapping[str, Model], notice_days: int) -> Iterator[Statement]:
    features = [model for model in _models_of(policies, subject, models) if model.layer == "features"]
    path, everywhere = policies.files[subject], _all_parameters(policies)
    if subject in policies.shares:
        grades = shares.share_grades_sql(policies, subject, models)
        yield from (_bound(Statement(model.name, model.sql), everywhere, path) for model in features)
        yield Statement(f"core_{subject}_grades", grades, published=True)
        return
    cards = cards_of(policies, subject, models)
    is_kept = any(scorecard.keeps_features(card) for card in cards)
    kept = [Statement(model.name, model.sql) for model in features if is_kept or model.name != cards[0].features]
    for card in cards:
        yield from (_bound(one, everywhere | card.version.all_parameters, path) for one in kept)
        yield from _scored(card)
    yield from _merged(cards)
    yield from _graded(cards, notice_days)


def _all_parameters(policies: Policies) -> dict[str, int]:
    """What any policy says of a parameter: features shared by several subjects need it said once."""
    versions = [version for scopes in policies.scorecards.values() for version in scopes.values()]
    return {name: value for version in versions for name, value in version.all_parameters.items()}


def _scored(card: Card) -> Iterator[Statement]:
    """Peers, held points and scores of one version; its parameters are bound."""
    _refuse_reserved(card)
    parts = [
        Statement(card.peers(within), peers_sql(card, within), is_of_peers=True)
        for within in ("town", "village")
        if peers_within(card, within)
    ]
    parts += [
        Statement(card.held, scorecard.held_points_sql(card)),
        Statement(card.scores, scorecard.scores_sql(card)),
    ]
    yield from (_bound(part, card.version.all_parameters, card.path) for part in parts)


def _merged(cards: Sequence[Card]) -> Iterator[Statement]:
    """The points of all versions as one table; where there are several, their scores too."""
    subject, points = cards[0].subject, [scorecard.points_sql(card) for card in cards]
    if len(cards) > 1:
        columns = ", ".join(scorecard.shared_columns(cards[0]))
        union = " UNION ALL ".join(f"SELECT {columns} FROM {card.scores}" for card in cards)
        yield Statement(f"{subject}_scores", union)
        points = [f"SELECT * FROM (\n{_union(points)}\n) AS spread ORDER BY {cards[0].key}, indicator"]
    yield Statement(f"core_{subject}_points", points[0], published=True, streamed=True)


def _graded(cards: Sequence[Card], notice_days: int) -> list[Statement]:
    subject = cards[0].subject
    if subject != "household":
        grades = _each(cards, scorecard.plain_grades_sql)
        return [Statement(f"core_{subject}_grades", f"{grades} ORDER BY {cards[0].key}", published=True)]
    return [
        Statement("deep_falls", _each(cards, lambda card: lifecycle.deep_falls_sql(_household(card), notice_days))),
        Statement(
            "core_household_grades",
            _each(cards, lambda card: lifecycle.grades_sql(_household(card), notice_days)),
            published=True,
        ),
    ]


def _household(card: Card) -> HouseholdVersion:
    if not isinstance(card.version, HouseholdVersion):
        raise ConfigurationError(card.path, "kind", "households need a scorecard", "write kind: scorecard")
    return card.version


def _each(cards: Sequence[Card], compiled: Callable[[Card], str]) -> str:
    """What is compiled for a version, for every version over its own scores."""
    if len(cards) == 1:
        return compiled(cards[0])
    whole = re.compile(rf"\b{cards[0].subject}_scores\b")
    return _union([whole.sub(card.scores, compiled(card)) for card in cards])


def _union(selects: Sequence[str]) -> str:
    return " UNION ALL ".join(f"SELECT * FROM (\n{select}\n) AS part" for select in selects)


def _add(planned: dict[str, Statement], statement: Statement, path: Path) -> None:
    """Features that several subjects read are made once; raises ConfigurationError if a parameter would make them differ."""
    there = planned.setdefault(statement.name, statement)
    if there.sql != statement.sql:
        problem, mend = f"{statement.name} would need two values of a parameter", "give both policies the same"
        raise ConfigurationError(path, "parameters", problem, mend)


def _refuse_reserved(card: Card) -> None:
    for name in sorted(RESERVED_PARAMETERS & card.version.all_parameters.keys()):
        raise ConfigurationError(card.path, f"parameters.{name}", "the name is taken", "rename it")


def _bound(statement: Statement, parameters: Mapping[str, int], path: Path) -> Statement:
    """Policy parameters as literals; raises ConfigurationError for one that nothing gives a value."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name in RESERVED_PARAMETERS:
            return found[0]
        if name not in parameters:
            raise ConfigurationError(
                path, f"parameters.{name}", f"{statement.name} needs it", "give it a value under parameters or coarser"
            )
        return str(parameters[name])

    return replace(statement, sql=_PARAMETER.sub(value, statement.sql))
