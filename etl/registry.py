"""What one county configures: banks, sources, code lists, places. Read from an overlay of folders, first match wins.

Every file is found by its place (`banks/*.yml`, `sources/*.yml`, `codes/*.yml`): adding a bank is adding a file.
"""

from __future__ import annotations

import csv
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from etl.period import Period
from etl.vocabulary import ConfigurationError

_SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_MODEL = TypeVar("_MODEL", bound=BaseModel)
Dataset = str


def _period(value: object) -> Period:
    return value if isinstance(value, Period) else Period.parse(str(value))


def _size(value: object) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMGT]B)?", str(value))
    if not found:
        raise ValueError("write a size such as 200MB or 2GB")
    return int(found[1]) * _SIZES.get(found[2] or "", 1)


def _address(value: object) -> str:
    """A drop zone's address; secrets belong into its access file."""
    if "://" in str(value) and urlsplit(str(value)).password is not None:
        raise ValueError("an address must not hold a password; put it into the zone's access file")
    return str(value)


PeriodField = Annotated[Period, BeforeValidator(_period)]
SizeField = Annotated[int, BeforeValidator(_size)]
AddressField = Annotated[str, BeforeValidator(_address)]


class Strict(BaseModel):
    """A configuration entry in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


class Bilingual(Strict):
    zh: str
    en: str


class Contact(Bilingual):
    phone: str


class County(Strict):
    """config/county.yml."""

    code: str
    name: Bilingual
    timezone: str
    id_prefixes: list[str]
    first_period: PeriodField
    round: str
    notice_days: int = Field(ge=0)
    approval: Literal["none", "required"]
    contact: Contact
    synthetic: bool


class Due(Strict):
    workday: int = Field(ge=1, le=23)
    time: str = Field(pattern=r"^[0-2]\d:[0-5]\d$")


class Limits(Strict):
    files_per_day: int = Field(gt=0)
    bytes_per_day: SizeField
    findings: int = Field(gt=0)


class RowLimits(Strict):
    min: int = Field(ge=0)
    warn_above: int | None = None


class Accept(Strict):
    """When a delivery as a whole is acceptable."""

    rows: RowLimits
    max_rejected_share: float = Field(ge=0, le=1)
    max_removed_share: float | None = Field(default=None, ge=0, le=1)
    empty: Literal["refused", "accepted"] = "refused"


class Layout(Strict):
    """How the bytes of one feed are laid out from a month on."""

    from_: PeriodField = Field(alias="from")
    match: str = "*"
    format: Literal["delimited", "workbook", "json_lines", "database"]
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = '"'
    header: bool = True
    sheet: str | None = None
    header_row: int = Field(default=1, ge=1)
    columns: list[str] | dict[str, str]
    ignore: list[str] = []
    nulls: list[str] = [""]
    dates: str = "%Y-%m-%d"
    units: dict[str, Literal["yuan", "10k_yuan", "percent", "fraction"]] = {}
    codes: str
    defaults: dict[str, str] = {}

    @model_validator(mode="after")
    def _quote_is_one_character(self) -> Layout:
        if self.quote != "none" and len(self.quote) != 1:
            raise ValueError("quote must be one character or none")
        return self

    @cached_property
    def source_to_canonical(self) -> dict[str, str]:
        """Columns as delivered, in their order, to canonical names (a list names both alike)."""
        return dict(self.columns) if isinstance(self.columns, dict) else {name: name for name in self.columns}

    @cached_property
    def canonical(self) -> tuple[str, ...]:
        """Canonical columns this layout fills: delivered and not ignored, then the defaults."""
        delivered = [name for source, name in self.source_to_canonical.items() if source not in self.ignore]
        return (*delivered, *(name for name in self.defaults if name not in delivered))


class Feed(Strict):
    """One dataset of one supplier."""

    files: str | None = None
    package: Literal["pboc", "flag", "sidecar", "bare"] = "bare"
    relation: str | None = None
    key: str | None = None
    changed_at: str | None = None
    provides: list[str]
    id_form: Literal["plain"] = "plain"
    accept: Accept
    layouts: list[Layout] = Field(min_length=1)

    def layout_for(self, period: Period, file_name: str) -> Layout:
        """The newest layout in force for the period whose `match` fits; raises LookupError when there is none."""
        fitting = [
            layout for layout in self.layouts if layout.from_ <= period and fnmatch.fnmatch(file_name, layout.match)
        ]
        if not fitting:
            raise LookupError(f"no layout is in force for {period}")
        return max(fitting, key=lambda layout: layout.from_)


class Supplier(Strict):
    """config/banks/<code>.yml: a bank and its feeds."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    name: Bilingual
    drop: AddressField
    institution_codes: list[str] = Field(min_length=1)
    since: PeriodField
    until: PeriodField | None = None
    due: Due
    open_periods: int = Field(gt=0)
    limits: Limits
    receipt_encoding: Literal["utf-8", "gb18030"]
    feeds: dict[Dataset, Feed] = Field(min_length=1)

    @model_validator(mode="after")
    def _feeds_name_their_files(self) -> Supplier:
        for dataset, feed in self.feeds.items():
            if not feed.files:
                raise ValueError(f"feeds.{dataset} needs files: a name pattern such as LOANS_{{period:%Y%m}}*.csv")
        return self


class Source(Strict):
    """config/sources/<code>.yml: a pulled database or a folder of village files."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    name: Bilingual
    kind: Literal["database", "files"]
    url_env: str | None = None
    drop: AddressField | None = None
    suppliers: Literal["towns", "self"] = "self"
    since: PeriodField
    until: PeriodField | None = None
    due: Due
    chunk_rows: int = Field(default=50_000, gt=0)
    receipt_encoding: Literal["utf-8", "gb18030"] = "utf-8"
    feeds: dict[Dataset, Feed] = Field(min_length=1)

    @model_validator(mode="after")
    def _kind_has_its_keys(self) -> Source:
        needed = {"database": ("url_env",), "files": ("drop",)}[self.kind]
        absent = [key for key in needed if getattr(self, key) is None]
        if absent:
            raise ValueError(f"kind {self.kind} needs {', '.join(absent)}")
        return self


@dataclass(frozen=True)
class CodeLists:
    """Canonical values and the codings that map to them, from config/codes/*.yml."""

    lists: Mapping[str, Mapping[str, Any]]

    def __contains__(self, name: str) -> bool:
        return name in self.lists

    def values(self, name: str) -> dict[str, dict[str, str]]:
        """Canonical value -> {zh, en}."""
        return dict(self.lists[name]["values"])

    def mapping(self, name: str, coding: str) -> dict[str, str]:
        """Source code -> canonical value; a coding that the list does not know maps nothing."""
        return dict(self.lists[name]["codings"].get(coding, {}))


@dataclass(frozen=True)
class Place:
    place_code: str
    place_name: str
    place_level: str
    parent_code: str
    valid_from_on: date
    valid_to_on: date | None
    in_programme: bool


@dataclass(frozen=True, order=True)
class Expected:
    """One delivery that a complete month needs."""

    supplier: str
    dataset: str
    source: str
    kind: str


@dataclass(frozen=True)
class Registry:
    """Everything configured, ready to ask."""

    county: County
    banks: Mapping[str, Supplier]
    sources: Mapping[str, Source]
    codes: CodeLists
    places: Sequence[Place]
    folders: Sequence[Path]

    def towns(self) -> list[str]:
        return [place.place_code for place in self.places if place.place_level == "town"]

    def villages(self, period: Period) -> list[str]:
        """Codes of the villages valid at some day of the period."""
        return [
            place.place_code
            for place in self.places
            if place.place_level == "village"
            and place.valid_from_on <= period.end
            and (place.valid_to_on is None or place.valid_to_on >= period.start)
        ]

    def suppliers_of(self, source: Source) -> list[str]:
        return self.towns() if source.suppliers == "towns" else [source.code]

    def feed(self, supplier: str, dataset: str) -> Feed:
        """The feed of a bank, a source, or a town that a source speaks for; raises ConfigurationError if unknown."""
        owner = self.owner(supplier, dataset)
        return owner.feeds[dataset]

    def owner(self, supplier: str, dataset: str) -> Supplier | Source:
        bank = self.banks.get(supplier)
        if bank and dataset in bank.feeds:
            return bank
        for source in self.sources.values():
            if dataset in source.feeds and supplier in self.suppliers_of(source):
                return source
        raise ConfigurationError(
            "config/banks or config/sources", f"{supplier}.{dataset}", "no such feed", "add it, or correct the name"
        )

    def expected(self, period: Period) -> list[Expected]:
        """All deliveries that make the period complete, in a fixed order."""
        return sorted((*self._expected_of_banks(period), *self._expected_of_sources(period)))

    def _expected_of_banks(self, period: Period) -> Iterator[Expected]:
        for bank in self.banks.values():
            if _active(bank, period):
                yield from (Expected(bank.code, dataset, bank.code, "bank") for dataset in bank.feeds)

    def _expected_of_sources(self, period: Period) -> Iterator[Expected]:
        for source in self.sources.values():
            if _active(source, period):
                for supplier in self.suppliers_of(source):
                    yield from (Expected(supplier, dataset, source.code, source.kind) for dataset in source.feeds)


def _active(owner: Supplier | Source, period: Period) -> bool:
    return owner.since <= period and (owner.until is None or period <= owner.until)


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML mapping; raises ConfigurationError naming file, line and mend."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(path, "", f"unreadable ({type(error).__name__})", "save it as UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        raise ConfigurationError(
            path, line, f"not YAML: {getattr(error, 'problem', error)}", "correct that line"
        ) from None
    if not isinstance(content, dict):
        raise ConfigurationError(path, "", "not a mapping of keys to values", "start with `key: value` lines")
    return content


def parse_model(model: type[_MODEL], content: Mapping[str, Any], path: Path) -> _MODEL:
    """A validated model; raises ConfigurationError for the first thing wrong in the file."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise configuration_error(error, path) from None


def configuration_error(error: ValidationError, path: Path) -> ConfigurationError:
    """The first finding of pydantic, as file, key, problem and mend in one line."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    mends = {"extra_forbidden": "remove the key or correct its spelling", "missing": "add the key"}
    problem = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(first["type"], first["msg"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ConfigurationError(path, key, problem + more, mends.get(first["type"], "correct the value"))


def overlay_files(folders: Sequence[Path], pattern: str) -> list[Path]:
    """Files matching a pattern over an overlay of folders, the first of each relative name, sorted by name."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.glob(pattern):
            found.setdefault(str(path.relative_to(folder)), path)
    return [found[name] for name in sorted(found)]


def overlay_file(folders: Sequence[Path], name: str) -> Path:
    """The first file of that name; raises ConfigurationError when no folder has it."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(folders[-1] / name, "", "no such file", "create it or correct the folder list")


def _load_named(model: type[_MODEL], folders: Sequence[Path], pattern: str) -> dict[str, _MODEL]:
    loaded = {}
    for path in overlay_files(folders, pattern):
        entry = parse_model(model, read_yaml(path), path)
        code = getattr(entry, "code")  # noqa: B009 - both models name it, their common base does not
        if code != path.stem:
            raise ConfigurationError(path, "code", f"{code!r} is not the file's name", f"write code: {path.stem}")
        loaded[code] = entry
    return loaded


def _load_codes(folders: Sequence[Path]) -> CodeLists:
    lists: dict[str, Any] = {}
    for path in overlay_files(folders, "codes/*.yml"):
        for name, content in read_yaml(path).items():
            _check_code_list(path, name, content)
            if name in lists:
                raise ConfigurationError(path, name, "code list defined twice", "keep it in one file")
            lists[name] = content
    return CodeLists(lists)


def _check_code_list(path: Path, name: str, content: Any) -> None:
    if not isinstance(content, dict) or set(content) != {"values", "codings"}:
        raise ConfigurationError(path, name, "needs exactly values and codings", "see the other lists of the file")
    for coding, mapping in content["codings"].items():
        unknown = sorted(set(mapping.values()) - set(content["values"]))
        if unknown:
            raise ConfigurationError(
                path,
                f"{name}.codings.{coding}",
                f"maps to unknown value {unknown[0]!r}",
                "add it to values or correct it",
            )


def _load_places(folders: Sequence[Path]) -> list[Place]:
    path = overlay_file(folders, "places.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [_place(row) for row in rows]
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            path, str(error), "missing column or bad date", "see the header of the shipped file"
        ) from None


def _place(row: Mapping[str, str]) -> Place:
    return Place(
        place_code=row["place_code"],
        place_name=row["place_name"],
        place_level=row["place_level"],
        parent_code=row["parent_code"],
        valid_from_on=date.fromisoformat(row["valid_from_on"]),
        valid_to_on=date.fromisoformat(row["valid_to_on"]) if row["valid_to_on"] else None,
        in_programme=row["in_programme"] == "true",
    )


def load_registry(folders: Sequence[Path]) -> Registry:
    """Read the whole configuration; raises ConfigurationError naming file, key and mend."""
    county_path = overlay_file(folders, "county.yml")
    return Registry(
        county=parse_model(County, read_yaml(county_path), county_path),
        banks=_load_named(Supplier, folders, "banks/*.yml"),
        sources=_load_named(Source, folders, "sources/*.yml"),
        codes=_load_codes(folders),
        places=_load_places(folders),
        folders=tuple(folders),
    )
