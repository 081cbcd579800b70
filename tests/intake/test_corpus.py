"""The corpus: every bad delivery ends in exactly one outcome with one harmless receipt, and a good bank feels nothing."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from etl.intake.forensics import TEXTS
from etl.ledger.records import Delivery
from etl.ledger.repository import Ledger
from etl.local.postgres import EmbeddedPostgres
from etl.settings import Settings
from tests.conftest import fresh_database
from tests.intake.corpus.entries import Entry, entries
from tests.intake.corpus.sound import identity_values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # on a busy machine; about a minute of one core
GOOD = (
    Entry("good", "nothing", "qinghe_rcb", {}),
    Entry("good", "nothing", "qinghe_rcb", {}, dataset="loan_flows"),
    Entry("good", "nothing", "baiyun_rcb", {}),
    Entry("good", "nothing", "xinhe_vb", {}),
    Entry("good", "nothing", "mediation", {}, dataset="mediation"),
)
PEAK_MIB = 700
# an identity number with a possible date of birth, or a mobile number standing alone: also those the tables do not hold
PERSONAL_NUMBER = re.compile(
    r"[1-8][0-9]{5}(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]"
    r"|(?<![0-9])1[3-9][0-9]{9}(?![0-9])"
)
# hashes, key marks and signatures: a run of eleven digits in them is nobody's telephone
MARKS = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{16,64}(?![0-9A-Za-z])|[0-9A-Za-z+/]{60,}={0,2}")
_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


@dataclass(frozen=True)
class Corpus:
    """What became of everything that was dropped."""

    settings: Settings
    deliveries: list[Delivery]
    failures: dict[str, str]
    peak_kib: int
    places: dict[str, Path]

    @cached_property
    def by_address(self) -> dict[str, list[Delivery]]:
        found: dict[str, list[Delivery]] = {}
        for delivery in self.deliveries:
            found.setdefault(delivery.address, []).append(delivery)
        return found

    def of(self, place: Path) -> list[Delivery]:
        return self.by_address.get(str(place), [])

    def receipts(self, delivery: Delivery, ending: str) -> list[Path]:
        folder = self.settings.outbox / delivery.supplier
        return sorted(folder.rglob(f"*.{delivery.delivery_id}.receipt.{ending}"))


@pytest.fixture(scope="module")
def corpus(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: EmbeddedPostgres,
    template_database: str,
) -> Iterator[Corpus]:
    """All entries that were selected (`-k name` is fast) and good banks beside them, taken in by one process."""
    given = [getattr(item, "callspec", None) for item in request.session.items]
    selected = [entry for spec in given if spec and isinstance(entry := spec.params.get("entry"), Entry)]
    home = tmp_path_factory.mktemp("corpus")
    for url in fresh_database(postgres, template_database):
        environment = {
            "CREDITVILLAGE_HOME": str(home / "home"),
            "CREDITVILLAGE_CONFIG": str(home / "config"),
            "CREDITVILLAGE_WAREHOUSE_URL": url,
        }
        (home / "config" / "banks").mkdir(parents=True)
        settings = Settings.from_environment(environment)
        places = {entry.name: entry.deliver(settings.drop, home / "config") for entry in selected if entry not in GOOD}
        places |= {entry.file_name: _good(entry, settings.drop) for entry in GOOD}
        answer = _run(environment, home / "answer.json")
        ledger = Ledger(url)
        yield Corpus(settings, ledger.deliveries(), answer["failures"], answer["peak_kib"], places)
        ledger.close()


def _good(entry: Entry, drop: Path) -> Path:
    """A sound file of a shipped bank in its own drop zone."""
    folder = drop / (entry.zone if entry.is_of_towns else entry.bank)
    folder.mkdir(exist_ok=True)
    return entry.drop_into(folder)


def _run(environment: dict[str, str], answer_to: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.intake.corpus.run", str(answer_to)]
    subprocess.run(command, check=True, env={**os.environ, **environment}, timeout=540)
    content: dict[str, Any] = json.loads(answer_to.read_text(encoding="utf-8"))
    return content


def test_the_corpus_is_large_enough() -> None:
    assert len(entries()) >= 150


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_a_bad_delivery_is_answered(corpus: Corpus, entry: Entry) -> None:
    place = corpus.places[entry.name]
    if "not_taken" in entry.expect:
        assert corpus.of(place) == []
        assert note_of(corpus, entry) == entry.expect["not_taken"]
        return
    [delivery] = corpus.of(place)
    assert corpus.failures.get(delivery.delivery_id) is None
    assert delivery.outcome == entry.expect["outcome"]
    document = receipt_of(corpus, delivery)
    assert document["in_force"] == delivery.outcome.startswith("accepted")
    receipts = len(list((corpus.settings.outbox / entry.code).rglob("*.receipt.json")))
    assert entry.is_of_towns or receipts == 1 + bool(entry.again)
    assert_expected(entry, document)
    assert_harmless(corpus, delivery)


@pytest.mark.parametrize("entry", [entry for entry in entries() if entry.again], ids=lambda entry: entry.name)
def test_the_same_bytes_again_are_a_duplicate(corpus: Corpus, entry: Entry) -> None:
    [again] = corpus.of(corpus.places[entry.name].with_name(entry.again))
    document = receipt_of(corpus, again)
    assert (again.outcome, document["in_force"], document["findings"]) == ("duplicate", False, [])


def note_of(corpus: Corpus, entry: Entry) -> str:
    """The reason in the bank's note of what was left lying; empty when it has none."""
    if not (corpus.settings.outbox / entry.code).exists():
        return ""
    [line] = (corpus.settings.outbox / entry.code / "not_taken.txt").read_text(encoding="utf-8").splitlines()
    return line.split("\t")[1]


def receipt_of(corpus: Corpus, delivery: Delivery) -> dict[str, Any]:
    """The one JSON receipt, with one CSV beside it that says the same."""
    [path] = corpus.receipts(delivery, "json")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert (document["delivery_id"], document["outcome"]) == (delivery.delivery_id, delivery.outcome)
    rows = list(csv.DictReader(io.StringIO(csv_of(corpus, delivery), newline="")))
    counted: dict[str, int] = {}
    for row in rows:
        counted[row["rule"]] = counted.get(row["rule"], 0) + 1
    assert counted == document["counts_by_rule"]
    return document


def csv_of(corpus: Corpus, delivery: Delivery) -> str:
    [path] = corpus.receipts(delivery, "csv")
    octets = path.read_bytes()
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("gb18030")


def assert_expected(entry: Entry, document: dict[str, Any]) -> None:
    """Exactly the rules, rows and diagnoses that the entry names."""
    found: dict[str, list[int | None]] = {}
    for finding in document["findings"]:
        found.setdefault(finding["rule"], []).append(finding["row"])
    shown = {rule: rows if None not in rows else len(rows) for rule, rows in found.items()}
    assert shown == {rule: _rows(rows) for rule, rows in entry.expect.get("findings", {}).items()}
    assert document["rows_read"] == entry.expect.get("rows_read", 30)
    assert document["rows_rejected"] == entry.expect.get("rows_rejected", len(_all_rows(entry)))
    assert [one["code"] for one in document["diagnoses"]] == entry.expect.get("diagnoses", [])
    for words in entry.expect.get("says", []):
        assert words in json.dumps(document, ensure_ascii=False)


def _rows(rows: Any) -> Any:
    """`[3, 5]`, `1-5,7-30` or a count."""
    if not isinstance(rows, str):
        return rows
    spans = [tuple(map(int, span.split("-"))) for span in rows.split(",")]
    return [row for first, last in spans for row in range(first, last + 1)]


def _all_rows(entry: Entry) -> set[int]:
    """Rows that any rule rejects, as far as the entry does not say how many."""
    listed = [_rows(rows) for rows in entry.expect.get("findings", {}).values()]
    return {row for rows in listed if isinstance(rows, list) for row in rows}


def assert_harmless(corpus: Corpus, delivery: Delivery) -> None:
    """No identity in any form of the receipt, and no cell of it that a spreadsheet would run."""
    for path in corpus.receipts(delivery, "*"):
        if path.suffix == ".xlsx":
            text = "\n".join(_cells_of_book(path))
        else:
            text = csv_of(corpus, delivery) if path.suffix == ".csv" else path.read_text(encoding="utf-8")
        assert [value for value in identity_values(40) if value in text] == []
        assert PERSONAL_NUMBER.search(MARKS.sub("", text)) is None
    for row in csv.reader(io.StringIO(csv_of(corpus, delivery), newline="")):
        assert [cell for cell in row if cell.startswith(_FORMULA_STARTS)] == []


def _cells_of_book(path: Path) -> list[str]:
    book = openpyxl.load_workbook(path)
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert [cell.coordinate for cell in cells if cell.data_type == "f"] == []
    return [str(cell.value) for cell in cells]


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry.file_name)
def test_a_good_bank_beside_them_is_untouched(corpus: Corpus, entry: Entry) -> None:
    place = corpus.places[entry.file_name]
    [delivery] = corpus.of(place)
    document = receipt_of(corpus, delivery)
    assert (delivery.outcome, document["in_force"]) == ("accepted", True)
    assert (document["rows_read"], document["rows_accepted"], document["findings"]) == (30, 30, [])
    assert document["diagnoses"] == []
    assert hashlib.sha256(place.read_bytes()).hexdigest() == delivery.sha256


def test_nothing_else_was_claimed(corpus: Corpus) -> None:
    assert {delivery.address for delivery in corpus.deliveries} <= {
        str(place.with_name(name)) for place in corpus.places.values() for name in (place.name, "CLGRDK_202403_2.zip")
    }


def test_every_diagnosis_has_a_delivery_that_shows_it() -> None:
    assert {code for entry in entries() for code in entry.expect.get("diagnoses", [])} == set(TEXTS)


def test_memory_stays_bounded(corpus: Corpus) -> None:
    assert corpus.peak_kib < PEAK_MIB * 1024
