"""The pre-check: all findings of a file before it is sent, on the supplier's own machine, offline, nothing stored.

The rules are those of intake by the same SQL; what differs is only that the file streams through in chunks, so that a
million rows need a few hundred megabytes. Rules over all rows (an own number that occurs twice) run at the end over the
few columns they read. What needs the county (other files, the register, other banks) is named, not guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any, BinaryIO, Final

import pyarrow as pa

from etl import answers, checking, deliveries
from etl.checking import FINDINGS, MEMBER_NO, Checker, ahead, make_empty, register_members, side_by_side
from etl.contract.language import quote
from etl.contract.model import Contract, Rule
from etl.contract.predicates import active_rules, unique_select
from etl.deliveries import Subject, Verdict
from etl.engine.duck import DuckEngine, DuckHost
from etl.examination import add_unsplit
from etl.findings import FileFinding, RowFinding
from etl.intake.arrivals import COMPANIONS, file_pattern
from etl.intake.reader import open_delivery
from etl.intake.receipt import SHOWN_PER_RULE, receipt_findings
from etl.intake.strings import Readout, Strings, strings_schema
from etl.ledger.records import Delivery
from etl.period import Period
from etl.registry import Bilingual, Feed, Registry, Supplier
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

MEMORY_LIMIT: Final = "400MB"
PIECE_ROWS: Final = checking.PIECE_ROWS // 2  # two at a time: they take together what intake's one takes
_HASH_BYTES: Final = 1 << 20
_SIDECAR_BYTES: Final = 4096
_ROW_COUNT: Final = "expect_table_row_count_to_be_between"
_CORES: Final = 2
_NO_FINDINGS: Final = pa.schema([("_member", pa.string()), ("_row", pa.int64()), ("rule", pa.string())]).empty_table()
_REASONS: Final[Mapping[str, Bilingual]] = {
    "column": Bilingual(zh="所需字段未报送：{columns}", en="needs columns that are not delivered: {columns}"),
    "files": Bilingual(zh="需与其他文件或上期数据比对", en="compares with other files or with earlier months"),
    "register": Bilingual(zh="需与农户库等县级数据比对", en="depends on the county's own data"),
}
_AT_THE_COUNTY: Final[Sequence[Bilingual]] = (
    Bilingual(
        zh="与已报送文件的比对（重复报送、更正前后差异）",
        en="comparison with what was sent before (duplicates, revisions)",
    ),
    Bilingual(zh="与农户库、授权书的关联（不在库、无授权）", en="linking to the household register and its consents"),
    Bilingual(zh="报送时限与每日报送限额", en="due date and daily limits"),
)


@dataclass(frozen=True)
class NotRun:
    """A rule (or, without one, a check) that only the county can run, and why."""

    rule: str
    zh: str
    en: str


@dataclass(frozen=True)
class Prechecked:
    """What the pre-check of one file came to.

    `findings` has the columns of a receipt, at most `per_rule` rows a rule; `counts_by_rule` is complete.
    `stopped_at_row` is the last row looked at where the file has more findings than the supplier's limit.
    """

    file: str
    bank: str
    dataset: str
    period: str
    outcome: str
    rows_read: int
    rows_accepted: int
    rows_rejected: int
    counts_by_rule: Mapping[str, int]
    findings: pa.Table
    not_run: Sequence[NotRun]
    notes: Sequence[Bilingual]
    ruleset: str
    sha256: str
    encoding: str
    diagnoses: Sequence[Mapping[str, Any]] = ()
    stopped_at_row: int | None = None
    subject: Subject | None = field(default=None, repr=False)

    @property
    def is_clean(self) -> bool:
        return not self.counts_by_rule

    def document(self) -> dict[str, Any]:
        """The answer as JSON, in the words of a receipt."""
        return {
            "file": self.file,
            "bank": self.bank,
            "dataset": self.dataset,
            "period": self.period,
            "outcome": self.outcome,
            "sha256": self.sha256,
            "rows_read": self.rows_read,
            "rows_accepted": self.rows_accepted,
            "rows_rejected": self.rows_rejected,
            "findings": self.findings.to_pylist(),
            "counts_by_rule": dict(self.counts_by_rule),
            "diagnoses": list(self.diagnoses),
            "not_run": [{"rule": one.rule, "zh": one.zh, "en": one.en} for one in self.not_run],
            "notes": [note.model_dump() for note in self.notes],
            "ruleset": self.ruleset,
            "stopped_at_row": self.stopped_at_row,
        }


@dataclass(frozen=True)
class _Feeding:
    """Whose file it is, what it is, and for which month."""

    supplier: str
    dataset: str
    period: str
    notes: tuple[Bilingual, ...] = ()


def precheck(
    ws: Workspace,
    path: Path,
    bank: str,
    *,
    dataset: str | None = None,
    period: str | None = None,
    per_rule: int | None = SHOWN_PER_RULE,
) -> Prechecked:
    """Check one file as intake would; dataset and month are read from its name unless given.

    Raises ConfigurationError for a file or supplier that is not there, or a name that says neither dataset nor month.
    """
    if not path.is_file():
        raise ConfigurationError(path, "", "no such file", "give the path of a file that is ready to be sent")
    feeding = _feeding(ws.registry, path.name, bank, dataset, period)
    delivery = unsent(feeding.supplier, feeding.dataset, feeding.period, path.name)
    try:
        subject = deliveries.subject_of(ws, delivery)
    except LookupError:
        subject, refused = deliveries.subject_of(ws, delivery, any_layout=True), deliveries.no_layout(delivery)
        strings = replace(deliveries.no_strings(subject), file_findings=list(refused.file_findings))
        return _answer(ws, path, feeding, subject, refused, _shown(subject, strings, _NO_FINDINGS))
    with ExitStack() as stack:
        # One thread each, a piece each: at this size DuckDB's own threads cost more than they give.
        host = DuckHost(memory_limit=MEMORY_LIMIT, threads=1)
        engine, *others = [stack.enter_context(host.engine()) for _ in range(1 + _CORES)]
        examination = _Examination(ws, engine, subject, per_rule)
        readout = examination.read(stack.enter_context(path.open("rb")), path, others)
        verdict = examination.verdict(readout)
        shown = examination.shown(verdict, readout)
        causes = examination.causes(verdict, readout, path)
    answer = _answer(ws, path, feeding, subject, verdict, shown)
    return replace(answer, diagnoses=causes, stopped_at_row=examination.stopped_at_row)


def not_run(contract: Contract, subject: Subject) -> list[NotRun]:
    """Rules of the contract that the pre-check cannot run on this layout, with the reason of each."""
    listed = [NotRun(rule.id, *_reason(rule, subject)) for rule in contract.rules if _cannot_run(rule, subject)]
    return [*listed, *(NotRun("", text.zh, text.en) for text in _AT_THE_COUNTY)]


def _not_run_across(ws: Workspace, subject: Subject) -> list[NotRun]:
    """Rules across files: they need the other file, or last month's."""
    month, text = Period.parse(subject.delivery.period), _REASONS["files"]
    rules = [rule for rule in ws.contracts.across.values() if rule.dataset == subject.delivery.dataset]
    return [NotRun(rule.id, text.zh, text.en) for rule in rules if rule.is_told and rule.applies_in(month)]


def _cannot_run(rule: Rule, subject: Subject) -> bool:
    if rule.action == "shadow" or (rule.at == "release" and rule.reference is None and not rule.is_row_rule):
        return False
    return bool(_lacking(rule, subject)) or rule.at == "release" or not _is_of_one_file(rule)


def _is_of_one_file(rule: Rule) -> bool:
    return rule.sql is not None or rule.kind == "unique" or rule.expect == _ROW_COUNT


def _lacking(rule: Rule, subject: Subject) -> list[str]:
    present = set(subject.layout.canonical)
    return [name for name in rule.columns if name not in present] if rule.is_row_rule else []


def _reason(rule: Rule, subject: Subject) -> tuple[str, str]:
    lacking = _lacking(rule, subject)
    text = _REASONS["column" if lacking else "register" if rule.at == "release" else "files"]
    return text.zh.format(columns="、".join(lacking)), text.en.format(columns=", ".join(lacking))


def _feeding(registry: Registry, name: str, bank: str, dataset: str | None, period: str | None) -> _Feeding:
    """What a file is: by its name, else by what the caller says; a name that differs from what is said is noted."""
    feeds = _feeds_of(registry, bank)
    if dataset is not None and dataset not in feeds:
        raise ConfigurationError("--dataset", dataset, f"{bank} delivers no such dataset", f"use one of {_list(feeds)}")
    named = _by_name({dataset: feeds[dataset]} if dataset else feeds, name)
    if named is None and (dataset is None or period is None):
        patterns = "; ".join(f"{one}: {feed.files}" for one, feed in feeds.items())
        mend = f"name it as agreed ({patterns}), or give --dataset and --period"
        raise ConfigurationError(name, "", "the name fits no agreed pattern", mend)
    if named is None:
        note = Bilingual(
            zh=f"文件名不符合约定（{feeds[str(dataset)].files}），报送时不会被受理",
            en="the name fits no agreed pattern; under this name the file would not be taken",
        )
        return _Feeding(_one_supplier(registry, bank), str(dataset), str(period), (note,))
    found, month, supplier = named
    notes: tuple[Bilingual, ...] = ()
    if period is not None and period != month:
        zh, en = f"文件名中的月份是 {month}，不是 {period}", f"the name says {month}, not {period}"
        notes = (Bilingual(zh=zh, en=en),)
    return _Feeding(supplier or _one_supplier(registry, bank), found, period or month, notes)


def _feeds_of(registry: Registry, bank: str) -> Mapping[str, Feed]:
    """The file feeds of a bank, of a source of files, or of a supplier such a source speaks for."""
    if bank in registry.banks:
        return registry.banks[bank].feeds
    for source in registry.sources.values():
        if source.kind == "files" and bank in (source.code, *registry.suppliers_of(source)):
            return source.feeds
    raise ConfigurationError("--bank", bank, "no such bank", f"use one of {_list(registry.banks)}")


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names))


def _one_supplier(registry: Registry, bank: str) -> str:
    """The code itself, unless it is a source that several suppliers share."""
    source = registry.sources.get(bank)
    return registry.suppliers_of(source)[0] if source is not None else bank


def _by_name(feeds: Mapping[str, Feed], name: str) -> tuple[str, str, str | None] | None:
    """Dataset, month and (where the pattern names one) supplier of a file; None when no pattern fits."""
    for dataset, feed in feeds.items():
        matched = file_pattern(feed.files).fullmatch(name) if feed.files else None
        if matched:
            month = f"{matched['year']}-{matched['month']}"
            try:
                return dataset, str(Period.parse(month)), matched.groupdict().get("supplier")
            except ValueError:
                raise ConfigurationError(name, "", f"{month} is no month", "correct the month in the name") from None
    return None


def unsent(supplier: str, dataset: str, period: str, name: str) -> Delivery:
    """The delivery a file would become, as far as that is known before it is sent."""
    never = datetime.fromtimestamp(0, UTC)
    known: dict[str, Any] = {
        "delivery_id": "precheck",
        "supplier": supplier,
        "dataset": dataset,
        "period": period,
        "name": name,
        "address": name,
        "parts": (),
        "not_checked": (),
        "counts_by_rule": {},
        "details": {},
        "claimed_at": never,
        "stepped_at": never,
    }
    unknown: dict[str, Any] = dict.fromkeys(one.name for one in fields(Delivery))
    return Delivery(**{**unknown, **known})


@dataclass(frozen=True)
class _Checked:
    """A chunk, its findings (_member, _row, rule), and the cells that must be unique in the whole file, with their places."""

    chunk: pa.Table
    found: pa.Table
    unique: pa.Table | None


class _Examination:
    """One file on its way through the rules: its chunks are checked side by side and told of in their order."""

    def __init__(self, ws: Workspace, engine: DuckEngine, subject: Subject, per_rule: int | None) -> None:
        self._ws, self._engine, self._subject, self._per_rule = ws, engine, subject, per_rule
        active = active_rules(subject.contract, subject.layout, subject.context)
        told = [rule for rule in active if rule.action != "shadow"]
        self._of_rows = [rule for rule in told if rule.kind != "unique"]
        self._over_all = [rule for rule in told if rule.kind == "unique"]
        self._limit = _findings_limit(ws.registry, subject)
        self._pieces: list[pa.Table] = []
        self._counts: dict[str, int] = {}
        self._rows = 0
        self._beginning: pa.Table | None = None
        self._last_rows: dict[str, int] = {}
        self._members: list[str] = []
        self.stopped_at_row: int | None = None
        make_empty(engine, "findings", FINDINGS)
        make_empty(engine, "corrected", FINDINGS)

    def read(self, file: BinaryIO, path: Path, engines: Sequence[DuckEngine]) -> Readout:
        """Stream the file through the row rules; returns what became known while reading.

        Each of the `engines` checks one chunk at a time.
        """
        subject = self._subject
        sidecar = _sidecar(path, subject.feed)
        sha256 = _sha256(path) if sidecar is not None or subject.feed.package == "sidecar" else None
        if "openpgp" in subject.feed.wrappings:
            mend = "pre-check the file inside it, before it is encrypted"
            raise ConfigurationError(path, "package", "it is encrypted to the county, which alone can open it", mend)
        scratch = Path(gettempdir()) if subject.feed.wrappings else None
        where = (file, path.name, subject.feed, subject.layout, "precheck")
        workers = [partial(self._check, Checker(engine, subject, self._of_rows)) for engine in engines]
        with open_delivery(*where, sidecar=sidecar, sha256=sha256, scratch=scratch) as reading:
            with closing(ahead(reading.pieces(PIECE_ROWS))) as chunks, closing(side_by_side(chunks, workers)) as done:
                for checked in done:
                    self._take(checked)
                    if self.stopped_at_row is not None:
                        break
            readout = reading.readout
            readout.file_findings = [*reading.package.findings, *readout.file_findings]
        if self.stopped_at_row is not None:
            readout.row_findings = [one for one in readout.row_findings if self._is_looked_at(one)]
        return readout

    def _is_looked_at(self, found: RowFinding) -> bool:
        """Whether a line lies before the row where the check stopped: others are read ahead."""
        *_, last = self._last_rows
        return found.member in self._last_rows and (found.member != last or found.row <= self._last_rows[last])

    def _check(self, checker: Checker, chunk: pa.Table) -> _Checked:
        checker.check(chunk)
        found = checker.engine.arrow("SELECT _member, _row, rule FROM found")
        cells = ", ".join(dict.fromkeys(quote(rule.column) for rule in self._over_all))
        unique = checker.engine.arrow(f"SELECT _row, _line, {cells} FROM typed") if cells else None
        return _Checked(chunk, found, unique)

    def _take(self, checked: _Checked) -> None:
        engine, self._rows = self._engine, self._rows + len(checked.chunk)
        self._beginning = checked.chunk if self._beginning is None else self._beginning
        self._last_rows[checked.chunk["_member"][-1].as_py()] = checked.chunk["_row"][-1].as_py()
        engine.register_arrow("fresh", checked.found)
        engine.con.execute("INSERT INTO findings SELECT _member, _row, rule FROM fresh")
        self._keep_shown(checked.chunk)
        if checked.unique is not None:
            self._keep_unique(checked.chunk["_member"][0].as_py(), checked.unique)
        if sum(self._counts.values()) > self._limit:
            self.stopped_at_row = self._rows

    def _keep_shown(self, chunk: pa.Table) -> None:
        """Describe the findings of a chunk that will be shown, while its cells are at hand."""
        found = dict(self._engine.fetch("SELECT rule, count(*) FROM fresh GROUP BY rule"))
        wanted = [rule for rule in found if self._per_rule is None or self._counts.get(rule, 0) < self._per_rule]
        for rule, hits in found.items():
            self._counts[rule] = self._counts.get(rule, 0) + hits
        if wanted:
            strings = Strings(chunk, len(chunk), [], [], {})
            self._pieces.append(_shown(self._subject, strings, self._first("fresh", wanted)))

    def _first(self, relation: str, rules: Sequence[str]) -> pa.Table:
        """The first findings of each of these rules, as many as may be shown."""
        ranked = "row_number() OVER (PARTITION BY rule ORDER BY _member, _row)"
        bounded = "" if self._per_rule is None else f"QUALIFY {ranked} <= {self._per_rule}"
        query = f"SELECT _member, _row, rule FROM {relation} WHERE rule IN (SELECT unnest($rules)) {bounded}"
        return self._engine.con.sql(query, params={"rules": list(rules)}).to_arrow_table()

    def _keep_unique(self, member: str, cells: pa.Table) -> None:
        """Keep the cells that must be unique in the whole file, with a number for their member."""
        verb = "INSERT INTO unique_cells" if self._members else "CREATE TABLE unique_cells AS"
        if member not in self._members:
            self._members.append(member)
        self._engine.register_arrow("fresh_cells", cells)
        number = f"CAST({self._members.index(member)} AS SMALLINT) AS {MEMBER_NO}"
        self._engine.con.execute(f"{verb} SELECT {number}, * FROM fresh_cells")

    def verdict(self, readout: Readout) -> Verdict:
        """The verdict intake would give, once the rules over all rows have run."""
        rows_read = self.stopped_at_row if self.stopped_at_row is not None else readout.rows_read
        if not readout.file_findings:
            self._find_repeated()
        empty = strings_schema(self._subject.layout).empty_table()
        bad_lines = [] if readout.file_findings else readout.row_findings
        strings = Strings(empty, rows_read, readout.file_findings, bad_lines, readout.column_no)
        if strings.file_findings:
            return deliveries.refused(self._subject, strings)
        add_unsplit(self._engine, strings)
        return deliveries.judge(self._engine, self._subject, strings, {}, with_findings=False)

    def causes(self, verdict: Verdict, readout: Readout, path: Path) -> list[dict[str, object]]:
        """Why the file has these findings, as far as its bytes and the rows of its beginning show it."""
        rows = strings_schema(self._subject.layout).empty_table() if self._beginning is None else self._beginning
        strings = Strings(rows, readout.rows_read, readout.file_findings, readout.row_findings, readout.column_no)
        if not (rows.num_rows or strings.file_findings or strings.row_findings):
            return []
        found = self._engine.arrow("SELECT _member, _row, rule FROM findings")
        scratch = Path(gettempdir()) if self._subject.feed.wrappings else None
        return answers.causes(self._subject, verdict, strings, found, lambda: path.open("rb"), scratch=scratch)

    def _find_repeated(self) -> None:
        if not self._members:
            return
        register_members(self._engine, self._members)
        selects = [unique_select(rule, "unique_cells", "member_names") for rule in self._over_all]
        self._engine.run_model("repeated", " UNION ALL ".join(selects) + " ORDER BY ALL")
        self._engine.con.execute("INSERT INTO findings SELECT _member, _row, rule FROM repeated")
        shown = self._first("repeated", [rule.id for rule in self._over_all])
        if len(shown):
            self._pieces.append(_shown(self._subject, self._strings_of(shown), shown))

    def _strings_of(self, shown: pa.Table) -> Strings:
        """The rows of some findings as strings, as far as the rules over all rows kept their cells."""
        self._engine.register_arrow("wanted", shown)
        rows = self._engine.arrow(
            f"SELECT m._member, c.* EXCLUDE ({MEMBER_NO}) FROM unique_cells AS c "
            f"INNER JOIN member_names AS m ON m.{MEMBER_NO} = c.{MEMBER_NO} "
            "SEMI JOIN wanted AS w ON w._member = m._member AND w._row = c._row ORDER BY m._member, c._row"
        )
        return Strings(rows, len(rows), [], [], {})

    def shown(self, verdict: Verdict, readout: Readout) -> pa.Table:
        """Findings to show, in the columns of a receipt: of the file, of the delivery as a whole, of lines, of rows."""
        subject, pieces = self._subject, list(self._pieces)
        if verdict.file_findings:
            pieces = []
        whole = [subject.contract.rule(rule) for rule in verdict.macro]
        of_file = [
            *verdict.file_findings,
            *(FileFinding(rule.id, "", rule.says.zh, rule.says.en, rule.fix.zh) for rule in whole),
        ]
        bad_lines = [] if verdict.file_findings else readout.row_findings[: self._per_rule]
        empty = strings_schema(subject.layout).empty_table()
        pieces.append(_shown(subject, Strings(empty, 0, of_file, bad_lines, {}), _NO_FINDINGS))
        table = _with_kinds(pa.concat_tables(pieces), whole)
        return _ordered(_with_places(table, readout), self._per_rule)


def _shown(subject: Subject, strings: Strings, found: pa.Table) -> pa.Table:
    contract = subject.contract
    table = receipt_findings(
        found,
        strings,
        {rule.id: rule for rule in (*contract.row_rules, *contract.macro_rules)},
        subject.layout,
        key_column=contract.own_number,
        open_columns=[column.name for column in contract.delivered if column.privacy == "open"],
    )
    is_coded = {entry.name: pa.types.is_dictionary(entry.type) for entry in table.schema}
    texts = [entry.with_type(pa.string()) if is_coded[entry.name] else entry for entry in table.schema]
    return table.cast(pa.schema(texts))


def _with_kinds(table: pa.Table, rules: Sequence[Rule]) -> pa.Table:
    """Rules over the delivery as a whole keep their own family and action."""
    for name in ("family", "action"):
        own = {rule.id: getattr(rule, name) for rule in rules}
        pairs = zip(table["rule"].to_pylist(), table[name].to_pylist(), strict=True)
        at = table.schema.get_field_index(name)
        values = pa.array([own.get(rule, value) for rule, value in pairs], pa.string())
        table = table.set_column(at, table.schema.field(at), values)
    return table


def _with_places(table: pa.Table, readout: Readout) -> pa.Table:
    """Fill in where each column stood: that is complete only when the whole file has been read."""
    places = [readout.column_no.get(str(name or "").split(" | ")[0]) for name in table["field"].to_pylist()]
    at = table.schema.get_field_index("column_no")
    return table.set_column(at, table.schema.field(at), pa.array(places, pa.int64()))


def _ordered(table: pa.Table, per_rule: int | None) -> pa.Table:
    """By member, row and rule as in a receipt, with the file's own findings first."""
    table = table.sort_by([("rule", "ascending"), ("member", "ascending"), ("row", "ascending")])
    if per_rule is not None:
        seen: dict[str, int] = {}
        kept = []
        for place, rule in enumerate(table["rule"].to_pylist()):
            seen[rule] = seen.get(rule, 0) + 1
            kept += [place] if seen[rule] <= per_rule else []
        table = table.take(pa.array(kept, pa.int64()))
    order = [(name, "ascending", "at_start") for name in ("member", "row", "rule")]
    return table.sort_by(order)


def _findings_limit(registry: Registry, subject: Subject) -> int:
    owner = registry.owner(subject.delivery.supplier, subject.delivery.dataset)
    return owner.limits.findings if isinstance(owner, Supplier) else 1_000_000


def _sidecar(path: Path, feed: Feed) -> bytes | None:
    """What stands in the checksum file beside it, where the feed has one."""
    beside = path.with_name(path.name + COMPANIONS.get(feed.package, ""))
    if feed.package != "sidecar" or not beside.is_file():
        return None
    with beside.open("rb") as file:
        return file.read(_SIDECAR_BYTES)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _answer(
    ws: Workspace,
    path: Path,
    feeding: _Feeding,
    subject: Subject,
    verdict: Verdict,
    shown: pa.Table,
) -> Prechecked:
    owner = ws.registry.owner(feeding.supplier, feeding.dataset)
    return Prechecked(
        file=path.name,
        bank=feeding.supplier,
        dataset=feeding.dataset,
        period=feeding.period,
        outcome=verdict.outcome,
        rows_read=verdict.rows_read,
        rows_accepted=verdict.rows_accepted,
        rows_rejected=verdict.rows_rejected,
        counts_by_rule=verdict.counts_by_rule,
        findings=shown,
        not_run=[*_not_run_across(ws, subject), *not_run(subject.contract, subject)],
        notes=feeding.notes,
        ruleset=subject.ruleset,
        sha256=_sha256(path),
        encoding=owner.receipt_encoding,
        subject=subject,
    )
