"""What the rules of one delivery may refer to besides its own cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

SCALARS = ("period_start", "period_end", "supplier")
LISTS = ("institution_codes", "county_codes", "known_villages", "id_prefixes")
DELIVERY_FACTS = ("rows_read", "rows_rejected", "max_rejected_share")


@dataclass(frozen=True)
class Context:
    """Literals for checks: the delivered month, who delivers, and the code lists that depend on the county.

    `county_codes` are the recipients a consent may name; `known_villages` the 12-digit codes valid in the month.
    """

    period_start: date
    period_end: date
    institution_codes: Sequence[str]
    county_codes: Sequence[str]
    known_villages: Sequence[str]
    supplier: str
    id_prefixes: Sequence[str]

    def only(self, names: Collection[str]) -> Context:
        """The same with nothing but these names, to tell whether two conditions mean the same."""
        kept: dict[str, Any] = {name: getattr(self, name) for name in names}
        kept |= {name: tuple(kept[name]) for name in names if name in LISTS}
        return replace(_NOTHING, **kept)


_NOTHING = Context(date.min, date.min, (), (), (), "", ())
