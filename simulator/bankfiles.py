"""The files three invented banks drop for a month, each in its own layout, with mistakes planted in known rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator import writers
from simulator.government import household_numbers
from simulator.lending import (
    ACTIVE,
    COLLECT,
    FLOW_KINDS,
    GUARANTEES,
    PRODUCTS,
    PURPOSE_TEXTS,
    REPAID,
    TRANSFERRED,
    VANISHED,
    WRITTEN_OFF,
)
from simulator.people import identity_text, name_text, phone_text
from simulator.plants import FLOWS, LOANS, STORY_RULES
from simulator.settings import Config, Layout
from simulator.sheets import Plant, Row, Sheet, Style, none_blank, schedule
from simulator.tables import Table
from simulator.text import (
    NO_DAY,
    blank_where,
    dates,
    digits,
    fixed_point,
    integers,
    lines,
    numbered,
    picked,
    shortest,
    strings,
)  # fmt: skip
from simulator.truth import Delivery, Truth
from simulator.world import BAIYUN, BANK_DATA, BANKS, MISTAKE_LANE, QINGHE, XINHE, County

FIVE_CLASSES = ("normal", "special_mention", "substandard", "doubtful", "loss")
STATUSES = ("normal", "extended", "overdue", "repaid", "written_off", "transferred")
KINDS = ("principal", "interest", "both")
CODING_OF = {QINGHE: "pboc", BAIYUN: "east", XINHE: "core_digit"}
ROWS_TO_LOSE = 0.09
"""Share of a bank file that planted mistakes may cost: below every `accept.max_rejected_share`."""


@dataclass
class BankFile:
    """A finished sheet with what truth must say about it."""

    sheet: Sheet
    findings: list[tuple[int, str]] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)

    def plant(self, row: int, plant: Plant) -> None:
        """Break a 0-based row."""
        self.sheet.edit(row, plant.edit(Row(self.sheet, row)))
        self.mark(row, plant)

    def mark(self, row: int, plant: Plant) -> None:
        self.findings += [(row, rule) for rule in plant.finds]
        if not plant.warns:
            self.rejected.add(row)


def drop_bank_files(county: County, out: Path, truth: Truth) -> None:
    """Write every bank's deliveries of the month under `out`/drop and note what they must lead to."""
    with_basis = county.in_force(BANK_DATA)
    known = county.registered()
    _drop_qinghe(county, out, truth, with_basis, known)
    _drop_baiyun(county, out, truth, with_basis, known)
    _drop_xinhe(county, out, truth, with_basis, known)
    _name_stories(county, truth, county.left_stock, "left_stock_file")


# ---- what each bank writes -------------------------------------------------------------------------------------------


def _drop_qinghe(county: County, out: Path, truth: Truth, with_basis: np.ndarray, known: np.ndarray) -> None:
    """Stock and flow packages; in 2024-02 a package with a wrong MD5 comes first."""
    day = county.month.end.strftime("%Y%m%d")
    folder = out / "drop" / BANKS[QINGHE]
    stock = loan_file(county, QINGHE, with_basis, known)
    body = lines(stock.sheet.ordered(), "|", "\n").removesuffix(b"\n")
    name = f"CLGRDK_{day}"
    if str(county.month) == "2024-02":
        writers.write_pboc(folder / f"{name}_1.zip", body, stock.sheet.rows, spoil_md5=True)
        truth.unreadable(BANKS[QINGHE], "loans", f"{name}_1.zip", f"{name}_1.dat", "P101")
        name = f"{name}_2"
    writers.write_pboc(folder / f"{name}.zip", body, stock.sheet.rows)
    _record(county, truth, QINGHE, "loans", stock, f"{name}.zip", f"{name}.dat", with_basis, known)
    flows = flow_file(county, with_basis, known)
    writers.write_pboc(
        folder / f"GRDKFS_{day}.zip", lines(flows.sheet.ordered(), "|", "\n").removesuffix(b"\n"), flows.sheet.rows
    )
    _record(county, truth, QINGHE, "loan_flows", flows, f"GRDKFS_{day}.zip", f"GRDKFS_{day}.dat", with_basis, known)


def _drop_baiyun(county: County, out: Path, truth: Truth, with_basis: np.ndarray, known: np.ndarray) -> None:
    """A GB18030 CSV with its .ok flag; in 2024-02 a half-written .part lies beside it and must be ignored."""
    loans = loan_file(county, BAIYUN, with_basis, known)
    name = f"农户贷款借据_{county.month.year}{county.month.month:02d}.csv"
    folder = out / "drop" / BANKS[BAIYUN]
    body = delimited(loans.sheet)
    writers.write_bytes(folder / name, body)
    writers.write_bytes(folder / f"{name}.ok", b"")
    if str(county.month) == "2024-02":
        writers.write_bytes(folder / f"{name}.part", body[: len(body) // 2])
    _record(county, truth, BAIYUN, "loans", loans, name, name, with_basis, known)


def delimited(sheet: Sheet) -> bytes:
    """The CSV bank's file: GB18030, a heading line, CR LF."""
    header = ",".join(sheet.layout.headings) + "\r\n"
    return (header + lines(sheet.ordered(), ",", "\r\n").decode()).encode("gb18030")


def _drop_xinhe(county: County, out: Path, truth: Truth, with_basis: np.ndarray, known: np.ndarray) -> None:
    """A workbook with a title row above the headings."""
    loans = loan_file(county, XINHE, with_basis, known)
    name = f"贷款台账{county.month}.xlsx"
    title = f"星禾村镇银行（合成）贷款台账 {county.month}　单位：万元"
    writers.write_workbook(out / "drop" / BANKS[XINHE] / name, loans.sheet, "贷款台账", title)
    _record(county, truth, XINHE, "loans", loans, name, name, with_basis, known)


# ---- sheets ----------------------------------------------------------------------------------------------------------


def loan_file(county: County, bank: int, with_basis: np.ndarray, known: np.ndarray) -> BankFile:
    """One bank's loan notes at the end of the month, with planted mistakes."""
    notes = county.notes
    shown = (notes["bank"] == bank) & (notes["state"] == ACTIVE)
    if bank == BAIYUN:
        ended = (notes["closed"] >= county.first_day) & (notes["state"] != VANISHED)
        shown = (notes["bank"] == bank) & ((notes["state"] == ACTIVE) | ended)
    file = BankFile(loan_sheet(county, bank, np.flatnonzero(shown)))
    wanted = _loan_plants(county, bank, file.sheet)
    plant_all(file, wanted, _loan_candidates(county, file.sheet, with_basis, known))
    return file


def loan_sheet(county: County, bank: int, positions: np.ndarray) -> Sheet:
    """The sheet of these notes in the bank's layout."""
    style, layout = bank_style(county, bank), bank_layout(county.config, bank)
    notes = county.notes.where(positions)
    makers = {**_common_columns(county, style, notes, positions), **_own_columns(county, bank, style, notes, positions)}
    columns = {name: none_blank(makers[name]()) for name in layout.names}
    numeric = {"issued_amount_yuan", "balance_yuan", "annual_rate_pct", "overdue_days", "guarantee_code", "序号"}
    return Sheet(layout, style, columns, positions, {}, frozenset(numeric), frozenset({"issued_on", "matures_on"}))


def bank_layout(config: Config, bank: int) -> Layout:
    """The layout of a bank's loan file, with the columns it delivers although nobody reads them."""
    extra = {QINGHE: (), BAIYUN: ("柜员号",), XINHE: ("序号", "备注")}[bank]
    return config.layout(f"banks/{BANKS[bank]}.yml", "loans", extra)


def bank_style(county: County, bank: int) -> Style:
    return Style(
        county.config, CODING_OF[bank], county.first_day, county.last_day,
        date_separator="" if bank == BAIYUN else "-", yuan_per_unit=10_000 if bank == XINHE else 1,
        rate_as_fraction=bank == XINHE,
    )  # fmt: skip


def _common_columns(
    county: County, style: Style, notes: Table, positions: np.ndarray
) -> dict[str, Callable[[], pa.Array]]:
    """Columns all banks share, by canonical name; made only when the layout asks for them."""

    def coded(code_list: str, values: tuple[str, ...], codes: np.ndarray) -> pa.Array:
        return picked(county.config.labels(code_list, style.coding, values), codes)

    def day(name: str, missing: str = "") -> pa.Array:
        return dates(notes[name], style.date_separator, missing)

    return {
        "as_of_on": lambda: constant(style.on(county.last_day), len(positions)),
        "borrower_id_no": lambda: identity_text(county.people, notes["borrower"]),
        "borrower_name": lambda: name_text(county.people, notes["borrower"]),
        "borrower_phone": lambda: phone_text(county.serial(notes["borrower"])),
        "co_borrower_id_no": lambda: identity_text(county.people, notes["co"]),
        "contract_no": lambda: numbered("HT", county.serial(positions), 12),
        "product_code": lambda: picked(PRODUCTS, notes["product"]),
        "id_type": lambda: constant(style.code("id_type", "resident_id"), len(positions)),
        "issued_on": lambda: day("issued"),
        "matures_on": lambda: day("matures"),
        "extended_to_on": lambda: day("extended"),
        "closed_on": lambda: day("closed", "99991231"),
        "currency": lambda: constant("CNY", len(positions)),
        "guarantee_code": lambda: coded("guarantee_code", GUARANTEES, notes["guarantee"]),
        "five_class": lambda: coded("five_class", FIVE_CLASSES, five_class(notes)),
        "loan_status": lambda: coded("loan_status", STATUSES, status(notes)),
        "overdue_days": lambda: integers(notes["days"]),
        "purpose_text": lambda: _purpose(notes, style),
    }


def _own_columns(
    county: County, bank: int, style: Style, notes: Table, positions: np.ndarray
) -> dict[str, Callable[[], pa.Array]]:
    """Columns in the bank's own units and numbers."""
    count = len(positions)
    code = county.config.institution(BANKS[bank])

    def fixed(text: str) -> Callable[[], pa.Array]:
        return lambda: constant(text, count)

    own: dict[str, Callable[[], pa.Array]] = {
        "institution_code": fixed(code),
        "branch_code": lambda: pc.binary_join_element_wise(code, strings(digits(positions % 12 + 1, 3)), ""),
        "柜员号": lambda: numbered("GY", positions % 90, 4), "序号": lambda: integers(np.arange(1, count + 1)),
        "备注": fixed("合成数据"), "area_code": fixed("341181"), "borrower_area_code": fixed("341181"),
        "rate_kind": fixed("RF01"), "pricing_base": fixed("TR07"), "base_rate_pct": fixed("3.45000"),
        "subsidy_kind": fixed("Z"), "repricing_on": fixed("9999-12-31"),
        "is_first_loan": lambda: picked(("0", "1"), notes["first"].astype(np.int64)),
        "overdue_kind": lambda: blank_where(
            notes["days"] == 0, picked(county.config.labels("overdue_kind", style.coding, KINDS), notes["kind"])
        ),
    }  # fmt: skip
    return own | _amounts(bank, notes, positions, county)


def loan_numbers(county: County, bank: int, positions: np.ndarray) -> pa.Array:
    """Numbers of notes as their bank writes them."""
    prefix, width = {QINGHE: ("QH", 10), BAIYUN: ("BY-", 10), XINHE: ("99003300", 12)}[bank]
    return numbered(prefix, county.serial(positions), width)


def _amounts(bank: int, notes: Table, positions: np.ndarray, county: County) -> dict[str, Callable[[], pa.Array]]:
    if bank == XINHE:
        return {
            "loan_no": lambda: loan_numbers(county, bank, positions),
            "issued_amount_yuan": lambda: shortest(notes["amount"], 1e6),
            "balance_yuan": lambda: shortest(notes["balance"], 1e6),
            "annual_rate_pct": lambda: shortest(notes["rate"], 1e7),
            "borrower_id_no": lambda: _some_lower(identity_text(county.people, notes["borrower"]), positions),
        }
    rate = (lambda: fixed_point(notes["rate"], 5)) if bank == QINGHE else (lambda: fixed_point(notes["rate"] // 10, 4))
    return {
        "loan_no": lambda: loan_numbers(county, bank, positions),
        "issued_amount_yuan": lambda: fixed_point(notes["amount"], 2),
        "balance_yuan": lambda: fixed_point(notes["balance"], 2),
        "balance_cny_yuan": lambda: fixed_point(notes["balance"], 2),
        "annual_rate_pct": rate,
    }


def constant(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), count)


def _some_lower(identities: pa.Array, positions: np.ndarray) -> pa.Array:
    """Every second identity number with a lower-case x: legal, and the same person."""
    return pc.if_else(pa.array(positions % 2 == 0), pc.ascii_lower(identities), identities)


def _purpose(notes: Table, style: Style) -> pa.Array:
    """Free text; the CSV bank quotes the few texts that hold its delimiter."""
    text = picked(PURPOSE_TEXTS, notes["purpose"])
    if style.coding != "east":
        return text
    return pc.if_else(pa.array(notes["watched"]), pa.scalar('"种植,养殖（合成）"'), text)


def five_class(notes: Table) -> np.ndarray:
    """Class by days overdue (normal to 30 days for some, loss beyond 360); ended notes by the way they ended."""
    days = notes["days"]
    mild = np.where((days <= 30) & (notes["purpose"] % 3 == 0) & (days > 0), 0, 1)
    running = np.select([days == 0, days <= 90, days <= 180, days <= 360], [notes["watched"] * 1, mild, 2, 3], 4)
    state = notes["state"]
    return np.select([state == REPAID, state == WRITTEN_OFF, state == TRANSFERRED], [0, 4, 3], running)


def status(notes: Table) -> np.ndarray:
    """Position in STATUSES; overdue wins over extension (DOMAIN 2.2)."""
    running = np.select([notes["days"] > 0, notes["extended"] != NO_DAY], [2, 1], 0)
    state = notes["state"]
    return np.select([state == REPAID, state == WRITTEN_OFF, state == TRANSFERRED], [3, 4, 5], running)


def flow_file(county: County, with_basis: np.ndarray, known: np.ndarray) -> BankFile:
    """What the PBoC bank issued, collected, wrote off and transferred in the month, with planted mistakes."""
    flows = county.flows
    mine = np.flatnonzero(county.notes["bank"][flows["note"]] == QINGHE)
    mine = mine[np.argsort(flows["day"][mine], kind="stable")]
    file = BankFile(_flow_sheet(county, mine))
    plant_all(file, _flow_plants(county, file.sheet), _flow_candidates(county, file.sheet, with_basis, known))
    return file


def _flow_sheet(county: County, positions: np.ndarray) -> Sheet:
    style = bank_style(county, QINGHE)
    layout = county.config.layout(f"banks/{BANKS[QINGHE]}.yml", "loan_flows")
    flows = county.flows.where(positions)
    notes = county.notes.where(flows["note"])
    makers = {
        **_common_columns(county, style, notes, flows["note"]),
        **_own_columns(county, QINGHE, style, notes, flows["note"]),
    }
    month = f"{county.month.year}{county.month.month:02d}"
    makers |= {
        "flow_no": lambda: numbered(f"LS{month}", positions, 8),
        "flow_on": lambda: dates(flows["day"]),
        "amount_yuan": lambda: fixed_point(flows["amount"], 2),
        "ended_on": lambda: dates(flows["ended"], missing="9999-12-31"),
        "flow_kind": lambda: picked(county.config.labels("flow_kind", style.coding, FLOW_KINDS), flows["kind"]),
    }
    return Sheet(layout, style, {name: none_blank(makers[name]()) for name in layout.names}, positions)


# ---- planting --------------------------------------------------------------------------------------------------------


def _rows_to_lose(sheet: Sheet) -> int:
    return int(sheet.rows * ROWS_TO_LOSE)


def _loan_plants(county: County, bank: int, sheet: Sheet) -> list[Plant]:
    """Plants this layout can carry; each rule has one main bank so that small files cover all rules between them."""
    possible = [plant for plant in LOANS if set(plant.needs) <= set(sheet.layout.names)]
    if bank == XINHE:
        possible = [plant for plant in possible if plant.rule != "P201"]
    main = [plant for plant in possible if _main_bank(county, plant) == bank]
    other = [plant for plant in possible if _main_bank(county, plant) != bank]
    wanted = schedule(main, other, _rows_to_lose(sheet), county.copies, county.age - 1)
    return _with_stories(county, bank, sheet, wanted, possible)


def _main_bank(county: County, plant: Plant) -> int:
    pboc = set(bank_layout(county.config, QINGHE).names)
    return QINGHE if set(plant.needs) <= pboc else BAIYUN


def _with_stories(county: County, bank: int, sheet: Sheet, wanted: list[Plant], possible: list[Plant]) -> list[Plant]:
    """Make room for the refused rows of notes that got worse: one mistake each, taken first."""
    told = int(np.isin(sheet.positions, county.worsened).sum())
    by_rule = {plant.rule: plant for plant in possible}
    rules = [rule for rule in STORY_RULES if rule in by_rule]
    stories = [by_rule[rules[(bank + turn) % len(rules)]] for turn in range(told)]
    left = list(wanted)
    for plant in stories:
        if plant in left:
            left.remove(plant)
    while left and sum(plant.cost for plant in (*stories, *left)) > _rows_to_lose(sheet):
        left.pop()
    return [*stories, *left]


def _flow_plants(county: County, sheet: Sheet) -> list[Plant]:
    return schedule(list(FLOWS), [], _rows_to_lose(sheet), county.copies, county.age - 1)


Candidates = dict[str, np.ndarray]


def _loan_candidates(county: County, sheet: Sheet, with_basis: np.ndarray, known: np.ndarray) -> Candidates:
    """Rows that may be broken, in random order: consented registered borrowers outside the story lanes."""
    notes = county.notes.where(sheet.positions)
    home = county.people["household"][notes["borrower"]]
    free = with_basis[notes["borrower"]] & known[notes["borrower"]] & (county.lane(home) > MISTAKE_LANE)
    running = free & (notes["state"] == ACTIVE)
    plain = running & (notes["days"] == 0) & (notes["extended"] == NO_DAY)
    rng = county.stream(f"plants {sheet.layout.coding}")
    return {
        "plain": rng.permutation(np.flatnonzero(plain)),
        "overdue": rng.permutation(np.flatnonzero(running & (notes["days"] > 0))),
        "story": np.flatnonzero(np.isin(sheet.positions, county.worsened)),
    }


def _flow_candidates(county: County, sheet: Sheet, with_basis: np.ndarray, known: np.ndarray) -> Candidates:
    """Instalments of notes that run on: refusing one of them explains away no ending."""
    flows = county.flows.where(sheet.positions)
    borrower = county.notes["borrower"][flows["note"]]
    partial = (flows["kind"] == COLLECT) & (flows["ended"] == NO_DAY) & (county.notes["state"][flows["note"]] == ACTIVE)
    free = (
        partial
        & with_basis[borrower]
        & known[borrower]
        & (county.lane(county.people["household"][borrower]) > MISTAKE_LANE)
    )
    return {"plain": county.stream("plants flows").permutation(np.flatnonzero(free))}


def plant_all(file: BankFile, wanted: list[Plant], candidates: Candidates) -> None:
    """Break rows, each at most once. Copies are appended first, because they change the number of rows."""
    pools = {name: [int(row) for row in rows] for name, rows in candidates.items()}
    taken = [(plant, _take(file.sheet, pools, plant)) for plant in wanted if plant.copy]
    copied = [(plant, row) for plant, row in taken if row is not None]
    first_copy = file.sheet.rows
    file.sheet = file.sheet.repeated(np.array([row for _, row in copied], dtype=np.int64))
    for number, (plant, row) in enumerate(copied):
        file.mark(row, plant)
        file.mark(first_copy + number, plant)
    for plant in (plant for plant in wanted if not plant.copy):
        if (chosen := _take(file.sheet, pools, plant)) is not None:
            file.plant(chosen, plant)


def _take(sheet: Sheet, pools: dict[str, list[int]], plant: Plant) -> int | None:
    """The next row of the right kind: a story row first where the rule may carry one."""
    told = pools.get("story", [])
    if told and plant.rule in STORY_RULES:
        return told.pop(0)
    pool = pools.get(plant.base, [])
    for place, row in enumerate(pool):
        if plant.fits is None or plant.fits(Row(sheet, row)):
            return pool.pop(place)
    return None


# ---- what truth says -------------------------------------------------------------------------------------------------


def _record(
    county: County, truth: Truth, bank: int, dataset: str, file: BankFile, name: str, member: str,
    with_basis: np.ndarray, known: np.ndarray,
) -> None:  # fmt: skip
    """Findings, rows without legal ground, unmatched borrowers and refused stories of one file."""
    sheet = file.sheet
    notes = sheet.positions if dataset == "loans" else county.flows["note"][sheet.positions]
    borrower = county.notes["borrower"][notes]
    kept = np.ones(sheet.rows, bool)
    kept[list(file.rejected)] = False
    without = kept & ~with_basis[borrower]
    delivery = Delivery(BANKS[bank], dataset, name, sheet.rows, len(file.rejected))
    truth.deliver(delivery, member, file.findings)
    truth.no_basis(delivery, np.flatnonzero(without))
    truth.unmatched(dataset, int((kept & with_basis[borrower] & ~known[borrower]).sum()))
    truth.count(f"{dataset}:{BANKS[bank]}", sheet.rows)
    if dataset == "loans":
        refused = county.worsened[np.isin(county.worsened, sheet.positions[sorted(file.rejected)])]
        _name_stories(county, truth, refused, "rejected")
    _watch(county, truth, borrower, file)


def _watch(county: County, truth: Truth, borrower: np.ndarray, file: BankFile) -> None:
    """Canaries: broken rows first, then borrowers from all over the file."""
    broken = sorted({row for row, _ in file.findings})
    step = max(1, len(borrower) // 120)
    watched = np.unique(np.r_[borrower[broken], borrower[::step]])
    truth.watch(
        identity_text(county.people, watched).to_pylist(), name_text(county.people, watched).to_pylist(),
        phone_text(county.serial(watched)).to_pylist(),
    )  # fmt: skip
    for name in ("borrower_id_no", "co_borrower_id_no"):
        truth.watch([text for text in file.sheet.edits.get(name, {}).values() if text], [], [])


def _name_stories(county: County, truth: Truth, notes: np.ndarray, because: str) -> None:
    home = county.people["household"][county.notes["borrower"][notes]]
    for number in household_numbers(county, home).to_pylist():
        truth.must_not_rise(number, because)
