"""A bank that delivers MD5 of identity numbers: the same loans reach the same households, and no digest leaves."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from etl import pipeline
from tests.acceptance.county import NOW, County, SmallCounty, county_at, three_towns

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

PERIOD, BANK = "2024-02", "baiyun_rcb"
ID_COLUMNS = ("证件号码", "共同借款人证件号码")
ABOUT_NUMBERS = ("L131", "L133")


@pytest.fixture(scope="module")
def plain(small: SmallCounty) -> Iterator[County]:
    with small.after("february") as lived:
        yield lived


@pytest.fixture(scope="module")
def digested(tmp_path_factory: pytest.TempPathFactory, small: SmallCounty) -> Iterator[County]:
    """The same month, with the numbers of one bank as digests; its file is taken in before the register is pulled."""
    folder = tmp_path_factory.mktemp("digested")
    config = three_towns(folder / "config")
    path = config / "banks" / f"{BANK}.yml"
    bank = yaml.safe_load(path.read_text(encoding="utf-8"))
    bank["feeds"]["loans"]["id_form"] = "md5"
    path.write_text(yaml.safe_dump(bank, allow_unicode=True), encoding="utf-8")
    with county_at(folder / "home", **small.beginnings | {"config": config}) as lived:
        lived.deliver(PERIOD)
        for file in (lived.settings.drop / BANK).glob("*.csv"):
            digest_numbers(file)
        for delivery in pipeline.scan(lived.settings, now=NOW, quiet_seconds=0.0):
            pipeline.take_in(lived.settings, delivery.delivery_id, now=NOW)
        lived.take_in(PERIOD)
        pipeline.grade_period(lived.settings, PERIOD, now=NOW)
        pipeline.publish_period(lived.settings, PERIOD, now=NOW)
        yield lived


def digest_numbers(file: Path) -> None:
    """As a bank's export does it: MD5 of the trimmed number with X in capitals, in hexadecimal of either case."""
    seen = file.stat()
    with file.open(encoding="gb18030", newline="") as source:
        rows = list(csv.DictReader(source))
    for number, row in enumerate(rows):
        for name in ID_COLUMNS:
            if row[name].strip():
                text = hashlib.md5(row[name].strip().replace("x", "X").encode()).hexdigest()
                row[name] = text if number % 2 else text.upper()
    with file.open("w", encoding="gb18030", newline="") as sink:
        writer = csv.DictWriter(sink, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.utime(file, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def loans(county: County) -> dict[str, tuple[object, ...]]:
    query = (
        "SELECT loan_key, person_key, household_key, co_person_key, balance_yuan, five_class, note_state, input_state "
        "FROM core.core_loans WHERE period = :period AND bank_code = :bank"
    )
    return {str(row[0]): row[1:] for row in county.rows(query, period=PERIOD, bank=BANK)}


def test_every_loan_reaches_its_household(plain: County, digested: County) -> None:
    """A borrower who is on nobody's list of members stays unknown: nothing says whose digest it is."""
    expected = {note: row for note, row in loans(plain).items() if row[1] is not None}
    assert len(expected) > 20
    assert loans(digested) == expected


def test_what_looks_into_numbers_is_not_run(digested: County, plain: County) -> None:
    (mine,) = [one for one in digested.ledger.deliveries(PERIOD) if one.supplier == BANK]
    (theirs,) = [one for one in plain.ledger.deliveries(PERIOD) if one.supplier == BANK]
    assert "L132" not in mine.details["shadow"]
    assert list(mine.not_checked) == list(theirs.not_checked)  # a shadow rule is never named
    kept = {rule: hits for rule, hits in theirs.counts_by_rule.items() if rule not in ABOUT_NUMBERS}
    assert dict(mine.counts_by_rule) == kept


def test_no_digest_and_no_map_leaves_the_restricted_zone(digested: County) -> None:
    numbers = [value for value in digested.canaries(PERIOD) if len(value) == 18 and value[:17].isdigit()]
    digests = {hashlib.md5(number.encode()).hexdigest() for number in numbers}
    assert digests
    needles = [digest.encode() for digest in (*digests, *(digest.upper() for digest in digests))]
    maps = list((digested.settings.restricted / "digests").rglob("*.parquet"))
    assert maps
    for path in (digested.settings.outbox, digested.settings.lake):
        for file in path.rglob("*"):
            content = file.read_bytes() if file.is_file() else b""
            assert not [needle for needle in needles if needle in content], file
    assert not [content for content in (one.read_bytes() for one in maps) if any(n in content for n in needles)]
