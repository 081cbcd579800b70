"""What a release consists of: `manifest.json`, and the differences between two of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from etl.engine.base import Content
from etl.publish.lake import DataFile, contents_of

SYNTHETIC_MARK = "合成数据"
Place = tuple[str, str]  # table, period


@dataclass(frozen=True)
class Facts:
    """What a release says of how one period was computed.

    `policy`: names, versions and status of the policies in force; `ruleset` and `key_version`: marks of the rules and
    of the token key; `inputs`: the deliveries in force; `completeness`: which inputs were carried forward or withheld;
    `gates`: the report of the gates it passed, by its hash, and what was warned of or approved;
    `notes`: whatever else a reader should know (such as a notice period of 0 days).
    """

    policy: Mapping[str, Any] = field(default_factory=dict)
    ruleset: str = ""
    key_version: str = ""
    inputs: Iterable[Mapping[str, Any]] = ()
    completeness: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    gates: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "policy": dict(self.policy),
            "ruleset": self.ruleset,
            "key_version": self.key_version,
            "inputs": [dict(entry) for entry in self.inputs],
            "completeness": dict(self.completeness),
            "synthetic": SYNTHETIC_MARK if self.synthetic else None,
            "notes": dict(self.notes),
            "gates": dict(self.gates),
        }


@dataclass(frozen=True)
class Manifest:
    """One release: its files of all tables and periods, and the facts of each period."""

    release_id: str
    period: str
    previous: str | None
    published_at: str
    files: tuple[DataFile, ...]
    columns: Mapping[Place, tuple[str, ...]]
    facts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, text: str) -> Self:
        """Read a manifest.json."""
        return cls.from_json(json.loads(text))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `as_json` gave."""
        places = {(table, period): part for table, parts in data["tables"].items() for period, part in parts.items()}
        return cls(
            release_id=data["release_id"],
            period=data["period"],
            previous=data["previous"],
            published_at=data["published_at"],
            files=tuple(_file(place, entry) for place, part in places.items() for entry in part["files"]),
            columns={place: tuple(part["columns"]) for place, part in places.items()},
            facts=data["periods"],
        )

    def as_json(self) -> dict[str, Any]:
        """The whole manifest; the facts of the period published stand at the top as well."""
        tables: dict[str, dict[str, Any]] = {}
        for table, period in sorted(self.contents):
            tables.setdefault(table, {})[period] = self._part((table, period))
        return {
            "release_id": self.release_id,
            "period": self.period,
            "previous": self.previous,
            "published_at": self.published_at,
            **self.facts.get(self.period, {}),
            "periods": {period: dict(facts) for period, facts in sorted(self.facts.items())},
            "tables": tables,
        }

    def text(self) -> str:
        """manifest.json, readable and in a fixed order."""
        return json.dumps(self.as_json(), ensure_ascii=False, indent=2) + "\n"

    @cached_property
    def contents(self) -> dict[Place, Content]:
        """Content by (table, period)."""
        return contents_of(self.files)

    @property
    def tables(self) -> list[str]:
        return sorted({table for table, _ in self.contents})

    @property
    def periods(self) -> list[str]:
        return sorted({period for _, period in self.contents})

    def files_of(self, place: Place) -> list[DataFile]:
        """The files of one table and period, by source, in the order of their keys."""
        found = [file for file in self.files if (file.table, file.period) == place]
        return sorted(found, key=_in_order)

    def succeeded(
        self,
        release_id: str,
        period: str,
        files: Iterable[DataFile],
        columns: Mapping[str, tuple[str, ...]],
        facts: Facts,
        now: datetime,
    ) -> Manifest:
        """The next release: this one with the files and facts of one period replaced."""
        kept = tuple(file for file in self.files if file.period != period)
        kept_columns = {place: names for place, names in self.columns.items() if place[1] != period}
        return Manifest(
            release_id=release_id,
            period=period,
            previous=self.release_id or None,
            published_at=now.isoformat(),
            files=tuple(sorted((*kept, *files), key=_in_order)),
            columns={**kept_columns, **{(table, period): names for table, names in columns.items()}},
            facts={**self.facts, period: facts.as_json()},
        )

    def _part(self, place: Place) -> dict[str, Any]:
        content = self.contents[place]
        files = [
            {
                "source": f.source,
                "part": f.part,
                "path": f.path,
                "rows": f.rows,
                "sha256": f.sha256,
                "content": str(f.content),
            }
            for f in self.files_of(place)
        ]
        return {"rows": content.rows, "content": str(content), "columns": list(self.columns[place]), "files": files}


NO_RELEASE = Manifest("", "", None, "", (), {}, {})


@dataclass(frozen=True)
class Difference:
    """One (table, period) that two releases do not hold alike; None where a release has no such part."""

    table: str
    period: str
    before: Content | None
    after: Content | None


def diff(before: Manifest, after: Manifest) -> list[Difference]:
    """Where two releases differ in content, by table and period."""
    places = sorted(before.contents.keys() | after.contents.keys())
    found = (Difference(*place, before.contents.get(place), after.contents.get(place)) for place in places)
    return [one for one in found if one.before != one.after]


def _file(place: Place, entry: Mapping[str, Any]) -> DataFile:
    content = Content.parse(entry["content"])
    part = int(entry.get("part", 0))
    return DataFile(*place, entry["source"], entry["path"], int(entry["rows"]), entry["sha256"], content, part)


def _in_order(file: DataFile) -> tuple[str, str, str, int]:
    return file.table, file.period, file.source, file.part
