"""JSON Lines: flat objects, numbers in their own words, everything else a finding."""

from __future__ import annotations

import json

import pytest

from etl.intake import json_lines
from tests.intake.making import NAMES, cells_of, make_layout, read_bytes, rules_of

LAYOUT = make_layout(format="json_lines", ignore=["borrower_name"])
ALL = make_layout(format="json_lines")


def test_values_keep_the_text_they_were_written_in() -> None:
    lines = ['{"loan_no":"A1","borrower_name":null,"balance_yuan":1.50}', '{"balance_yuan":1e3,"loan_no":12345678901234567890}',
             '{"loan_no":true,"borrower_name":"王𠮷","balance_yuan":""}']  # fmt: skip
    read = read_bytes("\n".join(lines).encode(), ALL, name="m.jsonl")
    assert cells_of(read, "_row", "_line", *NAMES) == [
        (1, 1, "A1", "", "1.50"),
        (2, 2, "12345678901234567890", "", "1e3"),
        (3, 3, "true", "王𠮷", ""),
    ]
    assert (read.rows_read, read.file_findings, read.row_findings) == (3, [], [])


@pytest.mark.parametrize(
    "line", ["{", "[1]", "7", "nothing", '{"loan_no":{"a":1}}', '{"loan_no":[1]}', '{"loan_no":1,"loan_no":2}',
             '{"loan_no":NaN}', "", "[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_not_one_flat_object_is_p201_and_keeps_its_number(line: str) -> None:
    read = read_bytes(f'{{"loan_no":"A1"}}\n{line}\n{{"loan_no":"A3"}}\n'.encode(), LAYOUT)
    assert cells_of(read, "_row", "loan_no") == [(1, "A1"), (3, "A3")]
    assert [(found.rule, found.row, found.line) for found in read.row_findings] == [("P201", 2, 2)]
    assert read.rows_read == 3


def test_a_key_nobody_agreed_on_is_p106_for_the_file() -> None:
    read = read_bytes(b'{"loan_no":"A1","x":1}\n{"loan_no":"A2","x":1,"borrower_name":"y"}', LAYOUT)
    assert rules_of(read) == ["P106"]
    assert cells_of(read, "loan_no") == [("A1",), ("A2",)]


def test_batches_do_not_change_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "BATCH_ROWS", 3)
    content = "\n".join(json.dumps({"loan_no": f"A{row}"}) for row in range(1, 11)).encode() + b"\n\n\n"
    read = read_bytes(content, LAYOUT)
    assert cells_of(read, "_row", "loan_no") == [(row, f"A{row}") for row in range(1, 11)]


def test_encoding_and_size_are_watched() -> None:
    assert rules_of(read_bytes(b'{"loan_no":"\xff"}', LAYOUT)) == ["P104"]
    assert rules_of(read_bytes(b"x" * (3 << 20), LAYOUT)) == ["P107"]
    assert rules_of(read_bytes(b"", LAYOUT)) == []
