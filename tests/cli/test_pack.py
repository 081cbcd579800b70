"""The contract pack: complete, the same every time, and true: its good samples are clean, its bad ones break what they say."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml

from etl.cli.app import run
from etl.period import Period
from etl.reports.pack import write_pack
from etl.reports.precheck import precheck
from etl.settings import PROJECT_ROOT, Settings
from etl.workspace import Workspace

OVERLAY = PROJECT_ROOT / "tests" / "overlay"
PERIOD = "2024-03"
ENCODINGS = {"qinghe_rcb": "utf-8", "baiyun_rcb": "gb18030", "xinhe_vb": "gb18030", "nordsund_cu": "utf-8"}
FEEDS = {
    ("qinghe_rcb", "loans"): "CLGRDK_202403.zip",
    ("qinghe_rcb", "loan_flows"): "GRDKFS_202403.zip",
    ("baiyun_rcb", "loans"): "农户贷款借据_202403.csv",
    ("xinhe_vb", "loans"): "贷款台账2024-03.xlsx",
    ("nordsund_cu", "union_notes"): "Kredite-03.2024.csv",
}
# March by the shipped calendar: working days of April are 1, 2, 3, 7 (a make-up Sunday), 8, 9, 10.
DUE = {
    "qinghe_rcb": "2024-04-08 18:00",
    "baiyun_rcb": "2024-04-08 18:00",
    "xinhe_vb": "2024-04-10 18:00",
    "nordsund_cu": "2024-04-07 12:00",
}
# What a bank cannot break: no code of PBoC or of one-digit cores says written off, repaid or transferred, and what the
# configuration fixes for every row cannot be wrong.
CANNOT_BREAK = {
    ("qinghe_rcb", "loans"): {"L209", "L210"},
    ("xinhe_vb", "loans"): {"L209", "L210", "L109", "L113", "L114"},
}


def settings() -> Settings:
    return Settings.from_environment(
        {"CREDITVILLAGE_CONFIG": str(OVERLAY / "config"), "CREDITVILLAGE_EXPECTATIONS": str(OVERLAY / "expectations")}
    )


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packs of the three shipped banks and of the foreign one."""
    folder = tmp_path_factory.mktemp("packs")
    for bank in ENCODINGS:
        write_pack(Workspace(settings()), bank, Period.parse(PERIOD), folder / bank)
    return {bank: folder / bank for bank in ENCODINGS}


def sample(packs: dict[str, Path], feed: tuple[str, str], kind: str) -> Path:
    return packs[feed[0]] / "samples" / feed[1] / kind / FEEDS[feed]


def read_csv(path: Path, encoding: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(encoding))))


@pytest.mark.parametrize("feed", FEEDS)
def test_the_good_sample_is_clean(packs: dict[str, Path], feed: tuple[str, str]) -> None:
    found = precheck(Workspace(settings()), sample(packs, feed, "good"), feed[0])
    assert (found.outcome, dict(found.counts_by_rule), found.notes) == ("accepted", {}, ())
    assert found.rows_read >= 5


@pytest.mark.parametrize("feed", FEEDS)
def test_the_bad_sample_breaks_what_it_says(packs: dict[str, Path], feed: tuple[str, str]) -> None:
    found = precheck(Workspace(settings()), sample(packs, feed, "bad"), feed[0])
    folder = sample(packs, feed, "bad").parent
    expected = json.loads((folder / "expected_receipt.json").read_text(encoding="utf-8"))
    assert found.document() == expected
    pairs = {(one["row"], one["rule"]) for one in expected["findings"]}
    made = {(int(one["行 row"]), one["规则 rule"]) for one in read_csv(folder / "broken.csv", ENCODINGS[feed[0]])}
    assert made <= pairs
    told = read_csv(folder / "expected_receipt.csv", ENCODINGS[feed[0]])
    assert len(told) == len(expected["findings"])


@pytest.mark.parametrize("feed", FEEDS)
def test_every_rule_a_bank_can_break_is_shown_broken(packs: dict[str, Path], feed: tuple[str, str]) -> None:
    bank, dataset = feed
    folder = packs[bank]
    rules = {one["规则 rule"]: one for one in read_csv(folder / "rules" / f"{dataset}.csv", ENCODINGS[bank])}
    of_rows = {rule for rule, one in rules.items() if one["类别 family"] != "macro"}
    broken = read_csv(folder / "samples" / dataset / "bad" / "broken.csv", ENCODINGS[bank])
    assert of_rows - {one["规则 rule"] for one in broken} == CANNOT_BREAK.get(feed, set())
    assert "L132" not in rules  # counted silently: nobody's business


def test_the_same_configuration_gives_the_same_bytes(packs: dict[str, Path], tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **settings().environment(),
        "PYTHONHASHSEED": "12345",
        "TZ": "America/New_York",
        "PYTHONPATH": str(PROJECT_ROOT),
    }
    command = "import sys; from etl.cli.app import run; sys.exit(run(sys.argv[1:]))"
    arguments = ["pack", "xinhe_vb", "--out", str(tmp_path / "again"), "--period", PERIOD]
    subprocess.run([sys.executable, "-c", command, *arguments], env=environment, check=True, capture_output=True)
    assert contents(tmp_path / "again") == contents(packs["xinhe_vb"])


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_manifest_names_every_file(packs: dict[str, Path]) -> None:
    for bank, folder in packs.items():
        manifest = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        found = contents(folder)
        del found["pack.json"]
        assert (manifest["bank"], manifest["files"]) == (bank, found)


@pytest.mark.parametrize("bank", ["qinghe_rcb", "nordsund_cu"])
def test_a_bank_can_precheck_with_its_pack_alone(packs: dict[str, Path], bank: str) -> None:
    folder = packs[bank] / "precheck"
    alone = Settings.from_environment(
        {"CREDITVILLAGE_CONFIG": str(folder / "config"), "CREDITVILLAGE_EXPECTATIONS": str(folder / "expectations")}
    )
    ws = Workspace(alone)
    assert list(ws.registry.banks) == [bank]
    for feed in (one for one in FEEDS if one[0] == bank):
        expected = json.loads((sample(packs, feed, "bad").parent / "expected_receipt.json").read_text(encoding="utf-8"))
        assert precheck(ws, sample(packs, feed, "bad"), bank).document() == expected


def test_a_pack_is_silent_about_what_counts_silently(packs: dict[str, Path]) -> None:
    shipped = (PROJECT_ROOT / "expectations" / "core_loans.yml").read_text(encoding="utf-8")
    silent = {rule["id"] for rule in yaml.safe_load(shipped)["rules"] if rule["action"] == "shadow"}
    assert silent
    for folder in packs.values():
        assert not [
            path
            for path in folder.rglob("*")
            if path.is_file()
            for rule in silent
            if rule.encode() in path.read_bytes()
        ]


def test_a_pack_speaks_of_its_own_bank_alone(packs: dict[str, Path]) -> None:
    for bank, folder in packs.items():
        others = [other.encode() for other in ENCODINGS if other != bank]
        telling = [path for path in folder.rglob("*") if path.is_file() and any(o in path.read_bytes() for o in others)]
        assert telling == []


def test_the_guide_is_one_page_in_both_languages(packs: dict[str, Path]) -> None:
    for bank, folder in packs.items():
        page = (folder / "guide.html").read_text(encoding="utf-8")
        manifest = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        assert re.search(r"(?:src|href)=\"(?!#)|https?://|url\(|<script", page) is None
        assert page.index("报送说明") < page.index("delivery guide")
        for ruleset in manifest["rulesets"].values():
            assert ruleset in page
        for feed in (one for one in FEEDS if one[0] == bank):
            rules = read_csv(folder / "rules" / f"{feed[1]}.csv", ENCODINGS[bank])
            assert [one["规则 rule"] for one in rules if f"<code>{one['规则 rule']}</code>" not in page] == []
        assert f"<td>2024-03</td><td>{DUE[bank]}</td>" in page
        assert "工作日历未收录" not in page, "the year to come is known"
        assert "{period" not in page


def test_code_lists_are_those_of_the_configuration_in_the_banks_encoding(packs: dict[str, Path]) -> None:
    lists = yaml.safe_load((PROJECT_ROOT / "config/codes/loans.yml").read_text(encoding="utf-8"))
    found = read_csv(packs["baiyun_rcb"] / "codes" / "loans.five_class.csv", "gb18030")
    mapping = {one["报送代码 code"]: one["标准值 value"] for one in found}
    assert mapping == lists["five_class"]["codings"]["east"]
    assert [one["English"] for one in found] == ["normal", "special mention", "substandard", "doubtful", "loss"]


def test_the_template_asks_for_text_and_offers_codes(packs: dict[str, Path]) -> None:
    book = openpyxl.load_workbook(packs["baiyun_rcb"] / "templates" / "loans.xlsx")
    sheet = book.worksheets[0]
    header = [cell.value for cell in sheet[1]]
    assert header[:4] == ["采集日期", "内部机构号", "金融机构代码", "证件类别"]
    assert {cell.number_format for cell in sheet[2]} == {"@"}
    choices = {str(one.sqref).split(":")[0]: one.formula1 for one in sheet.data_validations.dataValidation}
    place = openpyxl.utils.get_column_letter(header.index("贷款五级分类") + 1)
    source = choices[f"{place}2"]
    column, last = re.fullmatch(r"'代码'!\$([A-Z]+)\$2:\$[A-Z]+\$(\d+)", source).groups()  # type: ignore[union-attr]
    listed = [book["代码"][f"{column}{row}"].value for row in range(1, int(last) + 1)]
    assert listed == ["five_class", "正常", "关注", "次级", "可疑", "损失"]


def test_a_filled_template_can_be_sent(packs: dict[str, Path], tmp_path: Path) -> None:
    good = openpyxl.load_workbook(sample(packs, ("xinhe_vb", "loans"), "good"))["贷款台账"]
    book = openpyxl.load_workbook(packs["xinhe_vb"] / "templates" / "loans.xlsx")
    sheet = book["贷款台账"]
    rows: list[list[Any]] = [[cell.value for cell in row] for row in good.iter_rows()]
    assert [cell.value for cell in sheet[2]] == rows[1]
    for number, row in enumerate(rows[2:], start=3):
        for place, value in enumerate(row, start=1):
            sheet.cell(number, place).value = value
    path = tmp_path / FEEDS[("xinhe_vb", "loans")]
    book.save(path)
    found = precheck(Workspace(settings()), path, "xinhe_vb")
    assert (found.rows_read, dict(found.counts_by_rule)) == (len(rows) - 2, {})


def test_people_in_samples_are_plainly_invented(packs: dict[str, Path]) -> None:
    text = sample(packs, ("baiyun_rcb", "loans"), "bad").read_bytes().decode("gb18030")
    numbers = re.findall(r"\b[1-9]\d{16}[\dX]\b", text)
    assert numbers
    assert all(number[14] == "9" for number in numbers)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody", "--out", "{new}"], "no such bank"),
        (["qinghe_rcb", "--out", "{full}"], "not empty"),
        (["qinghe_rcb", "--out", "{new}", "--period", "2023-12"], "choose a month from 2024-01 on"),
        (["qinghe_rcb"], "--out"),
    ],
)
def test_misuse_writes_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    places = {"{new}": str(tmp_path / "new"), "{full}": str(tmp_path / "full")}
    assert run(["pack", *(places.get(one, one) for one in arguments)]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "new").exists()
    shutil.rmtree(tmp_path / "full")
