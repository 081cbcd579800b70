"""A bank that invents notes of one yuan learns nothing: not who is registered, not one row more than before.

The same county three times: the bank's honest file; with a thousand notes of registered people in it; with a thousand of
numbers nobody bears. All numbers are simulated; the invented ones are 341181-1900-0101-9xx and the like, born before 1905.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl import pipeline
from etl.identifiers import resident_check_character
from etl.intake.signing import SigningKey
from simulator import simulate
from tests.acceptance.county import NOW, SEED, County, county_at, three_towns

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

BANK, PERIOD, HOUSEHOLDS, NOTES = "baiyun_rcb", "2024-02", 600, 1_000
FILE = "农户贷款借据_202402.csv"
COUNTS = {"rows_read", "rows_accepted", "rows_rejected", "accepted_share_pct", "linked_share_pct"}


def _registered(world: Path) -> list[str]:
    """A thousand people of the register, most of them nobody's borrowers."""
    with (world / "government" / "household_member.csv").open(encoding="utf-8", newline="") as file:
        numbers = [row["id_no"] for row in csv.DictReader(file)]
    valid = [number for number in numbers if len(number) == 18 and number[17] == resident_check_character(number[:17])]
    assert len(valid) >= NOTES
    return valid[:NOTES]


def _invented() -> list[str]:
    """A thousand numbers with the county's area code and right check characters, of people who would be 120 years old."""
    stems = [
        f"3411811900{month:02d}{day:02d}9{n:02d}" for month in (1, 3, 5, 7) for day in (1, 2, 3) for n in range(100)
    ]
    return [stem + resident_check_character(stem) for stem in stems[:NOTES]]


def _one_yuan(template: dict[str, str], number: int, identity: str) -> dict[str, str]:
    """A note of one yuan, honest in every formal respect."""
    own = {"证件类别": "居民身份证", "证件号码": identity, "共同借款人证件号码": "", "客户名称": "合成", "联系电话": ""}
    note = {"信贷借据号": f"BY-9{number:09d}", "信贷合同号": f"HT9{number:09d}", "贷款金额": "1.00", "贷款余额": "1.00"}
    dates = {"贷款发放日期": "20240201", "贷款到期日期": "20250201", "终结日期": "99991231"}
    state = {
        "贷款五级分类": "正常",
        "贷款状态": "正常",
        "逾期天数": "0",
        "实际利率": "4.35",
        "币种": "CNY",
        "担保方式": "信用",
    }
    return {**template, **own, **note, **dates, **state}


def _add_notes(county: County, identities: Sequence[str]) -> None:
    """Append the notes to the bank's file in its drop zone, which keeps its time."""
    path = county.settings.drop / BANK / FILE
    before = path.stat()
    text = path.read_bytes().decode("gb18030")
    rows = list(csv.DictReader(io.StringIO(text)))
    template = next(row for row in rows if row["采集日期"] == "20240229" and row["金融机构代码"] == "99000000000022")
    added = io.StringIO()
    writer = csv.DictWriter(added, list(template), lineterminator="\n")
    writer.writerows(_one_yuan(template, number, identity) for number, identity in enumerate(identities))
    path.write_bytes((text.rstrip("\r\n") + "\n" + added.getvalue()).encode("gb18030"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture(scope="module")
def counties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What the bank sees of the month in each of the three counties."""
    folder = tmp_path_factory.mktemp("one_yuan")
    config, worlds, key = three_towns(folder / "config"), folder / "worlds", None
    simulate(worlds / PERIOD, PERIOD, HOUSEHOLDS, SEED, config=config)
    for other in ("qinghe_rcb", "xinhe_vb"):  # two banks less are half a minute less
        (config / "banks" / f"{other}.yml").unlink()
    seen: dict[str, dict[str, Any]] = {}
    for kind in ("honest", "registered", "invented"):
        with county_at(folder / kind, HOUSEHOLDS, worlds=worlds, token_key=key, config=config) as county:
            _sign_alike(county, folder / "receipt.key")
            county.deliver(PERIOD)
            if kind != "honest":
                _add_notes(county, _registered(worlds / PERIOD) if kind == "registered" else _invented())
            county.take_in(PERIOD)
            pipeline.grade_period(county.settings, PERIOD, now=NOW)
            pipeline.publish_period(county.settings, PERIOD, now=NOW)
            seen[kind] = {"outbox": _outbox(county), "marts": _marts(county), "linked": _linked(county)}
            key = folder / "token.key"
            key.write_bytes(county.settings.token_key_path.read_bytes())
            key.chmod(0o600)
    yield seen


def _sign_alike(county: County, key: Path) -> None:
    """All three counties sign with one key: what differs in a receipt is then what it says."""
    SigningKey.create(key)
    own = county.settings.secrets / "receipt.key"
    own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    own.write_bytes(key.read_bytes())
    own.chmod(0o600)


def _outbox(county: County) -> dict[str, str]:
    """Every file the bank can fetch, as text without what is the delivery's own: hash and signature."""
    folder = county.settings.outbox / BANK
    own = {county.rows("SELECT sha256 FROM ledger.deliveries WHERE supplier = :bank", bank=BANK)[0][0]: "<sha256>"}
    return {str(path.relative_to(folder)): _text(path, own) for path in sorted(folder.rglob("*")) if path.is_file()}


def _text(path: Path, own: dict[str, str]) -> str:
    if path.suffix == ".json":
        document = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps({**document, "sha256": "", "signature": ""}, ensure_ascii=False)
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(path) as book:
            text = "\n".join(book.read(name).decode("utf-8", "replace") for name in sorted(book.namelist()))
    else:
        text = path.read_bytes().decode("utf-8", "replace")
    for value, mark in own.items():
        text = text.replace(value, mark)
    return re.sub(r"[A-Za-z0-9+/]{80,}={0,2}", "<signature>", text)


def _marts(county: County) -> dict[str, list[dict[str, Any]]]:
    """The bank's rows of every published mart that tells banks apart."""
    with county.engine.connect() as connection:
        named = connection.execute(
            sa.text(
                "SELECT table_name FROM information_schema.columns WHERE table_schema = 'mart' AND column_name = 'bank_code'"
            )
        )
        tables = sorted({name for (name,) in named})
        return {
            table: [
                dict(row)
                for row in connection.execute(
                    sa.text(f'SELECT * FROM mart."{table}" WHERE bank_code = :bank'), {"bank": BANK}
                ).mappings()
            ]
            for table in tables
        }


def _linked(county: County) -> int:
    """How many of the county's published notes are of one yuan: the county does know the difference."""
    [(count,)] = county.rows(
        "SELECT count(*) FROM core.core_loans WHERE bank_code = :bank AND issued_amount_yuan = 1", bank=BANK
    )
    return int(count)


def test_the_county_tells_them_apart(counties: dict[str, dict[str, Any]]) -> None:
    """Otherwise the other tests would compare nothing."""
    assert counties["honest"]["linked"] == counties["invented"]["linked"] == 0
    assert counties["registered"]["linked"] > 100


def test_the_outbox_is_the_same_but_for_the_files_own_hash(counties: dict[str, dict[str, Any]]) -> None:
    registered, invented = counties["registered"]["outbox"], counties["invented"]["outbox"]
    assert sorted(registered) == sorted(invented)
    assert any(name.endswith(".receipt.json") for name in registered)
    assert any(name.endswith(".receipt.csv") for name in registered)
    for name, text in registered.items():
        assert text == invented[name], name


def test_the_receipt_accepts_all_of_them_alike(counties: dict[str, dict[str, Any]]) -> None:
    [name] = [name for name in counties["registered"]["outbox"] if name.endswith(".receipt.json")]
    honest, registered = (json.loads(counties[kind]["outbox"][name]) for kind in ("honest", "registered"))
    assert registered["rows_accepted"] == honest["rows_accepted"] + NOTES
    assert registered["rows_rejected"] == honest["rows_rejected"]
    assert registered["findings"] == honest["findings"]
    assert registered["counts_by_rule"] == honest["counts_by_rule"]


def test_no_mart_has_a_row_more_for_the_bank(counties: dict[str, dict[str, Any]]) -> None:
    marts = {kind: seen["marts"] for kind, seen in counties.items()}
    assert {"mart_bank_scorecard", "mart_credit_line_offer"} <= set(marts["honest"])
    for table in marts["honest"]:
        keys = {kind: sorted(_key(row) for row in tables[table]) for kind, tables in marts.items()}
        assert keys["registered"] == keys["invented"] == keys["honest"], table


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return (str(row["period"]), str(row["bank_code"]), str(row.get("household_key")))


def test_the_scorecard_differs_in_nothing_but_counts(counties: dict[str, dict[str, Any]]) -> None:
    [[registered], [invented]] = [counties[kind]["marts"]["mart_bank_scorecard"] for kind in ("registered", "invented")]
    assert {name for name in registered if registered[name] != invented[name]} <= COUNTS
