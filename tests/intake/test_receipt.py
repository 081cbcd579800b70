"""Receipts: complete, harmless, in the bank's encoding, written once."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from python_calamine import CalamineWorkbook

from etl.findings import FileFinding
from etl.intake import receipt as receipts
from etl.intake.receipt import Answer, Receipt, csv_bytes, harmless_name, mask_identity, write_receipts
from etl.intake.receipt_words import Facing
from etl.intake.signing import SigningKey
from etl.intake.strings import Strings
from etl.vocabulary import OUTCOME_LABELS, OUTCOMES
from tests.intake.making import DELIVERY, make_layout, read_bytes

KEYS = ["delivery_id", "bank", "period", "revision", "outcome", "in_force", "sha256", "rows_read", "rows_accepted",
        "rows_rejected", "findings", "diagnoses", "counts_by_rule", "settled", "not_checked", "ruleset", "diff",
        "stays_in_force", "contact", "signature"]  # fmt: skip
FINDING_KEYS = ["rule", "family", "action", "member", "row", "line", "column_no", "column_as_delivered", "field", "key",
                "value", "message_zh", "message_en", "fix_zh"]  # fmt: skip
LAYOUT = make_layout(
    columns={"借据号": "loan_no", "姓名": "borrower_name", "余额": "balance_yuan", "五级": "five_class"}
)
OPEN = {"five_class"}
ANSWER = Answer(
    delivery_id=DELIVERY, bank="qinghe_rcb", period="2024-03", revision=2, original_name="CLGRDK_202403.zip",
    outcome="accepted_with_warnings", in_force=True, sha256="ab" * 32, rows_read=4, rows_accepted=2, rows_rejected=2,
    not_checked=["L116"], ruleset="r1", contact={"zh": "数据组", "phone": "0550-0000000"},
)  # fmt: skip
FULL = replace(
    ANSWER,
    contact={
        "zh": "数据组", "en": "desk", "phone": "0550-0000000",
        "next_due": {
            "dataset": "loans", "period": "2024-04", "state": "known", "on": "2024-05-09", "at": "2024-05-09T18:00:00+08:00",
        },
    },
    diff={"added": 12, "changed": 3, "removed": 0, "fixed": 20, "new": 1},
    facing=Facing({"zh": "清河", "en": "Qinghe"}, {"zh": "借据", "en": "notes"}, is_synthetic=True),
)  # fmt: skip


@dataclass(frozen=True)
class Text:
    zh: str
    en: str


@dataclass(frozen=True)
class Rule:
    id: str
    family: str
    action: str
    columns: tuple[str, ...]
    says: Text = Text("不对", "wrong")
    fix: Text = Text("请改", "correct it")


RULES = {
    rule.id: rule
    for rule in (
        Rule("L110", "validity", "reject_row", ("five_class",)),
        Rule("L120", "validity", "reject_row", ("balance_yuan",)),
        Rule("L212", "quality", "warn", ("balance_yuan", "five_class")),
        Rule("L132", "quality", "shadow", ("five_class",)),
    )
}


def delivered(*rows: str) -> Strings:
    return read_bytes("\n".join(["借据号,姓名,余额,五级", *rows]).encode(), LAYOUT, name="loans.csv")


def found(*findings: tuple[int, str]) -> pa.Table:
    return pa.table(
        {
            "_member": pa.array(["loans.csv"] * len(findings), pa.string()),
            "_row": pa.array([row for row, _ in findings], pa.int64()),
            "rule": pa.array([rule for _, rule in findings], pa.string()),
        }
    )


def signing_key(outbox: Path) -> SigningKey:
    return SigningKey.create(outbox.parent / "secrets" / "receipt.key")


def write(outbox: Path, strings: Strings, findings: pa.Table, encoding: str = "utf-8", answer: Answer = ANSWER) -> Any:
    return write_receipts(
        outbox, answer, findings, strings, RULES, LAYOUT, key_column="loan_no", open_columns=OPEN, encoding=encoding,
        signing_key=signing_key(outbox),
    )  # fmt: skip


def document(outbox: Path, strings: Strings, findings: pa.Table) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(write(outbox, strings, findings).json_path.read_text(encoding="utf-8"))
    return content


STRINGS = delivered("A1,王秀英,1,正常", "A2,李秀英", "A3,赵秀英,-1,很好", "A4,钱秀英,2,正常")


def test_the_json_has_exactly_the_keys_of_the_contract(tmp_path: Path) -> None:
    content = document(tmp_path, STRINGS, found((3, "L110")))
    assert list(content) == KEYS
    assert [list(finding) for finding in content["findings"]] == [FINDING_KEYS] * 2
    assert {key: content[key] for key in ("delivery_id", "bank", "revision", "in_force", "not_checked")} == {
        "delivery_id": DELIVERY, "bank": "qinghe_rcb", "revision": 2, "in_force": True, "not_checked": ["L116"],
    }  # fmt: skip


def test_a_finding_says_where_what_and_how_to_mend(tmp_path: Path) -> None:
    content = document(tmp_path, STRINGS, found((3, "L110"), (3, "L120")))
    assert content["findings"][1] == {
        "rule": "L110", "family": "validity", "action": "reject_row", "member": "loans.csv", "row": 3, "line": 4,
        "column_no": 4, "column_as_delivered": "五级", "field": "five_class", "key": "A3", "value": "很好",
        "message_zh": "不对", "message_en": "wrong", "fix_zh": "请改",
    }  # fmt: skip
    assert content["findings"][2]["value"] is None
    assert content["counts_by_rule"] == {"L110": 1, "L120": 1, "P201": 1}


def test_a_bad_line_is_answered_without_its_text(tmp_path: Path) -> None:
    receipt = write(tmp_path, STRINGS, found())
    content = json.loads(receipt.json_path.read_text(encoding="utf-8"))
    assert [(entry["rule"], entry["row"], entry["line"], entry["key"]) for entry in content["findings"]] == [
        ("P201", 2, 3, None)
    ]
    for path in (receipt.json_path, receipt.csv_path):
        assert "李秀英" not in path.read_text(encoding="utf-8")


def test_rules_on_several_columns_show_all_of_them_or_no_value(tmp_path: Path) -> None:
    content = document(tmp_path, STRINGS, found((1, "L212")))
    entry = content["findings"][0]
    assert (entry["field"], entry["column_as_delivered"], entry["column_no"], entry["value"]) == (
        "balance_yuan | five_class", "余额 | 五级", 3, None)  # fmt: skip


def test_shadow_rules_are_silent(tmp_path: Path) -> None:
    content = document(tmp_path, STRINGS, found((1, "L132")))
    assert list(content["counts_by_rule"]) == ["P201"]


def test_file_findings_stand_first_and_need_no_rows(tmp_path: Path) -> None:
    finding = FileFinding("P107", "loans.csv", "无法读取", "unreadable", "重报")
    empty = Strings(STRINGS.table.slice(0, 0), 0, [finding], [])
    content = document(tmp_path, empty, found())
    assert [(entry["rule"], entry["action"], entry["row"]) for entry in content["findings"]] == [
        ("P107", "reject_file", None)
    ]
    assert write_receipts(
        tmp_path, replace(ANSWER, delivery_id="other"), found(), empty, RULES, None,
        key_column=None, open_columns=[], encoding="gb18030", signing_key=signing_key(tmp_path),
    ).counts_by_rule == {"P107": 1}  # fmt: skip


def test_identity_numbers_are_masked_in_keys_and_values(tmp_path: Path) -> None:
    strings = delivered("JJ341181198001010016,王,1,34118119800101001x", "99000020240115000123456,王,1,13812345678")
    content = document(tmp_path, strings, found((1, "L110"), (2, "L110")))
    shown = [(entry["key"], entry["value"]) for entry in content["findings"]]
    assert shown == [("JJ341181************", "341181************"), ("99000020240115000123456", "***********")]


def test_masking_leaves_other_numbers_alone() -> None:
    texts = ["341181198001010016", "341181198013010016", "999999198001010016", "", None]
    assert mask_identity(pa.array(["92341181MA0000001X", "91341181MA0000001X"])).to_pylist() == [
        "92341181**********", "91341181MA0000001X",
    ]  # fmt: skip
    masked = mask_identity(pa.array(texts)).to_pylist()
    assert masked == ["341181************", "341181198013010016", "999999198001010016", "", None]


def test_json_shows_a_hundred_of_each_rule_and_csv_all(tmp_path: Path) -> None:
    strings = delivered(*(f"A{row},王,1,坏" for row in range(1, 251)))
    findings = found(*((row, rule) for row in range(1, 251) for rule in ("L110", "L120")))
    receipt = write(tmp_path, strings, findings)
    content = json.loads(receipt.json_path.read_text(encoding="utf-8"))
    rows = list(csv.DictReader(io.StringIO(receipt.csv_path.read_text(encoding="utf-8"))))
    assert content["counts_by_rule"] == {"L110": 250, "L120": 250}
    assert [entry["row"] for entry in content["findings"] if entry["rule"] == "L120"] == list(range(1, 101))
    assert (len(content["findings"]), len(rows), list(rows[0])) == (200, 500, FINDING_KEYS)
    assert [int(row["row"]) for row in rows if row["rule"] == "L110"] == list(range(1, 251))


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "'x", "＝1"])
def test_no_cell_of_the_csv_starts_a_formula(cell: str) -> None:
    table = pa.table({"key": pa.array([cell, "safe"])})
    rows = list(csv.reader(io.StringIO(csv_bytes(table, "utf-8").decode(), newline="")))
    assert rows[1:] == [[f"'{cell}"], ["safe"]]


def test_long_numbers_stay_text_in_a_spreadsheet() -> None:
    table = pa.table({"key": pa.array(["123456789012", "12345678901"])})
    assert csv_bytes(table, "utf-8").decode().splitlines()[1:] == ['"\'123456789012"', '"12345678901"']


def test_the_csv_is_in_the_banks_encoding(tmp_path: Path) -> None:
    receipt = write(tmp_path, delivered("A1,王,1,𠮷"), found((1, "L110")), "gb18030")
    assert "𠮷" in receipt.csv_path.read_bytes().decode("gb18030")


def test_files_are_where_the_contract_says_and_latest_names_the_newest(tmp_path: Path) -> None:
    receipt = write(tmp_path, STRINGS, found())
    stem = f"CLGRDK_202403.zip.{DELIVERY}.receipt"
    folder = tmp_path / "qinghe_rcb" / "2024-03"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{stem}.{kind}" for kind in ("csv", "html", "json", "xlsx")
    ]
    assert receipt.json_path == folder / f"{stem}.json"
    assert (tmp_path / "qinghe_rcb" / "latest.txt").read_text() == f"2024-03/{stem}.json\n"


def test_a_receipt_is_never_overwritten(tmp_path: Path) -> None:
    first = write(tmp_path, STRINGS, found())
    before = {path.name: path.read_bytes() for path in first.json_path.parent.iterdir()}
    second = write(tmp_path, STRINGS, found((3, "L110")), answer=replace(ANSWER, outcome="rejected"))
    assert (first.is_new, second.is_new) == (True, False)
    assert {path.name: path.read_bytes() for path in first.json_path.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "harmless"),
    [("a/../b", "a_.._b"), ("..x", "_.x"), ("x\u202ecod.zip", "x_cod.zip"), ("a\nb", "a_b"), ("", "_"), ("贷" * 90, "贷" * 40)],
)  # fmt: skip
def test_file_names_of_suppliers_cannot_lead_elsewhere(name: str, harmless: str) -> None:
    assert harmless_name(name) == harmless


# -- workbook and page ------------------------------------------------------------------------------------------------


def workbook(receipt: Receipt) -> Any:
    return openpyxl.load_workbook(receipt.json_path.with_suffix(".xlsx"))


def cells(sheet: Any) -> list[list[Any]]:
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def test_the_workbook_is_complete_with_text_cells_and_a_frozen_heading(tmp_path: Path) -> None:
    strings = delivered(*(f"{900000000000000000 + row},王,1,坏" for row in range(1, 251)))
    receipt = write(tmp_path, strings, found(*((row, "L110") for row in range(1, 251))))
    book = workbook(receipt)
    heading, *rows = cells(book.worksheets[1])
    assert (book.sheetnames, book.worksheets[1].freeze_panes) == (["概要 Summary", "问题明细 Findings"], "A2")
    assert (heading[0], heading[9], len(heading)) == ("规则 rule", "本行编号 key", 14)
    assert [row[4] for row in rows] == list(range(1, 251))
    assert (rows[0][9], rows[0][2], rows[0][11]) == ("900000000000000001", "reject_row", "不对")
    key = book.worksheets[1]["J2"]
    assert (key.data_type, key.number_format) == ("s", "@")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "'x", "＝1", "=cmd|' /C calc'!A0"])
def test_no_cell_of_the_workbook_starts_a_formula(tmp_path: Path, cell: str) -> None:
    receipt = write(tmp_path, delivered(f'"{cell}",王,1,"{cell}"'), found((1, "L110")))
    _, row = cells(workbook(receipt).worksheets[1])
    assert (row[9], row[10]) == (f"'{cell}", f"'{cell}")
    with zipfile.ZipFile(receipt.json_path.with_suffix(".xlsx")) as archive:
        assert b"<f>" not in b"".join(archive.read(name) for name in archive.namelist())


def test_a_second_reader_of_workbooks_sees_the_same(tmp_path: Path) -> None:
    receipt = write(tmp_path, delivered("_x003D_1,王,1,<&>\u0001"), found((1, "L110")))
    book = CalamineWorkbook.from_path(str(receipt.json_path.with_suffix(".xlsx")))
    _, row = book.get_sheet_by_name("问题明细 Findings").to_python()
    assert (row[9], row[10], row[4]) == ("_x003D_1", "<&>\ufffd", 1)


def test_the_summary_says_who_what_and_when_next(tmp_path: Path) -> None:
    receipt = write(tmp_path, STRINGS, found((3, "L110")), answer=FULL)
    told = dict(cells(workbook(receipt).worksheets[0])[1:])
    assert (
        told["下次报送 next delivery"]
        == "2024-04 月份，请于 2024-05-09 18:00 前报送。 2024-04, due by 2024-05-09 18:00."
    )
    assert told["联系人 contact"] == "数据组 desk 0550-0000000"
    assert told["新增行 rows added"] == "12"
    assert told["报送单位 supplier"] == "清河 Qinghe (qinghe_rcb)"
    assert "合成数据 synthetic data" in told


def page(receipt: Receipt) -> str:
    return receipt.json_path.with_suffix(".html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    outline = Outline(page(write(tmp_path, STRINGS, found((3, "L110")), answer=FULL)))
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in outline.tags}
    assert not [attrs for _, attrs in outline.tags if {"src", "href", "onclick", "style"} & set(attrs)]
    assert ("html", {"lang": "zh-CN"}) in outline.tags
    assert "width=device-width, initial-scale=1" in [attrs.get("content") for _, attrs in outline.tags]


def test_the_page_says_chinese_first_and_shows_a_hundred_of_each_rule(tmp_path: Path) -> None:
    strings = delivered(*(f"A{row},王,1,坏" for row in range(1, 251)))
    text = page(write(tmp_path, strings, found(*((row, "L110") for row in range(1, 251))), answer=FULL))
    words = Outline(text).words
    assert words.index("接收（有提示或拒收行）") < words.index("accepted with warnings")
    assert [word for word in words if word in ("A1", "A100", "A101")] == ["A1", "A100"]
    assert ("250" in words, "合成数据 synthetic data" in words) == (True, True)
    assert "2024-04 月份，请于 2024-05-09 18:00 前报送。" in text


def test_what_a_supplier_writes_cannot_act_in_the_page(tmp_path: Path) -> None:
    name = '<script>alert(1)</script>"\u202e\n.csv'
    strings = delivered('<img src=x onerror=alert(1)>,王,1,"<b>\u202ex"')
    answer = replace(FULL, original_name=name, facing=replace(FULL.facing, known={"L110": "<i>"}))
    receipt = write(tmp_path, strings, found((1, "L110")), answer=answer)
    outline = Outline(page(receipt))
    assert not {"script", "img", "i"} & {tag for tag, _ in outline.tags}
    assert "<img src=x onerror=alert(1)>" in outline.words
    for path in receipt.json_path.parent.iterdir():
        assert "\u202e" not in path.name
        if path.suffix != ".xlsx":
            assert "\u202e" not in path.read_text(encoding="utf-8")


def test_likely_causes_are_told_with_their_repair_in_every_readable_form(tmp_path: Path) -> None:
    cause = {"message_zh": "整列金额像是万元", "message_en": "amounts look like 万元", "repair_zh": "请按元报送",
             "repair_en": "deliver yuan", "explains": ["L120"]}  # fmt: skip
    receipt = write(tmp_path, delivered("BY-1,a,x,1"), found((1, "L120")), answer=replace(ANSWER, diagnoses=[cause]))
    assert "整列金额像是万元" in page(receipt) and "请按元报送" in page(receipt)
    said = [str(cell) for row in cells(workbook(receipt).worksheets[0]) for cell in row]
    assert "整列金额像是万元 → 请按元报送 (amounts look like 万元)" in said


def test_settled_findings_are_shown_as_such_and_not_counted(tmp_path: Path) -> None:
    findings = found((1, "L212"), (3, "L212"), (4, "L212"), (4, "L110"))
    findings = findings.append_column("state", pa.array(["confirmed", "known", None, None], pa.string()))
    answer = replace(FULL, facing=replace(FULL.facing, known={"L212": "系统升级（至 2024-06-30）"}))
    receipt = write(tmp_path, STRINGS, findings, answer=answer)
    content = json.loads(receipt.json_path.read_text(encoding="utf-8"))
    assert content["counts_by_rule"] == {"L110": 1, "L212": 1, "P201": 1}
    assert content["settled"] == {"confirmed": {"L212": 1}, "known": {"L212": 1}} == receipt.settled
    actions = {finding["row"]: finding["action"] for finding in content["findings"] if finding["rule"] == "L212"}
    assert actions == {1: "confirmed", 3: "known", 4: "warn"}
    assert {"已确认 confirmed", "已知例外 known exception"} <= set(Outline(page(receipt)).words)
    assert "系统升级（至 2024-06-30）" in page(receipt)
    told = dict(cells(workbook(receipt).worksheets[0])[1:])
    assert told["已知例外 known exception"] == "L212: 1 系统升级（至 2024-06-30）"


def test_settled_findings_take_no_place_of_open_ones(tmp_path: Path) -> None:
    strings = delivered(*(f"A{row},王,1,坏" for row in range(1, 202)))
    findings = found(*((row, "L212") for row in range(1, 202)))
    findings = findings.append_column("state", pa.array([*["confirmed"] * 200, None], pa.string()))
    content = document(tmp_path, strings, findings)
    assert [finding["row"] for finding in content["findings"] if finding["action"] == "warn"] == [201]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_its_page(tmp_path: Path, outcome: str) -> None:
    answer = replace(FULL, outcome=outcome, in_force=False, stays_in_force="the_one_before")
    text = page(write(tmp_path, STRINGS, found(), answer=answer))
    assert OUTCOME_LABELS[outcome]["zh"] in text
    assert "此前接收的 the_one_before 继续有效" in text


def test_an_unknown_calendar_is_said_to_be_unknown(tmp_path: Path) -> None:
    due = {"dataset": "loans", "period": "2030-01", "state": "unknown", "on": None, "at": None}
    text = page(write(tmp_path, STRINGS, found(), answer=replace(FULL, contact={**FULL.contact, "next_due": due})))
    assert "2030-01 月份，截止日待工作日历公布。" in text


def test_an_interrupted_answer_is_finished_and_its_files_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(receipts, "write_once", die)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, STRINGS, found((3, "L110")))
    folder = tmp_path / "qinghe_rcb" / "2024-03"
    assert not list(folder.glob("*.json"))
    receipt = write(tmp_path, STRINGS, found((3, "L120")))
    assert receipt.is_new
    stamp = json.loads(receipt.json_path.read_text(encoding="utf-8"))["signature"]
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in stamp["files"]} == stamp["files"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_same_answer_gives_the_same_bytes(tmp_path: Path) -> None:
    strings, findings = STRINGS, found((3, "L110"))
    key = SigningKey.create(tmp_path / "key")
    for name in ("one", "two"):
        write_receipts(
            tmp_path / name, ANSWER, findings, strings, RULES, LAYOUT, key_column="loan_no", open_columns=OPEN,
            encoding="utf-8", signing_key=key,
        )  # fmt: skip
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all((tmp_path / "one" / each).read_bytes() == (tmp_path / "two" / each).read_bytes() for each in files)
