"""Great Expectations: the second opinion on every delivery, the audit of a staged release, and Data Docs of both.

This is the only file that imports great_expectations, and only inside functions: the import takes seconds. Results
hold counts, never values. Every validation is one file under `<docs>/results`, so that processes never meet; the
static site under `<docs>/site` is brought up to date by `build_data_docs`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.context import Context
from etl.contract.expectations import READS_AS_DATE, Spec, delivery_specs, release_specs
from etl.contract.language import RAW
from etl.contract.model import Contract
from etl.registry import CodeLists, Layout
from etl.vocabulary import CreditVillageError

KEEP_VALIDATIONS = 200
# Counts as in SUMMARY, without the row numbers SUMMARY adds: they are not kept, and looking for them costs a sixth.
_RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0, "exclude_unexpected_values": True}
_ONE_FRAME_ROWS = 20_000
_NANOSECOND_YEARS = (1678, 2261)


class SecondOpinionError(CreditVillageError):
    """Great Expectations could not evaluate a rule; names the rule, never a value."""


@dataclass(frozen=True)
class DocsRecord:
    """Where one validation is kept for Data Docs: the docs folder, what was validated, and when."""

    folder: Path
    name: str
    now: datetime


@dataclass(frozen=True)
class AuditFinding:
    """One check of the audit that did not hold."""

    table: str
    rule: str
    severity: str
    count: int
    says: str


@dataclass(frozen=True)
class Audit:
    """The outcome of an audit: how much was checked, and what did not hold."""

    tables: int
    checks: int
    findings: tuple[AuditFinding, ...]

    @property
    def blocking(self) -> tuple[AuditFinding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "critical")

    @property
    def success(self) -> bool:
        return not self.blocking


def second_opinion(
    typed: pa.Table,
    contract: Contract,
    layout: Layout,
    codes: CodeLists,
    context: Context,
    *,
    rules: Collection[str] | None = None,
    record: DocsRecord | None = None,
) -> dict[str, int]:
    """How many rows break each active row rule (or each of `rules`), counted by Great Expectations on pandas.

    `typed` is TYPED as Arrow, or the columns of it that the rules read. The caller compares the counts with those of the
    findings (a rule without findings counts 0). Raises SecondOpinionError when a rule cannot be evaluated.
    """
    every = delivery_specs(contract, layout, codes, context, far_dates=_far_dates(typed, contract))
    specs = [spec for spec in every if rules is None or spec.rule in rules]
    if not specs or typed.num_rows == 0:
        return {spec.rule: 0 for spec in specs}
    result = _validate_typed(typed, contract, specs)
    counts = {entry.expectation_config.meta["rule"]: _unexpected(entry) for entry in result.results}
    if record is not None:
        _keep(result, record)
    return counts


def audit_staged(
    url: str, tables: Mapping[str, str], contracts: Mapping[str, Contract], *, record: DocsRecord | None = None
) -> Audit:
    """Check staged tables in PostgreSQL: keys, computed columns, references, release rules.

    `url` is an SQLAlchemy address; `tables` maps a contract's table to `schema.table` as staged (committed). Findings
    with severity critical must stop the release. Raises SecondOpinionError when a check cannot run.
    """
    source = _context().data_sources.add_postgres("warehouse", connection_string=url)
    specs = {table: release_specs(contracts[table], tables) for table in tables}
    results = {table: _validate_staged(source, table, staged, specs[table]) for table, staged in tables.items()}
    found = [_audit_finding(table, entry) for table, result in results.items() for entry in result.results]
    if record is not None:
        for result in results.values():
            _keep(result, record)
    return Audit(len(tables), len(found), tuple(finding for finding in found if finding is not None))


def build_data_docs(folder: Path, *, keep: int = KEEP_VALIDATIONS) -> Path:
    """Bring the static site up to date with the newest `keep` validations and give its first page.

    Only validations without a page are rendered; older ones and their pages are removed.
    """
    with _locked(folder):
        context = _docs_context(folder)
        keys = sorted(context.validation_results_store.list_keys(), key=lambda key: key.run_id.run_time, reverse=True)
        for old in keys[keep:]:
            _forget(context, folder, old)
        fresh = [key for key in keys[:keep] if not _page(folder, key).is_file()]
        _build_site(context, fresh)
    return folder / "site" / "index.html"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time writes to a docs folder; nobody reads a half-written result."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def _great_expectations() -> Any:
    """The library, quiet and without telemetry."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations

    _rows_satisfy()
    return great_expectations


@cache
def _rows_satisfy() -> Any:
    """The expectation for conditions that no built-in one can say, evaluated by `etl.contract.evaluate`."""
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import MulticolumnMapExpectation
    from great_expectations.expectations.metrics.map_metric_provider import (
        MulticolumnMapMetricProvider,
        multicolumn_condition_partial,
    )

    class RowsSatisfy(MulticolumnMapMetricProvider):
        condition_metric_name = "multicolumn_values.rows_satisfy"
        condition_domain_keys = (
            "batch_id",
            "table",
            "column_list",
            "row_condition",
            "condition_parser",
            "ignore_row_if",
        )
        condition_value_keys = ("condition", "types")

        @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
        def _pandas(cls, column_list: Any, condition: str, types: Mapping[str, str], **_: Any) -> Any:  # noqa: N805
            return _satisfied(column_list, condition, types)

    class ExpectRowsToSatisfy(MulticolumnMapExpectation):
        """Expect a condition over several columns to be true or unknown in every row."""

        condition: str
        types: dict[str, str]
        map_metric = RowsSatisfy.condition_metric_name
        success_keys = ("mostly", "condition", "types")
        args_keys = ("column_list", "condition", "types")

    return ExpectRowsToSatisfy


def _satisfied(columns: Any, condition: str, types: Mapping[str, str]) -> Any:
    """Boolean series: the condition is not false."""
    import pandas as pd

    from etl.contract import evaluate

    if condition.startswith(READS_AS_DATE):
        cells = columns.iloc[:, 0]
        good = cells.isna().to_numpy() | evaluate.reads_as_date(cells, condition.removeprefix(READS_AS_DATE).strip())
    else:
        good = ~evaluate.false_rows(condition, columns, types)
    return pd.Series(good, index=columns.index)


def _context() -> Any:
    """A context that stores nothing."""
    return _context_with(None, {})


def _context_with(results: Mapping[str, str] | None, sites: Mapping[str, Any]) -> Any:
    gx = _great_expectations()
    from great_expectations.data_context.types.base import DataContextConfig, ProgressBarsConfig

    config = DataContextConfig(
        expectations_store_name="expectations",
        validation_results_store_name="results",
        checkpoint_store_name="checkpoints",
        stores={
            "expectations": {"class_name": "ExpectationsStore"},
            "checkpoints": {"class_name": "CheckpointStore"},
            "validation_definition_store": {"class_name": "ValidationDefinitionStore"},
            "results": {
                "class_name": "ValidationResultsStore",
                **({"store_backend": dict(results)} if results else {}),
            },
        },
        data_docs_sites=dict(sites),
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _suite(name: str, specs: Sequence[Spec]) -> Any:
    return _great_expectations().ExpectationSuite(name=name, expectations=[_expectation(spec) for spec in specs])


def _expectation(spec: Spec) -> Any:
    _great_expectations()
    from great_expectations.expectations.registry import get_expectation_impl

    pinned = {"ignore_row_if": "never"} if spec.type == _rows_satisfy().expectation_type else {}
    return get_expectation_impl(spec.type)(
        **{**pinned, **spec.kwargs},
        severity=spec.severity,
        meta={"rule": spec.rule},
        description=f"{spec.rule}: {spec.says}".replace("$", ""),
    )


def _validate_typed(typed: pa.Table, contract: Contract, specs: Sequence[Spec]) -> Any:
    """One validation result over all expectations.

    Great Expectations filters every column of a batch for every expectation, so a large delivery is validated in
    frames that hold only the columns each group of expectations needs.
    """
    asset = _context().data_sources.add_pandas("deliveries").add_dataframe_asset(contract.table)
    definition = asset.add_batch_definition_whole_dataframe("whole")
    groups = _groups(specs) if typed.num_rows > _ONE_FRAME_ROWS else [specs]
    results = []
    for group in groups:
        batch = definition.get_batch(batch_parameters={"dataframe": _frame(typed, contract, group)})
        results.append(batch.validate(_suite(f"delivery.{contract.table}", group), result_format=_RESULT_FORMAT))
    return _merged(results)


def _groups(specs: Sequence[Spec]) -> list[list[Spec]]:
    """Expectations that read the same columns, together."""
    groups: dict[tuple[str, ...], list[Spec]] = {}
    for spec in specs:
        groups.setdefault(tuple(sorted(spec.columns)), []).append(spec)
    return list(groups.values())


def _merged(results: Sequence[Any]) -> Any:
    """Several validation results of one suite as one."""
    from great_expectations.validator.validation_statistics import calc_validation_statistics

    whole = results[0]
    whole.results = [entry for result in results for entry in result.results]
    statistics = calc_validation_statistics(whole.results)
    whole.success = statistics.success
    whole.statistics = statistics._asdict()
    del whole.statistics["success"]
    return whole


def _far_dates(typed: pa.Table, contract: Contract) -> list[str]:
    """Date columns with a year that pandas cannot hold in nanoseconds."""
    low, high = _NANOSECOND_YEARS
    dates = [column.name for column in contract.delivered if column.type == "date"]
    names = [name for name in dates if name in typed.column_names]
    extremes = {name: pc.min_max(pc.year(typed[name])).as_py() for name in names}
    return [
        name
        for name, seen in extremes.items()
        if seen["min"] is not None and not low <= seen["min"] <= seen["max"] <= high
    ]


def _frame(typed: pa.Table, contract: Contract, specs: Sequence[Spec]) -> Any:
    """The columns the expectations read, as pandas: text, float64 numbers, datetimes."""
    far = set(_far_dates(typed, contract))
    wanted = sorted({name for spec in specs for name in spec.columns})
    arrays = [_for_pandas(typed[name], contract, name, far) for name in wanted]
    return pa.table(arrays, names=wanted).to_pandas()


def _for_pandas(array: pa.ChunkedArray, contract: Contract, name: str, far: set[str]) -> pa.ChunkedArray:
    column = contract.columns.get(name)
    if name.endswith(RAW) or column is None or column.is_text or column.type == "boolean":
        return array
    if column.type == "date":
        return array.cast(pa.timestamp("s" if name in far else "ns"))
    return array.cast(pa.float64())


def _unexpected(entry: Any) -> int:
    rule = entry.expectation_config.meta["rule"]
    _require_evaluated(entry, rule)
    return int(entry.result["unexpected_count"])


def _require_evaluated(entry: Any, rule: str) -> None:
    faults = entry.exception_info or {}
    nested = [fault for fault in faults.values() if isinstance(fault, dict)]
    if any(fault.get("raised_exception") for fault in [faults, *nested]):
        raise SecondOpinionError(f"rule {rule} could not be evaluated by Great Expectations")


def _validate_staged(source: Any, table: str, staged: str, specs: Sequence[Spec]) -> Any:
    schema, _, name = staged.rpartition(".")
    with warnings.catch_warnings():  # one connection serves all schemas, whatever the library would rather have
        warnings.simplefilter("ignore", DeprecationWarning)
        asset = source.add_table_asset(table, table_name=name.strip('"'), schema_name=schema.strip('"') or None)
    batch = asset.add_batch_definition_whole_table("whole").get_batch()
    return batch.validate(_suite(f"release.{table}", specs), result_format=_RESULT_FORMAT)


def _audit_finding(table: str, entry: Any) -> AuditFinding | None:
    config = entry.expectation_config
    rule = config.meta["rule"]
    _require_evaluated(entry, f"{table}: {rule}")
    if entry.success:
        return None
    return AuditFinding(table, rule, config.severity.value, _audit_count(entry), str(config.description))


def _audit_count(entry: Any) -> int:
    """Rows that break a check; for a check of the table as a whole, what was observed."""
    return int(entry.result.get("unexpected_count", entry.result.get("observed_value")) or 0)


def _keep(result: Any, record: DocsRecord) -> None:
    """Write one validation to the results of the docs folder, without row numbers or fingerprints of the data."""
    gx = _great_expectations()
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    for entry in result.results:
        entry.result = {name: value for name, value in entry.result.items() if not name.startswith("partial_")}
    result.meta = {name: value for name, value in (result.meta or {}).items() if name != "batch_markers"}
    key = ValidationResultIdentifier(
        expectation_suite_identifier=ExpectationSuiteIdentifier(name=result.suite_name),
        run_id=gx.RunIdentifier(run_name=record.name, run_time=record.now),
        batch_identifier=record.name,
    )
    result.meta["run_id"] = key.run_id
    with _locked(record.folder):
        _docs_context(record.folder).validation_results_store.set(key, result)


@cache
def _docs_context(folder: Path) -> Any:
    """A context whose validation results and site are folders of ours."""
    return _context_with(_files(folder / "results"), {"site": _site_config(_files(folder / "site"))})


def _files(folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    return {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}


def _site_config(store_backend: Mapping[str, str]) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": dict(store_backend),
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "show_cta_footer": False},
        "site_section_builders": {"expectations": "None", "profiling": "None"},
    }


def _build_site(context: Any, fresh: Sequence[Any]) -> None:
    """Render the pages that are missing, then the index over all. (An empty list would mean every page.)"""
    context.build_data_docs(site_names=["site"], resource_identifiers=list(fresh) or [None], build_index=True)


def _page(folder: Path, key: Any) -> Path:
    return folder.joinpath("site", "validations", *key.to_tuple()).with_suffix(".html")


def _forget(context: Any, folder: Path, key: Any) -> None:
    context.validation_results_store.remove_key(key)
    with suppress(FileNotFoundError):
        shutil.rmtree(_page(folder, key).parent)
