"""Computes a past release again from landed bytes and compares."""

from __future__ import annotations

from _shared import DEFAULTS, settings
from airflow.sdk import Param, dag, get_current_context, task

DOC = """
### replay: a past release once more
按当时的规则、代码表、评定办法从落地原件重算某次发布并逐表比较；不发布任何内容。

Started by hand, with the release as its parameter. Red when a table differs, or when something is lost that no law
explains; what was deleted by law is named in the log. The same as `creditvillage replay --release R`.

**Clear or re-run?** Either is harmless.
"""
RELEASE_PARAM = Param(type="string", pattern=r"^\d{4}-\d{2}-\d{3,}$", description="release to compute again")


@dag(
    schedule=None,
    max_active_runs=1,
    default_args=DEFAULTS,
    params={"release": RELEASE_PARAM},
    tags=["publish", "audit"],
    doc_md=DOC,
)
def replay() -> None:
    @task
    def compute_again() -> list[list[str]]:
        """(table, month, why) of what cannot be compared by law; fails when anything differs."""
        from etl.replay import replay as compute_release_again

        report = compute_release_again(settings(), get_current_context()["params"]["release"])
        return report.require_equal()

    compute_again()


replay()
