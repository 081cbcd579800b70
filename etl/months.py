"""One month's way: inputs and their fingerprint, core tables, grades, marts, staged files, release.

What the SQL may read is found from the SQL itself: `accepted_<dataset>`, `rejected_<dataset>`, `keys_<dataset>` are the
deliveries in force, `previous_<table>` the month before as last graded, `history_<table>` up to eleven earlier months.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl.affected import Recipe, recipe_of
from etl.basis import Basis, keep_plan, keep_table
from etl.caseload import Caseload
from etl.contract import suite
from etl.contract.predicates import (
    DIGEST_COLUMNS,
    accepted_columns,
    keys_columns,
    person_tokens,
    rejected_columns,
    without_digests_select,
)
from etl.deliveries import path_of
from etl.engine.base import Content
from etl.engine.duck import DuckEngine, identifier
from etl.engine.locality import Seen
from etl.engine.models import Model, order, wrap
from etl.examination import keep_digests
from etl.grading.plan import Statement, grading_plan
from etl.grading.policy import Policies, load_policies
from etl.intake.calendar import WorkCalendar, arrived_at, load_calendar, punctuality
from etl.ledger.records import Delivery
from etl.ledger.records import Grading as Graded
from etl.mended import PREFIX as MENDED
from etl.mended import MendedMonth, number_of
from etl.period import Period
from etl.publish.lake import DataFile, contents_of
from etl.publish.manifest import Facts, Manifest
from etl.publish.partition import Shape, write_partition, write_shape
from etl.publish.release import Publisher
from etl.registry import Expected
from etl.vocabulary import ConfigurationError, DataError
from etl.workspace import Workspace

HISTORY_MONTHS = 11
REGISTER = "members"
# of county.yml: no grade depends on it
_NOT_GRADED_BY = {"first_period", "second_opinion", "approval", "gates", "regrade"}
_LAYERS = ("core", "features", "indicators", "marts", "audit")


@dataclass(frozen=True)
class Grading:
    """What grading a month came to: `staged` names what waits for its release, None when there is nothing to release."""

    period: str
    changed: bool
    staged: Path | None


@dataclass(frozen=True)
class Staged:
    """The files of one graded month, written to the lake and waiting for their release."""

    path: Path
    files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


@dataclass(frozen=True)
class Recorded:
    """What a month was graded from at its time, for a replay, which asks nobody: see `etl.basis`."""

    asked: Mapping[str, pa.Table]
    registers: Sequence[Delivery]
    plan: Sequence[Statement]


@dataclass(frozen=True)
class Base:
    """What computing a graded month again may rest on: a mark of how it was computed, the files behind each input, and the
    files (below `kept_folder`) of relations that are kept though not published."""

    recipe: str
    read: Mapping[str, list[str]]
    kept: tuple[DataFile, ...]


@dataclass(frozen=True)
class MonthInputs:
    """Everything the grades of one month rest on."""

    ws: Workspace
    period: Period
    expected: Sequence[Expected]
    in_force: Sequence[Delivery]
    all_deliveries: Sequence[Delivery]
    carried: frozenset[tuple[str, str]]
    earlier: Mapping[str, Graded]
    candidate: Policies | None = None
    recorded: Recorded | None = None

    @cached_property
    def policies(self) -> Policies:
        """The candidate, if one is tried out; else those in force."""
        return self.candidate or load_policies(self.ws.settings.config, self.period, self.ws.registry)

    @cached_property
    def statements(self) -> Sequence[Statement]:
        """The grading plan, as recorded or as the policies have it."""
        if self.recorded:
            return self.recorded.plan
        return grading_plan(self.policies, self.ws.models, notice_days=self.ws.registry.county.notice_days)

    @cached_property
    def caseload(self) -> Caseload:
        return Caseload(self.ws.ledger, self.period)

    @cached_property
    def mended(self) -> MendedMonth:
        """Rows that two people of the county set right."""
        return MendedMonth(self.ws, self.period, self.in_force, self.carried)

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Expected (supplier, dataset) neither in force nor carried forward; before them, months not yet graded.

        A month rests on the one before (pulls bring changes only, notes may leave a file), so none is left out.
        """
        there = {(delivery.supplier, delivery.dataset) for delivery in self.in_force} | self.carried
        wanted = [(entry.supplier, entry.dataset) for entry in self.expected]
        return [*self._ungraded, *(entry for entry in wanted if entry not in there)]

    @property
    def _ungraded(self) -> list[tuple[str, str]]:
        before = str(self.period.previous())
        is_expected = bool(self.ws.registry.expected(self.period.previous()))
        return [(before, "the grades")] if is_expected and before not in self.earlier else []

    @cached_property
    def fingerprint(self) -> str:
        """A mark of all inputs: deliveries, rule sets, policies, models, contracts, key, earlier months' contents."""
        return _mark(
            {
                **self._data,
                "policies": [hashlib.md5(path.read_bytes()).hexdigest() for path in self.policies.files.values()],
                "earlier": {period: dict(graded.contents) for period, graded in self.earlier.items()},
            }
        )

    @cached_property
    def data_fingerprint(self) -> str:
        """A mark of what a policy is applied to: the fingerprint without the policies and what came of them before."""
        return _mark(self._data)

    @cached_property
    def policy_marks(self) -> dict[str, str]:
        """Policy -> a mark of its versions in force for the month; a comment in its file changes nothing."""
        versions = {name: repr(scopes) for name, scopes in sorted(self.policies.in_force.items())}
        return {name: hashlib.sha256(version.encode()).hexdigest() for name, version in versions.items()}

    @cached_property
    def _data(self) -> dict[str, Any]:
        return {
            "deliveries": self.scored_deliveries,
            "in_force": [(d.supplier, d.dataset, d.sha256, d.ruleset) for d in self.in_force],
            "carried": sorted(self.carried),
            "due_known": [self.is_due_known(entry) for entry in self.expected],
            "models": [(model.name, model.sql) for model in self.ws.models.values()],
            "columns": {
                table: [(c.name, c.type) for c in contract.published] for table, contract in self.ws.contracts.items()
            },
            "county": self.ws.registry.county.model_dump(mode="json", exclude=_NOT_GRADED_BY),
            "places": [str(place) for place in self.ws.registry.places],
            "key": self.ws.token_key.version,
            "cases": self.caseload.mark(),
            "mended": self.mended.mark(),
        }

    @cached_property
    def scored_deliveries(self) -> list[dict[str, Any]]:
        """What the scorecard counts: each content a supplier sent once, however often it was sent."""
        seen: dict[tuple[str, str, str | None], Delivery] = {}
        for delivery in self.all_deliveries:
            if delivery.outcome in (None, "duplicate"):
                continue
            key = (delivery.supplier, delivery.dataset, delivery.sha256)
            if key not in seen or (delivery.in_force and not seen[key].in_force):
                seen[key] = delivery
        return [self._scored(delivery) for delivery in seen.values()]

    def _scored(self, delivery: Delivery) -> dict[str, Any]:
        warnings = sum(delivery.counts_by_rule.values()) if delivery.outcome == "accepted_with_warnings" else 0
        return {
            "supplier": delivery.supplier,
            "dataset": delivery.dataset,
            "revision": delivery.revision,
            "outcome": delivery.outcome,
            "in_force": delivery.in_force,
            "rows_read": delivery.rows_read or 0,
            "rows_accepted": delivery.rows_accepted or 0,
            "rows_rejected": delivery.rows_rejected or 0,
            "warnings": warnings,
            "is_on_time": self._is_on_time(delivery),
        }

    def _is_on_time(self, delivery: Delivery) -> bool | None:
        """Whether the file lay in the drop zone by its due time; None where the calendar does not know the month."""
        try:
            owner = self.ws.registry.owner(delivery.supplier, delivery.dataset)
        except ConfigurationError:
            return None  # a supplier that has left since; its past months stay as they are
        due = self._calendar.due(self.period, owner.due, self.ws.registry.county.timezone)
        said = punctuality(arrived_at(delivery.mtime_ns, delivery.claimed_at), due, self.period)
        return None if said == "unknown" else said != "late"

    @cached_property
    def asked(self) -> Mapping[str, pa.Table]:
        """The relations that come from ledger and configuration, not from deliveries."""
        if self.recorded:
            return self.recorded.asked
        return {**{name: make(self) for name, make in _DERIVED.items()}, **self.mended.relations()}

    @cached_property
    def registers(self) -> Sequence[Delivery]:
        """The register as it was known up to this month, where identity digests have to be looked up in it."""
        if self.recorded:
            return self.recorded.registers
        if not self.ws.registry.takes_id_digests:
            return []
        months = Period.range(self.ws.registry.county.first_period, self.period)
        return [one for month in months for one in self.ws.ledger.in_force(str(month)) if one.dataset == REGISTER]

    def is_due_known(self, entry: Expected) -> bool:
        """Whether the calendar says when an expected delivery is due."""
        owner = self.ws.registry.owner(entry.supplier, entry.dataset)
        return self._calendar.due(self.period, owner.due, self.ws.registry.county.timezone).state == "known"

    @cached_property
    def _calendar(self) -> WorkCalendar:
        return load_calendar(self.ws.settings.config)


def _mark(parts: Mapping[str, Any]) -> str:
    return hashlib.md5(json.dumps(parts, sort_keys=True, default=str).encode(), usedforsecurity=False).hexdigest()


def inputs_of(ws: Workspace, period: str) -> MonthInputs:
    """Ask the ledger what a month rests on."""
    month = Period.parse(period)
    window = [str(month.shift(-back)) for back in range(HISTORY_MONTHS, 0, -1)]
    return MonthInputs(
        ws=ws,
        period=month,
        expected=ws.registry.expected(month),
        in_force=ws.ledger.in_force(period),
        all_deliveries=ws.ledger.deliveries(period),
        carried=frozenset((entry.supplier, entry.dataset) for entry in ws.ledger.carried(period)),
        earlier=dict(sorted(ws.ledger.last_gradings(window).items())),
    )


# -- what is ready ----------------------------------------------------------------------------------------------------


def ready_periods(ws: Workspace) -> list[str]:
    """Months that are complete and differ from what was graded, or graded and not released; oldest first."""
    return [period for period in _complete_periods(ws) if _is_open(ws, inputs_of(ws, period))]


def unasked_periods(ws: Workspace, *, now: datetime) -> list[str]:
    """Ready months whose present inputs nobody has asked grades for yet; now they are asked for."""
    ready = [inputs_of(ws, period) for period in ready_periods(ws)]
    asked = (one for one in ready if ws.ledger.request_grading(str(one.period), one.fingerprint, now=now))
    return [str(one.period) for one in asked]


def ready_before(ws: Workspace, period: str) -> list[str]:
    """Complete months before this one that are not graded from their present inputs; oldest first."""
    return [earlier for earlier in _complete_periods(ws) if earlier < period and is_stale(ws, inputs_of(ws, earlier))]


def _complete_periods(ws: Workspace) -> Iterator[str]:
    """Months for which everything expected is there, from the first on without a gap."""
    known = {delivery.period for delivery in ws.ledger.deliveries()}
    month = ws.registry.county.first_period
    while known and str(month) <= max(known):
        expected = [(entry.supplier, entry.dataset) for entry in ws.registry.expected(month)]
        if expected and ws.ledger.missing(str(month), expected):
            return
        if expected:
            yield str(month)
        month = month.next()


def _is_open(ws: Workspace, inputs: MonthInputs) -> bool:
    graded = ws.ledger.last_grading(str(inputs.period))
    return graded is None or graded.fingerprint != inputs.fingerprint or unreleased(ws, graded) is not None


def is_stale(ws: Workspace, inputs: MonthInputs) -> bool:
    """Whether a month is not graded from its present inputs."""
    graded = ws.ledger.last_grading(str(inputs.period))
    return graded is None or graded.fingerprint != inputs.fingerprint


# -- conform and grade ------------------------------------------------------------------------------------------------


def register_inputs(engine: DuckEngine, inputs: MonthInputs) -> None:
    """Make everything the models read, and do not make themselves, available under its name."""
    for name in inputs_read(inputs):
        _register(engine, inputs, name)


def inputs_read(inputs: MonthInputs) -> list[str]:
    """The names of all relations that the month's SQL may read and does not make."""
    models = inputs.ws.models
    made = set(models) | {statement.name for statement in plan(inputs)}
    wanted = {name for model in models.values() if model.layer in _LAYERS for name in model.depends}
    wanted |= {f"previous_{table}" for table in inputs.ws.contracts if table.startswith("core_")} | set(inputs.asked)
    return sorted(wanted - made)


def recipe(engine: DuckEngine, inputs: MonthInputs) -> Recipe:
    """The month's steps over inputs that are registered. What was once found in the same SQL is not looked for again."""
    columns = {name: engine.columns(name) for name in inputs_read(inputs)}
    how = recipe_of(inputs.ws.models, inputs.ws.contracts, plan(inputs), columns, _params(inputs))
    known = (
        inputs.ws.settings.restricted / "graded" / "sql" / f"{_mark({'steps': _spelled(how), 'of': how.inputs})}.json"
    )
    if not known.exists():
        found = {name: seen.as_json() for name, seen in how.looks.items()}
        write_once(known, json.dumps(found).encode())
    held = json.loads(known.read_text(encoding="utf-8"))
    return replace(how, known={name: Seen.from_json(seen) for name, seen in held.items()})


def _spelled(how: Recipe) -> list[tuple[str, str]]:
    return [(step.name, step.sql) for step in how.steps]


def _register(engine: DuckEngine, inputs: MonthInputs, name: str) -> None:
    kind, _, rest = name.partition("_")
    if name in inputs.asked:
        engine.register_arrow(name, inputs.asked[name])
    elif kind in ("accepted", "rejected", "keys"):
        _register_deliveries(engine, inputs, kind, rest)
    elif kind == "previous":
        _register_graded(engine, inputs, name, rest, [str(inputs.period.previous())])
    elif kind == "history":
        _register_graded(engine, inputs, name, rest, list(inputs.earlier))
    elif name in inputs.ws.contracts:
        _register_graded(engine, inputs, name, name, [])  # grades of a subject that no policy is in force for


def _register_deliveries(engine: DuckEngine, inputs: MonthInputs, kind: str, dataset: str) -> None:
    """Parquet of all deliveries of a dataset in force (`accepted_`, `rejected_`, `keys_`)."""
    contract = inputs.ws.contract_of(dataset)
    paths = [path_of(inputs.ws, kind, delivery) for delivery in inputs.in_force if delivery.dataset == dataset]
    columns = {"accepted": accepted_columns, "rejected": rejected_columns}
    if kind == "keys":
        held = keys_columns(contract, _key_column(inputs, dataset))
    else:
        held = columns[kind](contract)
    lost = [path for path in paths if not path.exists()]
    if lost:
        raise DataError(
            f"{dataset}, {inputs.period}: {kind} rows of {lost[0].stem} are gone from the restricted zone",
            "restore them from the backup; a missing file is not an empty one",
        )
    persons = person_tokens(contract) if kind != "keys" and has_digests(inputs, dataset) else []
    given = f"{kind}_{dataset}__given" if persons else f"{kind}_{dataset}"
    engine.register_parquet(given, paths, held)
    if kind == "accepted":
        _mend(engine, inputs, dataset, given)
    if persons:
        digests = f"{kind}_{dataset}__digests"
        maps = [keep_digests(inputs.ws, register) for register in inputs.registers]
        engine.register_parquet(digests, maps, DIGEST_COLUMNS)
        distinct = f"(SELECT DISTINCT digest_key, person_key FROM {digests})"
        select = without_digests_select(list(held), persons, relation=given, digests=distinct)
        engine.run_view(f"{kind}_{dataset}", select)


def _mend(engine: DuckEngine, inputs: MonthInputs, dataset: str, given: str) -> None:
    """Let the rows that were set right stand in the place of those delivered, if there are any."""
    mended = mended_rows(inputs, f"accepted_{dataset}")
    if mended is None:
        return
    rows, files = f"{given}__mended", f"{given}__files"
    engine.rename(given, files)
    engine.register_arrow("mending", mended)
    engine.run_model(rows, "SELECT * FROM mending")
    number, columns = number_of(inputs.ws.contract_of(dataset)), ", ".join(engine.columns(rows))
    engine.run_view(
        given,
        f"SELECT {columns} FROM {files} WHERE {number} NOT IN (SELECT {number} FROM {rows}) "
        f"UNION ALL SELECT {columns} FROM {rows}",
    )


def mended_rows(inputs: MonthInputs, name: str) -> pa.Table | None:
    """Rows that stand in the place of delivered ones in an input; None where there are none."""
    kind, _, dataset = name.partition("_")
    mended = inputs.asked.get(MENDED + dataset) if kind == "accepted" else None
    return mended if mended is not None and mended.num_rows else None


def has_digests(inputs: MonthInputs, dataset: str) -> bool:
    """Whether banks deliver the dataset and some bank's identity numbers are digests."""
    registry = inputs.ws.registry
    return registry.takes_id_digests and any(dataset in bank.feeds for bank in registry.banks.values())


def _key_column(inputs: MonthInputs, dataset: str) -> str:
    return next(str(s.feeds[dataset].key) for s in inputs.ws.registry.sources.values() if dataset in s.feeds)


def _register_graded(engine: DuckEngine, inputs: MonthInputs, name: str, table: str, periods: Sequence[str]) -> None:
    """A table of earlier months as last graded; empty, but typed, where there are none."""
    register_staged(engine, inputs.ws, name, table, [inputs.earlier[one] for one in periods if one in inputs.earlier])


def register_staged(engine: DuckEngine, ws: Workspace, name: str, table: str, gradings: Iterable[Graded]) -> None:
    """One table as these gradings staged it, under a name of its own; typed and empty where none holds it."""
    staged = [_staged(Path(graded.staged_path)) for graded in gradings]
    paths = [ws.settings.lake / file.path for one in staged for file in one.files if file.table == table]
    engine.register_parquet(name, paths, {column.name: column.type for column in ws.contracts[table].published})


def files_read(inputs: MonthInputs) -> dict[str, list[str]]:
    """The files behind every input, each written once; digests of identity numbers apart, which `recipe_mark` knows."""
    return {name: sorted(str(path) for path in _files_of(inputs, name)) for name in inputs_read(inputs)}


def _files_of(inputs: MonthInputs, name: str) -> list[Path]:
    if name in inputs.asked:
        return [_kept_apart(inputs, inputs.asked[name])]
    return [path for files in deliveries_and_months(inputs, name) for path in files]


def deliveries_and_months(inputs: MonthInputs, name: str) -> list[list[Path]]:
    """The files behind an input that comes from deliveries, or from graded months: those of each together."""
    kind, _, rest = name.partition("_")
    if kind in ("accepted", "rejected", "keys"):
        delivered = [[path_of(inputs.ws, kind, one)] for one in inputs.in_force if one.dataset == rest]
        mended = mended_rows(inputs, name)
        return delivered if mended is None else [*delivered, [_kept_apart(inputs, mended)]]
    periods = {"previous": [str(inputs.period.previous())], "history": list(inputs.earlier)}.get(kind, [])
    staged = [_staged(Path(inputs.earlier[one].staged_path)) for one in periods if one in inputs.earlier]
    lake = inputs.ws.settings.lake
    return [[lake / file.path for file in one.files if file.table == rest] for one in staged]


def _kept_apart(inputs: MonthInputs, table: pa.Table) -> Path:
    """A relation that is in no delivery, as a file named by its rows."""
    scratch = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), scratch)
    held = scratch.getvalue().to_pybytes()
    name = hashlib.md5(held, usedforsecurity=False).hexdigest()
    return write_once(inputs.ws.settings.restricted / "graded" / f"{name}.parquet", held)


def write_once(path: Path, held: bytes) -> Path:
    """Let a file that is named by what it holds appear whole, unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = path.with_suffix(".part")
        scratch.write_bytes(held)
        scratch.replace(path)
    return path


def _expected_inputs(inputs: MonthInputs) -> pa.Table:
    there = {(delivery.supplier, delivery.dataset) for delivery in inputs.in_force}
    states = ["in_force" if (e.supplier, e.dataset) in there else "carried_forward" for e in inputs.expected]
    return pa.table(
        {
            "supplier": pa.array([entry.supplier for entry in inputs.expected], pa.string()),
            "dataset": pa.array([entry.dataset for entry in inputs.expected], pa.string()),
            "state": pa.array(states, pa.string()),
            "kind": pa.array([entry.kind for entry in inputs.expected], pa.string()),
            "is_due_known": pa.array([inputs.is_due_known(entry) for entry in inputs.expected], pa.bool_()),
        }
    )


def _period_deliveries(inputs: MonthInputs) -> pa.Table:
    schema = pa.schema(
        [
            ("supplier", pa.string()),
            ("dataset", pa.string()),
            ("revision", pa.int32()),
            ("outcome", pa.string()),
            ("in_force", pa.bool_()),
            ("rows_read", pa.int64()),
            ("rows_accepted", pa.int64()),
            ("rows_rejected", pa.int64()),
            ("warnings", pa.int64()),
            ("is_on_time", pa.bool_()),
        ]
    )
    return pa.Table.from_pylist(inputs.scored_deliveries, schema)


def _accepted_places(inputs: MonthInputs) -> pa.Table:
    places = [asdict(place) for place in inputs.ws.registry.places]
    schema = pa.schema(
        [
            ("place_code", pa.string()),
            ("place_name", pa.string()),
            ("place_level", pa.string()),
            ("parent_code", pa.string()),
            ("valid_from_on", pa.date32()),
            ("valid_to_on", pa.date32()),
            ("in_programme", pa.bool_()),
        ]
    )
    return pa.Table.from_pylist(places, schema)


def _of_caseload(name: str) -> Callable[[MonthInputs], pa.Table]:
    return lambda inputs: inputs.caseload.relations()[name]


_DERIVED: Mapping[str, Callable[[MonthInputs], pa.Table]] = {
    "expected_inputs": _expected_inputs,
    "period_deliveries": _period_deliveries,
    "accepted_places": _accepted_places,
    **{name: _of_caseload(name) for name in ("accepted_cases", "mended_notes", "repaired_items", "grade_stages")},
}


def _params(inputs: MonthInputs) -> dict[str, Any]:
    return {
        "period": str(inputs.period),
        "period_start": inputs.period.start,
        "period_end": inputs.period.end,
        "previous_period_end": inputs.period.previous().end,
        "round": inputs.ws.registry.county.round_of(inputs.period),
    }


def conform(engine: DuckEngine, inputs: MonthInputs) -> None:
    """Run the core models in the order of what they read, each cast to its contract; they are sorted when written."""
    core = [name for name, model in inputs.ws.models.items() if model.layer == "core"]
    for model in order(inputs.ws.models, core):
        engine.run_model(model.name, wrap(model, inputs.ws.contracts[model.name], in_order=False), _params(inputs))


def grade(engine: DuckEngine, inputs: MonthInputs) -> None:
    """Run features, points, grades and marts, and list what could not be linked or had no legal ground."""
    for statement in plan(inputs):
        run_statement(engine, inputs, statement)
    for model in _of_layer(inputs, "marts"):
        make_mart(engine, inputs, model.name)
    for model in _of_layer(inputs, "audit"):
        engine.run_model(model.name, model.sql, _params(inputs))


def make_mart(engine: DuckEngine, inputs: MonthInputs, name: str) -> None:
    """Make one mart, cast to its contract, from what is in the engine."""
    select = wrap(inputs.ws.models[name], inputs.ws.contracts[name], in_order=False)
    engine.run_model(name, select, _params(inputs))


def run_statement(engine: DuckEngine, inputs: MonthInputs, statement: Statement) -> None:
    """Make one relation of the grading plan."""
    if statement.streamed:
        engine.run_view(statement.name, statement.sql)
    else:
        engine.run_model(statement.name, statement.sql, _params(inputs))


def plan(inputs: MonthInputs) -> list[Statement]:
    """The grading statements of the month, under its policies."""
    return list(inputs.statements)


def _of_layer(inputs: MonthInputs, layer: str) -> Iterable[Model]:
    wanted = [name for name, model in inputs.ws.models.items() if model.layer == layer]
    return [model for model in order(inputs.ws.models, wanted) if model.layer == layer]


# -- stage and publish ------------------------------------------------------------------------------------------------


def stage(
    engine: DuckEngine,
    inputs: MonthInputs,
    base: Base | None,
    files: Sequence[DataFile],
    *,
    now: datetime,
    lists: Mapping[str, str] | None = None,
) -> Staged:
    """Record the grading whose tables are written to the lake's data folder; nothing is visible yet.

    `base` is what the next grading of the month may rest on, where it may be graded in part. `lists` says which relations hold
    the lists for the ledger, if others than those of their names.
    """
    ws, period = inputs.ws, str(inputs.period)
    staged = Staged(ws.settings.staging / period / f"{inputs.fingerprint}.json", tuple(files))
    save_staged(staged.path, files, _facts(inputs), base)
    _save_lists(engine, inputs, lists or {})
    contents = {table: str(content) for (table, _), content in contents_of(files).items()}
    basis = basis_of(inputs).as_json()
    ws.ledger.record_grading(period, inputs.fingerprint, str(staged.path), contents, now=now, basis=basis)
    return staged


def base_of_next(inputs: MonthInputs, how: Recipe, kept: Iterable[DataFile]) -> Base:
    """What the next grading of this month may rest on."""
    return Base(recipe_mark(inputs, how), files_read(inputs), tuple(kept))


def kept_folder(ws: Workspace) -> Path:
    """Below which the files of relations lie that are kept though not published."""
    return ws.settings.restricted / "graded"


def keep_relation(engine: DuckEngine, inputs: MonthInputs, how: Recipe, name: str, relation: str) -> list[DataFile]:
    """Write a relation that is kept though not published; `relation` holds all its rows."""
    shape = kept_shape(engine, how, name, relation)
    return write_shape(engine, shape, relation, str(inputs.period), kept_folder(inputs.ws))


def kept_shape(engine: DuckEngine, how: Recipe, name: str, relation: str) -> Shape:
    """A kept relation in the order of its owners, where there are such."""
    described = engine.fetch(f"SELECT column_name, column_type FROM (DESCRIBE {identifier(relation)})")
    kinds = {str(column): "text" if str(kind).startswith("ENUM") else str(kind) for column, kind in described}
    first = sorted(kinds, key=lambda column: column != how.owner_of(name))
    return Shape(name, kinds, tuple(first))


def recipe_mark(inputs: MonthInputs, how: Recipe) -> str:
    """A mark of everything but the inputs' rows: steps with their policies, parameters, columns, token key, digest maps."""
    registers = [register.delivery_id for register in inputs.registers]
    parts = [_spelled(how), how.inputs, how.params, inputs.ws.token_key.version, registers]
    return hashlib.md5(json.dumps(parts, sort_keys=True, default=str).encode(), usedforsecurity=False).hexdigest()


def last_base(graded: Graded) -> Base | None:
    """What the grading of a month left for the next one; None for one that was graded before there was such a thing."""
    found = json.loads(Path(graded.staged_path).read_text(encoding="utf-8")).get("base")
    if not found or isinstance(found["kept"], dict):
        return None
    return Base(found["recipe"], found["read"], tuple(map(_file_of, found["kept"])))


def staged_files(graded: Graded) -> tuple[DataFile, ...]:
    """The files of a graded month."""
    return _staged(Path(graded.staged_path)).files


def basis_of(inputs: MonthInputs) -> Basis:
    """All that the grading rests on besides landed bytes, kept for whoever computes it again."""
    shelf = inputs.ws.shelf
    return Basis(
        configuration=inputs.ws.configuration,
        token_key=inputs.ws.token_key.version,
        deliveries=[delivery.delivery_id for delivery in inputs.in_force],
        registers=[delivery.delivery_id for delivery in inputs.registers],
        carried=sorted(inputs.carried),
        earlier={period: graded.grading_id for period, graded in inputs.earlier.items()},
        plan=keep_plan(shelf, plan(inputs)),
        asked={name: keep_table(shelf, table) for name, table in inputs.asked.items()},
    )


def save_staged(
    path: Path, files: Iterable[DataFile], facts: Mapping[str, Any] | None = None, base: Base | None = None
) -> None:
    """Note the files of a graded month, what a release may say of them, and what the next grading may rest on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {"files": list(map(_file_json, files)), "facts": facts, "base": base and _base_json(base)},
        ensure_ascii=False,
        indent=1,
    )
    scratch = path.with_suffix(".part")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def write_tables(engine: DuckEngine, inputs: MonthInputs) -> list[DataFile]:
    """Write every published table the engine holds to the lake's data folder, in the order of its key."""
    contracts, lake = inputs.ws.contracts, inputs.ws.settings.lake
    held = {name for (name,) in engine.fetch("SELECT table_name FROM information_schema.tables")}
    ordered = {statement.name for statement in plan(inputs) if statement.streamed}
    return [
        file
        for table in contracts
        if table in held
        for file in write_partition(
            engine, contracts[table], table, str(inputs.period), lake, is_ordered=table in ordered
        )
    ]


def _save_lists(engine: DuckEngine, inputs: MonthInputs, lists: Mapping[str, str]) -> None:
    held = {name: identifier(lists.get(name, name)) for name in ("unmatched", "no_basis")}
    unmatched = f"SELECT dataset, supplier, subject_kind, token, reason FROM {held['unmatched']} ORDER BY ALL"
    no_basis = (
        f"SELECT dataset, supplier, token, purpose, delivery_id, member, row_no FROM {held['no_basis']} ORDER BY ALL"
    )
    inputs.ws.ledger.save_unmatched(str(inputs.period), engine.con.sql(unmatched).to_arrow_table())
    inputs.ws.ledger.save_no_basis(str(inputs.period), engine.con.sql(no_basis).to_arrow_table())


def _base_json(base: Base) -> dict[str, Any]:
    return {"recipe": base.recipe, "read": base.read, "kept": list(map(_file_json, base.kept))}


def _file_json(file: DataFile) -> dict[str, Any]:
    return {**asdict(file), "content": str(file.content)}


def _facts(inputs: MonthInputs) -> dict[str, Any]:
    ws, household = inputs.ws, inputs.policies.household
    rulesets = sorted({str(delivery.ruleset) for delivery in inputs.in_force})
    return {
        "policy": {**inputs.policies.versions, "status": household.status},
        "ruleset": hashlib.md5("".join(rulesets).encode(), usedforsecurity=False).hexdigest()[:16],
        "key_version": ws.token_key.version,
        "inputs": [
            {
                "supplier": d.supplier,
                "dataset": d.dataset,
                "delivery_id": d.delivery_id,
                "sha256": d.sha256,
                "revision": d.revision,
            }
            for d in inputs.in_force
        ],
        "completeness": {"carried_forward": sorted(f"{supplier}/{dataset}" for supplier, dataset in inputs.carried)},
        "synthetic": ws.registry.county.synthetic,
        "notes": {
            "notice_days": ws.registry.county.notice_days,
            "fingerprint": inputs.fingerprint,
            "policies": inputs.policy_marks,
        },
    }


def _staged(path: Path) -> Staged:
    return Staged(path, tuple(map(_file_of, json.loads(path.read_text(encoding="utf-8"))["files"])))


def _file_of(entry: Mapping[str, Any]) -> DataFile:
    span = entry.get("span")
    return DataFile(**{**entry, "content": Content.parse(entry["content"]), "span": tuple(span) if span else None})


def publisher(ws: Workspace) -> Publisher:
    """The publisher of this county's releases."""
    return Publisher(ws.settings.lake, str(ws.settings.warehouse_url), ws.ledger, ws.contracts)


def facts_of(graded: Graded) -> Facts:
    """What a grading says of how it was computed."""
    return Facts(**json.loads(Path(graded.staged_path).read_text(encoding="utf-8"))["facts"])


def publish(ws: Workspace, period: str, *, now: datetime, gates: Mapping[str, Any] | None = None) -> Manifest | None:
    """Publish the month as last graded; None when the current release holds the same content.

    `gates` is what the manifest says of the gates the month has passed.
    """
    graded = ws.ledger.last_grading(period)
    if graded is None:
        return None
    facts = replace(facts_of(graded), gates=gates or {})
    files = _staged(Path(graded.staged_path)).files

    def audit(staged: Mapping[str, str]) -> Sequence[str]:
        record = suite.DocsRecord(ws.settings.audit_docs, f"release-{period}", now)
        found = suite.audit_staged(str(ws.settings.warehouse_url), staged, ws.contracts, record=record)
        return [f"{one.table}: {one.says} ({one.rule}, {one.count} rows)" for one in found.blocking]

    published = publisher(ws).publish(files, period=period, facts=facts, now=now, audit=audit)
    suite.build_data_docs(ws.settings.audit_docs)
    return published


def unreleased(ws: Workspace, graded: Graded) -> Path | None:
    """The staged file of a grading whose content the current release does not hold; None if it was rolled back."""
    if graded.fingerprint in _rolled_back(ws, graded.period):
        return None
    current = ws.ledger.current_release()
    held = Manifest.from_json(current.manifest).contents if current else {}
    released = {table: str(content) for (table, period), content in held.items() if period == graded.period}
    return None if released == dict(graded.contents) else Path(graded.staged_path)


def _rolled_back(ws: Workspace, period: str) -> set[str]:
    """Fingerprints of a month whose releases were taken back: they stay back until the inputs change."""
    taken_back = [one for one in ws.ledger.releases() if one.period == period and one.status == "rolled_back"]
    return {str(Manifest.from_json(one.manifest).facts[period]["notes"]["fingerprint"]) for one in taken_back}


def unreleased_until(ws: Workspace, period: str) -> list[str]:
    """Graded months up to this one whose content is not in the current release; oldest first."""
    gradings = ws.ledger.last_gradings()
    return [one for one in sorted(gradings) if one <= period and unreleased(ws, gradings[one]) is not None]
