"""Household register and consents: how they start and how they change from month to month."""

from __future__ import annotations

import numpy as np

from etl.period import Period
from simulator.people import CHILD, GRANDCHILD, HEAD, NOBODY, OTHER, PARENT, SPOUSE, add_people, new_people
from simulator.settings import Config, Places
from simulator.tables import Table, stream
from simulator.text import NO_DAY, day_number
from simulator.world import (
    BANK_DATA,
    COUNTY,
    CREDIT_LINE,
    FIRST_MONTH,
    GRADING,
    INCOME,
    LANES,
    MISTAKE_LANE,
    PROPERTY,
    STORY_LANES,
    County,
)

SIZE_SHARES = (0.08, 0.22, 0.25, 0.25, 0.12, 0.06, 0.02)
"""Households of 1–7 people; the mean is 3.37 (DOMAIN 7, 铜陵)."""

_WHOLE = (
    "village", "head", "former", "registered", "absent_since", "income", "assets", "debt", "farmland", "civility",
    "reviewed", "changed",
)  # fmt: skip
_FLAGS = ("alive", "absent", "stable", "frozen")
_CONSENT_WHOLE = ("subject", "recipient", "purpose", "granted", "expires", "withdrawn", "channel", "changed")
_CONSENT_FLAGS = ("granted_yes", "has_document", "frozen")


def found_county(seed: int, size: int, config: Config, places: Places) -> County:
    """The county at the end of 2024-01: `size` households with members and consents, no loans yet."""
    county = empty_county(seed, size, config, places, FIRST_MONTH)
    rng = stream(seed, 0, "register")
    changed = _first_changes(county, rng, size)
    households = add_households(county, rng, _villages(rng, size, len(places.villages)), changed)
    _add_families(county, rng, households)
    _grant_first_consents(county, rng, households)
    return county


def _first_changes(county: County, rng: np.random.Generator, size: int) -> np.ndarray:
    """When households last changed before the first pull: most in the round of the last thirteen months."""
    oldest = day_number(Period(2019, 6).start)
    since = np.where(rng.random(size) < 0.88, day_number(Period(2023, 1).start), oldest)
    day = since + (rng.random(size) * (county.first_day + 26 - since)).astype(np.int64)
    return day * 86_400 + 8 * 3600 + 2 * rng.integers(0, 5 * 3600, size)


def empty_county(seed: int, size: int, config: Config, places: Places, month: Period) -> County:
    """A county without anybody in it."""
    households, consents = _empty(_WHOLE, _FLAGS), _empty(_CONSENT_WHOLE, _CONSENT_FLAGS)
    return County(seed, size, config, places, month, households, new_people(), consents)


def _empty(whole: tuple[str, ...], flags: tuple[str, ...]) -> Table:
    table = Table({name: np.empty(0, np.int64) for name in whole})
    table.update({name: np.empty(0, bool) for name in flags})
    return table


def _villages(rng: np.random.Generator, size: int, villages: int) -> np.ndarray:
    """A village for each household: unequal villages, none empty when there are enough households."""
    weights = rng.lognormal(0, 0.35, villages)
    spare = max(size - villages, 0)
    counts = rng.multinomial(spare, weights / weights.sum()) + (1 if size >= villages else 0)
    return np.repeat(np.arange(villages), counts)[:size]


def add_households(county: County, rng: np.random.Generator, village: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Households without people yet, registered some time before they last changed.

    Incomes lie around 85,000 yuan a year, assets around 350,000; a third have debts, of at most twice their assets.
    """
    count = len(village)
    assets = _lognormal(rng, 350_000, 0.55, count)
    debt = np.where(rng.random(count) < 0.34, _lognormal(rng, 40_000, 0.8, count), 0)
    absent = rng.random(count) < 0.04
    changed_on = changed // 86_400
    reviewed = np.where(rng.random(count) < 0.97, changed_on - rng.integers(0, 150, count), NO_DAY)
    civility = np.clip(rng.normal(8_800, 600, count), 5_000, 10_000).astype(np.int64) // 50 * 50
    return county.households.append(
        {"village": village, "head": np.full(count, NOBODY), "former": NOBODY, "alive": True, "frozen": False,
         "registered": changed_on - rng.integers(30, 4_000, count),
         "absent": absent, "absent_since": np.where(absent, changed_on - rng.integers(366, 1_500, count), NO_DAY),
         "income": _lognormal(rng, 85_000, 0.5, count), "assets": assets, "debt": np.minimum(debt, 2 * assets),
         "farmland": np.clip(rng.gamma(4, 190, count), 0, 90_00).astype(np.int64), "stable": rng.random(count) < 0.78,
         "civility": np.where(reviewed == NO_DAY, NO_DAY, civility), "reviewed": reviewed, "changed": changed}
    )  # fmt: skip


def _lognormal(rng: np.random.Generator, median_yuan: float, sigma: float, count: int) -> np.ndarray:
    """Amounts in fen, in whole hundreds of yuan, at most 4 million yuan."""
    yuan = np.minimum(median_yuan * rng.lognormal(0, sigma, count), 4_000_000)
    return np.maximum(yuan // 100 * 100, 100).astype(np.int64) * 100


def _add_families(county: County, rng: np.random.Generator, households: np.ndarray) -> None:
    """Members of new households: head, spouse, children, parents, grandchildren, ages to fit."""
    size = rng.choice(np.arange(1, 8), len(households), p=SIZE_SHARES)
    home = np.repeat(np.arange(len(households)), size)
    place = np.arange(len(home)) - np.repeat(np.cumsum(size) - size, size)
    head_age = 24 + 60 * rng.beta(2.6, 3.0, len(households))[home]
    relation = _relations(rng, place, head_age)
    age = _ages(rng, relation, head_age)
    birth = county.last_day - (age * 365.25).astype(np.int64)
    entered = (birth + 10) * 86_400 + 9 * 3600
    changed = np.maximum(county.households["changed"][households][home], entered)
    head_male = (rng.random(len(households)) < 0.86)[home]
    male = np.where(relation == SPOUSE, ~head_male, np.where(relation == HEAD, head_male, rng.random(len(home)) < 0.51))
    surname = rng.integers(0, 2, len(households))[home]
    positions = add_people(county.people, rng, households[home], relation, birth, male, surname, changed)
    county.households["head"][households] = positions[place == 0]


def _relations(rng: np.random.Generator, place: np.ndarray, head_age: np.ndarray) -> np.ndarray:
    """Relation to the head by place in the family: second mostly the spouse, third mostly a child."""
    draw = rng.random(len(place))
    second = np.where(draw < 0.92, SPOUSE, CHILD)
    third = np.where(draw < 0.82, CHILD, PARENT)
    fourth = np.select([draw < 0.6, draw < 0.85], [CHILD, PARENT], GRANDCHILD)
    later = np.select([draw < 0.5, draw < 0.8], [GRANDCHILD, PARENT], OTHER)
    relation = np.select([place == 0, place == 1, place == 2, place == 3], [HEAD, second, third, fourth], later)
    return np.where((relation == GRANDCHILD) & (head_age < 47), CHILD, relation)


def _ages(rng: np.random.Generator, relation: np.ndarray, head_age: np.ndarray) -> np.ndarray:
    """Ages in years that fit the relation to a head of the given age."""
    gap = rng.uniform(0, 12, len(relation))
    age = np.select(
        [relation == HEAD, relation == SPOUSE, relation == CHILD, relation == PARENT, relation == GRANDCHILD],
        [head_age, head_age - 6 + gap * 0.8, head_age - 21 - gap, head_age + 20 + gap, head_age - 44 - gap],
        head_age - 20 + gap * 3,
    )
    youngest = np.where(relation == SPOUSE, 21, 0.1)
    age = np.where(age < youngest, youngest + rng.uniform(0, 6, len(age)), age)
    return np.where(age > 99, 99 - rng.uniform(0, 6, len(age)), age)


def _grant_first_consents(county: County, rng: np.random.Generator, households: np.ndarray) -> None:
    """What the heads declared when they were visited: most granted, some missing, refused, withdrawn or expired."""
    heads = county.heads()[households]
    for purpose, share in ((GRADING, 0.965), (BANK_DATA, 0.62), (INCOME, 0.94), (PROPERTY, 0.93)):
        asked = heads[rng.random(len(heads)) < share]
        _first_consents(county, rng, asked, purpose, np.zeros(len(asked), np.int64))
    asked = heads[rng.random(len(heads)) < 0.36]
    _first_consents(county, rng, asked, CREDIT_LINE, rng.integers(1, 4, len(asked)))


def _first_consents(
    county: County, rng: np.random.Generator, subject: np.ndarray, purpose: int, recipient: np.ndarray
) -> None:
    count = len(subject)
    granted = day_number(Period(2020, 1).start) + rng.integers(0, 1_480, count)
    years = np.where(rng.random(count) < 0.03, 3, 5)
    fate = rng.random(count)
    span = np.maximum(county.first_day - granted, 1) * rng.random(count)
    withdrawn = np.where(fate < 0.008, granted + 1 + span.astype(np.int64), NO_DAY)
    latest = np.maximum(granted, withdrawn)
    add_consents(
        county, rng, subject, purpose, recipient, granted, years=years, open_ended=rng.random(count) < 0.15,
        refused=(fate > 0.975), withdrawn=withdrawn,
        changed=latest * 86_400 + 9 * 3600 + 2 * rng.integers(0, 3 * 3600, count),
    )  # fmt: skip


def add_consents(
    county: County, rng: np.random.Generator, subject: np.ndarray, purpose: int, recipient: np.ndarray | int,
    granted: np.ndarray, *, changed: np.ndarray, years: np.ndarray | int = 5, open_ended: np.ndarray | bool = False,
    refused: np.ndarray | bool = False, withdrawn: np.ndarray | int = NO_DAY,
) -> np.ndarray:  # fmt: skip
    """Consent records; income and property always have a written document (征信业管理条例 14). No end on a month end."""
    expires = granted + np.asarray(years) * 365
    expires = np.where(_is_month_end(expires), expires - 1, expires)
    written = (purpose in (INCOME, PROPERTY)) | (rng.random(len(subject)) < 0.7)
    return county.consents.append(
        {"subject": subject, "recipient": recipient, "purpose": purpose, "granted": granted,
         "expires": np.where(open_ended, NO_DAY, expires), "withdrawn": np.where(refused, NO_DAY, withdrawn),
         "channel": rng.integers(0, 3, len(subject)), "changed": changed, "granted_yes": ~np.broadcast_to(refused, len(subject)),
         "has_document": written, "frozen": False}
    )  # fmt: skip


def _is_month_end(days: np.ndarray) -> np.ndarray:
    dates = days.astype("datetime64[D]")
    return (dates + 1).astype("datetime64[M]") != dates.astype("datetime64[M]")


def live_on(county: County) -> None:
    """One month of changes in the register: events of DESIGN (changed, new, split, merged, moved, deleted) and consents."""
    rng = county.stream("register")
    homes = county.households
    lane = county.lane(np.arange(homes.rows))
    free = homes["alive"] & ~homes["frozen"]
    free[county.quiet] = False
    takes = _take_turns(county, rng.permutation(np.flatnonzero(free & (lane > MISTAKE_LANE))))
    events = {
        "moved": _move(county, rng, takes["moved"]),
        "deleted": _delete(county, rng, takes["deleted"]),
        "merged": _merge(county, rng, takes["merged"]),
        "split": _split(county, rng, takes["split"]),
        "births": _births(county, rng, takes["births"]),
        "new": _settle(county, rng, _share(county, 0.0012)),
    }
    touched = np.concatenate([takes[name] for name in ("moved", "deleted", "merged", "split")])
    free[touched] = False
    events["changed"] = _revise(county, rng, np.flatnonzero(free[: len(lane)] & homes["alive"][: len(lane)]))
    events["consents"] = _revise_consents(county, rng)
    county.register_events = events


_EVENTS = {"moved": 0.0006, "deleted": 0.0004, "merged": 0.0006, "births": 0.0005}


def _take_turns(county: County, homes: np.ndarray) -> dict[str, np.ndarray]:
    """Different households for every kind of event; only one with a grown child can split."""
    splits = homes[_has_grown_child(county)[homes]][: _share(county, 0.0006)]
    rest = homes[~np.isin(homes, splits)]
    takes = {name: rest[start::40][: _share(county, rate)] for start, (name, rate) in enumerate(_EVENTS.items())}
    return takes | {"split": splits}


def _grown_children(county: County) -> np.ndarray:
    """For every person: a living child of a registered household, at least 22 years old."""
    people = county.people
    grown = (county.last_day - people["birth"]) > 22 * 366
    return people["alive"] & (people["relation"] == CHILD) & grown & (people["household"] != NOBODY)


def _has_grown_child(county: County) -> np.ndarray:
    has = np.zeros(county.households.rows, bool)
    has[county.people["household"][_grown_children(county)]] = True
    return has


def _share(county: County, rate: float) -> int:
    return max(2, round(county.size * rate))


def _move(county: County, rng: np.random.Generator, homes: np.ndarray) -> int:
    """Households that moved to another village."""
    villages = len(county.places.villages)
    village = county.households["village"]
    village[homes] = (village[homes] + rng.integers(1, villages, len(homes))) % villages
    county.households["changed"][homes] = county.moments(rng, len(homes))
    return len(homes)


def _delete(county: County, rng: np.random.Generator, homes: np.ndarray) -> int:
    """Households struck off with all members; their consents stay on file."""
    county.households["alive"][homes] = False
    gone = np.isin(county.people["household"], homes)
    county.people["alive"][gone] = False
    return len(homes)


def _merge(county: County, rng: np.random.Generator, homes: np.ndarray) -> int:
    """Every second household of the selection joins the one before it and disappears."""
    pairs = len(homes) // 2
    keeps, joins = homes[: 2 * pairs : 2], homes[1 : 2 * pairs : 2]
    moments = county.moments(rng, pairs)
    target = np.full(county.households.rows, NOBODY)
    target[joins] = np.arange(pairs)
    pair = target[np.maximum(county.people["household"], 0)]
    moving = (pair != NOBODY) & (county.people["household"] != NOBODY) & county.people["alive"]
    county.people["household"][moving] = keeps[pair[moving]]
    county.people["relation"][moving] = OTHER
    county.people["changed"][moving] = moments[pair[moving]]
    county.households["alive"][joins] = False
    county.households["former"][keeps] = joins
    county.households["changed"][keeps] = moments
    return pairs


def _split(county: County, rng: np.random.Generator, homes: np.ndarray) -> int:
    """A grown child leaves each of these households and founds a household of its own."""
    people = county.people
    leaves = np.flatnonzero(_grown_children(county) & np.isin(people["household"], homes))
    leaves = leaves[rank_first(people["household"][leaves])]
    moments = county.moments(rng, len(leaves))
    old = people["household"][leaves]
    founded = add_households(county, rng, county.households["village"][old], moments)
    county.households["registered"][founded] = moments // 86_400
    county.households["reviewed"][founded] = NO_DAY
    county.households["civility"][founded] = NO_DAY
    county.households["former"][founded] = old
    county.households["head"][founded] = leaves
    people["household"][leaves], people["relation"][leaves], people["changed"][leaves] = founded, HEAD, moments
    _new_grants(county, rng, leaves, moments, 0.9)
    return len(leaves)


def rank_first(keys: np.ndarray) -> np.ndarray:
    """Positions of the first row of each key."""
    return np.sort(np.unique(keys, return_index=True)[1])


def _births(county: County, rng: np.random.Generator, homes: np.ndarray) -> int:
    """A child is entered in each of these households."""
    moments = county.moments(rng, len(homes))
    birth = moments // 86_400 - rng.integers(3, 60, len(homes))
    relation = np.full(len(homes), GRANDCHILD)
    surname = county.people["surname"][county.heads()[homes]]
    add_people(county.people, rng, homes, relation, birth, rng.random(len(homes)) < 0.5, surname, moments)
    return len(homes)


def _settle(county: County, rng: np.random.Generator, count: int) -> int:
    """New households with their people and consents."""
    moments = county.moments(rng, count)
    village = rng.integers(0, len(county.places.villages), count)
    homes = add_households(county, rng, village, moments)
    county.households["registered"][homes] = moments // 86_400
    county.households["reviewed"][homes], county.households["civility"][homes] = NO_DAY, NO_DAY
    _add_families(county, rng, homes)
    _new_grants(county, rng, county.heads()[homes], moments, 0.9)
    return count


def _new_grants(
    county: County, rng: np.random.Generator, subjects: np.ndarray, moments: np.ndarray, share: float
) -> None:
    for purpose in (GRADING, BANK_DATA, INCOME, PROPERTY):
        asked = rng.random(len(subjects)) < share
        granted = moments[asked] // 86_400
        add_consents(county, rng, subjects[asked], purpose, COUNTY, granted, changed=moments[asked])


def _revise(county: County, rng: np.random.Generator, homes: np.ndarray) -> int:
    """Incomes, assets and debts collected anew, civility reviewed again, families that left or came back."""
    table = county.households
    count = min(len(homes) // 4, _share(county, 0.024))
    chosen = rng.permutation(homes)[:count]
    moments = county.moments(rng, count)
    table["changed"][chosen] = moments
    for name, spread in (("income", 0.12), ("assets", 0.06), ("debt", 0.3)):
        scaled = table[name][chosen] * np.exp(rng.normal(0, spread, count))
        table[name][chosen] = np.minimum(scaled, 4e8).astype(np.int64) // 10_000 * 10_000
    table["debt"][chosen] = np.minimum(table["debt"][chosen], 2 * table["assets"][chosen])
    reviewed = chosen[: count // 3]
    score = np.where(table["civility"][reviewed] == NO_DAY, 8_800, table["civility"][reviewed])
    table["civility"][reviewed] = np.clip(score + rng.integers(-8, 9, len(reviewed)) * 50, 4_000, 10_000)
    table["reviewed"][reviewed] = moments[: len(reviewed)] // 86_400
    _leave_or_return(county, rng, chosen[count - count // 20 :], moments[count - count // 20 :])
    return count


def _leave_or_return(county: County, rng: np.random.Generator, homes: np.ndarray, moments: np.ndarray) -> None:
    table = county.households
    back = table["absent"][homes]
    since = moments // 86_400 - rng.integers(366, 500, len(homes))
    table["absent"][homes] = ~back
    table["absent_since"][homes] = np.where(back, NO_DAY, since)


def _revise_consents(county: County, rng: np.random.Generator) -> int:
    """Some consents are withdrawn; some that have run out are given again."""
    consents = county.consents
    loose = ~consents["frozen"] & ~_quiet_people(county)[consents["subject"]]
    standing = consents["granted_yes"] & (consents["withdrawn"] == NO_DAY) & (consents["granted"] < county.first_day)
    ended = (consents["expires"] != NO_DAY) & (consents["expires"] < county.first_day)
    out = rng.permutation(np.flatnonzero(loose & standing & ~ended))[: _share(county, 0.004)]
    moments = county.moments(rng, len(out))
    consents["withdrawn"][out], consents["changed"][out] = moments // 86_400, moments
    lapsed = rng.permutation(np.flatnonzero(loose & standing & ended & (consents["purpose"] != CREDIT_LINE)))
    lapsed = lapsed[: max(1, len(lapsed) // 10)]
    moments = county.moments(rng, len(lapsed))
    for purpose in (GRADING, BANK_DATA, INCOME, PROPERTY):
        mine = consents["purpose"][lapsed] == purpose
        subjects, granted = consents["subject"][lapsed][mine], moments[mine] // 86_400
        add_consents(county, rng, subjects, purpose, COUNTY, granted, changed=moments[mine])
    return len(out) + len(lapsed)


def _quiet_people(county: County) -> np.ndarray:
    quiet = np.zeros(county.households.rows + 1, bool)
    quiet[county.quiet] = True
    return quiet[county.people["household"]]


def story_lane(homes: np.ndarray) -> np.ndarray:
    """Is a household of a lane whose loans may carry a story named in truth.json."""
    return np.isin(homes % LANES, STORY_LANES)
