"""The gates of a release: a graded month is measured before anybody reads it, and held where a bound is broken.

It is compared with what readers have now: the same month in the current release, else the latest month before it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from etl import approval, months
from etl.engine.duck import DuckEngine
from etl.grading.gates import Gate, judge, worst
from etl.ledger import approvals
from etl.ledger.records import Report
from etl.publish.manifest import Manifest
from etl.vocabulary import VERDICTS, DataError
from etl.workspace import Workspace

AFTER, BEFORE = "after_", "before_"
COMPARED: Final = ("core_household_grades", "core_loans")
RECONCILED: Final = ("core_households", "core_village_grades")
LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    "coverage_pct": {"zh": "评级覆盖率 %", "en": "rated of the register, %"},
    "complete_pct": {"zh": "数据齐备户占比 %", "en": "households with complete input, %"},
    "moved_two_grades_pct": {"zh": "变动两级及以上占比 %", "en": "moved two grades or more, %"},
    "grade_stability": {"zh": "等级分布 PSI", "en": "stability index of grades"},
    "score_stability": {"zh": "得分分布 PSI", "en": "stability index of scores"},
    "register_matched": {"zh": "与农户库不符户数", "en": "households not as in the register"},
    "town_sums": {"zh": "各镇户数之差", "en": "differences of town sums"},
    "village_sums": {"zh": "各村户数之差", "en": "differences of village sums"},
}


def admit(ws: Workspace, period: str, *, now: datetime) -> Mapping[str, Any]:
    """Measure a graded month before its release; returns what its manifest says of it.

    Raises DataError where a gate holds it, or the county wants every release approved, and too few have approved exactly
    this report: the release that is current stays.
    """
    report = examine(ws, period)
    approvals.keep_report(ws.ledger, report, now=now)
    if approvers_missing(ws, report):
        raise DataError(
            f"{period}: the release is held: {_why(report)}; report {report.report_hash[:12]}",
            f"look at `creditvillage release gates {period}`; to let it go: "
            f"`creditvillage release approve {period} --reason …`, then run it again",
        )
    return _told(ws, report)


def standing_report(ws: Workspace, period: str) -> Report:
    """The gate report of a month as it was released, or as it stands before its release."""
    graded, current = ws.ledger.last_grading(period), ws.ledger.current_release()
    if graded is None or current is None or months.unreleased(ws, graded) is not None:
        return examine(ws, period)
    passed = Manifest.from_json(current.manifest).facts[period].get("gates")
    return approvals.report(ws.ledger, passed["report_hash"]) if passed else examine(ws, period)


def approve(ws: Workspace, what: str, by: str, reason: str, *, now: datetime) -> Report:
    """Approve the gate report of a month, as kept when its release was held, or the report of a hash.

    Raises DataError if there is none, or if the month was graded anew or the bounds changed since.
    """
    is_month = re.fullmatch(r"\d{4}-\d{2}", what) is not None
    report = _held_report(ws, what) if is_month else approvals.report(ws.ledger, what)
    approvals.approve(ws.ledger, report.report_hash, by, reason, now=now)
    return report


def _held_report(ws: Workspace, period: str) -> Report:
    present = examine(ws, period)
    if not approvals.is_kept(ws.ledger, present):
        raise DataError(
            f"{period}: nothing is held as it stands now", f"run it first: creditvillage run --period {period}"
        )
    return present


def approvers_missing(ws: Workspace, report: Report) -> int:
    """How many have yet to approve before the release may go; 0 where nothing holds it."""
    is_asked = report.verdict == "block" or approval.is_required(ws)
    return approval.approvers_missing(ws, report.report_hash) if is_asked else 0


def examine(ws: Workspace, period: str) -> Report:
    """The sealed gate report of a month as last graded; nothing is written. Raises DataError if it never was."""
    graded = ws.ledger.last_grading(period)
    if graded is None:
        raise DataError(f"{period}: not graded yet", f"grade it first: creditvillage run --period {period}")
    current = ws.ledger.current_release()
    released = Manifest.from_json(current.manifest) if current else None
    before = compared_period(released, period) if released else None
    bounds = ws.registry.county.gates
    with ws.engine() as engine:
        for table in (*COMPARED, *RECONCILED):
            months.register_staged(engine, ws, f"{AFTER}{table}", table, [graded])
        for table in COMPARED:
            _register_released(engine, ws, released, table, before)
        name_relations(engine, after=AFTER, before=BEFORE)
        found = judge(engine, bounds)
    inputs = {
        "fingerprint": graded.fingerprint,
        "contents": {table: graded.contents[table] for table in (*COMPARED, *RECONCILED)},
        "before": _contents(released, before),
        "bounds": bounds.model_dump(mode="json"),
    }
    return approval.sealed(approval.GATES, period, worst(found), inputs, content_of(found, before))


def compared_period(released: Manifest, period: str) -> str | None:
    """The month of a release that a month takes the place of, or follows."""
    return max((one for one in released.periods if one <= period), default=None)


def name_relations(engine: DuckEngine, *, after: str, before: str) -> None:
    """Name what the gates measure (see etl.grading.gates), given the prefixes of both months' tables."""
    columns = "household_key, town_code, village_code, effective_grade, score, input_state"
    for side, prefix in (("after", after), ("before", before)):
        engine.run_view(f"gate_{side}", f"SELECT {columns} FROM {prefix}core_household_grades")
        notes = f"SELECT DISTINCT bank_code, household_key FROM {prefix}core_loans WHERE household_key IS NOT NULL"
        engine.run_view(f"gate_{side}_banks", notes)
    engine.run_view("gate_register", f"SELECT household_key, town_code FROM {after}core_households")
    engine.run_view("gate_villages", f"SELECT village_code, registered_households FROM {after}core_village_grades")


def content_of(found: Sequence[Gate], before: str | None) -> dict[str, Any]:
    """What a report says of its gates."""
    return {"compared_with": before, "gates": [gate.as_json() for gate in found]}


def counts(report: Report) -> dict[str, int]:
    """How many gates have which verdict, the worst first."""
    found = Counter(gate["verdict"] for gate in report.content["gates"])
    return {verdict: found[verdict] for verdict in reversed(VERDICTS) if found[verdict]}


def awaiting_approval(ws: Workspace, periods: Sequence[str]) -> set[str]:
    """Of these months, those that need no grading and whose release, or an earlier month's, waits for an approval."""
    unreleased = months.unreleased_until(ws, max(periods, default=""))
    held = next((period for period in unreleased if _waits(ws, period)), None)
    if held is None:
        return set()
    return {period for period in periods if period >= held and not months.is_stale(ws, months.inputs_of(ws, period))}


def _waits(ws: Workspace, period: str) -> bool:
    """Whether the release of a month as it stands was held, and still is; what was never tried is not held."""
    present = examine(ws, period)
    return approvals.is_kept(ws.ledger, present) and approvers_missing(ws, present) > 0


def _why(report: Report) -> str:
    """The first gate that holds it, in words."""
    holding = [gate for gate in report.content["gates"] if gate["verdict"] == "block"]
    if not holding:
        return "the county wants every release approved"
    more = f" (and {len(holding) - 1} more)" if len(holding) > 1 else ""
    return f"{said(holding[0])}{more}"


def said(gate: Mapping[str, Any]) -> str:
    """One gate of a report in a few words: measure, group, value, the bound that holds."""
    group = f"{gate['kind']} {gate['code']}".rstrip()
    bound = next(f"{name.replace('_', ' ')} {value}" for name, value in gate["bounds"].items() if "block" in name)
    return f"{LABELS[gate['gate']]['en']} {gate['value']}, {group} ({bound})"


def _told(ws: Workspace, report: Report) -> dict[str, Any]:
    """What the manifest keeps: the rest is in ledger.reports under the hash."""
    noted = [gate for gate in report.content["gates"] if gate["verdict"] in ("warn", "block")]
    return {
        "report_hash": report.report_hash,
        "verdict": report.verdict,
        "compared_with": report.content["compared_with"],
        "counts": counts(report),
        "approvals": len(approvals.approvals(ws.ledger, [report.report_hash])),
        "noted": noted,
    }


def _register_released(
    engine: DuckEngine, ws: Workspace, released: Manifest | None, table: str, period: str | None
) -> None:
    files = released.files_of((table, period)) if released and period else []
    columns = {column.name: column.type for column in ws.contracts[table].published}
    engine.register_parquet(f"{BEFORE}{table}", [ws.settings.lake / file.path for file in files], columns)


def _contents(released: Manifest | None, period: str | None) -> dict[str, str]:
    """Contents of what is compared with."""
    if released is None or period is None:
        return {}
    return {table: str(released.contents[table, period]) for table in COMPARED if (table, period) in released.contents}
