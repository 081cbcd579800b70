"""Requests on the villages' form: every accepted row of a registered household opens its case, once.

A request is known by its number, household and kind, so that a form that is sent again, or mended, opens only what is new
in it. Household number and wish are read from the landed bytes and leave the restricted zone sealed. The clock starts on the
day the form lay in the drop zone. A number that the register does not hold is told in the form's receipt; the row waits,
and opens its case when the household is there, with the clock starting on that day.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from etl import casework, months
from etl.casework import Request
from etl.contract.predicates import accepted_columns
from etl.deliveries import Subject, Verdict, path_of, subject_of
from etl.engine.duck import DuckEngine
from etl.examination import typed_pieces
from etl.findings import UNKNOWN_HOUSEHOLD
from etl.intake.calendar import arrived_at
from etl.ledger.cases import Case, all_cases
from etl.ledger.records import Delivery
from etl.vocabulary import CreditVillageError
from etl.workspace import Workspace

DATASET: Final = "village_requests"
_REGISTER: Final = "core_households"
_ACCEPTING: Final = ("accepted", "accepted_with_warnings")
_ORIGIN: Final = "'form/' || request_key || '/' || household_key || '/' || case_kind"
_ACCEPTED: Final = (
    f"SELECT _member, _row, {_ORIGIN} AS origin FROM accepted "
    f"WHERE household_key IN (SELECT household_key FROM {_REGISTER})"
)
_REQUESTS: Final = (
    "SELECT r.origin, t.case_kind, t.household_no, t.request_text, t.concerns, r._member, r._row FROM typed AS t "
    f"INNER JOIN ({_ACCEPTED}) AS r ON r._member = t._member AND r._row = t._row ORDER BY t._member, t._row"
)
_UNKNOWN: Final = (
    "SELECT _member, _row FROM accepted WHERE household_key NOT IN (SELECT household_key FROM registered) ORDER BY 1, 2"
)
_log = logging.getLogger("creditvillage.cases")


def with_unknown(engine: DuckEngine, ws: Workspace, subject: Subject, verdict: Verdict) -> Verdict:
    """The verdict over a form with a warning for each accepted row whose household the register does not hold.

    The register is what was graded last with what was accepted since; a delivery of anything else is left as it is.
    """
    if subject.delivery.dataset != DATASET or not verdict.is_accepted or verdict.findings is None:
        return verdict
    engine.register_parquet("accepted", [path_of(ws, "accepted", subject.delivery)], accepted_columns(subject.contract))
    _register(engine, ws)
    since = [one for one in ws.ledger.deliveries() if one.dataset == "households" and one.in_force]
    accepted = [path_of(ws, "accepted", one) for one in since]
    engine.register_parquet("accepted_households", accepted, {"household_key": "VARCHAR"})
    engine.run_view(
        "registered",
        f"SELECT household_key FROM {_REGISTER} UNION ALL SELECT household_key FROM accepted_households",
    )
    rows = engine.arrow(_UNKNOWN)
    return _warned(verdict, rows) if rows.num_rows else verdict


def _register(engine: DuckEngine, ws: Workspace) -> None:
    """The register of the month graded last; empty before there is one."""
    gradings = ws.ledger.last_gradings()
    newest = [gradings[max(gradings)]] if gradings else []
    months.register_staged(engine, ws, _REGISTER, _REGISTER, newest)


def _warned(verdict: Verdict, rows: pa.Table) -> Verdict:
    assert verdict.findings is not None
    texts = {
        "rule": UNKNOWN_HOUSEHOLD, "family": "quality", "action": "warn", "column_name": "household_no"
    }  # fmt: skip
    constants = {name: pa.array([text] * rows.num_rows, pa.string()) for name, text in texts.items()}
    found = pa.table({"_member": rows["_member"], "_row": rows["_row"], **constants}).cast(verdict.findings.schema)
    return replace(
        verdict,
        outcome="accepted_with_warnings",
        counts_by_rule={**verdict.counts_by_rule, UNKNOWN_HOUSEHOLD: rows.num_rows},
        findings=pa.concat_tables([verdict.findings, found]),
    )


def open_requested(ws: Workspace, *, now: datetime) -> list[Case]:
    """Open the cases of all accepted forms that are not open yet; rows wait for their household to be graded.

    Doing it again opens nothing. A form that cannot be read now is tried again by the next sweep.
    """
    if not ws.ledger.last_gradings():
        return []
    opened: list[Case] = []
    with ws.ledger.lock(DATASET):
        known = {case.origin for case in all_cases(ws.ledger)}
        for form in _accepted_forms(ws):
            try:
                for case in _open_new(ws, form, known, now=now):
                    opened.append(case)
                    known.add(case.origin)
            except CreditVillageError as error:
                _log.warning("%s: its cases wait: %s", form.delivery_id, error)
    return opened


def _accepted_forms(ws: Workspace) -> list[Delivery]:
    """Superseded ones too: the next village's page of the same month takes their place, and answers none of them."""
    forms = (one for one in ws.ledger.deliveries() if one.dataset == DATASET and one.outcome in _ACCEPTING)
    return [one for one in forms if path_of(ws, "accepted", one).exists()]


def _open_new(ws: Workspace, form: Delivery, known: Collection[str], *, now: datetime) -> Iterator[Case]:
    received, today = _received_on(ws, form), now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    waited = set(ws.ledger.rows_with(form.delivery_id, UNKNOWN_HOUSEHOLD)) if _has_waited(form) else set()
    for origin, request, row in _new_requests(ws, form, known):
        on = today if row in waited else received
        yield casework.open_case(ws, request, account=DATASET, on=on, origin=origin, now=now)


def _has_waited(form: Delivery) -> bool:
    return UNKNOWN_HOUSEHOLD in form.counts_by_rule


def _new_requests(ws: Workspace, form: Delivery, known: Collection[str]) -> list[tuple[str, Request, tuple[str, int]]]:
    """Accepted rows of registered households whose case is not open: origin, request, (member, row).

    The landed bytes are read only if there are any.
    """
    found: list[tuple[str, Request, tuple[str, int]]] = []
    with ws.engine() as engine:
        columns = accepted_columns(ws.contract_of(DATASET))
        engine.register_parquet("accepted", [path_of(ws, "accepted", form)], columns)
        _register(engine, ws)
        if {origin for *_, origin in engine.fetch(_ACCEPTED)} <= set(known):
            return []
        for _ in typed_pieces(engine, ws, subject_of(ws, form)):
            for origin, kind, household_no, text, concerns, member, row in engine.fetch(_REQUESTS):
                found.append((origin, Request(kind, household_no, text, concerns=concerns), (member, row)))
    return [one for one in found if one[0] not in known]


def _received_on(ws: Workspace, form: Delivery) -> date:
    """The county's day on which the form lay in the drop zone."""
    arrived = arrived_at(form.mtime_ns, form.claimed_at)
    return arrived.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
