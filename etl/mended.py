"""Single values of sources that two people of the county set right: which rows a month reads otherwise than delivered.

A correction speaks of one row of a source, by the token of its number, and of some of its cells: each as delivered and as
it should be. It is applied to what the month reads (`mended_<dataset>` holds the whole rows), never to landed bytes or to
accepted files, and only while the source still says what was to be corrected: what the source delivers anew is believed.
- The county's own rows (register, logs, ballots, lists) are mended in every month from the one the case speaks of until
  the correction expires, in the month that delivered them or, where the row stands from before, as if it came again.
- A bank's row is mended in the very bytes it stands in; what the bank sends next stands as sent.
A correction counts for a month if it was approved until the end of the month after it, like every step of a case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from etl.contract.model import Contract
from etl.contract.predicates import accepted_columns
from etl.deliveries import path_of
from etl.engine.duck import DuckEngine, identifier, literal
from etl.intake.sealing import create_master_key, open_text
from etl.ledger import cases as ledger
from etl.ledger.cases import Case, Target
from etl.ledger.records import Delivery
from etl.period import Period
from etl.workspace import Workspace

DELIVERED: Final = "delivered:"
RIGHT: Final = "right:"
PREFIX: Final = "mended_"
APPLIED, HEALED, EXPIRED, WAITING = "applied", "healed", "expired", "waiting"
Cells = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Mend:
    """One approved correction; `cells` are {column: (as delivered, right)} as canonical text, empty for nothing.

    `first` is the first month it counts for.
    """

    case_id: str
    target: Target
    first: Period
    cells: Cells

    def is_in_force(self, period: Period) -> bool:
        """Whether it is applied in a month, as far as time decides."""
        return self.first <= period and (self.target.expires_on is None or self.target.expires_on >= period.end)

    @property
    def ended(self) -> Period | None:
        """The first month in which it has expired."""
        last = self.target.expires_on
        if last is None:
            return None
        month = Period(last.year, last.month)
        return month.next() if last >= month.end else month


def mends(ws: Workspace) -> list[Mend]:
    """Every approved correction, in the order of the cases."""
    targets = ledger.targets_of(ws.ledger)
    cases = ledger.all_cases(ws.ledger) if targets else []
    approved = [
        case for case in cases if case.case_id in targets and case.case_kind != "repair" and case.verdict == "upheld"
    ]
    if not approved:
        return []
    sealed = ledger.sealed_texts_of(ws.ledger, [case.case_id for case in approved])
    master = create_master_key(ws.master_key_path)
    return [
        Mend(
            case.case_id,
            targets[case.case_id],
            _first_month(case),
            _cells(case.case_id, sealed.get(case.case_id, {}), master),
        )
        for case in approved
    ]


def _first_month(case: Case) -> Period:
    """The month the case speaks of, or a later one: the month worked on when it was approved."""
    answered = case.on("answered") or date.max
    return max(Period.parse(case.period), Period(answered.year, answered.month).previous())


def _cells(case_id: str, sealed: Mapping[str, bytes], master: bytes) -> Cells:
    """What a correction says of its cells, unsealed."""
    columns = sorted(part.removeprefix(DELIVERED) for part in sealed if part.startswith(DELIVERED))
    return {
        column: (
            open_text(sealed[DELIVERED + column], master, case_id),
            open_text(sealed[RIGHT + column], master, case_id),
        )
        for column in columns
    }


# -- what a source said last -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What a source said last of a row: the delivery, the cells as text; whether a newer version was refused since."""

    delivery: Delivery
    row: Mapping[str, str]
    is_refused_since: bool = False

    def agrees(self, cells: Cells) -> bool:
        """Whether the row still says what is to be corrected."""
        return all(self.row[column] == delivered for column, (delivered, _) in cells.items())


@dataclass
class Sources:
    """The accepted deliveries in force, asked for single rows."""

    ws: Workspace
    engine: DuckEngine
    _months: dict[Period, list[Delivery]] = field(default_factory=dict)

    def last_said(self, dataset: str, row_key: str, until: Period, bank: str | None = None) -> Said | None:
        """What was said last of a row up to a month (by one bank); None where no delivery in force holds it."""
        contract, refused = self.ws.contract_of(dataset), False
        month = until
        while month >= self.ws.registry.county.first_period:
            for delivery in self.deliveries(dataset, month, bank):
                if rows := self._row(contract, delivery, row_key):
                    return Said(delivery, rows[0], refused)
                refused = refused or self._is_in(path_of(self.ws, "rejected", delivery), contract, row_key)
            month = month.previous()
        return None

    def deliveries(self, dataset: str, month: Period, bank: str | None = None) -> list[Delivery]:
        """The deliveries of a dataset in force in a month, of one bank or of everybody."""
        if month not in self._months:
            self._months[month] = self.ws.ledger.in_force(str(month))
        same = [one for one in self._months[month] if one.dataset == dataset]
        return [one for one in same if bank is None or one.supplier == bank]

    def is_listed(self, dataset: str, row_key: str, month: Period) -> bool:
        """Whether a pulled source still holds the row; a source without a list of its keys holds all it ever named."""
        contract = self.ws.contract_of(dataset)
        lists = [path_of(self.ws, "keys", one) for one in self.deliveries(dataset, month)]
        there = [path for path in lists if path.exists()]
        return not there or any(self._is_in(path, contract, row_key) for path in there)

    def whole(self, said: Said, row_key: str, cells: Mapping[str, str]) -> pa.Table:
        """The accepted row with some cells as they should be."""
        contract = self.ws.contract_of(said.delivery.dataset)
        columns = accepted_columns(contract)
        self.engine.register_parquet("held", [path_of(self.ws, "accepted", said.delivery)], columns)
        items = ", ".join(_item(name, kind, cells) for name, kind in columns.items())
        return self.engine.arrow(f"SELECT {items} FROM held WHERE {_number(contract)} = $key", {"key": row_key})

    def tokens(self, said: Said, row_key: str, names: Sequence[str]) -> dict[str, str]:
        """Some text columns of the accepted row, where they are filled."""
        row = self.whole(said, row_key, {}).select(list(names)).to_pylist()[0]
        return {name: value for name, value in row.items() if value is not None}

    def _row(self, contract: Contract, delivery: Delivery, row_key: str) -> list[dict[str, str]]:
        self.engine.register_parquet("held", [path_of(self.ws, "accepted", delivery)], accepted_columns(contract))
        items = ", ".join(f"coalesce(CAST({identifier(name)} AS VARCHAR), '')" for name in contract.correctable)
        found = self.engine.fetch(f"SELECT {items} FROM held WHERE {_number(contract)} = $key", {"key": row_key})
        return [dict(zip(contract.correctable, row, strict=True)) for row in found]

    def _is_in(self, path: Path, contract: Contract, row_key: str) -> bool:
        if not path.exists():
            return False
        self.engine.register_parquet("held", [path], {number_of(contract): "VARCHAR"})
        return bool(self.engine.fetch(f"SELECT 1 FROM held WHERE {_number(contract)} = $key LIMIT 1", {"key": row_key}))


def number_of(contract: Contract) -> str:
    """The token by which rows of a dataset with correctable columns are found."""
    column = contract.numbered_by
    assert column is not None and column.token is not None  # every contract with correctable columns has one
    return column.token.name


def _number(contract: Contract) -> str:
    return identifier(number_of(contract))


def _item(name: str, kind: str, cells: Mapping[str, str]) -> str:
    """A column of the row, or the text that takes its place."""
    if name not in cells:
        return identifier(name)
    value = literal(cells[name]) if cells[name] else "NULL"
    return f"CAST({value} AS {kind}) AS {identifier(name)}"


# -- a month -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MendedMonth:
    """What a month reads otherwise than delivered. `carried` are the (supplier, dataset) the month does without."""

    ws: Workspace
    period: Period
    in_force: Sequence[Delivery]
    carried: Collection[tuple[str, str]]

    def mark(self) -> list[Any]:
        """What the month's fingerprint holds of it: nothing, where there is no correction that concerns it."""
        return [
            [one.case_id, one.is_in_force(self.period), hashlib.md5(repr(one.cells).encode()).hexdigest()]
            for one in self._counted()
        ]

    def relations(self) -> dict[str, pa.Table]:
        """`mended_<dataset>` for every dataset of which something may be corrected; its columns are those of accepted rows."""
        counted = self._counted()
        with self.ws.engine() as engine:
            return dict(self._relations(Sources(self.ws, engine), counted))

    def _relations(self, sources: Sources, counted: Sequence[Mend]) -> Iterator[tuple[str, pa.Table]]:
        for contract in self.ws.contracts.values():
            if contract.correctable and contract.dataset:
                sources.engine.register_parquet("nothing", [], accepted_columns(contract))
                empty = sources.engine.arrow("SELECT * FROM nothing")
                own = [one for one in counted if one.target.dataset == contract.dataset]
                yield PREFIX + contract.dataset, pa.concat_tables([empty, *self._rows(sources, contract, own)])

    def _counted(self) -> list[Mend]:
        """Corrections that concern the month, whatever the sources say: those of banks only in the bytes they speak of."""
        here = {delivery.sha256 for delivery in self.in_force}
        return [
            one
            for one in mends(self.ws)
            if one.first <= self.period and (one.target.bank_code is None or one.target.delivery_sha256 in here)
        ]

    def _rows(self, sources: Sources, contract: Contract, own: Sequence[Mend]) -> Iterator[pa.Table]:
        for row_key in sorted({one.target.row_key for one in own}):
            same = [one for one in own if one.target.row_key == row_key]
            said = sources.last_said(str(contract.dataset), row_key, self.period, same[0].target.bank_code)
            if said is not None:
                agreeing = [one for one in same if said.agrees(one.cells)]
                if self._is_read_anew(sources, contract, said, agreeing):
                    yield sources.whole(said, row_key, self._right(agreeing))

    def _right(self, agreeing: Iterable[Mend]) -> dict[str, str]:
        live = [one for one in agreeing if one.is_in_force(self.period)]
        return {column: right for one in live for column, (_, right) in one.cells.items()}

    def _is_read_anew(self, sources: Sources, contract: Contract, said: Said, agreeing: Sequence[Mend]) -> bool:
        """Whether the month reads the row otherwise than from its deliveries and the month before.

        A state (register, lists) is read from the month before while nothing comes; an event (log, ballot) is read once, and
        again when it changes.
        """
        if said.delivery.period == str(self.period):
            return bool(self._right(agreeing))
        if f"previous_{contract.table}" in self.ws.models[contract.table].depends:
            return self._is_free(sources, said, agreeing) and any(self._is_due(said, one) for one in agreeing)
        return any(self._begins_or_ends(one) for one in agreeing)

    def _begins_or_ends(self, mend: Mend) -> bool:
        begins = mend.first == self.period and mend.is_in_force(self.period)
        return begins or (mend.ended == self.period and mend.first < self.period)

    def _is_due(self, said: Said, mend: Mend) -> bool:
        """Whether the row is to be read as mended or, from the end of the correction on, again as delivered before it."""
        told = Period.parse(said.delivery.period)
        return mend.is_in_force(self.period) or (mend.ended is not None and told < mend.ended)

    def _is_free(self, sources: Sources, said: Said, agreeing: Sequence[Mend]) -> bool:
        """Whether the row waits for nothing: its source is not late, no newer version was refused, it is still listed."""
        is_late = any(carried == said.delivery.dataset for _, carried in self.carried)
        if is_late or said.is_refused_since:
            return False
        return all(sources.is_listed(one.target.dataset, one.target.row_key, self.period) for one in agreeing)


def state_of(sources: Sources, mend: Mend, period: Period) -> str:
    """What became of a correction in a month: applied, healed (the source says otherwise), expired, or waiting."""
    target = mend.target
    if not mend.is_in_force(period):
        return WAITING if mend.first > period else EXPIRED
    said = sources.last_said(target.dataset, target.row_key, period, target.bank_code)
    is_other = said is not None and target.bank_code is not None and said.delivery.sha256 != target.delivery_sha256
    return HEALED if said is None or is_other or not said.agrees(mend.cells) else APPLIED
