"""Civility ballots and list items: what villages tell now and then, one file of each for the whole county.

A round is held in the first delivered month: in each village a panel of seven, five to seven of whom vote on a household.
Some do not know it, some belong to it; in the largest village one gives everybody the same marks, in the next one copies
from another. List items are told when they begin and again when something about them changes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etl.period import Period
from simulator import writers
from simulator.bankfiles import BankFile, Candidates, loan_numbers, plant_all
from simulator.government import household_numbers
from simulator.lending import ACTIVE
from simulator.people import NOBODY, identity_text
from simulator.plants import bad_identity, not_a_date, put, put_code, put_day
from simulator.sheets import Plant, Row, Sheet, Style, schedule
from simulator.text import NO_DAY, dates, day_of, integers, lines, numbered, picked
from simulator.truth import Delivery, Truth
from simulator.world import BANK_DATA, BANKS, MISTAKE_LANE, County

SOURCE = "village_life"
FILE = f"sources/{SOURCE}.yml"
PANEL, FEWEST_VOTES = 7, 5
ENOUGH_BALLOTS = 60
ROWS_TO_LOSE = {"civility_ballots": 0.05, "credit_events": 0.29}
MARKS = ("filial", "neighbour", "public_spirit", "customs", "law_abiding", "honesty", "hygiene", "diligence")
ADVERSE = {
    "negative_waste": ("authority", "penalty", "general"), "negative_contract": ("court", "judgment", "general"),
    "negative_fees": ("arbitrator", "judgment", "minor"), "veto_enforcement": ("court", "enforcement", "serious"),
    "veto_crime": ("court", "judgment", "serious"), "veto_loan_fraud": ("court", "judgment", "serious"),
}  # fmt: skip
POSITIVE = ("positive_rescue", "positive_filial", "positive_donation", "positive_volunteer")
ENDINGS = ("none", "repaired_on", "revoked_on", "publication_until_on", "event_to_on")
Item = dict[str, Any]


# ---- the review ------------------------------------------------------------------------------------------------------


def drop_ballots(county: County, out: Path, truth: Truth) -> None:
    """Write the ballots of the round with their planted mistakes, and name the reviewers whose ballots are identical."""
    rng = county.stream("ballots")
    household, reviewer, told = _votes(county, rng)
    informed = rng.random(len(household)) >= 0.06
    marks = _marks(county, rng, household)
    for village, kind in zip(_largest(county, household), ("same_marks", "same_as_other"), strict=False):
        _make_identical(county, truth, kind, (household, reviewer, informed, marks), village)
    layout = county.config.layout(FILE, "civility_ballots")
    style = Style(county.config, layout.coding, county.first_day, county.last_day)
    columns = {
        "ballot_no": numbered("PY", np.arange(len(household)), 9),
        "round": picked([str(_round(county))], np.zeros(len(household), np.int64)),
        "household_no": household_numbers(county, household),
        "reviewer_id_no": identity_text(county.people, reviewer),
        "reviewed_on": dates(told),
        "is_informed": picked(county.config.labels("is_informed", layout.coding, ("false", "true")), informed),
        **{f"{name}_mark": integers(marks[:, place]) for place, name in enumerate(MARKS)},
    }
    file = BankFile(Sheet(layout, style, columns, np.arange(len(household))))
    _deliver(county, out, truth, "civility_ballots", file, BALLOTS, {"plain": _plain_rows(rng, household, informed)})


def _round(county: County) -> str:
    return str(county.config.yaml("county.yml")["rounds"][0]["round"])


def _votes(county: County, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Household, reviewer and day of every ballot; households whose register rows may be refused are left out."""
    homes = np.arange(county.households.rows)
    homes = homes[county.households["alive"] & (county.lane(homes) != MISTAKE_LANE) & ~np.isin(homes, county.quiet)]
    panels = _panels(county, rng)
    order = rng.permuted(np.tile(np.arange(PANEL), (len(homes), 1)), axis=1)
    votes = FEWEST_VOTES + rng.choice(PANEL - FEWEST_VOTES + 1, len(homes), p=(0.6, 0.25, 0.15))
    cast = np.arange(PANEL) < votes[:, None]
    reviewer = np.take_along_axis(panels[county.households["village"][homes]], order, axis=1)[cast]
    household = np.repeat(homes, votes)
    known = reviewer != NOBODY
    return household[known], reviewer[known], county.first_day + rng.integers(0, 25, int(known.sum()))


def _panels(county: County, rng: np.random.Generator) -> np.ndarray:
    """Seven adults of every village whose register rows stand (villages × 7); NOBODY where there are too few."""
    adults = rng.permutation(_free_adults(county))
    village = county.households["village"][county.people["household"][adults]]
    panels = np.full((len(county.places.villages), PANEL), NOBODY)
    order = np.argsort(village, kind="stable")
    starts = np.searchsorted(village[order], np.arange(len(panels)))
    for place, first in enumerate(starts):
        members = [int(adults[row]) for row in order[first : first + PANEL] if village[row] == place]
        panels[place, : len(members)] = members
    return panels


def _free_adults(county: County) -> np.ndarray:
    adults = county.adults()
    home = county.people["household"][adults]
    free = (county.lane(home) > MISTAKE_LANE) & county.households["alive"][home] & ~np.isin(home, county.quiet)
    return adults[free]


def _marks(county: County, rng: np.random.Generator, household: np.ndarray) -> np.ndarray:
    """Eight marks a ballot, around what the register says of the household."""
    said = county.households["civility"][household]
    level = np.where(said == NO_DAY, 8_500, said) / 1_000
    return np.clip(np.rint(level[:, None] + rng.normal(0, 0.9, (len(household), len(MARKS)))), 0, 10).astype(np.int64)


def _largest(county: County, household: np.ndarray) -> list[int]:
    """The two villages with most ballots, where they are enough for identical ones to be no coincidence."""
    counts = np.bincount(county.households["village"][household], minlength=len(county.places.villages))
    return [int(village) for village in np.argsort(-counts, kind="stable")[:2] if counts[village] > ENOUGH_BALLOTS]


def _make_identical(
    county: County,
    truth: Truth,
    kind: str,
    ballots: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    village: int,
) -> None:
    """One reviewer of the village gives everybody the same marks, or two give the same as each other."""
    household, reviewer, informed, marks = ballots
    here = np.flatnonzero(county.households["village"][household] == village)
    chosen = np.unique(reviewer[here])[: 1 if kind == "same_marks" else 2]
    rows = here[np.isin(reviewer[here], chosen)]
    informed[rows] = True
    if kind == "same_marks":
        marks[rows] = 9
    else:
        first = {household[row]: row for row in rows if reviewer[row] == chosen[0]}
        for row in rows:
            marks[row] = marks[first.get(household[row], row)]
    named = identity_text(county.people, chosen).to_pylist()
    truth.record.setdefault("identical_ballots", []).extend({"reviewer_id_no": each, "reason": kind} for each in named)


def _plain_rows(rng: np.random.Generator, household: np.ndarray, informed: np.ndarray) -> np.ndarray:
    """Rows that may be broken: informed ones, each of another household."""
    rows = rng.permutation(np.flatnonzero(informed))
    _, first = np.unique(household[rows], return_index=True)
    return rows[np.sort(first)][:400]


# ---- the lists -------------------------------------------------------------------------------------------------------


def live_on(county: County) -> None:
    """The items told this month: new ones, and those of before that are repaired or revoked now."""
    rng = county.stream("items")
    changed = [_undone(county, rng, item) for item in county.items if item["told_again"] == county.age]
    people = rng.choice(_free_adults(county), max(60, county.size // 150))
    fresh = [_new_item(county, rng, int(person), number) for number, person in enumerate(people)]
    heads = people[county.heads()[county.people["household"][people]] == people]
    fresh += [_debtor(county, int(person), len(fresh) + number) for number, person in enumerate(heads[:2])]
    joint = [(int(county.notes["co"][note]), int(note)) for note in _joint_notes(county, rng)]
    fresh += [_debtor(county, person, len(fresh) + number, note) for number, (person, note) in enumerate(joint)]
    told = {item["event_no"]: item for item in (*county.items, *changed, *fresh)}
    county.items, county.told_items = list(told.values()), [*changed, *fresh]


def _new_item(county: County, rng: np.random.Generator, person: int, number: int) -> Item:
    code = str(rng.choice([*POSITIVE, *ADVERSE], p=[0.2, 0.2, 0.2, 0.22, 0.05, 0.04, 0.03, 0.03, 0.02, 0.01]))
    begun = county.first_day + int(rng.integers(0, 25))
    item: Item = {
        "event_no": _event_no(county, number), "person": person, "item_code": code,
        "list_kind": code.partition("_")[0], "event_from_on": begun, "told_again": NOBODY, "note": NOBODY,
    }  # fmt: skip
    if code in ADVERSE:
        item |= dict(zip(("issuer_kind", "legal_basis", "severity"), ADVERSE[code], strict=True))
        item["notice_on"] = begun + int(rng.integers(0, 4))
        _give_ending(county, rng, item)
    return item


def _event_no(county: County, number: int) -> str:
    return f"QD{county.month.year}{county.month.month:02d}{number:05d}"


def _give_ending(county: County, rng: np.random.Generator, item: Item) -> None:
    """How an adverse item ends; what began long ago is told late, so that every ending is seen in the first month."""
    ending = str(rng.choice(ENDINGS))
    if ending == "event_to_on":
        item["event_from_on"] = county.last_day - 365 * 7
        item["notice_on"] = item["event_from_on"] + 3
        item["event_to_on"] = county.last_day - 5 * 365 - 2 + int(rng.integers(-40, 40))
    elif ending == "publication_until_on":
        item["publication_until_on"] = county.last_day + int(rng.integers(-1, 60))
    elif ending != "none":
        item["told_again"], item["ending"] = county.age + 1, ending


def _undone(county: County, rng: np.random.Generator, item: Item) -> Item:
    """The item as told again: repaired or revoked on a day of this month."""
    return {**item, "told_again": NOBODY, item["ending"]: county.first_day + int(rng.integers(0, 27))}


def _joint_notes(county: County, rng: np.random.Generator) -> np.ndarray:
    """A few open notes of a head and a spouse of one household."""
    notes, home = county.notes, county.people["household"]
    free = np.isin(notes["borrower"], _free_adults(county)) & (notes["state"] == ACTIVE) & (notes["co"] != NOBODY)
    free &= home[np.where(notes["co"] == NOBODY, 0, notes["co"])] == home[notes["borrower"]]
    found = np.flatnonzero(free)
    return rng.choice(found, min(2, len(found)), replace=False)


def _debtor(county: County, person: int, number: int, note: int = NOBODY) -> Item:
    """A judgment debtor, of a note owed together if one is named; the item stays."""
    begun = county.first_day + 3
    issuer, basis, severity = ADVERSE["veto_enforcement"]
    return {
        "event_no": _event_no(county, number), "person": person, "item_code": "veto_enforcement", "list_kind": "veto",
        "issuer_kind": issuer, "legal_basis": basis, "severity": severity, "event_from_on": begun, "notice_on": begun,
        "told_again": NOBODY, "note": note,
    }  # fmt: skip


def drop_items(county: County, out: Path, truth: Truth, *, everything: bool) -> None:
    """Write the items told this month (all that are known, the first time) with their planted mistakes."""
    items = county.items if everything else county.told_items
    layout = county.config.layout(FILE, "credit_events")
    style = Style(county.config, layout.coding, county.first_day, county.last_day)
    records = [_record(county, style, item) for item in items]
    columns = {name: pa.array([record.get(name) or "" for record in records], pa.string()) for name in layout.names}
    file = BankFile(Sheet(layout, style, columns, np.arange(len(items))))
    rows = county.stream("plants items").permutation(len(items))
    kinds = np.array([items[row]["list_kind"] for row in rows])
    is_settled = np.array([items[row]["told_again"] == NOBODY for row in rows])
    pools = {"plain": rows[kinds == "positive"], "adverse": rows[(kinds == "negative") & is_settled]}
    truth.watch(columns["bound_id_no"].to_pylist(), [], [])
    _name_vetoed(county, truth)
    _deliver(county, out, truth, "credit_events", file, ITEMS, pools)


def _name_vetoed(county: County, truth: Truth) -> None:
    """Households that a veto reaches: through the head, or through a joint debt if the bank's row of it is accepted."""
    registered, with_basis = county.registered(), county.in_force(BANK_DATA)
    vetoes = [item for item in county.items if item["list_kind"] == "veto" and _counts(item, county.last_day)]
    reached: dict[str, set[int]] = {"vetoed": set(), "vetoed_jointly": set()}
    for item in (item for item in vetoes if registered[item["person"]]):
        home = int(county.people["household"][item["person"]])
        if county.heads()[home] == item["person"]:
            reached["vetoed"].add(home)
        elif item["note"] != NOBODY and with_basis[county.notes["borrower"][item["note"]]]:
            reached["vetoed_jointly"].add(home)
    for name, homes in reached.items():
        truth.record[name] = household_numbers(county, np.array(sorted(homes), dtype=np.int64)).to_pylist()


def _counts(item: Item, day: int) -> bool:
    """Whether an item counts on a day: begun, not repaired, revoked or hidden, not five years past its end."""
    undone = any(item.get(name, day + 1) <= day for name in ("repaired_on", "revoked_on"))
    ended = day_of(item["event_to_on"]) if "event_to_on" in item else None
    today = day_of(day)
    forgotten = ended is not None and (today.year - ended.year, today.month, today.day) > (5, ended.month, ended.day)
    return item["event_from_on"] <= day <= item.get("publication_until_on", day) and not (undone or forgotten)


def _record(county: County, style: Style, item: Item) -> dict[str, str | None]:
    coded = ("list_kind", "item_code", "issuer_kind", "legal_basis", "severity")
    days = ("notice_on", "event_from_on", "event_to_on", "publication_until_on", "repaired_on", "revoked_on")
    record: dict[str, str | None] = {
        "event_no": item["event_no"], "bound_id_no": identity_text(county.people, np.array([item["person"]]))[0].as_py(),
        **{name: style.code(name, item[name]) for name in coded if name in item},
        **{name: style.on(item[name]) for name in days if name in item},
        "is_sealed": style.code("is_sealed", "false"), "event_text": "合成事项说明",
    }  # fmt: skip
    if item["list_kind"] != "positive":
        record |= {"document_no": f"文{item['event_no'][2:]}", "issuer_text": "合成认定单位"}
    if item["note"] != NOBODY:
        bank = int(county.notes["bank"][item["note"]])
        record |= {
            "joint_bank_code": BANKS[bank],
            "joint_loan_no": loan_numbers(county, bank, np.array([item["note"]]))[0].as_py(),
        }
    return record


# ---- files and plants ------------------------------------------------------------------------------------------------


def drop_all(county: County, out: Path, truth: Truth, first_delivered: Period) -> None:
    """What the villages tell of a delivered month."""
    if county.month == first_delivered:
        drop_ballots(county, out, truth)
    drop_items(county, out, truth, everything=county.month == first_delivered)


def _deliver(
    county: County, out: Path, truth: Truth, dataset: str, file: BankFile, plants: tuple[Plant, ...],
    candidates: Candidates,
) -> None:  # fmt: skip
    allowed = int(file.sheet.rows * ROWS_TO_LOSE[dataset])
    plant_all(file, schedule(list(plants), [], allowed, min(county.copies, 2), county.age - 1), candidates)
    name = f"{dataset}_{county.month.year}{county.month.month:02d}.csv"
    header = ",".join(file.sheet.layout.headings) + "\n"
    writers.write_bytes(out / "drop" / SOURCE / name, header.encode() + lines(file.sheet.ordered(), ",", "\n"))
    truth.deliver(Delivery(SOURCE, dataset, name, file.sheet.rows, len(file.rejected)), name, file.findings)
    truth.count(f"{dataset}:{SOURCE}", file.sheet.rows)


def _plants(rules: str, columns: tuple[str, ...], broken: Callable[[str], str]) -> list[Plant]:
    """One plant per column, numbered on from a rule."""
    letter, first = rules[0], int(rules[1:])
    return [
        Plant(f"{letter}{first + place:03d}", (name,), put(name, broken(name))) for place, name in enumerate(columns)
    ]


_MARKS = tuple(f"{name}_mark" for name in MARKS)
_REQUIRED = ("ballot_no", "round", "household_no", "reviewer_id_no", "is_informed", "reviewed_on")
BALLOTS: tuple[Plant, ...] = (
    Plant("B140", ("ballot_no",), lambda row: {}, copy=True),
    Plant("B001", ("reviewed_on",), not_a_date("reviewed_on")),
    *_plants("B011", _MARKS, lambda name: "优"),
    *_plants("B101", _REQUIRED, lambda name: ""),
    Plant("B110", ("is_informed",), put("is_informed", "Y")),
    *_plants("B121", _MARKS, lambda name: "11"),
    Plant("B130", ("round",), put("round", "第三轮")),
    Plant("B131", ("reviewer_id_no",), bad_identity("reviewer_id_no")),
    Plant("B201", ("reviewed_on",), put_day("reviewed_on", lambda row: row.style.last_day + 3)),
    Plant("B202", ("honesty_mark",), put("honesty_mark", "")),
)


def _before(name: str) -> Callable[[Row], dict[str, str | None]]:
    return lambda row: {name: row.shifted("event_from_on", -1)}


ITEMS: tuple[Plant, ...] = (
    Plant("N140", ("event_no",), lambda row: {}, copy=True),
    Plant("N001", ("notice_on",), not_a_date("notice_on")),
    Plant("N002", ("event_from_on",), not_a_date("event_from_on")),
    Plant("N003", ("event_to_on",), not_a_date("event_to_on")),
    Plant("N004", ("publication_until_on",), put("publication_until_on", "长期")),
    Plant("N005", ("repaired_on",), put("repaired_on", "已修复")),
    Plant("N006", ("revoked_on",), not_a_date("revoked_on")),
    Plant("N101", ("event_no",), put("event_no", "")),
    Plant("N102", ("bound_id_no",), put("bound_id_no", "")),
    Plant("N103", ("list_kind",), put("list_kind", "")),
    Plant("N104", ("item_code",), put("item_code", "")),
    Plant("N105", ("event_from_on",), put("event_from_on", "")),
    Plant("N110", ("list_kind",), put("list_kind", "黑名单")),
    Plant("N111", ("item_code",), put("item_code", "X9")),
    Plant("N112", ("issuer_kind",), put("issuer_kind", "媒体")),
    Plant("N113", ("legal_basis",), put("legal_basis", "传闻")),
    Plant("N114", ("severity",), put("severity", "特别严重")),
    Plant("N115", ("is_sealed",), put("is_sealed", "未知")),
    Plant("N131", ("bound_id_no",), bad_identity("bound_id_no")),
    Plant("N201", ("document_no",), put("document_no", ""), base="adverse"),
    Plant("N202", ("is_sealed",), put_code("is_sealed", "true")),
    Plant("N203", ("event_to_on",), _before("event_to_on")),
    Plant("N204", ("notice_on",), put_day("notice_on", lambda row: row.style.last_day + 2)),
    Plant("N205", ("repaired_on",), _before("repaired_on")),
    Plant("N206", ("revoked_on",), _before("revoked_on")),
    Plant("N207", ("item_code",), put_code("item_code", "veto_crime")),
    Plant("N208", ("legal_basis",), put_code("legal_basis", "village_rules"), base="adverse"),
    Plant("N209", ("joint_loan_no",), put("joint_loan_no", "QH0000000001")),
    Plant("N210", ("joint_bank_code",), lambda row: {"joint_bank_code": "no_such_bank", "joint_loan_no": "1"}),
)
