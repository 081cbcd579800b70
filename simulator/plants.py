"""The mistakes that can be planted: one entry per rule of the catalogue, each firing exactly the rules it names.

A failed cast or an unknown code is NULL and no other predicate on it fires; comments say which neighbours were checked.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from etl.identifiers import resident_check_character
from simulator.sheets import Plant, Row

Edit = Callable[[Row], dict[str, str | None]]


def put(name: str, text: str) -> Edit:
    """Write a fixed text into a column."""
    return lambda row: {name: text}


def put_day(name: str, day: Callable[[Row], int]) -> Edit:
    """Write a computed date into a column, in the supplier's form."""
    return lambda row: {name: row.style.on(day(row))}


def put_code(name: str, canonical: str, **more: str) -> Edit:
    """Write canonical codes into columns, in the supplier's coding."""
    codes = {name: canonical, **more}
    return lambda row: {column: row.style.code(column, code) for column, code in codes.items()}


def full_width(text: str) -> str:
    """ASCII digits as full-width digits, as an input method leaves them."""
    return text.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})


def bad_identity(name: str) -> Edit:
    """An identity number spoilt in one of five ways seen in practice, chosen by the row's number."""

    def spoil(row: Row) -> dict[str, str | None]:
        text = row.text(name) or "341181198001019016"
        forms = (
            _wrong_check(text),
            full_width(text),
            f"{text[0]}.{text[1:6]}E+17",
            text[:6] + text[8:17],
            "'" + text,
        )
        return {name: forms[row.row % len(forms)]}

    return spoil


def _wrong_check(text: str) -> str:
    right = resident_check_character(text[:17])
    return text[:17] + ("5" if right != "5" else "6")


def wrong_check(name: str) -> Edit:
    """An identity number of full length with a wrong check character."""
    return lambda row: {name: _wrong_check(row.text(name))}


def not_a_date(name: str) -> Edit:
    """30 February in the supplier's own form."""
    return lambda row: {
        name: row.style.on(row.style.last_day)[:4] + f"{row.style.date_separator}02{row.style.date_separator}30"
    }


def years_ahead(row: Row) -> int:
    """A mistyped year, far enough ahead to stay wrong while the row stands."""
    return row.style.last_day + 10 * 365


def in_month(row: Row) -> int:
    """A day of the month delivered, after every day on which notes are issued."""
    return row.style.last_day - 2


def ended(status: str, **more: str) -> Edit:
    """Turn a running note into a properly ended one (balance 0, closed this month), then apply `more`."""

    def edit(row: Row) -> dict[str, str | None]:
        cells: dict[str, str | None] = {
            "loan_status": row.style.code("loan_status", status),
            "balance_yuan": "0.00",
            "overdue_days": "0",
            "closed_on": row.style.on(in_month(row)),
        }
        cells.update({name: row.style.code(name, code) for name, code in more.items()})
        return cells

    return edit


def _balance(text: str, name: str = "balance_yuan") -> Edit:
    """A balance, and its CNY equivalent where the layout has one, so that L213 stays true."""

    def edit(row: Row) -> dict[str, str | None]:
        amount = row.style.money(text)
        return {
            column: amount
            for column in (name, "balance_cny_yuan", "issued_amount_yuan")
            if column in row.sheet.columns and (column != "issued_amount_yuan" or Decimal(text) > 0)
        }

    return edit


def _both(*edits: Edit) -> Edit:
    return lambda row: {name: text for edit in edits for name, text in edit(row).items()}


def _half_issued(row: Row) -> dict[str, str | None]:
    half = (row.number("balance_yuan") / 2).quantize(Decimal("0.01"))
    return {"issued_amount_yuan": str(half)}


def _closed_before_issue(row: Row) -> dict[str, str | None]:
    return {**ended("repaid")(row), "closed_on": row.shifted("issued_on", -10)}


def _repaid_with_balance(row: Row) -> dict[str, str | None]:
    return {**ended("repaid")(row), "balance_yuan": row.text("balance_yuan")}


def _free_text(row: Row) -> dict[str, str | None]:
    """The delimiter inside free text, which no quoting protects (DOMAIN 2.3)."""
    delimiter = "," if row.style.coding == "east" else "|"
    return {"purpose_text": f"种植{delimiter}养殖（合成）"}


def _money_with_commas(name: str) -> Edit:
    """A thousands separator; quoted where the comma is the delimiter of the file."""
    return lambda row: {name: '"12,000.00"' if row.style.coding == "east" else "12,000.00"}


LOANS: tuple[Plant, ...] = (
    # type: a failed cast leaves NULL, so L201, L203–L206, L212–L214 are unknown
    Plant("L001", ("as_of_on",), lambda row: {"as_of_on": full_width(row.text("as_of_on"))}),
    Plant("L002", ("issued_on",), not_a_date("issued_on")),
    Plant("L003", ("matures_on",), put("matures_on", "2025年6月")),
    Plant("L004", ("extended_to_on",), not_a_date("extended_to_on")),
    Plant("L005", ("balance_yuan",), _money_with_commas("balance_yuan")),
    Plant("L006", ("annual_rate_pct",), lambda row: {"annual_rate_pct": full_width(row.text("annual_rate_pct"))}),
    Plant("L007", ("issued_amount_yuan",), _money_with_commas("issued_amount_yuan")),
    Plant("L008", ("overdue_days",), put("overdue_days", "31天")),
    Plant("L009", ("closed_on",), not_a_date("closed_on")),  # a running note, so that L211 is not asked
    Plant("L010", ("balance_cny_yuan",), put("balance_cny_yuan", "1.2E+4")),
    # required
    Plant("L101", ("loan_no",), put("loan_no", "")),
    Plant("L102", ("borrower_id_no",), put("borrower_id_no", "")),
    Plant("L103", ("as_of_on",), put("as_of_on", "")),
    Plant("L104", ("issued_on",), put("issued_on", "")),
    Plant("L105", ("matures_on",), lambda row: {"matures_on": _no_end(row)}),  # 99991231 means none
    Plant("L106", ("balance_yuan",), put("balance_yuan", "")),
    Plant("L107", ("five_class",), put("five_class", "")),
    Plant("L108", ("loan_status",), put("loan_status", "")),
    Plant("L109", ("id_type",), put("id_type", "")),
    # codes
    Plant("L110", ("five_class",), put("five_class", "FQ06")),
    Plant("L111", ("loan_status",), put("loan_status", "LS99")),
    Plant("L112", ("guarantee_code",), put("guarantee_code", "X7")),
    Plant("L113", ("currency",), put("currency", "RMB")),
    Plant("L114", ("id_type",), put("id_type", "Z9")),
    Plant("L115", ("overdue_kind",), put("overdue_kind", "09")),  # a note in order, so that L207 is not asked
    Plant("L116", ("is_first_loan",), put("is_first_loan", "9")),
    # range
    Plant("L120", ("balance_yuan",), _balance("-500.00")),
    Plant("L121", ("annual_rate_pct",), lambda row: {"annual_rate_pct": row.style.rate("43.5")}),
    Plant("L122", ("issued_amount_yuan", "balance_yuan"), put("issued_amount_yuan", "-5"), also=("L206",)),
    Plant("L123", ("overdue_days",), put("overdue_days", "-3")),
    Plant("L130", ("loan_no",), lambda row: {"loan_no": f"借据{row.text('loan_no')}号"}),
    Plant("L131", ("borrower_id_no",), bad_identity("borrower_id_no")),
    Plant("L133", ("co_borrower_id_no",), put("co_borrower_id_no", "341181198002309017")),
    Plant("L140", ("loan_no",), lambda row: {}, copy=True),
    Plant("P201", ("purpose_text",), _free_text),
    # cross-field
    Plant("L201", ("as_of_on",), put_day("as_of_on", lambda row: row.style.first_day - 1),
          fits=lambda row: row.day("issued_on") < row.style.first_day - 1),
    Plant("L202", ("institution_code",), put("institution_code", "99000000000099")),
    Plant("L203", ("matures_on", "issued_on"), lambda row: {"matures_on": row.text("issued_on")}),
    Plant("L204", ("issued_on",), put_day("issued_on", lambda row: row.style.last_day + 20),
          fits=lambda row: row.day("matures_on") > row.style.last_day + 40),
    Plant("L205", ("extended_to_on", "matures_on"), lambda row: {"extended_to_on": row.shifted("matures_on", -30)}),
    Plant("L206", ("issued_amount_yuan", "balance_yuan"), _half_issued),
    Plant("L207", ("overdue_kind",), put("overdue_kind", ""), base="overdue"),
    Plant("L208", ("overdue_days", "loan_status"), put("overdue_days", "12")),
    Plant("L209", ("closed_on", "overdue_days"), ended("written_off", five_class="normal")),
    Plant("L210", ("closed_on", "overdue_days"), _repaid_with_balance),
    Plant("L211", ("closed_on", "overdue_days"), _both(ended("repaid"), put("closed_on", "99991231"))),
    Plant("L213", ("balance_cny_yuan", "balance_yuan"),
          lambda row: {"balance_cny_yuan": str(row.number("balance_yuan") + 1)}),
    Plant("L214", ("closed_on", "overdue_days"), _closed_before_issue),
    # quality, warns only
    Plant("L212", ("overdue_days", "five_class"),
          _both(put_code("five_class", "normal", loan_status="overdue"), put("overdue_days", "120"))),
    Plant("L301", ("balance_yuan",), _balance("2500000.00")),
    Plant("L302", ("annual_rate_pct",), lambda row: {"annual_rate_pct": row.style.rate("0.0435")}),
    Plant("L303", ("matures_on", "issued_on"), lambda row: {"matures_on": row.shifted("issued_on", 31 * 366)}),
)  # fmt: skip


def _no_end(row: Row) -> str:
    """ "No date" in the bank's own words."""
    return {"pboc": "9999-12-31", "east": "99991231"}.get(row.style.coding, "-")


STORY_RULES = ("L203", "L008", "L005", "L006", "L121", "L112")
"""Rules for rows of overdue notes that got worse: the row keeps its loan number and borrower, and only this rule fires."""

FLOWS: tuple[Plant, ...] = (
    Plant("F001", ("as_of_on",), lambda row: {"as_of_on": row.text("as_of_on").replace("-", "/")}),
    Plant("F002", ("flow_on",), not_a_date("flow_on")),
    Plant("F003", ("amount_yuan",), lambda row: {"amount_yuan": full_width(row.text("amount_yuan"))}),
    Plant("F004", ("issued_on",), not_a_date("issued_on")),
    Plant("F005", ("ended_on",), not_a_date("ended_on")),
    Plant("F101", ("flow_no",), put("flow_no", "")),
    Plant("F102", ("loan_no",), put("loan_no", "")),
    Plant("F103", ("borrower_id_no",), put("borrower_id_no", "")),
    Plant("F104", ("flow_on",), put("flow_on", "9999-12-31")),
    Plant("F105", ("amount_yuan",), put("amount_yuan", "")),
    Plant("F106", ("flow_kind",), put("flow_kind", "")),
    Plant("F107", ("as_of_on",), put("as_of_on", "")),
    Plant("F110", ("flow_kind",), put("flow_kind", "8")),
    Plant("F111", ("currency",), put("currency", "RMB")),
    Plant("F112", ("id_type",), put("id_type", "Z9")),
    Plant("F120", ("amount_yuan",), put("amount_yuan", "0.00")),
    Plant("F131", ("borrower_id_no",), bad_identity("borrower_id_no")),
    Plant("F140", ("flow_no",), lambda row: {}, copy=True),
    Plant("P201", ("purpose_text",), _free_text),
    Plant("F201", ("as_of_on",), put_day("as_of_on", lambda row: row.style.first_day - 1)),
    Plant("F202", ("institution_code",), put("institution_code", "99000000000099")),
    Plant("F203", ("flow_on",), put_day("flow_on", lambda row: row.style.first_day - 3)),
    Plant("F204", ("flow_kind", "ended_on"), _both(put_code("flow_kind", "write_off"), put("ended_on", ""))),
    Plant("F205", ("ended_on", "issued_on"), lambda row: {"ended_on": row.shifted("issued_on", -5)}),
    Plant("F301", ("amount_yuan",), put("amount_yuan", "2500000.00")),
)

HOUSEHOLDS: tuple[Plant, ...] = (
    Plant("H001", ("registered_on",), put("registered_on", "2015/3/4")),
    Plant("H002", ("annual_income_yuan",), put("annual_income_yuan", "8.5万")),
    Plant("H003", ("total_assets_yuan",), put("total_assets_yuan", "１２００００")),
    Plant("H004", ("total_debt_yuan",), put("total_debt_yuan", "12,000.00")),
    Plant("H005", ("farmland_mu",), put("farmland_mu", "6.5亩")),
    Plant("H006", ("civility_score",), put("civility_score", "90+")),
    Plant("H007", ("absent_since_on",), put("absent_since_on", "2023-02-30")),  # a resident family: H202 holds
    Plant("H008", ("civility_reviewed_on",), put("civility_reviewed_on", "2024-1-5")),
    Plant("H101", ("household_no",), put("household_no", "")),
    Plant("H102", ("village_code",), put("village_code", "")),
    Plant("H103", ("head_id_no",), put("head_id_no", "")),
    Plant("H104", ("residence_status",), put("residence_status", "")),
    Plant("H105", ("registered_on",), put("registered_on", "")),
    Plant("H110", ("residence_status",), put("residence_status", "3")),
    Plant("H111", ("village_code",), put("village_code", "341181199999")),
    Plant("H112", ("has_stable_income",), put("has_stable_income", "Y")),
    Plant("H120", ("annual_income_yuan",), put("annual_income_yuan", "-100.00")),
    Plant("H121", ("total_assets_yuan",), put("total_assets_yuan", "-5.00")),  # H302 asks only where assets > 0
    Plant("H122", ("farmland_mu",), put("farmland_mu", "12000.00")),
    Plant("H123", ("civility_score",), put("civility_score", "105.00")),
    Plant("H124", ("total_debt_yuan",), put("total_debt_yuan", "-1.00")),
    Plant("H130", ("household_no",), lambda row: {"household_no": f"户{row.text('household_no')}"}),
    Plant("H131", ("head_id_no",), wrong_check("head_id_no")),
    Plant("H133", ("former_household_no",), lambda row: {"former_household_no": row.text("household_no")}),
    Plant("H140", ("household_no",), lambda row: {}, copy=True),
    Plant("H201", ("registered_on",), put_day("registered_on", years_ahead)),
    Plant("H202", ("residence_status", "absent_since_on"),
          lambda row: {"residence_status": row.style.code("residence_status", "absent"), "absent_since_on": ""}),
    Plant("H204", ("civility_reviewed_on",), put_day("civility_reviewed_on", years_ahead)),
    Plant("H301", ("annual_income_yuan",), put("annual_income_yuan", "6000000.00")),
    Plant("H302", ("total_debt_yuan", "total_assets_yuan"),
          lambda row: {"total_assets_yuan": "10000.00", "total_debt_yuan": "110000.00"}),
)  # fmt: skip


def _other_sex(row: Row) -> dict[str, str | None]:
    male = row.style.code("sex", "male")
    return {"sex": row.style.code("sex", "female") if row.text("sex") == male else male}


def _very_old(row: Row) -> dict[str, str | None]:
    """Born in 1905, in the identity number too."""
    identity = row.text("id_no")
    body = identity[:6] + "1905" + identity[10:17]
    return {
        "id_no": body + resident_check_character(body),
        "birth_on": f"1905-{identity[10:12]}-{identity[12:14]}",
    }


def _new_member_no(row: Row) -> dict[str, str | None]:
    return {"member_no": f"CY9{row.text('member_no')[3:]}"}


def _not_leap_day(row: Row) -> bool:
    return row.text("id_no")[10:14] != "0229"


MEMBERS: tuple[Plant, ...] = (
    Plant("M001", ("birth_on",), put("birth_on", "1980-13-01")),
    Plant("M101", ("id_no",), put("id_no", "")),
    Plant("M102", ("household_no",), put("household_no", "")),
    Plant("M103", ("birth_on",), put("birth_on", "")),
    Plant("M104", ("relation_code",), put("relation_code", "")),
    Plant("M105", ("member_no",), put("member_no", "")),
    Plant("M110", ("relation_code",), put("relation_code", "77")),
    Plant("M111", ("sex",), put("sex", "3")),
    Plant("M131", ("id_no",), wrong_check("id_no")),  # not valid, so M201 and M202 are not asked
    Plant("M140", ("member_no",), lambda row: {}, copy=True),
    Plant("M141", ("id_no",), lambda row: {}, copy=True, copy_edit=_new_member_no),
    Plant("M201", ("birth_on",), lambda row: {"birth_on": row.shifted("birth_on", -1)}),
    Plant("M202", ("sex",), _other_sex),
    Plant("M203", ("birth_on",), put_day("birth_on", years_ahead), also=("M201",)),
    Plant("M301", ("id_no", "birth_on"), _very_old, fits=_not_leap_day),
)

CONSENTS: tuple[Plant, ...] = (
    Plant("C001", ("granted_on",), put("granted_on", "2023.5.1")),
    Plant("C002", ("expires_on",), put("expires_on", "2027-02-29")),
    Plant("C003", ("withdrawn_on",), put("withdrawn_on", "上月")),
    Plant("C101", ("consent_no",), put("consent_no", "")),
    Plant("C102", ("subject_id_no",), put("subject_id_no", "")),
    Plant("C103", ("recipient",), put("recipient", "")),
    Plant("C104", ("purpose",), put("purpose", "")),
    Plant("C105", ("granted_on",), put("granted_on", "")),
    Plant("C106", ("decision",), put("decision", "")),
    Plant("C110", ("purpose",), put("purpose", "P09")),
    Plant("C111", ("decision",), put("decision", "2")),
    Plant("C112", ("recipient",), put("recipient", "nobody_bank")),
    Plant("C131", ("subject_id_no",), wrong_check("subject_id_no")),
    Plant("C140", ("consent_no",), lambda row: {}, copy=True),
    Plant("C201", ("expires_on", "granted_on"), lambda row: {"expires_on": row.shifted("granted_on", -1)}),
    Plant("C202", ("withdrawn_on", "granted_on"), lambda row: {"withdrawn_on": row.shifted("granted_on", -2)}),
    Plant("C203", ("granted_on",), lambda row: {"granted_on": row.style.on(years_ahead(row)),
                                                "expires_on": row.style.on(years_ahead(row) + 800)}),
    Plant("C204", ("purpose", "document_no"),
          lambda row: {"purpose": row.style.code("purpose", "income"), "recipient": "county", "document_no": ""}),
    Plant("C301", ("expires_on", "granted_on"), lambda row: {"expires_on": row.shifted("granted_on", 11 * 366)}),
)  # fmt: skip
