"""What one county configures: banks, sources, code lists, places. Read from an overlay of folders, first match wins.

Every file is found by its place (`banks/*.yml`, `sources/*.yml`, `codes/*.yml`): adding a bank is adding a file.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

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


def _delimiter(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in "\r\n\0":
        raise ValueError(
            f"a delimiter is one ASCII character, not {value!r} — agree on one with the bank, such as '|' or \"\\t\""
        )
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _address(value: object) -> str:
    """A drop zone's address; secrets belong into its access file."""
    if "://" in str(value) and urlsplit(str(value)).password is not None:
        raise ValueError("an address must not hold a password; put it into the zone's access file")
    return str(value)


PeriodField = Annotated[Period, BeforeValidator(_period)]
SizeField = Annotated[int, BeforeValidator(_size)]
DecimalField = Annotated[Decimal, BeforeValidator(str)]
AddressField = Annotated[str, BeforeValidator(_address)]


class Strict(BaseModel):
    """A configuration entry in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


class Bilingual(Strict):
    zh: str
    en: str


class Contact(Bilingual):
    phone: str


class SecondOpinion(Strict):
    """Which deliveries Great Expectations counts too: a share of them, chosen by their ids, up to a size."""

    share_pct: int = Field(default=100, ge=0, le=100)
    max_bytes: SizeField = 500 * 10**6

    def is_wanted(self, delivery_id: str, size_bytes: int) -> bool:
        """The same answer for the same delivery, wherever and whenever it is asked."""
        place = int(hashlib.md5(delivery_id.encode(), usedforsecurity=False).hexdigest(), 16) % 100
        return size_bytes <= self.max_bytes and place < self.share_pct


class LowerBounds(Strict):
    """A measure that should be high: told below `warn_below`, held below `block_below`; the bound itself is good enough."""

    warn_below: DecimalField
    block_below: DecimalField

    @model_validator(mode="after")
    def _are_ordered(self) -> LowerBounds:
        if self.block_below > self.warn_below:
            raise ValueError("block_below is above warn_below — a held release was warned of before")
        return self


class UpperBounds(Strict):
    """A measure that should be low: told from `warn_from` on, held from `block_from` on."""

    warn_from: DecimalField
    block_from: DecimalField

    @model_validator(mode="after")
    def _are_ordered(self) -> UpperBounds:
        if self.block_from < self.warn_from:
            raise ValueError("block_from is below warn_from — a held release was warned of before")
        return self


class Gates(Strict):
    """What a month must satisfy before its release, else so many different people approve it (`approvers`).

    Shares in percent. Towns and banks with fewer households than `minimum_households` are not judged.
    """

    approvers: int = Field(default=1, ge=1, le=9)
    minimum_households: int = Field(default=200, ge=1)
    coverage_pct: LowerBounds = LowerBounds(warn_below=Decimal(70), block_below=Decimal(50))
    complete_pct: LowerBounds = LowerBounds(warn_below=Decimal(80), block_below=Decimal(50))
    moved_two_grades_pct: UpperBounds = UpperBounds(warn_from=Decimal(5), block_from=Decimal(10))
    stability_index: UpperBounds = UpperBounds(warn_from=Decimal("0.1"), block_from=Decimal("0.25"))


class Round(Strict):
    """A round of assessment (新一轮) and the first month that belongs to it."""

    round: str = Field(min_length=1)
    from_: PeriodField = Field(alias="from")


class County(Strict):
    """config/county.yml."""

    code: str
    name: Bilingual
    timezone: str
    id_prefixes: list[str]
    first_period: PeriodField
    rounds: list[Round] = Field(min_length=1)
    notice_days: int = Field(ge=0)
    approval: Literal["none", "required"]
    contact: Contact
    synthetic: bool
    second_opinion: SecondOpinion = SecondOpinion()
    gates: Gates = Gates()
    regrade: Literal["whole", "affected"] = "affected"

    @property
    def is_regraded_in_part(self) -> bool:
        return self.regrade == "affected"

    @model_validator(mode="after")
    def _rounds_follow_each_other(self) -> County:
        begins = [one.from_ for one in self.rounds]
        if begins != sorted(set(begins)) or begins[0] > self.first_period:
            raise ValueError(
                "rounds: each begins after the one before, the first with first_period — put them in order"
            )
        return self

    def round_of(self, period: Period) -> str:
        """The round a month belongs to; months before the first round belong to it."""
        begun = [one.round for one in self.rounds if one.from_ <= period]
        return begun[-1] if begun else self.rounds[0].round


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


class KnownException(Strict):
    """A warning that the bank and the county know to be right for some time; a month that ends by `until` has it."""

    rule: str
    until: date
    reason: str = Field(min_length=1)


class Accept(Strict):
    """When a delivery as a whole is acceptable.

    `partial: row` leaves refused rows out, up to `max_rejected_share`; `partial: file` refuses the file for one of them.
    A revision that lacks more than `max_removed_share` of the rows in force is refused.
    """

    rows: RowLimits
    partial: Literal["row", "file"] = "row"
    max_rejected_share: float = Field(ge=0, le=1)
    max_removed_share: float | None = Field(default=None, ge=0, le=1)
    empty: Literal["refused", "accepted"] = "refused"


class Trailer(Strict):
    """The last line of a file that is no row but a control: how many rows there are, and what columns add up to.

    It is known by `marker`, its first cell that is not empty. `rows` and `totals` (canonical column to place) name the
    1-based cell with the count and with each total, in the unit of the delivered column. In a fixed-width file its
    cells have `widths` (bytes) of their own.
    """

    marker: str = Field(min_length=1)
    rows: int | None = Field(default=None, ge=1)
    totals: dict[str, Annotated[int, Field(ge=1)]] = {}
    widths: list[Annotated[int, Field(ge=1)]] = []

    @model_validator(mode="after")
    def _controls_something(self) -> Trailer:
        if self.rows is None and not self.totals:
            raise ValueError("a trailer without rows and totals controls nothing — say which cell holds which")
        return self


class Layout(Strict):
    """How the bytes of one feed are laid out from a month on.

    A fixed-width file has `widths`, one for each column, in bytes of its encoding; `padding` is taken off both ends of
    a cell, and off the columns of `zero_padded` also their leading zeros. UTF-16 states its byte order by its mark.
    `id_form` is the feed's unless the layout has one of its own.
    """

    from_: PeriodField = Field(alias="from")
    match: str = "*"
    format: Literal["delimited", "fixed_width", "workbook", "json_lines", "database"]
    encoding: Literal["utf-8", "utf-16", "gb18030"] = "utf-8"
    delimiter: Annotated[str, AfterValidator(_delimiter)] = ","
    quote: str = '"'
    widths: list[Annotated[int, Field(ge=1, le=65_535)]] = []
    padding: str = Field(default=" ", min_length=1, max_length=1)
    zero_padded: list[str] = []
    trailer: Trailer | None = None
    header: bool = True
    sheet: str | None = None
    header_row: int = Field(default=1, ge=1)
    columns: list[str] | dict[str, str]
    ignore: list[str] = []
    id_form: Literal["plain", "md5"] | None = None
    nulls: list[str] = [""]
    dates: str = "%Y-%m-%d"
    units: dict[str, Literal["yuan", "10k_yuan", "percent", "fraction"]] = {}
    codes: str
    defaults: dict[str, str] = {}

    @model_validator(mode="after")
    def _quote_is_one_character(self) -> Layout:
        if self.quote != "none" and len(self.quote) != 1:
            raise ValueError("quote must be one character or none")
        if self.quote == self.delimiter or not self.quote.isascii() or self.quote in "\r\n\0":
            raise ValueError("quote must be an ASCII character other than the delimiter — write '\"' or none")
        return self

    @model_validator(mode="after")
    def _fits_its_format(self) -> Layout:
        problem = _misfit(self)
        if problem:
            raise ValueError(problem)
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


def _misfit(layout: Layout) -> str | None:
    """What of a layout contradicts itself or does not go with its format (problem — mend), or None."""
    delivered = [name for source, name in layout.source_to_canonical.items() if source not in layout.ignore]
    twice = next((name for name in delivered if delivered.count(name) > 1), None)
    both = next((name for name in layout.defaults if name in delivered), None)
    if twice or both:
        problem = f"two columns fill {twice}" if twice else f"defaults fills {both}, which is delivered"
        return f"{problem} — name one of them under ignore, or remove it"
    if layout.format == "fixed_width":
        return _fixed_width_misfit(layout) or _trailer_misfit(layout)
    if layout.widths or layout.zero_padded:
        return f"widths and zero_padded are for fixed_width, not {layout.format} — remove them or correct format"
    return _trailer_misfit(layout)


def _fixed_width_misfit(layout: Layout) -> str | None:
    count, places = len(layout.source_to_canonical), len(layout.widths)
    strange = [name for name in layout.zero_padded if name not in layout.canonical]
    if places != count:
        return f"widths has {places} entries for {count} columns — give every column its width in bytes"
    if layout.header:
        return "a fixed-width file has no header line — write header: false"
    if layout.encoding == "utf-16":
        return "widths count bytes of utf-8 or gb18030 — agree on one of them with the bank"
    return f"zero_padded names {strange[0]}, which is no column — correct the name" if strange else None


def _trailer_misfit(layout: Layout) -> str | None:
    trailer = layout.trailer
    if trailer is None:
        return None
    if layout.format in ("json_lines", "database"):
        return f"trailer is not for {layout.format} — remove it"
    strange = [name for name in trailer.totals if name not in layout.canonical or name in layout.defaults]
    if strange:
        return f"trailer.totals names {strange[0]}, which is no delivered column — correct the name"
    if bool(trailer.widths) != (layout.format == "fixed_width"):
        return "trailer.widths are for fixed_width, and needed there — give each cell of the trailer its width"
    beyond = [place for place in (trailer.rows or 1, *trailer.totals.values()) if place > len(trailer.widths)]
    return f"trailer has no cell {beyond[0]} — correct rows or totals" if trailer.widths and beyond else None


class Feed(Strict):
    """One dataset of one supplier.

    `package` is what arrives; `inside` what is wrapped in it, from outside in (`package: openpgp, inside: [gzip]`).
    `parts` says which data files one delivery may be made of: one; numbered (`…_1of3` to `…_3of3`, all of them, in one
    zip or, where the package is bare, side by side in the drop zone); any (in a zip).
    `signer` is the fingerprint of the OpenPGP key that must have signed. With `id_form: md5` identity numbers come as the
    MD5 of the number (18 characters, X in upper case), in hexadecimal, and are joined inside the restricted zone.
    An `occasional` feed arrives when there is something to tell: a month is complete without it.
    """

    files: str | None = None
    package: Literal["pboc", "flag", "sidecar", "bare", "gzip", "zip", "openpgp"] = "bare"
    inside: Annotated[list[Literal["gzip", "zip", "pboc", "openpgp"]], BeforeValidator(_as_list)] = []
    parts: Literal["one", "numbered", "any"] = "one"
    signer: str | None = Field(default=None, pattern=r"^(?:[0-9A-F]{40}|[0-9A-F]{64})$")
    relation: str | None = None
    key: str | None = None
    changed_at: str | None = None
    provides: list[str]
    id_form: Literal["plain", "md5"] = "plain"
    occasional: bool = False
    accept: Accept
    layouts: list[Layout] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Feed:
        if any(kind in ("zip", "pboc") for kind in self.wrappings[:-1]):
            raise ValueError("inside: nothing is opened inside a zip — make zip or pboc the last")
        stated = [(layout.from_, layout.match) for layout in self.layouts]
        twice = next((from_ for from_, match in stated if stated.count((from_, match)) > 1), None)
        if twice:
            raise ValueError(f"layouts: two begin in {twice} — give one another month, or each its own match")
        if self.signer and "openpgp" not in self.wrappings:
            raise ValueError("signer: only an openpgp package is signed — remove it, or write package: openpgp")
        if self.parts == "any" and "zip" not in self.wrappings:
            raise ValueError("parts: only a zip has any number — remove it, or write package: zip")
        if self.has_loose_parts and (self.package != "bare" or self.inside):
            raise ValueError(
                "parts: numbered files lie in one zip, or bare beside each other — write package: zip or bare"
            )
        return self

    @property
    def has_loose_parts(self) -> bool:
        """Whether one delivery may be several files of the drop zone."""
        return self.parts == "numbered" and "zip" not in self.wrappings

    @property
    def wrappings(self) -> tuple[str, ...]:
        """What has to be opened to come to the data, from outside in; a flag or sidecar lies beside and wraps nothing."""
        return tuple(kind for kind in (self.package, *self.inside) if kind not in ("bare", "flag", "sidecar"))

    def layout_for(self, period: Period, file_name: str) -> Layout:
        """The newest layout in force for the period whose `match` fits; raises LookupError when there is none."""
        fitting = [
            layout for layout in self.layouts if layout.from_ <= period and fnmatch.fnmatch(file_name, layout.match)
        ]
        if not fitting:
            raise LookupError(f"no layout is in force for {period}")
        newest = max(fitting, key=lambda layout: layout.from_)
        return newest if newest.id_form else newest.model_copy(update={"id_form": self.id_form})


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
    known_exceptions: list[KnownException] = []
    feeds: dict[Dataset, Feed] = Field(min_length=1)

    def excepted(self, period: Period) -> dict[str, KnownException]:
        """Known exceptions of a month by rule; of several on one rule the one that lasts longest."""
        lasting = sorted(self.known_exceptions, key=lambda known: known.until)
        return {known.rule: known for known in lasting if period.end <= known.until}

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

    @property
    def is_occasional(self) -> bool:
        """Whether it sends files, and each of them only when there is something to tell."""
        return self.kind == "files" and all(feed.occasional for feed in self.feeds.values())

    @model_validator(mode="after")
    def _kind_has_its_keys(self) -> Source:
        needed = {"database": ("url_env",), "files": ("drop",)}[self.kind]
        absent = [key for key in needed if getattr(self, key) is None]
        if absent:
            raise ValueError(f"kind {self.kind} needs {', '.join(absent)}")
        return self


class DatedCode(Strict):
    """A source code that was not always, or is no longer, in use: `{means: overdue, from: 2024-01, to: 2025-06}`."""

    means: str
    from_: PeriodField | None = Field(default=None, alias="from")
    to: PeriodField | None = None

    @model_validator(mode="after")
    def _says_when(self) -> DatedCode:
        if self.from_ is None and self.to is None:
            raise ValueError("a dated code needs from, to or both — write the value alone if it is always in use")
        if self.from_ and self.to and self.from_ > self.to:
            raise ValueError("its last month comes before its first — correct from or to")
        return self

    def is_in_use(self, period: Period) -> bool:
        return (self.from_ is None or self.from_ <= period) and (self.to is None or period <= self.to)

    def __str__(self) -> str:
        bounds = (("from", self.from_), ("to", self.to))
        return " ".join(f"{word} {month}" for word, month in bounds if month)


@dataclass(frozen=True)
class CodeLists:
    """Canonical values and the codings that map to them, from config/codes/*.yml; a code may be a DatedCode."""

    lists: Mapping[str, Mapping[str, Any]]

    def at(self, period: Period) -> CodeLists:
        """The lists as they are in a month: a code out of use is not among them."""
        return CodeLists(
            {name: {**content, "codings": _in_use(content, period)} for name, content in self.lists.items()}
        )

    def __contains__(self, name: str) -> bool:
        return name in self.lists

    def values(self, name: str) -> dict[str, dict[str, str]]:
        """Canonical value -> {zh, en}."""
        return dict(self.lists[name]["values"])

    def mapping(self, name: str, coding: str) -> dict[str, str]:
        """Source code -> canonical value, in use or not; a coding that the list does not know maps nothing."""
        codes = self.lists[name]["codings"].get(coding, {})
        return {code: said.means if isinstance(said, DatedCode) else said for code, said in codes.items()}

    def term(self, name: str, coding: str, code: str) -> str:
        """When a source code is in use, in words; empty for always."""
        said = self.lists[name]["codings"][coding][code]
        return str(said) if isinstance(said, DatedCode) else ""


def _in_use(content: Mapping[str, Any], period: Period) -> dict[str, dict[str, str]]:
    return {
        coding: {
            code: said.means if isinstance(said, DatedCode) else said
            for code, said in codes.items()
            if not isinstance(said, DatedCode) or said.is_in_use(period)
        }
        for coding, codes in content["codings"].items()
    }


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

    @property
    def takes_id_digests(self) -> bool:
        """Whether some bank delivers identity numbers as MD5, so that the register's have to be at hand as such."""
        feeds = [feed for bank in self.banks.values() for feed in bank.feeds.values()]
        return any("md5" in (feed.id_form, *(layout.id_form for layout in feed.layouts)) for feed in feeds)

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
        return [one for one in self.possible(period) if not self.feed(one.supplier, one.dataset).occasional]

    def possible(self, period: Period) -> list[Expected]:
        """All deliveries that may come for the period, also the occasional ones, in a fixed order."""
        return sorted((*self._possible_of_banks(period), *self._possible_of_sources(period)))

    def _possible_of_banks(self, period: Period) -> Iterator[Expected]:
        for bank in self.banks.values():
            if _active(bank, period):
                yield from (Expected(bank.code, dataset, bank.code, "bank") for dataset in bank.feeds)

    def _possible_of_sources(self, period: Period) -> Iterator[Expected]:
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
    said, _, own_mend = first["msg"].removeprefix("Value error, ").partition(" — ")
    problem = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(first["type"], said)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ConfigurationError(path, key, problem + more, own_mend or mends.get(first["type"], "correct the value"))


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
            if name in lists:
                raise ConfigurationError(path, name, "code list defined twice", "keep it in one file")
            lists[name] = _code_list(path, name, content)
    return CodeLists(lists)


def _code_list(path: Path, name: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or set(content) != {"values", "codings"}:
        raise ConfigurationError(path, name, "needs exactly values and codings", "see the other lists of the file")
    codings = {
        coding: {code: _code(path, f"{name}.codings.{coding}", code, said) for code, said in codes.items()}
        for coding, codes in content["codings"].items()
    }
    for coding, codes in codings.items():
        meanings = {said.means if isinstance(said, DatedCode) else said for said in codes.values()}
        unknown = sorted(meanings - set(content["values"]))
        if unknown:
            raise ConfigurationError(
                path,
                f"{name}.codings.{coding}",
                f"maps to unknown value {unknown[0]!r}",
                "add it to values or correct it",
            )
    return {**content, "codings": codings}


def _code(path: Path, key: str, code: str, said: Any) -> str | DatedCode:
    if not isinstance(said, dict):
        return str(said)
    try:
        return DatedCode.model_validate(said)
    except ValidationError as error:
        found = configuration_error(error, path)
        raise ConfigurationError(path, f"{key}.{code}", found.problem, found.mend) from None


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
