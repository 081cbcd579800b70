"""Read, cast, check and keep one landed delivery, a piece at a time: memory stays bounded whatever its size.

How a piece is cast and checked stands in `etl.checking`. What lasts from piece to piece is small: `findings` (member, row,
rule), the cells that must be unique in the whole delivery, and the strings of rows with a finding. Accepted rows go
straight to their file, under a scratch name until the delivery as a whole is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl import deliveries
from etl.checking import FINDINGS, MEMBER_NO, PIECE_ROWS, Caster, Checker, make_empty, numbered, register_members
from etl.contract import suite
from etl.contract.model import Rule
from etl.contract.predicates import (
    DIGEST_COLUMNS,
    accepted_select,
    active_rules,
    digests_select,
    rejected_columns,
    rejected_select,
    unique_select,
)
from etl.deliveries import Subject, Verdict, path_of
from etl.engine.duck import FILE_CODEC, FILE_LEVEL, LOOKUP_GROUP_ROWS, DuckEngine, identifier, literal
from etl.findings import WRONG_FIELD_COUNT
from etl.intake.strings import Strings, row_findings_table, strings_schema
from etl.ledger.records import Delivery
from etl.vocabulary import CreditVillageError
from etl.workspace import Workspace


def examine(
    engine: DuckEngine, ws: Workspace, subject: Subject, *, now: datetime | None = None, into: Path | None = None
) -> tuple[Verdict, Strings]:
    """Judge a landed delivery and keep its accepted rows, the tokens of the rejected ones and the quarantine.

    With `now`, Great Expectations counts the same rules, for the Data Docs of that time. With `into`, a folder, what is
    kept goes there as accepted.parquet and so on, to look at and throw away. The strings handed back, and `typed` in the
    engine, hold at least the rows with findings. Raises CreditVillageError when the two opinions differ: nothing is kept.
    """
    work = _Work(engine, ws, subject, now, into)
    with ExitStack() as stack:
        reading = stack.enter_context(deliveries.reading(ws, subject))
        stack.callback(work.discard)
        pieces = stack.enter_context(closing(numbered(reading)))
        for number, (piece, is_whole) in enumerate(pieces):
            work.take(piece, number, is_whole=is_whole)
        begun = reading.result(work.beginning)
        strings = replace(begun, table=work.flagged_table(), beginning=begun.table)
        if strings.file_findings:
            return deliveries.refused(subject, strings), strings
        work.finish(strings)
        verdict = deliveries.judge(engine, subject, strings, work.shadow_counts)
        work.keep(verdict)
        return verdict, replace(strings, table=work.retyped())


def completed(ws: Workspace, subject: Subject, strings: Strings, findings: pa.Table | None) -> Strings:
    """The strings of all rows that `findings` (_member, _row, rule) name: some may have been found only later."""
    if findings is None or strings.file_findings:
        return strings
    named = findings.filter(pc.not_equal(findings["rule"], WRONG_FIELD_COUNT)).select(["_member", "_row"])
    held = strings.table.select(["_member", "_row"])
    if named.join(held, ["_member", "_row"], join_type="left anti").num_rows == 0:
        return strings
    wanted = pa.concat_tables([named, held])
    return replace(strings, table=_whole(subject, _read_again(ws, subject, wanted)))


def _read_again(ws: Workspace, subject: Subject, wanted: pa.Table) -> Iterator[pa.Table]:
    """The strings of some rows (_member, _row) of a landed delivery, in their order."""
    with deliveries.reading(ws, subject) as reading:
        for piece in reading.pieces(PIECE_ROWS):
            rows = wanted.filter(pc.equal(wanted["_member"], piece["_member"][0]))["_row"]
            yield piece.filter(pc.is_in(piece["_row"], rows))


def _whole(subject: Subject, pieces: Iterable[pa.Table]) -> pa.Table:
    return pa.concat_tables([strings_schema(subject.layout).empty_table(), *pieces])


def typed_pieces(engine: DuckEngine, ws: Workspace, subject: Subject) -> Iterator[int]:
    """Make `typed` of one piece after the other of a landed delivery; gives the number of the piece, from 0."""
    caster = Caster(engine, subject)
    with deliveries.reading(ws, subject) as reading, closing(numbered(reading)) as pieces:
        for number, (piece, _) in enumerate(pieces):
            caster.cast(piece)
            yield number


def add_unsplit(engine: DuckEngine, strings: Strings) -> None:
    """Add to `findings` the lines that could not be split: they have no cells, and count as rejected rows all the same."""
    if strings.row_findings:
        engine.register_arrow("unsplit", row_findings_table(strings.row_findings))
        engine.con.execute("INSERT INTO findings SELECT _member, _row, rule FROM unsplit")


def keep_digests(ws: Workspace, delivery: Delivery) -> Path:
    """The restricted map from the tokens of identity digests to persons, of one delivery of the register.

    A bank that delivers digests gets tokens of them at intake; which person each belongs to is known here alone. It is
    made from the landed bytes when a month first needs it, so it does not matter who arrived first.
    """
    path = path_of(ws, "digests", delivery)
    if path.exists():
        return path
    subject = deliveries.subject_of(ws, delivery)
    with ws.engine() as engine:
        make_empty(engine, "digests", DIGEST_COLUMNS)
        for _ in typed_pieces(engine, ws, subject):
            engine.run_model("digests_here", digests_select(subject.contract), ws.token_key.params())
            engine.con.execute("INSERT INTO digests SELECT * FROM digests_here")
        engine.write_parquet("SELECT DISTINCT * FROM digests ORDER BY ALL", path)
    return path


@dataclass
class _Work:
    """What a delivery leaves behind while its pieces go by."""

    engine: DuckEngine
    ws: Workspace
    subject: Subject
    now: datetime | None
    into: Path | None = None
    beginning: pa.Table | None = None
    members: list[str] = field(default_factory=list)
    flagged: list[pa.Table] = field(default_factory=list)
    shadow_counts: dict[str, int] = field(default_factory=dict)
    second_counts: dict[str, int] = field(default_factory=dict)
    _accepted: pq.ParquetWriter | None = None
    _is_whole: bool = True

    def __post_init__(self) -> None:
        self._unique = [rule for rule in self._rules if rule.kind == "unique"]
        self._checker = Checker(self.engine, self.subject, self._rules)
        make_empty(self.engine, "findings", FINDINGS)
        make_empty(self.engine, "rejected_rows", rejected_columns(self.subject.contract))

    @cached_property
    def _rules(self) -> list[Rule]:
        return active_rules(self.subject.contract, self.subject.layout, self.subject.context)

    @property
    def _scratch(self) -> Path:
        path = self._place("accepted")
        return path.with_name(f".{path.name}.part")

    def _place(self, kind: str) -> Path:
        return self.into / f"{kind}.parquet" if self.into else path_of(self.ws, kind, self.subject.delivery)

    # -- a piece ---------------------------------------------------------------------------------------------------

    def take(self, piece: pa.Table, number: int, *, is_whole: bool) -> None:
        """Cast and check one piece, note what must last, and write what is accepted so far."""
        self._is_whole = is_whole
        self.beginning = piece if self.beginning is None else self.beginning
        self._checker.check(piece, is_whole=is_whole)
        self._count_shadow()
        self.engine.con.execute("INSERT INTO findings SELECT * FROM found")
        self._flag(piece)
        if not is_whole:
            self._note_unique(piece)
        if self.now is not None:
            self._ask_again(number)
        self._keep_piece()

    def _count_shadow(self) -> None:
        """Findings of shadow rules are counted and forgotten: nobody is told, and a new rule may well hit every row."""
        shadow = ", ".join(literal(rule.id) for rule in self._rules if rule.action == "shadow")
        if not shadow:
            return
        for rule, hits in self.engine.fetch(f"SELECT rule, count(*) FROM found WHERE rule IN ({shadow}) GROUP BY rule"):
            self.shadow_counts[rule] = self.shadow_counts.get(rule, 0) + hits
        self.engine.con.execute(f"DELETE FROM found WHERE rule IN ({shadow})")

    def _flag(self, piece: pa.Table) -> None:
        """Keep the strings of rows that a receipt will speak of."""
        if not len(piece):
            return
        corrected = f"SELECT _row FROM corrected WHERE _member = {literal(piece['_member'][0].as_py())}"
        rows = self.engine.arrow(f"SELECT _row FROM found UNION {corrected}")["_row"]
        if len(rows):
            self.flagged.append(piece.filter(pc.is_in(piece["_row"], rows)))

    def _note_unique(self, piece: pa.Table) -> None:
        """Keep the cells that must be unique in the whole delivery, with a number for their member."""
        member = piece["_member"][0].as_py()
        if member not in self.members:
            self.members.append(member)
        for number, rule in enumerate(self._unique):
            column, name = identifier(rule.column), identifier(f"unique_{number}")
            select = f"SELECT {column}, CAST({self.members.index(member)} AS SMALLINT) AS {MEMBER_NO}, _row FROM typed"
            wanted = f"{select} WHERE {column} IS NOT NULL"
            self.engine.con.execute(f"CREATE TABLE IF NOT EXISTS {name} AS {wanted} LIMIT 0")
            self.engine.con.execute(f"INSERT INTO {name} {wanted}")

    def _keep_piece(self) -> None:
        contract, context = self.subject.contract, self.subject.context
        params = self.ws.token_key.params()
        findings = "found" if self.engine.fetch("SELECT 1 FROM found LIMIT 1") else None
        self._write(self.engine.arrow(accepted_select(contract, context, findings=findings), params))
        if findings:
            rejected = rejected_select(contract, context, findings=findings)
            self.engine.run_model("rejected_here", rejected, params)
            self.engine.con.execute("INSERT INTO rejected_rows SELECT * FROM rejected_here")

    def _write(self, rows: pa.Table) -> None:
        if self._accepted is None:
            self._scratch.parent.mkdir(parents=True, exist_ok=True)
            words = [name for name in rows.column_names if not name.endswith("_key") and name != "_row"]
            self._accepted = pq.ParquetWriter(
                self._scratch, rows.schema, compression=FILE_CODEC, compression_level=FILE_LEVEL, use_dictionary=words
            )
        self._accepted.write_table(rows, row_group_size=LOOKUP_GROUP_ROWS)

    # -- the second opinion -----------------------------------------------------------------------------------------

    def _ask_again(self, number: int) -> None:
        typed = self.engine.arrow("SELECT * FROM typed ORDER BY _row")
        across = {rule.id for rule in self._unique}
        self._opine(typed, f".{number + 1}" if number else "", leaving_out=set() if self._is_whole else across)

    def _opine(self, typed: pa.Table, mark: str, *, leaving_out: set[str]) -> None:
        """Add what Great Expectations counts; its result (counts only, values excluded) is kept for the Data Docs."""
        assert self.now is not None
        subject = self.subject
        record = suite.DocsRecord(self.ws.settings.audit_docs, f"{subject.delivery.delivery_id}{mark}", self.now)
        wanted = {rule.id for rule in self._rules} - leaving_out
        counts = suite.second_opinion(
            typed,
            subject.contract,
            subject.layout,
            subject.codes,
            subject.context,
            rules=wanted,
            record=record,
        )
        for rule, hits in counts.items():
            self.second_counts[rule] = self.second_counts.get(rule, 0) + hits

    def _compare(self) -> None:
        ours = dict(self.engine.fetch("SELECT rule, count(*) FROM findings GROUP BY rule")) | self.shadow_counts
        differing = sorted(rule for rule, hits in self.second_counts.items() if hits != ours.get(rule, 0))
        if differing:
            first, table = differing[0], self.subject.contract.table
            raise CreditVillageError(
                f"{self.subject.delivery.delivery_id}: rule {first} fires {ours.get(first, 0)} times here and "
                f"{self.second_counts[first]} times in Great Expectations (and {len(differing) - 1} more rules differ) — "
                f"the delivery waits; mend expectations/{table}.yml or etl/contract"
            )

    # -- the whole --------------------------------------------------------------------------------------------------

    def finish(self, strings: Strings) -> None:
        """Find what only the whole delivery shows, and hear the second opinion out."""
        if not self._is_whole:
            self._find_repeated()
        if self.now is not None:
            self._compare()
        add_unsplit(self.engine, strings)

    def _find_repeated(self) -> None:
        """Cells that stand twice in the delivery; rows that only this shows were taken for accepted before."""
        register_members(self.engine, self.members)
        before = self.engine.fetch("SELECT count(*) FROM findings")
        for number, rule in enumerate(self._unique):
            self.engine.con.execute(f"INSERT INTO findings {unique_select(rule, f'unique_{number}', 'member_names')}")
            if self.now is not None:
                cells = self.engine.arrow(f"SELECT {identifier(rule.column)} FROM unique_{number}")
                others = {each.id for each in self._rules} - {rule.id}
                self._opine(cells, f".{rule.id}", leaving_out=others)
        if self.engine.fetch("SELECT count(*) FROM findings") != before:
            self._take_back()

    def _take_back(self) -> None:
        """Read the rows with findings again: the strings of the repeated ones were let go with their piece."""
        found = self.engine.arrow("SELECT _member, _row FROM findings UNION SELECT _member, _row FROM corrected")
        self.flagged = list(_read_again(self.ws, self.subject, found))

    def flagged_table(self) -> pa.Table:
        """The strings of all rows with a finding, in their order."""
        return _whole(self.subject, self.flagged)

    def retyped(self) -> pa.Table:
        """The strings of all rows with a finding; of a delivery in several pieces `typed` has just these from now on."""
        flagged = self.flagged_table()
        if not self._is_whole:
            self._checker.cast_again(flagged)
        return flagged

    def keep(self, verdict: Verdict) -> None:
        """Give accepted and rejected rows their place and write the quarantine into the restricted zone."""
        if self._accepted is not None:
            self._accepted.close()
        if verdict.is_accepted:
            self._settle_accepted()
        if verdict.findings is not None and verdict.rows_rejected:
            self.engine.register_arrow("flagged", self.flagged_table())
            self.engine.write_parquet(_QUARANTINE, self._place("quarantine"))

    def _settle_accepted(self) -> None:
        accepted = self._place("accepted")
        harmless = [literal(rule.id) for rule in self.subject.contract.row_rules if not rule.rejects]
        repeated = [literal(rule.id) for rule in self._unique if rule.rejects] if not self._is_whole else []
        if repeated and self.engine.fetch(f"SELECT 1 FROM findings WHERE rule IN ({', '.join(repeated)}) LIMIT 1"):
            self._sift(accepted, f"rule NOT IN ({', '.join(harmless)})" if harmless else "TRUE")
        else:
            self._scratch.replace(accepted)
        columns = ", ".join(map(identifier, rejected_columns(self.subject.contract)))
        rejected = self._place("rejected")
        self.engine.write_parquet(f"SELECT {columns} FROM rejected_rows ORDER BY ALL", rejected)

    def _sift(self, accepted: Path, rejects: str) -> None:
        """Move rows that are rejected only for what the whole delivery showed from the accepted to the rejected ones."""
        self.engine.con.execute(f"CREATE TABLE refused AS SELECT DISTINCT _member, _row FROM findings WHERE {rejects}")
        rows = f"read_parquet({literal(str(self._scratch))}) AS taken"
        is_refused = "EXISTS (SELECT 1 FROM refused AS r WHERE r._member = taken._member AND r._row = taken._row)"
        columns = ", ".join(map(identifier, rejected_columns(self.subject.contract)))
        self.engine.con.execute(f"INSERT INTO rejected_rows SELECT {columns} FROM {rows} WHERE {is_refused}")
        self.engine.write_parquet(
            f"SELECT * FROM {rows} WHERE NOT {is_refused} ORDER BY _member, _row",
            accepted,
            group_rows=LOOKUP_GROUP_ROWS,
        )

    def discard(self) -> None:
        """Leave no scratch file behind, whatever happened."""
        if self._accepted is not None:
            self._accepted.close()
        self._scratch.unlink(missing_ok=True)


_QUARANTINE = """
WITH refused AS (
  SELECT _member, _row, list(rule ORDER BY rule) AS rules FROM findings
  WHERE rule IN (SELECT rule FROM rules WHERE action = 'reject_row')
  GROUP BY _member, _row
)
SELECT refused.rules, refused._member AS refused_member, refused._row AS refused_row, flagged.*
FROM refused LEFT JOIN flagged ON flagged._member = refused._member AND flagged._row = refused._row
ORDER BY refused._member, refused._row
"""
