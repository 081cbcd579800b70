"""Every DAG file keeps the house rules: thin, documented, owned, alerting, and inert while it is parsed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"
FILES = sorted(DAGS.glob("*.py"))
DAG_FILES = [file for file in FILES if not file.stem.startswith("_")]
HEAVY = {"pandas", "numpy", "duckdb", "pyarrow", "great_expectations", "sqlglot", "pyiceberg", "adbc_driver_postgresql"}
LINES = 80
FUNCTION_LINES = 30

# The whole graph at a glance. `·` stands for "ends here".
GRAPH = """
credit_grades      PartitionedAssetTimetable[month_ready]  grade[graded] → ·
household_records  CronPartitionTimetable                  announce[month_ready] → ·
household_records  CronPartitionTimetable                  pull[delivered] → announce
housekeeping       CronTriggerTimetable                    announce[month_ready] → ·
housekeeping       CronTriggerTimetable                    bring_to_an_end[delivered] → watch_deadlines
housekeeping       CronTriggerTimetable                    hand_on_again → ·
housekeeping       CronTriggerTimetable                    look_for_stuck → hand_on_again
housekeeping       CronTriggerTimetable                    watch_deadlines → announce
intake             CronTriggerTimetable                    hand_on → ·
intake             CronTriggerTimetable                    scan[delivered] → hand_on
mediation_logs     CronPartitionTimetable                  announce[month_ready] → ·
mediation_logs     CronPartitionTimetable                  collect[delivered] → announce
release            PartitionedAssetTimetable[graded]       announce[month_ready] → ·
release            PartitionedAssetTimetable[graded]       publish[released] → announce
replay             NullTimetable                           compute_again → ·
submissions        NullTimetable                           announce[month_ready] → ·
submissions        NullTimetable                           take_in[delivered] → announce
village_life       CronPartitionTimetable                  announce[month_ready] → ·
village_life       CronPartitionTimetable                  collect[delivered] → announce
what_if            NullTimetable                           try_policy → ·
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What importing all DAG files in a fresh interpreter did and made."""
    home = tmp_path_factory.mktemp("airflow_home")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CREDITVILLAGE"))}
    env |= {"AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT)}
    program = [sys.executable, str(Path(__file__).with_name("facts.py")), str(DAGS)]
    done = subprocess.run(program, env=env, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def dags(facts: dict[str, Any]) -> dict[str, Any]:
    """dag id → facts."""
    return {dag_id: dag for found in facts["dags"].values() for dag_id, dag in found.items()}


@pytest.fixture(scope="module")
def tasks(dags: dict[str, Any]) -> dict[str, Any]:
    """dag id.task id → facts."""
    return {f"{dag_id}.{task_id}": task for dag_id, dag in dags.items() for task_id, task in dag["tasks"].items()}


def test_each_file_makes_the_one_dag_it_is_named_after(facts: dict[str, Any]) -> None:
    made = {stem: list(found) for stem, found in facts["dags"].items()}
    assert made == {file.stem: [] if file.stem.startswith("_") else [file.stem] for file in FILES}


def test_parsing_imports_nothing_heavy(facts: dict[str, Any]) -> None:
    assert HEAVY & {name.partition(".")[0] for name in facts["loaded"]} == set()


def test_parsing_loads_nothing_of_ours(facts: dict[str, Any]) -> None:
    assert [name for name in facts["loaded"] if name.partition(".")[0] in {"etl", "simulator"}] == []


def test_parsing_reads_no_file_and_opens_no_connection(facts: dict[str, Any]) -> None:
    ours = [what for event, what in facts["touched"] if event != "open" or _is_read(Path(what))]
    assert ours == []


def _is_read(path: Path) -> bool:
    """Whether opening this is more than importing a module: package data and time zones do not count."""
    is_module = path.suffix in {".py", ".so"} or "__pycache__" in path.parts
    return not is_module and not {"site-packages", "zoneinfo"} & set(path.parts)


@pytest.mark.parametrize("file", DAG_FILES, ids=lambda file: file.stem)
def test_file_is_thin(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < LINES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_functions_are_short(file: Path) -> None:
    functions = [
        node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    ]
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_pipeline_is_imported_inside_tasks_only(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    at_parse = {name for node in tree.body for name in _imported(node)}
    anywhere = {name for node in ast.walk(tree) for name in _imported(node)}
    assert at_parse <= {"__future__", "_shared", "airflow", "collections", "datetime", "logging", "typing"}
    assert HEAVY & anywhere == set()


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {str(node.module).partition(".")[0]}
    return {alias.name.partition(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()


def test_every_dag_is_tagged_and_documented_in_both_languages(dags: dict[str, Any]) -> None:
    for dag_id, dag in dags.items():
        assert dag["tags"], dag_id
        assert f"### {dag_id}" in dag["doc"], dag_id
        assert "**Clear or re-run?**" in dag["doc"], dag_id
        assert any("\u4e00" <= letter <= "\u9fff" for letter in dag["doc"]), dag_id


def test_every_task_is_owned_and_alerts(tasks: dict[str, Any]) -> None:
    for name, task in tasks.items():
        assert task["owner"] == "creditvillage", name
        assert task["has_alert"], name
        assert task["has_retry_policy"], name
        assert task["retries"] > 0, name


def test_no_task_waits_for_a_pool_that_nobody_makes(tasks: dict[str, Any]) -> None:
    assert {task["pool"] for task in tasks.values()} == {"default_pool"}


def test_a_new_dag_waits_for_its_first_tick(dags: dict[str, Any]) -> None:
    """With a start date, a cron DAG would run for the current month as soon as it is parsed."""
    for dag_id, dag in dags.items():
        assert dag["start_date"] is None, dag_id
        assert dag["catchup"] is False, dag_id


def test_connections_are_retried_and_data_are_not(facts: dict[str, Any]) -> None:
    connections = {"ConnectionError": "retry", "OperationalError": "retry", "psycopg": "retry"}
    assert facts["retry"] == connections | {"DataError": "fail", "bug": "fail"}


def test_graph(dags: dict[str, Any]) -> None:
    assert sorted(_edges(dags)) == sorted(GRAPH.strip().splitlines())


def _edges(dags: dict[str, Any]) -> list[str]:
    lines = []
    for dag_id, dag in dags.items():
        schedule = dag["schedule"] + _named(dag["assets"])
        for task_id, task in dag["tasks"].items():
            for after in task["downstream"] or ["·"]:
                lines.append(f"{dag_id:18} {schedule:39} {task_id}{_named(task['outlets'])} → {after}")
    return lines


def _named(assets: list[str]) -> str:
    return f"[{', '.join(assets)}]" if assets else ""
