"""The seven verbs and the orders in which they are spoken: land, read, cast, check, conform, grade, publish.

The first four treat one delivery, the last three one month. Everything here runs without Airflow; the DAGs call the
functions of the second half. Running any of it twice is harmless.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from etl import (
    across,
    admission,
    answers,
    approval,
    asking,
    casework,
    deadlines,
    deliveries,
    examination,
    gates,
    incremental,
    months,
    requalified,
    revisions,
    village_requests,
)
from etl.affected import Everything
from etl.deliveries import Subject, Verdict
from etl.engine.duck import DuckEngine
from etl.findings import Arrival
from etl.intake.database import pull as pull_database
from etl.intake.delivery import SourceChangedError, remove_leftovers
from etl.intake.strings import Strings
from etl.ledger.approvals import keep_report
from etl.ledger.cases import CaseAlert
from etl.ledger.records import Alert, Delivery, Report
from etl.ledger.records import Grading as Graded
from etl.months import Grading, MonthInputs, Staged
from etl.period import Period
from etl.publish.manifest import Manifest
from etl.registry import Source
from etl.reports import notice
from etl.reports.what_if import what_if as trial_of
from etl.reports.what_if_page import what_if_html
from etl.settings import Settings
from etl.vocabulary import ConfigurationError, CreditVillageError, DataError
from etl.workspace import Workspace

STUCK_AFTER = timedelta(minutes=15)
MAX_ATTEMPTS = 5
_log = logging.getLogger("creditvillage.intake")
_grading_log = logging.getLogger("creditvillage.grading")

# -- the verbs --------------------------------------------------------------------------------------------------------


def land(ws: Workspace, delivery: Delivery, *, now: datetime) -> Delivery:
    """Copy the supplier's bytes, sealed and named by their hash, into the landing zone."""
    return deliveries.land(ws, delivery, now=now)


def examine(engine: DuckEngine, ws: Workspace, subject: Subject, *, now: datetime | None) -> tuple[Verdict, Strings]:
    """Read, cast and check a landed delivery: every cell as a string, then typed, then all rules of all families.

    With `now`, Great Expectations gives its opinion too.
    """
    return examination.examine(engine, ws, subject, now=now)


def conform(engine: DuckEngine, inputs: MonthInputs) -> None:
    """Accepted rows of all suppliers to the month's `core_` tables, joined by tokens."""
    months.conform(engine, inputs)


def grade(engine: DuckEngine, inputs: MonthInputs) -> None:
    """Indicators, points, grades and marts of the month, by the policy in force."""
    months.grade(engine, inputs)


def publish(ws: Workspace, period: str, *, now: datetime) -> Manifest | None:
    """The month's staged files, once they pass the gates, as one release, all or nothing; None when nothing is new."""
    return months.publish(ws, period, now=now, gates=gates.admit(ws, period, now=now))


# -- one delivery -----------------------------------------------------------------------------------------------------


def scan(
    settings: Settings,
    *,
    now: datetime,
    drop: Path | None = None,
    quiet_seconds: float | None = None,
    closed_too: bool = False,
) -> list[Delivery]:
    """Look into every bank's drop zone and claim what lies there complete; returns what this call claimed.

    Files of months that are closed for their bank wait for the operator, who asks with `closed_too`.
    """
    ws = Workspace(settings)
    banks = set(ws.registry.banks)
    return admission.claim(ws, banks, now=now, drop=drop, quiet_seconds=quiet_seconds, closed_too=closed_too)


def collect_files(settings: Settings, source_code: str, period: str, *, now: datetime) -> list[Delivery]:
    """Claim and take in the files of one files-source (the towns' mediation logs) for a month."""
    ws = Workspace(settings)
    suppliers = set(ws.registry.suppliers_of(_source(ws, source_code)))
    claimed = admission.claim(ws, suppliers, now=now, period=period)
    waiting = [d for d in ws.ledger.deliveries(period) if d.supplier in suppliers and d.outcome is None]
    wanted = {delivery.delivery_id for delivery in (*claimed, *waiting)}
    return [take_in(settings, delivery_id, now=now, ws=ws) for delivery_id in sorted(wanted)]


def collect_occasional(settings: Settings, period: str, *, now: datetime) -> list[Delivery]:
    """Claim and take in what came for a month from every source that sends files only when there is something to tell."""
    occasional = [code for code, source in Workspace(settings).registry.sources.items() if source.is_occasional]
    return [taken for code in occasional for taken in collect_files(settings, code, period, now=now)]


def pull(settings: Settings, source_code: str, period: str, *, now: datetime) -> list[Delivery]:
    """Pull every feed of a database source for a month, landed as files first, and take each in."""
    ws = Workspace(settings)
    source = _source(ws, source_code)
    pulled = [_pull_feed(ws, source, dataset, period, now=now) for dataset in source.feeds]
    return [take_in(settings, delivery.delivery_id, now=now, ws=ws) for delivery in pulled]


def take_in(settings: Settings, delivery_id: str, *, now: datetime, ws: Workspace | None = None) -> Delivery:
    """Bring one claimed delivery to its outcome, with receipt; a delivery that has one is left as it is."""
    ws = ws or Workspace(settings)
    delivery = ws.ledger.delivery(delivery_id)
    if delivery.outcome is not None:
        return delivery
    with ws.ledger.lock(_at_work_on(delivery)):
        taken = _attempt(ws, delivery_id, now=now)
    if taken.dataset == village_requests.DATASET:
        village_requests.open_requested(ws, now=now)
    return taken


def _at_work_on(delivery: Delivery) -> str:
    """The lock of whoever takes in deliveries of a supplier, dataset and month; it goes with its holder, however that ends."""
    return f"take_in/{delivery.supplier}/{delivery.dataset}/{delivery.period}"


def _attempt(ws: Workspace, delivery_id: str, *, now: datetime) -> Delivery:
    """One attempt at taking a delivery in, from the step that the one before came to."""
    delivery = ws.ledger.begin_attempt(delivery_id)
    if delivery.outcome is not None:
        return delivery
    if refused := admission.refused_unlanded(ws, delivery):
        return _answer_unread(ws, delivery, refused, now=now, details=_cause(refused))
    try:
        with _timed(ws, delivery.period, "land", now, delivery.delivery_id):
            delivery = land(ws, delivery, now=now)
    except SourceChangedError:
        cause = "the file changed or went away before it was landed"
        return _answer_unread(ws, delivery, Verdict(outcome="expired"), now=now, details={"cause": cause})
    if refused := admission.refused_unread(ws, delivery, now=now):
        return _answer_unread(ws, delivery, refused, now=now, details=_cause(refused))
    try:
        subject = deliveries.subject_of(ws, delivery)
    except LookupError:
        return _answer_unread(ws, delivery, deliveries.no_layout(delivery), now=now, details={})
    original = None if subject.layout.format == "database" else _original_of(ws, subject, now=now)
    if original:
        details = {"duplicate_of": original.delivery_id}
        return _answer_unread(ws, delivery, Verdict(outcome="duplicate"), now=now, details=details)
    return _examine(ws, subject, now=now)


def _original_of(ws: Workspace, subject: Subject, *, now: datetime) -> Delivery | None:
    """The delivery in force with the same bytes and rules, if there is one.

    Earlier ones of the same bytes that are still in progress come to their outcome first: a resend of what is refused
    later is no duplicate of it.
    """
    delivery = subject.delivery
    series = (delivery.supplier, delivery.dataset, delivery.period)
    while True:
        found = ws.ledger.duplicate_of(*series, str(delivery.sha256), subject.ruleset, delivery_id=delivery.delivery_id)
        if found is None or found.in_force:
            return found
        _attempt(ws, found.delivery_id, now=now)


def _examine(ws: Workspace, subject: Subject, *, now: datetime) -> Delivery:
    """Read, cast and check a landed delivery, keep what is accepted, and answer."""
    delivery = ws.ledger.step(subject.delivery.delivery_id, "validating", now=now)
    counted = _timed(ws, delivery.period, "check", now, delivery.delivery_id)
    with ws.delivery_engine(delivery.size_bytes) as engine, counted as counts:
        is_asked = ws.registry.county.second_opinion.is_wanted(delivery.delivery_id, delivery.size_bytes)
        verdict, strings = examine(engine, ws, subject, now=now if is_asked else None)
        verdict = revisions.review(engine, ws, subject, verdict)
        verdict = village_requests.with_unknown(engine, ws, subject, verdict)
        if subject.feed.relation:
            deliveries.keep_keys(engine, ws, subject)
        counts.update(rows_in=verdict.rows_read, rows_out=verdict.rows_accepted, rows_rejected=verdict.rows_rejected)
    with across.turn(ws, delivery):
        told = across.at_arrival(ws, delivery) if verdict.is_accepted else across.Told(delivery)
        verdict = requalified.with_note(ws, delivery, across.with_told(verdict, told), now=now)
        strings = examination.completed(ws, subject, strings, verdict.findings)
        return _answer(
            ws, subject, verdict, strings, now=now, details={} if is_asked else {"second_opinion": False}, told=told
        )


def _answer_unread(
    ws: Workspace, delivery: Delivery, verdict: Verdict, *, now: datetime, details: Mapping[str, Any]
) -> Delivery:
    """Answer a delivery whose rows nobody looks at: gone, a duplicate, or of a month without an agreed layout."""
    subject = deliveries.subject_of(ws, delivery, any_layout=True)
    return _answer(ws, subject, verdict, deliveries.no_strings(subject), now=now, details=details)


def _answer(
    ws: Workspace,
    subject: Subject,
    verdict: Verdict,
    strings: Strings,
    *,
    now: datetime,
    details: Mapping[str, Any],
    told: across.Told | None = None,
) -> Delivery:
    """Save the findings, write the receipt, give the outcome: an outcome without a receipt cannot be."""
    delivery = subject.delivery
    ws.ledger.save_findings(delivery.delivery_id, across.left_out(ws, answers.audit_table(verdict)))
    if told is not None:
        across.save(ws, told)
    answers.answer(ws, subject, verdict, strings)
    finished = ws.ledger.finish(
        delivery.delivery_id,
        verdict.outcome,
        now=now,
        rows_read=verdict.rows_read,
        rows_accepted=verdict.rows_accepted,
        rows_rejected=verdict.rows_rejected,
        counts_by_rule=verdict.counts_by_rule,
        not_checked=verdict.not_checked,
        ruleset=subject.ruleset,
        content=delivery.sha256,
        in_force=verdict.is_accepted,
        cause=str(details.get("cause", "")),
        snapshot=ws.configuration,
        details={
            **details,
            "shadow": dict(verdict.shadow_counts),
            "settled": verdict.settled,
            "diff": verdict.diff,
            **answers.mended(subject, verdict),
        },
    )
    admission.note_arrivals(ws, {delivery.supplier})
    return finished


def _source(ws: Workspace, code: str) -> Source:
    if code not in ws.registry.sources:
        raise ConfigurationError(
            "config/sources", code, "no such source", "add config/sources/<code>.yml or correct the name"
        )
    return ws.registry.sources[code]


def _pull_feed(ws: Workspace, source: Source, dataset: str, period: str, *, now: datetime) -> Delivery:
    """Claim and land the pull of one feed for a month; what is in force or landed already is kept.

    A pull that failed before it landed is done again; one that was refused gets a new attempt.
    """
    claimed = _claimed_pull(ws, source, dataset, period, now=now)
    with ws.ledger.lock(_at_work_on(claimed)):
        delivery = ws.ledger.delivery(claimed.delivery_id)
        return delivery if delivery.landed_path else _land_pull(ws, source, delivery, now=now)


def _land_pull(ws: Workspace, source: Source, delivery: Delivery, *, now: datetime) -> Delivery:
    """Read what changed in the source and land it; what an attempt before left behind is erased first."""
    remove_leftovers(ws.settings.landing, delivery.delivery_id)
    dataset, period = delivery.dataset, delivery.period
    feed, month = source.feeds[dataset], Period.parse(period)
    cutoff = datetime.combine(month.next().start, datetime.min.time(), ZoneInfo(ws.registry.county.timezone))
    pulled = pull_database(
        _source_url(ws, source),
        feed,
        feed.layout_for(month, dataset),
        dataset,
        ws.settings.landing,
        ws.master_key_path,
        delivery_id=delivery.delivery_id,
        since=ws.ledger.watermark(source.code, dataset, period),
        cutoff=cutoff,
        chunk_rows=source.chunk_rows,
    )
    ws.ledger.pulled(delivery.delivery_id, cutoff)  # first: a pull that has landed is never looked at again
    landed = pulled.landed
    return ws.ledger.landed(
        delivery.delivery_id, landed.sha256, str(landed.path), landed.wrapped_key, landed.size_bytes, now=now
    )


def _claimed_pull(ws: Workspace, source: Source, dataset: str, period: str, *, now: datetime) -> Delivery:
    """The pull of a feed for a month: the one in force, the one under way, or a new attempt."""
    known = [one for one in ws.ledger.deliveries(period, source.code) if one.dataset == dataset]
    for delivery in reversed(known):
        if delivery.in_force or delivery.outcome is None:
            return delivery
    address = f"{source.url_env}#{dataset}@{period}/{len(known) + 1}"
    claimed = ws.ledger.claim(Arrival(source.code, dataset, period, address, dataset, 0, 0), now=now)
    return claimed or _claimed_pull(ws, source, dataset, period, now=now)


def _source_url(ws: Workspace, source: Source) -> str:
    if not ws.settings.government_url:
        raise ConfigurationError(
            f"${source.url_env}", "", f"the address of {source.name.en} is not set", "set it to a postgresql:// URL"
        )
    return ws.settings.government_url


# -- one month --------------------------------------------------------------------------------------------------------


def ready_periods(settings: Settings, *, now: datetime, again: bool = False) -> list[str]:
    """Months to grade or release, oldest first: complete, and not graded from these inputs or not released.

    A month whose present inputs were asked for before is left out, unless `again` (the sweep, which makes up for
    requests that got lost), and so is one that only waits for the approval of a release that is held.
    """
    ws = Workspace(settings)
    ready = months.ready_periods(ws) if again else months.unasked_periods(ws, now=now)
    waiting = gates.awaiting_approval(ws, ready)
    return [period for period in ready if period not in waiting]


def stuck(settings: Settings, *, now: datetime) -> list[Delivery]:
    """Deliveries that were claimed a while ago and have no outcome; a pull that never landed waits for its own DAG."""
    return _stuck(Workspace(settings), now)


def _stuck(ws: Workspace, now: datetime) -> list[Delivery]:
    return [one for one in ws.ledger.stuck(now - STUCK_AFTER) if one.landed_path or not _is_pull(ws, one)]


def watchdog(settings: Settings, *, now: datetime) -> list[Delivery]:
    """Bring to an outcome, each with a receipt, what is stuck; returns the deliveries that got one.

    A file whose flag has not come for three days expires. A delivery on which work began and stopped is tried again,
    after 15 minutes, 30, an hour, …; after five attempts it expires, unless its receipt is out, which then stands. What
    somebody is at work on is left alone.
    """
    ws = Workspace(settings)
    hopeless = admission.claim_hopeless(ws, now=now)
    begun = [one for one in _stuck(ws, now) if _is_due(one, now)]
    return [ended for one in (*hopeless, *begun) if (ended := _bring_to_an_end(ws, one, now=now))]


def _is_due(delivery: Delivery, now: datetime) -> bool:
    """Whether it is time for another attempt; what nobody has begun is handed on first, and tried here after an hour."""
    doublings = max(delivery.attempts - 1, 0) if delivery.attempts else 2
    return now - delivery.stepped_at >= STUCK_AFTER * (1 << doublings)


def _bring_to_an_end(ws: Workspace, delivery: Delivery, *, now: datetime) -> Delivery | None:
    """Try again or, after the last attempt, let it expire; None when it is in other hands, or failed once more."""
    with ws.ledger.lock_if_free(_at_work_on(delivery)) as is_free:
        if not is_free or ws.ledger.delivery(delivery.delivery_id).outcome is not None:
            return None
        try:
            if delivery.attempts >= MAX_ATTEMPTS and not answers.is_answered(ws, delivery):
                given_up = admission.refusal(admission.NOT_FINISHED, delivery, outcome="expired")
                return _answer_unread(ws, delivery, given_up, now=now, details=_cause(given_up))
            return _attempt(ws, delivery.delivery_id, now=now)
        except Exception as error:  # whatever it is, the other deliveries go on
            says = str(error) if isinstance(error, CreditVillageError) else type(error).__name__
            _log.error("%s: attempt %d failed: %s", delivery.delivery_id, delivery.attempts + 1, says)
            return None


def _cause(refused: Verdict) -> dict[str, str]:
    """Why nobody read the delivery, for the ledger."""
    return {"cause": "; ".join(finding.message_en for finding in refused.file_findings)}


def collect_late(settings: Settings, *, now: datetime) -> list[Delivery]:
    """Claim what came into the drop zones of files-sources (town logs) after their monthly run, whatever the month."""
    ws = Workspace(settings)
    sources = [source for source in ws.registry.sources.values() if source.kind == "files"]
    suppliers = {supplier for source in sources for supplier in ws.registry.suppliers_of(source)}
    return admission.claim(ws, suppliers, now=now)


def waiting(settings: Settings) -> list[Delivery]:
    """Deliveries of files that were claimed and have no outcome yet."""
    ws = Workspace(settings)
    return [one for one in ws.ledger.deliveries() if one.outcome is None and not _is_pull(ws, one)]


def _is_pull(ws: Workspace, delivery: Delivery) -> bool:
    source = ws.registry.sources.get(delivery.supplier)
    return source is not None and source.kind == "database"


def carry_forward(settings: Settings, period: str, supplier: str, dataset: str, reason: str, *, now: datetime) -> None:
    """Decide that a month does without a delivery; the state last accepted stays in force, and everything says so.

    Raises ConfigurationError when nobody expects such a delivery. One that comes after all takes the decision's place.
    """
    ws = Workspace(settings)
    ws.ledger.migrate()
    expected = {(entry.supplier, entry.dataset) for entry in ws.registry.expected(Period.parse(period))}
    if (supplier, dataset) not in expected:
        mend = "see `SELECT supplier, dataset FROM ledger.deliveries` for the names in use"
        raise ConfigurationError("carry", f"{supplier}/{dataset}", f"not expected in {period}", mend)
    ws.ledger.carry_forward(period, supplier, dataset, reason, now=now)


def watch_deadlines(settings: Settings, *, now: datetime) -> list[Alert | CaseAlert]:
    """Tell of due dates and clocks of cases that were missed (each once), carry forward what is missing, keep suppliers'
    calendars current, open the cases of villages' forms that still wait, write the notices that are due."""
    ws = Workspace(settings)
    village_requests.open_requested(ws, now=now)
    notice.notify(ws, now=now)
    asking.ask(ws, now=now)
    return [*deadlines.watch(ws, now=now), *casework.watch(ws, now=now)]


def grade_period(settings: Settings, period: str, *, now: datetime, ws: Workspace | None = None) -> Grading:
    """Conform and grade a month, after the ready months before it; ends at once when its inputs were graded before.

    Raises DataError when a month's inputs are not complete, or a policy it would be graded by is not approved.
    """
    ws = ws or Workspace(settings)
    with ws.ledger.lock("grade"):
        for earlier in months.ready_before(ws, period):
            _grade_one(ws, earlier, now=now)
        grading = _grade_one(ws, period, now=now)
    asking.ask(ws, now=now)
    return grading


def _grade_one(ws: Workspace, period: str, *, now: datetime) -> Grading:
    inputs = months.inputs_of(ws, period)
    if inputs.missing:
        supplier, dataset = inputs.missing[0]
        raise DataError(
            f"{period}: {dataset} of {supplier} is neither in force nor carried forward (and {len(inputs.missing) - 1} more)",
            f"wait for it, or do without it: creditvillage carry --period {period} --supplier … --dataset … --reason …",
        )
    known = ws.ledger.last_grading(period)
    if known and known.fingerprint == inputs.fingerprint:
        return Grading(period, changed=False, staged=months.unreleased(ws, known))
    approval.require_policies(ws, inputs)
    in_part = known if ws.registry.county.is_regraded_in_part else None
    staged = _grade_affected(ws, inputs, in_part, now=now) if in_part else None
    staged = staged or _grade_all(ws, inputs, now=now)
    across.settle(ws, period)
    return Grading(period, changed=True, staged=staged.path)


def _grade_all(ws: Workspace, inputs: MonthInputs, *, now: datetime) -> Staged:
    """Conform and grade a whole month."""
    with ws.engine() as engine, _timed(ws, str(inputs.period), "grade", now) as counts:
        staged = grade_whole(engine, inputs, is_base=ws.registry.county.is_regraded_in_part, now=now)
        counts.update(rows_out=staged.rows)
    return staged


def grade_whole(engine: DuckEngine, inputs: MonthInputs, *, is_base: bool, now: datetime) -> Staged:
    """Conform, grade and stage a whole month; `is_base` leaves what the next grading of it may rest on."""
    months.register_inputs(engine, inputs)
    how = months.recipe(engine, inputs) if is_base else None
    conform(engine, inputs)
    grade(engine, inputs)
    base = incremental.first_base(engine, inputs, how) if how else None
    return months.stage(engine, inputs, base, months.write_tables(engine, inputs), now=now)


def _grade_affected(ws: Workspace, inputs: MonthInputs, known: Graded, *, now: datetime) -> Staged | None:
    """Conform and grade again only what the changed inputs affect; None where that may be everything."""
    try:
        with ws.engine() as engine, _timed(ws, str(inputs.period), "grade_affected", now) as counts:
            again = incremental.grade_again(engine, inputs, known, now=now)
            counts.update(rows_in=again.affected, rows_out=again.staged.rows)
            return again.staged
    except Everything as reason:
        _grading_log.info("%s is graded as a whole: %s", inputs.period, reason)
        return None


def publish_period(settings: Settings, period: str, *, now: datetime, ws: Workspace | None = None) -> Manifest | None:
    """Publish what was last graded for a month (and, before it, for earlier months); None when nothing is new.

    Raises DataError for a month that its gates hold: the current release stays, and later months wait for it.
    """
    ws = ws or Workspace(settings)
    published = None
    for wanted in months.unreleased_until(ws, period):
        with _timed(ws, wanted, "publish", now):
            published = publish(ws, wanted, now=now) or published
    notice.notify(ws, now=now)
    return published


def what_if(
    settings: Settings,
    policy: Path,
    period: str,
    *,
    now: datetime,
    pages: Path | None = None,
    movers_path: Path | None = None,
) -> Report:
    """Try a candidate policy on a graded month. The report is kept, so that it can be approved; nothing is published.

    With `pages` it is also written there as a page named by month and hash.
    """
    ws = Workspace(settings)
    report = trial_of(ws, policy, period, movers_path=movers_path)
    keep_report(ws.ledger, report, now=now)
    if pages:
        pages.mkdir(parents=True, exist_ok=True)
        name = f"what_if.{period}.{report.report_hash[:12]}.html"
        (pages / name).write_text(what_if_html(report), encoding="utf-8")
    return report


@contextmanager
def _timed(
    ws: Workspace, period: str, step: str, now: datetime, delivery_id: str | None = None
) -> Iterator[dict[str, int]]:
    """Record what a step did to how many rows and how long it took."""
    counts: dict[str, int] = {}
    begun = time.perf_counter()
    yield counts
    seconds = time.perf_counter() - begun
    rows_in, rows_out, rows_rejected = (counts.get(name) for name in ("rows_in", "rows_out", "rows_rejected"))
    ws.ledger.save_step_outcome(delivery_id, period, step, rows_in, rows_out, rows_rejected, seconds, now=now)
