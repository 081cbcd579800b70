"""The floor is a fair denominator: it decodes every kind of file, types every cell and loses no good row."""

from __future__ import annotations

import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest

from benchmarks import floor
from benchmarks.workloads import Input, inputs, registry
from etl.registry import Layout, Registry
from etl.settings import PROJECT_ROOT

LOAN = {
    "as_of_on": "20240229",
    "id_type": "居民身份证",
    "currency": "CNY",
    "issued_on": "20230101",
    "matures_on": "20250101",
    "issued_amount_yuan": "50000.00",
    "overdue_days": "0",
}


@pytest.fixture(scope="module")
def configured() -> Registry:
    return registry(PROJECT_ROOT)


@pytest.fixture
def month(tmp_path: Path) -> Path:
    """One small file of every kind."""
    _bank_csv(tmp_path / "drop" / "baiyun_rcb")
    _bank_zip(tmp_path / "drop" / "qinghe_rcb")
    _bank_workbook(tmp_path / "drop" / "xinhe_vb")
    (tmp_path / "government").mkdir()
    layout = registry(PROJECT_ROOT).sources["government"].feeds["households"].layouts[0]
    rows = [
        {"household_no": "H-000001", "registered_on": "2020-05-01", "annual_income_yuan": "52000.00", "phone": '"1,2"'},
        {"household_no": "H-000002"},
    ]
    (tmp_path / "government" / "household.csv").write_text(_csv(layout, rows), encoding="utf-8")
    return tmp_path


def _csv(layout: Layout, rows: list[dict[str, str]]) -> str:
    """Rows by canonical name, with the layout's own headings; what a row does not name is blank."""
    lines = [",".join(layout.source_to_canonical)]
    lines += [",".join(row.get(name, "") for name in layout.source_to_canonical.values()) for row in rows]
    return "".join(f"{line}\r\n" for line in lines)


def _bank_csv(folder: Path) -> None:
    folder.mkdir(parents=True)
    layout = registry(PROJECT_ROOT).banks["baiyun_rcb"].feeds["loans"].layouts[0]
    rows = [
        {**LOAN, "loan_no": "BY1", "borrower_name": "𠮷田1", "balance_yuan": "20000.50"},
        {**LOAN, "loan_no": "BY2", "borrower_name": "𠮷田2", "balance_yuan": "１２"},
        {**LOAN, "loan_no": "BY3", "borrower_name": "𠮷田3", "balance_yuan": "0"},
    ]
    text = _csv(layout, rows) + "too,few\r\n"
    (folder / "农户贷款借据_202402.csv").write_bytes(text.encode("gb18030"))
    (folder / "农户贷款借据_202402.csv.ok").touch()


def _bank_zip(folder: Path) -> None:
    folder.mkdir(parents=True)
    row = [
        "2024-02-29",
        "99",
        "B1",
        "341181",
        "B01",
        "x",
        "341181",
        "QH-1",
        "HT",
        "F022",
        "2023-01-01",
        "2025-01-01",
        "",
    ]
    row += ["CNY", "100.00", "100.00", "RF01", "4.35", "TR07", "", "", "", "D", "0", "FQ01", "LS01", "", "粮食"]
    with zipfile.ZipFile(folder / "CLGRDK_202402.zip", "w") as package:
        package.writestr("CLGRDK_202402.dat", "|".join(row) + "\n")
        package.writestr("CLGRDK_202402.log", "five lines")


def _bank_workbook(folder: Path) -> None:
    folder.mkdir(parents=True)
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "贷款台账"
    names = [
        "序号",
        "数据日期",
        "机构代码",
        "身份证号",
        "姓名",
        "借据编号",
        "品种",
        "发放日",
        "到期日",
        "发放金额(万元)",
    ]
    names += ["余额(万元)", "年利率", "担保", "五级", "状态", "逾期天数", "用途", "备注"]
    sheet.append(["贷款台账（合成）"])
    sheet.append(names)
    sheet.append(
        [1, "2024-02-29", "99", "x", "王", "XH-1", "F1", "2023-01-01", "2025-01-01", 5, 2.5, 0.0435, 4, 1, 1, 0, "", ""]
    )
    book.save(folder / "贷款台账2024-02.xlsx")


def _rows(month: Path, out: Path, dataset_file: str) -> list[dict[str, object]]:
    floor.run(month, out)
    [path] = [path for path in out.iterdir() if dataset_file in path.name]
    return [dict(row) for row in pq.read_table(path).to_pylist()]


def test_every_file_is_found_and_flag_files_are_not_taken_for_data(month: Path, configured: Registry) -> None:
    found = {(each.supplier, each.dataset, each.path.name) for each in inputs(month, configured)}
    assert found == {
        ("baiyun_rcb", "loans", "农户贷款借据_202402.csv"),
        ("qinghe_rcb", "loans", "CLGRDK_202402.zip"),
        ("xinhe_vb", "loans", "贷款台账2024-02.xlsx"),
        ("government", "households", "household.csv"),
    }


def test_all_good_rows_are_counted(month: Path, tmp_path: Path) -> None:
    assert floor.run(month, tmp_path / "out")["rows"] == 3 + 1 + 1 + 2


def test_a_gb18030_table_is_typed_and_a_bad_cell_is_null(month: Path, tmp_path: Path, configured: Registry) -> None:
    [given] = [each for each in inputs(month, configured) if each.supplier == "baiyun_rcb"]
    floor.decode(floor.Task(given, tmp_path / "loans.parquet"))
    table = pq.read_table(tmp_path / "loans.parquet")
    rows = sorted(table.to_pylist(), key=lambda row: row["loan_no"])
    assert [row["balance_yuan"] for row in rows] == [Decimal("20000.50"), None, Decimal("0.00")]
    assert rows[0]["borrower_name"] == "𠮷田1"
    assert rows[0]["issued_on"] == date(2023, 1, 1)
    assert rows[0]["closed_on"] is None
    assert rows[0]["overdue_days"] == 0
    assert "柜员号" not in table.column_names


def test_a_pboc_zip_and_a_workbook_are_read(month: Path, tmp_path: Path, configured: Registry) -> None:
    expected = {"qinghe_rcb": ("QH-1", Decimal("100.00")), "xinhe_vb": ("XH-1", Decimal("2.50"))}
    for given in inputs(month, configured):
        if given.supplier in expected:
            target = tmp_path / f"{given.supplier}.parquet"
            floor.decode(floor.Task(given, target))
            [row] = pq.read_table(target).to_pylist()
            assert (row["loan_no"], row["balance_yuan"]) == expected[given.supplier]
            assert row["as_of_on"] == date(2024, 2, 29)


def test_the_register_is_read_with_quoted_commas(tmp_path: Path) -> None:
    path = tmp_path / "household.csv"
    path.write_text('household_no,registered_on,phone\nH1,2020-05-01,"1,2"\nH2,,\n', encoding="utf-8")
    layout = Layout.model_validate(
        {
            "from": "2024-01",
            "format": "database",
            "columns": ["household_no", "registered_on", "phone"],
            "codes": "register",
        }
    )
    floor.decode(floor.Task(Input(path, "government", "households", layout), tmp_path / "out.parquet"))
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert rows == [
        {"household_no": "H1", "registered_on": date(2020, 5, 1), "phone": "1,2"},
        {"household_no": "H2", "registered_on": None, "phone": None},
    ]
