"""A graded month once more: its inputs and core tables as they were graded, so that a policy can be run on them again.

Nothing is written. What the plan makes (`household_scores`, `core_household_points`, `core_household_grades`, …) is left in
the engine for whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from etl import months
from etl.engine.duck import DuckEngine
from etl.grading.policy import Policies
from etl.ledger.records import Grading
from etl.months import MonthInputs
from etl.vocabulary import DataError
from etl.workspace import Workspace

REGISTER = "core_households"
_WHOLE, _CHOSEN = f"{REGISTER}__whole", f"{REGISTER}__chosen"


@dataclass(frozen=True)
class FrozenMonth:
    """An engine that holds a graded month, and what the month rests on. `households` are those to grade; None: all."""

    engine: DuckEngine
    inputs: MonthInputs
    households: frozenset[str] | None

    def grade(self) -> None:
        """Run the grading plan. Households that are not chosen still count among the peers, and in no other relation."""
        statements = months.plan(self.inputs)
        peers = [one for one in statements if one.is_of_peers]
        for statement in peers:
            months.run_statement(self.engine, self.inputs, statement)
        self._narrow()
        for statement in statements:
            if statement not in peers:
                months.run_statement(self.engine, self.inputs, statement)

    def make_mart(self, name: str) -> None:
        """Make one mart from the grades, as it would be published."""
        months.make_mart(self.engine, self.inputs, name)

    def _narrow(self) -> None:
        if self.households is None:
            return
        self.engine.register_arrow(_CHOSEN, pa.table({"household_key": pa.array(sorted(self.households), pa.string())}))
        self.engine.run_model(
            REGISTER, f"SELECT h.* FROM {_WHOLE} AS h SEMI JOIN {_CHOSEN} AS c ON c.household_key = h.household_key"
        )


@contextmanager
def frozen_month(
    ws: Workspace, period: str, *, policies: Policies | None = None, households: Iterable[str] | None = None
) -> Iterator[FrozenMonth]:
    """A month as last graded, ready for `grade()`: under other policies, for some households only, or both.

    Raises DataError when its inputs are not those it was graded from: there is nothing frozen to look at.
    """
    present = months.inputs_of(ws, period)
    graded, inputs = _graded(ws, present), replace(present, candidate=policies)
    chosen = None if households is None else frozenset(households)
    with ws.engine() as engine:
        months.register_inputs(engine, inputs)
        for table in (name for name, model in ws.models.items() if model.layer == "core"):
            name = _WHOLE if table == REGISTER else table
            months.register_staged(engine, ws, name, table, [graded])
        engine.run_view(REGISTER, f"SELECT * FROM {_WHOLE}")
        yield FrozenMonth(engine, inputs, chosen)


def _graded(ws: Workspace, present: MonthInputs) -> Grading:
    period = str(present.period)
    graded = ws.ledger.last_grading(period)
    if graded is None or graded.fingerprint != present.fingerprint:
        problem = "not graded yet" if graded is None else "graded from other inputs than the present ones"
        raise DataError(f"{period}: {problem}", f"grade it first: creditvillage run --period {period}")
    return graded
