"""The verdict over one delivery, from its bytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from etl import deliveries
from etl.contract.casts import cast_select
from etl.contract.predicates import findings_select
from etl.deliveries import Subject, Verdict
from etl.engine.duck import DuckEngine
from tests.contract.delivery import REGISTRY, SAMPLES
from tests.intake.making import make_feed, read_bytes

FLOW = SAMPLES["flow"]


def verdict_over(content: bytes, *, empty: str, min_rows: int = 0) -> Verdict:
    feed = make_feed(empty=empty, accept={"rows": {"min": min_rows}, "max_rejected_share": 1, "empty": empty})
    delivery: Any = SimpleNamespace(name="FLOWS.csv")
    subject = Subject(delivery, feed, FLOW.layout, FLOW.contract, FLOW.context, REGISTRY.codes, "r")
    strings = read_bytes(content, FLOW.layout, feed)
    with DuckEngine(threads=1) as engine:
        engine.register_arrow("strings", strings.table)
        engine.run_model("typed", cast_select(FLOW.contract, FLOW.layout, REGISTRY.codes))
        engine.run_model("findings", findings_select(FLOW.contract, FLOW.layout, context=FLOW.context))
        return deliveries.judge(engine, subject, strings, {})


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused_with_its_reason_or_accepted_as_agreed(content: bytes) -> None:
    refused = verdict_over(content, empty="refused")
    assert (refused.outcome, dict(refused.counts_by_rule)) == ("rejected", {"P124": 1})
    assert [finding.message_zh for finding in refused.file_findings] == ["没有数据行"]
    accepted = verdict_over(content, empty="accepted")
    assert (accepted.outcome, dict(accepted.counts_by_rule), accepted.rows_read) == ("accepted", {}, 0)


def test_a_minimum_of_rows_says_it_in_its_own_words() -> None:
    found = verdict_over(b"", empty="refused", min_rows=1)
    assert (found.outcome, dict(found.counts_by_rule)) == ("rejected", {"F401": 1})
