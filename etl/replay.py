"""A past release computed again from landed bytes, under everything that was in force then; nothing is published.

A release holds months, and each month's grading says what it rested on (`etl.basis`): deliveries, earlier gradings, the
configuration, contracts, SQL and plan of its time. Deliveries are decrypted, read, cast and checked anew under the rules
they were examined under then, months are conformed and graded anew in the order in which they were, all in a scratch
folder of the restricted zone; then content is compared for every table and month with what the manifest says.

What is lost is left out, and what follows from it is found by reading the SQL: such a table may still come out equal, and
if it does not, nothing can be said of it. Lost by law (`etl.deletion`) is no fault; lost otherwise is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from etl import months
from etl.basis import Basis, plan_then, settings_then, table_then
from etl.deliveries import Verdict, keep_keys, subject_of
from etl.engine.base import NOTHING, Content
from etl.engine.dialect import parse, tables_read
from etl.engine.duck import DuckEngine, identifier
from etl.engine.models import order
from etl.examination import examine
from etl.history import grading_behind
from etl.intake.delivery import verify_landed
from etl.ledger.deletions import Deletion, deletions
from etl.ledger.records import Delivery, Grading
from etl.ledger.transitions import code_version
from etl.months import MonthInputs, Recorded
from etl.period import Period
from etl.publish.lake import DataFile, contents_of
from etl.publish.manifest import Manifest, Place
from etl.settings import Settings
from etl.vocabulary import CreditVillageError, DataError
from etl.workspace import Workspace

EQUAL, DIFFERS, CANNOT = "equal", "differs", "cannot"
DELIVERY_MEMORY = "400MB"
Causes = frozenset[str]
NO_CAUSE: Causes = frozenset()
Tell = Callable[[str, int, int], None]
_CANNOT_BE_DONE = (CreditVillageError, LookupError, OSError, ValueError, duckdb.Error)


@dataclass(frozen=True)
class Line:
    """One table and month of the release: `rows` as released, `rows_alike` of them came out the same.

    `because` names what it rests on that is lost. `equal_sources` are the partitions of it that are equal all the same.
    `rows_alike` is None where there is nothing to compare with.
    """

    table: str
    period: str
    verdict: str
    rows: int
    rows_alike: int | None
    because: str = ""
    equal_sources: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What a replay came to. `faults` are losses that no law explains; `code_then` maybe differs from `code_now`."""

    release_id: str
    code_then: str
    code_now: str
    lines: Sequence[Line]
    deleted: Sequence[Deletion]
    faults: Sequence[str]

    @property
    def is_equal(self) -> bool:
        """Whether everything that the law left is equal."""
        return not self.faults and all(line.verdict != DIFFERS for line in self.lines)

    def require_equal(self) -> list[list[str]]:
        """What could not be compared, as (table, month, why); raises DataError when the release is not equal."""
        if not self.is_equal:
            differing = [f"{line.table} of {line.period} differs" for line in self.lines if line.verdict == DIFFERS]
            first, *more = [*self.faults, *differing]
            mend = f"see all of it with `creditvillage replay --release {self.release_id}`"
            raise DataError(f"{self.release_id}: {first} (and {len(more)} more)", mend)
        return [[line.table, line.period, line.because] for line in self.lines if line.verdict == CANNOT]


def replay(settings: Settings, release_id: str, *, tell: Tell = lambda what, done, of: None) -> Report:
    """Compute a release again and compare; `tell` hears what is being done, as the n-th of so many steps.

    Raises DataError for a release that does not exist.
    """
    ws = Workspace(settings)
    release = months.publisher(ws).show(release_id)
    with TemporaryDirectory(prefix="replay-", dir=ws.spill) as scratch:
        again = _Again(ws, Path(scratch), deletions(ws.ledger))
        gradings = again.gradings_of(release)
        again.run(gradings, tell)
        lines = list(again.compare(release, gradings))
        deleted = [again.deletions[one] for one in sorted(again.deletions.keys() & again.lost.keys())]
        [code_then] = [one.code_version for one in ws.ledger.releases() if one.release_id == release_id]
    return Report(release_id, code_then, code_version(), lines, deleted, again.faults)


@dataclass
class _Again:
    """The scratch home of a replay, and what has been computed in it so far."""

    ws: Workspace
    scratch: Path
    deletions: Mapping[str, Deletion]
    lost: dict[str, str] = field(default_factory=dict)  # delivery or grading: why it is not there
    faults: list[str] = field(default_factory=list)
    _examined: set[str] = field(default_factory=set)
    _files: dict[int, list[DataFile]] = field(default_factory=dict)
    _staged: dict[int, Grading] = field(default_factory=dict)
    _tainted: dict[int, Mapping[str, Causes]] = field(default_factory=dict)
    _workspaces: dict[str, Workspace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._home = self.scratch / "home"
        self._home.mkdir()
        (self._home / "secrets").symlink_to(self.ws.settings.secrets, target_is_directory=True)
        self._known = {one.grading_id: one for one in self.ws.ledger.gradings()}

    # -- what has to be done ----------------------------------------------------------------------------------------

    def gradings_of(self, release: Manifest) -> dict[str, Grading]:
        """The grading behind each month of a release; a month whose grading is not known is a fault."""
        found = {}
        for period in release.periods:
            grading = grading_behind(self.ws, release, period)
            if grading:
                found[period] = grading
            else:
                self.faults.append(f"{period}: the ledger does not know the grading it was released from")
        return found

    def run(self, gradings: Mapping[str, Grading], tell: Tell) -> None:
        """Compute these gradings and all that they rest on, oldest first."""
        wanted = self._closure(gradings.values())
        bases = {one.grading_id: Basis.of(one.basis) for one in wanted if one.basis}
        needed = {name for basis in bases.values() for name in (*basis.deliveries, *basis.registers)}
        steps = len(needed) + len(wanted)
        for number, grading in enumerate(wanted):
            basis = bases.get(grading.grading_id)
            for delivery_id in (*basis.deliveries, *basis.registers) if basis else ():
                tell(delivery_id, len(self._examined) + number, steps)
                self._examine(delivery_id, basis.configuration if basis else "")
            tell(f"{grading.period} #{grading.grading_id}", len(self._examined) + number, steps)
            self._grade(grading, basis)

    def _closure(self, gradings: Iterable[Grading]) -> list[Grading]:
        pending, found = [one.grading_id for one in gradings], set()
        while pending:
            number = pending.pop()
            if number in self._known and number not in found:
                found.add(number)
                pending.extend(((self._known[number].basis or {}).get("earlier") or {}).values())
        return [self._known[number] for number in sorted(found)]

    # -- one delivery -----------------------------------------------------------------------------------------------

    def _examine(self, delivery_id: str, configuration: str) -> None:
        """Examine a delivery's landed bytes as they were examined then; what cannot be read is lost."""
        if delivery_id in self._examined:
            return
        self._examined.add(delivery_id)
        delivery = self.ws.ledger.delivery(delivery_id)
        if delivery_id in self.deletions:
            self.lost[delivery_id] = f"{delivery_id} was deleted by law"
            return
        try:
            self._examine_landed(delivery, self._then(delivery.snapshot or configuration))
        except _CANNOT_BE_DONE as error:
            self._lose(delivery_id, f"{delivery_id}: {_one_line(error)}")

    def _examine_landed(self, delivery: Delivery, then: Workspace) -> None:
        if delivery.wrapped_key is None:
            raise DataError("its key is gone, and no deletion is on record", "restore ledger.delivery_keys")
        path = Path(str(delivery.landed_path))
        if not path.is_file():
            raise DataError(f"landed file {path.name} is missing", "restore it from the backup")
        verify_landed(path, delivery.wrapped_key, then.master_key_path)
        subject = subject_of(then, delivery)
        with then.engine(memory_limit=DELIVERY_MEMORY) as engine:
            verdict, _ = examine(engine, then, subject)
            if not verdict.is_accepted:
                rules = ", ".join(sorted(verdict.counts_by_rule))
                raise DataError(
                    f"{verdict.outcome} now ({rules}), {delivery.outcome} then", "see what the code changed"
                )
            if subject.feed.relation:
                keep_keys(engine, then, subject)
        self._require_same(delivery, verdict)

    def _require_same(self, delivery: Delivery, verdict: Verdict) -> None:
        """Another number of rows than then is a fault by itself, whatever comes of it."""
        then, now = (delivery.rows_read, delivery.rows_accepted), (verdict.rows_read, verdict.rows_accepted)
        if then != now:
            told = f"{now[1]} of {now[0]} rows accepted, {then[1]} of {then[0]} then"
            self.faults.append(f"{delivery.delivery_id}: {told} (rule set {delivery.ruleset} then)")

    def _lose(self, what: str, why: str) -> None:
        self.lost[what] = why
        self.faults.append(why)

    def _then(self, configuration: str) -> Workspace:
        """A workspace in the scratch home, under the configuration of that time."""
        if configuration not in self._workspaces:
            here = replace(self.ws.settings, home=self._home, token_key_file=self.ws.settings.token_key_path)
            then = settings_then(self.ws.shelf, configuration, here, self.scratch / "configurations")
            self._workspaces[configuration] = Workspace(then)
        return self._workspaces[configuration]

    # -- one grading ------------------------------------------------------------------------------------------------

    def _grade(self, grading: Grading, basis: Basis | None) -> None:
        try:
            if basis is None:
                raise DataError("graded before gradings kept what they rest on", "it cannot be replayed")
            inputs = self._inputs(grading, basis)
            self._tainted[grading.grading_id] = self._taint(inputs, basis)
            self._compute(grading, inputs)
        except _CANNOT_BE_DONE as error:
            name = f"grading {grading.grading_id} of {grading.period}"
            self._lose(name, f"{name}: {_one_line(error)}")

    def _inputs(self, grading: Grading, basis: Basis) -> MonthInputs:
        then, period = self._then(basis.configuration), Period.parse(grading.period)
        if then.token_key.version != basis.token_key:
            raise DataError(f"tokens were made by key {basis.token_key}", "restore that key to compare")
        asked = {name: table_then(self.ws.shelf, kept) for name, kept in basis.asked.items()}
        recorded = Recorded(asked, self._there(basis.registers), plan_then(self.ws.shelf, basis.plan))
        return MonthInputs(
            ws=then,
            period=period,
            expected=then.registry.expected(period),
            in_force=self._there(basis.deliveries),
            all_deliveries=(),
            carried=frozenset((supplier, dataset) for supplier, dataset in basis.carried),
            earlier={month: self._earlier(number) for month, number in sorted(basis.earlier.items())},
            recorded=recorded,
        )

    def _there(self, delivery_ids: Sequence[str]) -> list[Delivery]:
        return [self.ws.ledger.delivery(one) for one in delivery_ids if one not in self.lost]

    def _earlier(self, number: int) -> Grading:
        if number not in self._staged:
            raise DataError(f"it rests on grading {number}, which could not be computed", "see there")
        return self._staged[number]

    def _compute(self, grading: Grading, inputs: MonthInputs) -> None:
        with inputs.ws.engine() as engine:
            months.register_inputs(engine, inputs)
            months.conform(engine, inputs)
            months.grade(engine, inputs)
            files = months.write_tables(engine, inputs)
        path = self._home / "staging" / f"{grading.grading_id}.json"
        months.save_staged(path, files)
        self._files[grading.grading_id] = files
        self._staged[grading.grading_id] = replace(grading, staged_path=str(path))

    # -- what follows from a loss -----------------------------------------------------------------------------------

    def _taint(self, inputs: MonthInputs, basis: Basis) -> Mapping[str, Causes]:
        """{relation: what it rests on that is lost}, read from the SQL of models and plan."""
        causes = dict(self._lost_inputs(inputs, basis))
        for name, reads in _reads(inputs):
            causes[name] = NO_CAUSE.union(*(causes.get(one, NO_CAUSE) for one in reads))
        return causes

    def _lost_inputs(self, inputs: MonthInputs, basis: Basis) -> Iterator[tuple[str, Causes]]:
        by_dataset: dict[str, set[str]] = {}
        for one in set(basis.deliveries) & self.lost.keys():
            by_dataset.setdefault(self.ws.ledger.delivery(one).dataset, set()).add(one)
        digests = set(basis.registers) & self.lost.keys()
        for dataset in {feed for owner in _owners(inputs.ws) for feed in owner}:
            lost = frozenset(by_dataset.get(dataset, set()) | digests)
            yield from ((f"{kind}_{dataset}", lost) for kind in ("accepted", "rejected", "keys"))
        before = basis.earlier.get(str(inputs.period.previous()))
        for table in inputs.ws.contracts:
            yield f"previous_{table}", self._tainted.get(before or 0, {}).get(table, NO_CAUSE)
            history = [self._tainted.get(number, {}).get(table, NO_CAUSE) for number in basis.earlier.values()]
            yield f"history_{table}", NO_CAUSE.union(*history)

    # -- comparison -------------------------------------------------------------------------------------------------

    def compare(self, release: Manifest, gradings: Mapping[str, Grading]) -> Iterator[Line]:
        """One line for each table and month of the release."""
        computed = contents_of(file for one in gradings.values() for file in self._files.get(one.grading_id, ()))
        for place, said in sorted(release.contents.items()):
            if computed.get(place) == said:
                yield Line(*place, EQUAL, said.rows, said.rows)
                continue
            grading = gradings.get(place[1])
            if grading is None or grading.grading_id not in self._files:
                yield Line(*place, CANNOT, said.rows, None, "its grading could not be computed")
            else:
                yield self._unequal(place, release, grading, said.rows)

    def _unequal(self, place: Place, release: Manifest, grading: Grading, rows: int) -> Line:
        """How far a table and month is equal that is not as a whole, and why nobody can know, if something is lost."""
        computed = [file for file in self._files[grading.grading_id] if (file.table, file.period) == place]
        found, said = _by_source(computed), _by_source(release.files_of(place))
        equal = [source for source, content in said.items() if found.get(source) == content]
        causes = sorted(self._tainted[grading.grading_id].get(place[0], NO_CAUSE))
        verdict, because = (CANNOT, f"rests on {', '.join(causes)}") if causes else (DIFFERS, "")
        return Line(*place, verdict, rows, self._alike(place, release, computed), because, equal)

    def _alike(self, place: Place, release: Manifest, files: Iterable[DataFile]) -> int | None:
        """How many of the released rows came out the same; None when a released file is gone."""
        released = [self.ws.settings.lake / file.path for file in release.files_of(place)]
        if not all(path.exists() for path in released):
            return None
        computed = [self._home / "lake" / file.path for file in files]
        columns = dict.fromkeys(release.columns[place], "VARCHAR")
        names = ", ".join(map(identifier, columns))
        with DuckEngine(memory_limit=self.ws.settings.memory_limit, temp_dir=self.ws.spill) as engine:
            engine.register_parquet("released", released, columns)
            engine.register_parquet("computed", computed, columns)
            both = f"SELECT {names} FROM released INTERSECT ALL SELECT {names} FROM computed"
            [(alike,)] = engine.fetch(f"SELECT count(*) FROM ({both})")
        return int(alike)


def _reads(inputs: MonthInputs) -> Iterator[tuple[str, Iterable[str]]]:
    """Every relation of a month with what it reads, each after what it reads."""
    models = inputs.ws.models
    for model in order(models, [name for name, one in models.items() if one.layer == "core"]):
        yield model.name, model.depends
    for statement in months.plan(inputs):
        yield statement.name, tables_read(parse(statement.sql))
    for model in order(models, [name for name, one in models.items() if one.layer == "marts"]):
        if model.layer == "marts":
            yield model.name, model.depends


def _owners(ws: Workspace) -> Iterator[Iterable[str]]:
    yield from (owner.feeds for owner in ws.registry.banks.values())
    yield from (owner.feeds for owner in ws.registry.sources.values())


def _by_source(files: Iterable[DataFile]) -> dict[str, Content]:
    """What the files of each source hold together."""
    found: dict[str, Content] = {}
    for file in files:
        found[file.source] = found.get(file.source, NOTHING) + file.content
    return found


def _one_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
