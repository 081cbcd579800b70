"""A second, plain reading of the simulated files: the standard library and the rule catalogue, one row at a time.

Nothing here comes from the simulator's code. Values are three-valued: None is unknown, and a rule fires only where its
predicate is False.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from openpyxl import load_workbook

Raw = dict[str, str]
Value = Any
DECIMAL = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,8})?", re.ASCII)
INTEGER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
MONEY = {
    "balance_yuan", "balance_cny_yuan", "issued_amount_yuan", "amount_yuan", "annual_income_yuan", "total_assets_yuan",
    "total_debt_yuan", "farmland_mu", "civility_score", "annual_rate_pct", "operating_income_yuan", "business_assets_yuan",
    "business_debt_yuan", "operated_land_mu", "collective_income_yuan", "dividend_yuan", "collective_assets_yuan",
    "collective_debt_yuan",
}  # fmt: skip
MARKS = tuple(
    f"{name}_mark"
    for name in ("filial", "neighbour", "public_spirit", "customs", "law_abiding", "honesty", "hygiene", "diligence")
)
WHOLE = {"overdue_days", "people_count", "worker_count", "led_household_count", "member_household_count", *MARKS}
YES_NO = {"is_report_filed", "is_listed_abnormal", "is_accounts_published", "is_audited"}
CODED = {
    "five_class", "loan_status", "overdue_kind", "guarantee_code", "currency", "id_type", "flow_kind", "is_first_loan",
    "residence_status", "relation_code", "sex", "has_stable_income", "purpose", "decision", "dispute_type", "result",
    "handled_level", "actor_tier", "referred_to", "agreement_kind", "performance", "unperformed_by", "business_kind",
    "operating_status", "trade_code", "is_informed", "list_kind", "item_code", "issuer_kind", "legal_basis", "severity", "is_sealed",
}  # fmt: skip
ITEMS = (
    "licence", "product_safety", "fire_safety", "fair_employment", "site_order", "price_display", "true_measure",
    "no_fakes", "complaints", "contracts", "coupons", "local_jobs", "local_produce", "public_welfare", "civility_lead",
)  # fmt: skip
SHARED_LISTS = {
    "town_decision": "review_decision", "city_decision": "review_decision", "town_reason": "refusal_reason",
    "city_reason": "refusal_reason", **{f"{item}_mark": "item_mark" for item in ITEMS},
}  # fmt: skip


@dataclass
class File:
    """Rows of one delivery as read, and the layout they were read with."""

    supplier: str
    dataset: str
    name: str
    member: str
    layout: dict[str, Any]
    rows: list[Raw | None]  # None: a line with the wrong number of fields


class Book:
    """Configuration and places, read once."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.loaded: dict[Path, dict[str, Any]] = {}
        self.codes: dict[str, Any] = {}
        for file in (config / "codes").glob("*.yml"):
            self.codes.update(self.load(file))
        with (config / "places.csv").open(encoding="utf-8", newline="") as lines:
            self.villages = {row["place_code"]: row["parent_code"] for row in csv.DictReader(lines)
                             if row["place_level"] == "village"}  # fmt: skip

    def load(self, path: Path) -> dict[str, Any]:
        if path not in self.loaded:
            self.loaded[path] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return self.loaded[path]

    def bank(self, code: str) -> dict[str, Any]:
        return self.load(self.config / "banks" / f"{code}.yml")

    def source(self, code: str) -> dict[str, Any]:
        return self.load(self.config / "sources" / f"{code}.yml")


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_pboc(book: Book, path: Path, dataset: str) -> File:
    """A package whose .log agrees with its .dat; raises AssertionError where it does not."""
    import hashlib

    layout = book.bank("qinghe_rcb")["feeds"][dataset]["layouts"][0]
    with zipfile.ZipFile(path) as package:
        data, log = (next(name for name in package.namelist() if name.endswith(end)) for end in (".dat", ".log"))
        body, facts = package.read(data), package.read(log).decode().splitlines()
    assert len(facts) == 5 and facts[0] == data and int(facts[2]) == len(body)
    assert facts[1] == hashlib.md5(body).hexdigest(), "P101"
    assert not body.endswith(b"\n")
    lines = body.decode("utf-8").split("\n") if body else []
    assert int(facts[4]) == len(lines)
    return File(
        "qinghe_rcb", dataset, path.name, data, layout, [_cut(line.split("|"), layout["columns"]) for line in lines]
    )


def _cut(fields: list[str], columns: list[str]) -> Raw | None:
    return dict(zip(columns, fields, strict=True)) if len(fields) == len(columns) else None


def read_csv(book: Book, path: Path) -> File:
    layout = book.bank("baiyun_rcb")["feeds"]["loans"]["layouts"][0]
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode("gb18030"), newline="")))
    heads = [layout["columns"].get(head, head) for head in rows[0]]
    assert set(rows[0]) == {*layout["columns"], *layout["ignore"]}
    return File("baiyun_rcb", "loans", path.name, path.name, layout, [_cut(row, heads) for row in rows[1:]])


def read_workbook(book: Book, path: Path, layout: dict[str, Any], supplier: str, dataset: str) -> File:
    sheet = load_workbook(path)[layout["sheet"]]
    rows = list(sheet.iter_rows(values_only=True))[layout["header_row"] - 1 :]
    assert set(rows[0]) == {*layout["columns"], *layout["ignore"]}
    heads = [layout["columns"].get(head, head) for head in rows[0]]
    read = [
        {**layout.get("defaults", {}), **{head: _cell(cell) for head, cell in zip(heads, row, strict=True)}}
        for row in rows[1:]
    ]
    return File(supplier, dataset, path.name, path.name, layout, read)


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.date().isoformat()
    if isinstance(cell, float):
        return repr(cell).removesuffix(".0")
    return str(cell)


def read_log(book: Book, path: Path) -> File:
    town = path.name.split("_")[1]
    layouts = book.source("mediation")["feeds"]["mediation"]["layouts"]
    layout = next(entry for entry in layouts if entry["match"] == f"*{path.suffix}")
    if path.suffix == ".xlsx":
        return read_workbook(book, path, layout, town, "mediation")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(list(record) == layout["columns"] for record in records)
    rows = [{name: _cell(value) for name, value in record.items()} for record in records]
    return File(town, "mediation", path.name, path.name, layout, rows)


def read_village_life(book: Book, path: Path, dataset: str) -> File:
    layout = book.source("village_life")["feeds"][dataset]["layouts"][0]
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert rows[0] == list(layout["columns"])
    heads = list(layout["columns"].values())
    return File("village_life", dataset, path.name, path.name, layout, [_cut(row, heads) for row in rows[1:]])


def read_list(book: Book, path: Path) -> File:
    """A list of businesses, collectives, merchants or applications."""
    dataset = path.name.rpartition("_")[0]
    layout = book.source("enterprises")["feeds"][dataset]["layouts"][0]
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))
    assert rows[0] == list(layout["columns"])
    heads = list(layout["columns"].values())
    return File("enterprises", dataset, path.name, path.name, layout, [_cut(row, heads) for row in rows[1:]])


def read_register(book: Book, folder: Path, dataset: str) -> File:
    """A register table in pull order: by change time and key."""
    feed = book.source("government")["feeds"][dataset]
    layout = feed["layouts"][0]
    path = folder / f"{feed['relation'].split('.')[1]}.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    rows.sort(key=lambda row: (row["changed_at"], row[feed["key"]]))
    return File("government", dataset, dataset, dataset, layout, rows)


def read_all(book: Book, out: Path, period: str) -> Iterator[File]:
    month = period.replace("-", "")
    drop = out / "drop"
    yield read_pboc(book, max((drop / "qinghe_rcb").glob(f"CLGRDK_{month}*.zip")), "loans")
    yield read_pboc(book, max((drop / "qinghe_rcb").glob(f"GRDKFS_{month}*.zip")), "loan_flows")
    yield read_csv(book, next((drop / "baiyun_rcb").glob(f"*{month}*.csv")))
    layout = book.bank("xinhe_vb")["feeds"]["loans"]["layouts"][0]
    yield read_workbook(book, next((drop / "xinhe_vb").glob(f"*{period}*.xlsx")), layout, "xinhe_vb", "loans")
    for path in sorted((drop / "village_logs").glob(f"*{month}*")):
        yield read_log(book, path)
    for dataset in ("civility_ballots", "credit_events"):
        for path in (drop / "village_life").glob(f"{dataset}_{month}*"):
            yield read_village_life(book, path, dataset)
    for path in sorted((drop / "enterprises").glob(f"*{month}*")):
        yield read_list(book, path)
    for dataset in ("households", "members", "consents"):
        yield read_register(book, out / "government", dataset)


# ---- typing ----------------------------------------------------------------------------------------------------------


def raw_cell(file: File, row: Raw, name: str) -> str | None:
    """The trimmed cell; None if the column is missing, blank or a null token."""
    text = row.get(name, "").strip(" \t\r\n")
    return None if text in file.layout["nulls"] or text == "" else text


def typed(book: Book, file: File, row: Raw, name: str) -> Value:
    text = raw_cell(file, row, name)
    if text is None:
        return None
    if name in CODED or name in SHARED_LISTS:
        return book.codes[SHARED_LISTS.get(name, name)]["codings"][file.layout["codes"]].get(text)
    if name.endswith("_on"):
        return _date(text, file.layout["dates"])
    if name in MONEY:
        return _decimal(text, file.layout.get("units", {}).get(name, ""), name)
    if name in WHOLE:
        return int(text) if INTEGER.fullmatch(text) else None
    if name in YES_NO:
        return {"1": True, "0": False}.get(text)
    return text.replace("x", "X") if name.endswith("id_no") or name == "id_no" else text


def _date(text: str, form: str) -> date | None:
    try:
        found = datetime.strptime(text, form).date()
    except ValueError:
        return None
    return found if found.strftime(form) == text else None


def _decimal(text: str, unit: str, name: str) -> Decimal | None:
    if not DECIMAL.fullmatch(text):
        return None
    value = Decimal(text) * {"10k_yuan": 10_000, "fraction": 100}.get(unit, 1)
    places = 5 if name == "annual_rate_pct" else 2
    return value if value == round(value, places) else None


def identity_is_valid(text: str | None) -> bool | None:
    """GB 11643-1999, written out again."""
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{16}[\dX]", text, re.ASCII) or _date(text[6:14], "%Y%m%d") is None:
        return False
    weights = [2**place % 11 for place in range(17, 0, -1)]
    rest = sum(int(digit) * weight for digit, weight in zip(text[:17], weights, strict=True)) % 11
    return "10X98765432"[rest] == text[17]


def code_is_valid(text: str | None) -> bool | None:
    """GB 32100-2015, written out again: the 18 places times 1, 3, 9, 27, … sum to a multiple of 31."""
    if text is None:
        return None
    places = ["0123456789ABCDEFGHJKLMNPQRTUWXY".find(letter) for letter in text]
    if len(places) != 18 or min(places) < 0:
        return False
    weights = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28, 1)
    return sum(place * weight for place, weight in zip(places, weights, strict=True)) % 31 == 0


# ---- three-valued logic ----------------------------------------------------------------------------------------------


def known(*values: Value) -> bool:
    return all(value is not None for value in values)


def either(*parts: bool | None) -> bool | None:
    """SQL OR."""
    if any(part is True for part in parts):
        return True
    return None if any(part is None for part in parts) else False


def when(condition: bool | None, then: bool | None) -> bool | None:
    """NOT condition OR then."""
    return either(None if condition is None else not condition, then)


def compare(left: Value, test: Callable[[Any, Any], bool], right: Value) -> bool | None:
    return test(left, right) if known(left, right) else None


le, lt, ge, gt, eq, ne = (
    lambda a, b: compare(a, lambda x, y: x <= y, b),
    lambda a, b: compare(a, lambda x, y: x < y, b),
    lambda a, b: compare(a, lambda x, y: x >= y, b),
    lambda a, b: compare(a, lambda x, y: x > y, b),
    lambda a, b: compare(a, lambda x, y: x == y, b),
    lambda a, b: compare(a, lambda x, y: x != y, b),
)


def within(value: Value, low: int, high: int) -> bool | None:
    return None if value is None else low <= value <= high


def one_of(value: Value, *options: Value) -> bool | None:
    return None if value is None else value in options


def years_later(day: date | None, years: int) -> date | None:
    if day is None:
        return None
    leap = (day.month, day.day) == (2, 29) and not _date(f"{day.year + years}0229", "%Y%m%d")
    return day.replace(year=day.year + years, day=28 if leap else day.day)


# ---- the catalogue ---------------------------------------------------------------------------------------------------

TYPES = {
    "loans": dict(L001="as_of_on", L002="issued_on", L003="matures_on", L004="extended_to_on", L005="balance_yuan",
                  L006="annual_rate_pct", L007="issued_amount_yuan", L008="overdue_days", L009="closed_on",
                  L010="balance_cny_yuan"),
    "loan_flows": dict(F001="as_of_on", F002="flow_on", F003="amount_yuan", F004="issued_on", F005="ended_on"),
    "households": dict(H001="registered_on", H002="annual_income_yuan", H003="total_assets_yuan", H004="total_debt_yuan",
                       H005="farmland_mu", H006="civility_score", H007="absent_since_on", H008="civility_reviewed_on"),
    "members": dict(M001="birth_on"),
    "consents": dict(C001="granted_on", C002="expires_on", C003="withdrawn_on"),
    "mediation": dict(D001="registered_on", D002="accepted_on", D003="closed_on", D004="amount_yuan", D005="agreement_on",
                      D006="people_count", D007="due_on", D008="judicially_confirmed_on"),
    "civility_ballots": dict(B001="reviewed_on", **{f"B01{number}": name for number, name in enumerate(MARKS, start=1)}),
    "credit_events": dict(N001="notice_on", N002="event_from_on", N003="event_to_on", N004="publication_until_on",
                          N005="repaired_on", N006="revoked_on"),
    "businesses": dict(Y001="founded_on", Y002="closed_on", Y003="operating_income_yuan", Y004="business_assets_yuan",
                       Y005="business_debt_yuan", Y006="worker_count", Y007="operated_land_mu", Y008="led_household_count",
                       Y009="is_report_filed", Y010="is_listed_abnormal", Y011="reported_on"),
    "collectives": dict(J001="established_on", J002="accounts_on", J003="member_household_count",
                        J004="collective_income_yuan", J005="dividend_yuan", J006="collective_assets_yuan",
                        J007="collective_debt_yuan", J008="is_accounts_published", J009="is_audited"),
    "merchants": dict(S001="joined_on", S002="left_on"),
    "merchant_reviews": dict(R001="applied_on", R002="town_checked_on", R003="city_reviewed_on"),
}  # fmt: skip
REQUIRED = {
    "loans": dict(L101="loan_no", L102="borrower_id_no", L103="as_of_on", L104="issued_on", L105="matures_on",
                  L106="balance_yuan", L107="five_class", L108="loan_status", L109="id_type"),
    "loan_flows": dict(F101="flow_no", F102="loan_no", F103="borrower_id_no", F104="flow_on", F105="amount_yuan",
                       F106="flow_kind", F107="as_of_on"),
    "households": dict(H101="household_no", H102="village_code", H103="head_id_no", H104="residence_status",
                       H105="registered_on"),
    "members": dict(M101="id_no", M102="household_no", M103="birth_on", M104="relation_code", M105="member_no"),
    "consents": dict(C101="consent_no", C102="subject_id_no", C103="recipient", C104="purpose", C105="granted_on",
                     C106="decision"),
    "mediation": dict(D101="case_no", D102="village_code", D103="dispute_type", D104="registered_on", D105="result"),
    "civility_ballots": dict(B101="ballot_no", B102="round", B103="household_no", B104="reviewer_id_no", B105="is_informed",
                             B106="reviewed_on"),
    "credit_events": dict(N101="event_no", N102="bound_id_no", N103="list_kind", N104="item_code", N105="event_from_on"),
    "businesses": dict(Y101="credit_code", Y102="business_kind", Y103="village_code", Y104="in_charge_id_no",
                       Y105="founded_on", Y106="operating_status", Y107="reported_on"),
    "collectives": dict(J101="collective_code", J102="collective_name", J103="village_code", J104="in_charge_id_no",
                        J105="established_on", J106="operating_status", J107="accounts_on"),
    "merchants": dict(S101="merchant_no", S102="credit_code", S103="trade_code", S104="village_code", S105="owner_id_no",
                      S106="operating_status"),
    "merchant_reviews": dict(R101="application_no", R102="merchant_no", R103="applied_on"),
}  # fmt: skip
CODES = {
    "loans": dict(L110="five_class", L111="loan_status", L112="guarantee_code", L113="currency", L114="id_type",
                  L115="overdue_kind", L116="is_first_loan"),
    "loan_flows": dict(F110="flow_kind", F111="currency", F112="id_type"),
    "households": dict(H110="residence_status", H112="has_stable_income"),
    "members": dict(M110="relation_code", M111="sex"),
    "consents": dict(C110="purpose", C111="decision"),
    "mediation": dict(D110="dispute_type", D111="result", D112="handled_level", D114="performance", D115="actor_tier",
                      D116="agreement_kind", D117="referred_to", D118="unperformed_by"),
    "civility_ballots": dict(B110="is_informed"),
    "credit_events": dict(N110="list_kind", N111="item_code", N112="issuer_kind", N113="legal_basis", N114="severity",
                          N115="is_sealed"),
    "businesses": dict(Y110="business_kind", Y111="operating_status"),
    "collectives": dict(J110="operating_status"),
    "merchants": dict(S110="trade_code", S111="operating_status"),
    "merchant_reviews": dict(R110="town_decision", R111="city_decision", R112="town_reason", R113="city_reason",
                             **{f"R{120 + place}": f"{item}_mark" for place, item in enumerate(ITEMS)}),
}  # fmt: skip
UNIQUE = {
    "loans": dict(L140="loan_no"), "loan_flows": dict(F140="flow_no"), "households": dict(H140="household_no"),
    "members": dict(M140="member_no", M141="id_no"), "consents": dict(C140="consent_no"), "mediation": dict(D140="case_no"),
    "civility_ballots": dict(B140="ballot_no"), "credit_events": dict(N140="event_no"),
    "businesses": dict(Y140="credit_code"), "collectives": dict(J140="collective_code", J141="village_code"),
    "merchants": dict(S140="merchant_no"), "merchant_reviews": dict(R140="application_no"),
}  # fmt: skip
TERMINAL = ("repaid", "written_off", "transferred")


def loans(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    has = {*file.rows[0]} if file.rows and file.rows[0] else set()
    status, balance, issued, matures = v("loan_status"), v("balance_yuan"), v("issued_on"), v("matures_on")
    amount, rate, days = v("issued_amount_yuan"), v("annual_rate_pct"), v("overdue_days")
    terminal = one_of(status, *TERMINAL)
    resident = eq(v("id_type"), "resident_id")
    no = raw("loan_no")
    return {
        "L120": ge(balance, 0), "L121": within(rate, 0, 36), "L122": ge(amount, 0), "L123": within(days, 0, 9999),
        "L130": None if no is None else re.fullmatch(r"[0-9A-Za-z-]{6,60}", no) is not None,
        "L131": when(resident, identity_is_valid(v("borrower_id_no"))) if resident else None,
        "L133": identity_is_valid(v("co_borrower_id_no")),
        "L201": eq(v("as_of_on"), end),
        "L202": one_of(raw("institution_code"), *book.bank(file.supplier)["institution_codes"]),
        "L203": gt(matures, issued), "L204": le(issued, v("as_of_on")), "L205": ge(v("extended_to_on"), matures),
        "L206": either(eq(amount, 0), ge(amount, balance)),
        "L207": either(ne(status, "overdue"), v("overdue_kind") is not None) if "overdue_kind" in has else None,
        "L208": (status == "overdue") == (days > 0) if known(status, days) and not terminal else None,
        "L209": either(ne(status, "written_off"), None if (k := one_of(v("five_class"), "normal", "special_mention")) is None else not k),
        "L210": when(terminal, eq(balance, 0)),
        "L211": when(terminal, v("closed_on") is not None) if "closed_on" in has else None,
        "L213": when(eq(v("currency"), "CNY"), eq(v("balance_cny_yuan"), balance)),
        "L214": ge(v("closed_on"), issued),
        "L212": either(le(days, 90), ne(v("five_class"), "normal")), "L301": le(balance, 2_000_000),
        "L302": None if rate is None else not 0 < rate < 1, "L303": le(matures, years_later(issued, 30)),
    }  # fmt: skip


def loan_flows(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    kind, amount = v("flow_kind"), v("amount_yuan")
    resident = eq(v("id_type"), "resident_id")
    return {
        "F120": gt(amount, 0), "F131": identity_is_valid(v("borrower_id_no")) if resident else None,
        "F201": eq(v("as_of_on"), end),
        "F202": one_of(raw("institution_code"), *book.bank(file.supplier)["institution_codes"]),
        "F203": None if v("flow_on") is None else start <= v("flow_on") <= end,
        "F204": when(one_of(kind, "write_off", "transfer"), v("ended_on") is not None),
        "F205": ge(v("ended_on"), v("issued_on")), "F301": le(amount, 2_000_000),
    }  # fmt: skip


def households(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    no, assets = raw("household_no"), v("total_assets_yuan")
    village = raw("village_code")
    return {
        "H111": None if village is None else village in book.villages, "H120": ge(v("annual_income_yuan"), 0),
        "H121": ge(assets, 0), "H122": within(v("farmland_mu"), 0, 10_000), "H123": within(v("civility_score"), 0, 100),
        "H124": ge(v("total_debt_yuan"), 0),
        "H130": None if no is None else re.fullmatch(r"[0-9A-Za-z-]{6,40}", no) is not None,
        "H131": identity_is_valid(v("head_id_no")), "H133": ne(raw("former_household_no"), no),
        "H201": le(v("registered_on"), end),
        "H202": either(ne(v("residence_status"), "absent"), v("absent_since_on") is not None),
        "H204": le(v("civility_reviewed_on"), end), "H301": le(v("annual_income_yuan"), 5_000_000),
        "H302": le(v("total_debt_yuan"), 10 * assets) if assets is not None and assets > 0 else None,
    }  # fmt: skip


def members(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    identity, born = v("id_no"), v("birth_on")
    valid = identity_is_valid(identity)
    return {
        "M131": valid, "M201": eq(born, _date(identity[6:14], "%Y%m%d")) if valid else None,
        "M202": eq(v("sex"), "male" if int(identity[16]) % 2 else "female") if valid else None,
        "M203": le(born, end), "M301": ge(years_later(born, 110), end),
    }  # fmt: skip


def consents(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    granted, expires = v("granted_on"), v("expires_on")
    recipients = ("county", "qinghe_rcb", "baiyun_rcb", "xinhe_vb")
    return {
        "C112": one_of(raw("recipient"), *recipients), "C131": identity_is_valid(v("subject_id_no")),
        "C201": ge(expires, granted), "C202": ge(v("withdrawn_on"), granted), "C203": le(granted, end),
        "C204": when(one_of(v("purpose"), "income", "property"), raw("document_no") is not None),
        "C301": le(expires, years_later(granted, 10)),
    }  # fmt: skip


def mediation(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    village, registered, accepted, closed = raw("village_code"), v("registered_on"), v("accepted_on"), v("closed_on")
    result = v("result")
    raw_closed = raw("closed_on") is not None
    document = raw("unperformed_document_no") is not None and v("unperformed_by") is not None
    agreed = v("agreement_on")
    return {
        "D113": None if village is None else village in book.villages,
        "D119": None if village not in book.villages else book.villages[village] == file.supplier,
        "D120": ge(v("amount_yuan"), 0), "D121": ge(v("people_count"), 1),
        "D131": identity_is_valid(v("applicant_id_no")), "D132": identity_is_valid(v("respondent_id_no")),
        "D133": identity_is_valid(v("helper_id_no")), "D201": ge(accepted, registered), "D202": ge(closed, accepted),
        "D203": None if result is None or (raw_closed and closed is None) else (result == "open") == (closed is None),
        "D204": either(ne(v("performance"), "unperformed"), document),
        "D205": either(ne(v("agreement_kind"), "written"), raw("agreement_no") is not None),
        "D206": le(v("judicially_confirmed_on"), None if agreed is None else agreed + timedelta(30)),
        "D207": le(registered, end), "D301": le(closed, None if accepted is None else accepted + timedelta(31)),
        "D302": ne(v("applicant_id_no"), v("respondent_id_no")),
    }  # fmt: skip


def civility_ballots(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    round_ = raw("round")
    marks = [v(name) for name in MARKS]
    broken = any(raw(name) is not None and v(name) is None for name in MARKS)
    complete = False if any(raw(name) is None for name in MARKS) else None if broken else True
    return {
        **{f"B12{number}": within(mark, 0, 10) for number, mark in enumerate(marks, start=1)},
        "B130": None if round_ is None else re.fullmatch(r"20\d{2}[0-9A-Z-]{0,4}", round_, re.ASCII) is not None,
        "B131": identity_is_valid(v("reviewer_id_no")), "B201": le(v("reviewed_on"), end),
        "B202": when(eq(v("is_informed"), "true"), complete),
    }  # fmt: skip


def credit_events(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    kind, begun, basis, bank = v("list_kind"), v("event_from_on"), v("legal_basis"), raw("joint_bank_code")
    documented = all(raw(name) is not None for name in ("document_no", "issuer_text", "notice_on"))
    lawful = (
        None if basis is None and raw("legal_basis") is not None else basis in ("enforcement", "judgment", "penalty")
    )
    is_positive = eq(kind, "positive")
    return {
        "N131": identity_is_valid(v("bound_id_no")), "N201": either(is_positive, documented),
        "N202": eq(v("is_sealed"), "false"), "N203": ge(v("event_to_on"), begun), "N204": le(v("notice_on"), end),
        "N205": ge(v("repaired_on"), begun), "N206": ge(v("revoked_on"), begun),
        "N207": eq((v("item_code") or "").partition("_")[0] or None, kind), "N208": either(is_positive, lawful),
        "N209": (bank is None) == (raw("joint_loan_no") is None),
        "N210": one_of(bank, "county", "qinghe_rcb", "baiyun_rcb", "xinhe_vb"),
    }  # fmt: skip


def businesses(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    code, village, status, assets = (
        raw("credit_code"),
        raw("village_code"),
        v("operating_status"),
        v("business_assets_yuan"),
    )
    raw_closed, closed, kind = raw("closed_on") is not None, v("closed_on"), v("business_kind")
    prefix = {"cooperative": "93", "individual": "92", "enterprise": "91"}.get(kind)
    return {
        "Y112": None if village is None else village in book.villages, "Y131": code_is_valid(code),
        "Y132": identity_is_valid(v("in_charge_id_no")), "Y120": ge(v("operating_income_yuan"), 0), "Y121": ge(assets, 0),
        "Y122": ge(v("business_debt_yuan"), 0), "Y123": ge(v("worker_count"), 0),
        "Y124": within(v("operated_land_mu"), 0, 100_000), "Y125": ge(v("led_household_count"), 0),
        "Y201": le(v("founded_on"), end), "Y202": either(ne(status, "closed"), raw_closed),
        "Y203": ge(closed, v("founded_on")),
        "Y204": either(None if raw_closed and closed is None else not raw_closed, eq(status, "closed")),
        "Y205": le(v("reported_on"), end), "Y206": None if code is None or prefix is None else code.startswith(prefix),
        "Y301": le(v("operating_income_yuan"), 50_000_000),
        "Y302": le(v("business_debt_yuan"), 3 * assets) if assets is not None and assets > 0 else None,
    }  # fmt: skip


def collectives(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    code, village, assets = raw("collective_code"), raw("village_code"), v("collective_assets_yuan")
    return {
        "J112": None if village is None else village in book.villages, "J131": code_is_valid(code),
        "J132": identity_is_valid(v("in_charge_id_no")), "J120": ge(v("member_household_count"), 0),
        "J121": ge(v("collective_income_yuan"), 0), "J122": ge(v("dividend_yuan"), 0), "J123": ge(assets, 0),
        "J124": ge(v("collective_debt_yuan"), 0), "J201": le(v("established_on"), end), "J202": le(v("accounts_on"), end),
        "J203": None if code is None else code.startswith("N2"), "J204": le(v("dividend_yuan"), v("collective_income_yuan")),
        "J301": le(v("collective_debt_yuan"), assets) if assets is not None and assets > 0 else None,
    }  # fmt: skip


def merchants(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    no, village, joined, left = raw("merchant_no"), raw("village_code"), v("joined_on"), v("left_on")
    unknown = raw("left_on") is not None and left is None
    return {
        "S112": None if village is None else village in book.villages, "S131": code_is_valid(raw("credit_code")),
        "S130": None if no is None else re.fullmatch(r"[0-9A-Za-z-]{6,40}", no) is not None,
        "S132": identity_is_valid(v("owner_id_no")), "S201": ge(left, joined),
        "S202": either(None if unknown else left is None, raw("joined_on") is not None),
        "S203": le(joined, end), "S204": le(left, end),
    }  # fmt: skip


def merchant_reviews(
    book: Book, file: File, start: date, end: date, v: Callable[[str], Value], raw: Callable[[str], Value]
) -> Raw:
    def given(name: str) -> bool | None:
        """Whether there is a value; unknown where a cell was delivered that nobody can read."""
        return None if raw(name) is not None and v(name) is None else raw(name) is not None

    def together(decision: str, day: str) -> bool | None:
        return compare(given(decision), lambda one, other: one == other, given(day))

    town, city, checked, reviewed = v("town_decision"), v("city_decision"), v("town_checked_on"), v("city_reviewed_on")
    untouched = None if given("city_decision") is None else not given("city_decision")
    town_passed = False if raw("town_decision") is None else eq(town, "passed")
    marked = [given(f"{item}_mark") for item in ITEMS]
    all_marked = False if False in marked else None if None in marked else True
    return {
        "R201": le(v("applied_on"), end), "R202": ge(checked, v("applied_on")),
        "R203": together("town_decision", "town_checked_on"), "R204": ge(reviewed, checked),
        "R205": together("city_decision", "city_reviewed_on"), "R206": either(untouched, town_passed),
        "R207": either(ne(town, "refused"), given("town_reason")), "R208": either(ne(city, "refused"), given("city_reason")),
        "R209": le(checked, end), "R210": le(reviewed, end), "R301": either(ne(city, "passed"), all_marked),
    }  # fmt: skip


CROSS = {
    "loans": loans, "loan_flows": loan_flows, "households": households, "members": members, "consents": consents,
    "mediation": mediation, "civility_ballots": civility_ballots, "credit_events": credit_events,
    "businesses": businesses, "collectives": collectives, "merchants": merchants,
    "merchant_reviews": merchant_reviews,
}  # fmt: skip


def findings(book: Book, file: File, start: date, end: date) -> set[tuple[int, str]]:
    """All (1-based row, rule) of a file."""
    found: set[tuple[int, str]] = set()
    for number, row in enumerate(file.rows, start=1):
        fired = {"P201"} if row is None else _row_findings(book, file, row, start, end)
        found |= {(number, rule) for rule in fired}
    for rule, column in UNIQUE[file.dataset].items():
        cells = [typed(book, file, row, column) if row else None for row in file.rows]
        counts = Counter(cell for cell in cells if cell is not None)
        found |= {(number, rule) for number, cell in enumerate(cells, start=1) if cell is not None and counts[cell] > 1}
    return found


def _row_findings(book: Book, file: File, row: Raw, start: date, end: date) -> set[str]:
    def v(name: str) -> Value:
        return typed(book, file, row, name)

    def raw(name: str) -> Value:
        return raw_cell(file, row, name)

    fired = {
        rule for rule, name in TYPES[file.dataset].items() if name in row and raw(name) is not None and v(name) is None
    }
    fired |= {
        rule for rule, name in CODES[file.dataset].items() if name in row and raw(name) is not None and v(name) is None
    }
    fired |= {rule for rule, name in REQUIRED[file.dataset].items() if name in row and raw(name) is None}
    checks = CROSS[file.dataset](book, file, start, end, v, raw)
    return fired | {rule for rule, holds in checks.items() if holds is False}
