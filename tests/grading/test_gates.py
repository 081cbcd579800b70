"""Every gate on both sides of its bound, on populations counted by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import pyarrow as pa
import pytest

from etl.engine.duck import DuckEngine
from etl.grading.gates import Gate, judge, worst
from etl.registry import Gates, LowerBounds, UpperBounds

Household = tuple[str, str | None, int | None, str]  # town, grade, score, state
SCHEMA = pa.schema(
    [("household_key", pa.string()), ("town_code", pa.string()), ("village_code", pa.string()),
     ("effective_grade", pa.string()), ("score", pa.decimal128(7, 2)), ("input_state", pa.string())]
)  # fmt: skip
BOUNDS = Gates(
    minimum_households=10,
    coverage_pct=LowerBounds(warn_below=Decimal(80), block_below=Decimal(60)),
    complete_pct=LowerBounds(warn_below=Decimal(90), block_below=Decimal(50)),
    moved_two_grades_pct=UpperBounds(warn_from=Decimal(10), block_from=Decimal(20)),
)


@pytest.fixture
def engine() -> Iterator[DuckEngine]:
    with DuckEngine() as engine:
        yield engine


def of(
    grade: str | None, count: int, *, town: str = "t1", score: int | None = 70, state: str = "complete"
) -> list[Household]:
    return [(town, grade, score if grade else None, state)] * count


def load(engine: DuckEngine, after: Sequence[Household], before: Sequence[Household] = (), bank: int = 0) -> None:
    """Both months, a register that agrees with the later one, and a bank that the first `bank` households owe to."""
    for side, households in (("after", after), ("before", before)):
        rows = [(f"h{n:03d}", town, f"{town}v", *rest) for n, (town, *rest) in enumerate(households)]
        columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
        columns[4] = tuple(None if score is None else Decimal(score) for score in columns[4])
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        engine.register_arrow(f"gate_{side}", pa.table(arrays, schema=SCHEMA))
        engine.run_model(
            f"gate_{side}_banks",
            f"SELECT 'b1' AS bank_code, household_key FROM gate_{side} WHERE household_key < 'h{bank:03d}'",
        )
    engine.run_model("gate_register", "SELECT household_key, town_code FROM gate_after")
    engine.run_model(
        "gate_villages", "SELECT village_code, count(*) AS registered_households FROM gate_after GROUP BY ALL"
    )


def gate(engine: DuckEngine, name: str, kind: str = "overall", code: str = "", bounds: Gates = BOUNDS) -> Gate:
    [found] = [one for one in judge(engine, bounds) if (one.gate, one.kind, one.code) == (name, kind, code)]
    return found


@pytest.mark.parametrize(("rated", "verdict"), [(100, "pass"), (80, "pass"), (79, "warn"), (60, "warn"), (59, "block")])
def test_coverage(engine: DuckEngine, rated: int, verdict: str) -> None:
    load(engine, of("A", rated) + of(None, 100 - rated))
    found = gate(engine, "coverage_pct")
    assert (found.value, found.verdict, found.households) == (Decimal(rated), verdict, 100)


@pytest.mark.parametrize(("complete", "verdict"), [(90, "pass"), (89, "warn"), (50, "warn"), (49, "block")])
def test_complete_input(engine: DuckEngine, complete: int, verdict: str) -> None:
    load(engine, of("A", complete) + of("A", 100 - complete, state="carried_forward"))
    assert gate(engine, "complete_pct").verdict == verdict


@pytest.mark.parametrize(("moved", "verdict"), [(0, "pass"), (9, "pass"), (10, "warn"), (19, "warn"), (20, "block")])
@pytest.mark.parametrize(("was", "now"), [("AAA", "A"), ("D", "B"), ("A", "D")])
def test_moved_two_grades_up_or_down(engine: DuckEngine, was: str, now: str, moved: int, verdict: str) -> None:
    before = of(was, moved) + of("A", 100 - moved) + of("A", 30) + of(None, 30)
    after = of(now, moved) + of("AA", 100 - moved) + of(None, 30) + of("D", 30)
    load(engine, after, before)
    found = gate(engine, "moved_two_grades_pct")
    assert (found.value, found.households, found.verdict) == (Decimal(moved), 100, verdict)


def test_a_bound_between_two_counts_is_not_rounded(engine: DuckEngine) -> None:
    """One of three is 33.3333… %: above a bound of 33.3333, which four shown places could not tell."""
    load(engine, of("AAA", 1) + of("A", 2), of("A", 3))
    just_below = Gates(moved_two_grades_pct=UpperBounds(warn_from=Decimal("33.33333"), block_from=Decimal(50)))
    just_above = Gates(moved_two_grades_pct=UpperBounds(warn_from=Decimal("33.33334"), block_from=Decimal(50)))
    assert gate(engine, "moved_two_grades_pct", bounds=just_below).verdict == "warn"
    assert gate(engine, "moved_two_grades_pct", bounds=just_above).verdict == "pass"


def stability_from(block_from: str) -> Gates:
    bounds = UpperBounds(warn_from=Decimal("0.1"), block_from=Decimal(block_from))
    return BOUNDS.model_copy(update={"stability_index": bounds})


@pytest.mark.parametrize(("kind", "code"), [("overall", ""), ("town", "t1"), ("bank", "b1")])
def test_drift_of_grades(engine: DuckEngine, kind: str, code: str) -> None:
    """80/20 to 60/40 %: 0.2 * (ln (40/20) - ln (60/80)) = 0.2 * ln (8/3) = 0.2 * 0.980829 = 0.196166."""
    load(engine, of("A", 60) + of("B", 40), of("A", 80) + of("B", 20), bank=100)
    held = gate(engine, "grade_stability", kind, code, stability_from("0.196166"))
    assert (held.value, held.verdict) == (Decimal("0.196166"), "block")
    assert gate(engine, "grade_stability", kind, code, stability_from("0.196167")).verdict == "warn"


def test_not_rated_is_a_grade_of_its_own_for_drift(engine: DuckEngine) -> None:
    load(engine, of("A", 60) + of(None, 40), of("A", 80) + of(None, 20))
    assert gate(engine, "grade_stability").value == Decimal("0.196166")


def test_drift_of_scores_is_over_the_rated(engine: DuckEngine) -> None:
    """Scores 60 and 70 are the only tenths of the earlier month; who is not rated has no score."""
    before = of("A", 80, score=60) + of("A", 20, score=70) + of(None, 50)
    load(engine, of("A", 60, score=55) + of("A", 40, score=65), before)
    assert gate(engine, "score_stability").value == Decimal("0.196166")


def test_a_small_town_is_shown_and_not_judged(engine: DuckEngine) -> None:
    before = of("A", 9, town="t1") + of("A", 10, town="t2") + of("A", 500, town="t3")
    after = of("D", 9, town="t1") + of("D", 10, town="t2") + of("A", 500, town="t3")
    load(engine, after, before)
    for name in ("moved_two_grades_pct", "grade_stability"):
        assert gate(engine, name, "town", "t1").verdict == "unjudged"
        assert gate(engine, name, "town", "t2").verdict == "block"
    assert gate(engine, "moved_two_grades_pct", "town", "t1").value == 100


def test_a_first_release_has_nothing_to_compare_with(engine: DuckEngine) -> None:
    load(engine, of("D", 100), ())
    verdicts = {one.gate: one.verdict for one in judge(engine, BOUNDS) if one.kind == "overall"}
    assert {name for name, verdict in verdicts.items() if verdict == "unjudged"} == {
        "moved_two_grades_pct", "grade_stability", "score_stability"
    }  # fmt: skip
    assert worst(judge(engine, BOUNDS)) == "unjudged"


RECONCILED = ("register_matched", "town_sums", "village_sums")


@pytest.mark.parametrize(
    ("relation", "statement", "found"),
    [
        ("gate_register", "SELECT * FROM {0}", (0, 0, 0)),
        ("gate_register", "SELECT * FROM {0} WHERE household_key <> 'h007'", (1, 1, 0)),
        ("gate_register", "SELECT * FROM {0} UNION ALL SELECT 'h100', 't1'", (1, 1, 0)),
        ("gate_register", "SELECT * FROM {0} UNION ALL SELECT 'h007', 't1'", (1, 1, 0)),
        ("gate_register", "SELECT household_key, 't2' AS town_code FROM {0} WHERE household_key = 'h007' "
         "UNION ALL SELECT * FROM {0} WHERE household_key <> 'h007'", (0, 2, 0)),
        ("gate_after", "SELECT * FROM {0} UNION ALL SELECT * FROM {0} WHERE household_key = 'h007'", (1, 1, 1)),
        ("gate_villages", "SELECT 't1v' AS village_code, 97 AS registered_households", (0, 0, 3)),
        ("gate_villages", "SELECT * FROM {0} UNION ALL SELECT 't2v', 2", (0, 0, 2)),
    ],
)  # fmt: skip
def test_one_household_too_few_or_too_many_holds(
    engine: DuckEngine, relation: str, statement: str, found: tuple[int, ...]
) -> None:
    load(engine, of("A", 100))
    engine.run_model("changed", statement.format(relation))
    engine.run_model(relation, "SELECT * FROM changed")
    gates = [gate(engine, name) for name in RECONCILED]
    assert tuple(one.value for one in gates) == found
    assert [one.verdict for one in gates] == ["block" if differences else "pass" for differences in found]


def test_the_worst_verdict_counts_and_the_order_is_fixed(engine: DuckEngine) -> None:
    load(engine, of("A", 50) + of(None, 50), of("A", 100))
    found = judge(engine, BOUNDS)
    assert worst(found) == "block"
    assert worst(found[:0]) == "pass"
    assert [(one.gate, one.kind, one.code) for one in found] == [
        (one.gate, one.kind, one.code) for one in judge(engine, BOUNDS)
    ]
    assert all(isinstance(value, str) for one in found for value in one.as_json()["bounds"].values())


def test_bounds_that_hold_before_they_warn_are_refused() -> None:
    with pytest.raises(ValueError, match="block_below is above"):
        LowerBounds(warn_below=Decimal(50), block_below=Decimal(60))
    with pytest.raises(ValueError, match="block_from is below"):
        UpperBounds(warn_from=Decimal("0.3"), block_from=Decimal("0.25"))
