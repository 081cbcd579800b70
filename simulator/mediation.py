"""Mediation logs: one file per town and month, JSON Lines from a platform or a workbook kept by hand.

About 34 cases per town and half-year (金集, DOMAIN 4), more in towns with more villages. A log lists the cases registered
or changed in the month: a case left open, or an agreement still being performed, is listed again when that changes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from simulator import writers
from simulator.people import NOBODY, identity_text, name_text
from simulator.plants import bad_identity, not_a_date, put, put_code, put_day
from simulator.sheets import Plant, Row, Sheet, Style, planted, schedule
from simulator.text import NO_DAY
from simulator.truth import Delivery, Truth
from simulator.world import MISTAKE_LANE, County

Case = dict[str, Any]
CASES_PER_TOWN = 34 / 6
ROWS_TO_LOSE = 0.29
SOURCE = "sources/mediation.yml"
TYPES = ("neighbour", "family", "land", "damages", "traffic", "irrigation", "debt", "other")
TYPE_SHARES = (0.27, 0.20, 0.09, 0.09, 0.10, 0.10, 0.10, 0.05)
STORIES = ("界址", "赡养", "宅基地", "赔偿", "刮擦", "放水", "借款", "噪音")
_CODED = (
    "dispute_type", "result", "handled_level", "actor_tier", "referred_to", "agreement_kind", "performance", "unperformed_by",
)  # fmt: skip
_DATES = ("registered_on", "accepted_on", "due_on", "closed_on", "agreement_on", "judicially_confirmed_on")


# ---- cases -----------------------------------------------------------------------------------------------------------


def live_on(county: County) -> None:
    """The cases registered or changed this month; `county.cases` still holds last month's when this begins."""
    rng = county.stream("mediation")
    again = [case for old in county.cases if (case := _changed(county, rng, old)) is not None]
    villages = np.bincount(county.places.town_of, minlength=len(county.places.towns))
    expected = CASES_PER_TOWN * villages / villages.mean()
    counts = np.maximum(rng.poisson(expected), 5)
    parties = _Parties(county, rng)
    fresh = [
        _new_case(county, rng, parties, town, number) for town, count in enumerate(counts) for number in range(count)
    ]
    county.cases = [*again, *fresh]


class _Parties:
    """Draws adults of a town who live in the free lanes; a few parties are not in the register."""

    def __init__(self, county: County, rng: np.random.Generator) -> None:
        self.rng = rng
        adults = county.adults()
        home = county.people["household"][adults]
        free = (county.lane(home) > MISTAKE_LANE) & county.households["alive"][home]
        free &= ~np.isin(home, county.quiet)
        self.adults, self.villages = adults[free], county.households["village"][home[free]]
        towns = county.places.town_of[self.villages]
        self.by_town = [np.flatnonzero(towns == town) for town in range(len(county.places.towns))]
        self.outsiders = np.flatnonzero(county.people["household"] == NOBODY)
        self.outsiders = self.outsiders[county.last_day - county.people["birth"][self.outsiders] > 20 * 366]

    def of_town(self, town: int) -> tuple[np.ndarray, int]:
        """Applicant, respondent and helper (three different people) and the applicant's village (or -1)."""
        here = self.by_town[town] if len(self.by_town[town]) > 3 else np.arange(len(self.adults))
        chosen = self.rng.choice(here, 3, replace=False)
        people = self.adults[chosen].copy()
        if self.rng.random() < 0.06:
            people[1] = self.rng.choice(self.outsiders)
        return people, int(self.villages[chosen[0]]) if here is self.by_town[town] else NOBODY


def _new_case(county: County, rng: np.random.Generator, parties: _Parties, town: int, number: int) -> Case:
    people, village = parties.of_town(town)
    if village == NOBODY:
        village = int(rng.choice(np.flatnonzero(county.places.town_of == town)))
    kind = int(rng.choice(len(TYPES), p=TYPE_SHARES))
    registered = int(rng.integers(county.first_day, county.last_day - 1))
    accepted = min(registered + int(rng.integers(0, 3)), county.last_day)
    case: Case = {
        "town": town, "people": [int(people[0]), int(people[1]), int(people[2]) if rng.random() < 0.45 else NOBODY],
        "case_no": f"TJ{county.places.towns[town][6:9]}{county.month.year}{county.month.month:02d}{number + 1:04d}",
        "village_code": county.places.villages[village], "dispute_type": TYPES[kind], "registered_on": registered,
        "accepted_on": accepted, "due_on": accepted + 30, "closed_on": NO_DAY, "result": "open",
        "amount_yuan": round(float(rng.lognormal(8.6, 1.0)), 2) if rng.random() < 0.6 else None,
        "people_count": int(rng.integers(2, 7)), "story": STORIES[kind],
    }  # fmt: skip
    _handle(rng, case)
    if not (registered > county.last_day - 12 and rng.random() < 0.5):
        _settle(rng, case, min(accepted + int(rng.integers(0, 18)), county.last_day), county.last_day)
    return case


def _handle(rng: np.random.Generator, case: Case) -> None:
    """Who handles it: nine of ten stay in the village (seed: 90 % self-governed)."""
    level = str(rng.choice(["village", "town", "county"], p=[0.9, 0.08, 0.02]))
    case["handled_level"] = level
    case["referred_to"] = (
        None if level == "village" else str(rng.choice(["town", "police", "court"], p=[0.6, 0.25, 0.15]))
    )
    case["actor_tier"] = "N" if case["people"][2] != NOBODY else str(rng.choice(["1", "5"]))


def _settle(rng: np.random.Generator, case: Case, day: int, last_day: int) -> None:
    """Close a case on a day: success, partial success or failure, with the agreement that follows."""
    case["closed_on"] = day
    case["result"] = str(rng.choice(["success", "partial", "failure"], p=[0.90, 0.055, 0.045]))
    if case["result"] == "failure":
        return
    case["agreement_on"] = day
    case["agreement_kind"] = "written" if rng.random() < 0.65 else "oral"
    case["performance"] = "pending" if rng.random() < 0.3 else "performed"
    if case["agreement_kind"] == "written":
        case["agreement_no"] = f"XY{case['case_no'][2:]}"
        confirmed = day + int(rng.integers(1, 20))
        if rng.random() < 0.15 and confirmed <= last_day:
            case["judicially_confirmed_on"] = confirmed


def _changed(county: County, rng: np.random.Generator, old: Case) -> Case | None:
    """A case of last month that changed this month, or None: open ones close, pending agreements are kept or broken."""
    if old["result"] == "open":
        case = dict(old)
        _settle(rng, case, county.first_day + int(rng.integers(0, 17)), county.last_day)
        return case
    if old.get("performance") != "pending" or rng.random() < 0.35:
        return None
    if rng.random() < 0.55:
        return {**old, "performance": "performed"}
    document = f"WL{old['case_no'][2:]}"
    by = str(rng.choice(["respondent", "applicant"], p=[0.8, 0.2]))
    return {**old, "performance": "unperformed", "unperformed_document_no": document, "unperformed_by": by}


# ---- files -----------------------------------------------------------------------------------------------------------


def drop_logs(county: County, out: Path, truth: Truth) -> None:
    """Write every town's log with its planted mistakes and note what they must lead to."""
    known = county.registered()
    month = f"{county.month.year}{county.month.month:02d}"
    wanted = _share_out(county)
    for town, code in enumerate(county.places.towns):
        suffix = "jsonl" if town % 2 == 0 else "xlsx"
        sheet, listed = _sheet(county, town, suffix)
        findings, rejected = planted(sheet, county.stream(f"plants mediation {town}"), wanted[town])
        cases = [listed[place] for place in sheet.positions]
        name = f"mediation_{code}_{month}.{suffix}"
        _write(out / "drop" / "village_logs" / name, sheet, suffix)
        truth.deliver(Delivery(code, "mediation", name, sheet.rows, len(rejected)), name, findings)
        kept = [case for row, case in enumerate(cases) if row not in rejected]
        parties = [person for case in kept for person in case["people"] if person != NOBODY]
        truth.unmatched("mediation", sum(not known[person] for person in parties))
        truth.count(f"mediation:{code}", sheet.rows)
        _watch(county, truth, cases)


def _watch(county: County, truth: Truth, cases: list[Case]) -> None:
    people = np.array([person for case in cases for person in case["people"] if person != NOBODY], dtype=np.int64)
    truth.watch(identity_text(county.people, people).to_pylist(), name_text(county.people, people).to_pylist(), [])


def _sheet(county: County, town: int, suffix: str) -> tuple[Sheet, list[Case]]:
    """The log of a town before mistakes: dates as ISO text, codes in the coding of the layout, '-' for none in workbooks."""
    extra = ("序号",) if suffix == "xlsx" else ()
    layout = county.config.layout(SOURCE, "mediation", extra, f"*.{suffix}")
    style = Style(county.config, layout.coding, county.first_day, county.last_day)
    cases = [case for case in county.cases if case["town"] == town]
    records = [_record(county, style, case, number) for number, case in enumerate(cases)]
    columns = {
        name: pa.array([str(record[name]) if record.get(name) is not None else "" for record in records], pa.string())
        for name in layout.names
    }
    numeric, date_cells = (
        frozenset({"amount_yuan", "people_count", "序号"}),
        frozenset({"registered_on", "accepted_on"}),
    )
    return Sheet(layout, style, columns, np.arange(len(cases)), {}, numeric, date_cells), cases


def _record(county: County, style: Style, case: Case, number: int) -> dict[str, Any]:
    people = np.array(case["people"])
    identities = identity_text(county.people, people).to_pylist()
    names = name_text(county.people, people[:2]).to_pylist()
    record = {
        **{name: case.get(name) for name in _PLAIN},
        **{name: style.config.code(name, style.coding, case.get(name)) for name in _CODED},
        **{name: style.on(case[name]) if case.get(name, NO_DAY) != NO_DAY else None for name in _DATES},
        **dict(zip(("applicant_id_no", "respondent_id_no", "helper_id_no"), identities, strict=True)),
        "summary_text": f"{names[0]}与{names[1]}因{case['story']}发生纠纷（合成）", "序号": number + 1,
    }  # fmt: skip
    if style.coding == "mediation_text":
        record["applicant_id_no"] = str(identities[0]).lower()
        record["referred_to"] = record["referred_to"] or "-"
    return record


_PLAIN = ("case_no", "village_code", "agreement_no", "unperformed_document_no", "amount_yuan", "people_count")


def _write(path: Path, sheet: Sheet, suffix: str) -> None:
    if suffix == "xlsx":
        writers.write_workbook(path, sheet, "调解台账")
        return
    table = {name: sheet.column(name).to_pylist() for name in sheet.layout.names}
    edited = {(name, row) for name, rows in sheet.edits.items() for row in rows}
    records = [
        {name: _json_value(name, values[row], (name, row) in edited) for name, values in table.items()}
        for row in range(sheet.rows)
    ]
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    writers.write_bytes(path, text.encode())


def _json_value(name: str, text: str, edited: bool) -> str | int | float | None:
    if text == "":
        return None
    if edited or name not in ("amount_yuan", "people_count"):
        return text
    return int(text) if name == "people_count" else float(text)


# ---- planting --------------------------------------------------------------------------------------------------------


def _closed(row: Row) -> bool:
    return row.text("result") in (row.style.code("result", "success"), row.style.code("result", "partial"))


def _written(row: Row) -> bool:
    return _closed(row) and row.text("agreement_no") != ""


def _another_town(row: Row) -> dict[str, str | None]:
    """A real village of the neighbouring town."""
    return {"village_code": "341181113201" if row.text("village_code")[:9] != "341181113" else "341181003001"}


def _unknown_village(row: Row) -> dict[str, str | None]:
    return {"village_code": f"{row.text('village_code')[:9]}999"}


def _not_performed(row: Row) -> dict[str, str | None]:
    return {
        "performance": row.style.code("performance", "unperformed"),
        "unperformed_document_no": "",
        "unperformed_by": "",
    }


def _next_month(row: Row) -> dict[str, str | None]:
    """Registered after the month's end, and so still open."""
    blank = ("closed_on", "agreement_no", "agreement_kind", "agreement_on", "performance", "unperformed_document_no")
    return {
        **dict.fromkeys((*blank, "unperformed_by", "judicially_confirmed_on"), ""),
        "result": row.style.code("result", "open"),
        "registered_on": row.style.on(row.style.last_day + 5),
        "accepted_on": row.style.on(row.style.last_day + 6),
    }


def _late(row: Row) -> dict[str, str | None]:
    """Closed 40 days after it was taken up."""
    closed = row.day("closed_on")
    return {"registered_on": row.style.on(closed - 41), "accepted_on": row.style.on(closed - 40)}


MEDIATION: tuple[Plant, ...] = (
    Plant("D140", ("case_no",), lambda row: {}, copy=True),
    Plant("D001", ("registered_on",), not_a_date("registered_on")),
    Plant("D002", ("accepted_on",), put("accepted_on", "上旬")),
    Plant("D003", ("closed_on",), not_a_date("closed_on"), fits=_closed),
    Plant("D004", ("amount_yuan",), put("amount_yuan", "3千元")),
    Plant("D005", ("agreement_on",), not_a_date("agreement_on")),
    Plant("D006", ("people_count",), put("people_count", "三人")),
    Plant("D007", ("due_on",), put("due_on", "2024/02/28")),
    Plant("D008", ("judicially_confirmed_on",), put("judicially_confirmed_on", "已确认")),
    Plant("D101", ("case_no",), put("case_no", "")),
    Plant("D102", ("village_code",), put("village_code", "")),
    Plant("D103", ("dispute_type",), put("dispute_type", "")),
    Plant("D104", ("registered_on",), put("registered_on", "")),
    Plant("D105", ("result",), put("result", "")),
    Plant("D110", ("dispute_type",), put("dispute_type", "扰民")),
    Plant("D111", ("result",), put("result", "和解")),
    Plant("D112", ("handled_level",), put("handled_level", "省级")),
    Plant("D113", ("village_code",), _unknown_village),
    Plant("D114", ("performance",), put("performance", "部分履行"), fits=_closed),
    Plant("D115", ("actor_tier",), put("actor_tier", "7")),
    Plant("D116", ("agreement_kind",), put("agreement_kind", "电子"), fits=_closed),
    Plant("D117", ("referred_to",), put("referred_to", "仲裁委")),
    Plant("D118", ("unperformed_by",), put("unperformed_by", "双方"),
          fits=lambda row: row.text("performance") != row.style.code("performance", "unperformed")),
    Plant("D119", ("village_code",), _another_town),
    Plant("D120", ("amount_yuan",), put("amount_yuan", "-100")),
    Plant("D121", ("people_count",), put("people_count", "0")),
    Plant("D131", ("applicant_id_no",), bad_identity("applicant_id_no")),
    Plant("D132", ("respondent_id_no",), bad_identity("respondent_id_no")),
    Plant("D133", ("helper_id_no",), bad_identity("helper_id_no")),
    Plant("D201", ("accepted_on", "registered_on"),
          lambda row: {"registered_on": row.text("accepted_on"), "accepted_on": row.shifted("accepted_on", -3)},
          fits=lambda row: _closed(row) and row.day("closed_on") <= row.day("accepted_on") + 27),
    Plant("D202", ("closed_on", "accepted_on"), lambda row: {"closed_on": row.shifted("accepted_on", -1)}, fits=_closed),
    Plant("D203", ("result",), put_code("result", "open"), fits=_closed),
    Plant("D204", ("performance",), _not_performed, fits=_closed),
    Plant("D205", ("agreement_no", "agreement_kind"), put("agreement_no", ""), fits=_written),
    Plant("D207", ("registered_on",), _next_month),
    Plant("D302", ("respondent_id_no",), lambda row: {"respondent_id_no": row.text("applicant_id_no")}),
    Plant("D206", ("judicially_confirmed_on",),
          put_day("judicially_confirmed_on", lambda row: row.day("agreement_on") + 45), fits=_written),
    Plant("D301", ("closed_on", "accepted_on"), _late, fits=_closed),
)  # fmt: skip


def _share_out(county: County) -> list[list[Plant]]:
    """Give each town the mistakes its small log can bear; the list turns so that two months cover every rule."""
    room = []
    for town in range(len(county.places.towns)):
        rows = sum(case["town"] == town for case in county.cases)
        room.append(int(rows * ROWS_TO_LOSE))
    copies = min(county.copies, 1)
    plants = schedule(list(MEDIATION), [], sum(room), copies, county.age - 1)
    given: list[list[Plant]] = [[] for _ in room]
    for plant in sorted(plants, key=lambda plant: -plant.cost):
        town = max(range(len(room)), key=lambda town: (room[town], -len(given[town])))
        if plant.cost <= room[town]:
            given[town].append(plant)
            room[town] -= plant.cost
    return given
