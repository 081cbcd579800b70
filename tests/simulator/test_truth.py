"""The files really hold what truth.json says, read by code that shares nothing with the simulator."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import second_opinion
from tests.simulator.conftest import Month
from tests.simulator.second_opinion import CODES, REQUIRED, TYPES, UNIQUE, Book, File, findings, typed

WARNINGS = {"L212", "L301", "L302", "L303", "F301", "H301", "H302", "M301", "C301", "D206", "D301"}
WARNINGS |= {"Y301", "Y302", "J301", "R301"}
BIG_SUPPLIERS = {
    "qinghe_rcb",
    "baiyun_rcb",
    "xinhe_vb",
    "government",
}  # others send short lists, of which mistakes are a larger share


@pytest.fixture(params=["february", "march"])
def month(request: pytest.FixtureRequest) -> Month:
    return request.getfixturevalue(request.param)


def _said(month: Month, file: File) -> dict[str, Any]:
    """What truth says about one file; of the register the whole of it, as a first pull would see."""
    source = month.truth
    if file.supplier == "government":
        source = month.truth.get("full_pull", month.truth)
    mine = [entry for entry in source["findings"] if (entry["supplier"], entry["file"]) == (file.supplier, file.name)]
    [delivery] = [
        entry for entry in source["deliveries"] if (entry["supplier"], entry["file"]) == (file.supplier, file.name)
    ]
    return {"findings": {(entry["row"], entry["rule"]) for entry in mine}, **delivery}


def test_every_file_holds_exactly_the_findings_of_truth(month: Month, book: Book) -> None:
    for file in month.files:
        said = _said(month, file)
        assert findings(book, file, month.period.start, month.period.end) == said["findings"], file.name
        rejected = {row for row, rule in said["findings"] if rule not in WARNINGS}
        assert (said["rows_read"], said["rows_rejected"]) == (len(file.rows), len(rejected)), file.name
        assert said["outcome"] == ("accepted_with_warnings" if said["findings"] else "accepted")


def test_refused_rows_stay_within_what_a_delivery_may_lose(month: Month) -> None:
    for entry in month.truth["deliveries"]:
        share = entry["rows_rejected"] / max(entry["rows_read"], 1)
        assert share < (0.30 if entry["supplier"] not in BIG_SUPPLIERS else 0.10), entry["file"]


def test_two_months_plant_every_rule_a_row_can_break(february: Month, march: Month) -> None:
    planted = {entry["rule"] for month in (february, march) for entry in month.truth["findings"]}
    known = {rule for group in (TYPES, REQUIRED, CODES, UNIQUE) for rules in group.values() for rule in rules}
    known |= set(re.findall(r'"([LFHMCDYJSRBN]\d{3})":', inspect.getsource(second_opinion)))
    known |= {f"B12{number}" for number in range(1, 9)}
    assert planted == known | {"P101", "P201"}


def test_a_later_pull_sees_only_rows_changed_in_the_month(march: Month) -> None:
    for file in (file for file in march.files if file.supplier == "government"):
        changed = [row for row in file.rows if row and row["changed_at"] >= "2024-03-01T00:00:00+08:00"]
        [delivery] = [
            e for e in march.truth["deliveries"] if (e["supplier"], e["dataset"]) == ("government", file.dataset)
        ]
        assert delivery["rows_read"] == len(changed) < len(file.rows) / 4
        before = len(file.rows) - len(changed)
        whole = {
            (e["row"] - before, e["rule"]) for e in march.truth["full_pull"]["findings"] if e["dataset"] == file.dataset
        }
        mine = {(e["row"], e["rule"]) for e in march.truth["findings"] if e["dataset"] == file.dataset}
        assert mine == {(row, rule) for row, rule in whole if row > 0}


def _in_force(month: Month, book: Book) -> set[str]:
    """Identity numbers with a consent for bank data to the county in force at the end of the month."""
    file = month.file("government", "consents")
    end = month.period.end
    holders = set()
    for row in file.rows:
        cell = {name: typed(book, file, row or {}, name) for name in (*(row or {}), "decision", "purpose")}
        if (cell["decision"], cell["purpose"], cell["recipient"]) != ("granted", "bank_data", "county"):
            continue
        if not cell["granted_on"] or not cell["subject_id_no"]:
            continue
        started = cell["granted_on"] <= end
        if started and (cell["withdrawn_on"] or end.max) > end and (cell["expires_on"] or end.max) >= end:
            holders.add(cell["subject_id_no"])
    return holders


def test_rows_without_legal_ground_and_unmatched_borrowers(month: Month, book: Book) -> None:
    holders = _in_force(month, book)
    members = month.file("government", "members")
    known = {typed(book, members, row or {}, "id_no") for row in members.rows}
    without, unmatched = set(), {"loans": 0, "loan_flows": 0}
    for file in (file for file in month.files if file.dataset in unmatched):
        refused = {row for row, rule in _said(month, file)["findings"] if rule not in WARNINGS}
        for number, row in enumerate(file.rows, start=1):
            if row is None or number in refused:
                continue
            borrower = typed(book, file, row, "borrower_id_no")
            if borrower not in holders:
                without.add((file.supplier, file.dataset, file.name, number))
            elif borrower not in known:
                unmatched[file.dataset] += 1
    said = {(e["supplier"], e["dataset"], e["file"], e["row"]) for e in month.truth["no_basis"]}
    assert without == said and len(said) > 20
    assert unmatched == {name: month.truth["unmatched"][name] for name in unmatched} and unmatched["loans"] > 0


def test_unmatched_parties_of_mediation(month: Month, book: Book) -> None:
    members = month.file("government", "members")
    known = {typed(book, members, row or {}, "id_no") for row in members.rows}
    count = 0
    for file in (file for file in month.files if file.dataset == "mediation"):
        refused = {row for row, rule in _said(month, file)["findings"] if rule not in WARNINGS}
        for number, row in enumerate(file.rows, start=1):
            parties = [typed(book, file, row or {}, f"{role}_id_no") for role in ("applicant", "respondent", "helper")]
            count += 0 if number in refused else sum(party is not None and party not in known for party in parties)
    assert count == month.truth["unmatched"]["mediation"] > 0


def _notes(month: Month, book: Book, bank: str) -> dict[str, tuple[int, str, bool]]:
    """Loan number → row, borrower, overdue."""
    file = month.file(bank, "loans")
    return {
        typed(book, file, row, "loan_no") or "": (
            number,
            typed(book, file, row, "borrower_id_no"),
            typed(book, file, row, "loan_status") == "overdue",
        )
        for number, row in enumerate(file.rows, start=1)
        if row is not None
    }


def test_households_that_must_not_rise(february: Month, march: Month, book: Book) -> None:
    assert february.truth["must_not_rise"] == []
    said = {because: set() for because in ("left_stock_file", "rejected")}
    for entry in march.truth["must_not_rise"]:
        said[entry["because"]].add(entry["household_no"])
    members = march.file("government", "members")
    home = {typed(book, members, row or {}, "id_no"): (row or {})["household_no"] for row in members.rows}
    flows = march.file("qinghe_rcb", "loan_flows")
    explained = {(row or {}).get("loan_no") for row in flows.rows}
    left, refused = set(), set()
    for bank in ("qinghe_rcb", "baiyun_rcb", "xinhe_vb"):
        before, after = _notes(february, book, bank), _notes(march, book, bank)
        gone = {no: note for no, note in before.items() if no not in after and note[2] and no not in explained}
        in_order = _said(february, february.file(bank, "loans"))["findings"]
        left |= {home[note[1]] for note in gone.values() if note[0] not in {row for row, _ in in_order}}
        broken = {row for row, rule in _said(march, march.file(bank, "loans"))["findings"] if rule not in WARNINGS}
        refused |= {
            home.get(note[1]) for no, note in after.items() if note[0] in broken and no in before and before[no][2]
        }
    assert said["left_stock_file"] == left and len(left) == 2
    assert said["rejected"] <= refused and len(said["rejected"]) == 3


def test_file_trouble_of_the_first_month(february: Month, book: Book) -> None:
    entries = [e for e in february.truth["deliveries"] if e["supplier"] == "qinghe_rcb" and e["dataset"] == "loans"]
    assert [entry["outcome"] for entry in entries] == ["unreadable", "accepted_with_warnings"]
    folder = february.folder / "drop" / "qinghe_rcb"
    assert min(folder.glob("CLGRDK_*")).name == entries[0]["file"]
    with pytest.raises(AssertionError, match="P101"):
        second_opinion.read_pboc(book, folder / entries[0]["file"], "loans")
    [spoilt] = [entry for entry in february.truth["findings"] if entry["rule"] == "P101"]
    assert (spoilt["file"], spoilt["row"]) == (entries[0]["file"], None)
    [part] = (february.folder / "drop" / "baiyun_rcb").glob("*.part")
    assert not any(entry["file"] == part.name for entry in february.truth["deliveries"])
    assert part.with_suffix(".ok").exists() and part.with_suffix("").exists()


def test_canaries_are_in_the_files_and_can_be_searched(february: Month) -> None:
    truth = json.loads((february.folder / "truth.json").read_text(encoding="utf-8"))
    text = "".join(path.read_text(encoding="utf-8") for path in (february.folder / "government").glob("*.csv"))
    drop = february.folder / "drop"
    text += "".join(path.read_text(encoding="gb18030") for path in drop.glob("baiyun_rcb/*.csv"))
    text += "".join(path.read_text(encoding="utf-8") for path in drop.rglob("*.jsonl"))
    for kind, shortest in (("id_nos", 8), ("names", 3), ("phones", 11)):
        values = truth["canaries"][kind]
        assert 100 < len(values) <= 2_000 and min(map(len, values)) >= shortest
        assert sum(value in text for value in values) > 0.8 * len(values)


def test_two_periods_share_one_truth_file(tmp_path: Path) -> None:
    from simulator import simulate

    for period in ("2024-03", "2024-02"):
        simulate(tmp_path, period, 300, 1)
    truth = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert list(truth["periods"]) == ["2024-02", "2024-03"]
    assert (truth["seed"], truth["households"], truth["profile"]) == (1, 300, "county")
