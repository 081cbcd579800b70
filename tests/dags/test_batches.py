"""What `intake` hands to `submissions`: one run for each series, under a name that Airflow accepts."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

ALLOWED = re.compile(r"[A-Za-z0-9_.~:+-]{1,250}")


def batches(*ids: str) -> list[dict[str, object]]:
    folder = str(Path(__file__).resolve().parents[2] / "dags")
    sys.path.insert(0, folder)
    try:
        from _shared import batches as shared
    finally:
        sys.path.remove(folder)
    return shared([SimpleNamespace(supplier="b", dataset="loans", period="2024-02", delivery_id=one) for one in ids])


def test_many_files_of_one_series_make_one_run_with_a_lawful_name() -> None:
    ids = [f"a_bank_with_a_long_name-loans-2024-02-{number:03d}" for number in range(1, 31)]
    [batch] = batches(*reversed(ids))
    assert batch["conf"]["delivery_ids"] == ids  # type: ignore[index]
    name = str(batch["trigger_run_id"])
    assert ALLOWED.fullmatch(name)
    assert ".." not in name


def test_the_same_files_make_the_same_name_and_others_another() -> None:
    one, two, three = (f"b-loans-2024-02-00{number}" for number in (1, 2, 3))
    assert batches(one, two)[0]["trigger_run_id"] == batches(two, one)[0]["trigger_run_id"]
    names = {batches(*ids)[0]["trigger_run_id"] for ids in ((one,), (one, two), (one, three))}
    assert len(names) == 3
