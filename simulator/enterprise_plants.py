"""The mistakes planted in the lists of businesses, collectives, merchants and applications: one entry per rule.

As in `simulator.plants`: a failed cast or an unknown code is NULL, and no other predicate on it fires.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from etl.identifiers import credit_code_check_character
from simulator.plants import Edit, bad_identity, full_width, not_a_date, put, put_day, years_ahead
from simulator.sheets import Plant, Row

ITEMS = (
    "licence", "product_safety", "fire_safety", "fair_employment", "site_order", "price_display", "true_measure",
    "no_fakes", "complaints", "contracts", "coupons", "local_jobs", "local_produce", "public_welfare", "civility_lead",
)  # fmt: skip
MARKS = tuple(f"{item}_mark" for item in ITEMS)
UNKNOWN_VILLAGE = "341181199999"


def _wrong_code(name: str) -> Edit:
    """A code spoilt in one of four ways: wrong check character, small letters, full-width digits, a character too few."""

    def spoil(row: Row) -> dict[str, str | None]:
        text = row.text(name)
        wrong = text[:17] + ("1" if text[17] != "1" else "2")
        forms = (wrong, text[:-1] + "s", full_width(text), text[:17])
        return {name: forms[row.row % len(forms)]}

    return spoil


def _code_of(name: str, prefix: str) -> Edit:
    """The same number as that of another kind of organisation, with its right check character."""

    def edit(row: Row) -> dict[str, str | None]:
        first = prefix + row.text(name)[2:17]
        return {name: first + credit_code_check_character(first)}

    return edit


def _coded(name: str, code_list: str, canonical: str, **more: str) -> Edit:
    """A canonical code of a list, and fixed texts beside it."""
    return lambda row: {name: row.style.code(code_list, canonical), **more}


def _status(canonical: str, **more: str) -> Edit:
    return _coded("operating_status", "operating_status", canonical, **more)


def _runs(row: Row) -> bool:
    """In operation, with everything reported."""
    return row.text("operating_status") == row.style.code("operating_status", "operating")


def _closed_before(row: Row) -> dict[str, str | None]:
    return {**_status("closed")(row), "closed_on": row.shifted("founded_on", -10)}


def _other_kind(row: Row) -> dict[str, str | None]:
    """An enterprise that calls itself a cooperative, anything else an enterprise."""
    enterprise = row.style.code("business_kind", "enterprise")
    kind = "cooperative" if row.text("business_kind") == enterprise else "enterprise"
    return {"business_kind": row.style.code("business_kind", kind)}


def _owing(assets: str, debt: str) -> Edit:
    return lambda row: {assets: "10000.00", debt: "40000.00"}


BUSINESSES: tuple[Plant, ...] = (
    Plant("Y140", ("credit_code",), lambda row: {}, copy=True),
    Plant("Y001", ("founded_on",), not_a_date("founded_on"), fits=_runs),
    Plant("Y002", ("closed_on",), not_a_date("closed_on"), fits=_runs),
    Plant("Y003", ("operating_income_yuan",), put("operating_income_yuan", "120万")),
    Plant("Y004", ("business_assets_yuan",), put("business_assets_yuan", "１２００００")),
    Plant("Y005", ("business_debt_yuan",), put("business_debt_yuan", "无")),
    Plant("Y006", ("worker_count",), put("worker_count", "三人")),
    Plant("Y007", ("operated_land_mu",), put("operated_land_mu", "20亩")),
    Plant("Y008", ("led_household_count",), put("led_household_count", "12.5")),
    Plant("Y009", ("is_report_filed",), put("is_report_filed", "已公示")),
    Plant("Y010", ("is_listed_abnormal",), put("is_listed_abnormal", "无")),
    Plant("Y011", ("reported_on",), put("reported_on", "2024/1/31")),
    Plant("Y101", ("credit_code",), put("credit_code", "")),
    Plant("Y102", ("business_kind",), put("business_kind", "")),
    Plant("Y103", ("village_code",), put("village_code", "")),
    Plant("Y104", ("in_charge_id_no",), put("in_charge_id_no", "")),
    Plant("Y105", ("founded_on",), put("founded_on", ""), fits=_runs),
    Plant("Y106", ("operating_status",), put("operating_status", ""), fits=_runs),
    Plant("Y107", ("reported_on",), put("reported_on", "")),
    Plant("Y110", ("business_kind",), put("business_kind", "股份公司")),
    Plant("Y111", ("operating_status",), put("operating_status", "停产"), fits=_runs),
    Plant("Y112", ("village_code",), put("village_code", UNKNOWN_VILLAGE)),
    Plant("Y120", ("operating_income_yuan",), put("operating_income_yuan", "-1.00")),
    Plant("Y121", ("business_assets_yuan",), put("business_assets_yuan", "-5.00")),  # Y302 asks only where assets > 0
    Plant("Y122", ("business_debt_yuan",), put("business_debt_yuan", "-1.00")),
    Plant("Y123", ("worker_count",), put("worker_count", "-2")),
    Plant("Y124", ("operated_land_mu",), put("operated_land_mu", "200000")),
    Plant("Y125", ("led_household_count",), put("led_household_count", "-3")),
    Plant("Y131", ("credit_code",), _wrong_code("credit_code")),
    Plant("Y132", ("in_charge_id_no",), bad_identity("in_charge_id_no")),
    Plant("Y201", ("founded_on",), put_day("founded_on", years_ahead), fits=_runs),
    Plant("Y202", ("operating_status", "closed_on"), _status("closed", closed_on=""), fits=_runs),
    Plant("Y203", ("closed_on", "founded_on"), _closed_before),
    Plant("Y204", ("closed_on",), put_day("closed_on", lambda row: row.style.last_day - 2),
          fits=lambda row: _runs(row) and row.day("founded_on") < row.style.last_day - 2),
    Plant("Y205", ("reported_on",), put_day("reported_on", years_ahead)),
    Plant("Y206", ("business_kind", "credit_code"), _other_kind),
    Plant("Y301", ("operating_income_yuan",), put("operating_income_yuan", "60000000.00")),
    Plant("Y302", ("business_debt_yuan", "business_assets_yuan"), _owing("business_assets_yuan", "business_debt_yuan")),
)  # fmt: skip


def _more_than_income(row: Row) -> dict[str, str | None]:
    return {"dividend_yuan": str(Decimal(row.text("collective_income_yuan")) + 1)}


COLLECTIVES: tuple[Plant, ...] = (
    Plant("J140", ("collective_code",), lambda row: {}, copy=True, also=("J141",)),
    Plant("J001", ("established_on",), not_a_date("established_on")),
    Plant("J002", ("accounts_on",), put("accounts_on", "2023年末")),
    Plant("J003", ("member_household_count",), put("member_household_count", "约300")),
    Plant("J004", ("collective_income_yuan",), put("collective_income_yuan", "35万")),
    Plant("J005", ("dividend_yuan",), put("dividend_yuan", "未分")),
    Plant("J006", ("collective_assets_yuan",), put("collective_assets_yuan", "120 万元")),
    Plant("J007", ("collective_debt_yuan",), put("collective_debt_yuan", "１０００")),
    Plant("J008", ("is_accounts_published",), put("is_accounts_published", "是")),
    Plant("J009", ("is_audited",), put("is_audited", "待审")),
    Plant("J101", ("collective_code",), put("collective_code", "")),
    Plant("J102", ("collective_name",), put("collective_name", "")),
    Plant("J103", ("village_code",), put("village_code", "")),
    Plant("J104", ("in_charge_id_no",), put("in_charge_id_no", "")),
    Plant("J105", ("established_on",), put("established_on", "")),
    Plant("J106", ("operating_status",), put("operating_status", "")),
    Plant("J107", ("accounts_on",), put("accounts_on", "")),
    Plant("J110", ("operating_status",), put("operating_status", "筹建")),
    Plant("J112", ("village_code",), put("village_code", UNKNOWN_VILLAGE)),
    Plant("J120", ("member_household_count",), put("member_household_count", "-1")),
    Plant("J121", ("collective_income_yuan", "dividend_yuan"),
          lambda row: {"collective_income_yuan": "-10.00", "dividend_yuan": ""}),
    Plant("J122", ("dividend_yuan",), put("dividend_yuan", "-1.00")),
    Plant("J123", ("collective_assets_yuan",), put("collective_assets_yuan", "-5.00")),
    Plant("J124", ("collective_debt_yuan",), put("collective_debt_yuan", "-5.00")),
    Plant("J131", ("collective_code",), lambda row: {"collective_code": row.text("collective_code")[:17] + "I"}),
    Plant("J132", ("in_charge_id_no",), bad_identity("in_charge_id_no")),
    Plant("J201", ("established_on",), put_day("established_on", years_ahead)),
    Plant("J202", ("accounts_on",), put_day("accounts_on", years_ahead)),
    Plant("J203", ("collective_code",), _code_of("collective_code", "N3")),
    Plant("J204", ("dividend_yuan", "collective_income_yuan"), _more_than_income),
    Plant("J301", ("collective_debt_yuan", "collective_assets_yuan"),
          _owing("collective_assets_yuan", "collective_debt_yuan")),
)  # fmt: skip


def _joined(row: Row) -> bool:
    return row.text("joined_on") != ""


def _outside(row: Row) -> bool:
    return row.text("joined_on") == ""


MERCHANTS: tuple[Plant, ...] = (
    Plant("S140", ("merchant_no",), lambda row: {}, copy=True),
    Plant("S001", ("joined_on",), not_a_date("joined_on")),
    Plant("S002", ("left_on",), not_a_date("left_on")),
    Plant("S101", ("merchant_no",), put("merchant_no", "")),
    Plant("S102", ("credit_code",), put("credit_code", "")),
    Plant("S103", ("trade_code",), put("trade_code", "")),
    Plant("S104", ("village_code",), put("village_code", "")),
    Plant("S105", ("owner_id_no",), put("owner_id_no", "")),
    Plant("S106", ("operating_status",), put("operating_status", "")),
    Plant("S110", ("trade_code",), put("trade_code", "小卖部")),
    Plant("S111", ("operating_status",), put("operating_status", "装修")),
    Plant("S112", ("village_code",), put("village_code", UNKNOWN_VILLAGE)),
    Plant("S130", ("merchant_no",), lambda row: {"merchant_no": f"商户{row.text('merchant_no')}"}),
    Plant("S131", ("credit_code",), _wrong_code("credit_code")),
    Plant("S132", ("owner_id_no",), bad_identity("owner_id_no")),
    Plant("S201", ("left_on", "joined_on"), lambda row: {"left_on": row.shifted("joined_on", -5)}, fits=_joined),
    Plant("S202", ("left_on",), put_day("left_on", lambda row: row.style.last_day - 2), fits=_outside),
    Plant("S203", ("joined_on",), put_day("joined_on", years_ahead)),
    Plant("S204", ("left_on",), put_day("left_on", years_ahead), fits=_joined),
)  # fmt: skip


def _has(name: str, *, not_yet: str = "") -> Callable[[Row], bool]:
    """Whether a cell is filled, and another one is not."""
    return lambda row: row.text(name) != "" and (not not_yet or row.text(not_yet) == "")


def _decided(name: str, decision: str) -> Callable[[Row], bool]:
    return lambda row: row.text(name) == row.style.code("review_decision", decision)


def _refused_after_all(row: Row) -> dict[str, str | None]:
    """Refused by the town, and yet reviewed by the city."""
    return {
        **_coded("town_decision", "review_decision", "refused")(row),
        **_coded("town_reason", "refusal_reason", "other")(row),
    }


REVIEWS: tuple[Plant, ...] = (
    Plant("R140", ("application_no",), lambda row: {}, copy=True),
    Plant("R001", ("applied_on",), not_a_date("applied_on")),
    Plant("R002", ("town_checked_on",), not_a_date("town_checked_on")),
    Plant("R003", ("city_reviewed_on",), not_a_date("city_reviewed_on")),
    Plant("R101", ("application_no",), put("application_no", "")),
    Plant("R102", ("merchant_no",), put("merchant_no", "")),
    Plant("R103", ("applied_on",), put("applied_on", "")),
    Plant("R110", ("town_decision",), put("town_decision", "待定"), fits=_has("town_checked_on")),
    Plant("R111", ("city_decision",), put("city_decision", "待定"), fits=_has("city_reviewed_on")),
    Plant("R112", ("town_reason",), put("town_reason", "见附件")),
    Plant("R113", ("city_reason",), put("city_reason", "见附件")),
    *(Plant(f"R{120 + place}", (mark,), put(mark, "优秀")) for place, mark in enumerate(MARKS)),
    Plant("R201", ("applied_on",), put_day("applied_on", years_ahead), fits=lambda row: row.text("town_checked_on") == ""),
    Plant("R202", ("town_checked_on", "applied_on"), lambda row: {"town_checked_on": row.shifted("applied_on", -3)},
          fits=_has("town_checked_on")),
    Plant("R203", ("town_decision", "town_checked_on"), put("town_decision", ""),
          fits=_has("town_checked_on", not_yet="city_reviewed_on")),
    Plant("R204", ("city_reviewed_on", "town_checked_on"),
          lambda row: {"city_reviewed_on": row.shifted("town_checked_on", -1)}, fits=_has("city_reviewed_on")),
    Plant("R205", ("city_decision", "city_reviewed_on"), put("city_decision", ""), fits=_has("city_reviewed_on")),
    Plant("R206", ("town_decision", "city_decision"), _refused_after_all, fits=_has("city_decision")),
    Plant("R207", ("town_reason",), put("town_reason", ""), fits=_decided("town_decision", "refused")),
    Plant("R208", ("city_reason",), put("city_reason", ""), fits=_decided("city_decision", "refused")),
    Plant("R209", ("town_checked_on",), put_day("town_checked_on", years_ahead),
          fits=_has("town_checked_on", not_yet="city_reviewed_on")),
    Plant("R210", ("city_reviewed_on",), put_day("city_reviewed_on", years_ahead), fits=_has("city_reviewed_on")),
    Plant("R301", MARKS, put(MARKS[3], ""), fits=_decided("city_decision", "passed")),
)  # fmt: skip

PLANTS: dict[str, tuple[Plant, ...]] = {
    "businesses": BUSINESSES, "collectives": COLLECTIVES, "merchants": MERCHANTS, "merchant_reviews": REVIEWS,
}  # fmt: skip
