"""Profile `province`: many households with one member and two consents each, and as many loan notes in twenty files.

For benchmarks. Nothing is planted. The tree is that of a county, so that the same readers find it: the register as
government/{household,household_member,consent}.csv, the loan notes as drop/baiyun_rcb/农户贷款借据_<month>_NN.csv in
GB18030 with their .ok flags. Of a family only the head is written, of the consents only those for grading and for bank
data; the villages are those of the configured county, however many households that makes for each.
Written part by part, so that memory does not grow with the size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from etl.period import Period
from simulator import bankfiles, government, lending, register, writers
from simulator.people import HEAD, PREFIXES, identity_matrix, identity_text, name_text, new_people, phone_text
from simulator.settings import Config, Places
from simulator.tables import Table, stream
from simulator.text import lines
from simulator.truth import Delivery, Truth
from simulator.world import BAIYUN, BANK_DATA, BANKS, COUNTY, GRADING, County

FILES = 20
AREAS = PREFIXES[:9]
FIRST_BIRTH_YEAR, LAST_BIRTH_YEAR = 1942, 2001
_STRIDE = 7_368_787  # a prime: stepping by it visits every slot once before any comes again


@dataclass(frozen=True)
class Part:
    """One of the twenty parts: its number (from 0) and the serial numbers it holds."""

    number: int
    first: int
    size: int


def write(out: Path, month: Period, households: int, seed: int, config_folder: Path) -> Truth:
    """Write a province of `households` households and as many notes; truth.json lists the files and their rows."""
    config = Config(config_folder)
    places = config.places(month)
    truth = Truth(seed, households, "province", str(month))
    folder = out / "government"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.sql").write_text(government.schema_sql(config), encoding="utf-8")
    cuts = np.linspace(0, households, FILES + 1).astype(np.int64)
    with (
        (folder / "household.csv").open("wb") as homes,
        (folder / "household_member.csv").open("wb") as members,
        (folder / "consent.csv").open("wb") as consents,
    ):
        registers = {"households": homes, "members": members, "consents": consents}
        for number in range(FILES):
            part = Part(number, int(cuts[number]), int(cuts[number + 1] - cuts[number]))
            county = part_of(part, month, seed, config, places)
            _write_register(county, part, registers)
            _write_loans(county, part, out, truth)
    for dataset, rows in (("households", households), ("members", households), ("consents", 2 * households)):
        truth.deliver(Delivery(government.SUPPLIER, dataset, dataset, rows, 0), dataset, [])
        truth.count(dataset, rows)
    truth.save(out / "truth.json")
    return truth


def part_of(part: Part, month: Period, seed: int, config: Config, places: Places) -> County:
    """A part as a small county of its own; serial numbers go on from one part to the next."""
    county = register.empty_county(seed, part.size, config, places, month)
    county.offset = part.first
    rng = stream(seed, part.number, "province")
    earlier = county.first_day - rng.integers(40, 1_400, part.size)
    changed = earlier * 86_400 + 9 * 3600 + 2 * rng.integers(0, 9_000, part.size)
    village = np.sort(rng.integers(0, len(places.villages), part.size))
    homes = register.add_households(county, rng, village, changed)
    county.people = _heads(part, rng, changed)
    county.households["head"] = homes
    for purpose in (GRADING, BANK_DATA):
        refused = rng.random(part.size) < 0.03
        register.add_consents(county, rng, homes, purpose, COUNTY, earlier, changed=changed, refused=refused)
    lending.open_books(county)
    notes = lending.add_notes(county, rng, rng.integers(0, part.size, part.size), rng.random(part.size))
    overdue = rng.random(part.size) < 0.035
    county.notes["bank"][notes] = BAIYUN
    county.notes["days"][notes] = np.where(overdue, rng.integers(1, 30, part.size), 0)
    return county


def _heads(part: Part, rng: np.random.Generator, changed: np.ndarray) -> Table:
    """One head for each household; identity numbers are unique over all parts because each takes a slot of its own."""
    first = np.datetime64(f"{FIRST_BIRTH_YEAR}-01-01").astype(np.int64)
    days = int(np.datetime64(f"{LAST_BIRTH_YEAR}-12-31").astype(np.int64) - first + 1)
    serial = np.arange(part.first, part.first + part.size, dtype=np.int64)
    slot = serial * _STRIDE % (len(AREAS) * days * 100)
    rest, sequence = np.divmod(slot, 100)
    area, day = np.divmod(rest, days)
    given = rng.integers(0, 60, (2, part.size))
    fixed = {"relation": HEAD, "alive": True, "frozen": False}
    people = new_people()
    columns = {
        "household": np.arange(part.size), "birth": first + day, "changed": changed, "prefix": area,
        "surname": rng.integers(0, 2, part.size), "given_1": given[0], "given_2": given[1], "male": sequence % 2 == 1,
        **{name: np.full(part.size, value) for name, value in fixed.items()},
    }  # fmt: skip
    heads = Table({name: columns[name].astype(column.dtype) for name, column in people.items() if name != "id"})
    heads["id"] = identity_matrix(AREAS, area, first + day, 900 + sequence)
    return heads


def _write_register(county: County, part: Part, files: Mapping[str, BinaryIO]) -> None:
    for dataset, file in files.items():
        count = part.size * (2 if dataset == "consents" else 1)
        sheet = government.clean_sheet(county, dataset, np.arange(count))
        if part.number == 0:
            file.write((",".join(sheet.layout.headings) + "\n").encode())
        file.write(lines(sheet.ordered(), ",", "\n"))


def _write_loans(county: County, part: Part, out: Path, truth: Truth) -> None:
    sheet = bankfiles.loan_sheet(county, BAIYUN, np.arange(county.notes.rows))
    name = f"农户贷款借据_{county.month.year}{county.month.month:02d}_{part.number + 1:02d}.csv"
    path = out / "drop" / BANKS[BAIYUN] / name
    writers.write_bytes(path, bankfiles.delimited(sheet))
    writers.write_bytes(path.with_name(f"{name}.ok"), b"")
    truth.deliver(Delivery(BANKS[BAIYUN], "loans", name, sheet.rows, 0), name, [])
    watched = np.arange(0, part.size, max(1, part.size // 20))
    truth.watch(
        identity_text(county.people, watched).to_pylist(), name_text(county.people, watched).to_pylist(),
        phone_text(county.serial(watched)).to_pylist(),
    )  # fmt: skip
