"""Packages: the promise of a PBoC log, sidecars, and zips that are out to do harm."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile

import pytest

from etl.findings import unreadable
from etl.intake.package import Caps, Package, members, open_zip
from tests.intake.making import cells_of, make_feed, make_layout, make_log, make_pboc, make_zip, read_bytes, rules_of

BODY = "A1|王𠮷|1\nA2|李|2".encode()
LAYOUT = make_layout(header=False, delimiter="|", quote="none")
PBOC = make_feed("pboc")


def opened(content: bytes) -> Package:
    return members(io.BytesIO(content), PBOC, "CLGRDK_1.zip")


def test_a_sound_package_is_read_under_the_name_of_its_member() -> None:
    read = read_bytes(make_pboc(BODY, 2), LAYOUT, PBOC, "CLGRDK_202403.zip")
    assert cells_of(read, "_member", "_row", "loan_no") == [("CLGRDK_1.dat", 1, "A1"), ("CLGRDK_1.dat", 2, "A2")]
    assert read.file_findings == []


def test_the_empty_file_with_a_blank_md5_is_legal() -> None:
    read = read_bytes(make_pboc(b"", 0), LAYOUT, PBOC)
    assert (read.rows_read, read.file_findings) == (0, [])


def test_a_log_with_windows_line_ends_and_a_final_newline_is_read() -> None:
    log = make_log(BODY, 2).replace(b"\n", b"\r\n") + b"\r\n"
    assert rules_of(read_bytes(make_zip({"CLGRDK_1.dat": BODY, "CLGRDK_1.log": log}), LAYOUT, PBOC)) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"md5": "0" * 32}, "P101"),
        ({"size": "7"}, "P102"),
        ({"count": "3"}, "P103"),
        ({"name": "OTHER.dat"}, "P108"),
        ({"md5": "abc"}, "P108"),
        ({"md5": ""}, "P108"),
        ({"size": "-1"}, "P108"),
        ({"count": "2.0"}, "P108"),
        ({"text": "CLGRDK_1.dat\nabc\n10\n2024"}, "P108"),
        ({"text": ""}, "P108"),
        ({"text": "x" * 100_000}, "P108"),
    ],
)  # fmt: skip
def test_each_line_of_the_log_is_held_against_the_data(changes: dict[str, str], rule: str) -> None:
    assert rules_of(read_bytes(make_pboc(BODY, 2, **changes), LAYOUT, PBOC)) == [rule]


def test_damaged_bytes_have_no_rows_but_a_wrong_count_has() -> None:
    damaged = read_bytes(make_pboc(BODY, 2, md5="0" * 32), LAYOUT, PBOC)
    miscounted = read_bytes(make_pboc(BODY, 2, count="3"), LAYOUT, PBOC)
    assert (damaged.rows_read, damaged.table.num_rows, unreadable(damaged.file_findings)) == (0, 0, True)
    assert (miscounted.rows_read, miscounted.table.num_rows, unreadable(miscounted.file_findings)) == (2, 2, False)


def test_bad_lines_count_as_records() -> None:
    body = b"A1|x|1\nA2|x\nA3|x|3"
    assert rules_of(read_bytes(make_pboc(body, 3), LAYOUT, PBOC)) == []


def test_undecodable_data_is_answered_beside_a_wrong_md5() -> None:
    body = b"A1|\xff|1\n" + b"A2|x|2\n" * 200_000
    assert rules_of(read_bytes(make_pboc(body, 200_001), LAYOUT, PBOC)) == ["P104"]
    assert rules_of(read_bytes(make_pboc(body, 200_001, md5="0" * 32), LAYOUT, PBOC)) == ["P104", "P101"]


@pytest.mark.parametrize(
    "names", [["CLGRDK_1.dat"], ["CLGRDK_1.log"], ["CLGRDK_1.dat", "CLGRDK_2.log"], ["CLGRDK_1.dat", "CLGRDK_1.log", "x.txt"]]
)  # fmt: skip
def test_a_package_with_something_missing_or_too_much_is_p108(names: list[str]) -> None:
    content = {name: make_log(BODY, 2) if name.endswith(".log") else BODY for name in names}
    assert set(rules_of(read_bytes(make_zip(content), LAYOUT, PBOC))) == {"P108"}


def test_two_pairs_are_two_members_each_with_its_own_rows() -> None:
    content = {}
    for name in ("A", "B"):
        content |= {f"{name}.dat": BODY, f"{name}.log": make_log(BODY, 2, name=f"{name}.dat")}
    read = read_bytes(make_zip(content), LAYOUT, PBOC)
    assert cells_of(read, "_member", "_row") == [("A.dat", 1), ("A.dat", 2), ("B.dat", 1), ("B.dat", 2)]
    assert read.rows_read == 4


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all" * 100])
def test_what_is_no_zip_is_p107(content: bytes) -> None:
    assert [finding.rule for finding in opened(content).findings] == ["P107"]


def test_a_truncated_zip_is_p107() -> None:
    assert [finding.rule for finding in opened(make_pboc(BODY * 1000, 2000)[:-40]).findings] == ["P107"]


def test_damage_inside_a_member_is_p107() -> None:
    content = bytearray(make_zip({"CLGRDK_1.dat": BODY, "CLGRDK_1.log": make_log(BODY, 2)}, zipfile.ZIP_STORED))
    content[content.index(BODY) + 1] ^= 1
    assert rules_of(read_bytes(bytes(content), LAYOUT, PBOC)) == ["P107"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.dat",
        "a/../../x.dat",
        "..\\x.dat",
        "C:\\x.dat",
        "a\nb.dat",
        "a\u202etad.b.dat",
        "a\u200b.dat",
    ],
)
def test_names_that_lead_elsewhere_are_p107(name: str) -> None:
    found = opened(make_zip({name: b"x"}))
    assert ([finding.rule for finding in found.findings], found.members) == (["P107"], [])


def test_nested_encrypted_and_linked_entries_are_p107() -> None:
    encrypted = bytearray(make_pboc(BODY, 2))
    encrypted[encrypted.rindex(b"PK\x01\x02") + 8] |= 1
    link = io.BytesIO()
    with zipfile.ZipFile(link, "w") as archive:
        entry = zipfile.ZipInfo("CLGRDK_1.dat")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    for content in (make_zip({"x.zip": b"x"}), bytes(encrypted), link.getvalue()):
        assert [finding.rule for finding in opened(content).findings] == ["P107"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_p107() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("CLGRDK_1.dat", b"one")
        archive.writestr("CLGRDK_1.dat", b"two")
    assert [finding.rule for finding in opened(file.getvalue()).findings] == ["P107"]


def test_bombs_are_refused_by_their_directory() -> None:
    zeros = make_zip({"CLGRDK_1.dat": b"0" * (32 << 20)})
    many = make_zip({f"{number}.dat": b"" for number in range(100)})
    for content in (zeros, many):
        assert open_zip(io.BytesIO(content), "x.zip", Caps())[0] is None
    large = make_zip({"a.dat": b"x" * 2000}, zipfile.ZIP_STORED)
    assert open_zip(io.BytesIO(large), "x.zip", Caps(member_bytes=1000))[0] is None
    assert open_zip(io.BytesIO(large), "x.zip", Caps(total_bytes=1000))[0] is None
    assert open_zip(io.BytesIO(large), "x.zip", Caps())[0] is not None


def test_a_directory_that_lies_about_the_size_gives_no_more_than_it_promised() -> None:
    content = bytearray(make_zip({"CLGRDK_1.dat": b"0" * 100_000, "CLGRDK_1.log": make_log(b"0" * 100_000, 1)}))
    place = content.index(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 10)
    assert rules_of(read_bytes(bytes(content), LAYOUT, PBOC))[0] == "P107"


def test_overlapping_entries_are_p107() -> None:
    content = bytearray(make_zip({"CLGRDK_1.dat": BODY * 20, "CLGRDK_1.log": b"x"}, zipfile.ZIP_STORED))
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 0)
    assert [finding.rule for finding in opened(bytes(content)).findings] == ["P107"]


def test_a_sidecar_states_the_hash_of_the_file() -> None:
    feed, layout = make_feed("sidecar"), make_layout(header=False)
    digest = hashlib.sha256(b"A1,x,1").hexdigest()

    def found(sidecar: bytes) -> list[str]:
        return rules_of(read_bytes(b"A1,x,1", layout, feed, sidecar=sidecar, sha256=digest))

    assert found(f"{digest.upper()}  loans.csv\n".encode()) == []
    assert found(b"0" * 64) == ["P101"]
    assert found(b"") == ["P108"]
