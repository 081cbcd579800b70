"""The synthetic county looks like the one DOMAIN describes, is recognisably invented, and is the same every time."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from etl.identifiers import resident_id_is_valid
from etl.period import Period
from etl.vocabulary import ConfigurationError
from simulator import simulate
from simulator.government import load
from tests.simulator.conftest import Month
from tests.simulator.second_opinion import Book, File, Raw, findings, read_csv, typed

SPOILT = {"id_no": {"M131", "M101"}}


def _rows(file: File) -> list[Raw]:
    return [row for row in file.rows if row is not None]


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate(tmp_path / name, "2024-03", 400, 5)
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two")
    simulate(tmp_path / "other", "2024-03", 400, 6)
    assert _tree(tmp_path / "one") != _tree(tmp_path / "other")


def test_a_month_does_not_depend_on_the_months_written_before(tmp_path: Path) -> None:
    simulate(tmp_path / "alone", "2024-03", 400, 5)
    for period in ("2024-02", "2024-03"):
        simulate(tmp_path / "after", period, 400, 5)
    alone, after = _tree(tmp_path / "alone"), _tree(tmp_path / "after")
    assert {name: after[name] for name in alone if name != "truth.json"} == {
        name: digest for name, digest in alone.items() if name != "truth.json"
    }


def test_people_are_valid_and_plainly_invented(february: Month) -> None:
    rows = _rows(february.file("government", "members"))
    planted = {entry["row"] for entry in february.truth["findings"] if entry["dataset"] == "members"}
    clean = [row for number, row in enumerate(rows, start=1) if number not in planted]
    assert all(resident_id_is_valid(row["id_no"]) and row["id_no"][14] == "9" for row in clean)
    assert len({row["id_no"] for row in clean}) == len(clean)
    assert all(row["person_name"][:2] in ("合成", "测试") and len(row["person_name"]) == 4 for row in clean)
    assert all(row["phone"].startswith("100") for row in clean if row["phone"])
    prefixes = Counter(row["id_no"][:6] for row in clean)
    assert all(prefixes[prefix] > 50 for prefix in ("341181", "342321", "341121"))
    others = len(clean) - sum(prefixes[prefix] for prefix in ("341181", "342321", "341121"))
    assert 0.05 < others / len(clean) < 0.2
    born_before = [row for row in clean if row["birth_on"] < "1992" and row["relation_code"] == "01"]
    assert sum(row["id_no"].startswith("342321") for row in born_before) > 0.8 * len(born_before)


def test_some_names_need_gb18030(february: Month) -> None:
    names = [row["person_name"] for row in _rows(february.file("government", "members"))]
    rare = [name for name in names if not _fits_gbk(name)]
    assert 0 < len(rare) < len(names) / 20


def _fits_gbk(text: str) -> bool:
    try:
        text.encode("gbk")
    except UnicodeEncodeError:
        return False
    return True


def test_register_is_calibrated(february: Month, book: Book) -> None:
    homes, members = _rows(february.file("government", "households")), _rows(february.file("government", "members"))
    assert abs(len(members) / len(homes) - 3.37) < 0.12
    children = sum(row["birth_on"] > "2010-03" for row in members)
    assert 0.05 < children / len(members) < 0.2
    assert len({row["village_code"] for row in homes} & set(book.villages)) == 175
    incomes = sorted(Decimal(row["annual_income_yuan"]) for row in homes if row["annual_income_yuan"].endswith("00.00"))
    assert 70_000 < incomes[len(incomes) // 2] < 100_000


def test_a_tenth_to_a_fifth_of_households_borrow(february: Month, book: Book) -> None:
    members = february.file("government", "members")
    home = {row["id_no"]: row["household_no"] for row in _rows(members)}
    drawn: Counter[str] = Counter()
    for bank in ("baiyun_rcb", "xinhe_vb"):
        file = february.file(bank, "loans")
        for row in _rows(file):
            borrower, amount = typed(book, file, row, "borrower_id_no"), typed(book, file, row, "issued_amount_yuan")
            if borrower in home and amount and 0 < amount <= 400_000:  # planted amounts lie outside
                drawn[home[borrower]] += amount
    qinghe = february.file("qinghe_rcb", "loans")
    all_borrowing = {*drawn, *(home[row["borrower_id_no"]] for row in _rows(qinghe) if row["borrower_id_no"] in home)}
    assert 0.10 < len(all_borrowing) / 2_000 < 0.22
    assert 40_000 < sum(drawn.values()) / len(drawn) < 73_000


def test_consents_are_granted_refused_withdrawn_expired_and_missing(february: Month, book: Book) -> None:
    file = february.file("government", "consents")
    cells = [{name: typed(book, file, row, name) for name in row} for row in _rows(file)]
    end = february.period.end
    assert {cell["purpose"] for cell in cells} >= {"grading", "bank_data", "income", "property", "credit_line"}
    assert any(cell["decision"] == "refused" for cell in cells)
    assert any(cell["withdrawn_on"] and cell["withdrawn_on"] <= end for cell in cells)
    assert any(cell["expires_on"] and cell["expires_on"] < end for cell in cells)
    granted = sum(cell["purpose"] == "grading" and cell["decision"] == "granted" for cell in cells)
    assert 0.88 < granted / 2_000 < 0.97


def test_the_register_lives(february: Month, march: Month) -> None:
    before = {row["household_no"]: row for row in _rows(february.file("government", "households"))}
    after = {row["household_no"]: row for row in _rows(march.file("government", "households"))}
    appeared, gone = after.keys() - before.keys(), before.keys() - after.keys() - {""}
    split = [no for no in appeared if after[no]["former_household_no"] in after]
    merged = [no for no in after.keys() & before.keys() if after[no]["former_household_no"] in gone]
    moved = [no for no in after.keys() & before.keys() if after[no]["village_code"] != before[no]["village_code"]]
    events = march.truth["register_events"]
    assert len(split) == events["split"] > 0 and len(merged) == events["merged"] > 0
    assert len(moved) >= events["moved"] > 0 and len(gone) >= events["deleted"] + events["merged"]
    unchanged = [no for no in after.keys() & before.keys() if after[no] == before[no]]
    assert 0.9 < len(unchanged) / len(before) < 1
    touched = [no for no in after.keys() & before.keys() if after[no] != before[no]]
    assert all(after[no]["changed_at"].startswith("2024-03") for no in touched)


def test_loan_books_live(february: Month, march: Month, book: Book) -> None:
    flows = march.file("qinghe_rcb", "loan_flows")
    kinds = Counter(typed(book, flows, row, "flow_kind") for row in _rows(flows))
    assert kinds["issue"] > 3 and kinds["collect"] > 50
    file = march.file("baiyun_rcb", "loans")
    states = Counter(typed(book, file, row, "loan_status") for row in _rows(file))
    assert states["repaid"] > 0 and states["overdue"] > 0
    before, after = _overdue_days(february, book), _overdue_days(march, book)
    grown = [no for no in before.keys() & after.keys() if before[no] > 0 and after[no] > 0]
    assert grown and all(after[no] - before[no] == 31 for no in grown)
    assert any(before[no] == 0 < after[no] for no in before.keys() & after.keys())


def _overdue_days(month: Month, book: Book) -> dict[str, int]:
    """Of clean rows of the bank that knows them."""
    file = month.file("baiyun_rcb", "loans")
    planted = {e["row"] for e in month.truth["findings"] if (e["supplier"], e["dataset"]) == (file.supplier, "loans")}
    return {
        (row or {})["信贷借据号" if "信贷借据号" in (row or {}) else "loan_no"]: typed(
            book, file, row or {}, "overdue_days"
        )
        for number, row in enumerate(file.rows, start=1)
        if number not in planted
    }


def test_units_of_the_workbook_bank(february: Month, book: Book) -> None:
    file = february.file("xinhe_vb", "loans")
    planted = {e["row"] for e in february.truth["findings"] if e["supplier"] == "xinhe_vb"}
    clean = [row for number, row in enumerate(_rows(file), start=1) if number not in planted]
    assert all(Decimal("0.03") < Decimal(row["annual_rate_pct"]) < Decimal("0.08") for row in clean)
    assert all(-Decimal(row["balance_yuan"]).as_tuple().exponent <= 6 for row in clean)
    assert any(row["borrower_id_no"].endswith("x") for row in _rows(file)) or len(clean) < 60


def test_mediation_closes_next_month_and_agreements_are_broken(february: Month, march: Month, book: Book) -> None:
    def cases(month: Month) -> dict[str, dict[str, object]]:
        found = {}
        for file in (file for file in month.files if file.dataset == "mediation"):
            planted = {e["row"] for e in month.truth["findings"] if e["file"] == file.name}
            for number, row in enumerate(_rows(file), start=1):
                if number not in planted:
                    cell = {name: typed(book, file, row, name) for name in row}
                    found[str(cell["case_no"])] = cell
        return found

    first, second = cases(february), cases(march)
    results = Counter(case["result"] for case in (*first.values(), *second.values()))
    assert all(results[result] > 0 for result in ("success", "partial", "failure", "open"))
    assert 70 < len(second) < 200
    again = [no for no in first.keys() & second.keys() if first[no]["result"] == "open"]
    assert again and all(second[no]["closed_on"] >= date(2024, 3, 1) for no in again)
    broken = [case for case in second.values() if case["performance"] == "unperformed"]
    assert broken and all(case["unperformed_document_no"] and case["unperformed_by"] for case in broken)
    assert any(case["helper_id_no"] for case in second.values())


def test_the_register_loads_into_postgresql_and_is_replaced(
    empty_database_url: str, february: Month, march: Month
) -> None:
    load(empty_database_url, february.folder / "government")
    rows = load(empty_database_url, march.folder / "government")
    files = {"household": "households", "household_member": "members", "consent": "consents"}
    assert rows == {table: len(march.file("government", dataset).rows) for table, dataset in files.items()}
    url = empty_database_url.replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        [(late,)] = connection.execute(
            "SELECT count(*) FROM register.household WHERE changed_at >= '2024-03-01T00:00:00+08:00'"
        ).fetchall()
        [(nulls,)] = connection.execute("SELECT count(*) FROM register.household WHERE household_no IS NULL").fetchall()
    [delivery] = [e for e in march.truth["deliveries"] if e["dataset"] == "households"]
    assert (late, nulls) == (delivery["rows_read"], 0)


def test_a_province_is_twenty_clean_files_of_one_register(tmp_path: Path, book: Book) -> None:
    truth = simulate(tmp_path, "2024-02", 1_000, 3, profile="province")
    paths = sorted((tmp_path / "drop" / "baiyun_rcb").glob("*.csv"))
    files = [read_csv(book, path) for path in paths]
    month = Period(2024, 2)
    assert len(files) == 20 and all(findings(book, file, month.start, month.end) == set() for file in files)
    loans = [row for file in files for row in _rows(file)]
    assert len({row["loan_no"] for row in loans}) == len(loans) == 1_000
    with (tmp_path / "government" / "household_member.csv").open(encoding="utf-8") as lines:
        heads = [line.split(",")[2] for line in lines][1:]
    assert len(set(heads)) == 1_000 and all(map(resident_id_is_valid, heads))
    assert {row["borrower_id_no"] for row in loans} <= set(heads)
    assert all((path.parent / f"{path.name}.ok").exists() for path in paths)
    assert truth.record["rows"] == {"households": 1_000, "members": 1_000, "consents": 2_000}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"profile": "newsletter"}, "--profile"),
        ({"households": 10}, "--households"),
        ({"period": "2024-13"}, "--period"),
        ({"period": "2023-12"}, "--period"),
    ],
)
def test_wrong_arguments_are_told_with_their_mend(tmp_path: Path, changes: dict[str, object], key: str) -> None:
    arguments = {"period": "2024-02", "households": 300, "seed": 1, "profile": "county", **changes}
    with pytest.raises(ConfigurationError, match=key):
        simulate(tmp_path, **arguments)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())
