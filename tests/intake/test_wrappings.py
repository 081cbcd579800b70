"""gzip, zip and what is wrapped in one another: bounded, complete, and opened only as agreed."""

from __future__ import annotations

import gzip
import hashlib
import io
import warnings
import zipfile
import zlib
from typing import Any

import pytest

from etl.intake import package
from etl.intake.package import Caps, members
from etl.registry import Feed
from tests.intake.making import NAMES, cells_of, make_feed, make_layout, make_pboc, make_zip, read_bytes, rules_of

BODY = "loan_no,borrower_name,balance_yuan\nA1,王𠮷,1\nA2,李,2\n".encode()
ROWS = [("A1", "王𠮷", "1"), ("A2", "李", "2")]
GZIP, ZIP = make_feed("gzip"), make_feed("zip")
NUMBERED = make_feed("zip", parts="numbered")


def part(number: int) -> bytes:
    return f"loan_no,borrower_name,balance_yuan\nA{number},x,{number}\n".encode()


def read_parts(names: list[str], feed: Feed = NUMBERED) -> Any:
    content = {name: part(number) for number, name in enumerate(names, start=1)}
    return read_bytes(make_zip(content), make_layout(), feed, "LOANS.zip")


def test_a_gzip_file_is_read_under_its_name_without_the_ending() -> None:
    read = read_bytes(gzip.compress(BODY), make_layout(), GZIP, "LOANS_202403.csv.gz")
    assert cells_of(read, "_member", "_row", *NAMES) == [
        ("LOANS_202403.csv", row, *cells) for row, cells in enumerate(ROWS, start=1)
    ]
    assert read.file_findings == []


def test_several_gzip_members_are_one_text() -> None:
    read = read_bytes(gzip.compress(BODY[:50]) + gzip.compress(b"") + gzip.compress(BODY[50:]), make_layout(), GZIP)
    assert cells_of(read, *NAMES) == ROWS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        BODY,
        gzip.compress(BODY)[:-1],
        gzip.compress(BODY)[:12],
        gzip.compress(BODY) + b"garbage",
        gzip.compress(BODY)[:-8] + b"\0" * 8,
        make_zip({"a.csv": BODY}),
        zlib.compress(BODY),
    ],
    ids=["empty", "plain", "a byte short", "cut", "garbage behind", "wrong checksum", "zip", "zlib"],
)
def test_what_is_no_whole_gzip_file_is_p107(content: bytes) -> None:
    read = read_bytes(content, make_layout(), GZIP)
    assert (rules_of(read), read.table.num_rows, read.rows_read) == (["P107"], 0, 0)


def test_a_gzip_bomb_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    plain_read = package._BoundedGzip.read

    def counting(self: package._BoundedGzip, size: int = -1) -> bytes:
        data = plain_read(self, size)
        taken.append(len(data))
        return data

    monkeypatch.setattr(package._BoundedGzip, "read", counting)
    bomb = gzip.compress(b"1,x,1\n" * (20 << 20))
    read = read_bytes(bomb, make_layout(header=False), GZIP)
    assert [finding.message_en for finding in read.file_findings] == ["it unpacks to too much"]
    assert sum(taken) <= Caps().ratio_free_bytes + package.READ_BYTES < 120 << 20


def test_a_gzip_file_inside_a_gzip_file_is_not_opened() -> None:
    assert rules_of(read_bytes(gzip.compress(gzip.compress(BODY)), make_layout(), GZIP)) in (["P104"], ["P107"])


def test_a_zip_with_one_file() -> None:
    read = read_bytes(make_zip({"folder/": b"", "folder/贷款.csv": BODY}), make_layout(), ZIP)
    assert cells_of(read, "_member", "loan_no") == [("folder/贷款.csv", "A1"), ("folder/贷款.csv", "A2")]


@pytest.mark.parametrize("names", [[], ["folder/"], ["a.csv", "b.csv"], ["a.csv", "__MACOSX/._a.csv"]])
def test_a_zip_with_another_number_of_files_is_p108(names: list[str]) -> None:
    read = read_bytes(make_zip(dict.fromkeys(names, BODY)), make_layout(), ZIP)
    assert (rules_of(read), read.table.num_rows) == (["P108"], 0)


def test_parts_are_read_in_the_order_of_their_numbers() -> None:
    names = [f"LOANS_{number}of11.csv" for number in (2, 1, 11, 10, 9, 8, 7, 6, 5, 4, 3)]
    read = read_parts(names)
    assert read.file_findings == []
    members_read = list(dict.fromkeys(member for (member,) in cells_of(read, "_member")))
    assert members_read == [f"LOANS_{number}of11.csv" for number in range(1, 12)]
    assert (read.rows_read, {row for (row,) in cells_of(read, "_row")}) == (11, {1})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["L_1of3.csv", "L_3of3.csv"], "part 2 of 3"),
        (["L_2of2.csv"], "part 1 of 2"),
        (["L_1of2.csv", "L_2of2.csv", "L_3of2.csv"], "part 3 of 2"),
        (["L_0of1.csv", "L_1of1.csv"], "part 1 of 1 is missing or too much"),
        (["L_1of2.csv", "M_2of2.csv"], "of one name"),
        (["L_1of2.csv", "L_2of3.csv"], "of one name"),
        (["L_1of2.csv", "L_01of2.csv"], "of one name"),
        (["L_1of1.csv", "readme.txt"], "of one name"),
        (["L.csv"], "of one name"),
        ([], "of one name"),
    ],
)
def test_parts_that_are_not_complete_are_p108(names: list[str], said: str) -> None:
    read = read_parts(names)
    assert (rules_of(read), read.table.num_rows) == (["P108"], 0)
    assert said in read.file_findings[0].message_en


def test_any_files_are_parts_where_the_feed_says_so() -> None:
    read = read_parts(["b.csv", "a.csv"], make_feed("zip", parts="any"))
    assert cells_of(read, "_member", "loan_no") == [("a.csv", "A2"), ("b.csv", "A1")]


def test_one_bad_part_spoils_the_delivery() -> None:
    content = make_zip({"L_1of2.csv": BODY, "L_2of2.csv": b"loan_no,borrower_name,balance_yuan\nA3,\xff,3\n"})
    read = read_bytes(content, make_layout(), NUMBERED)
    assert (rules_of(read), read.table.num_rows) == (["P104"], 0)


@pytest.mark.parametrize(
    ("feed", "content"),
    [
        (make_feed("zip"), make_zip({"../x.csv": BODY})),
        (make_feed("zip"), make_zip({"x.csv.gz": gzip.compress(BODY)})),
        (make_feed("zip"), make_zip({"a.csv": b"0" * (32 << 20)})),
        (make_feed("zip"), make_zip({f"{number}.csv": b"" for number in range(100)})),
        (make_feed("gzip", inside="zip"), gzip.compress(make_zip({"/x.csv": BODY}))),
        (make_feed("gzip", inside="zip"), gzip.compress(b"0" * (64 << 20))),
        (make_feed("gzip", inside="zip"), gzip.compress(BODY)),
        (make_feed("gzip", inside="zip"), make_zip({"a.csv": BODY})),
    ],
    ids=["upwards", "nested", "bomb", "many", "absolute", "gzip bomb", "no zip", "no gzip"],
)
def test_harmful_packages_are_p107(feed: Feed, content: bytes) -> None:
    read = read_bytes(content, make_layout(), feed)
    assert (rules_of(read), read.table.num_rows) == (["P107"], 0)


def test_layers_are_opened_as_agreed() -> None:
    def rows(content: bytes, **feed: Any) -> Any:
        return cells_of(read_bytes(content, make_layout(), make_feed(**feed)), *NAMES)

    assert rows(gzip.compress(make_zip({"a.csv": BODY})), package="gzip", inside="zip") == ROWS
    assert rows(gzip.compress(gzip.compress(BODY)), package="gzip", inside="gzip") == ROWS
    layout = make_layout(header=False, delimiter="|", quote="none")
    pboc = read_bytes(gzip.compress(make_pboc(b"A1|x|1", 1)), layout, make_feed("gzip", inside="pboc"))
    assert (cells_of(pboc, *NAMES), pboc.file_findings) == ([("A1", "x", "1")], [])


def test_a_sidecar_speaks_of_the_packed_file() -> None:
    content = gzip.compress(BODY)
    digest = hashlib.sha256(content).hexdigest()
    feed = make_feed("sidecar", inside="gzip")
    read = read_bytes(content, make_layout(), feed, sidecar=digest.encode(), sha256=digest)
    assert (cells_of(read, *NAMES), read.file_findings) == (ROWS, [])
    assert rules_of(read_bytes(content, make_layout(), feed, sidecar=b"0" * 64, sha256=digest)) == ["P101"]


def test_unpacked_files_have_no_name_and_go_with_the_package(tmp_path: Any) -> None:
    content = io.BytesIO(gzip.compress(make_zip({"a.csv": BODY})))
    opened = members(content, make_feed("gzip", inside="zip"), "a.gz", scratch=tmp_path)
    assert (len(opened.scratch), list(tmp_path.iterdir())) == (1, [])
    opened.close()
    assert all(file.closed for file in opened.scratch)


def test_many_entries_and_duplicate_names_are_p107() -> None:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a.csv", BODY)
        archive.writestr("a.csv", BODY)
    assert rules_of(read_bytes(file.getvalue(), make_layout(), ZIP)) == ["P107"]
