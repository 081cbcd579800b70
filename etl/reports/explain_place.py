"""The explanation of a village's or a town's grade as its reader may have it.

No household is named in it. What banks report (arrears, balances) is for the county and its auditors; a place itself, and
its villages, see the shares that `config/explain.yml` names for them, and nothing that depends on the others: neither
whether a grade's conditions are met together, nor what would lift the grade, nor the state of the input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Final

from etl.grading.shares import features_of
from etl.ledger.transitions import code_version
from etl.registry import Bilingual
from etl.reports import explain_words as words
from etl.reports.explain_guide import Sight
from etl.reports.explain_parts import RESTRICTED, Document, both, known_part, maybe, objection_part, quartiles_part
from etl.reports.places import Counts, Criterion, PlaceExplanation

PLACE_SCHEMA: Final = "place_explanation/1"
SEES_ALL: Final = ("county", "auditor")
_HUNDREDTH: Final = Decimal("0.01")


def document(found: PlaceExplanation, audience: str) -> Document:
    """The document of one audience: `schema` names its form, keys are never left out but may be null."""
    sees_all = audience in SEES_ALL
    shares = [name for name in found.version.shares if sees_all or name in _sight(found).shares]
    criteria = [one for one in found.criteria if one.share in shares]
    county = found.told.ws.registry.county
    return {
        "schema": PLACE_SCHEMA,
        "for": audience,
        "synthetic": both(words.SYNTHETIC) if county.synthetic else None,
        "subject": found.place,
        "subject_says": both(words.subject_words(found.place)),
        "number": found.code,
        "name": _name(found, found.code),
        "period": found.told.period,
        "known": known_part(found.told),
        "town_code": found.row["town_code"],
        "town_name": _name(found, found.row["town_code"]),
        "grade": _grade(found, sees_all=sees_all),
        "policy": _policy(found),
        "shares": [_share(found, name) for name in shares],
        "grades": [_conditions(found, grade, criteria, sees_all=sees_all) for grade in _conditional(found)],
        "advice": _advice(found) if sees_all else None,
        "villages": [_village(found, dict(one)) for one in found.villages],
        "peers": _peers(found, shares),
        "rights": {"objection": objection_part(found.told.ws, found.guide.objection.routes_of_places), "all": []},
        "note": None if sees_all else both(words.PLACE_SIGHT),
        "audit": _audit(found) if audience == "auditor" else None,
    }


def _sight(found: PlaceExplanation) -> Sight:
    """What a place and its villages may see of its grade: nothing beyond it, where the guide does not say."""
    return found.guide.audiences.get(RESTRICTED, {}).get(found.place, Sight())


def _name(found: PlaceExplanation, code: str | None) -> str | None:
    """The newest name of a place."""
    known = sorted(found.told.ws.registry.places, key=lambda one: one.valid_from_on)
    return {place.place_code: place.place_name for place in known}.get(code or "")


def _grade(found: PlaceExplanation, *, sees_all: bool) -> Document:
    reason, state = found.row["not_rated_reason"], found.row["input_state"]
    return {
        "effective": found.grade,
        "not_rated_reason": reason,
        "not_rated_says": both(words.too_small(found.version.minimum_households)) if reason else None,
        "input_state": state if sees_all else None,
        "input_state_says": both(words.INPUT_STATES[state]) if sees_all else None,
        "unsettled_households": found.row["unsettled_households"] if sees_all else None,
    }


def _policy(found: PlaceExplanation) -> Document:
    version = found.version
    return {
        "name": found.place, "version": version.version, "status": version.status,
        "status_says": both(words.POLICY_STATUS[version.status]), "minimum_households": version.minimum_households,
    }  # fmt: skip


# -- shares and conditions --------------------------------------------------------------------------------------------


def _share(found: PlaceExplanation, name: str) -> Document:
    """A share with the counts behind it; the percentage is cut after two decimals, so that no bound seems reached."""
    share = found.version.shares[name]
    one = next(criterion for criterion in found.criteria if criterion.share == name)
    pct = _pct(one)
    return {
        "id": name,
        "label": both(_label(found, name)),
        "numerator": {"says": _column(found, share.numerator), "value": one.numerator},
        "denominator": {"says": _column(found, share.denominator), "value": one.denominator},
        "pct": pct,
        "pct_says": both(words.pct_words(pct, is_met=share.empty == "met")),
        "clause": share.clause or found.policy,
    }


def _label(found: PlaceExplanation, name: str) -> Bilingual:
    return found.version.shares[name].label or Bilingual(zh=name, en=name)


def _column(found: PlaceExplanation, name: str) -> dict[str, str]:
    return both(found.told.ws.contracts[f"core_{found.place}_grades"].columns[name].label)


def _pct(one: Criterion) -> Decimal | None:
    """The share in percent; None of nothing."""
    if one.denominator == 0:
        return None
    return (one.numerator * 100 / one.denominator).quantize(_HUNDREDTH, ROUND_DOWN)


def _conditional(found: PlaceExplanation) -> list[str]:
    """The grades that ask for something, the best first."""
    return [grade.grade for grade in found.version.grades if grade.all]


def _conditions(found: PlaceExplanation, grade: str, criteria: Sequence[Criterion], *, sees_all: bool) -> Document:
    """What a grade asks for; `first_failed` is the first condition, in the policy's order, that is not met."""
    own = [one for one in criteria if one.grade == grade]
    failed = [one.share for one in own if not one.is_met]
    return {
        "grade": grade,
        "is_met": not failed if sees_all else None,
        "first_failed": failed[0] if failed else None,
        "conditions": [_condition(found, one) for one in own],
    }


def _condition(found: PlaceExplanation, one: Criterion) -> Document:
    bounds = one.condition
    return {
        "share": one.share,
        "label": both(_label(found, one.share)),
        "at_least": bounds.at_least,
        "below": bounds.below,
        "says": both(words.bound_words(bounds.at_least, bounds.below)),
        "is_met": one.is_met,
        "short_by": one.short_by,
        "short_says": maybe(_step_words(found, one.share, one.short_by) if one.short_by else None),
    }


def _step_words(found: PlaceExplanation, share: str, count: int) -> Bilingual:
    says = found.guide.shares[found.place][share].says
    return Bilingual(zh=says.zh.format(count=count), en=says.en.format(count=count))


# -- advice, villages, peers, audit -----------------------------------------------------------------------------------


def _advice(found: PlaceExplanation) -> Document:
    advice = found.advice
    says, steps = words.PLACE_OUTCOMES[advice.outcome], advice.steps or {}
    target = advice.grade_after if advice.outcome == "found" else advice.target or ""
    return {
        "outcome": advice.outcome,
        "says": {"zh": says.zh.format(target=target), "en": says.en.format(target=target)},
        "target": advice.target,
        "steps": _steps(found, steps),
        "grade_after": advice.grade_after,
        "is_verified": advice.outcome == "found",
    }


def _steps(found: PlaceExplanation, steps: Counts) -> list[Document]:
    return [
        {"share": share, "label": both(_label(found, share)), "count": count,
         "says": both(_step_words(found, share, count))}
        for share, count in steps.items()
    ]  # fmt: skip


def _village(found: PlaceExplanation, row: Document) -> Document:
    """A village of a town with its grade, which is posted there."""
    code, grade = row["village_code"], row["village_grade"]
    return {
        "village_code": code,
        "village_name": _name(found, code),
        "grade": grade,
        "not_rated_reason": row["not_rated_reason"],
    }


def _peers(found: PlaceExplanation, shares: Sequence[str]) -> Document | None:
    if found.group is None:
        return None
    wanted = {name: one for name, one in found.quartiles.items() if name in shares}
    return {
        "group": found.group.name,
        "group_says": both(words.GROUPS[found.group.name]),
        "size": found.group.size,
        "quartiles": {name: quartiles_part(one) for name, one in wanted.items()},
    }


def _audit(found: PlaceExplanation) -> Document:
    told, features = found.told, features_of(found.place)
    return {
        "fingerprint": told.graded.fingerprint,
        "graded_at": told.graded.graded_at,
        "code_version": code_version(),
        "policy_file_sha256": hashlib.sha256(told.inputs.policies.files[found.place].read_bytes()).hexdigest(),
        "models": {features: hashlib.sha256(told.ws.models[features].sql.encode()).hexdigest()},
        "deliveries": [],
    }
