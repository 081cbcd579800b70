"""The entries of the corpus: `*.yml` beside this file, one list of bad deliveries a family.

`name`; `wrong`: what is wrong in one sentence; `bank` whose layout it spoils, and `dataset`; `make`: how (see spoil.py);
`file`: another file name; `feed`, `layout`: what is agreed otherwise for this entry; `drop`: another way of lying in the
drop zone (symlink, folder, no_flag, sparse); `then`: what happens to the file after the claim (see run.py); `again`: a
name under which the same bytes come once more, to be answered as a duplicate; `expect`:

- `outcome`, or for a file that is left lying `not_taken` with its reason (empty: passed over in silence);
- `rows_read` (30 unless said) and `rows_rejected` (the rows named by findings unless said);
- `findings`: each rule with its rows, or with a count where it names none;
- `diagnoses`: their codes in order; `says`: words that stand in the receipt.

Every entry is delivered by a bank of its own, a copy of the shipped one; the towns' logs share a folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from etl.registry import Feed, Supplier, parse_model, read_yaml
from etl.settings import PROJECT_ROOT
from tests.intake.corpus.sound import FILES
from tests.intake.corpus.spoil import content_of

FOLDER = Path(__file__).parent
GIGABYTE = 1 << 30
DELIVERED_AT = 1_712_106_000  # 2024-04-03 09:00 in China
_TOWNS = "mediation"


@dataclass(frozen=True)
class Entry:
    """One bad delivery and what must become of it."""

    name: str
    wrong: str
    bank: str
    expect: Mapping[str, Any]
    dataset: str = "loans"
    make: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    feed: Mapping[str, Any] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)
    drop: str = ""
    then: str = ""
    again: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        return self.bank, self.dataset

    @property
    def is_of_towns(self) -> bool:
        return self.bank == _TOWNS

    @property
    def zone(self) -> str:
        """The folder below the drop zone: the entry's own, but villages share theirs."""
        return "village_logs" if self.is_of_towns else self.code

    @property
    def code(self) -> str:
        return f"bad_{self.name}"

    @property
    def file_name(self) -> str:
        if self.file:
            return self.file.encode().decode("unicode_escape") if self.file.isascii() else self.file
        own = FILES[self.kind]
        return own.replace(".jsonl", f"_{self.name}.jsonl") if self.is_of_towns else own

    def configuration(self) -> dict[str, Any]:
        """The bank's YAML with what this entry agrees on otherwise."""
        agreed = read_yaml(PROJECT_ROOT / "config" / "banks" / f"{self.bank}.yml")
        feed = agreed["feeds"][self.dataset]
        feed.update(self.feed)
        feed["layouts"][0].update(self.layout)
        return agreed | {"code": self.code, "drop": "{drop}/" + self.code, "feeds": {self.dataset: feed}}

    def agreed_feed(self) -> Feed:
        if self.is_of_towns:
            source = read_yaml(PROJECT_ROOT / "config" / "sources" / "mediation.yml")
            return Feed.model_validate(source["feeds"][self.dataset])
        return parse_model(Supplier, self.configuration(), Path(self.code)).feeds[self.dataset]

    def content(self) -> bytes:
        feed = self.agreed_feed()
        return content_of(self.kind, feed.layouts[0], feed.package, FILES[self.kind], self.make)

    def deliver(self, drop: Path, config: Path) -> Path:
        """Put the file where it is agreed and the bank into the configuration; returns the file's place."""
        if not self.is_of_towns:
            place = config / "banks" / f"{self.code}.yml"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(
                yaml.safe_dump(self.configuration(), allow_unicode=True, sort_keys=False), encoding="utf-8"
            )
        folder = drop / self.zone
        folder.mkdir(parents=True, exist_ok=True)
        return self.drop_into(folder)

    def drop_into(self, folder: Path) -> Path:
        """Put the file, and what comes beside it, into a folder; returns the file's place."""
        place = folder / self.file_name
        if self.drop == "folder":
            place.mkdir()
        elif self.drop == "symlink":
            place.symlink_to("/etc/passwd")
        else:
            place.write_bytes(b"" if self.drop == "sparse" else self.content())
            if self.drop == "sparse":
                os.truncate(place, GIGABYTE)
            os.utime(place, (DELIVERED_AT, DELIVERED_AT))
        if self.again:
            shutil.copy2(place, folder / self.again)
        for ending, content in self._companions().items():
            (folder / f"{self.file_name}{ending}").write_text(content, encoding="utf-8")
        return place

    def _companions(self) -> dict[str, str]:
        package = self.agreed_feed().package
        if package == "sidecar" and "sidecar" in self.make:
            return {".sha256": self.make["sidecar"]}
        return {".ok": ""} if package == "flag" and self.drop != "no_flag" else {}


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, by family and in the order written. Raises ValueError when a name is there twice."""
    found = []
    for path in sorted(FOLDER.glob("*.yml")):
        found += [Entry(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]
    names = [entry.name for entry in found]
    if len(set(names)) != len(names):
        raise ValueError(f"twice: {sorted(name for name in names if names.count(name) > 1)}")
    return tuple(found)
