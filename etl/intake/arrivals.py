"""Find what lies complete in the drop zones: one code path for any fsspec address, and no half-written file taken.

How a file shows that it is complete depends on its feed's `package`: an `.ok` flag or a `.sha256` sidecar beside it
that is not older than the file (an older one vouches for what lay there before, so the file must rest as well); else
the quiet period (size and time unchanged over two scans), for a zip also a readable central directory. Numbered parts
wait for each other. Files that no pattern fits are handed back with the reason: every file gets an answer.

Where time stands in whole seconds (SFTP), a file may change without a sign within the second it was last written in:
there a file must rest a second longer, and never less than two looks, whatever its own time says.
"""

from __future__ import annotations

import logging
import re
import secrets
import unicodedata
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from etl.findings import Arrival
from etl.intake.bundles import Bundle, bundled
from etl.intake.case_answer import ANSWERS
from etl.intake.confirmation import CONFIRMS, Confirming
from etl.intake.drops import Drops, Listed
from etl.intake.drops import Zone as Place
from etl.period import Period
from etl.registry import Feed, Registry, Source, Supplier
from etl.settings import Settings
from etl.vocabulary import ConfigurationError, CreditVillageError

__all__ = ["Arrival", "Listed", "Observation", "Patience", "Scan", "file_pattern", "observe", "scan", "settled"]

TEMPORARY_ENDINGS: Final = (".part", ".tmp", ".filepart")
COMPANIONS: Final = {"flag": ".ok", "sidecar": ".sha256"}
PATIENCE_SECONDS: Final = 300.0
ZONES_AT_ONCE: Final = 16
REASONS: Final = {
    "growing": {"zh": "等待写完", "en": "waiting until it no longer changes"},
    "incomplete_zip": {"zh": "压缩包尚不完整", "en": "the zip is not complete yet"},
    "flag_missing": {"zh": "等待完成标志文件 .ok", "en": "waiting for its .ok flag"},
    "sidecar_missing": {"zh": "等待校验文件 .sha256", "en": "waiting for its .sha256 sidecar"},
    "parts_missing": {"zh": "等待其余分文件", "en": "waiting for its other parts"},
    "file_missing": {"zh": "标志文件已到，数据文件未到", "en": "its flag is here, the file is not"},
    "no_pattern": {"zh": "文件名不符合约定", "en": "the name fits no agreed pattern"},
    "no_period": {"zh": "文件名中的月份不存在", "en": "the month in the name does not exist"},
    "no_supplier": {"zh": "文件名中的乡镇代码未登记", "en": "the town code in the name is unknown"},
    "bad_name": {"zh": "文件名含控制字符", "en": "the name holds control characters"},
    "not_a_file": {"zh": "不是普通文件（文件夹或链接）", "en": "not a regular file (a folder or a link)"},
    "unreachable": {"zh": "投递目录无法访问", "en": "the drop zone cannot be reached"},
    "period_closed": {"zh": "该月份已关闭，等待县里处理", "en": "its month is closed; the county has to let it in"},
    "files_per_day": {
        "zh": "已达当日文件数上限，次日受理",
        "en": "the day's number of files is used up; taken tomorrow",
    },
    "bytes_per_day": {"zh": "已达当日数据量上限，次日受理", "en": "the day's volume is used up; taken tomorrow"},
    "findings": {"zh": "当日问题数已达上限，次日受理", "en": "the day's number of findings is used up; taken tomorrow"},
    "disk_low": {"zh": "县里存储空间不足，腾出后受理", "en": "the county's disk is full; taken when there is room"},
}
_log = logging.getLogger("creditvillage.intake")
_PATTERN_PARTS = re.compile(
    r"\{period:(?P<period>[^{}]+)\}|(?P<supplier>\{supplier\})|\{(?P<choice>[^{}:]+)\}|(?P<text>.)", re.S
)
CONFIRMATIONS: Final = "confirmations"
_NAMED_PERIOD = re.compile(r"-([0-9]{4}-(?:0[1-9]|1[0-2]))-[0-9]+[.]confirm[.]csv$")
_PERIOD_PARTS = {"%Y": "(?P<year>[0-9]{4})", "%m": "(?P<month>[0-9]{2})"}


@dataclass(frozen=True)
class Observation:
    """Since when (ISO 8601) a file has had this size and time."""

    size_bytes: int
    mtime_ns: int
    since: str


@dataclass(frozen=True)
class NotTaken:
    """A file that was left where it is; `reason` is a key of REASONS."""

    supplier: str
    address: str
    name: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """One look at all drop zones. Hand `observations` to the next scan.

    `looks` are all files that fit a feed and are not claimed, with the reason why not taken (empty: complete);
    `reached` the addresses of the zones that could be listed.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    waiting: list[NotTaken] = field(default_factory=list)
    unrecognised: list[NotTaken] = field(default_factory=list)
    confirmations: list[Confirming] = field(default_factory=list)
    observations: dict[str, Observation] = field(default_factory=dict)
    looks: list[tuple[Arrival, str]] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Patience:
    """When a file without a flag counts as complete.

    It must look the same in two scans at least `quiet_seconds` apart; with `single_scan_after_seconds` a file of this
    machine whose own time is older than that is taken at first sight (another machine's clock may be wrong). A zip that
    cannot be read is given `zip_seconds` before it is taken (and answered as unreadable).
    """

    quiet_seconds: float = 0.0
    single_scan_after_seconds: float | None = None
    zip_seconds: float = PATIENCE_SECONDS

    def is_quiet(self, listed: Listed, seen: Observation | None, now: datetime) -> bool:
        """Whether the file has looked the same for long enough."""
        rest = _rest_seconds(listed, seen, now)
        if self.single_scan_after_seconds is not None and _own_seconds(listed, now) >= self.single_scan_after_seconds:
            return True
        return rest is not None and rest >= self.quiet_seconds

    def gives_up_on_zip(self, listed: Listed, seen: Observation | None, now: datetime) -> bool:
        """Whether a zip without a readable directory has been quiet too long to be still on its way."""
        own = _own_seconds(listed, now) if self.single_scan_after_seconds is not None else 0.0
        return max(_rest_seconds(listed, seen, now) or 0.0, own) >= self.zip_seconds


def _rest_seconds(listed: Listed, seen: Observation | None, now: datetime) -> float | None:
    """For how long the file has certainly not changed; None when it has, or might have.

    A write in the same second as the one before leaves a whole-second time as it was: that second does not count.
    """
    if seen is None or (seen.size_bytes, seen.mtime_ns) != (listed.size_bytes, listed.mtime_ns):
        return None
    rest = (now - datetime.fromisoformat(seen.since)) / timedelta(seconds=1) - listed.grain_seconds
    return rest if rest >= 0 else None


def _own_seconds(listed: Listed, now: datetime) -> float:
    """How long ago the file says it was written; a time of another clock says nothing."""
    return float("-inf") if listed.is_remote else now.timestamp() - listed.mtime_ns / 1e9


@dataclass(frozen=True)
class _Zone:
    """One drop zone and what its owner may put there: the zone a file lies in says whose it is."""

    owner: Supplier | Source
    place: Place
    suppliers: frozenset[str]


@dataclass(frozen=True)
class _Match:
    supplier: str
    dataset: str
    feed: Feed
    period: str


def scan(
    registry: Registry,
    settings: Settings,
    *,
    now: datetime,
    seen: Mapping[str, Observation] | None = None,
    taken: Collection[tuple[str, int, int]] = frozenset(),
    patience: Patience | None = None,
    drop: Path | None = None,
) -> Scan:
    """Look at every drop zone once; arrivals in order of supplier, dataset, period, time, name.

    `seen` are the observations of the scan before, `taken` (address, size, mtime_ns) of files already claimed, which
    are passed over; `drop` replaces `settings.drop`. A zone that cannot be reached is reported and disturbs no other.
    Raises ConfigurationError for a file pattern without a period.
    """
    found = Scan()
    zones = list(_zones(registry, Drops(settings.drop_access), drop or settings.drop))
    try:
        for zone, listing in zip(zones, _listings(zones), strict=True):
            _scan_zone(zone, listing, found, now, seen or {}, taken, patience or Patience())
    finally:
        for zone in zones:
            zone.place.close()
    found.arrivals.sort(key=lambda a: (a.supplier, a.dataset, a.period, a.mtime_ns, a.name))
    return found


def settled(
    observations_before: Mapping[str, Observation],
    listing: Sequence[Listed],
    *,
    now: datetime,
    patience: Patience | None = None,
) -> set[str]:
    """Addresses of the files that have been quiet long enough."""
    rule = patience or Patience()
    return {listed.address for listed in listing if rule.is_quiet(listed, observations_before.get(listed.address), now)}


def observe(before: Mapping[str, Observation], listing: Sequence[Listed], *, now: datetime) -> dict[str, Observation]:
    """What to remember until the next scan: a file that has not changed keeps the time it was first seen so."""
    return {listed.address: _observed(before.get(listed.address), listed, now) for listed in listing}


def _observed(before: Observation | None, listed: Listed, now: datetime) -> Observation:
    same = before and (before.size_bytes, before.mtime_ns) == (listed.size_bytes, listed.mtime_ns)
    return before if before and same else Observation(listed.size_bytes, listed.mtime_ns, now.isoformat())


def _zones(registry: Registry, drops: Drops, drop: Path) -> Iterator[_Zone]:
    for bank in registry.banks.values():
        yield _Zone(bank, drops.zone(bank.code, _filled(bank.drop, drop)), frozenset({bank.code}))
    for source in registry.sources.values():
        if source.kind == "files" and source.drop:
            place = drops.zone(source.code, _filled(source.drop, drop))
            yield _Zone(source, place, frozenset(registry.suppliers_of(source)))


def _filled(address: str, drop: Path) -> str:
    return address.replace("{drop}", str(drop))


def _listings(zones: Sequence[_Zone]) -> list[list[Listed] | None]:
    """What lies in each zone, None where it cannot be reached; remote zones are asked side by side."""
    remote = [zone for zone in zones if zone.place.is_remote]
    with ThreadPoolExecutor(min(ZONES_AT_ONCE, len(remote) or 1)) as pool:
        answers = dict(zip(map(id, remote), pool.map(_listing, remote), strict=True))
    return [answers[id(zone)] if zone.place.is_remote else _listing(zone) for zone in zones]


def _listing(zone: _Zone) -> list[Listed] | None:
    """Entries of one zone, ignoring hidden and temporary names; the cause of a failure goes to the log."""
    try:
        entries = zone.place.list()
    except (OSError, CreditVillageError) as error:
        says = str(error) if isinstance(error, CreditVillageError) else type(error).__name__
        level = logging.WARNING if zone.place.is_remote else logging.INFO
        _log.log(level, "%s: its drop zone cannot be reached: %s", zone.owner.code, says)
        return None
    return [entry for entry in entries if not entry.name.startswith(".") and not entry.name.endswith(TEMPORARY_ENDINGS)]


def _scan_zone(
    zone: _Zone,
    entries: Sequence[Listed] | None,
    found: Scan,
    now: datetime,
    seen: Mapping[str, Observation],
    taken: Collection[tuple[str, int, int]],
    patience: Patience,
) -> None:
    if entries is None:
        found.waiting.append(NotTaken(zone.owner.code, zone.place.address, "", "unreachable"))
        return
    found.reached.append(zone.place.address)
    listing = {listed.name: listed for listed in entries}
    for bundle in bundled(entries, lambda name: _is_part(zone, name)):
        listed = bundle.listed
        if (listed.address, listed.size_bytes, listed.mtime_ns) in taken:
            continue
        if _is_confirmation(zone, listed):
            _note_confirmation(zone, listed, found, seen.get(listed.address), now, patience)
            continue
        match = _recognise(zone, listed)
        if isinstance(match, str):
            _set_aside(zone, listed, match, listing, found)
            continue
        before = seen.get(listed.address)
        reason = _why_wait(zone.place, match.feed, bundle, listing, before, now, patience)
        arrival = _arrival(match, bundle, listing)
        found.observations[listed.address] = _observed(before, listed, now)
        found.looks.append((arrival, reason))
        if reason:
            found.waiting.append(NotTaken(match.supplier, listed.address, listed.name, reason))
        else:
            found.arrivals.append(arrival)


def _is_part(zone: _Zone, name: str) -> bool:
    """Whether a feed takes a file of that name beside others as one delivery."""
    return any(feed.has_loose_parts and _matched(feed, name) for feed in zone.owner.feeds.values())


def _is_badly_named(listed: Listed) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in listed.name)


def _is_confirmation(zone: _Zone, listed: Listed) -> bool:
    is_named = listed.name.endswith((CONFIRMS, ANSWERS)) and not _is_badly_named(listed)
    return is_named and listed.is_regular and isinstance(zone.owner, Supplier)


def _note_confirmation(
    zone: _Zone, listed: Listed, found: Scan, seen: Observation | None, now: datetime, patience: Patience
) -> None:
    """A file that confirms warnings, or answers a question, is no delivery; it settles like one.

    A confirmation that names no delivery need not.
    """
    named = _NAMED_PERIOD.search(listed.name)
    period = f"{now:%Y-%m}" if listed.name.endswith(ANSWERS) else named and named[1]
    if period is None or patience.is_quiet(listed, seen, now):
        confirming = Confirming(zone.owner.code, listed.address, listed.name, listed.size_bytes, listed.mtime_ns)
        found.confirmations.append(confirming)
        return
    place = (listed.address, listed.name, listed.size_bytes, listed.mtime_ns)
    found.waiting.append(NotTaken(zone.owner.code, listed.address, listed.name, "growing"))
    found.observations[listed.address] = _observed(seen, listed, now)
    found.looks.append((Arrival(zone.owner.code, CONFIRMATIONS, period, *place), "growing"))


def _recognise(zone: _Zone, listed: Listed) -> _Match | str:
    """The feed a file belongs to, or the reason why none."""
    if not listed.is_regular:
        return "not_a_file"
    if _is_badly_named(listed):
        return "bad_name"
    for dataset, feed in zone.owner.feeds.items():
        matched = _matched(feed, listed.name)
        if matched:
            return _checked(zone, dataset, feed, matched)
    return "no_pattern"


def _matched(feed: Feed, name: str) -> re.Match[str] | None:
    return file_pattern(feed.files).fullmatch(name) if feed.files else None


def _checked(zone: _Zone, dataset: str, feed: Feed, matched: re.Match[str]) -> _Match | str:
    try:
        period = Period.parse(f"{matched['year']}-{matched['month']}")
    except ValueError:
        return "no_period"
    supplier = matched.groupdict().get("supplier") or zone.owner.code
    if supplier not in zone.suppliers:
        return "no_supplier"
    return _Match(supplier, dataset, feed, str(period))


@lru_cache(maxsize=1024)
def file_pattern(pattern: str) -> re.Pattern[str]:
    """A feed's `files` as a regular expression with the groups year, month and, where named, supplier.

    `{period:%Y%m}` and `{supplier}` are filled from the name, `{a,b}` is a choice, `*` and `?` as in a shell.
    Raises ConfigurationError when year and month cannot be read from the name.
    """
    expression = "".join(_pattern_part(part) for part in _PATTERN_PARTS.finditer(pattern))
    try:
        compiled = re.compile(expression, re.S)
    except re.error as error:
        raise ConfigurationError(
            "files", pattern, f"not a file pattern: {error}", "name each placeholder once"
        ) from None
    if not {"year", "month"} <= set(compiled.groupindex):
        raise ConfigurationError("files", pattern, "names no period", "add {period:%Y%m}")
    return compiled


def _pattern_part(part: re.Match[str]) -> str:
    if part["period"]:
        return re.sub("%[Ym]", lambda found: _PERIOD_PARTS[found[0]], re.escape(part["period"]))
    if part["supplier"]:
        return "(?P<supplier>[0-9A-Za-z]+)"
    if part["choice"]:
        return "(?:" + "|".join(re.escape(choice) for choice in part["choice"].split(",")) + ")"
    return {"*": ".*", "?": "."}.get(part["text"]) or re.escape(part["text"])


def _set_aside(zone: _Zone, listed: Listed, reason: str, listing: Mapping[str, Listed], found: Scan) -> None:
    """A companion of a known file is no file of its own; anything else is reported."""
    main = _main_of_companion(zone, listed.name) if reason == "no_pattern" else None
    if main is None:
        found.unrecognised.append(NotTaken(zone.owner.code, listed.address, listed.name, reason))
    elif main not in listing:
        found.waiting.append(NotTaken(zone.owner.code, listed.address, listed.name, "file_missing"))


def _main_of_companion(zone: _Zone, name: str) -> str | None:
    for feed in zone.owner.feeds.values():
        ending = COMPANIONS.get(feed.package)
        if ending and name.endswith(ending) and _matched(feed, name.removesuffix(ending)):
            return name.removesuffix(ending)
    return None


def _why_wait(
    place: Place,
    feed: Feed,
    bundle: Bundle,
    listing: Mapping[str, Listed],
    seen: Observation | None,
    now: datetime,
    patience: Patience,
) -> str:
    """The reason (a key of REASONS) why a file is not complete yet; empty when it is."""
    listed = bundle.listed
    if not bundle.is_whole:
        return "parts_missing"
    ending = COMPANIONS.get(feed.package)
    if ending:
        companion = listing.get(listed.name + ending)
        if companion is None or not companion.is_regular:
            return f"{feed.package}_missing"
        if companion.mtime_ns >= listed.mtime_ns:
            return ""
    if not patience.is_quiet(listed, seen, now):
        return "growing"
    is_zip = feed.package in ("pboc", "zip")
    if not is_zip or _zip_is_complete(place, listed.name) or patience.gives_up_on_zip(listed, seen, now):
        return ""
    return "incomplete_zip"


def _zip_is_complete(place: Place, name: str) -> bool:
    try:
        with place.open(name) as file, zipfile.ZipFile(file):
            return True
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _arrival(match: _Match, bundle: Bundle, listing: Mapping[str, Listed]) -> Arrival:
    listed = bundle.listed
    companion = listing.get(listed.name + COMPANIONS.get(match.feed.package, "/"))
    return Arrival(
        match.supplier,
        match.dataset,
        match.period,
        listed.address,
        listed.name,
        listed.size_bytes,
        listed.mtime_ns,
        (companion.address,) if companion else bundle.others,
    )


def write_notes(outbox: Path, found: Scan, suppliers: Collection[str] | None = None) -> None:
    """Tell each supplier in `outbox/<supplier>/not_taken.txt` what was left lying and why; no file when nothing was.

    The note is the present state, written anew by every scan; a receipt it is not. With `suppliers`, the notes of all
    others are left as they are.
    """
    by_supplier: dict[str, list[NotTaken]] = {}
    for left in (*found.unrecognised, *found.waiting):
        if suppliers is None or left.supplier in suppliers:
            by_supplier.setdefault(left.supplier, []).append(left)
    for note in outbox.glob("*/not_taken.txt"):
        owner = note.parent.name
        if owner not in by_supplier and (suppliers is None or owner in suppliers):
            note.unlink(missing_ok=True)
    for supplier, lying in by_supplier.items():
        place = outbox / supplier / "not_taken.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{printable(one.name)}\t{REASONS[one.reason]['zh']} {REASONS[one.reason]['en']}\n" for one in lying]
        scratch = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
        scratch.write_text("".join(sorted(lines)), encoding="utf-8")
        scratch.replace(place)


def printable(name: str) -> str:
    """A supplier's file name for a line of text: nothing in it breaks the line or turns its direction."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)
