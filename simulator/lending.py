"""Three invented banks' loan books: how they start, and issue, repay, fall overdue, recover, extend, write off, transfer."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.people import HEAD, NOBODY, OTHER, SPOUSE, add_people
from simulator.register import add_consents, story_lane
from simulator.tables import Table, rank_in_group
from simulator.text import NO_DAY
from simulator.world import BAIYUN, BANK_DATA, BANKS, COUNTY, MISTAKE_LANE, QINGHE, XINHE, County

ACTIVE, REPAID, WRITTEN_OFF, TRANSFERRED, VANISHED = range(5)
ISSUE, COLLECT, WRITE_OFF, TRANSFER = range(4)
FLOW_KINDS = ("issue", "collect", "write_off", "transfer")
GUARANTEES = ("pledge", "mortgage", "guarantee", "joint_group", "credit", "combined", "other")
BANK_SHARES = (0.55, 0.33, 0.12)
UPTAKE = 0.21
"""Share of households outside the mistake lane that borrow; about 19 % of all (DOMAIN 7 gives 6–22 %)."""

_NOTE = (
    "bank", "borrower", "co", "issued", "matures", "extended", "amount", "balance", "rate", "guarantee", "product",
    "purpose", "kind", "days", "state", "closed", "story",
)  # fmt: skip
_FLOW = ("note", "kind", "day", "amount", "ended")


def found_banks(county: County) -> None:
    """Loan books at the end of 2024-01."""
    rng = county.stream("banks")
    open_books(county)
    borrowers = _first_borrowers(county, rng)
    age_share = rng.random(len(borrowers))
    notes = add_notes(county, rng, borrowers, age_share)
    _give_bank_consents(county, rng, borrowers, county.first_day - rng.integers(30, 1_200, len(borrowers)))
    _first_arrears(county, rng, notes)


def open_books(county: County) -> None:
    """Empty books."""
    county.notes = Table({name: np.empty(0, np.int64) for name in _NOTE})
    county.notes.update({name: np.empty(0, bool) for name in ("first", "watched")})
    county.flows = _no_flows()


def _no_flows() -> Table:
    return Table({name: np.empty(0, np.int64) for name in _FLOW})


def _first_borrowers(county: County, rng: np.random.Generator) -> np.ndarray:
    """People who hold notes at the start, once per note; a few live outside the register."""
    people = county.people
    adults = county.adults()
    home = people["household"][adults]
    weight = rng.random(len(adults)) + (people["relation"][adults] == HEAD) * 2.0
    order = np.lexsort((-weight, home))
    chosen = adults[order][rank_in_group(home[order]) == 0]
    lane = county.lane(people["household"][chosen])
    chosen = chosen[(lane != MISTAKE_LANE) & (rng.random(len(chosen)) < UPTAKE)]
    several = rng.choice(np.array([1, 2, 3]), len(chosen), p=(0.74, 0.20, 0.06))
    outsiders = _outsiders(county, rng, max(4, county.size // 70))
    return np.concatenate([np.repeat(chosen, several), outsiders])


def _outsiders(county: County, rng: np.random.Generator, count: int) -> np.ndarray:
    """Adults who are not in the register; half of them have a consent on file."""
    birth = county.last_day - rng.integers(22 * 366, 68 * 365, count)
    home = np.full(count, NOBODY)
    male = rng.random(count) < 0.6
    return add_people(county.people, rng, home, np.full(count, OTHER), birth, male, rng.integers(0, 2, count), 0)


def add_notes(
    county: County, rng: np.random.Generator, borrower: np.ndarray, age_share: np.ndarray | None
) -> np.ndarray:
    """Notes of these borrowers; `age_share` is the elapsed part of the term, None for notes issued this month."""
    count = len(borrower)
    bank = rng.choice(np.arange(3), count, p=BANK_SHARES)
    term = rng.choice(np.array([365, 365, 730, 1_096, 1_826, 3_653]), count)
    fresh = county.first_day + rng.integers(0, 25, count)
    issued = fresh if age_share is None else county.last_day - 5 - (age_share * (term - 40)).astype(np.int64)
    amount = np.clip(40_000 * rng.lognormal(0, 0.62, count), 5_000, 400_000).astype(np.int64) // 1_000 * 100_000
    repaid = np.zeros(count) if age_share is None else np.where(rng.random(count) < 0.6, age_share * 0.7, 0)
    balance = np.where(repaid > 0, np.maximum((amount * (1 - repaid)).astype(np.int64) // 37 * 37, 60_000), amount)
    return county.notes.append(
        {"bank": bank, "borrower": borrower, "co": _co_borrowers(county, rng, borrower), "issued": issued,
         "matures": issued + term, "extended": NO_DAY, "amount": amount, "balance": np.minimum(balance, amount),
         "rate": rng.integers(345, 780, count) * 1_000 + rng.choice(np.array([0, 0, 500, 250]), count),
         "guarantee": rng.choice(np.arange(7), count, p=(0.03, 0.08, 0.16, 0.09, 0.58, 0.04, 0.02)),
         "product": rng.integers(0, 4, count), "purpose": rng.integers(0, len(PURPOSE_TEXTS), count),
         "kind": rng.integers(0, 3, count), "days": 0, "state": ACTIVE, "closed": NO_DAY, "story": 0,
         "first": rng.random(count) < 0.2, "watched": rng.random(count) < 0.02}
    )  # fmt: skip


PRODUCTS = ("F022", "F0219", "F0211", "F0212")
PURPOSE_TEXTS = (
    "稻虾共作（合成）", "购买化肥农药（合成）", "生猪养殖（合成）", "芡实种植（合成）", "购置农机具（合成）", "房屋修缮（合成）",
    "农产品收购（合成）", "子女教育（合成）",
)  # fmt: skip


def _co_borrowers(county: County, rng: np.random.Generator, borrower: np.ndarray) -> np.ndarray:
    """For a third of the notes of a household head: the spouse as co-borrower (相关还款责任人)."""
    people = county.people
    spouse_of = np.full(county.households.rows + 1, NOBODY)
    spouses = np.flatnonzero((people["relation"] == SPOUSE) & people["alive"] & (people["household"] != NOBODY))
    spouse_of[people["household"][spouses]] = spouses
    asks = (people["relation"][borrower] == HEAD) & (people["household"][borrower] != NOBODY)
    asks &= rng.random(len(borrower)) < 0.35
    return np.where(asks, spouse_of[people["household"][borrower]], NOBODY)


def _give_bank_consents(county: County, rng: np.random.Generator, borrowers: np.ndarray, granted: np.ndarray) -> None:
    """Most borrowers without a consent for bank data give one; of people outside the register only half do."""
    unique, first = np.unique(borrowers, return_index=True)
    missing = ~county.in_force(BANK_DATA)[unique]
    outside = county.people["household"][unique] == NOBODY
    gives = missing & (rng.random(len(unique)) < np.where(outside, 0.5, 0.88))
    day = granted[first][gives]
    changed = day * 86_400 + 10 * 3600 + 2 * rng.integers(0, 3_600, len(day))
    add_consents(county, rng, unique[gives], BANK_DATA, COUNTY, day, changed=changed)


def _first_arrears(county: County, rng: np.random.Generator, notes: np.ndarray) -> None:
    """Some notes are overdue from the start, among them notes that later months need for their stories."""
    days = np.minimum(rng.geometric(0.012, len(notes)), county.last_day - county.notes["issued"][notes])
    overdue = rng.random(len(notes)) < 0.035
    told = _story_notes(county)
    for bank in range(len(BANKS)):
        told_here = told[county.notes["bank"][told] == bank][: 4 * county.copies]
        overdue[told_here] = True
        days[told_here] = 20 + rng.integers(0, 40, len(told_here))
        county.notes["story"][told_here] = 1
    county.notes["days"][notes] = np.where(overdue, days, 0)
    matured = overdue & (rng.random(len(notes)) < 0.5) & (county.last_day - days > county.notes["issued"] + 60)
    county.notes["matures"][notes[matured]] = (county.last_day - days)[matured]


def _story_notes(county: County) -> np.ndarray:
    """Active notes whose fate can be told apart: the household's only note, in a story lane, registered, consented."""
    notes = county.notes
    home = county.people["household"][notes["borrower"]]
    home_slots = np.maximum(home, 0)
    held = np.bincount(home_slots[(home != NOBODY) & (notes["state"] == ACTIVE)], minlength=county.households.rows)
    ever = np.bincount(home_slots[home != NOBODY], minlength=county.households.rows)
    single = (home != NOBODY) & (held[home_slots] == 1) & (ever[home_slots] == 1) & (notes["state"] == ACTIVE)
    known = county.registered()[notes["borrower"]] & (home_slots < county.size) & story_lane(home_slots)
    lasting = county.in_force(BANK_DATA) & county.in_force(BANK_DATA, county.last_day + 62)
    return np.flatnonzero(single & known & lasting[notes["borrower"]])


def live_on(county: County, previous_last_day: int) -> None:
    """One month of the loan books; fills `flows` (all banks) and the months' stories. Runs before the register changes."""
    rng = county.stream("banks")
    county.flows = _no_flows()
    _tell_stories(county)
    active = np.flatnonzero(county.notes["state"] == ACTIVE)
    told = np.concatenate([county.left_stock, county.worsened])
    active = active[~np.isin(active, told)]
    overdue = county.notes["days"][active] > 0
    _age_overdue(county, rng, active[overdue])
    _serve(county, rng, active[~overdue])
    county.notes["days"][county.worsened] += county.last_day - previous_last_day
    county.notes["state"][county.left_stock] = VANISHED
    county.notes["closed"][county.left_stock] = county.last_day - 9
    _issue(county, rng)


def _tell_stories(county: County) -> None:
    """Choose the overdue notes that leave a stock file unexplained and those whose worse row will be refused."""
    told = _story_notes(county)
    notes = county.notes
    told = told[(notes["days"][told] > 0) & (notes["closed"][told] == NO_DAY)]
    leaving, worse = [], []
    for bank in (QINGHE, BAIYUN, XINHE):
        here = told[notes["bank"][told] == bank]
        leaves = here[: county.copies] if bank != BAIYUN and county.age > 1 else here[:0]
        rest = here[len(leaves) :]
        leaving.append(leaves)
        worse.append(rest[: county.copies] if county.age > 1 else rest[:0])
    county.left_stock, county.worsened = np.concatenate(leaving), np.concatenate(worse)
    told_notes = np.concatenate([county.left_stock, county.worsened])
    county.quiet = county.people["household"][notes["borrower"][told_notes]]


def _due(notes: Table, rows: np.ndarray) -> np.ndarray:
    return np.maximum(notes["matures"][rows], notes["extended"][rows])


def _flow(
    county: County, rows: np.ndarray, kind: int, day: np.ndarray, amount: np.ndarray, ended: Any = NO_DAY
) -> None:
    county.flows.append({"note": rows, "kind": kind, "day": day, "amount": amount, "ended": ended})


def _close(county: County, rows: np.ndarray, state: int, kind: int, day: np.ndarray) -> None:
    """End notes: the rest is collected, written off or transferred on a day of the month."""
    if len(rows) == 0:
        return
    _flow(county, rows, kind, day, county.notes["balance"][rows], day)
    county.notes["state"][rows], county.notes["closed"][rows] = state, day
    county.notes["balance"][rows], county.notes["days"][rows] = 0, 0


def _days_of_month(county: County, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    return county.first_day + rng.integers(1, 27, len(rows))


def _age_overdue(county: County, rng: np.random.Generator, rows: np.ndarray) -> None:
    """Overdue notes: some are cured, old ones are written off or transferred, the rest grow by the month's days.

    An overdue note of the workbook bank never just disappears here: its file could not say why.
    """
    notes = county.notes
    draw = rng.random(len(rows))
    matured = _due(notes, rows) <= county.last_day
    explains = notes["bank"][rows] != XINHE
    kept = notes["story"][rows] == 1
    cured = (draw < 0.14) & ~kept & (~matured | explains)
    lost = (draw > 0.72) & (notes["days"][rows] > 120) & explains & ~kept & ~cured
    sold = lost & (draw > 0.91)
    day = _days_of_month(county, rng, rows)
    _close(county, rows[cured & matured], REPAID, COLLECT, day[cured & matured])
    _close(county, rows[lost & ~sold], WRITTEN_OFF, WRITE_OFF, day[lost & ~sold])
    _close(county, rows[sold], TRANSFERRED, TRANSFER, day[sold])
    notes["days"][rows[cured]] = 0
    grows = rows[~cured & ~lost]
    notes["days"][grows] = np.minimum(notes["days"][grows] + county.month.end.day, 9_000)


def _serve(county: County, rng: np.random.Generator, rows: np.ndarray) -> None:
    """Notes in order: due ones are repaid, extended or missed; others pay instalments, early, or miss one."""
    notes = county.notes
    draw = rng.random(len(rows))
    day = _days_of_month(county, rng, rows)
    due_on = _due(notes, rows)
    due = due_on <= county.last_day
    extends = due & (notes["bank"][rows] == QINGHE) & (draw > 0.90) & (notes["extended"][rows] == NO_DAY)
    misses = (due & ~extends & (draw > 0.93) & (due_on < county.last_day)) | (~due & (draw > 0.993))
    repays = (due & ~extends & ~misses) | (~due & (draw < 0.010))
    _close(county, rows[repays], REPAID, COLLECT, np.where(due, np.maximum(due_on, county.first_day), day)[repays])
    notes["extended"][rows[extends]] = notes["matures"][rows[extends]] + 183
    notes["days"][rows[misses]] = np.where(due, county.last_day - due_on, county.last_day - day)[misses]
    pays = ~due & ~misses & ~repays & (draw < 0.66)
    _collect(county, rng, rows[pays], day[pays])


def _collect(county: County, rng: np.random.Generator, rows: np.ndarray, day: np.ndarray) -> None:
    """Instalments of 1–6 % of the balance; at least 500 yuan stay outstanding."""
    balance = county.notes["balance"][rows]
    paid = (balance * rng.uniform(0.01, 0.06, len(rows))).astype(np.int64)
    enough = (balance - paid >= 50_000) & (paid > 100)
    rows, day, paid = rows[enough], day[enough], paid[enough]
    county.notes["balance"][rows] -= paid
    if len(rows):
        _flow(county, rows, COLLECT, day, paid)


def _issue(county: County, rng: np.random.Generator) -> None:
    """New notes of the month, to registered adults outside the mistake and story lanes; consents come with them."""
    adults = county.adults()
    home = county.people["household"][adults]
    free = (county.lane(home) > MISTAKE_LANE) & ~county.households["frozen"][home] & county.households["alive"][home]
    count = max(3, round(county.size * 0.012))
    borrower = rng.permutation(adults[free])[:count]
    notes = add_notes(county, rng, borrower, None)
    issued = county.notes["issued"][notes]
    _give_bank_consents(county, rng, borrower, issued)
    _flow(county, notes, ISSUE, issued, county.notes["amount"][notes])
