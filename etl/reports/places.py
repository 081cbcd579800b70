"""Why a place (a village, a town) has its grade: the shares behind it, every condition, and what would lift it.

All is read from the published counts. Conditions and grades are what the policy's own statements say of them, also of
twins: the place once more, with as many more credited households, say, as may do. What is told is the smallest number that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal

import pyarrow as pa

from etl.engine.duck import DuckEngine, identifier
from etl.engine.models import Model
from etl.grading.card import columns_of
from etl.grading.policy import COUNTY, Policies, ShareCondition, ShareVersion
from etl.grading.shares import conditions_sql, features_of, share_grades_sql
from etl.reports.explain_guide import Guide, ShareGuidance
from etl.reports.peers import Group, Quartiles, place_group, share_quartiles
from etl.reports.told import Told
from etl.vocabulary import ConfigurationError, DataError

_WIDTH: Final = 1_000
_TRIED: Final = "tried_counts"
_PUBLISHED: Final = "published_counts"
_VILLAGES: Final = """
    SELECT village_code, village_grade, not_rated_reason FROM core_village_grades WHERE town_code = $code ORDER BY village_code"""
Outcome = Literal["found", "best_grade", "not_rated", "out_of_reach", "past"]
Counts = Mapping[str, int]  # share -> how many more, or how much less


@dataclass(frozen=True)
class Criterion:
    """One condition of one grade, and whether the place meets it. `short_by`: the smallest number that would meet it, in the
    unit its guidance names; 0 where it is met, None where none would."""

    grade: str
    share: str
    condition: ShareCondition
    numerator: Decimal
    denominator: Decimal
    is_met: bool
    short_by: int | None


@dataclass(frozen=True)
class PlaceAdvice:
    """What lifts a place to the next grade: `steps` by share, and the grade that the policy then gives."""

    outcome: Outcome
    target: str | None = None
    steps: Counts | None = None
    grade_after: str | None = None


@dataclass(frozen=True)
class PlaceExplanation:
    """One grade of one place in one month, with everything that may be said of it; `etl.reports.explain_place` says to whom."""

    told: Told
    guide: Guide
    place: str
    code: str
    row: Mapping[str, Any]
    version: ShareVersion
    criteria: Sequence[Criterion]
    advice: PlaceAdvice
    group: Group | None
    quartiles: Mapping[str, Quartiles]
    villages: Sequence[Mapping[str, Any]]

    @property
    def grade(self) -> str | None:
        grade: str | None = self.row[f"{self.place}_grade"]
        return grade

    @property
    def policy(self) -> str:
        """Name and version of the policy, as clauses name it."""
        return f"{self.place} {self.version.version}"


def place_explanation(told: Told, guide: Guide, place: str, code: str) -> PlaceExplanation:
    """Read the grade of a place in a month as it is told, and look for what would lift it; of a past state nothing is sought.

    Raises DataError for a code nobody of the month has, and grades of a policy that is no longer in force for the month;
    ConfigurationError for a share over counts that are not published, or guidance that does not fit the features.
    """
    policies = told.inputs.policies
    with told.ws.engine() as engine:
        told.register(engine, *dict.fromkeys((f"core_{place}_grades", "core_village_grades")))
        row = _row(engine, told, place, code)
        scopes = policies.shares[place]
        version = scopes.get(row["town_code"] or COUNTY, scopes[COUNTY])
        _require_policy(version, place, row, told.period)
        twins = Twins(engine, policies, version, told.ws.models, guide.shares.get(place, {}), place, code)
        criteria = criteria_of(twins)
        group = place_group(engine, place, row["town_code"])
        return PlaceExplanation(
            told=told, guide=guide, place=place, code=code, row=row, version=version, criteria=criteria,
            advice=PlaceAdvice("past") if told.known else advice_of(twins, row, criteria),
            group=group, quartiles=_quartiles(engine, group, place, code, version),
            villages=engine.arrow(_VILLAGES, {"code": code}).to_pylist() if place == "town" else [],
        )  # fmt: skip


def _row(engine: DuckEngine, told: Told, place: str, code: str) -> dict[str, Any]:
    table = engine.arrow(f"SELECT * FROM core_{place}_grades WHERE {place}_code = $code", {"code": code})
    if table.num_rows == 0:
        raise DataError(
            f"{told.period}: no {place} {code} is graded", "check the code in config/places.csv and the month"
        )
    [row] = table.to_pylist()
    return dict(row)


def _require_policy(version: ShareVersion, place: str, row: Mapping[str, Any], period: str) -> None:
    if row["policy_version"] != version.version:
        raise DataError(
            f"{period}: graded under {place} policy {row['policy_version']}, {version.version} is in force now",
            f"grade it again: creditvillage run --period {period}",
        )


# -- twins ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Twins:
    """The place with other counts, judged by the statements of its policy's `version`, whatever scope that has.

    `engine` holds `core_<place>_grades`; `guidance` says by share what its $count changes. Raises ConfigurationError for a
    share over counts that are not published there, or guidance about a column there is not.
    """

    engine: DuckEngine
    in_force: Policies
    version: ShareVersion
    models: Mapping[str, Model]
    guidance: Mapping[str, ShareGuidance]
    place: str
    code: str

    def __post_init__(self) -> None:
        self._publish()

    @property
    def policies(self) -> Policies:
        """The policies with this version alone: a twin does not bear the code by which its scope would be known."""
        return replace(self.in_force, in_force={**self.in_force.in_force, self.place: {COUNTY: self.version}})

    def conditions(self, tried: Sequence[Counts]) -> dict[tuple[int, str, int], tuple[str, Decimal, Decimal, bool]]:
        """(twin, grade, number of the condition) -> share, numerator, denominator, whether it is met."""
        self._put(tried)
        rows = self.engine.fetch(conditions_sql(self.policies, self.place))
        return {
            (int(twin), grade, number): (share, over, under, is_met)
            for twin, grade, number, share, over, under, is_met in rows
        }

    def grade(self, tried: Counts) -> str | None:
        """The grade of one twin."""
        self._put([tried])
        grades = share_grades_sql(self.policies, self.place, self.models)
        self.engine.run_model("twin_grades", grades, {"period": str(self.policies.period)})
        [(grade,)] = self.engine.fetch(f"SELECT {self.place}_grade FROM twin_grades")
        return str(grade) if grade is not None else None

    def most(self, share: str) -> int:
        """The largest number that makes sense of a share; 0 where nothing is known of how it rises."""
        if share not in self.guidance:
            return 0
        self._put([{}])
        [(most,)] = self.engine.fetch(f"SELECT {self.guidance[share].most} FROM {features_of(self.place)}")
        return int(most)

    def _put(self, tried: Sequence[Counts]) -> None:
        """Make the features hold one row for each twin, under its number as its code."""
        self._register(tried)
        features = features_of(self.place)
        joined = f"SELECT p.* REPLACE (t.code AS {self.place}_code) FROM {_PUBLISHED} AS p CROSS JOIN {_TRIED} AS t"
        self.engine.run_model(features, joined)
        for share, guidance in self.guidance.items():
            if any(share in counts for counts in tried):
                changed = ", ".join(
                    f"{_after(share, fact, column)} AS {column}" for column, fact in guidance.facts.items()
                )
                on = f"ON t.code = f.{self.place}_code"
                self.engine.run_model(
                    features, f"SELECT f.* REPLACE ({changed}) FROM {features} AS f INNER JOIN {_TRIED} AS t {on}"
                )

    def _register(self, tried: Sequence[Counts]) -> None:
        codes = pa.array([str(number) for number in range(len(tried))], pa.string())
        counts = {f"count_{share}": pa.array([one.get(share) for one in tried], pa.int64()) for share in self.guidance}
        self.engine.register_arrow(_TRIED, pa.table({"code": codes, **counts}))

    def _publish(self) -> None:
        """The features of the place as far as they are published; nothing else is needed, or it is refused."""
        grades = f"core_{self.place}_grades"
        published = set(self.engine.columns(grades))
        wanted = columns_of(self.models, features_of(self.place), self.policies.files[self.place])
        self._require_published(published)
        self._require_columns(wanted)
        columns = ", ".join(
            identifier(name) if name in published else f"CAST(NULL AS BIGINT) AS {identifier(name)}"
            for name in sorted(wanted)
        )
        self.engine.run_model(
            _PUBLISHED, f"SELECT {columns} FROM {grades} WHERE {self.place}_code = $code", {"code": self.code}
        )

    def _require_published(self, published: set[str]) -> None:
        for name, share in self.version.shares.items():
            for column in {share.numerator, share.denominator} - published:
                path, mend = self.in_force.files[self.place], f"add it to expectations/core_{self.place}_grades.yml"
                raise ConfigurationError(path, f"shares.{name}", f"{column} is not published", mend)

    def _require_columns(self, known: frozenset[str]) -> None:
        for name, guidance in self.guidance.items():
            for column in guidance.facts.keys() - known:
                key, problem = f"shares.{self.place}.{name}.facts.{column}", "the features have no such column"
                raise ConfigurationError("config/explain.yml", key, problem, "correct the name")


def _after(share: str, fact: str, column: str) -> str:
    count = f"t.count_{share}"
    return f"CASE WHEN {count} IS NULL THEN {column} ELSE {fact.replace('$count', count)} END"


# -- what is met, and what would be -------------------------------------------------------------------------------------


def criteria_of(twins: Twins) -> list[Criterion]:
    """Every condition of every grade, the best grade first."""
    found = twins.conditions([{}])
    criteria = []
    for grade in twins.version.grades:
        for number, condition in enumerate(grade.all, start=1):
            share, numerator, denominator, is_met = found[0, grade.grade, number]
            short_by = 0 if is_met else _short_by(twins, share, grade.grade, number)
            criteria.append(Criterion(grade.grade, share, condition, numerator, denominator, is_met, short_by))
    return criteria


def _short_by(twins: Twins, share: str, grade: str, number: int) -> int | None:
    def meets(tried: Sequence[int]) -> list[bool]:
        found = twins.conditions([{share: count} for count in tried])
        return [found[twin, grade, number][-1] for twin in range(len(tried))]

    return smallest(meets, twins.most(share))


def smallest(meets: Callable[[Sequence[int]], Sequence[bool]], most: int) -> int | None:
    """The smallest number up to `most` that suffices, where 0 does not and more never does less; None for none.

    >>> smallest(lambda tried: [number >= 7_654_321 for number in tried], 10_000_000)
    7654321
    """
    if most < 1 or not meets([most])[0]:
        return None
    low, high = 0, most
    while high - low > 1:
        tried = [*range(low, high, max(1, (high - low) // _WIDTH))[1:], high]
        place = list(meets(tried)).index(True)
        low, high = (tried[place - 1] if place else low), tried[place]
    return high


def advice_of(twins: Twins, row: Mapping[str, Any], criteria: Sequence[Criterion]) -> PlaceAdvice:
    """All that the next grade lacks, done together, and what the policy says of it."""
    order, now = [grade.grade for grade in twins.version.grades], row[f"{twins.place}_grade"]
    if now is None:
        return PlaceAdvice("not_rated")
    if now == order[0]:
        return PlaceAdvice("best_grade")
    target = order[order.index(now) - 1]
    lacking = [one for one in criteria if one.grade == target and not one.is_met]
    steps = {one.share: one.short_by for one in lacking if one.short_by is not None}
    if len(steps) < len(lacking):
        return PlaceAdvice("out_of_reach", target, steps)
    grade_after = twins.grade(steps)
    is_reached = grade_after in order[: order.index(target) + 1]
    return PlaceAdvice("found" if is_reached else "out_of_reach", target, steps, grade_after)


def _quartiles(
    engine: DuckEngine, group: Group | None, place: str, code: str, version: ShareVersion
) -> dict[str, Quartiles]:
    """Quartiles of each share among the places of the group; none where the place itself has no such share."""
    if group is None:
        return {}
    found = {
        name: share_quartiles(engine, group, code, share.numerator, share.denominator)
        for name, share in version.shares.items()
    }
    return {name: one for name, one in found.items() if one}
