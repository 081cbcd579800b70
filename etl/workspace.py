"""Everything a verb needs, loaded once: settings, registry, contracts, ledger, token key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from etl.basis import Shelf, keep_configuration
from etl.contract.across import BoundsEntry, load_bounds
from etl.contract.corrections import Correction, load_corrections
from etl.contract.model import Contract, Contracts, load_contracts
from etl.contract.predicates import Context, accepted_columns, rejected_columns
from etl.engine.duck import DuckEngine, DuckHost
from etl.engine.models import Model, load_models
from etl.intake.calendar import WorkCalendar, load_calendar
from etl.intake.drops import Drops
from etl.intake.signing import SigningKey
from etl.period import Period
from etl.registry import Feed, Registry, Source, Supplier, load_registry, overlay_file
from etl.settings import Settings
from etl.tokens import TokenKey
from etl.vocabulary import ConfigurationError

if TYPE_CHECKING:
    from etl.ledger.repository import Ledger


INTAKE_MEMORY = "400MB"  # of one delivery: several are taken in side by side, and what lasts of a large one may spill
SMALL_BYTES = 16 << 20


@dataclass(frozen=True)
class Workspace:
    """One process's view of a county. Parts are loaded when first asked for and kept."""

    settings: Settings

    @cached_property
    def registry(self) -> Registry:
        return load_registry(self.settings.config)

    @cached_property
    def contracts(self) -> Contracts:
        return load_contracts(self.settings.expectations)

    @cached_property
    def bounds(self) -> dict[str, BoundsEntry]:
        """What the county sets in place of the bounds of rules across files."""
        return load_bounds(self.settings.config, self.contracts.across)

    @cached_property
    def corrections(self) -> tuple[Correction, ...]:
        """Known upstream errors, in the order in which they are mended."""
        return load_corrections(self.settings.config, self.contracts, self.registry)

    @cached_property
    def models(self) -> dict[str, Model]:
        return load_models(self.settings.sql)

    @cached_property
    def ledger(self) -> Ledger:
        from etl.ledger.repository import Ledger  # a bank's pre-check has no database and need not load its driver

        if not self.settings.warehouse_url:
            raise ConfigurationError(
                "$CREDITVILLAGE_WAREHOUSE_URL",
                "",
                "no warehouse is running",
                "start it with `make up`, or set the variable",
            )
        return Ledger(self.settings.warehouse_url)

    @cached_property
    def token_key(self) -> TokenKey:
        return TokenKey.create(self.settings.token_key_path)

    @cached_property
    def signing_key(self) -> SigningKey:
        return SigningKey.create(self.settings.secrets / "receipt.key")

    @cached_property
    def calendar(self) -> WorkCalendar:
        return load_calendar(self.settings.config)

    @property
    def shelf(self) -> Shelf:
        """Where what deliveries and gradings rested on is kept."""
        return Shelf(self.settings.restricted / "snapshots")

    @cached_property
    def configuration(self) -> str:
        """The name under which today's configuration, contracts and SQL are kept on the shelf."""
        return keep_configuration(self.shelf, self.settings)

    def require_configuration(self, period: Period) -> None:
        """Load and cross-check everything configured for a month, before anything runs.

        Raises ConfigurationError (one line: file, key, problem, mend) for the first thing that does not fit.
        """
        from etl.grading.plan import grading_plan  # who takes in or pre-checks a file has no policies to load
        from etl.grading.policy import load_policies

        owners: list[Supplier | Source] = [*self.registry.banks.values(), *self.registry.sources.values()]
        for owner in owners:
            kind = "banks" if isinstance(owner, Supplier) else "sources"
            path = overlay_file(self.settings.config, f"{kind}/{owner.code}.yml")
            for dataset, feed in owner.feeds.items():
                _require_layouts(path, dataset, feed, self._contract_named(path, dataset))
            if isinstance(owner, Supplier):
                _require_exceptions(path, owner, [self._contract_named(path, dataset) for dataset in owner.feeds])
            if owner.drop:
                Drops(self.settings.drop_access).require(owner.code, owner.drop)
        self._require_rules()
        policies = load_policies(self.settings.config, period, self.registry)
        grading_plan(policies, self.models, notice_days=self.registry.county.notice_days)

    def _require_rules(self) -> None:
        """Corrections and bounds fit; the SQL of every rule across files runs (over relations without rows)."""
        _ = self.corrections, self.bounds
        with DuckEngine() as engine:
            for rule in self.contracts.across.values():
                for one in rule.relations:
                    contract = self.contracts.for_dataset(one.dataset)
                    columns = rejected_columns(contract) if one.is_rejected else accepted_columns(contract)
                    engine.register_parquet(one.name, [], columns)
                try:
                    engine.run_model("across_found", rule.sql, rule.params(Period(2024, 1)))
                except duckdb.Error as error:
                    problem = str(error).splitlines()[0]
                    raise ConfigurationError(rule.path, f"rules.{rule.id}.sql", problem, "correct it") from None

    def _contract_named(self, path: Path, dataset: str) -> Contract:
        contracts = self.contracts  # what is wrong with a contract itself is said in its own words
        try:
            return contracts.for_dataset(dataset)
        except ConfigurationError:
            mend = f"add expectations/<table>.yml with dataset: {dataset}, or correct the feed's name"
            raise ConfigurationError(path, f"feeds.{dataset}", "no contract is for this dataset", mend) from None

    @property
    def master_key_path(self) -> Path:
        return self.settings.secrets / "master.key"

    @property
    def spill(self) -> Path:
        """Where what does not fit into memory goes: a folder of the restricted zone."""
        folder = self.settings.restricted / "spill"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def engine(self, *, memory_limit: str | None = None) -> DuckEngine:
        """A fresh engine that spills into the restricted zone."""
        return DuckEngine(memory_limit=memory_limit or self.settings.memory_limit, temp_dir=self.spill)

    def delivery_engine(self, size_bytes: int) -> DuckEngine:
        """An engine for one delivery: a small one gets one thread of a DuckDB that is kept, several are taken in side by
        side; a large one gets a DuckDB and all threads for itself."""
        return self._host.engine() if size_bytes <= SMALL_BYTES else self.engine(memory_limit=INTAKE_MEMORY)

    @cached_property
    def _host(self) -> DuckHost:
        return DuckHost(memory_limit=INTAKE_MEMORY, threads=1, temp_dir=self.spill)

    def contract_of(self, dataset: str) -> Contract:
        """The contract whose `dataset` is that feed; raises ConfigurationError if no file names it."""
        return self.contracts.for_dataset(dataset)

    def context(self, supplier: str, period: Period) -> Context:
        """What the rules of a delivery may refer to besides its own cells."""
        bank = self.registry.banks.get(supplier)
        return Context(
            period_start=period.start,
            period_end=period.end,
            institution_codes=tuple(bank.institution_codes) if bank else (),
            county_codes=("county", *self.registry.banks),
            known_villages=tuple(self.registry.villages(period)),
            supplier=supplier,
            id_prefixes=tuple(self.registry.county.id_prefixes),
        )


def _require_layouts(path: Path, dataset: str, feed: Feed, contract: Contract) -> None:
    """Every layout names only columns of the contract and all that the contract cannot do without."""
    known = {column.name for column in contract.delivered}
    needed = [column.name for column in contract.delivered if column.required]
    for number, layout in enumerate(feed.layouts):
        key = f"feeds.{dataset}.layouts.{number}.columns"
        strange = [name for name in layout.canonical if name not in known]
        missing = [name for name in needed if name not in layout.canonical]
        if strange:
            mend = f"use a column of expectations/{contract.table}.yml, or list it under ignore"
            raise ConfigurationError(path, key, f"unknown column {strange[0]}", mend)
        if missing:
            mend = "add it to columns, or to defaults if the bank confirmed one value for every row"
            raise ConfigurationError(path, key, f"missing column {missing[0]}", mend)


def _require_exceptions(path: Path, bank: Supplier, contracts: Sequence[Contract]) -> None:
    """Only a warning may be known: an exception never lets in what is refused."""
    rules = {rule.id: rule for contract in contracts for rule in (*contract.row_rules, *contract.macro_rules)}
    for number, known in enumerate(bank.known_exceptions):
        key = f"known_exceptions.{number}.rule"
        if known.rule not in rules:
            raise ConfigurationError(path, key, f"no rule {known.rule} is for this bank", "correct the id")
        if rules[known.rule].action != "warn":
            problem = f"{known.rule} does not warn, it says {rules[known.rule].action}"
            raise ConfigurationError(path, key, problem, "name a rule whose action is warn")
