"""The answer to a supplier: a receipt for every claimed file, whatever its fate, signed and never overwritten.

The signed JSON is written last: with it the delivery is answered, and CSV, XLSX and page are what it names.

A receipt speaks of the supplier's own bytes only. Cells are quoted back only for columns of open privacy class, the
supplier's own number (`key`) in full except where it contains an identity number. No cell can start a formula.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from etl.findings import WRONG_FIELD_COUNT, WRONG_FIELD_COUNT_FIX, WRONG_FIELD_COUNT_SAYS
from etl.intake.receipt_page import page_bytes
from etl.intake.receipt_sheets import receipt_sheets
from etl.intake.receipt_words import Facing
from etl.intake.signing import SigningKey, public_key_name
from etl.intake.spreadsheet import disarmed, write_workbook
from etl.intake.strings import Strings
from etl.registry import Layout

SHOWN_PER_RULE: Final = 100
DIFF_KEYS: Final = ("added", "changed", "removed", "fixed", "new")
CONFIRMED: Final = "confirmed"
KNOWN: Final = "known"
SETTLED: Final = (CONFIRMED, KNOWN)
# 6 area digits of a real province (GB/T 2260), a possible date of birth, 3 digits, check character: GB 11643-1999
_PROVINCE = "(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91)"
_BORN = "(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
IDENTITY_NUMBER: Final = f"({_PROVINCE}[0-9]{{4}}){_BORN}[0-9]{{3}}[0-9Xx]"
IDENTITY_MASK: Final = r"\1************"
# a self-employed person's credit code names the person: 92, 6 area digits, 10 characters of GB 32100-2015
_OWN_CREDIT_CODE = f"(^|[^0-9A-Z])(92{_PROVINCE}[0-9]{{4}})[0-9A-HJ-NPQRTUWXY]{{10}}"
_PHONE = "(^|[^0-9])1[3-9][0-9]{9}($|[^0-9])"
_LONG_NUMBER = r"^([0-9]{12,})$"
_MAX_VALUE_CHARACTERS = 80
_MAX_NAME_BYTES = 120
_UNSEEN = r"[\p{Cc}\p{Cf}]"
_JOIN = " | "
_CODED: Final = pa.dictionary(pa.int32(), pa.string())  # a million findings say the same few texts
_SCHEMA: Final = pa.schema(
    [
        ("rule", _CODED),
        ("family", _CODED),
        ("action", _CODED),
        ("member", _CODED),
        ("row", pa.int64()),
        ("line", pa.int64()),
        ("column_no", pa.int64()),
        ("column_as_delivered", _CODED),
        ("field", _CODED),
        ("key", pa.string()),
        ("value", pa.string()),
        ("message_zh", _CODED),
        ("message_en", _CODED),
        ("fix_zh", _CODED),
    ]
)
_CSV_ROWS: Final = 50_000
_QUOTED: Final = frozenset({"member", "key", "value"})
_Index = npt.NDArray[np.int64]


class Wording(Protocol):
    """A text in Chinese and English."""

    @property
    def zh(self) -> str: ...

    @property
    def en(self) -> str: ...


class ReceiptRule(Protocol):
    """What a receipt needs of a rule of a contract."""

    @property
    def id(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def action(self) -> str: ...

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def says(self) -> Wording: ...

    @property
    def fix(self) -> Wording: ...


@dataclass(frozen=True)
class Answer:
    """What a receipt says besides its findings. `bank` is the supplier's code, `original_name` the name of its file."""

    delivery_id: str
    bank: str
    period: str
    revision: int
    original_name: str
    outcome: str
    in_force: bool
    sha256: str | None
    rows_read: int
    rows_accepted: int
    rows_rejected: int
    not_checked: Sequence[str]
    ruleset: str
    contact: Mapping[str, Any]
    diff: Mapping[str, Any] = field(default_factory=dict)
    diagnoses: Sequence[Mapping[str, Any]] = ()
    stays_in_force: str | None = None
    facing: Facing = field(default_factory=Facing)


@dataclass(frozen=True)
class Receipt:
    """Where the receipt lies; `is_new` is false when this delivery had been answered before (nothing is rewritten).

    `counts_by_rule` are the open findings, `settled` those that do not count: {confirmed or known: {rule: findings}}.
    """

    json_path: Path
    csv_path: Path
    counts_by_rule: Mapping[str, int]
    settled: Mapping[str, Mapping[str, int]]
    is_new: bool


def write_receipts(
    outbox: Path,
    answer: Answer,
    findings: pa.Table,
    strings: Strings,
    rules: Mapping[str, ReceiptRule],
    layout: Layout | None,
    *,
    key_column: str | None,
    open_columns: Collection[str],
    encoding: str,
    signing_key: SigningKey,
) -> Receipt:
    """Write `outbox/<bank>/<period>/<name>.<delivery_id>.receipt.{json,csv,xlsx,html}`, and name it in `latest.txt`.

    `findings` has the columns _member, _row, rule, and `state` (confirmed, known or NULL) where something is settled;
    P201 and file findings come from `strings`. `key_column` is the canonical column with the supplier's own number;
    `open_columns` may be quoted back; `encoding` is the supplier's. The public key lies beside the months' folders.
    """
    table = receipt_findings(findings, strings, rules, layout, key_column=key_column, open_columns=open_columns)
    folder = outbox / answer.bank / answer.period
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{harmless_name(answer.original_name)}.{answer.delivery_id}.receipt"
    place = folder / f"{stem}.json"
    is_new = not place.exists()
    if is_new:
        publish_key(outbox / answer.bank, signing_key)
        document = _document(answer, table)
        facing = answer.facing.of(answer.original_name, f"{stem}.json", signing_key.public.key_id)
        writers: dict[str, Callable[[Path], None]] = {
            "csv": lambda path: write_new(path, _csv_parts(table, encoding)),
            "xlsx": lambda path: write_workbook(path, receipt_sheets(document, table, facing)),
            "html": lambda path: write_new(path, [page_bytes(document, table, facing)]),
        }
        files = {f"{stem}.{kind}": _put(folder / f"{stem}.{kind}", write) for kind, write in writers.items()}
        is_new = write_once(place, document_bytes(signing_key.sign(document, files)))
    put_file(outbox / answer.bank / "latest.txt", f"{answer.period}/{stem}.json\n".encode())
    return Receipt(place, folder / f"{stem}.csv", counts_by_rule(table), settled_counts(table), is_new)


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """A signed document as it is written."""
    return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8")


def publish_key(folder: Path, key: SigningKey) -> None:
    """Put the public key into a supplier's outbox; a key of another time stays beside it."""
    place = folder / public_key_name(key.public.key_id)
    if not place.exists():
        write_once(place, key.public.pem)


def receipt_findings(
    findings: pa.Table,
    strings: Strings,
    rules: Mapping[str, ReceiptRule],
    layout: Layout | None,
    *,
    key_column: str | None,
    open_columns: Collection[str],
) -> pa.Table:
    """All findings in the columns of a receipt, ordered by member, row and rule; no shadow rule among them.

    Columns with few different texts are dictionaries of them.
    """
    pieces = [_file_findings(strings), _bad_lines(strings)]
    if "state" not in findings.column_names:
        findings = findings.append_column("state", pa.nulls(len(findings), pa.string()))
    lookup = _Lookup(strings, layout, key_column, frozenset(open_columns))
    for rule_id in sorted(pc.unique(findings["rule"]).to_pylist()):
        rule = rules.get(rule_id)
        if rule is not None and rule.action != "shadow" and rule_id != WRONG_FIELD_COUNT:
            pieces.append(_of_rule(findings.filter(pc.equal(findings["rule"], rule_id)), rule, lookup))
    table = pa.concat_tables(pieces).unify_dictionaries()
    order = [(name, "ascending", "at_start") for name in ("member", "row", "rule")]
    return table.take(pc.sort_indices(pa.table({name: _plain(table[name]) for name, *_ in order}), sort_keys=order))


def counts_by_rule(table: pa.Table) -> dict[str, int]:
    """Open findings of each rule, by rule id: what the supplier confirmed or is known does not count."""
    is_settled = pc.is_in(table["action"], pa.array(SETTLED))
    return _counted(table.filter(pc.invert(is_settled))["rule"])


def settled_counts(table: pa.Table) -> dict[str, dict[str, int]]:
    """Findings that do not count: {confirmed or known: {rule: findings}}."""
    return {state: _counted(table.filter(pc.equal(table["action"], state))["rule"]) for state in SETTLED}


def _counted(rules: pa.ChunkedArray) -> dict[str, int]:
    return dict(sorted((entry["values"].as_py(), entry["counts"].as_py()) for entry in pc.value_counts(rules)))


def csv_bytes(table: pa.Table, encoding: str) -> bytes:
    """All findings as CSV in the supplier's encoding; formulas and long numbers made text by a leading apostrophe."""
    return b"".join(_csv_parts(table, encoding))


def _csv_parts(table: pa.Table, encoding: str) -> Iterator[bytes]:
    """The same in parts of bounded size, the heading in the first."""
    for start in range(0, max(len(table), 1), _CSV_ROWS):
        part = table.slice(start, _CSV_ROWS)
        columns = [_plain(column) for column in part.columns]
        columns = [_disarmed(column) if pa.types.is_string(column.type) else column for column in columns]
        sink = pa.BufferOutputStream()
        options = pa_csv.WriteOptions(include_header=start == 0)
        pa_csv.write_csv(pa.table(columns, names=part.column_names), sink, options)
        text: bytes = sink.getvalue().to_pybytes()
        yield text if encoding == "utf-8" else text.decode("utf-8").encode(encoding, "replace")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts written out where they are a dictionary."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def mask_identity(texts: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Texts in which every number that names a person (identity number, own credit code) ends with its area digits."""
    masked = pc.replace_substring_regex(texts, IDENTITY_NUMBER, IDENTITY_MASK)
    return pc.replace_substring_regex(masked, _OWN_CREDIT_CODE, r"\1\2**********")


def harmless_name(name: str) -> str:
    """A supplier's file name as part of ours: no separators, control or direction characters, bounded length.

    >>> harmless_name("../a\\nb.csv")
    '_._a_b.csv'
    """
    safe = "".join("_" if _is_unsafe(character) else character for character in name)
    safe = f"_{safe[1:]}" if safe.startswith(".") else safe
    return safe.encode("utf-8")[:_MAX_NAME_BYTES].decode("utf-8", "ignore") or "_"


def _is_unsafe(character: str) -> bool:
    return character in '/\\:*?"<>|' or unicodedata.category(character)[0] == "C"


class _Lookup:
    """Finds cells, lines and column places of the delivered rows by member and row number."""

    def __init__(
        self, strings: Strings, layout: Layout | None, key_column: str | None, open_columns: frozenset[str]
    ) -> None:
        self._table = strings.table
        self._members = {name: code for code, name in enumerate(pc.unique(strings.table["_member"]).to_pylist())}
        self._places = self._positions(strings.table["_member"], strings.table["_row"])
        self._key_column = key_column if key_column in strings.table.column_names else None
        self._open_columns = open_columns & set(strings.table.column_names)
        self._sources = {name: source for source, name in layout.source_to_canonical.items()} if layout else {}
        self._column_no = strings.column_no

    def _positions(self, members: pa.ChunkedArray, rows: pa.ChunkedArray) -> _Index:
        """One ascending number for each (member, row): rows are in order within a member, members one after another."""
        encoded = members.combine_chunks().dictionary_encode()
        codes = [self._members.get(name, -1) for name in encoded.dictionary.to_pylist()]
        by_row = np.asarray(codes, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
        return by_row * (1 << 40) + rows.to_numpy()  # type: ignore[no-any-return]

    def indices(self, members: pa.ChunkedArray, rows: pa.ChunkedArray) -> pa.Array:
        """Positions in the strings table; null for a row that is not in it."""
        wanted = self._positions(members, rows)
        found = np.searchsorted(self._places, wanted)
        if not len(self._places):
            return pa.nulls(len(wanted), pa.int64())
        absent = self._places[np.minimum(found, len(self._places) - 1)] != wanted
        return pa.array(found, pa.int64(), mask=absent)

    def cells(self, column: str, indices: pa.Array) -> pa.ChunkedArray:
        return self._table[column].take(indices)

    def key(self, indices: pa.Array) -> pa.ChunkedArray | pa.Array:
        if self._key_column is None:
            return pa.nulls(len(indices), pa.string())
        return mask_identity(self.cells(self._key_column, indices))

    def value(self, columns: Sequence[str], indices: pa.Array) -> pa.ChunkedArray | pa.Array:
        """The cells a rule looks at, joined; nothing unless all of them may be shown."""
        if not columns or not self._open_columns.issuperset(columns):
            return pa.nulls(len(indices), pa.string())
        cells = [self.cells(column, indices) for column in columns]
        joined = cells[0] if len(cells) == 1 else pc.binary_join_element_wise(*cells, _JOIN)
        masked = pc.replace_substring_regex(mask_identity(joined), _PHONE, r"\1***********\2")
        return pc.utf8_slice_codeunits(masked, 0, _MAX_VALUE_CHARACTERS)

    def column_no(self, columns: Sequence[str]) -> int | None:
        return self._column_no.get(columns[0]) if columns else None

    def as_delivered(self, columns: Sequence[str]) -> str | None:
        names = [self._sources[column] for column in columns if column in self._sources]
        return _JOIN.join(names) or None


def _of_rule(found: pa.Table, rule: ReceiptRule, lookup: _Lookup) -> pa.Table:
    indices = lookup.indices(found["_member"], found["_row"])
    constants = {
        "rule": rule.id,
        "family": rule.family,
        "column_no": lookup.column_no(rule.columns),
        "column_as_delivered": lookup.as_delivered(rule.columns),
        "field": _JOIN.join(rule.columns) or None,
        "message_zh": rule.says.zh,
        "message_en": rule.says.en,
        "fix_zh": rule.fix.zh,
    }
    columns = {
        "action": pc.fill_null(found["state"], rule.action),
        "member": found["_member"],
        "row": found["_row"],
        "line": lookup.cells("_line", indices),
        "key": lookup.key(indices),
        "value": lookup.value(rule.columns, indices),
    }
    return _assemble(columns, constants, found.num_rows)


def _bad_lines(strings: Strings) -> pa.Table:
    """P201: neither key nor text is shown, because nobody knows which cell is which."""
    found = strings.row_findings
    constants = {
        "rule": WRONG_FIELD_COUNT,
        "family": "syntax",
        "action": "reject_row",
        "message_zh": WRONG_FIELD_COUNT_SAYS["zh"],
        "message_en": WRONG_FIELD_COUNT_SAYS["en"],
        "fix_zh": WRONG_FIELD_COUNT_FIX["zh"],
    }
    columns = {
        "member": pa.array([finding.member for finding in found], pa.string()),
        "row": pa.array([finding.row for finding in found], pa.int64()),
        "line": pa.array([finding.line for finding in found], pa.int64()),
    }
    return _assemble(columns, constants, len(found))


def _file_findings(strings: Strings) -> pa.Table:
    found = strings.file_findings
    names = ("rule", "family", "action", "member", "message_zh", "message_en", "fix_zh")
    columns = {name: pa.array([getattr(finding, name) for finding in found], pa.string()) for name in names}
    return _assemble(columns, {}, len(found))


def _assemble(columns: Mapping[str, Any], constants: Mapping[str, Any], count: int) -> pa.Table:
    arrays = [
        _given(entry, columns[entry.name]) if entry.name in columns else _same(entry, constants.get(entry.name), count)
        for entry in _SCHEMA
    ]
    return pa.table(arrays, schema=_SCHEMA)


def _given(entry: pa.Field, values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    shown = _seen(values) if entry.name in _QUOTED else values
    return shown.dictionary_encode() if entry.type == _CODED else shown


def _same(entry: pa.Field, value: str | int | None, count: int) -> pa.Array:
    """One value in every row."""
    if value is None or entry.type != _CODED:
        return pa.repeat(pa.scalar(value, entry.type), count) if value is not None else pa.nulls(count, entry.type)
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([value], pa.string()))


def _seen(texts: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """What a supplier wrote, without characters that cannot be seen or turn the direction of what follows."""
    return pc.replace_substring_regex(texts, _UNSEEN, "\ufffd")


def _document(answer: Answer, table: pa.Table) -> dict[str, Any]:
    """The JSON receipt before it is signed: the keys of DESIGN section 6, why, and what is settled or stays in force."""
    return {
        "delivery_id": answer.delivery_id,
        "bank": answer.bank,
        "period": answer.period,
        "revision": answer.revision,
        "outcome": answer.outcome,
        "in_force": answer.in_force,
        "sha256": answer.sha256,
        "rows_read": answer.rows_read,
        "rows_accepted": answer.rows_accepted,
        "rows_rejected": answer.rows_rejected,
        "findings": _shown(table),
        "diagnoses": list(answer.diagnoses),
        "counts_by_rule": counts_by_rule(table),
        "settled": settled_counts(table),
        "not_checked": list(answer.not_checked),
        "ruleset": answer.ruleset,
        "diff": {key: answer.diff.get(key) for key in DIFF_KEYS},
        "stays_in_force": answer.stays_in_force,
        "contact": dict(answer.contact),
    }


def _shown(table: pa.Table) -> list[dict[str, Any]]:
    """The first findings of each rule, in the table's order; settled ones take no place of open ones."""
    kinds = pc.binary_join_element_wise(_plain(table["rule"]), _plain(table["action"]), _JOIN)
    encoded = kinds.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    chosen = [np.flatnonzero(codes == code)[:SHOWN_PER_RULE] for code in range(len(encoded.dictionary))]
    order = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
    return table.take(pa.array(order, pa.int64())).to_pylist()  # type: ignore[no-any-return]


def _disarmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A spreadsheet shows a cell with a leading ' as text: no formula runs and no digit of a long number is lost."""
    return pc.replace_substring_regex(disarmed(column), _LONG_NUMBER, r"'\1")


def write_new(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that is not there yet; raises FileExistsError."""
    with path.open("xb") as file:
        file.writelines(parts)


def write_once(path: Path, content: bytes) -> bool:
    """Make a finished file appear under its name; false if there is one already, which then stays."""
    temporary = _scratch(path)
    try:
        write_new(temporary, [content])
        _sync(temporary)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def put_file(path: Path, content: bytes) -> str:
    """Make a finished file take the place of what bears its name; returns its SHA-256."""
    return _put(path, lambda scratch: write_new(scratch, [content]))


def _put(path: Path, write: Callable[[Path], None]) -> str:
    """Write a file beside its place and rename it there, over what an interrupted answer left; returns its SHA-256."""
    temporary = _scratch(path)
    try:
        write(temporary)
        _sync(temporary)
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _scratch(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.tmp")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
