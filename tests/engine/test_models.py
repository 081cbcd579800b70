"""Models: found by name over an overlay, ordered by what they read, wrapped in their contract, linted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from etl.engine.dialect import lint
from etl.engine.duck import DuckEngine
from etl.engine.models import lint_models, load_models, order, wrap
from etl.settings import PROJECT_ROOT
from etl.vocabulary import ConfigurationError


def write(root: Path, **files: str) -> Path:
    for name, sql in files.items():
        layer, _, stem = name.partition("__")
        path = root / layer / f"{stem}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql, encoding="utf-8")
    return root


@dataclass(frozen=True)
class Column:
    name: str
    type: str


@dataclass(frozen=True)
class Contract:
    key: tuple[str, ...]
    published: tuple[Column, ...]


def test_models_come_after_what_they_read(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        core__core_loans="SELECT * FROM accepted_loans",
        marts__mart_a="WITH notes AS (SELECT * FROM core_loans) SELECT * FROM notes JOIN core_people USING (k)",
        core__core_people="SELECT k FROM accepted_members WHERE k IN (SELECT k FROM core_loans);\n",
        indicators__unrelated="SELECT 1 AS x",
    )
    models = load_models([root])
    assert [model.name for model in order(models, ["mart_a"])] == ["core_loans", "core_people", "mart_a"]
    assert [model.name for model in order(models)] == ["core_loans", "unrelated", "core_people", "mart_a"]
    assert models["core_people"].depends == {"accepted_members", "core_loans"}
    assert (models["mart_a"].layer, models["core_people"].sql[-1]) == ("marts", ")")


def test_the_first_tree_of_the_overlay_wins(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours", core__core_loans="SELECT 1 AS x", core__core_more="SELECT 2 AS x")
    theirs = write(tmp_path / "theirs", core__core_loans="SELECT 3 AS x")
    models = load_models([theirs, ours])
    assert {name: model.sql for name, model in models.items()} == {
        "core_loans": "SELECT 3 AS x",
        "core_more": "SELECT 2 AS x",
    }


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"core__a": "SELECT * FROM b", "core__b": "SELECT * FROM a"}, "circle"),
        ({"core__a": "SELECT 1; SELECT 2"}, "more or less than one SELECT"),
        ({"core__a": "DELETE FROM b"}, "more or less than one SELECT"),
        ({"core__a": "SELEC 1"}, "a.sql"),
        ({"core__a": "SELECT 1 AS x", "marts__a": "SELECT 1 AS x"}, "the name is taken"),
    ],
)
def test_what_cannot_be_ordered_is_refused_by_name(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        order(load_models([write(tmp_path, **files)]))


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="mart_b: no such model"):
        order(load_models([write(tmp_path, marts__mart_a="SELECT 1 AS x")]), ["mart_b"])


def test_a_wrapped_model_has_the_contracts_types_and_order(tmp_path: Path) -> None:
    root = write(tmp_path, core__core_x="SELECT * FROM (VALUES ('b', 2, 9), ('a', 1, 8)) AS v (k, amount, spare)")
    contract = Contract(key=("k",), published=(Column("amount", "decimal(18,2)"), Column("k", "text")))
    with DuckEngine() as engine:
        engine.run_model("core_x", wrap(load_models([root])["core_x"], contract))
        assert [(str(amount), k) for amount, k in engine.fetch("SELECT * FROM core_x")] == [
            ("1.00", "a"),
            ("2.00", "b"),
        ]


REFUSED = [
    ("SELECT avg(x) FROM t", "avg()"),
    ("SELECT mean(x) FROM t", "mean()"),
    ("SELECT median(x) FROM t", "median()"),
    ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM t", "percentile_cont()"),
    ("SELECT quantile_cont(x, 0.5) FROM t", "percentile_cont()"),
    ("SELECT quantile_disc(x, 0.5) FROM t", "percentile_disc()"),
    ("SELECT a / b FROM t", "division `/`"),
    ("SELECT date_trunc('month', d) FROM t", "date_trunc()"),
    ("SELECT d + INTERVAL 1 MONTH FROM t", "date ± interval"),
    ("SELECT date_diff('month', a, b) FROM t", "date_diff()"),
    ("SELECT dayofweek(d) FROM t", "dayofweek()"),
    ("SELECT extract(dow FROM d) FROM t", "weekday"),
    ("SELECT date_part('week', d) FROM t", "weekday"),
    ("SELECT hash(x) FROM t", "hash()"),
    ("SELECT regexp_replace(x, 'a', 'b') FROM t", "regexp_replace() without 'g'"),
    ("SELECT list(x ORDER BY x) FROM t", "list(x ORDER BY x)"),
    ("SELECT list(x) FROM t", "list() outside"),
    ("SELECT string_agg(x, ',') FROM t", "string_agg() without"),
    ("SELECT TRY_CAST(x AS INTEGER) FROM t", "TRY_CAST to INT"),
    ("SELECT TRY_CAST(x AS DATE) FROM t", "TRY_CAST to DATE"),
    ("SELECT CASE WHEN a > 1 THEN TRY_CAST(x AS DECIMAL(18, 2)) END FROM t", "TRY_CAST to DECIMAL"),
    ("SELECT CAST(x AS DOUBLE) FROM t", "type DOUBLE"),
    ("SELECT x::FLOAT FROM t", "type FLOAT"),
    ("SELECT x * 1e-2 FROM t", "literal 1e-2"),
    ("SELECT any_value(x) FROM t", "any_value()"),
    ("SELECT max_by(x, y) FROM t", "by one column"),
    ("SELECT first(x) FROM t", "first()"),
    ("SELECT row_number() OVER (PARTITION BY x) FROM t", "without ORDER BY"),
    ("SELECT x FROM t LIMIT 3", "LIMIT without ORDER BY"),
    ("SELECT current_date", "current_date"),
    ("SELECT now()", "now()"),
    ("SELECT random()", "random()"),
    ("SELECT * FROM read_parquet('x.parquet')", "read_parquet()"),
    ("WITH t AS (SELECT * FROM s.t) SELECT * FROM t", "CTE t named as a table"),
    ("WITH core_loans AS (SELECT * FROM x) SELECT * FROM core_loans", "CTE core_loans named as a table"),
    ("SELECT 1; SELECT 2", "more or less than one SELECT"),
    ("CREATE TABLE x AS SELECT 1", "more or less than one SELECT"),
]
ALLOWED = [
    "SELECT CASE WHEN regexp_full_match(x, '^[0-9]{1,9}$') THEN TRY_CAST(x AS INTEGER) END AS n FROM t",
    "SELECT CAST(d - INTERVAL 12 MONTH AS DATE) AS d, d + 3 AS e, date_diff('day', a, b) AS n FROM t",
    "SELECT list_sort(list(x)) AS xs, string_agg(x, ',' ORDER BY x) AS s, max_by(x, (y, x)) AS m FROM t",
    "SELECT a * 100 // nullif(b, 0) AS pct, round(CAST(a AS DECIMAL(18, 4)), 2) AS r, a % b AS rest FROM t",
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b, c) AS n, sum(x) OVER (PARTITION BY a) AS s FROM t",
    "SELECT regexp_replace(x, '[ -]', '', 'g') AS x, map(['a'], ['b'])[x] AS y FROM t WHERE x LIKE $like",
    "SELECT x FROM t QUALIFY row_number() OVER (PARTITION BY x ORDER BY y, z) = 1 ORDER BY x LIMIT 3",
    "WITH notes AS (SELECT * FROM core_loans) SELECT * FROM notes ANTI JOIN other USING (k) UNION ALL SELECT 1",
    "SELECT 0.35 AS share, count(*) FILTER (WHERE is_overdue) AS n, first_value(x) OVER (ORDER BY y) AS f FROM t",
]


@pytest.mark.parametrize(("sql", "construct"), REFUSED)
def test_the_lint_names_what_engines_disagree_on(sql: str, construct: str) -> None:
    problems = lint(sql, ["core_loans"])
    assert [problem for problem in problems if construct in problem], problems


@pytest.mark.parametrize("sql", ALLOWED)
def test_the_lint_lets_the_safe_dialect_pass(sql: str) -> None:
    assert lint(sql, ["core_loans"]) == []


def test_a_problem_is_told_with_its_file(tmp_path: Path) -> None:
    root = write(tmp_path, core__core_x="SELECT a / b AS share FROM accepted_x")
    [problem] = lint_models(load_models([root]))
    assert problem.startswith(f"{root}/core/core_x.sql: division `/`: ")


def test_every_model_of_the_project_keeps_to_the_dialect() -> None:
    assert lint_models(load_models([PROJECT_ROOT / "sql"])) == []
