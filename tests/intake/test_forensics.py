"""Forensics: a cause is named only on evidence, in words that show no cell, and whatever was found by whom."""

from __future__ import annotations

import io
import json
import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.contract.context import Context
from etl.contract.model import Contract, load_contracts
from etl.findings import FileFinding
from etl.intake.forensics import TEXTS, Case, diagnose
from etl.intake.forensics.encodings import found_encoding
from etl.intake.forensics.samples import HEAD_BYTES, SCAN_BYTES, TAIL_BYTES, WINDOW_BYTES, sample_delivery
from etl.intake.strings import Strings
from etl.registry import CodeLists, Feed, load_registry
from etl.settings import PROJECT_ROOT
from simulator import simulate
from tests.intake.corpus.entries import Entry
from tests.intake.corpus.sound import identity_values
from tests.intake.making import make_feed, make_layout, read_delivery

KINDS = [("qinghe_rcb", "loans"), ("qinghe_rcb", "loan_flows"), ("baiyun_rcb", "loans"), ("xinhe_vb", "loans")]
SIMPLIFIED = "农户贷款借据种植养殖机械余额到期日期正常关注次级可疑损失信用保证抵押"
TRADITIONAL = "農戶貸款借據種植養殖機械餘額到期日期正常關注次級可疑損失信用保證抵押"
MARCH = Context(date(2024, 3, 1), date(2024, 3, 31), [], [], [], "", [])


@cache
def contract_of(dataset: str) -> Contract:
    return load_contracts([PROJECT_ROOT / "expectations"]).for_dataset(dataset)


@cache
def code_lists() -> CodeLists:
    return load_registry([PROJECT_ROOT / "config"]).codes


def case_of(content: bytes, feed: Feed, dataset: str, found: list[tuple[str, int, str]], name: str = "file") -> Case:
    """A delivery of these bytes of which somebody says that (member, row, rule) was found."""
    strings = read_delivery(io.BytesIO(content), name, feed, feed.layouts[0], "d")
    return Case(
        name=name,
        feed=feed,
        layout=feed.layouts[0],
        contract=contract_of(dataset),
        context=MARCH,
        codes=code_lists(),
        strings=strings,
        findings=findings_table(found),
        file_findings=strings.file_findings,
        open_landed=lambda: io.BytesIO(content),
    )


def findings_table(found: list[tuple[str, int, str]]) -> pa.Table:
    schema = pa.schema([("_member", pa.string()), ("_row", pa.int64()), ("rule", pa.string())])
    return pa.Table.from_pylist(
        [{"_member": member, "_row": row, "rule": rule} for member, row, rule in found], schema=schema
    )


def places_of(strings: Strings) -> list[tuple[str, int]]:
    rows = strings.table.select(["_member", "_row"]).to_pylist()
    return [(row["_member"], row["_row"]) for row in rows]


def refused_everywhere(case: Case) -> list[tuple[str, int, str]]:
    """Every rule says of every row that it is wrong."""
    rules = [rule.id for rule in case.contract.row_rules]
    return [(member, row, rule) for member, row in places_of(case.strings) for rule in rules]


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_sound_rows_have_no_cause_whatever_is_said_of_them(kind: tuple[str, str]) -> None:
    entry = Entry("sound", "nothing", kind[0], {}, dataset=kind[1])
    clean = case_of(entry.content(), entry.agreed_feed(), kind[1], [], entry.file_name)
    assert (clean.strings.rows_read, diagnose(clean)) == (30, [])
    slandered = case_of(entry.content(), entry.agreed_feed(), kind[1], refused_everywhere(clean), entry.file_name)
    assert [found.code for found in diagnose(slandered)] == []


@pytest.fixture(scope="module")
def county(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One month of a small synthetic county, mistakes and all."""
    folder = tmp_path_factory.mktemp("county")
    simulate(folder, "2024-03", 1_000, 7)
    return folder


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_simulated_files_without_their_mistakes_have_no_cause(county: Path, kind: tuple[str, str]) -> None:
    bank, dataset = kind
    feed = load_registry([PROJECT_ROOT / "config"]).banks[bank].feeds[dataset]
    wanted = {"loan_flows": "GRDKFS*"}.get(dataset, "[!G]*")
    [path] = [path for path in (county / "drop" / bank).glob(wanted) if path.suffix != ".ok"]
    case = case_of(path.read_bytes(), feed, dataset, [], path.name)
    assert diagnose(case) == []
    rejected = rows_with_mistakes(county, path.name)
    rules = [rule.id for rule in case.contract.row_rules]
    sound = [place for place in places_of(case.strings) if place[1] not in rejected]
    found = [(member, row, rule) for member, row in sound[:200] for rule in rules]
    assert len(sound) > 20
    case = case_of(path.read_bytes(), feed, dataset, found, path.name)
    assert [one.code for one in diagnose(case) if one.code not in ("line_break_in_text", "delimiter_in_text")] == []


def rows_with_mistakes(county: Path, name: str) -> set[int]:
    """Rows of a file that the simulator broke on purpose."""
    truth = json.loads((county / "truth.json").read_text(encoding="utf-8"))["periods"]["2024-03"]
    return {finding["row"] for finding in truth["findings"] if finding["file"] == name}


COLUMNS = ["loan_no", "balance_yuan", "five_class", "issued_on", "annual_rate_pct", "as_of_on", "borrower_id_no"]
ROWS = st.lists(
    st.tuples(
        st.from_regex(r"[A-Z]{2}[0-9]{8}", fullmatch=True),
        st.decimals(0, 2_000_000, places=2).map(str),
        st.sampled_from(["FQ01", "FQ02", "FQ03", "FQ04", "FQ05"]),
        st.dates(date(2000, 1, 1), date(2024, 3, 31)).map(str),
        st.decimals("1.00", "36.00", places=2).map(str),
        st.just("2024-03-31"),
        st.from_regex(r"34118119[6-9][0-9]0[1-9]1[0-9]9[0-9]{2}[0-9X]", fullmatch=True).filter(lambda t: t[-3:] != "000"),
    ),
    min_size=12,
    max_size=30,
    unique_by=lambda row: row[0],
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, data=st.data(), encoding=st.sampled_from(["utf-8", "gb18030"]), delimiter=st.sampled_from(",|;\t"))
def test_random_valid_tables_have_no_cause(rows: Any, data: st.DataObject, encoding: str, delimiter: str) -> None:
    layout = make_layout(columns=COLUMNS, header=True, encoding=encoding, delimiter=delimiter)
    feed = make_feed().model_copy(update={"layouts": [layout]})
    lines = [delimiter.join(COLUMNS), *(delimiter.join(row) for row in rows)]
    content = ("\n".join(lines) + data.draw(st.sampled_from(["", "\n"]))).encode(encoding)
    rules = [rule.id for rule in contract_of("loans").row_rules]
    some = st.lists(st.tuples(st.just("file"), st.integers(1, len(rows)), st.sampled_from(rules)), max_size=20)
    if sum(float(row[1]) > 200 for row in rows) == 0:
        return  # thirty notes of at most 200 yuan are evidence
    assert diagnose(case_of(content, feed, "loans", data.draw(some))) == []


def test_messages_show_no_cell() -> None:
    """Everything is wrong with this file; what is said of it holds neither its numbers nor its names."""
    entry = Entry("x", "x", "baiyun_rcb", {}, make={"each": {
        "borrower_id_no": {"as": "masked", "rows": [1]}, "balance_yuan": {"as": "thousands", "rows": [1]},
        "issued_on": {"as": "serial", "rows": [1]}, "five_class": {"as": "label", "rows": [1]},
    }})  # fmt: skip
    feed = entry.agreed_feed()
    clean = case_of(entry.content(), feed, "loans", [])
    found = diagnose(case_of(entry.content(), feed, "loans", refused_everywhere(clean)))
    text = json.dumps([one.document() for one in found], ensure_ascii=False)
    assert {one.code for one in found} == {
        "masked_number", "thousands_separators", "excel_serial_date", "label_with_code"
    }  # fmt: skip
    cells = {cell for row in clean.strings.table.to_pylist() for cell in map(str, row.values()) if len(cell) > 4}
    assert [value for value in (*identity_values(30), *cells) if value in text] == []


def test_a_cause_says_where_and_how_often() -> None:
    entry = Entry("x", "x", "qinghe_rcb", {}, make={"each": {"balance_yuan": {"as": "thousands", "rows": [4, 9]}}})
    member = "CLGRDK_202403.dat"
    found = [(member, 4, "L005"), (member, 9, "L005"), (member, 11, "L005")]
    [one] = diagnose(case_of(entry.content(), entry.agreed_feed(), "loans", found, "CLGRDK_202403.zip"))
    assert one.document() == {
        "code": "thousands_separators", "member": "", "field": "balance_yuan", "column_as_delivered": "balance_yuan",
        "rows": 2, "of_rows": 3, "places": [4, 9], "explains": ["L005"],
        "message_zh": "“balance_yuan”有 2/3 个值带千分位（如第 4、9 条）",
        "message_en": "2 of 3 refused cells of balance_yuan hold thousands separators (such as row 4, 9)",
        "repair_zh": "请去掉千分位", "repair_en": "write numbers without separators",
    }  # fmt: skip


@pytest.mark.parametrize("code", TEXTS)
def test_every_text_stands_in_both_languages(code: str) -> None:
    text = TEXTS[code]
    placeholders = [set(re.findall(r"{(\w+)}", part)) for part in text]
    assert placeholders[0] == placeholders[1]
    assert placeholders[2] == placeholders[3]
    assert all(re.search("[一-鿿]", part) for part in (text.zh, text.repair_zh))
    assert all(re.search("[a-z]{3}", part) for part in (text.en, text.repair_en))


@settings(max_examples=200, deadline=None)
@given(
    places=st.lists(st.integers(0, len(SIMPLIFIED) - 1), min_size=24, max_size=34, unique=True),
    written=st.sampled_from(["utf-8", "gb18030", "big5", "utf-16"]),
    agreed=st.sampled_from(["utf-8", "gb18030"]),
)
def test_encodings_are_told_apart(places: list[int], written: str, agreed: str) -> None:
    letters = TRADITIONAL if written == "big5" else SIMPLIFIED
    lines = [f"A{number}|{letters[place]}{letters[-place]}|1.00" for number, place in enumerate(places)]
    octets = "\n".join(lines).encode(written)
    found = found_encoding(octets, octets, agreed)
    assert (found.encoding if found else agreed) == written  # of a handful of different characters nobody could tell


@pytest.mark.parametrize(
    "octets",
    [
        "啊阿埃挨哎唉".encode("gb18030") * 9,  # common characters in GB18030 and in Big5 alike
        "Müller|Größe|Café|Señor|Łódź\n".encode("cp1250", "ignore") * 9,
        bytes(range(0x81, 0xFE)) * 9,
    ],
)
def test_an_encoding_that_could_be_either_or_none_is_not_named(octets: bytes) -> None:
    assert found_encoding(octets, octets, "utf-8") is None


def test_a_sample_is_bounded_whatever_the_size() -> None:
    class Endless(io.RawIOBase):
        """A file of 1 TiB."""

        def __init__(self) -> None:
            self.given, self.place = 0, 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.place = (1 << 40 if whence == 2 else 0) + offset
            return self.place

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return "值".encode() * (size // 3)

    file = Endless()
    [sample] = sample_delivery(lambda: file, "x", make_feed(), keyring=None, scratch=None)
    assert file.given <= SCAN_BYTES + (1 << 18) + TAIL_BYTES
    assert (len(sample.head), len(sample.window)) == (HEAD_BYTES, WINDOW_BYTES)
    assert len(sample.tail) <= TAIL_BYTES
    assert not sample.is_whole


def test_a_finding_without_evidence_in_the_bytes_has_no_cause() -> None:
    feed = make_feed()
    case = case_of(b"loan_no,borrower_name,balance_yuan\nA1,x,1\n", feed, "loans", [])
    slandered = Case(**{**vars(case), "file_findings": [FileFinding(rule, "file", "x", "x", "x") for rule in (
        "P101", "P102", "P103", "P104", "P105", "P106", "P107", "P108")]})  # fmt: skip
    assert diagnose(slandered) == []
