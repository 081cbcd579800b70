"""An explanation as its reader may have it: the household itself, its village, the county, or an auditor.

Each part of the document is put in by name for whom it is meant, so that what nobody thought of is shown to nobody.
A village sees the grade in effect and the blocks and vetoes that `config/explain.yml` names for it. What it does not see,
it cannot work out either: neither the total, nor the computed grade, nor the distance to the next one is told to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from typing import Any, Final

from etl.history import key_of
from etl.ledger.transitions import code_version
from etl.registry import Bilingual
from etl.reports import explain_place
from etl.reports import explain_words as words
from etl.reports.advice import HOUSEHOLD, Advice, Step
from etl.reports.explain_endings import endings_part
from etl.reports.explain_guide import Sight, load_guide
from etl.reports.explain_parts import (
    AUDIENCES,
    RESTRICTED,
    Document,
    both,
    known_part,
    maybe,
    objection_part,
    quartiles_part,
    reference,
)
from etl.reports.explanation import HELD, Explanation, Line, explanation_of
from etl.reports.places import place_explanation
from etl.reports.told import Told, told_as_of, told_now
from etl.vocabulary import CASE_KIND_LABELS, CASE_VERDICT_LABELS, ConfigurationError
from etl.workspace import Workspace

_SHOWN_OF_NUMBER: Final = 3


def explain(
    ws: Workspace,
    number: str,
    period: str | None,
    audience: str,
    *,
    subject: str | None = None,
    as_of: date | None = None,
) -> Document:
    """The explanation of one grade of a month for one audience, ready to be shown or written as JSON.

    `number` is a place code or the number a subject itself uses; without `subject` a place is known by its code, and
    everything else is a household. With `as_of` the grade is told as it was known at the end of that day, by default of
    the month that was valid then. Amounts and points are Decimal, texts are {zh, en}. Raises ConfigurationError for an
    unknown audience or subject, or neither month nor day, DataError for an unknown number, a month without grades, or a
    day on which nothing was known; none of them repeats the number of a person.
    """
    if audience not in AUDIENCES:
        raise ConfigurationError("--for", audience, "no such audience", f"use one of {', '.join(AUDIENCES)}")
    number, kind = number.strip(), subject or _kind_of(ws, number.strip())
    guide = load_guide(ws.settings.config)
    with _telling(ws, number, period, kind, as_of) as told:
        if kind in told.inputs.policies.shares:
            return explain_place.document(place_explanation(told, guide, kind, number), audience)
        found = explanation_of(told, guide, number, subject=kind, with_advice=audience != RESTRICTED)
        return document(found, audience)


def _kind_of(ws: Workspace, number: str) -> str:
    """What is graded under a number, if nobody says: a place by its code, else a household."""
    levels = {place.place_code: place.place_level for place in ws.registry.places}
    return levels.get(number, HOUSEHOLD)


def _telling(
    ws: Workspace, number: str, period: str | None, subject: str, as_of: date | None
) -> AbstractContextManager[Told]:
    if as_of is not None:
        return told_as_of(ws, key_of(ws, number, subject=subject), period, as_of, subject=subject)
    if period is None:
        raise ConfigurationError("--period", "", "no month is named", "name a month, or a day with --as-of")
    return nullcontext(told_now(ws, period))


def document(found: Explanation, audience: str) -> Document:
    """The document of one audience: `schema` names its form, keys are never left out but may be null."""
    sees_all = audience != RESTRICTED
    lines = [line for line in found.lines if sees_all or line.indicator.block in _sight(found).blocks]
    return {
        "schema": "explanation/1",
        "for": audience,
        "synthetic": both(words.SYNTHETIC) if found.ws.registry.county.synthetic else None,
        "subject": found.subject,
        "subject_says": both(words.subject_words(found.subject)),
        "number": _number(found, audience),
        "period": str(found.period),
        "known": known_part(found.told),
        "place": _place(found),
        "grade": _grade(found) if sees_all else _grade_in_effect(found),
        "policy": _policy(found),
        "blocks": [_block(found, name) for name in found.blocks if sees_all or name in _sight(found).blocks],
        "indicators": [_line(found, line, audience) for line in lines],
        "vetoes": _vetoes(found, sees_all),
        "hold": _hold(found) if sees_all else None,
        "cases": [_case(found, case) for case in found.cases] if sees_all else [],
        "advice": _advice(found) if found.advice and sees_all else None,
        "endings": endings_part(found, audience) if sees_all else None,
        "peers": _peers(found, None if sees_all else _sight(found).blocks),
        "sources": _sources(found, lines),
        "rights": _rights(found),
        "note": None if sees_all else both(words.VILLAGE_SIGHT),
        "audit": _audit(found) if audience == "auditor" else None,
    }


def _sight(found: Explanation) -> Sight:
    """What a village may see of such a subject: nothing beyond the grade in effect, where the guide does not say."""
    return found.guide.audiences.get(RESTRICTED, {}).get(found.subject, Sight(blocks=[], vetoes=[]))


# -- who, where, which grade ------------------------------------------------------------------------------------------


def _number(found: Explanation, audience: str) -> str:
    """Its own number for the subject itself, the last digits for its village, the keyed token for everybody else."""
    if audience == "subject":
        return found.number
    return f"***{found.number[-_SHOWN_OF_NUMBER:]}" if audience == RESTRICTED else found.key


def _place(found: Explanation) -> Document:
    newest = {place.place_code: place for place in sorted(found.ws.registry.places, key=lambda one: one.valid_from_on)}
    names = {code: place.place_name for code, place in newest.items()}
    town, village = found.grade["town_code"], found.grade["village_code"]
    return {
        "town_code": town, "town_name": names.get(town), "village_code": village, "village_name": names.get(village),
    }  # fmt: skip


def _grade_in_effect(found: Explanation) -> Document:
    grade, reason = found.grade, found.grade["not_rated_reason"]
    return {
        "effective": grade["effective_grade"],
        "effective_from_on": grade["effective_from_on"],
        "effective_to_on": grade["effective_to_on"],
        "is_disputed": grade["is_disputed"],
        "round": grade["round"],
        "not_rated_reason": reason,
        "not_rated_says": maybe(words.NOT_RATED.get(reason, words.NOT_RATED_GRADE) if reason else None),
    }


def _grade(found: Explanation) -> Document:
    grade, version = found.grade, found.version
    return {
        **_grade_in_effect(found),
        "computed": grade["computed_grade"],
        "status": grade["status"],
        "noticed_on": grade["noticed_on"],
        "score": grade["score"],
        "base": version.base,
        "total": version.total,
        "cut_offs": [{"grade": cut.grade, "at_least": cut.at_least} for cut in version.grades],
        "input_state": grade["input_state"],
        "input_state_says": both(words.INPUT_STATES[grade["input_state"]]),
    }


def _policy(found: Explanation) -> Document:
    status = found.version.status
    return {
        "name": found.subject,
        "version": found.version.version,
        "status": status,
        "status_says": both(words.POLICY_STATUS[status]),
    }


def _hold(found: Explanation) -> Document | None:
    reason = found.grade["hold_reason"]
    if reason is None:
        return None
    says, ends = words.hold_words(reason)
    return {"reason": reason, "says": both(says), "ends": both(ends)}


def _case(found: Explanation, case: Mapping[str, Any]) -> Document:
    """A case that bears on the household's grade: what, since when, how far, and which bank it was put to."""
    bank = found.ws.registry.banks.get(case["bank_code"] or "")
    return {
        "case_id": case["case_id"], "kind": case["case_kind"], "kind_says": CASE_KIND_LABELS[case["case_kind"]],
        "state": case["case_state"], "is_open": case["is_open"], "opened_on": case["opened_on"],
        "answer_due_on": case["answer_due_on"], "answered_on": case["answered_on"], "verdict": case["verdict"],
        "verdict_says": CASE_VERDICT_LABELS.get(case["verdict"] or ""), "bank": maybe(bank.name if bank else None),
    }  # fmt: skip


def _vetoes(found: Explanation, sees_all: bool) -> list[Document]:
    allowed = _sight(found).vetoes
    return [
        {"id": veto.id, "label": both(veto.label), "cap": veto.cap, "clause": veto.clause}
        for veto in found.vetoes
        if sees_all or veto.id in allowed
    ]


# -- the lines --------------------------------------------------------------------------------------------------------


def _block(found: Explanation, name: str) -> Document:
    label = found.version.blocks[name]
    return {"id": name, "label": both(label), "points": found.points_of(name), "max_points": found.most_of(name)}


def _line(found: Explanation, line: Line, audience: str) -> Document:
    indicator, unit = line.indicator, line.guidance.unit
    bands = {band.label: words.band_words(band, unit) for band in indicator.bands}
    until = line.counts_until(found.period)
    return {
        "id": indicator.id,
        "block": indicator.block,
        "label": both(indicator.label),
        "value": line.value,
        "value_says": maybe(words.value_words(line.value, unit)),
        "band": line.band,
        "band_says": both(bands.get(line.band) or words.SPECIAL_BANDS.get(line.band, words.OTHERWISE)),
        "bands": [{"says": both(bands[band.label]), "points": band.gives} for band in indicator.bands],
        "points": line.points,
        "max_points": indicator.max,
        "state": line.state,
        "input_state": line.input_state,
        "evidence": _evidence(found, line, audience),
        "counts_until": str(until) if until else None,
        "clause": indicator.clause,
        "is_advisable": indicator.advisable,
    }


def _evidence(found: Explanation, line: Line, audience: str) -> Document:
    """What the value rests on: in words, with references; the county and auditors see the keys themselves."""
    evidence = line.evidence
    if evidence is None or line.band == HELD:
        return {"says": both(words.SPECIAL_BANDS[HELD]), "references": [], "raw": _raw(line, audience)}
    label = found.guide.evidence.get(evidence.table) or Bilingual(zh=evidence.table, en=evidence.table)
    month = f" {evidence.period}" if evidence.period else ""
    zh = f"{label.zh}{month}{f'，{evidence.count} 条' if evidence.count else ''}"
    en = f"{label.en}{month}{f', {evidence.count}' if evidence.count else ''}"
    references = (
        [reference(found.ws, audience, found.key, key) for key in evidence.keys]
        if audience in ("subject", "village")
        else []
    )
    return {"says": {"zh": zh, "en": en}, "references": references, "raw": _raw(line, audience)}


def _raw(line: Line, audience: str) -> str | None:
    return line.evidence_text if audience in ("county", "auditor") else None


def _sources(found: Explanation, lines: Sequence[Line]) -> list[Document]:
    """Which data came from whom: the banks that hold the household's notes, the register, the mediation logs."""
    datasets = dict.fromkeys(dataset for line in lines for dataset in found.datasets_of(line))
    return [
        {"dataset": dataset, "suppliers": [both(name) for name in _suppliers(found, dataset)],
         "indicators": [line.indicator.id for line in lines if dataset in found.datasets_of(line)]}
        for dataset in datasets
    ]  # fmt: skip


def _suppliers(found: Explanation, dataset: str) -> list[Bilingual]:
    registry = found.ws.registry
    banks = [registry.banks[code].name for code in found.banks if code in registry.banks]
    of_banks = any(dataset in bank.feeds for bank in registry.banks.values())
    return banks if of_banks else [one.name for one in registry.sources.values() if dataset in one.feeds]


# -- advice, peers, rights --------------------------------------------------------------------------------------------


def _advice(found: Explanation) -> Document | None:
    advice = found.advice
    if advice is None:
        return None
    says, target = words.OUTCOMES[advice.outcome], advice.target or ""
    return {
        "outcome": advice.outcome,
        "says": {"zh": says.zh.format(target=target), "en": says.en.format(target=target)},
        "target": advice.target,
        "steps": [_step(found, advice, step) for step in advice.steps],
        "score_after": advice.graded.score if advice.graded else None,
        "grade_after": advice.graded.computed_grade if advice.graded else None,
        "is_verified": advice.outcome == "found",
        "problem": advice.problem or None,
    }


def _step(found: Explanation, advice: Advice, step: Step) -> Document:
    line = next(line for line in found.lines if line.indicator.id == step.indicator)
    guidance, bound = line.guidance.advice, words.number_text(step.bound)
    says = guidance.words_for(step.bound) if guidance else line.indicator.label
    return {
        "indicator": step.indicator,
        "label": both(line.indicator.label),
        "says": {"zh": says.zh.format(bound=bound), "en": says.en.format(bound=bound)},
        "value_now": line.value,
        "value_then": step.bound,
        "points_now": line.points,
        "points_then": (advice.points or {}).get(step.indicator),
    }


def _peers(found: Explanation, blocks: Sequence[str] | None) -> Document | None:
    """Quartiles of the score and of each block; for whom only some blocks are meant, of these."""
    if found.group is None:
        return None
    wanted = {name: one for name, one in found.quartiles.items() if blocks is None or name in blocks}
    return {
        "group": found.group.name,
        "group_says": both(words.GROUPS[found.group.name]),
        "size": found.group.size,
        "quartiles": {name: quartiles_part(one) for name, one in wanted.items()},
    }


def _rights(found: Explanation) -> Document:
    return {
        "objection": objection_part(found.ws, found.guide.objection.routes),
        "all": [{**both(right), "clause": right.clause} for right in found.guide.rights],
    }


# -- what an auditor needs to follow the way back -----------------------------------------------------------------------


def _audit(found: Explanation) -> Document:
    deliveries = _deliveries(found)
    models = {line.indicator.model for line in found.lines if line.indicator.source == "sql"} | {_features(found)}
    return {
        "subject_key": found.key,
        "fingerprint": found.graded.fingerprint,
        "graded_at": found.graded.graded_at,
        "code_version": code_version(),
        "key_version": found.ws.token_key.version,
        "rulesets": sorted({str(one["ruleset"]) for one in deliveries}),
        "policy_file_sha256": hashlib.sha256(found.policies.files[found.subject].read_bytes()).hexdigest(),
        "models": {name: _sha256(found.ws.models[name].sql) for name in sorted(models) if name in found.ws.models},
        "deliveries": deliveries,
        "indicators": {line.indicator.id: _computed_by(found, line) for line in found.lines},
    }


def _features(found: Explanation) -> str:
    return f"{found.subject}_features"


def _computed_by(found: Explanation, line: Line) -> str:
    """Where an indicator's value is computed: its SQL model, or the word of the policy that says how."""
    return line.indicator.model if line.indicator.source == "sql" else f"{_features(found)} ({line.indicator.source})"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _deliveries(found: Explanation) -> list[Document]:
    """The deliveries in force of the datasets and banks behind the household."""
    datasets = {dataset for line in found.lines for dataset in found.datasets_of(line)} | {"consents"}
    other_banks = set(found.ws.registry.banks) - set(found.banks)
    behind = [one for one in found.inputs.in_force if one.dataset in datasets and one.supplier not in other_banks]
    return [
        {"delivery_id": one.delivery_id, "supplier": one.supplier, "dataset": one.dataset, "period": one.period,
         "revision": one.revision, "sha256": one.sha256, "ruleset": one.ruleset}
        for one in sorted(behind, key=lambda one: (one.dataset, one.supplier))
    ]  # fmt: skip
