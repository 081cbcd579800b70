"""Gates: how a graded month is measured against the one it takes the place of, and which bounds hold it back.

Measured are relations of these names: `gate_after` and `gate_before` (household_key, town_code, village_code,
effective_grade, score, input_state), `gate_after_banks` and `gate_before_banks` (bank_code, household_key: who has notes
where), `gate_register` (household_key, town_code) and `gate_villages` (village_code, registered_households). An empty
`gate_before` stands for a first release: what compares is not judged. All figures are exact; nothing is divided to be judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from etl.engine.base import Engine
from etl.grading.stability import score_stability, stability_index
from etl.registry import Gates, LowerBounds, UpperBounds
from etl.vocabulary import GRADES, VERDICTS

OVERALL, TOWN, BANK = "overall", "town", "bank"
NOT_RATED: Final = "not_rated"
_PLACES = Decimal("0.0001")
Group = tuple[str, str]  # kind, code
_GROUPS = """
SELECT 'overall' AS kind, '' AS code, household_key FROM gate_{side}
UNION ALL SELECT 'town' AS kind, town_code AS code, household_key FROM gate_{side} WHERE town_code IS NOT NULL
UNION ALL SELECT 'bank' AS kind, bank_code AS code, household_key FROM gate_{side}_banks
"""
_DISTRIBUTION = """
SELECT m.kind, m.code, g.effective_grade, g.score, g.input_state, count(*) AS households
FROM ({groups}) AS m INNER JOIN gate_{side} AS g ON g.household_key = m.household_key
GROUP BY ALL
"""
_RANK = "list_position([{grades}], {side}.effective_grade)"
_MOVES = """
SELECT m.kind, m.code, count(*) AS households, count(*) FILTER (WHERE abs({after} - {before}) >= 2) AS moved
FROM ({groups}) AS m
INNER JOIN gate_after AS a ON a.household_key = m.household_key
INNER JOIN gate_before AS b ON b.household_key = m.household_key
WHERE a.effective_grade IS NOT NULL AND b.effective_grade IS NOT NULL
GROUP BY m.kind, m.code
"""
_RECONCILED = {
    "register_matched": """
        SELECT (SELECT count(*) FROM gate_register AS r ANTI JOIN gate_after AS a ON a.household_key = r.household_key)
        + (SELECT count(*) FROM gate_after AS a ANTI JOIN gate_register AS r ON r.household_key = a.household_key)
        + (SELECT count(*) - count(DISTINCT household_key) FROM gate_after)
        + (SELECT count(*) - count(DISTINCT household_key) FROM gate_register)
    """,
    "town_sums": """
        SELECT coalesce(sum(abs(coalesce(r.households, 0) - coalesce(a.households, 0))), 0)
        FROM (SELECT town_code, count(*) AS households FROM gate_register GROUP BY town_code) AS r
        FULL JOIN (SELECT town_code, count(*) AS households FROM gate_after GROUP BY town_code) AS a
        ON a.town_code IS NOT DISTINCT FROM r.town_code
    """,
    "village_sums": """
        SELECT coalesce(sum(abs(coalesce(v.registered_households, 0) - coalesce(a.households, 0))), 0)
        FROM gate_villages AS v
        FULL JOIN (SELECT village_code, count(*) AS households FROM gate_after GROUP BY village_code) AS a
        ON a.village_code IS NOT DISTINCT FROM v.village_code
    """,
}


@dataclass(frozen=True)
class Gate:
    """One measure of one group and what its bounds say of it.

    `value` is a share in percent, an index, or a number of differences; None where there is nothing to compare. `bounds`
    are those in force, as told in the report.
    """

    gate: str
    kind: str
    code: str
    households: int
    value: Decimal | None
    bounds: Mapping[str, Decimal]
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """With decimals as text, so that the same figures are the same bytes."""
        texts = {name: str(bound) for name, bound in self.bounds.items()}
        return asdict(self) | {"value": None if self.value is None else str(self.value), "bounds": texts}


def groups_sql(side: str) -> str:
    """SELECT of who belongs to which group (kind, code, household_key) on one side, after or before."""
    return _GROUPS.format(side=side)


def worst(gates: Iterable[Gate]) -> str:
    """The verdict on all of them: a gate that could not be judged holds nobody."""
    return max((gate.verdict for gate in gates), key=VERDICTS.index, default=VERDICTS[0])


def judge(engine: Engine, bounds: Gates) -> list[Gate]:
    """Every gate of the month, in the order of measure and group."""
    after, before = _population(engine, "after"), _population(engine, "before")
    smallest = bounds.minimum_households
    return [
        *_shares("coverage_pct", after, Population.rated, bounds.coverage_pct, (OVERALL, TOWN), smallest),
        *_shares("complete_pct", after, Population.complete, bounds.complete_pct, (OVERALL,), smallest),
        *_moved(engine, bounds.moved_two_grades_pct, smallest),
        *_drift("grade_stability", before, after, _grade_drift, bounds.stability_index, smallest),
        *_drift("score_stability", before, after, _score_drift, bounds.stability_index, smallest),
        *_reconciled(engine),
    ]


@dataclass
class Population:
    """One group of households: how many of which grade, score (rated ones) and state of input."""

    grades: defaultdict[str, int]
    scores: defaultdict[Decimal, int]
    states: defaultdict[str, int]

    @classmethod
    def empty(cls) -> Population:
        return cls(defaultdict(int), defaultdict(int), defaultdict(int))

    @property
    def households(self) -> int:
        return sum(self.grades.values())

    def rated(self) -> int:
        return self.households - self.grades[NOT_RATED]

    def complete(self) -> int:
        return self.states["complete"]


def _population(engine: Engine, side: str) -> dict[Group, Population]:
    found: dict[Group, Population] = defaultdict(Population.empty)
    query = _DISTRIBUTION.format(groups=groups_sql(side), side=side)
    for kind, code, grade, score, state, households in engine.fetch(query):
        group = found[kind, code]
        group.grades[grade or NOT_RATED] += households
        group.states[state] += households
        if score is not None:
            group.scores[score] += households
    return dict(found)


def _shares(
    name: str,
    groups: Mapping[Group, Population],
    part: Callable[[Population], int],
    bounds: LowerBounds,
    kinds: Iterable[str],
    smallest: int,
) -> Iterator[Gate]:
    for (kind, code), group in _ordered(groups):
        if kind not in kinds:
            continue
        households, count = group.households, part(group)
        verdict = _of_share(count, households, bounds) if _is_judged(kind, households, smallest) else "unjudged"
        yield Gate(name, kind, code, households, _percent(count, households), bounds.model_dump(), verdict)


def _of_share(count: int, of: int, bounds: LowerBounds) -> str:
    return (
        "block" if count * 100 < bounds.block_below * of else "warn" if count * 100 < bounds.warn_below * of else "pass"
    )


def _moved(engine: Engine, bounds: UpperBounds, smallest: int) -> Iterator[Gate]:
    """Households whose grade in effect moved two steps or more, of those rated both times."""
    grades = ", ".join(f"'{grade}'" for grade in GRADES)
    after, before = (_RANK.format(grades=grades, side=side) for side in ("a", "b"))
    query = _MOVES.format(groups=groups_sql("after"), after=after, before=before)
    found = {(kind, code): (households, moved) for kind, code, households, moved in engine.fetch(query)}
    for (kind, code), (households, moved) in _ordered(found or {(OVERALL, ""): (0, 0)}):
        is_judged = households > 0 and _is_judged(kind, households, smallest)
        verdict = _of_excess(moved, households, bounds) if is_judged else "unjudged"
        share = _percent(moved, households)
        yield Gate("moved_two_grades_pct", kind, code, households, share, bounds.model_dump(), verdict)


def _of_excess(count: int, of: int, bounds: UpperBounds) -> str:
    return (
        "block" if count * 100 >= bounds.block_from * of else "warn" if count * 100 >= bounds.warn_from * of else "pass"
    )


def _drift(
    name: str,
    before: Mapping[Group, Population],
    after: Mapping[Group, Population],
    measure: Callable[[Population, Population], Decimal | None],
    bounds: UpperBounds,
    smallest: int,
) -> Iterator[Gate]:
    """A group that is new or gone cannot have drifted; a small one drifts by chance."""
    for (kind, code), group in _ordered(after):
        was = before.get((kind, code), Population.empty())
        index, fewest = measure(was, group), min(was.households, group.households)
        is_judged = _is_judged(kind, fewest, smallest)
        verdict = _of_index(index, bounds) if index is not None and is_judged else "unjudged"
        yield Gate(name, kind, code, group.households, index, bounds.model_dump(), verdict)


def _of_index(index: Decimal, bounds: UpperBounds) -> str:
    return "block" if index >= bounds.block_from else "warn" if index >= bounds.warn_from else "pass"


def _grade_drift(before: Population, after: Population) -> Decimal | None:
    return stability_index(before.grades, after.grades)


def _score_drift(before: Population, after: Population) -> Decimal | None:
    return score_stability(before.scores, after.scores)


def _reconciled(engine: Engine) -> Iterator[Gate]:
    """Whoever is in the register is in the grades, once; towns and villages add up. One difference is one too many."""
    [(households,)] = engine.fetch("SELECT count(*) FROM gate_register")
    for name, query in _RECONCILED.items():
        [(differences,)] = engine.fetch(query)
        verdict = "block" if differences else "pass"
        yield Gate(name, OVERALL, "", households, Decimal(int(differences)), {"block_from": Decimal(1)}, verdict)


def _is_judged(kind: str, households: int, smallest: int) -> bool:
    return kind == OVERALL or households >= smallest


def _percent(count: int, of: int) -> Decimal | None:
    """For reading only: gates judge the counts."""
    return (Decimal(count * 100) / of).quantize(_PLACES, ROUND_HALF_EVEN) if of else None


def _ordered(groups: Mapping[Group, Any]) -> list[tuple[Group, Any]]:
    """Overall first, then towns, then banks."""
    kinds = (OVERALL, TOWN, BANK)
    return sorted(groups.items(), key=lambda entry: (kinds.index(entry[0][0]), entry[0][1]))
