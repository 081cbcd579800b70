"""Grading policies: dated versions of indicators, bands, vetoes and cut-offs, read from `config/policy/*.yml`.

A policy is data. Everything wrong with one raises ConfigurationError naming file, key and mend, so that a month is never
graded by half a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from etl.grading.bands import Number, Points
from etl.grading.indicators import Identifier, Indicator
from etl.period import Period
from etl.registry import Bilingual, PeriodField, Registry, Strict, overlay_file, overlay_files, parse_model, read_yaml
from etl.vocabulary import ConfigurationError

Grade = Literal["AAA", "AA", "A", "B", "C", "D"]
COUNTY = "county"
BASE = "base"  # the row of the points table that carries the base score
REQUIRED = ("household", "village", "credit_line")
_V = TypeVar("_V", bound="Version")
Scope = Annotated[str, Field(pattern=r"^(county|[0-9]{12})$")]


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
    """Why a subject has no grade; the contract of its grades lists the reasons there may be."""

    reason: Identifier
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
    """What every dated version of a policy says: for the county or for one town, from a month on, until one if it ends."""

    version: Annotated[str, BeforeValidator(str)]
    scope: Scope
    from_: PeriodField = Field(alias="from")
    to: PeriodField | None = None
    status: Literal["illustrative", "adopted"]

    def holds_in(self, period: Period) -> bool:
        """Whether the version was in force in a month, if no later one of its scope was."""
        return self.from_ <= period and (self.to is None or period <= self.to)

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.to is not None and self.to < self.from_:
            raise ValueError(f"to {self.to} lies before from {self.from_}")
        return self


class ScorecardVersion(Version):
    """The scorecard of one kind of subject.

    The score is `base` plus the points of all indicators. `total` is the highest score there can be; where points may be
    negative or a base is given (weights of evidence) it may be left out.
    """

    base: Points = Decimal(0)
    total: Points | None = None
    parameters: dict[Identifier, int] = {}
    blocks: dict[Identifier, Bilingual] = Field(min_length=1)
    indicators: list[Indicator] = Field(min_length=1)
    veto: list[Veto] = []
    not_rated: list[NotRated] = []
    grades: list[CutOff] = Field(min_length=2)

    @property
    def ordered(self) -> list[Indicator]:
        """Indicators in the order of the key of the points table."""
        return sorted(self.indicators, key=lambda indicator: indicator.id)

    def rank_of(self, grade: Grade) -> int:
        """1 for the best grade, and so on."""
        return [cut.grade for cut in self.grades].index(grade) + 1

    @property
    def all_parameters(self) -> dict[str, int]:
        """Parameters of features and indicators: the policy's own and the coarser values."""
        coarser = [indicator.coarser for indicator in self.indicators if indicator.coarser]
        return {**self.parameters, **{entry.parameter: entry.value for entry in coarser}}

    @property
    def may_be_negative(self) -> bool:
        """Whether the scorecard counts from a base, with points that may lower it."""
        return self.base != 0 or any(indicator.worst < 0 for indicator in self.indicators)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _check_unique([indicator.id for indicator in self.indicators], "indicator")
        _check_unique([veto.id for veto in self.veto], "veto")
        for indicator in self.indicators:
            if indicator.block not in self.blocks:
                raise ValueError(f"indicator {indicator.id}: unknown block {indicator.block!r}")
            if BASE in (indicator.id, indicator.block):
                raise ValueError(f"indicator {indicator.id}: the name {BASE} stands for the base score")
        self._check_total()
        _check_cut_offs(self.grades)
        self._check_grades_exist([veto.cap for veto in self.veto])
        return self

    def _check_total(self) -> None:
        total = self.base + sum((indicator.max for indicator in self.indicators), Decimal(0))
        if self.total is None and not self.may_be_negative:
            raise ValueError("total is missing: only a scorecard with a base or negative points may leave it out")
        if self.total is not None and total != self.total:
            raise ValueError(f"the maxima sum to {total}, total says {self.total}")

    def _check_grades_exist(self, names: Sequence[Grade]) -> None:
        known = {cut.grade for cut in self.grades}
        for name in names:
            if name not in known:
                raise ValueError(f"grade {name} is not among grades")


class HouseholdVersion(ScorecardVersion):
    """The scorecard of households, with what their lifecycle needs."""

    not_rated: list[NotRated] = Field(min_length=1)
    single_source_fall: SingleSourceFall

    @model_validator(mode="after")
    def _fall_names_what_there_is(self) -> Self:
        if self.single_source_fall.block not in self.blocks:
            raise ValueError(f"single_source_fall: unknown block {self.single_source_fall.block!r}")
        self._check_grades_exist([self.single_source_fall.to])
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
    """A share of a place: two columns of its features; `empty` is the answer for 0 of 0."""

    numerator: Identifier
    denominator: Identifier
    empty: Literal["met", "unmet"]
    label: Bilingual | None = None
    clause: str | None = None


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


class ShareGrade(Strict):
    grade: Grade
    all: list[ShareCondition]


class ShareVersion(Version):
    """How places are graded: shares with named numerators, grades tried from the best."""

    minimum_households: int = Field(ge=1)
    shares: dict[Identifier, Share]
    grades: list[ShareGrade] = Field(min_length=2)

    @model_validator(mode="after")
    def _conditions_name_shares(self) -> Self:
        _check_unique([grade.grade for grade in self.grades], "grade")
        for grade in self.grades:
            for condition in grade.all:
                if condition.share not in self.shares:
                    raise ValueError(f"grade {grade.grade}: unknown share {condition.share!r}")
        if self.grades[-1].all:
            raise ValueError("grades leave a gap: the last one takes the rest, write all: []")
        if any(not grade.all for grade in self.grades[:-1]):
            raise ValueError("grades overlap: only the last one takes the rest")
        return self


class CreditLineVersion(Version):
    """Limit = base by grade + shares of assets and income, capped, rounded down to a step; whole yuan throughout."""

    scope: Literal["county"]
    source: str
    base_yuan: dict[Grade, int] = Field(min_length=1)
    assets_pct: int = Field(ge=0, le=100)
    income_pct: int = Field(ge=0, le=100)
    cap_yuan: int = Field(gt=0)
    step_yuan: int = Field(gt=0)


class _File(Strict):
    policy: str
    kind: Literal["scorecard", "shares", "credit_line"] = "scorecard"

    @model_validator(mode="after")
    def _versions_differ(self) -> Self:
        versions: list[Version] = getattr(self, "versions", [])
        _check_unique([f"{version.from_} ({version.scope})" for version in versions], "version from")
        _check_unique([f"{version.version} ({version.scope})" for version in versions], "version")
        return self


class _ScorecardFile(_File):
    versions: list[ScorecardVersion] = Field(min_length=1)


class _HouseholdFile(_File):
    versions: list[HouseholdVersion] = Field(min_length=1)


class _SharesFile(_File):
    versions: list[ShareVersion] = Field(min_length=1)


class _CreditLineFile(_File):
    versions: list[CreditLineVersion] = Field(min_length=1)


_KINDS: Mapping[str, type[_File]] = {"shares": _SharesFile, "credit_line": _CreditLineFile}
_SCORECARDS: Mapping[str, type[_File]] = {"household": _HouseholdFile}  # its lifecycle asks for more than others have


@dataclass(frozen=True)
class Policies:
    """The versions in force for one period by policy and scope (the county's first), and the file of each policy."""

    period: Period
    in_force: Mapping[str, Mapping[str, Version]]
    files: Mapping[str, Path]

    @property
    def household(self) -> HouseholdVersion:
        """The county's scorecard of households."""
        return self._county("household", HouseholdVersion)

    @property
    def credit_line(self) -> CreditLineVersion:
        return self._county("credit_line", CreditLineVersion)

    @property
    def scorecards(self) -> dict[str, dict[str, ScorecardVersion]]:
        """Subject -> scope -> scorecard, of every subject with one in force."""
        return self._of_kind(ScorecardVersion)

    @property
    def shares(self) -> dict[str, dict[str, ShareVersion]]:
        """Place (village, town) -> scope -> policy."""
        return self._of_kind(ShareVersion)

    @property
    def versions(self) -> dict[str, str]:
        """Policy name -> version, for manifests and fingerprints; a town's own version as `policy@town`."""
        return {
            name if scope == COUNTY else f"{name}@{scope}": version.version
            for name in sorted(self.in_force)
            for scope, version in self.in_force[name].items()
        }

    def _county(self, name: str, kind: type[_V]) -> _V:
        version = self.in_force[name][COUNTY]
        if not isinstance(version, kind):
            raise ConfigurationError(
                self.files[name], "kind", f"{name} needs a {kind.__name__}", "write its kind as shipped"
            )
        return version

    def _of_kind(self, kind: type[_V]) -> dict[str, dict[str, _V]]:
        found: dict[str, dict[str, _V]] = {}
        for name, scopes in self.in_force.items():
            fitting = {scope: version for scope, version in scopes.items() if isinstance(version, kind)}
            if fitting:
                found[name] = fitting
        return found


def load_policies(folders: Sequence[Path], period: Period, registry: Registry | None = None) -> Policies:
    """The versions in force for a period; with a registry also checked against its towns and what its feeds provide.

    Every file of `policy/` is a policy. One of a subject nobody has to be graded by may begin later than the period.
    Raises ConfigurationError (one line, exit 2) for an unreadable file, an unknown key, bands that overlap or leave a
    gap, no version in force, or an indicator that needs what a feed in force does not provide.
    """
    files = {path.stem: path for path in overlay_files(folders, "policy/*.yml")}
    files |= {name: overlay_file(folders, f"policy/{name}.yml") for name in REQUIRED}
    in_force = {name: _in_force(files[name], name, period) for name in sorted(files)}
    policies = Policies(period, {name: scopes for name, scopes in in_force.items() if scopes}, files)
    if registry is not None:
        _check_towns(policies, registry)
        check_feeds(policies, registry)
    return policies


def with_candidate(policies: Policies, path: Path, registry: Registry) -> tuple[str, Policies]:
    """The policy a candidate file is about, and the policies with that one in the place of the one in force.

    Its newest versions count, though they begin later than the period. Raises ConfigurationError like `load_policies`.
    """
    name = str(read_yaml(path).get("policy"))
    if name not in policies.in_force:
        mend = f"write one of {', '.join(sorted(policies.in_force))}"
        raise ConfigurationError(path, "policy", f"no policy {name!r} is in force in {policies.period}", mend)
    newest = max(version.from_ for version in _versions(path, name))
    scopes = _in_force(path, name, max(policies.period, newest))
    tried = replace(policies, in_force={**policies.in_force, name: scopes}, files={**policies.files, name: path})
    _check_towns(tried, registry)
    check_feeds(tried, registry)
    return name, tried


def _versions(path: Path, name: str) -> list[Version]:
    """All versions of a policy file."""
    given = read_yaml(path)
    kind = str(given.get("kind", "scorecard"))
    file: Any = parse_model(_KINDS.get(kind) or _SCORECARDS.get(name, _ScorecardFile), given, path)
    if file.policy != name:
        raise ConfigurationError(path, "policy", f"{file.policy!r} is not the file's name", f"write policy: {name}")
    return list(file.versions)


def _in_force(path: Path, name: str, period: Period) -> dict[str, Version]:
    """Scope -> the version in force there, the county's first; empty where none is and none has to be."""
    scopes: dict[str, Version] = {}
    versions = _versions(path, name)
    for version in sorted(versions, key=lambda version: (version.scope != COUNTY, version.scope, version.from_)):
        if version.holds_in(period):
            scopes[version.scope] = version
    if COUNTY not in scopes and (scopes or name in REQUIRED):
        mend = "add a version with an earlier from, for the county"
        raise ConfigurationError(path, "versions", f"none is in force in {period}", mend)
    _check_scopes(path, scopes)
    return scopes


def _check_scopes(path: Path, scopes: Mapping[str, Version]) -> None:
    """Towns may weigh otherwise than the county, but in its blocks and its grades: else no row could stand beside another."""
    for scope, version in scopes.items():
        for key, county, own in zip(("blocks", "grades"), _frame(scopes[COUNTY]), _frame(version), strict=True):
            if own != county:
                mend = f"name the county's: {', '.join(county)}"
                raise ConfigurationError(path, f"versions.{version.version}.{key}", f"differ in {scope}", mend)


def _frame(version: Version) -> tuple[list[str], list[str]]:
    """Blocks and grades a version speaks of."""
    grades = [cut.grade for cut in getattr(version, "grades", [])]
    return sorted(getattr(version, "blocks", {})), [str(grade) for grade in grades]


def _check_towns(policies: Policies, registry: Registry) -> None:
    towns = {place.place_code for place in registry.places if place.place_level == "town"}
    for name, scopes in policies.in_force.items():
        for scope in scopes.keys() - {COUNTY} - towns:
            raise ConfigurationError(
                policies.files[name],
                "versions.scope",
                f"{scope} is no town of this county",
                "take a code of places.csv",
            )


def check_feeds(policies: Policies, registry: Registry) -> None:
    """Every indicator gets what it needs from every feed in force, or names the coarser value for those that cannot."""
    for name, scopes in policies.scorecards.items():
        for indicator in (indicator for version in scopes.values() for indicator in version.indicators):
            for dataset, needed in indicator.requires.items():
                provided = dict(_provided(registry, policies.period, dataset))
                _check_requirement(policies.files[name], indicator, needed, provided, dataset)


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
