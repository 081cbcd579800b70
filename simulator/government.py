"""The government's database of a month: household register, members, consents, as CSV and in PostgreSQL.

Rows lie in the CSV in the order of a pull (`changed_at`, then key), so that the rows changed since a moment are its end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from simulator import writers
from simulator.people import NOBODY, RELATIONS, identity_text, name_text, phone_text
from simulator.settings import Config
from simulator.sheets import WARNINGS, Sheet, Style, none_blank
from simulator.text import (
    NO_DAY,
    blank_where,
    dates,
    day_number,
    edited,
    fixed_point,
    instants,
    integers,
    lines,
    numbered,
    picked,
)
from simulator.truth import Delivery, Truth
from simulator.world import PURPOSES, RECIPIENTS, County, Mistake

SUPPLIER = "government"
DATASETS = ("households", "members", "consents")
RELATION_OF = {"households": "household", "members": "household_member", "consents": "consent"}
CHANNELS = ("visit", "paper", "app")
_SOURCE = "sources/government.yml"


# ---- sheets ----------------------------------------------------------------------------------------------------------


def clean_sheet(county: County, dataset: str, positions: np.ndarray) -> Sheet:
    """The rows of these entities without mistakes."""
    layout = county.config.layout(_SOURCE, dataset)
    style = Style(county.config, layout.coding, county.first_day, county.last_day)
    maker = {"households": _households, "members": _members, "consents": _consents}[dataset]
    columns = maker(county, style, positions)
    return Sheet(layout, style, {name: none_blank(columns[name]) for name in layout.names}, positions)


def _coded(style: Style, code_list: str, canonical: tuple[str, ...], codes: np.ndarray) -> pa.Array:
    return picked(style.config.labels(code_list, style.coding, canonical), codes)


def _yes_no(style: Style, code_list: str, yes: str, no: str, flags: np.ndarray) -> pa.Array:
    return _coded(style, code_list, (no, yes), flags.astype(np.int64))


def _households(county: County, style: Style, positions: np.ndarray) -> dict[str, pa.Array]:
    homes = county.households.where(positions)
    group, door = positions % 18 + 1, positions % 97 + 1
    village = picked(county.places.village_names, homes["village"])
    return {
        "household_no": household_numbers(county, positions),
        "village_code": picked(county.places.villages, homes["village"]),
        "former_household_no": _or_blank(
            homes["former"] != NOBODY, household_numbers(county, np.maximum(homes["former"], 0))
        ),
        "head_id_no": identity_text(county.people, homes["head"]),
        "registered_on": dates(homes["registered"]),
        "residence_status": _yes_no(style, "residence_status", "absent", "resident", homes["absent"]),
        "absent_since_on": dates(homes["absent_since"]),
        "annual_income_yuan": fixed_point(homes["income"], 2),
        "total_assets_yuan": fixed_point(homes["assets"], 2),
        "total_debt_yuan": fixed_point(homes["debt"], 2),
        "farmland_mu": fixed_point(homes["farmland"], 2),
        "has_stable_income": _yes_no(style, "has_stable_income", "true", "false", homes["stable"]),
        "civility_score": _or_blank(homes["civility"] != NO_DAY, fixed_point(np.maximum(homes["civility"], 0), 2)),
        "civility_reviewed_on": dates(homes["reviewed"]),
        "address_text": pc.binary_join_element_wise(village, integers(group), "组", integers(door), "号（合成）", ""),
        "phone": phone_text(county.serial(homes["head"])),
        "changed_at": instants(homes["changed"]),
    }


def household_numbers(county: County, positions: np.ndarray) -> pa.Array:
    """Household numbers of the households at these positions."""
    return numbered("TC", county.serial(positions), 9)


def _or_blank(present: np.ndarray, text: pa.Array) -> pa.Array:
    return blank_where(~present, text)


def _members(county: County, style: Style, positions: np.ndarray) -> dict[str, pa.Array]:
    people = county.people.where(positions)
    child = county.last_day - people["birth"] < 14 * 365
    return {
        "member_no": numbered("CY", county.serial(positions), 9),
        "household_no": household_numbers(county, people["household"]),
        "id_no": identity_text(county.people, positions),
        "person_name": name_text(county.people, positions),
        "relation_code": _coded(style, "relation_code", RELATIONS, people["relation"]),
        "sex": _yes_no(style, "sex", "male", "female", people["male"]),
        "birth_on": dates(people["birth"]),
        "phone": blank_where(child, phone_text(county.serial(positions))),
        "changed_at": instants(people["changed"]),
    }


def _consents(county: County, style: Style, positions: np.ndarray) -> dict[str, pa.Array]:
    consents = county.consents.where(positions)
    serial = positions + 2 * county.offset  # a province keeps two consents a household
    return {
        "consent_no": numbered("SQ", serial, 9),
        "subject_id_no": identity_text(county.people, consents["subject"]),
        "recipient": picked(RECIPIENTS, consents["recipient"]),
        "purpose": _coded(style, "purpose", PURPOSES, consents["purpose"]),
        "decision": _yes_no(style, "decision", "granted", "refused", consents["granted_yes"]),
        "granted_on": dates(consents["granted"]),
        "expires_on": dates(consents["expires"]),
        "withdrawn_on": dates(consents["withdrawn"]),
        "channel": picked(CHANNELS, consents["channel"]),
        "document_no": blank_where(~consents["has_document"], numbered("SQS", serial, 9)),
        "changed_at": instants(consents["changed"]),
    }


# ---- the month's state -----------------------------------------------------------------------------------------------


def write_register(county: County, out: Path, truth: Truth, first_pull: bool) -> None:
    """Write the database of the month and what a pull of it must find."""
    since = None if first_pull else day_number(county.month.start) * 86_400
    for dataset in DATASETS:
        sheet, changed, marks = register_sheet(county, dataset)
        text = ",".join(sheet.layout.headings) + "\n"
        body = lines([_quoted(sheet, name) for name in sheet.layout.names], ",", "\n")
        writers.write_bytes(out / "government" / f"{RELATION_OF[dataset]}.csv", text.encode() + body)
        start = 0 if since is None else int((changed < since).sum())
        _record(truth, dataset, sheet.rows, start, marks, "")
        if start:
            _record(truth, dataset, sheet.rows, 0, marks, "full_pull")
        truth.count(dataset, len(_alive(county, dataset)))
    writers.write_bytes(out / "government" / "schema.sql", schema_sql(county.config).encode())
    truth.record["register_events"] = county.register_events
    _watch(county, truth)


def _quoted(sheet: Sheet, name: str) -> pa.Array:
    """Only edited cells can hold a comma or be blank keys; they are quoted, so that COPY keeps '' apart from NULL."""
    column = sheet.columns[name]
    return edited(column, {row: f'"{text or ""}"' for row, text in sheet.edits.get(name, {}).items()})


def _alive(county: County, dataset: str) -> np.ndarray:
    if dataset == "households":
        return np.flatnonzero(county.households["alive"])
    if dataset == "members":
        return np.flatnonzero(county.registered())
    return np.arange(county.consents.rows)


def register_sheet(county: County, dataset: str) -> tuple[Sheet, np.ndarray, list[tuple[int, str]]]:
    """All rows in pull order with their mistakes, their change times, and (row, rule) of every mistake."""
    table = {"households": county.households, "members": county.people, "consents": county.consents}[dataset]
    standing = [mistake for mistake in county.mistakes if mistake.dataset == dataset and not mistake.healed]
    positions = _alive(county, dataset)
    copies = np.array([mistake.position for mistake in standing if mistake.extra], dtype=np.int64)
    everything = np.r_[positions, copies]
    order = np.argsort(table["changed"][everything], kind="stable")
    sheet = clean_sheet(county, dataset, everything[order])
    row_of = np.empty(len(order), dtype=np.int64)
    row_of[order] = np.arange(len(order))
    own_row = np.full(table.rows, NOBODY)
    own_row[positions] = row_of[: len(positions)]
    marks = _apply(sheet, standing, own_row, row_of[len(positions) :].tolist())
    return sheet, table["changed"][everything[order]], marks


def _apply(sheet: Sheet, standing: list[Mistake], own_row: np.ndarray, copy_rows: list[int]) -> list[tuple[int, str]]:
    """Write the mistakes into the sheet; the copy of a double entry comes right after its own row."""
    marks: list[tuple[int, str]] = []
    copies = iter(copy_rows)
    for mistake in standing:
        rows = [int(own_row[mistake.position])]
        sheet.edit(rows[0], mistake.edits)
        if mistake.extra:
            rows.append(next(copies))
            sheet.edit(rows[1], {**mistake.edits, **mistake.extra_edits})
        marks += [(row, rule) for row in rows for rule in mistake.rules]
    return marks


def _record(truth: Truth, dataset: str, rows: int, start: int, marks: list[tuple[int, str]], where: str) -> None:
    found = [(row - start, rule) for row, rule in marks if row >= start]
    rejected = len({row for row, rule in found if rule not in WARNINGS})
    truth.deliver(Delivery(SUPPLIER, dataset, dataset, rows - start, rejected), dataset, found, where)


def _watch(county: County, truth: Truth) -> None:
    """Canaries: people of planted rows, spoilt identity numbers, and people from all over the register."""
    planted = [mistake for mistake in county.mistakes if mistake.dataset == "members"]
    everybody = np.flatnonzero(county.registered())
    watched = np.r_[[mistake.position for mistake in planted], everybody[:: max(1, len(everybody) // 200)]].astype(
        np.int64
    )
    truth.watch(
        identity_text(county.people, watched).to_pylist(), name_text(county.people, watched).to_pylist(),
        phone_text(county.serial(watched)).to_pylist(),
    )  # fmt: skip
    for mistake in county.mistakes:
        for edits in (mistake.edits, mistake.extra_edits):
            truth.watch([edits.get(name) for name in ("id_no", "head_id_no", "subject_id_no")], [], [])


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------


def schema_sql(config: Config) -> str:
    """DDL of the register as kept: all text but the change time, no keys, because real registers hold mistakes."""
    tables = []
    for dataset, relation in RELATION_OF.items():
        names = config.layout(_SOURCE, dataset).names
        columns = ",\n".join(f"    {name} {'timestamptz' if name == 'changed_at' else 'text'}" for name in names)
        tables.append(
            f"DROP TABLE IF EXISTS register.{relation};\nCREATE TABLE register.{relation} (\n{columns}\n);\n"
            f"COMMENT ON TABLE register.{relation} IS '合成数据 synthetic {dataset}';"
        )
    return "CREATE SCHEMA IF NOT EXISTS register;\n" + "\n".join(tables) + "\n"


_READERS = """
DO $$
BEGIN
    IF (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'register_reader') THEN
            CREATE ROLE register_reader NOLOGIN;
        END IF;
        GRANT USAGE ON SCHEMA register TO register_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA register TO register_reader;
    END IF;
END $$;
"""
_KEY_OF = {"household": "household_no", "household_member": "member_no", "consent": "consent_no"}


def load(url: str, folder: Path) -> dict[str, int]:
    """Replace schema `register` of a PostgreSQL database by the CSV files of a simulated month; returns rows by table.

    One transaction: a reader sees the old month or the new one. The role `register_reader` may only read. Raises
    psycopg.Error if the server refuses, FileNotFoundError if the folder holds no month.
    """
    folder = Path(folder)
    ddl = (folder / "schema.sql").read_text(encoding="utf-8")
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1)) as connection:
        with connection.cursor() as cursor:
            cursor.execute(ddl.encode())
            rows = {relation: _copy(cursor, relation, folder / f"{relation}.csv") for relation in RELATION_OF.values()}
            for relation, key in _KEY_OF.items():
                cursor.execute(f"CREATE INDEX ON register.{relation} (changed_at, {key})".encode())
            cursor.execute(_READERS.encode())
        connection.commit()
    return rows


def _copy(cursor: psycopg.Cursor[tuple[object, ...]], relation: str, path: Path) -> int:
    statement = f"COPY register.{relation} FROM STDIN (FORMAT csv, HEADER true)"
    with path.open("rb") as source, cursor.copy(statement.encode()) as copy:
        while block := source.read(1 << 20):
            copy.write(block)
    return cursor.rowcount
