"""What a grading rested on besides the landed bytes, kept so that it can be computed again long after: see `etl.replay`.

The shelf holds write-once files named by their SHA-256 in the restricted zone: the configuration, contracts and SQL that
deliveries were examined and months were graded under (one archive, however often it served), the statements of a grading
plan, and the small relations that were asked of the ledger. The ledger keeps the names.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import pyarrow as pa

from etl.settings import Settings
from etl.vocabulary import DataError

if TYPE_CHECKING:
    from etl.grading.plan import Statement

_KINDS = ("config", "expectations", "sql")
_THE_SAME_DAY = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Shelf:
    """Write-once files named by their SHA-256."""

    folder: Path

    def put(self, content: bytes) -> str:
        """Keep some bytes; the same bytes are kept once. Returns their name."""
        name = hashlib.sha256(content).hexdigest()
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch = self.folder / f".{uuid4().hex}"
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
                file.write(content)
                os.fsync(file.fileno())
            scratch.replace(path)
        return name

    def get(self, name: str) -> bytes:
        """The bytes of that name; raises DataError when they are gone or others."""
        path = self.folder / name
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != name:
            problem = "its bytes have changed" if path.is_file() else "it is missing"
            raise DataError(f"snapshots/{name[:16]}… of the restricted zone: {problem}", "restore it from the backup")
        return content


# -- configuration, contracts and SQL ---------------------------------------------------------------------------------


def keep_configuration(shelf: Shelf, settings: Settings) -> str:
    """Keep every file of config/, expectations/ and sql/, folder by folder of each overlay; returns the archive's name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, path in _files(settings):
            archive.writestr(zipfile.ZipInfo(name, _THE_SAME_DAY), path.read_bytes())
    return shelf.put(buffer.getvalue())


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    for kind in _KINDS:
        for number, root in enumerate(getattr(settings, kind)):
            found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
            for name in sorted(found):
                if not any(part.startswith((".", "__")) for part in name.parts):
                    yield f"{kind}/{number}/{name.as_posix()}", found[name]


def settings_then(shelf: Shelf, name: str, settings: Settings, into: Path) -> Settings:
    """The settings with the configuration, contracts and SQL of an archive, unpacked below `into`."""
    folder = into / name[:16]
    with zipfile.ZipFile(io.BytesIO(shelf.get(name))) as archive:
        if not folder.exists():
            archive.extractall(folder)
    config, expectations, sql = (_overlay(folder / kind) for kind in _KINDS)
    return replace(settings, config=config, expectations=expectations, sql=sql)


def _overlay(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.iterdir(), key=lambda root: int(root.name)))


# -- one grading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Basis:
    """What one grading rested on: ids of the deliveries in force and of the registers behind identity digests, decisions
    to do without a delivery, the gradings of earlier months ({month: grading_id}), the mark of the token key, and names
    on the shelf: configuration, statements of the plan, relations asked of the ledger ({relation: name})."""

    configuration: str
    token_key: str
    deliveries: Sequence[str]
    registers: Sequence[str]
    carried: Sequence[Sequence[str]]
    earlier: Mapping[str, int]
    plan: str
    asked: Mapping[str, str]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read what `as_json` gave."""
        return cls(**data)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def keep_plan(shelf: Shelf, plan: Sequence[Statement]) -> str:
    """Keep the statements of a grading plan as they ran."""
    return shelf.put(json.dumps([asdict(one) for one in plan], ensure_ascii=False).encode())


def plan_then(shelf: Shelf, name: str) -> list[Statement]:
    """The statements that `keep_plan` kept."""
    from etl.grading.plan import Statement  # only a replay needs it: whoever takes in files does not load the grading

    return [Statement(**one) for one in json.loads(shelf.get(name))]


def keep_table(shelf: Shelf, table: pa.Table) -> str:
    """Keep a small relation."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return shelf.put(sink.getvalue().to_pybytes())


def table_then(shelf: Shelf, name: str) -> pa.Table:
    """The relation that `keep_table` kept."""
    with pa.ipc.open_stream(shelf.get(name)) as reader:
        return reader.read_all()
