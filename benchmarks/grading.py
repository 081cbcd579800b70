"""Grading alone: core tables in, points and grades out, against reading the same tables and writing them again.

The tables are made here, not taken in: every household has a head and one more member, all four consents, income, assets
and about one loan note, so that no indicator is cheap because its value is missing. Keys look like tokens and lie in the
order of the contract, as in the lake. What this county has no rows of (rejected rows, earlier months, tables of other
subjects) is there and empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.quiet import quiet_month
from benchmarks.workloads import PERIOD
from etl import months
from etl.contract.model import Contract
from etl.engine.duck import DuckEngine, identifier, literal
from etl.months import MonthInputs
from etl.registry import Place
from etl.settings import Settings
from etl.workspace import Workspace

MEMORY = "2000MB"
FAMILY = 2
_NOTES_PER_HOUSEHOLD = 1
HOUSEHOLDS_PER_CASE = 40
BANKS = ("baiyun_rcb", "qinghe_rcb", "xinhe_vb")
_PURPOSES = ("grading", "bank_data", "income", "property")


def write_core(folder: Path, households: int) -> None:
    """Write the core tables of one month as `folder/core/<table>/*.parquet`; the same bytes every time."""
    ws = Workspace(Settings.from_environment())
    with DuckEngine(memory_limit=MEMORY, temp_dir=_made(folder / "spill")) as engine:
        engine.run_model("villages", villages_select(ws.registry.places))
        for table, (columns, source) in core_tables(households).items():
            contract = ws.contracts[table]
            order = ", ".join(contract.key)
            query = f"SELECT {_typed(contract, columns)} FROM ({source}) AS made ORDER BY {order}"
            engine.write_parquet(query, folder / "core" / table / "whole.parquet")


def rewrite(folder: Path, out: Path) -> dict[str, int]:
    """The floor: every core table scanned once and written once, in the order and with the codec of the lake."""
    rows = size = 0
    with DuckEngine(memory_limit=MEMORY, temp_dir=_made(out / "spill")) as engine:
        for table, paths in _held(folder).items():
            files = ", ".join(literal(str(path)) for path in paths)
            rows += engine.write_parquet(f"SELECT * FROM read_parquet([{files}])", out / f"{table}.parquet")
            size += sum(path.stat().st_size for path in paths)
    return {"files": len(_held(folder)), "rows": rows, "bytes": size}


def run(folder: Path, out: Path) -> dict[str, int]:
    """Ours: the whole grading plan, all points and grades written; gives the rows of each table.

    Checksums and names of the files belong to publication, on either side; `province` has them in its figure.
    """
    ws = Workspace(replace(Settings.from_environment(), memory_limit=MEMORY))
    month = quiet_month(ws)
    with ws.engine() as engine:
        months.register_inputs(engine, month)
        for table in (name for name, model in ws.models.items() if model.layer == "core"):
            columns = {column.name: column.type for column in ws.contracts[table].published}
            engine.register_parquet(table, _held(folder).get(table, []), columns)
        return dict(_graded(engine, month, out))


def _graded(engine: DuckEngine, month: MonthInputs, out: Path) -> Iterator[tuple[str, int]]:
    """Run every statement of the plan and write what is published, as the lake has it."""
    statements = months.plan(month)
    for statement in statements:
        months.run_statement(engine, month, statement)
    for name, is_ordered in ((each.name, each.streamed) for each in statements if each.published):
        order = "" if is_ordered else f" ORDER BY {', '.join(month.ws.contracts[name].key)}"
        yield name, engine.write_parquet(f"SELECT * FROM {name}{order}", out / f"{name}.parquet")


def _held(folder: Path) -> dict[str, list[Path]]:
    return {path.name: sorted(path.glob("*.parquet")) for path in sorted((folder / "core").iterdir())}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _typed(contract: Contract, columns: Mapping[str, str]) -> str:
    """Every published column: as given, or NULL."""
    return ", ".join(
        f"CAST({columns.get(column.name, 'NULL')} AS {column.type}) AS {identifier(column.name)}"
        for column in contract.published
    )


def villages_select(places: Sequence[Place]) -> str:
    valid = [place for place in places if place.place_level == "village"]
    rows = ", ".join(f"({number}, '{each.place_code}', '{each.parent_code}')" for number, each in enumerate(valid))
    return f"SELECT * FROM (VALUES {rows}) AS listed (village_no, village_code, town_code)"


def core_tables(households: int) -> dict[str, tuple[dict[str, str], str]]:
    """Table -> expressions of its columns, and the rows they are over; `n` counts them."""
    fixed = {"period": f"'{PERIOD}'", "input_state": "'complete'"}
    return {
        "core_places": (
            {"period": f"'{PERIOD}'", "place_code": "code", "place_name": "code", "place_level": "level", "parent_code": "parent",
             "valid_from_on": "DATE '2023-06-30'", "in_programme": "TRUE"},
            "SELECT village_code AS code, 'village' AS level, town_code AS parent FROM villages "
            "UNION ALL SELECT DISTINCT town_code, 'town', 'county' FROM villages",
        ),
        "core_households": (fixed | _household(), f"{_counted(households)} AS drawn JOIN villages USING (village_no)"),
        "core_members": (fixed | _member(), _counted(households * FAMILY)),
        "core_consents": (fixed | _consent(), _counted(households * len(_PURPOSES))),
        "core_loans": (fixed | _loan(households), _counted(households * _NOTES_PER_HOUSEHOLD)),
        "core_mediation_cases": (fixed | _case(), _counted(households // HOUSEHOLDS_PER_CASE)),
        "core_mediation_parties": (fixed | _party(), _counted(households // HOUSEHOLDS_PER_CASE * 2)),
    }  # fmt: skip


def _counted(rows: int) -> str:
    """Rows numbered from 0, each with numbers of its own that look drawn: `a` to `d`, 0 to 999,999."""
    drawn = ", ".join(f"CAST(hash(range, {salt}) % 1000000 AS BIGINT) AS {name}" for salt, name in enumerate("abcd"))
    villages = "(SELECT count(*) FROM villages)"
    return f"SELECT * FROM (SELECT range AS n, {drawn}, range % {villages} AS village_no FROM range({rows}))"


def _key(kind: str, number: str) -> str:
    return f"md5(concat('{kind}', {number}))"


def _household() -> dict[str, str]:
    return {
        "household_key": _key("h", "n"), "head_person_key": _key("p", f"n * {FAMILY}"), "town_code": "town_code",
        "village_code": "village_code", "registered_on": "DATE '2020-01-01'", "residence_status": "'resident'",
        "annual_income_yuan": "20000 + a * 0.17", "total_assets_yuan": "50000 + b * 0.9", "total_debt_yuan": "c * 0.05",
        "farmland_mu": "d % 130 * 0.1", "has_stable_income": "a % 10 < 7", "civility_score": "55 + b % 4500 * 0.01",
        "civility_reviewed_on": "DATE '2024-01-15'",
    }  # fmt: skip


def _member() -> dict[str, str]:
    return {
        "person_key": _key("p", "n"), "member_key": _key("m", "n"), "household_key": _key("h", f"n // {FAMILY}"),
        "relation_code": f"CASE WHEN n % {FAMILY} = 0 THEN 'head' ELSE 'spouse' END", "sex": "'male'",
        "age_band": "CASE WHEN a % 4 = 0 THEN '60-' ELSE '16-59' END",
    }  # fmt: skip


def _consent() -> dict[str, str]:
    count = len(_PURPOSES)
    purposes = " ".join(f"WHEN {number} THEN '{purpose}'" for number, purpose in enumerate(_PURPOSES))
    return {
        "consent_key": _key("c", "n"), "person_key": _key("p", f"n // {count} * {FAMILY}"), "recipient": "'county'",
        "purpose": f"CASE n % {count} {purposes} END", "decision": "'granted'", "granted_on": "DATE '2023-05-01'",
        "channel": "'paper'", "is_in_force": "a % 50 > 0",
    }  # fmt: skip


def _loan(households: int) -> dict[str, str]:
    """A note belongs to a household drawn for it, so that some have none and some several."""
    banks = " ".join(f"WHEN {number} THEN '{bank}'" for number, bank in enumerate(BANKS))
    borrower = f"((a * 1000000 + b) % {households})"
    return {
        "bank_code": f"CASE c % {len(BANKS)} {banks} END", "loan_key": _key("l", "n"), "person_key": _key("p", f"{borrower} * {FAMILY}"),
        "household_key": _key("h", borrower), "as_of_on": "DATE '2024-02-29'", "branch_code": "'B1'", "product_code": "'F02'",
        "issued_on": "DATE '2024-02-01' - CAST(d % 1500 AS INTEGER)", "matures_on": "DATE '2025-12-31'", "currency": "'CNY'",
        "issued_amount_yuan": "100000", "balance_yuan": "1000 + d * 0.1", "annual_rate_pct": "5.5", "guarantee_code": "'D'",
        "five_class": "CASE WHEN a % 100 = 0 THEN 'substandard' ELSE 'normal' END",
        "loan_status": "CASE WHEN a % 20 = 0 THEN 'overdue' ELSE 'normal' END", "is_overdue": "a % 20 = 0",
        "overdue_days": "CASE WHEN a % 20 = 0 THEN b % 200 + 1 ELSE 0 END", "note_state": "'active'",
    }  # fmt: skip


def _case() -> dict[str, str]:
    return {
        "case_key": _key("k", "n"), "registered_on": "DATE '2024-02-01'", "closed_on": "DATE '2024-02-20'", "result": "'success'",
        "performance": "CASE WHEN a % 5 = 0 THEN 'unperformed' ELSE 'performed' END", "dispute_type": "'land'",
        "has_unperformed_document": "a % 5 = 0", "unperformed_by": "'respondent'",
        "judicially_confirmed_on": "CASE WHEN a % 25 = 0 THEN DATE '2024-01-10' END",
    }  # fmt: skip


def _party() -> dict[str, str]:
    return {
        "case_key": _key("k", "n // 2"), "person_key": _key("p", f"n * {HOUSEHOLDS_PER_CASE // 2} * {FAMILY}"),
        "party_role": "CASE WHEN n % 2 = 0 THEN 'helper' ELSE 'respondent' END",
    }  # fmt: skip
