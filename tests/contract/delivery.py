"""Small deliveries for the contract tests: a good row of every layout, and what the compiled SQL makes of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from etl.contract.casts import cast_select
from etl.contract.context import Context
from etl.contract.model import Contract, load_contracts
from etl.contract.predicates import findings_select
from etl.period import Period
from etl.registry import Layout, load_registry

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = load_contracts([ROOT / "expectations"])
REGISTRY = load_registry([ROOT / "config"])
PERIOD = Period.parse("2024-03")
MALE, ANOTHER = "341181198001010016", "360426199101010071"  # published examples with correct check characters

_PBOC = {
    "as_of_on": "2024-03-31", "institution_code": "99000000000011", "branch_code": "B01", "id_type": "B01",
    "borrower_id_no": MALE, "loan_no": "QH-0000001", "contract_no": "HT1", "product_code": "F022",
    "issued_on": "2023-01-15", "matures_on": "2025-01-15", "extended_to_on": "", "currency": "CNY",
    "balance_yuan": "50000.00", "balance_cny_yuan": "50000.00", "annual_rate_pct": "4.35000", "guarantee_code": "D",
    "is_first_loan": "1", "five_class": "FQ01", "loan_status": "LS01", "overdue_kind": "", "purpose_text": "养殖",
}  # fmt: skip
_EAST = {
    "as_of_on": "20240331", "branch_code": "B01", "institution_code": "99000000000022", "id_type": "居民身份证",
    "borrower_id_no": MALE, "borrower_name": "测试", "borrower_phone": "", "co_borrower_id_no": ANOTHER,
    "loan_no": "BY-0000001", "contract_no": "HT1", "product_code": "F022", "issued_on": "20230115",
    "matures_on": "20250115", "closed_on": "99991231", "currency": "CNY", "issued_amount_yuan": "80000.00",
    "balance_yuan": "50000.00", "annual_rate_pct": "4.35", "guarantee_code": "信用", "five_class": "正常",
    "loan_status": "正常", "overdue_days": "0", "purpose_text": "养殖",
}  # fmt: skip
_WORKBOOK = {
    "as_of_on": "2024-03-31", "institution_code": "99000000000033", "borrower_id_no": MALE, "borrower_name": "测试",
    "loan_no": "XH000001", "product_code": "农户贷", "issued_on": "2023-01-15", "matures_on": "2025-01-15",
    "issued_amount_yuan": "8", "balance_yuan": "5.5", "annual_rate_pct": "0.0435", "guarantee_code": "4",
    "five_class": "1", "loan_status": "1", "overdue_days": "0", "purpose_text": "-",
}  # fmt: skip
_FLOW = {
    "as_of_on": "2024-03-31", "institution_code": "99000000000011", "id_type": "B01", "borrower_id_no": MALE,
    "flow_no": "LS0001", "loan_no": "QH-0000001", "contract_no": "HT1", "issued_on": "2023-01-15", "ended_on": "",
    "currency": "CNY", "amount_yuan": "1000.00", "flow_on": "2024-03-10", "flow_kind": "0", "purpose_text": "",
}  # fmt: skip
_HOUSEHOLD = {
    "household_no": "3411811010010001", "village_code": "341181101001", "former_household_no": "", "head_id_no": MALE,
    "registered_on": "2020-05-01", "residence_status": "1", "absent_since_on": "", "annual_income_yuan": "60000.00",
    "total_assets_yuan": "300000.00", "total_debt_yuan": "20000.00", "farmland_mu": "5.5", "has_stable_income": "1",
    "civility_score": "92.50", "civility_reviewed_on": "2024-01-15", "address_text": "某村", "phone": "",
    "changed_at": "2024-03-05T10:00:00+08:00",
}  # fmt: skip
_MEMBER = {
    "member_no": "M0001", "household_no": "3411811010010001", "id_no": MALE, "person_name": "测试",
    "relation_code": "01", "sex": "1", "birth_on": "1980-01-01", "phone": "", "changed_at": "2024-03-05T10:00:00+08:00",
}  # fmt: skip
_CONSENT = {
    "consent_no": "C0001", "subject_id_no": MALE, "recipient": "county", "purpose": "P03", "decision": "1",
    "granted_on": "2024-01-10", "expires_on": "2026-01-10", "withdrawn_on": "", "channel": "paper",
    "document_no": "SQ-1", "changed_at": "2024-03-05T10:00:00+08:00",
}  # fmt: skip
_CASE = {
    "case_no": "TJ-0001", "village_code": "341181101001", "dispute_type": "neighbour", "registered_on": "2024-03-01",
    "accepted_on": "2024-03-02", "due_on": "2024-04-01", "closed_on": "2024-03-20", "result": "success",
    "handled_level": "village", "actor_tier": "N", "referred_to": "", "applicant_id_no": MALE,
    "respondent_id_no": ANOTHER, "helper_id_no": "", "agreement_no": "XY-1", "agreement_kind": "written",
    "agreement_on": "2024-03-20", "performance": "performed", "unperformed_document_no": "", "unperformed_by": "",
    "judicially_confirmed_on": "", "amount_yuan": "1500", "people_count": "2", "summary_text": "",
}  # fmt: skip
_BALLOT = {
    "ballot_no": "PY-0001", "round": "2024", "household_no": "3411811010010001", "reviewer_id_no": MALE,
    "reviewed_on": "2024-03-12", "is_informed": "是", "filial_mark": "9", "neighbour_mark": "8", "public_spirit_mark": "7",
    "customs_mark": "8", "law_abiding_mark": "10", "honesty_mark": "9", "hygiene_mark": "6", "diligence_mark": "8",
}  # fmt: skip
_ITEM = {
    "event_no": "QD-0001", "bound_id_no": MALE, "list_kind": "一票否决", "item_code": "Y01", "document_no": "执1号",
    "issuer_text": "某法院", "issuer_kind": "法院", "notice_on": "2024-01-10", "legal_basis": "强制执行", "severity": "严重",
    "event_from_on": "2024-01-05", "event_to_on": "", "publication_until_on": "2026-01-05", "repaired_on": "",
    "revoked_on": "", "joint_bank_code": "baiyun_rcb", "joint_loan_no": "BY-0000001", "is_sealed": "否", "event_text": "",
}  # fmt: skip
_REQUEST = {
    "request_no": "341181101001-2024-1", "household_no": "3411811010010001", "case_kind": "异议", "concerns": "贷款记录",
    "request_text": "已还清", "requested_on": "2024-03-11", "contact_role": "网格员",
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One feed: who delivers it, its contract and layout, and a row without findings in the month."""

    supplier: str
    dataset: str
    good: Mapping[str, str]
    file_name: str = "x"
    period: Period = PERIOD

    @cached_property
    def contract(self) -> Contract:
        return CONTRACTS.for_dataset(self.dataset)

    @cached_property
    def layout(self) -> Layout:
        return REGISTRY.feed(self.supplier, self.dataset).layout_for(self.period, self.file_name)

    @cached_property
    def context(self) -> Context:
        bank = REGISTRY.banks.get(self.supplier)
        return Context(
            period_start=self.period.start,
            period_end=self.period.end,
            institution_codes=tuple(bank.institution_codes) if bank else (),
            county_codes=("county", *REGISTRY.banks),
            known_villages=tuple(REGISTRY.villages(self.period)),
            supplier=self.supplier,
            id_prefixes=tuple(REGISTRY.county.id_prefixes),
        )

    def row(self, **changes: str) -> dict[str, str]:
        """The good row with some cells changed."""
        assert set(changes) <= set(self.good), "the layout has no such cell"
        return {**self.good, **changes}


SAMPLES = {
    "pboc": Sample("qinghe_rcb", "loans", _PBOC),
    "east": Sample("baiyun_rcb", "loans", _EAST),
    "workbook": Sample("xinhe_vb", "loans", _WORKBOOK),
    "flow": Sample("qinghe_rcb", "loan_flows", _FLOW),
    "household": Sample("government", "households", _HOUSEHOLD),
    "member": Sample("government", "members", _MEMBER),
    "consent": Sample("government", "consents", _CONSENT),
    "case": Sample("341181101000", "mediation", _CASE, "x.jsonl"),
    "ballot": Sample("village_life", "civility_ballots", _BALLOT),
    "item": Sample("village_life", "credit_events", _ITEM),
    "request": Sample("village_requests", "village_requests", _REQUEST),
    "item_2026": Sample("village_life", "credit_events", _ITEM, period=Period.parse("2026-04")),
}


def strings(sample: Sample, rows: Sequence[Mapping[str, str | None]]) -> pa.Table:
    """STRINGS as the readers hand them over, defaults included."""
    cells = {
        name: [row.get(name, sample.layout.defaults.get(name)) for row in rows] for name in sample.layout.canonical
    }
    numbers = pa.array(range(1, len(rows) + 1), pa.int64())
    origin = {
        "_delivery": pa.array(["d"] * len(rows), pa.string()),
        "_member": pa.array(["m"] * len(rows), pa.string()),
    }
    columns = {name: pa.array(values, pa.string()) for name, values in cells.items()}
    return pa.table({**origin, "_row": numbers, "_line": numbers, **columns})


@dataclass(frozen=True)
class Checked:
    """Rows cast and checked in a connection of their own: relations `typed` and `findings`."""

    sample: Sample
    connection: duckdb.DuckDBPyConnection

    @property
    def findings(self) -> list[tuple[int, str]]:
        return self.connection.execute("SELECT _row, rule FROM findings").fetchall()

    @property
    def counts(self) -> Counter[str]:
        return Counter(rule for _, rule in self.findings)

    @property
    def typed(self) -> pa.Table:
        return self.connection.sql("SELECT * FROM typed").to_arrow_table()

    def values(self, column: str) -> list[Any]:
        found = self.connection.execute(f'SELECT "{column}" FROM typed ORDER BY _row').fetchall()
        return [value for (value,) in found]


def checked(sample: Sample, rows: Sequence[Mapping[str, str | None]]) -> Checked:
    """Cast and check rows of one layout."""
    connection = duckdb.connect()
    connection.register("strings", strings(sample, rows))
    cast = cast_select(sample.contract, sample.layout, REGISTRY.codes)
    connection.execute(f"CREATE TEMP TABLE typed AS {cast}")
    found = findings_select(sample.contract, sample.layout, context=sample.context)
    connection.execute(f"CREATE TEMP TABLE findings AS {found}")
    return Checked(sample, connection)
