"""Invented people: identity numbers, names and phones that pass every formal check and are plainly not real.

How to recognise them. The area and the date of birth of an identity number look real (341181, 342321, 341121 and the
areas people marry in from), the check character is right (GB 11643-1999), but every sequence number is 900 or more,
every name begins with 合成 or 测试, and every phone begins with 100, which no Chinese mobile number does.
Some given names hold 𠮷, 㛃 or 䶮, which GB18030 can encode and GBK cannot.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.identifiers import RESIDENT_CHECKS, RESIDENT_WEIGHTS
from simulator.tables import Table, rank_in_group
from simulator.text import beside, calendar_parts, digits, picked, strings

HEAD, SPOUSE, CHILD, PARENT, GRANDCHILD, OTHER = range(6)
RELATIONS = ("head", "spouse", "child", "parent", "grandchild", "other")
NOBODY = -1
SEQUENCES = 50
"""Sequence numbers 900–999 leave fifty for each sex, area and date of birth."""

PREFIXES = (
    "341181", "342321", "341121", "341125", "341122", "320831", "320116", "321023", "321084", "340121", "422801", "522422",
    "340803", "341102", "341103", "341126", "341182", "341204",
)  # fmt: skip
MARRIED_IN = 9
OVERFLOW = 12  # areas nobody else uses: two for each of the county's own three codes
SURNAMES = ("合成", "测试")
GIVEN = (
    "建国强军志伟明华秀英桂兰玉芳春梅海燕永平德福家宝长生文斌俊杰小红丽娟晓东雪峰立新光荣庆云凤仙金水木森天佑思源"
    "子涵宇轩欣怡梓萱浩然诗雨佳琪嘉豪"
)
RARE = "𠮷㛃䶮"


def new_people() -> Table:
    """An empty table of people: `household` is a position in the households or NOBODY for people outside the register."""
    whole = {name: np.empty(0, np.int64) for name in ("household", "birth", "changed")}
    small = {name: np.empty(0, np.int16) for name in ("relation", "prefix", "surname", "given_1", "given_2")}
    flags = {name: np.empty(0, bool) for name in ("male", "alive", "frozen")}
    return Table(whole | small | flags | {"id": np.empty((0, 18), np.uint8)})


def add_people(
    people: Table, rng: np.random.Generator, household: np.ndarray, relation: np.ndarray,
    birth: np.ndarray, male: np.ndarray, surname: np.ndarray, changed: np.ndarray | int,
) -> np.ndarray:  # fmt: skip
    """Add people with prefix, name and identity number drawn for them; returns their positions."""
    count = len(birth)
    prefix = _prefixes(rng, birth, relation)
    identities = _identity_numbers(people, prefix, birth, male)
    given = rng.integers(0, len(GIVEN), (2, count))
    given[0] = np.where(rng.random(count) < 0.006, len(GIVEN) + rng.integers(0, len(RARE), count), given[0])
    grown = {name: column for name, column in people.items() if name != "id"}
    rows = Table(grown)
    positions = rows.append(
        {"household": household, "birth": birth, "changed": changed, "relation": relation, "prefix": prefix,
         "surname": surname, "given_1": given[0], "given_2": given[1], "male": male, "alive": True, "frozen": False}
    )  # fmt: skip
    people.update(rows)
    people["id"] = np.vstack([people["id"], identities])
    return positions


def _prefixes(rng: np.random.Generator, birth: np.ndarray, relation: np.ndarray) -> np.ndarray:
    """Area codes after DOMAIN 3.2: 342321 to 1992, 341121 to 1993, 341181 since; those who married in bring any code."""
    year = calendar_parts(birth)[0]
    own = np.select([year < 1992, year < 1994], [1, 2], 0)
    own = np.where((year < 1992) & (rng.random(len(birth)) < 0.06), 0, own)
    moved = rng.random(len(birth)) < np.where(relation == SPOUSE, 0.28, 0.03)
    return np.where(moved, 3 + rng.integers(0, MARRIED_IN, len(birth)), own)


def _identity_numbers(people: Table, prefix: np.ndarray, birth: np.ndarray, male: np.ndarray) -> np.ndarray:
    """Identity numbers unique over the whole world, as an ASCII matrix (people, 18)."""
    base = people.rows
    keys = _slots(np.r_[people["prefix"], prefix], np.r_[people["birth"], birth], np.r_[people["male"], male])
    rank = rank_in_group(keys)[base:]
    overflow = OVERFLOW + 2 * np.minimum(prefix, 2) + rank // SEQUENCES - 1
    area = np.where(rank < SEQUENCES, prefix, overflow)
    return identity_matrix(PREFIXES, area, birth, 900 + 2 * (rank % SEQUENCES) + male.astype(np.int64))


def _slots(prefix: np.ndarray, birth: np.ndarray, male: np.ndarray) -> np.ndarray:
    return (prefix.astype(np.int64) * 200_000 + birth + 50_000) * 2 + male


def identity_matrix(prefixes: tuple[str, ...], area: np.ndarray, birth: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """Area, date of birth, sequence and check character as an ASCII matrix (rows, 18).

    The check is sum(digit x weight) mod 11 over 17 digits (GB 11643-1999, ISO 7064 MOD 11-2).
    """
    areas = np.array([list(prefix.encode("ascii")) for prefix in prefixes], dtype=np.uint8)
    year, month, day = calendar_parts(birth)
    body = beside(areas[area], digits(year, 4), digits(month, 2), digits(day, 2), digits(sequence, 3))
    remainder = ((body - np.uint8(48)) @ np.array(RESIDENT_WEIGHTS, dtype=np.int32)) % 11
    checks = np.frombuffer(RESIDENT_CHECKS.encode("ascii"), np.uint8)[remainder]
    return np.hstack([body, checks[:, None]])


def identity_text(people: Table, positions: np.ndarray) -> pa.Array:
    """Identity numbers of the people at these positions; NOBODY becomes null."""
    nobody = positions == NOBODY
    text = strings(people["id"][np.where(nobody, 0, positions)])
    return pc.if_else(pa.array(~nobody), text, pa.scalar(None, pa.string())) if nobody.any() else text


def name_text(people: Table, positions: np.ndarray) -> pa.Array:
    """Full names, all marked as invented."""
    letters = [*GIVEN, *RARE]
    return pc.binary_join_element_wise(
        picked(SURNAMES, people["surname"][positions]),
        picked(letters, people["given_1"][positions]),
        picked(letters, people["given_2"][positions]),
        "",
    )


def phone_text(positions: np.ndarray) -> pa.Array:
    """Eleven digits that begin with 100, one number per person."""
    return strings(beside("100", digits(np.asarray(positions, np.int64) * 7919 % 10**8, 8)))
