"""Which rows a month reads otherwise than delivered: corrections in time, beside what the sources said and say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from etl import mended
from etl.contract.predicates import accepted_columns, keys_columns, rejected_columns
from etl.deliveries import path_of
from etl.engine.duck import DuckEngine
from etl.ledger.cases import Target
from etl.mended import Mend, MendedMonth, Sources, state_of
from etl.period import Period
from etl.workspace import Workspace
from tests.sql.month import CONTRACTS, MODELS

JAN, FEB, MAR, APR, MAY = (Period(2024, month) for month in range(1, 6))
H = "h1"


@dataclass
class Sent:
    """What a county's suppliers sent: accepted, rejected and listed rows by month."""

    folder: Path
    deliveries: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ws = cast(
            Workspace,
            SimpleNamespace(
                contracts=CONTRACTS,
                models=MODELS,
                contract_of=CONTRACTS.for_dataset,
                registry=SimpleNamespace(county=SimpleNamespace(first_period=JAN), banks={"a": None}),
                settings=SimpleNamespace(restricted=self.folder),
                ledger=SimpleNamespace(in_force=lambda period: self.deliveries.get(period, [])),
                engine=DuckEngine,
            ),
        )

    def send(
        self,
        month: Period,
        dataset: str,
        *rows: Mapping[str, Any],
        refused: Sequence[Mapping[str, Any]] = (),
        listed: Sequence[str] | None = None,
        supplier: str = "county",
    ) -> None:
        delivery = SimpleNamespace(
            delivery_id=f"{supplier}-{dataset}-{month}", dataset=dataset, supplier=supplier, period=str(month),
            sha256=f"sha-{month}",
        )  # fmt: skip
        self.deliveries.setdefault(str(month), []).append(delivery)
        contract = CONTRACTS.for_dataset(dataset)
        self._write("accepted", delivery, accepted_columns(contract), rows)
        self._write("rejected", delivery, rejected_columns(contract), refused)
        if listed is not None:
            self._write(
                "keys", delivery, keys_columns(contract, "household_no"), [{"household_key": one} for one in listed]
            )

    def _write(self, kind: str, delivery: Any, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        with DuckEngine() as engine:
            texts = {name: pa.array([_text(row.get(name)) for row in rows], pa.string()) for name in columns}
            engine.register_arrow("rows", pa.table(texts))
            items = ", ".join(f'CAST("{name}" AS {kind_}) AS "{name}"' for name, kind_ in columns.items())
            engine.write_parquet(f"SELECT {items} FROM rows", path_of(self.ws, kind, delivery))

    def read(
        self, month: Period, dataset: str, *mends: Mend, columns: str, late: Sequence[tuple[str, str]] = ()
    ) -> list[tuple[Any, ...]]:
        """The rows a month reads otherwise, by these columns."""
        here = self.deliveries.get(str(month), [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mended, "mends", lambda ws: list(mends))
            table = MendedMonth(self.ws, month, here, late).relations()[f"mended_{dataset}"]
        assert table.column_names == list(accepted_columns(CONTRACTS.for_dataset(dataset)))
        return [tuple(row.values()) for row in table.select(columns.split(", ")).to_pylist()]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return Sent(tmp_path)


def _mend(dataset: str, key: str, first: Period, until: str, **cells: tuple[str, str]) -> Mend:
    return Mend("case-1", Target(dataset, key, expires_on=date.fromisoformat(until)), first, cells)


LAND = {"farmland_mu": ("10.50", "2.50")}
LAND_COLUMNS = "household_key, farmland_mu, civility_score"


def _household(mu: str, **more: Any) -> dict[str, Any]:
    return {"household_key": H, "farmland_mu": mu, "civility_score": "88.0", "village_code": "v", **more}


def test_a_row_from_before_is_read_as_if_it_came_again_until_the_correction_ends(sent: Sent) -> None:
    """Delivered in February, mended from March to 15 May: April's end is before that day, May's is not."""
    sent.send(FEB, "households", _household("10.5"), {"household_key": "h2", "farmland_mu": "3"})
    mend = _mend("households", H, MAR, "2024-05-15", **LAND)
    read = {month: sent.read(month, "households", mend, columns="farmland_mu") for month in (FEB, MAR, APR, MAY)}
    assert {month: [str(mu) for (mu,) in rows] for month, rows in read.items()} == {
        FEB: [], MAR: ["2.50"], APR: ["2.50"], MAY: ["10.50"],
    }  # fmt: skip
    [(key, mu, score)] = sent.read(MAR, "households", mend, columns=LAND_COLUMNS)
    assert (key, str(mu), str(score)) == (H, "2.50", "88.00")


@pytest.mark.parametrize(("until", "applied"), [("2024-03-30", []), ("2024-03-31", ["2.50"])])
def test_the_last_day_is_compared_with_the_months_end(sent: Sent, until: str, applied: list[str]) -> None:
    sent.send(MAR, "households", _household("10.5"))
    rows = sent.read(MAR, "households", _mend("households", H, MAR, until, **LAND), columns="farmland_mu")
    assert [str(mu) for (mu,) in rows] == applied


def test_what_the_source_delivers_anew_is_believed(sent: Sent) -> None:
    sent.send(FEB, "households", _household("10.5"))
    sent.send(APR, "households", _household("7"))
    mend = _mend("households", H, MAR, "2024-12-31", **LAND)
    assert [len(sent.read(month, "households", mend, columns="farmland_mu")) for month in (MAR, APR, MAY)] == [1, 0, 0]
    with DuckEngine() as engine:
        sources = Sources(sent.ws, engine)
        assert [state_of(sources, mend, month) for month in (FEB, MAR, APR)] == ["waiting", "applied", "healed"]
        ended = _mend("households", H, MAR, "2024-03-31", **LAND)
        assert state_of(sources, ended, APR) == "expired"


def test_the_same_wrong_value_delivered_again_is_mended_again(sent: Sent) -> None:
    sent.send(FEB, "households", _household("10.5"))
    sent.send(APR, "households", _household("10.50", civility_score="60"))
    rows = sent.read(APR, "households", _mend("households", H, MAR, "2024-12-31", **LAND), columns=LAND_COLUMNS)
    assert [(str(mu), str(score)) for _, mu, score in rows] == [("2.50", "60.00")]


def test_two_corrections_of_a_row_hold_together_and_end_apart(sent: Sent) -> None:
    sent.send(FEB, "households", _household("10.5"))
    score = _mend("households", H, MAR, "2024-04-15", civility_score=("88.00", "70.00"))
    mends = (_mend("households", H, MAR, "2024-12-31", **LAND), score)
    read = {month: sent.read(month, "households", *mends, columns=LAND_COLUMNS) for month in (MAR, APR)}
    assert [(str(mu), str(marks)) for _, mu, marks in read[MAR]] == [("2.50", "70.00")]
    assert [(str(mu), str(marks)) for _, mu, marks in read[APR]] == [("2.50", "88.00")]


def test_an_empty_cell_can_be_wrong_and_right(sent: Sent) -> None:
    sent.send(MAR, "households", _household("10.5", residence_status="absent", absent_since_on="2023-01-01"))
    cells = {"residence_status": ("absent", "resident"), "absent_since_on": ("2023-01-01", "")}
    rows = sent.read(
        MAR,
        "households",
        _mend("households", H, MAR, "2024-12-31", **cells),
        columns="residence_status, absent_since_on",
    )
    assert rows == [("resident", None)]
    blank = _mend("households", H, MAR, "2024-12-31", annual_income_yuan=("", "32000.00"))
    assert [str(yuan) for (yuan,) in sent.read(MAR, "households", blank, columns="annual_income_yuan")] == ["32000.00"]


@pytest.mark.parametrize("why", ["late", "refused", "refused before", "deleted"])
def test_a_row_that_waits_goes_on_waiting(sent: Sent, why: str) -> None:
    """Nothing that was delayed or refused may lift a grade by way of a correction (DESIGN 9.6)."""
    gone = [{"household_key": H}]
    sent.send(FEB, "households", _household("10.5"), listed=[H])
    sent.send(MAR, "households", refused=gone if why == "refused before" else (), listed=[H])
    late = [("county", "households")] if why == "late" else []
    if not late:
        sent.send(APR, "households", refused=gone if why == "refused" else (), listed=[] if why == "deleted" else [H])
    mend = _mend("households", H, MAR, "2024-12-31", **LAND)
    assert sent.read(APR, "households", mend, columns="farmland_mu", late=late) == []


def test_an_event_comes_again_once_when_its_correction_begins_and_once_when_it_ends(sent: Sent) -> None:
    sent.send(JAN, "mediation", {"case_key": "c", "performance": "unperformed"})
    mend = _mend("mediation", "c", FEB, "2024-04-15", performance=("unperformed", "performed"))
    read = [sent.read(month, "mediation", mend, columns="case_key, performance") for month in (FEB, MAR, APR, MAY)]
    assert read == [[("c", "performed")], [], [("c", "unperformed")], []]


def test_a_banks_row_is_mended_in_the_bytes_it_stands_in_and_nowhere_else(sent: Sent) -> None:
    note = {"loan_key": "l", "supplier": "a", "overdue_days": "40"}
    for month in (FEB, MAR):
        sent.send(month, "loans", note, supplier="a")
    target = Target("loans", "l", "a", f"sha-{FEB}", expires_on=date(2024, 12, 31))
    mend = Mend("case-1", target, FEB, {"overdue_days": ("40", "0")})
    assert sent.read(FEB, "loans", mend, columns="supplier, loan_key, overdue_days") == [("a", "l", 0)]
    assert sent.read(MAR, "loans", mend, columns="overdue_days") == []
    assert sent.read(APR, "loans", mend, columns="overdue_days") == []
    with DuckEngine() as engine:
        assert [state_of(Sources(sent.ws, engine), mend, month) for month in (FEB, MAR)] == ["applied", "healed"]
