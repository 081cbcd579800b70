"""Reports that people approve, sealed by a hash over content and inputs, and what may not happen without an approval.

An approval names the hash of one report: a policy file, a month's inputs, a bound or a line of code changed by one byte
gives another report, which nobody has approved. Silence never approves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etl import months
from etl.ledger import approvals
from etl.ledger.records import Grading, Report
from etl.ledger.transitions import code_version
from etl.months import MonthInputs
from etl.vocabulary import DataError
from etl.workspace import Workspace

GATES, WHAT_IF = "gates", "what_if"


def sealed(kind: str, period: str, verdict: str, inputs: Mapping[str, Any], content: Mapping[str, Any]) -> Report:
    """A report with its hash. Inputs and content hold texts, whole numbers and truth values only, decimals as text."""
    inputs = {**inputs, "code": code_version()}
    whole = {"kind": kind, "period": period, "verdict": verdict, "inputs": inputs, "content": content}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Report(hashlib.sha256(text.encode()).hexdigest(), kind, period, verdict, inputs, content)


def is_required(ws: Workspace) -> bool:
    """Whether the county wants every release and every change of a policy approved."""
    return ws.registry.county.approval == "required"


def approvers_missing(ws: Workspace, report_hash: str) -> int:
    """How many more people have to approve a report."""
    given = approvals.approvals(ws.ledger, [report_hash])
    return max(0, ws.registry.county.gates.approvers - len(given))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a policy file's bytes, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_policies(ws: Workspace, inputs: MonthInputs) -> None:
    """Raise DataError for a policy that is not the one last graded by and whose very bytes nobody approved.

    The report must be of the month itself or, if that was never graded, of the last one before it, with the inputs that
    month has now. The first month of a county changes nobody's grade: its release waits for approval instead.
    """
    graded = _standing(ws, inputs) if is_required(ws) else None
    if graded is None:
        return
    period = graded.period
    approved = approvals.approved_reports(ws.ledger, period, WHAT_IF, ws.registry.county.gates.approvers)
    given = {(report.inputs["policy_sha256"], report.inputs["data"]) for report in approved}
    data = months.inputs_of(ws, period).data_fingerprint
    for name in _changed(graded, inputs):
        path = inputs.policies.files[name]
        if (sha256_of(path), data) not in given:
            raise DataError(
                f"{inputs.period}: {path} is not approved as it stands, on the inputs of {period}",
                f"put the former file back, then `creditvillage whatif {path.name} --period {period}`, and "
                "`creditvillage release approve <hash of the report> --reason …`",
            )


def _standing(ws: Workspace, inputs: MonthInputs) -> Grading | None:
    """The month as last graded, else the last one graded before it."""
    own = ws.ledger.last_grading(str(inputs.period))
    return own or inputs.earlier.get(max(inputs.earlier, default=""))


def _changed(graded: Grading, inputs: MonthInputs) -> Iterator[str]:
    """Policies whose version in force is not the one of that grading."""
    before = months.facts_of(graded).notes.get("policies", {})
    return (name for name, mark in inputs.policy_marks.items() if before.get(name) != mark)
