"""Great Expectations: kinds of expectations, Data Docs without values, and the audit of staged tables in PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from etl.contract.expectations import ROWS_SATISFY, delivery_specs, release_specs
from etl.contract.model import Contracts, load_contracts
from etl.contract.suite import Audit, DocsRecord, SecondOpinionError, audit_staged, build_data_docs, second_opinion
from tests.contract.delivery import MALE, REGISTRY, SAMPLES, checked

FIELDS = """
period: {type: text, privacy: open, label: {zh: 期间, en: period}}
person: {type: text, privacy: personal, label: {zh: 人, en: person}}
points: {type: "decimal(7,2)", privacy: personal, label: {zh: 得分, en: points}}
max_points: {type: "decimal(7,2)", privacy: open, label: {zh: 满分, en: maximum}}
grade: {type: text, privacy: personal, label: {zh: 等级, en: grade}}
"""
GRADES = """
table: core_marks
says: marks
key: [period, person]
columns:
  period:
  person:
  points: {required: true, min: 0, rules: {required: G1, min: G2}}
  max_points:
  grade: {values: [A, B], rules: {codes: G3}}
references:
  - {columns: [period, person], table: core_people, to: [period, person]}
rules:
  - {id: G4, family: validity, action: reject_file, check: "points <= max_points", says: not above the maximum}
  - {id: G5, family: quality, action: warn, check: "grade IS NOT NULL OR points = 0", says: graded if it has points}
  - {id: G6, family: macro, action: reject_file, expect: expect_table_row_count_to_be_between, kwargs: {min_value: 2}, says: some rows}
"""
PEOPLE = "table: core_people\nsays: people\nkey: [period, person]\ncolumns: {period: , person: }\n"
GOOD = "('2024-03', 'p1', 5, 10, 'A'), ('2024-03', 'p2', 0, 10, 'B')"


@pytest.fixture
def contracts(tmp_path: Path) -> Contracts:
    for name, text in (("fields", FIELDS), ("core_marks", GRADES), ("core_people", PEOPLE)):
        (tmp_path / f"{name}.yml").write_text(text, encoding="utf-8")
    return load_contracts([tmp_path])


def _audit(url: str, contracts: Contracts, marks: str, record: DocsRecord | None = None) -> Audit:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE SCHEMA stage")
        connection.execute(
            "CREATE TABLE stage.marks (period text, person text, points numeric(7,2), max_points numeric(7,2), grade text)"
        )
        connection.execute(
            "CREATE TABLE stage.people AS SELECT '2024-03' AS period, 'p' || n AS person FROM generate_series(1, 3) n"
        )
        connection.execute(f"INSERT INTO stage.marks VALUES {marks}")  # type: ignore[arg-type]
    return audit_staged(url, {"core_marks": "stage.marks", "core_people": "stage.people"}, contracts, record=record)


def test_a_sound_staged_release_passes(empty_database_url: str, contracts: Contracts) -> None:
    audit = _audit(empty_database_url, contracts, GOOD)
    assert audit.success
    assert audit.findings == ()
    assert (audit.tables, audit.checks) == (2, 3 + 7 + 3)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("('2024-03', 'p1', 5, 10, 'A')", {"core_marks.key": 2}),
        ("('2024-03', NULL, 5, 10, 'A')", {"core_marks.person.key": 1}),
        ("('2024-03', 'p3', NULL, 10, 'A')", {"G1": 1}),
        ("('2024-03', 'p3', -1, 10, 'A')", {"G2": 1}),
        ("('2024-03', 'p3', 1, 10, 'Z')", {"G3": 1}),
        ("('2024-03', 'p3', 11, 10, 'A')", {"G4": 1}),
        ("('2024-03', 'p9', 1, 10, 'A')", {"core_marks.period.person.reference": 1}),
    ],
)
def test_what_must_not_be_released_is_found(
    empty_database_url: str, contracts: Contracts, row: str, found: dict[str, int]
) -> None:
    audit = _audit(empty_database_url, contracts, f"{GOOD}, {row}")
    assert {finding.rule: finding.count for finding in audit.findings} == found
    assert not audit.success


def test_a_warning_does_not_block_and_too_few_rows_do(empty_database_url: str, contracts: Contracts) -> None:
    audit = _audit(empty_database_url, contracts, "('2024-03', 'p1', 5, 10, NULL)")
    assert {finding.rule: finding.severity for finding in audit.findings} == {"G5": "warning", "G6": "critical"}
    assert [finding.rule for finding in audit.blocking] == ["G6"]


def test_a_check_that_cannot_run_is_an_error_not_a_pass(empty_database_url: str, contracts: Contracts) -> None:
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE public.people (period text)")
    with pytest.raises(SecondOpinionError, match="core_people"):
        audit_staged(empty_database_url, {"core_people": "public.people"}, contracts)


def test_references_to_tables_that_are_not_staged_are_left_out(contracts: Contracts) -> None:
    staged = {spec.rule for spec in release_specs(contracts["core_marks"], {"core_marks": "stage.marks"})}
    assert "core_marks.period.person.reference" not in staged
    assert "core_marks.key" in staged


def test_most_rules_are_said_in_built_in_expectations() -> None:
    sample = SAMPLES["east"]
    specs = delivery_specs(sample.contract, sample.layout, REGISTRY.codes, sample.context)
    kinds = {spec.rule: spec.type for spec in specs}
    assert kinds["L101"] == "expect_column_values_to_not_be_null"
    assert kinds["L110"] == kinds["L202"] == "expect_column_values_to_be_in_set"
    assert kinds["L121"] == kinds["L201"] == kinds["L301"] == "expect_column_values_to_be_between"
    assert kinds["L130"] == kinds["L008"] == "expect_column_values_to_match_regex"
    assert kinds["L140"] == "expect_column_values_to_be_unique"
    assert kinds["L203"] == kinds["L214"] == "expect_column_pair_values_a_to_be_greater_than_b"
    assert kinds["L208"] == ROWS_SATISFY
    pairs = [spec for spec in specs if "pair" in spec.type]
    assert {spec.kwargs["ignore_row_if"] for spec in pairs} == {"either_value_is_missing"}
    assert not [spec for spec in specs if {"mostly", "row_condition"} & set(spec.kwargs)]


def _validate(docs: Path, name: str, minute: int) -> None:
    sample = SAMPLES["east"]
    rows = [sample.good, sample.row(loan_no="SECRET-LOAN", five_class="SECRET-CLASS", balance_yuan="64813.77")]
    record = DocsRecord(docs, name, datetime(2024, 4, 3, 12, minute, tzinfo=UTC))
    second_opinion(
        checked(sample, rows).typed, sample.contract, sample.layout, REGISTRY.codes, sample.context, record=record
    )


def _text(folder: Path) -> str:
    return "".join(
        path.read_text(encoding="utf-8") for path in folder.rglob("*.*") if path.suffix in (".json", ".html")
    )


def test_data_docs_show_rules_and_counts_but_no_values(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    _validate(docs, "baiyun_rcb-loans-2024-03-0001", 0)
    index = build_data_docs(docs)
    assert "baiyun_rcb-loans-2024-03-0001" in index.read_text(encoding="utf-8")
    everything = _text(docs)
    assert "L110" in everything
    assert "五级分类" in everything
    for value in ("SECRET", MALE, "64813"):
        assert value not in everything


def test_data_docs_keep_the_newest_and_render_only_what_is_new(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    for number in range(3):
        _validate(docs, f"delivery-{number}", number)
    build_data_docs(docs)
    pages = {path.stem: path for path in (docs / "site" / "validations").rglob("*.html")}
    assert set(pages) == {"delivery-0", "delivery-1", "delivery-2"}
    written = pages["delivery-2"].stat().st_mtime_ns
    _validate(docs, "delivery-3", 3)
    index = build_data_docs(docs, keep=2).read_text(encoding="utf-8")
    pages = {path.stem: path for path in (docs / "site" / "validations").rglob("*.html")}
    assert set(pages) == {"delivery-2", "delivery-3"}
    assert pages["delivery-2"].stat().st_mtime_ns == written
    assert "delivery-3" in index
    assert "delivery-0" not in index


def test_several_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    for number in range(2):
        _validate(docs, f"first-{number}", number)
    errors: list[BaseException] = []

    def build() -> None:
        try:
            build_data_docs(docs)
        except BaseException as error:
            errors.append(error)

    builders = [threading.Thread(target=build) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert errors == []
    assert len(list((docs / "site" / "validations").rglob("*.html"))) == 2


def test_an_audit_is_in_the_docs_too(empty_database_url: str, contracts: Contracts, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    record = DocsRecord(docs, "release-1", datetime(2024, 4, 3, tzinfo=UTC))
    _audit(empty_database_url, contracts, f"{GOOD}, ('2024-03', 'p8888', 99, 10, 'A')", record)
    index = build_data_docs(docs).read_text(encoding="utf-8")
    assert "release.core_marks" in index or "core_marks" in index
    everything = _text(docs)
    assert "G4" in everything
    assert "p8888" not in everything
    password = empty_database_url.split(":")[2].split("@")[0]
    assert password not in everything
