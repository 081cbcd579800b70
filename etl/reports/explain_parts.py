"""What the explanation of every kind of subject is put together from: audiences, texts, references, rights, quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from etl.ledger.cases import ANSWER_WITHIN, MARK_WITHIN
from etl.registry import Bilingual
from etl.reports import explain_words as words
from etl.reports.peers import Quartiles
from etl.reports.told import Told
from etl.tokens import token
from etl.workspace import Workspace

AUDIENCES: Final = ("subject", "village", "county", "auditor")
RESTRICTED: Final = "village"
_REFERENCE_HEX: Final = 10
Document = dict[str, Any]


def both(text: Bilingual) -> dict[str, str]:
    """A text as it stands in a document."""
    return {"zh": text.zh, "en": text.en}


def maybe(text: Bilingual | None) -> dict[str, str] | None:
    """A text that may be missing."""
    return both(text) if text else None


def reference(ws: Workspace, audience: str, subject_key: str, key: str) -> str:
    """A number for one reader to quote: the county can find the row, two readers cannot compare notes."""
    return token(ws.token_key, f"explain:{audience}", subject_key, key)[:_REFERENCE_HEX].upper()


def known_part(told: Told) -> Document | None:
    """As of which day a past state is told, and how long it was the one that was known; None for the present."""
    if told.known is None:
        return None
    grade = told.known.grade
    return {
        "as_of": told.known.on, "known_from_at": grade.known_from_at, "known_to_at": grade.known_to_at,
        "release_id": told.known.release_id, "says": both(words.as_of_words(told.known.on)),
    }  # fmt: skip


def objection_part(ws: Workspace, routes: Sequence[Bilingual]) -> Document:
    """How to object, to whom, and how soon it is marked and answered."""
    contact = ws.registry.county.contact
    return {
        "routes": [both(route) for route in routes],
        "marked_within_days": MARK_WITHIN.days,
        "answered_within_days": ANSWER_WITHIN.days,
        "contact": {**both(contact), "phone": contact.phone},
    }


def quartiles_part(one: Quartiles) -> Document:
    """Bounds of the quarters, and where one stands among them."""
    return {
        "low": one.low, "median": one.median, "high": one.high, "own": one.own, "position": one.position,
        "says": both(words.POSITIONS[one.position]),
    }  # fmt: skip
