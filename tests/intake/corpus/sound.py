"""Sound tables of every agreed layout: what the corpus spoils. All people are invented (sequence numbers from 900)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

from etl.identifiers import resident_check_character

Row = dict[str, Any]
AS_OF = date(2024, 3, 31)
TOWN_VILLAGE = "341181100001"
_GIVEN = "建国强军志伟明华秀英桂兰玉芳春梅海燕永平德福家宝长生文斌俊杰"
_PURPOSES = ("种植（合成）", "养殖（合成）", "农机（合成）")


def id_no(number: int, area: str = "341181") -> str:
    """An invented resident identity number with the right check character."""
    body = f"{area}19{60 + number % 40:02d}{1 + number % 12:02d}{1 + number % 28:02d}{900 + number % 100:03d}"
    return body + resident_check_character(body)


def old_id_no(number: int) -> str:
    """The same number as cards had it until 1999: two-digit year, no check character."""
    return id_no(number)[:6] + id_no(number)[8:17]


def name_of(number: int) -> str:
    return f"合成{_GIVEN[number % len(_GIVEN)]}{_GIVEN[(number * 7 + 3) % len(_GIVEN)]}"


def phone_of(number: int) -> str:
    return f"100{number * 7919 % 10**8:08d}"


def balance_of(number: int) -> Decimal:
    """Between 21,300 and 60,300 yuan in thirty steps."""
    return Decimal(20_000 + 1_300 * (number % 31))


def qinghe_loans(number: int) -> Row:
    """The PBoC stock file: no header, ISO dates, yuan, percent."""
    balance = f"{balance_of(number):.2f}"
    return {
        "as_of_on": AS_OF.isoformat(), "institution_code": "99000000000011", "branch_code": "99000000000011001",
        "area_code": "341181", "id_type": "B01", "borrower_id_no": id_no(number), "borrower_area_code": "341181",
        "loan_no": f"QH{number:010d}", "contract_no": f"HT{number:012d}", "product_code": "F022",
        "issued_on": issued(number).isoformat(), "matures_on": matures(number).isoformat(), "extended_to_on": "",
        "currency": "CNY", "balance_yuan": balance, "balance_cny_yuan": balance, "rate_kind": "RF01",
        "annual_rate_pct": f"{rate(number):.5f}", "pricing_base": "TR07", "base_rate_pct": "3.45000",
        "subsidy_kind": "Z", "repricing_on": "9999-12-31", "guarantee_code": "D", "is_first_loan": "0",
        "five_class": "FQ01", "loan_status": "LS01", "overdue_kind": "", "purpose_text": _PURPOSES[number % 3],
    }  # fmt: skip


def qinghe_loan_flows(number: int) -> Row:
    """The PBoC flow file."""
    return {
        "as_of_on": AS_OF.isoformat(), "institution_code": "99000000000011", "branch_code": "99000000000011001",
        "id_type": "B01", "borrower_id_no": id_no(number), "flow_no": f"LS202403{number:08d}",
        "loan_no": f"QH{number:010d}", "contract_no": f"HT{number:012d}", "product_code": "F022",
        "issued_on": issued(number).isoformat(), "matures_on": matures(number).isoformat(), "ended_on": "9999-12-31",
        "currency": "CNY", "amount_yuan": f"{1000 + number * 10:.2f}", "flow_on": f"2024-03-{1 + number % 28:02d}",
        "annual_rate_pct": f"{rate(number):.5f}", "guarantee_code": "D", "flow_kind": "0",
        "purpose_text": _PURPOSES[number % 3],
    }  # fmt: skip


def baiyun_loans(number: int) -> Row:
    """The GB18030 extract: Chinese header, compact dates, EAST texts, quotes where a text holds a comma."""
    return {
        "采集日期": compact(AS_OF), "内部机构号": "99000000000022001", "金融机构代码": "99000000000022",
        "证件类别": "居民身份证", "证件号码": id_no(number), "客户名称": name_of(number), "联系电话": phone_of(number),
        "共同借款人证件号码": "", "信贷借据号": f"BY-{number:010d}", "信贷合同号": f"HT{number:012d}",
        "业务种类": "F022", "贷款发放日期": compact(issued(number)), "贷款到期日期": compact(matures(number)),
        "终结日期": "99991231", "币种": "CNY", "贷款金额": f"{balance_of(number) + 5000:.2f}",
        "贷款余额": f"{balance_of(number):.2f}", "实际利率": f"{rate(number):.4f}", "担保方式": "信用",
        "贷款五级分类": "正常", "贷款状态": "正常", "逾期天数": "0",
        "贷款用途": "种植,养殖（合成）" if number % 5 == 0 else _PURPOSES[number % 3], "柜员号": f"GY{number % 90:04d}",
    }  # fmt: skip


def xinhe_loans(number: int) -> Row:
    """The workbook kept by hand: 万元, rates as fractions, date cells, numbers as numbers, identifiers as text."""
    return {
        "序号": number, "数据日期": AS_OF, "机构代码": "99000000000033", "身份证号": id_no(number),
        "姓名": name_of(number), "借据编号": f"99003300{number:012d}", "品种": "F022", "发放日": issued(number),
        "到期日": matures(number), "发放金额(万元)": float((balance_of(number) + 5000) / 10_000),
        "余额(万元)": float(balance_of(number) / 10_000), "年利率": float(rate(number) / 100), "担保": "4",
        "五级": "1", "状态": "1", "逾期天数": 0, "用途": _PURPOSES[number % 3], "备注": "合成数据",
    }  # fmt: skip


def mediation(number: int) -> Row:
    """One case of a town's log; keys as in JSON Lines."""
    return {
        "case_no": f"TC2024{number:06d}", "village_code": TOWN_VILLAGE, "dispute_type": "neighbour",
        "registered_on": f"2024-03-{1 + number % 20:02d}", "accepted_on": f"2024-03-{2 + number % 20:02d}",
        "closed_on": f"2024-03-{5 + number % 20:02d}", "result": "success", "handled_level": "village",
        "applicant_id_no": id_no(number), "respondent_id_no": id_no(number + 1), "summary_text": "合成数据",
    }  # fmt: skip


SOUND: dict[tuple[str, str], Callable[[int], Row]] = {
    ("qinghe_rcb", "loans"): qinghe_loans,
    ("qinghe_rcb", "loan_flows"): qinghe_loan_flows,
    ("baiyun_rcb", "loans"): baiyun_loans,
    ("xinhe_vb", "loans"): xinhe_loans,
    ("mediation", "mediation"): mediation,
}
FILES = {
    ("qinghe_rcb", "loans"): "CLGRDK_202403.zip",
    ("qinghe_rcb", "loan_flows"): "GRDKFS_202403.zip",
    ("baiyun_rcb", "loans"): "农户贷款借据_202403.csv",
    ("xinhe_vb", "loans"): "贷款台账2024-03.xlsx",
    ("mediation", "mediation"): "mediation_341181100000_202403.jsonl",
}


def issued(number: int) -> date:
    return date(2023, 1 + number % 12, 1 + number % 28)


def matures(number: int) -> date:
    return date(2025, 1 + number % 12, 1 + number % 28)


def rate(number: int) -> Decimal:
    """Percent a year: 3.45 to 6.35."""
    return Decimal("3.45") + Decimal(number % 30) / 10


def compact(day: date) -> str:
    return f"{day:%Y%m%d}"


def identity_values(rows: int) -> list[str]:
    """What no receipt may show of a table of that many rows: numbers, names and phones."""
    return [value for n in range(1, rows + 1) for value in (id_no(n), old_id_no(n), name_of(n), phone_of(n))]
