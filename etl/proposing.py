"""What a case shall change, named before it is decided: cells of a source's row for a correction, a list item for a repair.

Who names it reads the source first: the row is there, says what is to be corrected, belongs to the household of the case,
and would still satisfy the contract. Nothing changes before another person has approved it (`etl.casework.answer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from etl import casework, months
from etl.casework import standing_of
from etl.contract.casts import duckdb_type
from etl.contract.language import RAW
from etl.contract.model import Column, Contract, Rule
from etl.contract.predicates import accepted_columns, condition_sql
from etl.deliveries import subject_of
from etl.engine.duck import DuckEngine, identifier, literal
from etl.examination import typed_pieces
from etl.ledger import cases as ledger
from etl.ledger.cases import DISPUTES, Case, NewCase, Step, Target
from etl.ledger.records import Delivery
from etl.mended import DELIVERED, RIGHT, Cells, Said, Sources
from etl.period import Period
from etl.tokens import token, token_sql
from etl.vocabulary import ConfigurationError, CreditVillageError, DataError
from etl.workspace import Workspace

ITEMS = "credit_events"
_REGISTER = "households"
_ITEM = """
SELECT e.list_kind, e.event_from_on, e.counts_until_on, m.household_key
FROM core_credit_events AS e LEFT JOIN core_members AS m ON m.person_key = e.person_key WHERE e.event_key = $key
"""
_HOMES = "SELECT DISTINCT household_key FROM core_members WHERE person_key IN (SELECT unnest($people))"


@dataclass(frozen=True)
class Wanted:
    """What is to be corrected: the row by its own number (of a bank, for its notes), {column: (as delivered, right)} as
    written, the document it rests on, and the last day on which the correction is applied."""

    dataset: str
    number: str
    cells: Mapping[str, tuple[str, str]]
    document: str
    until: date
    bank: str | None = None


def correct(ws: Workspace, case_id: str, wanted: Wanted, *, account: str, on: date, now: datetime) -> Case:
    """Name the cells that an objection or correction shall set right.

    A row that concerns other households too gets a case for each of them, which is answered and closed with this one.
    Raises ConfigurationError for a column that may not be corrected or a value it cannot hold, DataError for a row that is
    not there, is not the household's, does not say that (any more), or would break a rule.
    """
    case, step = ledger.case_of(ws.ledger, case_id), Step("proposed", on, account)
    _require_open(case, DISPUTES, step)
    contract = _contract(ws, wanted, on)
    row_key = _row_key(ws, contract, wanted)
    with ws.engine() as engine:
        cells = {name: _canonical_pair(engine, ws, contract.columns[name], pair) for name, pair in wanted.cells.items()}
        sources = Sources(ws, engine)
        said = sources.last_said(wanted.dataset, row_key, Period.parse(case.period), wanted.bank)
        said = _require_said(case, contract, said, cells)
        _require_rules(engine, ws, case, contract, sources, said, row_key, cells)
        homes = _households(engine, ws, case, contract, sources.tokens(said, row_key, _tokens(contract)))
    if case.household_key not in homes:
        raise DataError(f"{case_id}: the row is not the household's", "open a case for the household it belongs to")
    sha256 = said.delivery.sha256 if wanted.bank else None
    target = Target(wanted.dataset, row_key, wanted.bank, sha256, expires_on=wanted.until)
    texts = {DELIVERED + name: was for name, (was, _) in cells.items()}
    texts |= {RIGHT + name: right for name, (_, right) in cells.items()}
    _keep(ws, case, target, step, {**texts, "document": wanted.document}, now=now)
    _open_beside(ws, case, homes - {case.household_key}, step, now=now)
    return ledger.case_of(ws.ledger, case_id)


def repair(ws: Workspace, case_id: str, event_no: str, document: str, *, account: str, on: date, now: datetime) -> Case:
    """Name the list item that a repair ends and the document it rests on; a veto needs a second person's approval.

    Raises DataError for an item that is not the household's, counts no more, or is to nobody's disadvantage.
    """
    case, step = ledger.case_of(ws.ledger, case_id), Step("proposed", on, account)
    _require_open(case, ("repair",), step)
    _require_document(document)
    key = token(ws.token_key, "event", event_no.strip())
    graded = casework.graded_month(ws, None)
    with ws.engine() as engine:
        for table in ("core_credit_events", "core_members"):
            months.register_staged(engine, ws, table, table, [graded])
        found = engine.fetch(_ITEM, {"key": key})
    if not found or found[0][3] != case.household_key:
        mend = "check the number of the item; it is known from the month after it was delivered"
        raise DataError(f"{case_id}: no list item of this number concerns the household", mend)
    list_kind, since, until, _ = found[0]
    if list_kind == "positive" or on < since or (until is not None and until < on):
        problem = f"a {list_kind} item that counts from {since}{f' to {until}' if until else ''}"
        raise DataError(f"{case_id}: {problem} cannot be repaired on {on}", "repair an adverse item that still counts")
    target = Target(ITEMS, key, needs_second=list_kind == "veto")
    _keep(ws, case, target, step, {"document": document}, now=now)
    return ledger.case_of(ws.ledger, case_id)


def _require_open(case: Case, kinds: Sequence[str], step: Step) -> None:
    if case.case_kind not in kinds:
        raise DataError(f"{case.case_id}: a case of kind {case.case_kind}", f"open one of kind {kinds[-1]}")
    casework.require_next(case, step)


def _require_document(document: str) -> None:
    if not document.strip():
        raise ConfigurationError("case --document", "", "no document is named", "write the number of the decision")


def _keep(ws: Workspace, case: Case, target: Target, step: Step, texts: Mapping[str, str], *, now: datetime) -> None:
    seal = casework.sealer(ws)
    sealed = {part: seal(case.case_id, text) for part, text in texts.items()}
    if not ledger.propose(ws.ledger, case.case_id, target, step, sealed, now=now):
        raise DataError(f"{case.case_id}: proposed already", "see its steps: creditvillage case list --json")


# -- what is wanted ----------------------------------------------------------------------------------------------------


def _contract(ws: Workspace, wanted: Wanted, on: date) -> Contract:
    """The contract of the row; raises ConfigurationError for what no correction can be."""
    _require_document(wanted.document)
    contract = ws.contract_of(wanted.dataset)
    may = ", ".join(contract.correctable)
    for column in wanted.cells:
        if column not in contract.correctable:
            problem = f"not to be corrected in {wanted.dataset}"
            raise ConfigurationError(
                "case --column", column, problem, f"use one of {may}" if may else "ask its supplier"
            )
    if not wanted.cells:
        raise ConfigurationError("case --column", "", "no column is named", f"use one of {may}")
    if wanted.until <= on:
        raise ConfigurationError(
            "case --until", str(wanted.until), "not after today", "give the last day it shall hold"
        )
    banks = [code for code, bank in ws.registry.banks.items() if wanted.dataset in bank.feeds]
    if (wanted.bank in banks) != bool(banks) or (wanted.bank is not None and not banks):
        mend = f"use one of {', '.join(banks)}" if banks else "leave it out: the county's own row"
        raise ConfigurationError("case --bank", wanted.bank or "", f"delivers no {wanted.dataset}", mend)
    return contract


def _row_key(ws: Workspace, contract: Contract, wanted: Wanted) -> str:
    """The token of the row's own number."""
    column = contract.numbered_by
    assert column is not None and column.token is not None  # a contract with correctable columns has one
    parts = [str(wanted.bank) if part == "bank_code" else wanted.number.strip() for part in column.token.of or [""]]
    return token(ws.token_key, column.token.domain, *parts)


def _canonical_pair(engine: DuckEngine, ws: Workspace, column: Column, pair: tuple[str, str]) -> tuple[str, str]:
    delivered, right = (_canonical(engine, ws, column, text.strip()) for text in pair)
    if delivered == right:
        raise ConfigurationError("case --right", column.name, "the same as delivered", "give the value as it should be")
    return delivered, right


def _canonical(engine: DuckEngine, ws: Workspace, column: Column, text: str) -> str:
    """A value as accepted rows hold it, as text; empty for none. The value itself is in no message."""
    if not text:
        return ""
    if column.codes is not None:
        labels = ws.registry.codes.values(column.codes)
        found = next((code for code, label in labels.items() if text in (code, label["zh"])), None)
    else:
        cast = f"CAST(TRY_CAST({literal(text)} AS {duckdb_type(column.type)}) AS VARCHAR)"
        [(found,)] = engine.fetch(f"SELECT {cast}")
    if found is None:
        says = f"one of {', '.join(ws.registry.codes.values(column.codes))}" if column.codes else f"a {column.type}"
        raise ConfigurationError("case --delivered/--right", column.name, "not a value of this column", f"write {says}")
    return str(found)


def _require_said(case: Case, contract: Contract, said: Said | None, cells: Cells) -> Said:
    if said is None:
        raise DataError(
            f"{case.case_id}: no delivery in force up to {case.period} holds this row of {contract.dataset}",
            "check the number; a row that came later needs a case of that month (case open --period)",
        )
    for name, (delivered, _) in cells.items():
        if said.row[name] != delivered:
            raise DataError(
                f"{case.case_id}: {said.delivery.delivery_id} does not say that of {name}",
                "look the row up again: the source may have mended it itself",
            )
    return said


def _require_rules(
    engine: DuckEngine,
    ws: Workspace,
    case: Case,
    contract: Contract,
    sources: Sources,
    said: Said,
    row_key: str,
    cells: Cells,
) -> None:
    """A mended row satisfies every rule that refuses rows, as far as the rule looks at what accepted rows hold."""
    right = {name: value for name, (_, value) in cells.items()}
    period = Period.parse(said.delivery.period)
    context = ws.context(said.delivery.supplier, period)
    engine.register_arrow("mended_row", sources.whole(said, row_key, right))
    raw = ", ".join(
        f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name + RAW)}" for name in accepted_columns(contract)
    )
    engine.run_model("mended", f"SELECT *, {raw} FROM mended_row")
    for rule in _rules_about(contract, cells, period):
        if engine.fetch(f"SELECT 1 FROM mended WHERE NOT ({condition_sql(contract, rule, context)})"):
            others = ", ".join(sorted(set(rule.columns) - cells.keys()))
            mend = f"correct {others} with it (--column again)" if others else "give a value that may stand there"
            raise DataError(f"{case.case_id}: the row would break {rule.id}: {rule.says.zh} {rule.says.en}", mend)


def _rules_about(contract: Contract, cells: Cells, period: Period) -> list[Rule]:
    held = set(accepted_columns(contract))
    return [
        rule
        for rule in contract.row_rules
        if rule.rejects and rule.sql and rule.applies_in(period.start)
        and set(rule.columns) & cells.keys() and set(rule.columns) <= held
    ]  # fmt: skip


# -- whose row it is ---------------------------------------------------------------------------------------------------


def _tokens(contract: Contract) -> list[str]:
    """The columns of an accepted row that say whose it is: its household or, where none is named, its people."""
    tokens = [column.token for column in contract.delivered if column.token is not None]
    own = [one.name for one in tokens if one.name == "household_key"]
    return own or [one.name for one in tokens if one.domain == "person"]


def _households(
    engine: DuckEngine, ws: Workspace, case: Case, contract: Contract, named: Mapping[str, str]
) -> set[str]:
    """The households a row concerns, by the members of the month the case speaks of."""
    if "household_key" in named:
        return {named["household_key"]}
    graded = casework.graded_month(ws, case.period)
    months.register_staged(engine, ws, "core_members", "core_members", [graded])
    return {str(key) for (key,) in engine.fetch(_HOMES, {"people": sorted(set(named.values()))})}


def _open_beside(ws: Workspace, case: Case, others: set[str], step: Step, *, now: datetime) -> None:
    """A case for each other household of the row, so that it is told what became of its grade."""
    graded = casework.graded_month(ws, case.period)
    numbers = _household_numbers(ws, Period.parse(case.period), others) if others else {}
    for key in sorted(others):
        standing = standing_of(ws, graded, key)
        new = NewCase(
            case.case_kind, key, case.period, casework.origin_beside(case.case_id) + key,
            concerns=case.case_id, grade_before=standing.effective_grade if standing else None,
            grading_id=graded.grading_id,
        )  # fmt: skip
        texts = {"household_no": numbers[key]} if key in numbers else {}
        ledger.open_case(
            ws.ledger, new, account=step.account, on=step.happened_on, texts=texts, seal=casework.sealer(ws), now=now
        )


def _household_numbers(ws: Workspace, until: Period, wanted: set[str]) -> dict[str, str]:
    """{token: the household's own number}, from landed bytes of the register, newest first; what cannot be read lacks."""
    found: dict[str, str] = {}
    month = until
    while month >= ws.registry.county.first_period and wanted - found.keys():
        for delivery in ws.ledger.in_force(str(month)):
            if delivery.dataset == _REGISTER:
                found = dict(_numbers_in(ws, delivery, wanted)) | found
        month = month.previous()
    return found


def _numbers_in(ws: Workspace, delivery: Delivery, wanted: set[str]) -> Iterator[tuple[str, str]]:
    query = (
        f"SELECT * FROM (SELECT {token_sql('household', 'household_no')} AS household_key, household_no FROM typed) AS t "
        "WHERE household_key IN (SELECT unnest($wanted))"
    )
    asked = {**ws.token_key.params(), "wanted": sorted(wanted)}
    with ws.engine() as engine:
        try:
            for _ in typed_pieces(engine, ws, subject_of(ws, delivery)):
                yield from ((str(key), str(number)) for key, number in engine.fetch(query, asked))
        except (CreditVillageError, OSError, duckdb.Error):
            return  # deleted by law, or damaged: its households are told by the desk
