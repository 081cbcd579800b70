"""Deliveries in several files of a drop zone: `x_1of3.csv`, `x_2of3.csv` and `x_3of3.csv` are one, once all are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from etl.intake.drops import Listed

PART_NUMBER: Final = re.compile(r"(?P<stem>.*)_(?P<number>[0-9]{1,3})of(?P<count>[0-9]{1,3})(?P<ending>\.[^/]*)?")


@dataclass(frozen=True)
class Bundle:
    """One delivery as a scan saw it: `listed` is its first file, with the bytes of all and the time of the newest.

    A part that is written anew thus makes another delivery of the bundle, whatever became of the one before.
    """

    listed: Listed
    others: tuple[str, ...] = ()
    is_whole: bool = True


def bundled(entries: Iterable[Listed], is_part: Callable[[str], bool]) -> Iterator[Bundle]:
    """Every file as a bundle of its own, but those together whose names (as `is_part` says) number parts of one."""
    parts: dict[tuple[str, str, str | None], list[Listed]] = {}
    for listed in entries:
        named = PART_NUMBER.fullmatch(listed.name) if listed.is_regular and is_part(listed.name) else None
        if named is None:
            yield Bundle(listed)
        else:
            parts.setdefault((named["stem"], named["count"], named["ending"]), []).append(listed)
    yield from (_together(of_one) for of_one in parts.values())


def _together(parts: Sequence[Listed]) -> Bundle:
    first, *others = sorted(parts, key=lambda listed: _number(listed.name))
    size_bytes, mtime_ns = sum(one.size_bytes for one in parts), max(one.mtime_ns for one in parts)
    listed = replace(first, size_bytes=size_bytes, mtime_ns=mtime_ns)
    return Bundle(listed, tuple(one.address for one in others), is_whole([one.name for one in parts]))


def _number(name: str) -> int:
    named = PART_NUMBER.fullmatch(name)
    return int(named["number"]) if named else 0


def is_whole(names: Sequence[str]) -> bool:
    """Whether these files of one delivery are all its parts; a file that is no numbered part is whole by itself.

    >>> is_whole(["a_1of2.csv", "a_2of2.csv"]), is_whole(["a_1of2.csv"]), is_whole(["a.csv"])
    (True, False, True)
    """
    found = [PART_NUMBER.fullmatch(name) for name in names]
    counts = {int(named["count"]) for named in found if named}
    return not counts or sorted(map(_number, names)) == list(range(1, max(counts) + 1))
