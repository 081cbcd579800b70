"""A correction of ten notes against computing the whole month: accepted rows in, graded files in the lake.

The accepted rows are made here, not taken in: the county of `benchmarks.grading` as its suppliers would have delivered it,
graded once beforehand. Both sides end with their files written, named and noted; the ledger is left out. What is said of
seconds is the work alone, from registering the inputs on: starting Python and reading the configuration is the same for both.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from benchmarks.grading import BANKS, FAMILY, HOUSEHOLDS_PER_CASE, core_tables, villages_select
from benchmarks.quiet import NoCases, QuietMonth, quiet_delivery, quiet_month
from etl import deliveries, incremental, months, pipeline
from etl.caseload import Caseload
from etl.contract.predicates import accepted_columns, rejected_columns
from etl.engine.duck import LOOKUP_GROUP_ROWS, DuckEngine, identifier, literal
from etl.ledger.records import Delivery, Grading
from etl.months import MonthInputs, Staged
from etl.settings import Settings
from etl.workspace import Workspace

NOW = datetime(2024, 3, 6, 1, 0, tzinfo=UTC)
CORRECTED = 10
# the lists for the ledger keep the keys of all members at hand several times over
WHOLE_MEMORY, MEMORY = "5000MB", "2000MB"
_GRADED = "graded.json"
_KEYS = {"households": "household_key", "members": "member_key", "consents": "consent_key"}


@dataclass(frozen=True)
class Mended(NoCases):
    """The first notes of a bank were delivered wrongly: they are long overdue."""

    loan_keys: Sequence[str] = ()

    @cached_property
    def mended_notes(self) -> list[dict[str, Any]]:
        return [
            {"bank_code": BANKS[0], "loan_key": key, "overdue_days": 200, "five_class": "substandard"}
            for key in self.loan_keys
        ]


@dataclass(frozen=True)
class CorrectedMonth(QuietMonth):
    """The month after the correction."""

    loan_keys: Sequence[str] = ()

    @cached_property
    def caseload(self) -> Caseload:
        return Mended(cast(Any, None), self.period, self.loan_keys)


class NoLedger:
    """What staging a month tells the ledger; remembers the grading."""

    graded: Grading | None = None

    def record_grading(
        self,
        period: str,
        fingerprint: str,
        staged_path: str,
        contents: Mapping[str, str],
        *,
        now: datetime,
        basis: object,
    ) -> None:
        self.graded = Grading(period, fingerprint, staged_path, contents, now)

    def save_unmatched(self, period: str, table: object) -> None:
        pass

    def save_no_basis(self, period: str, table: object) -> None:
        pass


def write_accepted(folder: Path, households: int) -> None:
    """Make `folder/home`: the accepted rows of one month, and its grading; the same contents every time."""
    ws = workspace(folder / "home")
    with ws.engine() as engine:
        engine.run_model("villages", villages_select(ws.registry.places))
        for delivery, columns, source in _delivered(households):
            contract = ws.contract_of(delivery.dataset)
            held = accepted_columns(contract)
            given = columns | {
                "supplier": f"'{delivery.supplier}'",
                "_delivery": f"'{delivery.delivery_id}'",
                "_row": "n + 1",
            }
            _write(engine, held, given, source, deliveries.path_of(ws, "accepted", delivery))
            _write(
                engine,
                rejected_columns(contract),
                {},
                "(SELECT 1) WHERE FALSE",
                deliveries.path_of(ws, "rejected", delivery),
            )
            if delivery.dataset in _KEYS:
                key = _KEYS[delivery.dataset]
                _write(engine, {key: "VARCHAR"}, columns, source, deliveries.path_of(ws, "keys", delivery))
    graded = grade_whole(ws, _month(ws))[1]
    (folder / "home" / _GRADED).write_text(json.dumps(asdict(graded), default=str), encoding="utf-8")


def whole(folder: Path, out: Path) -> dict[str, Any]:
    """The other side: the corrected month computed as a whole, in a home of its own."""
    given = folder / "home" / "restricted"
    shutil.copytree(given / "accepted", out / "restricted" / "accepted", copy_function=_link)
    shutil.copytree(given / "rejected", out / "restricted" / "rejected", copy_function=_link)
    shutil.copytree(given / "keys", out / "restricted" / "keys", copy_function=_link)
    ws = workspace(out)
    month = _month(ws, _chosen(ws))
    took, (staged, _) = measured(lambda: grade_whole(ws, month))
    size = sum(path.stat().st_size for path in (given / "accepted").rglob("*.parquet"))
    return {"rows": staged.rows, "bytes": size, **took}


def run(folder: Path) -> dict[str, Any]:
    """Ours: the correction alone, resting on the grading before it; gives the households affected and what was written."""
    ws = workspace(folder / "home", MEMORY)
    month = _month(ws, _chosen(ws))
    known = _known(folder / "home")
    took, again = measured(lambda: correct(ws, month, known))
    before = {file.path for file in months.staged_files(known)}
    written = [file for file in again.staged.files if file.path not in before]
    for path in (again.staged.path, *(ws.settings.lake / file.path for file in written)):
        path.unlink()
    return {
        "affected": again.affected,
        "files_written": len(written),
        "rows_written": sum(f.rows for f in written),
        **took,
    }


def corrected(folder: Path) -> incremental.Again:
    """The correction, resting on the grading before it."""
    ws = workspace(folder / "home")
    return correct(ws, _month(ws, _chosen(ws)), _known(folder / "home"))


def computed_whole(folder: Path) -> Staged:
    """The corrected month computed as a whole, in the same home."""
    ws = workspace(folder / "home")
    return grade_whole(ws, _month(ws, _chosen(ws)))[0]


def grade_whole(ws: Workspace, month: MonthInputs) -> tuple[Staged, Grading]:
    """Everything `etl.pipeline` does to grade a whole month."""
    ledger = _no_ledger(ws)
    with ws.engine() as engine:
        staged = pipeline.grade_whole(engine, month, is_base=True, now=NOW)
    assert ledger.graded is not None
    return staged, ledger.graded


def correct(ws: Workspace, month: MonthInputs, known: Grading) -> incremental.Again:
    """Everything `etl.pipeline` does to grade what a change affects."""
    _no_ledger(ws)
    with ws.engine() as engine:
        return incremental.grade_again(engine, month, known, now=NOW)


def measured(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Wall and CPU seconds of some work, and what it gave."""
    started, spent = time.perf_counter(), _cpu()
    result = work()
    return {"seconds": time.perf_counter() - started, "cpu_seconds": _cpu() - spent}, result


def workspace(home: Path, memory: str = WHOLE_MEMORY) -> Workspace:
    return Workspace(replace(Settings.from_environment({}), home=home.resolve(), memory_limit=memory))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _no_ledger(ws: Workspace) -> NoLedger:
    """A ledger in the place of the workspace's own, which would want a database."""
    ledger = NoLedger()
    vars(ws)["ledger"] = ledger
    return ledger


def _known(home: Path) -> Grading:
    held = json.loads((home / _GRADED).read_text(encoding="utf-8"))
    return Grading(**{**held, "graded_at": NOW})


def _month(ws: Workspace, loan_keys: Sequence[str] = ()) -> CorrectedMonth:
    quiet = quiet_month(ws, [delivery for delivery, _, _ in _delivered(0)])
    month = CorrectedMonth(**vars(quiet), loan_keys=loan_keys)
    return _with_configuration(ws, month)


def _with_configuration(ws: Workspace, month: CorrectedMonth) -> CorrectedMonth:
    """Have everything configured read before the clock starts."""
    _ = ws.contracts, ws.models, ws.registry, ws.token_key, ws.configuration, month.statements
    return month


def _chosen(ws: Workspace) -> list[str]:
    """Notes of as many borrowers of one bank, drawn from all of it."""
    [path] = (ws.settings.restricted / "accepted" / "loans" / BANKS[0]).glob("*.parquet")
    with DuckEngine() as engine:
        notes = f"SELECT min(loan_key) AS loan_key FROM read_parquet({literal(str(path))}) WHERE overdue_days = 0 GROUP BY person_key"
        query = f"SELECT loan_key FROM ({notes}) AS one_each ORDER BY md5(loan_key) LIMIT {CORRECTED}"
        return [str(key) for (key,) in engine.fetch(query)]


def _delivered(households: int) -> Iterator[tuple[Delivery, dict[str, str], str]]:
    """Every delivery of the month with the expressions of its columns and the rows they are over."""
    tables = core_tables(households)
    number = 0
    for dataset in ("households", "members", "consents"):
        number += 1
        columns, source = tables[f"core_{dataset}"]
        yield quiet_delivery("government", dataset, number), columns, source
    columns, source = tables["core_loans"]
    for bank in BANKS:
        number += 1
        yield (
            quiet_delivery(bank, "loans", number),
            columns,
            f"({source}) AS notes WHERE {columns['bank_code']} = '{bank}'",
        )
    yield quiet_delivery("341181100000", "mediation", number + 1), *_mediation(tables)


def _mediation(tables: Mapping[str, tuple[dict[str, str], str]]) -> tuple[dict[str, str], str]:
    columns, source = tables["core_mediation_cases"]
    helper, respondent = (
        f"md5(concat('p', (n * 2 + {place}) * {HOUSEHOLDS_PER_CASE // 2} * {FAMILY}))" for place in (0, 1)
    )
    return columns | {"helper_key": helper, "respondent_key": respondent, "village_code": "'341181100201'"}, source


def _write(engine: DuckEngine, held: Mapping[str, str], given: Mapping[str, str], source: str, path: Path) -> None:
    columns = ", ".join(
        f"CAST({given.get(name, 'NULL')} AS {kind}) AS {identifier(name)}" for name, kind in held.items()
    )
    rows = source if source.startswith("(") else f"({source}) AS made"
    engine.write_parquet(f"SELECT {columns} FROM {rows}", path, group_rows=LOOKUP_GROUP_ROWS)


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
