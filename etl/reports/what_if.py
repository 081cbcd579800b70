"""What a candidate policy would change in a graded month, on exactly the inputs it was graded from. Nothing is published.

The report counts; who moves stays in the engine, or goes to a file for whoever may see households. Its hash is what
an approval names (docs/decisions/0018).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.csv as pa_csv

from etl import approval, gates, months
from etl.engine.duck import DuckEngine
from etl.frozen import FrozenMonth, frozen_month
from etl.grading.gates import judge, worst
from etl.grading.policy import Policies, with_candidate
from etl.ledger.records import Report
from etl.period import Period
from etl.reports import migration
from etl.reports.migration import COMPARED, OFFERS, STANDING
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

SHOWN: Final = ("household", "village", "town", "credit_line")  # policies whose effect the report speaks of
LISTS: Final = (OFFERS, "mart_honour_eligibility")


@dataclass(frozen=True)
class Trial:
    """A month graded by the policies in force (`standing_…`) and by a candidate, in one engine; `migration` compares them."""

    month: FrozenMonth
    name: str
    path: Path
    candidate: Policies
    standing: Policies

    @property
    def engine(self) -> DuckEngine:
        return self.month.engine


@contextmanager
def trial(ws: Workspace, path: Path, period: str) -> Iterator[Trial]:
    """Grade a month by a candidate policy file beside how it was graded; its newest version counts, whatever its date.

    Raises ConfigurationError for a file that is no policy, DataError for a month that is not graded from its present inputs.
    """
    standing = months.inputs_of(ws, period).policies
    name, candidate = with_candidate(standing, path, ws.registry)
    if name not in SHOWN:
        raise ConfigurationError(path, "policy", f"{name} changes no household", f"try one of {', '.join(SHOWN)}")
    with frozen_month(ws, period, policies=candidate) as month:
        month.grade()
        _stand_beside(ws, month, standing)
        for mart in _lists(ws):
            month.make_mart(mart)
        migration.compare(month.engine, candidate, standing)
        gates.name_relations(month.engine, after="", before=STANDING)
        yield Trial(month, name, path, candidate, standing)


def what_if(ws: Workspace, path: Path, period: str, *, movers_path: Path | None = None) -> Report:
    """The sealed report of a candidate policy on a month; with `movers_path` also every household that moves, as CSV."""
    with trial(ws, path, str(Period.parse(period))) as tried:
        found = judge(tried.engine, ws.registry.county.gates)
        if movers_path:
            _write_movers(tried.engine, movers_path)
        content = {**_content(ws, tried), **gates.content_of(found, period)}
    present = months.inputs_of(ws, period)
    inputs = {
        "fingerprint": present.fingerprint,
        "data": present.data_fingerprint,
        "policy": tried.name,
        "policy_sha256": approval.sha256_of(path),
        "bounds": ws.registry.county.gates.model_dump(mode="json"),
    }
    return approval.sealed(approval.WHAT_IF, period, worst(found), inputs, content)


def _stand_beside(ws: Workspace, month: FrozenMonth, standing: Policies) -> None:
    """The month's tables as graded, behind their prefix."""
    graded = ws.ledger.last_grading(str(month.inputs.period))
    places = [f"core_{place}_grades" for place in standing.shares]
    for table in (*COMPARED, *places, *_lists(ws)):
        months.register_staged(month.engine, ws, f"{STANDING}{table}", table, [graded] if graded else [])


def _lists(ws: Workspace) -> list[str]:
    return [mart for mart in LISTS if mart in ws.models]


def _content(ws: Workspace, tried: Trial) -> dict[str, Any]:
    engine = tried.engine
    towns = {place.place_code: place.place_name for place in ws.registry.places if place.place_level == "town"}
    banks = {code: bank.name.zh for code, bank in ws.registry.banks.items()}
    return {
        "policy": {
            "name": tried.name,
            "file": tried.path.name,
            "candidate": _versions(tried.candidate, tried.name),
            "standing": _versions(tried.standing, tried.name),
            "status": sorted({one.status for one in tried.candidate.in_force[tried.name].values()}),
        },
        "synthetic": ws.registry.county.synthetic,
        "names": {**towns, **banks},
        "matrix": migration.matrix(engine),
        "movers": migration.movers(engine),
        "reasons": migration.reasons(engine),
        "lists": migration.lists(engine, _lists(ws)),
        "places": migration.places(engine, tried.standing.shares),
    }


def _versions(policies: Policies, name: str) -> dict[str, str]:
    return {scope: version.version for scope, version in policies.in_force[name].items()}


def _write_movers(engine: DuckEngine, path: Path) -> None:
    """household_key, town_code, village_code, from, to, scores, steps up, causes and points moved; keyed tokens only."""
    pa_csv.write_csv(engine.arrow("SELECT * FROM migration ORDER BY household_key"), path)
