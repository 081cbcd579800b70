"""The part of an explanation that says how list items end, for those who may see all of it."""

from __future__ import annotations

from etl.reports import explain_words as words
from etl.reports.advice import Graded
from etl.reports.documents import document_numbers
from etl.reports.endings import Ending, Item
from etl.reports.explain_guide import Clause
from etl.reports.explain_parts import Document, both, reference
from etl.reports.explanation import Explanation


def endings_part(found: Explanation, audience: str) -> Document | None:
    """Each item against the household: what ends it, when it ends at the latest, and the grade without it.

    The number of the document is told to the household alone.
    """
    if found.endings is None or not found.endings.each:
        return None
    keys = [ending.item.event_key for ending in found.endings.each]
    numbers = document_numbers(found.ws, keys, found.period) if audience == "subject" else {}
    together = found.endings.together
    return {
        "items": [_ending(found, one, audience, numbers.get(one.item.event_key)) for one in found.endings.each],
        "together": _then(together) if together else None,
    }


def _ending(found: Explanation, ending: Ending, audience: str, document_no: str | None) -> Document:
    item = ending.item
    return {
        "reference": reference(found.ws, audience, found.key, item.event_key)
        if audience == "subject"
        else item.event_key,
        "list_says": _code(found, "list_kind", item.list_kind),
        "label": _code(found, "item_code", item.item_code),
        "document_no": document_no,
        "issuer_says": _code(found, "issuer_kind", item.issuer_kind),
        "basis_says": _code(found, "legal_basis", item.legal_basis),
        "notice_on": item.notice_on,
        "from_on": item.event_from_on,
        "counts_until_on": item.counts_until_on,
        "until_says": both(words.until_words(item.counts_until_on)),
        "ways": [{**both(way), "clause": way.clause} for way in _ways(found, item)],
        "then": _then(ending.graded),
    }


def _ways(found: Explanation, item: Item) -> list[Clause]:
    """The lawful ways in which an item ends before its term."""
    repair = found.guide.list_items.repair.get(item.item_code)
    return [*([repair] if repair else []), found.guide.list_items.revocation]


def _then(graded: Graded) -> Document:
    """The grade the policy gives, run again; a hold may keep it from taking effect at once."""
    hold = graded.hold_reason
    return {
        "score": graded.score, "grade": graded.computed_grade, "hold_says": both(words.hold_words(hold)[0]) if hold else None,
    }  # fmt: skip


def _code(found: Explanation, name: str, value: str | None) -> dict[str, str] | None:
    """A coded value in words; its code where the lists of today do not know it."""
    return found.ws.registry.codes.values(name).get(value, {"zh": value, "en": value}) if value else None
