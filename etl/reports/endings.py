"""How items of the lists that count against a household end, and how it would be graded without them.

Each item is taken out of force in the graded month, and the plan's own statements grade the household again: points, vetoes
and holds count as they count for the household itself. An item ends by repair or revocation, else when its term is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa

from etl.engine.dialect import parse, tables_read
from etl.engine.duck import DuckEngine
from etl.grading import Statement
from etl.reports.advice import Graded, graded_of

EVENTS: Final = "core_credit_events"
GRADES: Final = "core_household_grades"
NEGATIVE: Final = "negative"
ITEMS: Final = "feature_list_items"
_WHOLE, _ENDED = f"{EVENTS}__whole", "ended_items"
_AGAINST: Final = f"""
    SELECT i.event_key, i.list_kind, i.item_code, e.issuer_kind, e.legal_basis, e.notice_on, e.event_from_on, e.counts_until_on
    FROM feature_list_items AS i INNER JOIN {EVENTS} AS e ON e.event_key = i.event_key
    WHERE i.household_key = $key AND (i.list_kind IN (SELECT unnest($lists)) OR (i.list_kind = 'veto' AND i.reaches_household))
    ORDER BY i.list_kind DESC, i.event_from_on, i.event_key"""


@dataclass(frozen=True)
class Item:
    """One item that counts against a household; `counts_until_on` is its last day, None where no term is on record."""

    event_key: str
    list_kind: str
    item_code: str
    issuer_kind: str | None
    legal_basis: str | None
    notice_on: date | None
    event_from_on: date
    counts_until_on: date | None


@dataclass(frozen=True)
class Ending:
    """An item, and how the household is graded once it has ended."""

    item: Item
    graded: Graded


@dataclass(frozen=True)
class Endings:
    """The items against a household, vetoes first; `together` says how it is graded without any of several."""

    each: Sequence[Ending]
    together: Graded | None


def endings_of(
    engine: DuckEngine,
    statements: Sequence[Statement],
    household_key: str,
    run: Callable[[Statement], None],
    *,
    lists: Sequence[str] = (NEGATIVE,),
) -> Endings:
    """Grade a household once without each item against it, and once without all of them.

    Vetoes count in any case, other items where their list is among `lists`. `engine` holds a month graded by `statements`,
    with the household in it, and holds the same again afterwards. `run` makes one relation of the plan. A household without
    a score is not graded again: nothing would come of it.
    """
    rows = engine.fetch(_AGAINST, {"key": household_key, "lists": list(lists)})
    if not rows or graded_of(engine, household_key).score is None:
        return Endings((), None)
    items = [Item(*row) for row in rows]
    engine.run_model(_WHOLE, f"SELECT * FROM {EVENTS}")
    again = list(_resting_on_events(statements))

    def without(keys: Iterable[str]) -> Graded:
        engine.register_arrow(_ENDED, pa.table({"event_key": pa.array(list(keys), pa.string())}))
        in_force = f"is_in_force AND event_key NOT IN (SELECT event_key FROM {_ENDED})"
        engine.run_model(EVENTS, f"SELECT * REPLACE ({in_force} AS is_in_force) FROM {_WHOLE}")
        for statement in again:
            run(statement)
        return graded_of(engine, household_key)

    each = [Ending(item, without([item.event_key])) for item in items]
    together = without(item.event_key for item in items) if len(items) > 1 else None
    without([])
    return Endings(each, together)


def _resting_on_events(statements: Sequence[Statement]) -> Iterable[Statement]:
    """What has to be made again once items changed, up to the grades of households."""
    changed = {EVENTS}
    for statement in statements:
        if not statement.is_of_peers and tables_read(parse(statement.sql)) & changed:
            changed.add(statement.name)
            yield statement
        if statement.name == GRADES:
            return
