"""Grading policies: dated versions of indicators, bands, vetoes and cut-offs, read from `config/policy/*.yml`.

A policy is data. Everything wrong with one raises ConfigurationError naming file, key and mend, so that a month is never
graded by half a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from etl.period import Period
from etl.registry import Bilingual, PeriodField, Registry, Strict, overlay_file, parse_model, read_yaml
from etl.vocabulary import ConfigurationError

Grade = Literal["AAA", "AA", "A", "B", "C", "D"]
Reason = Literal["no_consent", "absent", "incomplete", "opted_out", "manual_review"]
Purpose = Literal["bank_data", "income", "property"]


def _decimal(value: object) -> object:
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


Number = Annotated[Decimal, BeforeValidator(_decimal)]
Points = Annotated[Decimal, BeforeValidator(_decimal), Field(ge=0, decimal_places=2)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


class Band(Strict):
    """One step of an indicator; exactly one condition. `{else: 0}` is the rest and gives its points directly."""

    at_most: Number | None = None
    at_least: Number | None = None
    below: Number | None = None
    equals: str | None = None
    else_: Points | None = Field(default=None, alias="else")
    points: Points | None = None

    @model_validator(mode="after")
    def _is_one_step(self) -> Self:
        if self.else_ is not None:
            if self.points is not None or self.conditions:
                raise ValueError("else gives its points directly: write {else: 0}")
        elif self.points is None or not self.conditions:
            raise ValueError("a band needs a condition (at_most, at_least, below, equals) and points")
        if len(self.conditions) > 1 and set(self.conditions) != {"at_least", "below"}:
            raise ValueError("a band has one condition, or at_least and below for a half-open bin")
        return self

    @property
    def conditions(self) -> dict[str, Decimal | str]:
        """Condition name -> bound, those that are given."""
        found = {"at_least": self.at_least, "at_most": self.at_most, "below": self.below, "equals": self.equals}
        return {name: bound for name, bound in found.items() if bound is not None}

    @property
    def gives(self) -> Decimal:
        points = self.else_ if self.else_ is not None else self.points
        if points is None:
            raise ValueError("a band without points")
        return points

    @property
    def label(self) -> str:
        """How the band is named in core_household_points."""
        return " ".join(f"{name} {bound}" for name, bound in self.conditions.items()) or "else"


class Coarser(Strict):
    """What stands in for suppliers that cannot provide what the indicator needs: a value bound as a parameter."""

    provides: str
    parameter: Identifier
    value: int


class Indicator(Strict):
    """One line of the scorecard; its value comes from `sql/indicators/<sql or id>.sql`."""

    id: Identifier
    block: str
    max: Points
    sql: Identifier | None = None
    label: Bilingual
    bands: list[Band] = Field(min_length=1)
    missing: Points
    withheld: Literal["hold"]
    consent: Purpose | None = None
    requires: dict[str, str] = {}
    coarser: Coarser | None = None
    advisable: bool
    clause: str

    @property
    def model(self) -> str:
        """Name of the SQL model that yields the value."""
        return self.sql or self.id

    @property
    def is_numeric(self) -> bool:
        return not any("equals" in band.conditions for band in self.bands)

    @model_validator(mode="after")
    def _bands_cover_all_values_once(self) -> Self:
        _check_bands(self.bands)
        best = max(band.gives for band in self.bands)
        if best != self.max:
            raise ValueError(f"the best band gives {best}, max says {self.max}")
        if self.missing > self.max:
            raise ValueError(f"missing gives {self.missing}, more than max {self.max}")
        return self


def _check_bands(bands: Sequence[Band]) -> None:
    """Bands are all of one kind, in order, without overlap or gap."""
    steps, rest = (bands[:-1], True) if bands[-1].else_ is not None else (bands, False)
    if any(band.else_ is not None for band in steps):
        raise ValueError("bands overlap: else stands last")
    kinds = {frozenset(band.conditions) for band in steps}
    if not kinds:
        return
    if kinds == {frozenset({"equals"})}:
        _check_categories(steps, rest)
    elif len(kinds) == 1 and len(next(iter(kinds))) == 1:
        [kind] = next(iter(kinds))
        _check_steps(steps, kind, rest, ascending=kind != "at_least")
    elif set().union(*kinds) <= {"at_least", "below"}:
        _check_bins(steps, rest)
    else:
        raise ValueError("bands of different kinds overlap: use one of at_most, at_least, below, equals, or bins")


def _check_categories(steps: Sequence[Band], rest: bool) -> None:
    values = [band.equals for band in steps]
    if len(set(values)) < len(values):
        raise ValueError("bands overlap: a value stands twice")
    if not rest:
        raise ValueError("bands leave a gap: end with {else: points}")


def _check_steps(steps: Sequence[Band], kind: str, rest: bool, *, ascending: bool) -> None:
    bounds = [Decimal(str(band.conditions[kind])) for band in steps]
    ordered = all((low < high) == ascending and low != high for low, high in pairwise(bounds))
    if not ordered:
        raise ValueError(f"bands overlap: {kind} must be strictly {'ascending' if ascending else 'descending'}")
    if not rest:
        raise ValueError("bands leave a gap: end with {else: points}")


def _check_bins(steps: Sequence[Band], rest: bool) -> None:
    if rest:
        raise ValueError("half-open bins need no else: leave out below in the last one")
    for position, (band, following) in enumerate(pairwise(steps)):
        if band.below is None or following.at_least is None or (position and band.at_least is None):
            raise ValueError("bins overlap: only the first may lack at_least, only the last may lack below")
        if band.below != following.at_least:
            raise ValueError(f"bins leave a gap or overlap between {band.below} and {following.at_least}")
        if band.at_least is not None and band.at_least >= band.below:
            raise ValueError(f"the bin from {band.at_least} below {band.below} is empty")
    if steps[0].at_least is not None or steps[-1].below is not None:
        raise ValueError("bins leave a gap: the first has no at_least, the last no below")


class Veto(Strict):
    """A finding of fact by a document that caps the grade; `requires` are the core columns that carry the proof."""

    id: Identifier
    when: str
    requires: list[str] = Field(min_length=1)
    binds: Literal["person"]
    cap: Grade
    label: Bilingual
    clause: str


class NotRated(Strict):
    reason: Reason
    when: str


class CutOff(Strict):
    grade: Grade
    at_least: Number | None = None


class SingleSourceFall(Strict):
    """A fall of so many grades, or to `to`, that rests on one bank's delivery waits for that bank's confirmation."""

    hold: bool
    block: str
    grades: int = Field(ge=1)
    to: Grade


class Version(Strict):
    """What every dated version of a policy says."""

    version: Annotated[str, BeforeValidator(str)]
    scope: Literal["county"]
    from_: PeriodField = Field(alias="from")
    status: Literal["illustrative", "adopted"]


class HouseholdVersion(Version):
    """The scorecard of households in force from a month on."""

    total: Points
    parameters: dict[Identifier, int] = {}
    blocks: dict[Identifier, Bilingual] = Field(min_length=1)
    indicators: list[Indicator] = Field(min_length=1)
    veto: list[Veto] = []
    not_rated: list[NotRated] = Field(min_length=1)
    grades: list[CutOff] = Field(min_length=2)
    single_source_fall: SingleSourceFall

    @property
    def ordered(self) -> list[Indicator]:
        """Indicators in the order of the key of core_household_points."""
        return sorted(self.indicators, key=lambda indicator: indicator.id)

    def rank_of(self, grade: Grade) -> int:
        """1 for the best grade, and so on."""
        return [cut.grade for cut in self.grades].index(grade) + 1

    @property
    def all_parameters(self) -> dict[str, int]:
        """Parameters of features and indicators: the policy's own and the coarser values."""
        coarser = [indicator.coarser for indicator in self.indicators if indicator.coarser]
        return {**self.parameters, **{entry.parameter: entry.value for entry in coarser}}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _check_unique([indicator.id for indicator in self.indicators], "indicator")
        _check_unique([veto.id for veto in self.veto], "veto")
        for indicator in self.indicators:
            if indicator.block not in self.blocks:
                raise ValueError(f"indicator {indicator.id}: unknown block {indicator.block!r}")
        if self.single_source_fall.block not in self.blocks:
            raise ValueError(f"single_source_fall: unknown block {self.single_source_fall.block!r}")
        total = sum((indicator.max for indicator in self.indicators), Decimal(0))
        if total != self.total:
            raise ValueError(f"the maxima sum to {total}, total says {self.total}")
        _check_cut_offs(self.grades)
        known = {cut.grade for cut in self.grades}
        for name in (*(veto.cap for veto in self.veto), self.single_source_fall.to):
            if name not in known:
                raise ValueError(f"grade {name} is not among grades")
        return self


def _check_unique(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands twice")


def _check_cut_offs(grades: Sequence[CutOff]) -> None:
    _check_unique([cut.grade for cut in grades], "grade")
    if grades[-1].at_least is not None or any(cut.at_least is None for cut in grades[:-1]):
        raise ValueError("grades: every grade but the last needs at_least, the last takes the rest")
    bounds = [cut.at_least for cut in grades[:-1] if cut.at_least is not None]
    if bounds != sorted(set(bounds), reverse=True):
        raise ValueError("grades overlap: at_least must be strictly descending")


class Share(Strict):
    """A share of a village: two columns of sql/features/village_features.sql; `empty` is the answer for 0 of 0."""

    numerator: Identifier
    denominator: Identifier
    empty: Literal["met", "unmet"]


class ShareCondition(Strict):
    """One bound on a share, in percent: reached (`at_least`) or not reached (`below`)."""

    share: str
    at_least: Number | None = None
    below: Number | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.at_least is None) == (self.below is None):
            raise ValueError("needs exactly one of at_least and below")
        return self


class VillageGrade(Strict):
    grade: Grade
    all: list[ShareCondition]


class VillageVersion(Version):
    """How villages are graded from a month on: shares with named numerators, grades tried from the best."""

    minimum_households: int = Field(ge=1)
    shares: dict[Identifier, Share]
    grades: list[VillageGrade] = Field(min_length=2)

    @model_validator(mode="after")
    def _conditions_name_shares(self) -> Self:
        for grade in self.grades:
            for condition in grade.all:
                if condition.share not in self.shares:
                    raise ValueError(f"grade {grade.grade}: unknown share {condition.share!r}")
        if self.grades[-1].all:
            raise ValueError("grades leave a gap: the last one takes the rest, write all: []")
        return self


class CreditLineVersion(Version):
    """Limit = base by grade + shares of assets and income, capped, rounded down to a step; whole yuan throughout."""

    source: str
    base_yuan: dict[Grade, int] = Field(min_length=1)
    assets_pct: int = Field(ge=0, le=100)
    income_pct: int = Field(ge=0, le=100)
    cap_yuan: int = Field(gt=0)
    step_yuan: int = Field(gt=0)


class _File(Strict):
    policy: str

    @model_validator(mode="after")
    def _versions_differ(self) -> Self:
        versions: list[Version] = getattr(self, "versions", [])
        _check_unique([str(version.from_) for version in versions], "version from")
        _check_unique([version.version for version in versions], "version")
        return self


class _HouseholdFile(_File):
    versions: list[HouseholdVersion] = Field(min_length=1)


class _VillageFile(_File):
    versions: list[VillageVersion] = Field(min_length=1)


class _CreditLineFile(_File):
    versions: list[CreditLineVersion] = Field(min_length=1)


@dataclass(frozen=True)
class Policies:
    """The policies in force for one period, each with the file it came from."""

    period: Period
    household: HouseholdVersion
    village: VillageVersion
    credit_line: CreditLineVersion
    files: Mapping[str, Path]

    @property
    def versions(self) -> dict[str, str]:
        """Policy name -> version, for manifests and fingerprints."""
        return {name: getattr(self, name).version for name in sorted(self.files)}


def load_policies(folders: Sequence[Path], period: Period, registry: Registry | None = None) -> Policies:
    """The versions in force for a period; with a registry also checked against what its feeds provide.

    Raises ConfigurationError (one line, exit 2) for an unreadable file, an unknown key, bands that overlap or leave a
    gap, no version in force, or an indicator that needs what a feed in force does not provide.
    """
    models: dict[str, type[_File]] = {
        "household": _HouseholdFile, "village": _VillageFile, "credit_line": _CreditLineFile
    }  # fmt: skip
    files = {name: overlay_file(folders, f"policy/{name}.yml") for name in models}
    chosen = {name: _version_for(files[name], models[name], name, period) for name in models}
    policies = Policies(period=period, files=files, **chosen)
    if registry is not None:
        check_feeds(policies, registry)
    return policies


def _version_for(path: Path, model: type[_File], name: str, period: Period) -> Any:
    file: Any = parse_model(model, read_yaml(path), path)
    if file.policy != name:
        raise ConfigurationError(path, "policy", f"{file.policy!r} is not the file's name", f"write policy: {name}")
    in_force = [version for version in file.versions if version.from_ <= period]
    if not in_force:
        raise ConfigurationError(
            path, "versions", f"none is in force in {period}", "add a version with an earlier from"
        )
    return max(in_force, key=lambda version: version.from_)


def check_feeds(policies: Policies, registry: Registry) -> None:
    """Every indicator gets what it needs from every feed in force, or names the coarser value for those that cannot."""
    path = policies.files["household"]
    for indicator in policies.household.indicators:
        for dataset, needed in indicator.requires.items():
            _check_requirement(path, indicator, needed, dict(_provided(registry, policies.period, dataset)), dataset)


def _check_requirement(
    path: Path, indicator: Indicator, needed: str, provided: Mapping[str, Sequence[str]], dataset: str
) -> None:
    key = f"indicators.{indicator.id}.requires.{dataset}"
    if not provided:
        raise ConfigurationError(path, key, f"no feed delivers {dataset}", "configure one or remove the indicator")
    for owner, capabilities in provided.items():
        coarser = indicator.coarser is not None and indicator.coarser.provides in capabilities
        if needed not in capabilities and not coarser:
            raise ConfigurationError(
                path,
                key,
                f"{owner} does not provide {needed}",
                f"add it to provides of {owner} if its files hold it, or name a coarser value",
            )


def _provided(registry: Registry, period: Period, dataset: str) -> Iterator[tuple[str, list[str]]]:
    for owner in sorted(
        {(entry.source, entry.supplier) for entry in registry.possible(period) if entry.dataset == dataset}
    ):
        yield owner[0], registry.feed(owner[1], dataset).provides
