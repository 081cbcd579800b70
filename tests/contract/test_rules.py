"""Every rule of the catalogue, by hand: a good row of each layout has no finding, one changed cell has exactly one."""

from __future__ import annotations

import pytest

from tests.contract.delivery import CONTRACTS, MALE, SAMPLES, checked

BAD_ID = "341181198001010017"  # last character should be 6
OTHER_COUNTY = "360426199101010071"
TWO_MILLION_AND_ONE_FEN = "2000000.01"

# (layout, rule or rules, cells changed in the good row)
BROKEN = [
    ("pboc", "L001", {"as_of_on": "20240331"}),
    ("pboc", "L002", {"issued_on": "2023-02-30"}),
    ("pboc", "L003", {"matures_on": "2025/01/15"}),
    ("pboc", "L004", {"extended_to_on": "2025-13-01"}),
    ("pboc", "L005", {"balance_yuan": "50,000.00"}),
    ("pboc", "L006", {"annual_rate_pct": "4.35%"}),
    ("east", "L007", {"issued_amount_yuan": "8万"}),
    ("east", "L008", {"overdue_days": "1.5"}),
    ("east", "L009", {"closed_on": "2024031"}),
    ("pboc", "L010", {"balance_cny_yuan": "5e4"}),
    ("pboc", "L101", {"loan_no": " "}),
    ("pboc", "L102", {"borrower_id_no": ""}),
    ("pboc", "L103", {"as_of_on": "9999-12-31"}),
    ("pboc", "L104", {"issued_on": ""}),
    ("pboc", "L105", {"matures_on": ""}),
    ("pboc", "L106", {"balance_yuan": ""}),
    ("pboc", "L107", {"five_class": ""}),
    ("pboc", "L108", {"loan_status": ""}),
    ("pboc", "L109", {"id_type": ""}),
    ("pboc", "L110", {"five_class": "FQ06"}),
    ("pboc", "L111", {"loan_status": "LS09"}),
    ("pboc", "L112", {"guarantee_code": "X"}),
    ("pboc", "L113", {"currency": "USD"}),
    ("pboc", "L114", {"id_type": "B77"}),
    ("pboc", "L115", {"overdue_kind": "09"}),
    ("pboc", "L116", {"is_first_loan": "Y"}),
    ("pboc", "L120", {"balance_yuan": "-0.01", "balance_cny_yuan": "-0.01"}),
    ("pboc", "L121", {"annual_rate_pct": "36.00001"}),
    ("workbook", "L122 L206", {"issued_amount_yuan": "-1"}),
    ("east", "L123", {"overdue_days": "10000", "loan_status": "逾期", "five_class": "次级"}),
    ("pboc", "L130", {"loan_no": "QH#00001"}),
    ("pboc", "L131", {"borrower_id_no": BAD_ID}),
    ("pboc", "L132", {"borrower_id_no": OTHER_COUNTY}),
    ("east", "L133", {"co_borrower_id_no": BAD_ID}),
    ("pboc", "L201", {"as_of_on": "2024-03-30"}),
    ("pboc", "L202", {"institution_code": "99000000000022"}),
    ("pboc", "L203", {"matures_on": "2023-01-15"}),
    ("pboc", "L204", {"issued_on": "2024-04-01"}),
    ("pboc", "L205", {"extended_to_on": "2025-01-14"}),
    ("east", "L206", {"issued_amount_yuan": "49999.99"}),
    ("pboc", "L207", {"loan_status": "LS03"}),
    ("east", "L208", {"overdue_days": "3"}),
    ("east", "L208", {"loan_status": "逾期", "overdue_days": "0"}),
    ("east", "L209", {"loan_status": "核销", "balance_yuan": "0", "closed_on": "20240310", "five_class": "关注"}),
    ("east", "L210", {"loan_status": "结清", "closed_on": "20240310"}),
    ("east", "L211", {"loan_status": "结清", "balance_yuan": "0"}),
    ("east", "L212", {"loan_status": "逾期", "overdue_days": "91"}),
    ("pboc", "L213", {"balance_cny_yuan": "50000.01"}),
    ("east", "L214", {"closed_on": "20230114"}),
    ("pboc", "L301", {"balance_yuan": TWO_MILLION_AND_ONE_FEN, "balance_cny_yuan": TWO_MILLION_AND_ONE_FEN}),
    ("pboc", "L302", {"annual_rate_pct": "0.0435"}),
    ("pboc", "L303", {"matures_on": "2053-01-16"}),
    ("flow", "F001", {"as_of_on": "31.03.2024"}),
    ("flow", "F002", {"flow_on": "2024-3-10"}),
    ("flow", "F003", {"amount_yuan": "1000.001"}),
    ("flow", "F004", {"issued_on": "0000-01-01"}),
    ("flow", "F005", {"ended_on": "soon"}),
    ("flow", "F101", {"flow_no": ""}),
    ("flow", "F102", {"loan_no": ""}),
    ("flow", "F103", {"borrower_id_no": ""}),
    ("flow", "F104", {"flow_on": ""}),
    ("flow", "F105", {"amount_yuan": ""}),
    ("flow", "F106", {"flow_kind": ""}),
    ("flow", "F107", {"as_of_on": ""}),
    ("flow", "F110", {"flow_kind": "7"}),
    ("flow", "F111", {"currency": "HKD"}),
    ("flow", "F112", {"id_type": "B02"}),
    ("flow", "F120", {"amount_yuan": "0"}),
    ("flow", "F131", {"borrower_id_no": BAD_ID}),
    ("flow", "F201", {"as_of_on": "2024-02-29"}),
    ("flow", "F202", {"institution_code": "1"}),
    ("flow", "F203", {"flow_on": "2024-02-29"}),
    ("flow", "F203", {"flow_on": "2024-04-01"}),
    ("flow", "F204", {"flow_kind": "2"}),
    ("flow", "F205", {"ended_on": "2023-01-14"}),
    ("flow", "F301", {"amount_yuan": TWO_MILLION_AND_ONE_FEN}),
    ("household", "H001", {"registered_on": "2020"}),
    ("household", "H002", {"annual_income_yuan": "６００００"}),
    ("household", "H003", {"total_assets_yuan": "30万"}),
    ("household", "H004", {"total_debt_yuan": "1.234"}),
    ("household", "H005", {"farmland_mu": "five"}),
    ("household", "H006", {"civility_score": "A"}),
    ("household", "H007", {"absent_since_on": "2023-11-31"}),
    ("household", "H008", {"civility_reviewed_on": "yesterday"}),
    ("household", "H101", {"household_no": ""}),
    ("household", "H102", {"village_code": ""}),
    ("household", "H103", {"head_id_no": ""}),
    ("household", "H104", {"residence_status": ""}),
    ("household", "H105", {"registered_on": ""}),
    ("household", "H110", {"residence_status": "3"}),
    ("household", "H111", {"village_code": "341181101999"}),
    ("household", "H112", {"has_stable_income": "maybe"}),
    ("household", "H120", {"annual_income_yuan": "-1"}),
    ("household", "H121", {"total_assets_yuan": "-1"}),
    ("household", "H122", {"farmland_mu": "10000.01"}),
    ("household", "H123", {"civility_score": "100.5"}),
    ("household", "H123", {"civility_score": "1000"}),
    ("household", "H124", {"total_debt_yuan": "-0.5"}),
    ("household", "H130", {"household_no": "3411 8110"}),
    ("household", "H131", {"head_id_no": BAD_ID}),
    ("household", "H133", {"former_household_no": "3411811010010001"}),
    ("household", "H201", {"registered_on": "2024-04-01"}),
    ("household", "H202", {"residence_status": "2"}),
    ("household", "H204", {"civility_reviewed_on": "2024-04-01"}),
    ("household", "H301", {"annual_income_yuan": "5000000.01"}),
    ("household", "H302", {"total_debt_yuan": "3000000.01"}),
    ("member", "M001", {"birth_on": "1980-02-30"}),
    ("member", "M101", {"id_no": ""}),
    ("member", "M102", {"household_no": ""}),
    ("member", "M103", {"birth_on": ""}),
    ("member", "M104", {"relation_code": ""}),
    ("member", "M105", {"member_no": ""}),
    ("member", "M110", {"relation_code": "42"}),
    ("member", "M111", {"sex": "3"}),
    ("member", "M131", {"id_no": BAD_ID}),
    ("member", "M201", {"birth_on": "1980-01-02"}),
    ("member", "M202", {"sex": "2"}),
    ("member", "M203", {"id_no": "34118120240401001X", "birth_on": "2024-04-01"}),
    ("member", "M301", {"id_no": "341181191403300014", "birth_on": "1914-03-30"}),
    ("consent", "C001", {"granted_on": "10/01/2024"}),
    ("consent", "C002", {"expires_on": "never"}),
    ("consent", "C003", {"withdrawn_on": "2024-02-30"}),
    ("consent", "C101", {"consent_no": ""}),
    ("consent", "C102", {"subject_id_no": ""}),
    ("consent", "C103", {"recipient": ""}),
    ("consent", "C104", {"purpose": ""}),
    ("consent", "C105", {"granted_on": ""}),
    ("consent", "C106", {"decision": ""}),
    ("consent", "C110", {"purpose": "P99"}),
    ("consent", "C111", {"decision": "2"}),
    ("consent", "C112", {"recipient": "somebody"}),
    ("consent", "C131", {"subject_id_no": BAD_ID}),
    ("consent", "C201", {"expires_on": "2024-01-09"}),
    ("consent", "C202", {"withdrawn_on": "2024-01-09"}),
    ("consent", "C203", {"granted_on": "2024-04-01"}),
    ("consent", "C204", {"document_no": ""}),
    ("consent", "C301", {"expires_on": "2034-01-11"}),
    ("case", "D001", {"registered_on": "2024-3-1"}),
    ("case", "D002", {"accepted_on": "x"}),
    ("case", "D003", {"closed_on": "2024-02-31"}),
    ("case", "D004", {"amount_yuan": "1500元"}),
    ("case", "D005", {"agreement_on": "x"}),
    ("case", "D006", {"people_count": "two"}),
    ("case", "D007", {"due_on": "x"}),
    ("case", "D008", {"judicially_confirmed_on": "x"}),
    ("case", "D101", {"case_no": ""}),
    ("case", "D102", {"village_code": ""}),
    ("case", "D103", {"dispute_type": ""}),
    ("case", "D104", {"registered_on": ""}),
    ("case", "D105", {"result": ""}),
    ("case", "D110", {"dispute_type": "ghosts"}),
    ("case", "D111", {"result": "won"}),
    ("case", "D112", {"handled_level": "province"}),
    ("case", "D113", {"village_code": "341181999999"}),
    ("case", "D114", {"performance": "half"}),
    ("case", "D115", {"actor_tier": "2"}),
    ("case", "D116", {"agreement_kind": "sms"}),
    ("case", "D117", {"referred_to": "god"}),
    ("case", "D118", {"unperformed_by": "both"}),
    ("case", "D119", {"village_code": "341181103001"}),
    ("case", "D120", {"amount_yuan": "-1"}),
    ("case", "D121", {"people_count": "0"}),
    ("case", "D131", {"applicant_id_no": BAD_ID}),
    ("case", "D132", {"respondent_id_no": BAD_ID}),
    ("case", "D133", {"helper_id_no": BAD_ID}),
    ("case", "D201", {"accepted_on": "2024-02-29"}),
    ("case", "D202", {"closed_on": "2024-03-01"}),
    ("case", "D203", {"closed_on": ""}),
    ("case", "D203", {"result": "open"}),
    ("case", "D204", {"performance": "unperformed"}),
    ("case", "D204", {"performance": "unperformed", "unperformed_document_no": "J-1"}),
    ("case", "D205", {"agreement_no": ""}),
    ("case", "D206", {"judicially_confirmed_on": "2024-04-20"}),
    ("case", "D207", {"registered_on": "2024-04-01", "accepted_on": "", "closed_on": "2024-04-01"}),
    ("case", "D301", {"closed_on": "2024-04-03"}),
    ("case", "D302", {"respondent_id_no": MALE}),
]

# (layout, cells) that stand at the edge of a rule and break none
SOUND = [
    ("pboc", {"annual_rate_pct": "36"}),
    ("pboc", {"annual_rate_pct": "0"}),
    ("pboc", {"matures_on": "2053-01-15"}),
    ("pboc", {"balance_yuan": "2000000", "balance_cny_yuan": "+2000000.00"}),
    ("pboc", {"loan_status": "LS03", "overdue_kind": "01"}),
    ("pboc", {"id_type": "B99", "borrower_id_no": "P1234567"}),
    ("pboc", {"balance_cny_yuan": ""}),
    ("pboc", {"issued_on": "\t2023-01-15 "}),
    ("east", {"issued_amount_yuan": "0"}),
    ("east", {"loan_status": "核销", "balance_yuan": "0.00", "closed_on": "20240310", "five_class": "损失"}),
    ("east", {"loan_status": "结清", "balance_yuan": "0", "closed_on": "20240310", "overdue_days": "12"}),
    ("east", {"loan_status": "逾期", "overdue_days": "90"}),
    ("east", {"co_borrower_id_no": "34118119800101018x"}),
    ("workbook", {"balance_yuan": "5.123456"}),
    ("flow", {"flow_kind": "2", "ended_on": "2024-03-10"}),
    ("flow", {"flow_on": "2024-03-31"}),
    ("household", {"residence_status": "2", "absent_since_on": "2022-01-01"}),
    ("household", {"total_assets_yuan": "0", "total_debt_yuan": "900000"}),
    ("household", {"total_debt_yuan": "3000000.00"}),
    ("member", {"id_no": "34118119140331001X", "birth_on": "1914-03-31"}),
    ("member", {"sex": ""}),
    ("consent", {"purpose": "P01", "document_no": ""}),
    ("consent", {"recipient": "xinhe_vb", "purpose": "P05"}),
    ("consent", {"expires_on": "2034-01-10"}),
    ("case", {"result": "open", "closed_on": ""}),
    ("case", {"judicially_confirmed_on": "2024-04-19"}),
    ("case", {"closed_on": "2024-04-02"}),
    ("case", {"performance": "unperformed", "unperformed_document_no": "J-1", "unperformed_by": "respondent"}),
    ("case", {"agreement_kind": "oral", "agreement_no": ""}),
    ("case", {"applicant_id_no": "", "respondent_id_no": ""}),
]
UNIQUE = [
    ("pboc", "L140", "loan_no"), ("flow", "F140", "flow_no"), ("household", "H140", "household_no"),
    ("member", "M140", "member_no"), ("member", "M141", "id_no"), ("consent", "C140", "consent_no"),
    ("case", "D140", "case_no"),
]  # fmt: skip
MACRO = {f"{letter}{number}" for letter in "LFHMCD" for number in (401, 402)}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_good_row_has_no_finding(name: str) -> None:
    assert checked(SAMPLES[name], [SAMPLES[name].good]).findings == []


@pytest.mark.parametrize(("name", "rule", "cells"), BROKEN)
def test_one_wrong_cell_is_one_finding(name: str, rule: str, cells: dict[str, str]) -> None:
    found = checked(SAMPLES[name], [SAMPLES[name].row(**cells)]).findings
    assert found == [(1, each) for each in rule.split()]


@pytest.mark.parametrize(("name", "cells"), SOUND)
def test_a_cell_at_the_edge_is_no_finding(name: str, cells: dict[str, str]) -> None:
    assert checked(SAMPLES[name], [SAMPLES[name].row(**cells)]).findings == []


@pytest.mark.parametrize(("name", "rule", "column"), UNIQUE)
def test_every_row_of_a_repeated_number_is_named(name: str, rule: str, column: str) -> None:
    sample = SAMPLES[name]
    unique = {key for other, _, key in UNIQUE if other == name}
    rows = [sample.row(**dict.fromkeys(unique - {column}, f"{number:010d}")) for number in range(3)]
    rows[1][column] = f" {rows[1][column]}"
    blank = sample.row(**dict.fromkeys(unique, ""))
    found = [finding for finding in checked(sample, [*rows, blank, blank]).findings if finding[1] == rule]
    assert found == [(1, rule), (2, rule), (3, rule)]


def test_every_rule_of_the_six_deliveries_is_tried() -> None:
    six = [one for one in CONTRACTS.values() if one.dataset and one.dataset != "control_totals"]
    known = {rule.id for contract in six for rule in contract.row_rules}
    assert {rule.split()[0] for _, rule, _ in (*BROKEN, *UNIQUE)} == known
    assert {rule.id for contract in six for rule in contract.macro_rules} == MACRO
