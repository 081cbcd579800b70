"""What is graded in the benchmark is a whole county: every indicator has values, every household a grade or a reason."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from benchmarks import grading

HOUSEHOLDS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("grading")
    grading.write_core(made, HOUSEHOLDS)
    return made


def test_the_floor_writes_every_row_again(folder: Path, tmp_path: Path) -> None:
    said = grading.rewrite(folder, tmp_path)
    given = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{folder}/core/core_*/*.parquet', union_by_name = true)"
    ).fetchall()
    written = duckdb.sql(
        f"SELECT count(*) FROM read_parquet('{tmp_path}/core_*.parquet', union_by_name = true)"
    ).fetchall()
    assert given == written == [(said["rows"],)]


def test_no_indicator_is_cheap_for_want_of_values(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITVILLAGE_HOME", str(tmp_path / "home"))
    said = grading.run(folder, tmp_path)
    grades = f"'{tmp_path}/core_household_grades.parquet'"
    [(rated,)] = duckdb.sql(f"SELECT count(computed_grade) FROM {grades}").fetchall()
    assert said["core_household_grades"] == HOUSEHOLDS
    assert said["core_household_points"] % rated == 0
    assert rated > HOUSEHOLDS * 0.9
    common = duckdb.sql(
        f"SELECT indicator FROM '{tmp_path}/core_household_points.parquet' GROUP BY indicator "
        "HAVING count(*) FILTER (WHERE state = 'present') * 2 > count(*)"
    ).fetchall()
    assert len(common) >= 12
