"""Run as a program: import every DAG file in a fresh interpreter and print, as JSON, what that did and what it made.

The audit hook sees every file that is opened and every connection and process that is begun during the imports.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators import trigger_dagrun  # noqa: F401 - Airflow's own reading comes before ours
from airflow.sdk import DAG

WATCHED = ("open", "socket.connect", "subprocess.Popen", "os.system", "sqlite3.connect")


def task_facts(task: Any) -> dict[str, Any]:
    return {
        "owner": task.owner,
        "retries": task.retries,
        "has_retry_policy": task.retry_policy is not None,
        "has_alert": bool(task.on_failure_callback),
        "pool": task.pool,
        "outlets": sorted(outlet.name for outlet in task.outlets),
        "downstream": sorted(task.downstream_task_ids),
    }


def dag_facts(dag: DAG) -> dict[str, Any]:
    condition = getattr(dag.timetable, "asset_condition", None)
    return {
        "tags": sorted(dag.tags),
        "doc": dag.doc_md or "",
        "catchup": dag.catchup,
        "start_date": str(dag.start_date) if dag.start_date else None,
        "schedule": type(dag.timetable).__name__,
        "assets": [condition.name] if condition else [],
        "tasks": {task.task_id: task_facts(task) for task in dag.tasks},
    }


def retry_action(error: Exception) -> str:
    from _shared import DEFAULTS

    return str(DEFAULTS["retry_policy"].evaluate(error, 1, 3).action.value)


def _is_of(stem: str, dag: DAG) -> bool:
    return Path(dag.fileloc).stem == stem


def main(folder: Path) -> None:
    sys.path.insert(0, str(folder))
    seen: list[tuple[str, str]] = []
    sys.addaudithook(lambda event, args: seen.append((event, str(args[0]))) if event in WATCHED else None)
    gc.disable()  # nothing holds on to a DAG here
    stems = [importlib.import_module(file.stem).__name__ for file in sorted(folder.glob("*.py"))]
    touched, loaded = list(seen), sorted(sys.modules)
    dags = [each for each in gc.get_objects() if type(each) is DAG]

    import psycopg
    from sqlalchemy.exc import OperationalError

    from etl.vocabulary import DataError

    facts = {
        "touched": touched,
        "loaded": loaded,
        "dags": {stem: {each.dag_id: dag_facts(each) for each in dags if _is_of(stem, each)} for stem in stems},
        "retry": {
            "ConnectionError": retry_action(ConnectionResetError()),
            "OperationalError": retry_action(OperationalError("SELECT 1", {}, Exception())),
            "psycopg": retry_action(psycopg.OperationalError()),
            "DataError": retry_action(DataError("wrong", "mend")),
            "bug": retry_action(TypeError()),
        },
    }
    sys.stdout.write("\n" + json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
