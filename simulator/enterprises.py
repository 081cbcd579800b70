"""Businesses, village collectives and merchants: how they start, how they change, and the lists the county offices send.

7.8 businesses per 1,000 households (铜陵, DOMAIN 7), one collective per village, merchants with their applications in all
states of the way 申报 → 镇级摸底 → 市级审核. The first delivered month lists everything; later ones list what is new or has
changed, what was refused the month before, and collectives once a quarter. A small county has more of them than its share,
so that every rule can be broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etl.identifiers import credit_code_check_character
from simulator import writers
from simulator.enterprise_plants import MARKS, PLANTS
from simulator.people import identity_text, name_text, phone_text
from simulator.sheets import Sheet, Style, planted, schedule
from simulator.text import lines
from simulator.truth import Delivery, Truth
from simulator.world import MISTAKE_LANE, County, Listed

Subject = dict[str, Any]
DATASETS = ("businesses", "collectives", "merchants", "merchant_reviews")
SOURCE = "enterprises"
ROWS_TO_LOSE = 0.29
KINDS = {"family_farm": "92", "cooperative": "93", "enterprise": "91", "individual": "92"}
KIND_SHARES = (0.45, 0.25, 0.08, 0.22)
TRADES = ("supermarket", "restaurant", "bakery", "farm_supply", "appliances", "repair", "other")
REASONS = ("papers", "complaint", "penalty", "items", "other")
_LISTS = {
    "town_decision": "review_decision", "city_decision": "review_decision", "town_reason": "refusal_reason",
    "city_reason": "refusal_reason", **dict.fromkeys(MARKS, "item_mark"),
    **{name: name for name in ("business_kind", "operating_status", "trade_code")},
}  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """Where chance comes from: a random stream, and the adults (with their villages) whom no planted mistake concerns."""

    county: County
    rng: np.random.Generator
    adults: np.ndarray
    villages: np.ndarray

    @classmethod
    def of(cls, county: County) -> Draw:
        """The draw of the current month."""
        adults = county.adults()
        home = county.people["household"][adults]
        free = (county.lane(home) > MISTAKE_LANE) & county.households["alive"][home]
        villages = county.households["village"][home[free]]
        return cls(county, county.stream("enterprises"), adults[free], villages)

    def somebody(self) -> tuple[int, str]:
        """An adult and the code of his or her village."""
        place = int(self.rng.integers(len(self.adults)))
        return int(self.adults[place]), self.county.places.villages[self.villages[place]]

    def day(self, latest: int) -> int:
        """One of the first days of the month."""
        return self.county.first_day + int(self.rng.integers(0, latest))


# ---- how they live ---------------------------------------------------------------------------------------------------


def found(county: County) -> None:
    """Everything that stands at the end of the first month, which is never delivered."""
    draw, known = Draw.of(county), county.enterprises
    for _ in range(max(round(county.size * 7.8 / 1000), 140)):
        known.add("businesses", _business(draw))
    for village in range(len(county.places.villages)):
        known.add("collectives", _collective(draw, village))
    for _ in range(max(county.size // 600, 150)):
        _add_merchant(draw, applied=county.last_day - int(draw.rng.integers(40, 400)), steps=2)


def live_on(county: County, *, delivers_all: bool) -> None:
    """One month on; then the lists of the month are made up and mistakes planted in them."""
    draw, known = Draw.of(county), county.enterprises
    _businesses_live_on(draw)
    _collectives_live_on(draw)
    _merchants_live_on(draw)
    listed = (_listed(county, dataset, everything=delivers_all) for dataset in DATASETS)
    known.lists = [each for each in listed if each]
    known.due.clear()
    for each in known.lists:
        known.due[each.dataset] = {int(each.sheet.positions[row]) for row in each.rejected}


def _businesses_live_on(draw: Draw) -> None:
    known = draw.county.enterprises
    for position, business in enumerate(known.subjects["businesses"]):
        fate = draw.rng.random()
        if business["operating_status"] == "closed" or fate > 0.2:
            continue
        known.due["businesses"].add(position)
        business |= _figures(draw)
        if fate < 0.01:
            business |= {"operating_status": "closed", "closed_on": draw.day(27)}
    for _ in range(2):
        known.add("businesses", _business(draw))


def _collectives_live_on(draw: Draw) -> None:
    """Accounts of a quarter are sent in the month after it; what was refused waits for them."""
    if _is_quarterly(draw.county):
        for position, collective in enumerate(draw.county.enterprises.subjects["collectives"]):
            collective |= _accounts(draw)
            draw.county.enterprises.due["collectives"].add(position)


def _is_quarterly(county: County) -> bool:
    return county.month.month % 3 == 1


def _merchants_live_on(draw: Draw) -> None:
    known = draw.county.enterprises
    for position, review in enumerate(known.subjects["merchant_reviews"]):
        if "city_decision" not in review and review.get("town_decision") != "refused" and draw.rng.random() < 0.6:
            known.due["merchant_reviews"].add(position)
            _step(draw, review, draw.day(27))
    for _ in range(3):
        _add_merchant(draw, applied=draw.day(20), steps=0)


def _code(prefix: str, place: int, number: int) -> str:
    """A code with a right check character; no organisation number begins with 99, so it is plainly invented."""
    first = f"{prefix}34118199{place}{number:06d}"
    return first + credit_code_check_character(first)


def _business(draw: Draw) -> Subject:
    county, rng = draw.county, draw.rng
    person, village = draw.somebody()
    kind = str(rng.choice(list(KINDS), p=KIND_SHARES))
    number = len(county.enterprises.subjects["businesses"])
    return {
        "credit_code": _code(KINDS[kind], 1, number), "business_kind": kind, "person": person,
        "business_name": f"合成{number:05d}号经营主体", "village_code": village,
        "founded_on": county.last_day - int(rng.integers(20, 4_000)), "operating_status": "operating",
        "operated_land_mu": f"{rng.gamma(2, 60):.2f}" if kind != "individual" else "0",
        "led_household_count": int(rng.poisson(12)) if kind != "individual" else 0, **_figures(draw),
    }  # fmt: skip


def _figures(draw: Draw) -> Subject:
    """Figures of a business as it reports them this month; a few are not known."""
    rng = draw.rng
    assets = float(rng.lognormal(13.2, 0.8))
    figures = {
        "operating_income_yuan": f"{rng.lognormal(13, 0.9):.2f}", "business_assets_yuan": f"{assets:.2f}",
        "business_debt_yuan": f"{assets * rng.beta(1.6, 3):.2f}", "worker_count": int(rng.poisson(5)),
        "is_report_filed": int(rng.random() < 0.88), "is_listed_abnormal": int(rng.random() < 0.04),
    }  # fmt: skip
    unknown = {name for name in figures if rng.random() < 0.03}
    return {
        **{name: None if name in unknown else value for name, value in figures.items()},
        "reported_on": draw.county.last_day - int(rng.integers(0, 20)),
    }


def _collective(draw: Draw, village: int) -> Subject:
    county, rng = draw.county, draw.rng
    person, _ = draw.somebody()
    code = county.places.villages[village]
    return {
        "collective_code": _code("N2", 2, village), "village_code": code, "person": person,
        "collective_name": f"{county.places.village_names[village]}股份经济合作社（合成）", "operating_status": "operating",
        "established_on": county.last_day - int(rng.integers(400, 2_400)), **_accounts(draw),
    }  # fmt: skip


def _accounts(draw: Draw) -> Subject:
    county, rng = draw.county, draw.rng
    income, assets = float(rng.lognormal(12.9, 0.6)), float(rng.lognormal(15, 0.6))
    households = max(county.size // len(county.places.villages), 1)
    return {
        "accounts_on": county.first_day - 1, "member_household_count": int(households * rng.uniform(0.5, 1.0)),
        "collective_income_yuan": f"{income:.2f}", "dividend_yuan": f"{income * 0.3:.2f}" if rng.random() < 0.4 else "0",
        "collective_assets_yuan": f"{assets:.2f}", "collective_debt_yuan": f"{assets * rng.beta(1.2, 6):.2f}",
        "is_accounts_published": int(rng.random() < 0.93), "is_audited": int(rng.random() < 0.7),
    }  # fmt: skip


def _add_merchant(draw: Draw, *, applied: int, steps: int) -> None:
    """A merchant and its application, taken at most so many steps of the way."""
    known, rng = draw.county.enterprises, draw.rng
    person, village = draw.somebody()
    number = len(known.subjects["merchants"])
    merchant: Subject = {
        "merchant_no": f"SH-{number + 1:06d}", "credit_code": _code("92", 3, number), "person": person,
        "merchant_name": f"合成{number:05d}号商户", "trade_code": str(rng.choice(TRADES)),
        "village_code": village, "operating_status": "operating",
    }  # fmt: skip
    review: Subject = {
        "application_no": f"SB-{number + 1:06d}", "merchant_no": merchant["merchant_no"],
        "merchant": number, "applied_on": applied,
    }  # fmt: skip
    known.add("merchants", merchant)
    known.add("merchant_reviews", review)
    for step in range(steps):
        if rng.random() < 0.88:
            _step(draw, review, applied + 12 * (step + 1))


def _step(draw: Draw, review: Subject, day: int) -> None:
    """The town checks an application, or the city reviews it: one in eight is refused."""
    if review.get("town_decision") == "refused":
        return
    known, rng = draw.county.enterprises, draw.rng
    stage, dated = ("city", "city_reviewed_on") if "town_decision" in review else ("town", "town_checked_on")
    earliest = review["town_checked_on"] if stage == "city" else review["applied_on"]
    decision = "passed" if rng.random() < 0.87 else "refused"
    review |= {f"{stage}_decision": decision, dated: max(day, earliest)}
    if decision == "refused":
        review[f"{stage}_reason"] = str(rng.choice(REASONS))
    if stage == "city":
        review |= {name: str(rng.choice(["met", "partly", "unmet"], p=[0.8, 0.14, 0.06])) for name in MARKS}
    if stage == "city" and decision == "passed":
        merchant = known.subjects["merchants"][review["merchant"]]
        merchant["joined_on"] = min(review["city_reviewed_on"] + 3, draw.county.last_day)
        known.due["merchants"].add(review["merchant"])


# ---- files -----------------------------------------------------------------------------------------------------------


def _listed(county: County, dataset: str, *, everything: bool) -> Listed | None:
    """The list of a month, or None when there is nothing to tell."""
    subjects, due = county.enterprises.subjects[dataset], county.enterprises.due[dataset]
    positions = np.arange(len(subjects)) if everything else np.array(sorted(due), dtype=np.int64)
    if not len(positions) or (dataset == "collectives" and not everything and not _is_quarterly(county)):
        return None
    sheet = _sheet(county, dataset, positions)
    wanted = schedule(list(PLANTS[dataset]), [], int(sheet.rows * ROWS_TO_LOSE), 1, county.age - 1)
    findings, rejected = planted(sheet, county.stream(f"plants {dataset}"), wanted)
    return Listed(dataset, sheet, findings, rejected)


def _sheet(county: County, dataset: str, positions: np.ndarray) -> Sheet:
    layout = county.config.layout(f"sources/{SOURCE}.yml", dataset)
    style = Style(county.config, layout.coding, county.first_day, county.last_day)
    subjects = [county.enterprises.subjects[dataset][position] for position in positions]
    people = _people(county, subjects)
    columns = {
        name: people.get(name) or _texts(style, name, [subject.get(name) for subject in subjects])
        for name in layout.names
    }
    return Sheet(layout, style, {name: pa.array(texts, pa.string()) for name, texts in columns.items()}, positions)


def _people(county: County, subjects: Sequence[Subject]) -> dict[str, list[str]]:
    """The columns that name a person: the one in charge of a business or collective, the owner of a merchant."""
    if not subjects or "person" not in subjects[0]:
        return {}
    who = np.array([subject["person"] for subject in subjects])
    numbers, names = identity_text(county.people, who).to_pylist(), name_text(county.people, who).to_pylist()
    return {
        "in_charge_id_no": numbers, "owner_id_no": numbers, "in_charge_name": names, "owner_name": names,
        "phone": phone_text(who).to_pylist(),
    }  # fmt: skip


def _texts(style: Style, name: str, values: Iterable[Any]) -> list[str]:
    return ["" if value is None else _text(style, name, value) for value in values]


def _text(style: Style, name: str, value: Any) -> str:
    if name.endswith("_on"):
        return style.on(value)
    return style.code(_LISTS[name], value) if name in _LISTS else str(value)


def drop_lists(county: County, out: Path, truth: Truth) -> None:
    """Write the lists of the month and note what they must lead to."""
    for each in county.enterprises.lists:
        name = f"{each.dataset}_{county.month.year}{county.month.month:02d}.csv"
        header = ",".join(each.sheet.layout.headings) + "\n"
        body = header.encode() + lines(each.sheet.ordered(), ",", "\n")
        writers.write_bytes(out / "drop" / SOURCE / name, body)
        truth.deliver(Delivery(SOURCE, each.dataset, name, each.sheet.rows, len(each.rejected)), name, each.findings)
        truth.count(f"{SOURCE}:{each.dataset}", each.sheet.rows)
        _watch(truth, each.sheet)


def _watch(truth: Truth, sheet: Sheet) -> None:
    """Codes of individual businesses and family farms identify a person like an identity number does."""

    def cells(*names: str) -> list[str]:
        return [text for name in names if name in sheet.columns for text in sheet.columns[name].to_pylist()[:60]]

    codes = [code for code in cells("credit_code") if code.startswith("92")]
    truth.watch(cells("in_charge_id_no", "owner_id_no"), cells("in_charge_name", "owner_name"), cells("phone"), codes)
