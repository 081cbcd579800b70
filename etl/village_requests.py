"""Requests on the villages' form: every accepted row opens its case, once.

A request is known by its number, household and kind, so that a form that is sent again, or mended, opens only what is new
in it. Its clock starts on the day the form lay in the drop zone. Household number and wish are read from the landed bytes
and leave the restricted zone sealed; a household that the register does not hold has a right to an answer as well.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from etl import casework
from etl.casework import Request
from etl.contract.predicates import accepted_columns
from etl.deliveries import path_of, subject_of
from etl.examination import typed_pieces
from etl.intake.calendar import arrived_at
from etl.ledger.cases import Case, all_cases
from etl.ledger.records import Delivery
from etl.vocabulary import CreditVillageError
from etl.workspace import Workspace

DATASET: Final = "village_requests"
_ACCEPTING: Final = ("accepted", "accepted_with_warnings")
_ACCEPTED: Final = (
    "SELECT _member, _row, 'form/' || request_key || '/' || household_key || '/' || case_kind AS origin FROM accepted"
)
_REQUESTS: Final = (
    "SELECT r.origin, t.case_kind, t.household_no, t.request_text, t.concerns FROM typed AS t "
    f"INNER JOIN ({_ACCEPTED}) AS r ON r._member = t._member AND r._row = t._row ORDER BY t._member, t._row"
)
_log = logging.getLogger("creditvillage.cases")


def open_requested(ws: Workspace, *, now: datetime) -> list[Case]:
    """Open the cases of all accepted forms that are not open yet; before the first month is graded they wait.

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
    on = _received_on(ws, form)
    for origin, request in _new_requests(ws, form, known):
        yield casework.open_case(ws, request, account=DATASET, on=on, origin=origin, is_registered=False, now=now)


def _new_requests(ws: Workspace, form: Delivery, known: Collection[str]) -> list[tuple[str, Request]]:
    """Accepted rows whose case is not open, by origin; the landed bytes are read only if there are any."""
    found: list[tuple[str, Request]] = []
    with ws.engine() as engine:
        columns = accepted_columns(ws.contract_of(DATASET))
        engine.register_parquet("accepted", [path_of(ws, "accepted", form)], columns)
        if {origin for *_, origin in engine.fetch(_ACCEPTED)} <= set(known):
            return []
        for _ in typed_pieces(engine, ws, subject_of(ws, form)):
            for origin, kind, household_no, text, concerns in engine.fetch(_REQUESTS):
                found.append((origin, Request(kind, household_no, text, concerns=concerns)))
    return [(origin, request) for origin, request in found if origin not in known]


def _received_on(ws: Workspace, form: Delivery) -> date:
    """The county's day on which the form lay in the drop zone."""
    arrived = arrived_at(form.mtime_ns, form.claimed_at)
    return arrived.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
