"""What the simulator reads from config/: places, code lists and the layouts its files must have."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from etl.period import Period
from etl.vocabulary import ConfigurationError


@dataclass(frozen=True)
class Places:
    """Towns and villages in the order of the file; `town_of` gives each village's town position."""

    towns: tuple[str, ...]
    villages: tuple[str, ...]
    village_names: tuple[str, ...]
    town_of: np.ndarray


@dataclass(frozen=True)
class Layout:
    """Columns of one file: headings as delivered and canonical names (an ignored column keeps its own name)."""

    headings: tuple[str, ...]
    names: tuple[str, ...]
    coding: str


class Config:
    """The parts of one county's configuration that shape synthetic files. Raises ConfigurationError."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def yaml(self, name: str) -> dict[str, Any]:
        """One YAML file as a mapping."""
        path = self.folder / name
        try:
            return dict(yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader))
        except (OSError, yaml.YAMLError, TypeError, ValueError) as problem:
            raise ConfigurationError(
                path, "", type(problem).__name__, "the simulator needs this YAML file"
            ) from problem

    @cached_property
    def codes(self) -> dict[str, dict[str, Any]]:
        """All code lists by name."""
        files = sorted((self.folder / "codes").glob("*.yml"))
        return {name: body for file in files for name, body in self.yaml(f"codes/{file.name}").items()}

    def code(self, code_list: str, coding: str, canonical: str | None) -> str | None:
        """The first source code of a coding that means the canonical code; None if the coding has none."""
        table = self.codes[code_list]["codings"].get(coding, {})
        return next((str(source) for source, meaning in table.items() if meaning == canonical), None)

    def labels(self, code_list: str, coding: str, canonical: tuple[str, ...]) -> list[str | None]:
        """Source codes for a sequence of canonical codes."""
        return [self.code(code_list, coding, value) for value in canonical]

    def layout(self, file: str, dataset: str, extra: tuple[str, ...] = (), match: str | None = None) -> Layout:
        """The layout of a dataset; `extra` are delivered columns that the configuration ignores by name."""
        layouts = self.yaml(file)["feeds"][dataset]["layouts"]
        chosen = next(entry for entry in layouts if match is None or entry.get("match") == match)
        columns = chosen["columns"]
        pairs = list(columns.items()) if isinstance(columns, dict) else [(name, name) for name in columns]
        pairs += [(name, name) for name in extra]
        return Layout(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs), str(chosen["codes"]))

    def institution(self, bank: str) -> str:
        """The first institution code a bank may use."""
        return str(self.yaml(f"banks/{bank}.yml")["institution_codes"][0])

    def places(self, period: Period) -> Places:
        """Towns and villages valid in a period."""
        with (self.folder / "places.csv").open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if _valid(row, period)]
        towns = tuple(row["place_code"] for row in rows if row["place_level"] == "town")
        villages = [row for row in rows if row["place_level"] == "village"]
        return Places(
            towns,
            tuple(row["place_code"] for row in villages),
            tuple(row["place_name"] for row in villages),
            np.array([towns.index(row["parent_code"]) for row in villages], dtype=np.int64),
        )


def _valid(row: dict[str, str], period: Period) -> bool:
    starts = not row["valid_from_on"] or row["valid_from_on"] <= period.end.isoformat()
    return starts and (not row["valid_to_on"] or row["valid_to_on"] >= period.end.isoformat())
