"""Whatever happens to the bytes of a file on its way: reading it ends in strings and findings, never in an error."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.intake.forensics import diagnose
from etl.registry import Feed
from tests.intake.corpus.entries import Entry
from tests.intake.test_forensics import case_of

KINDS = [("qinghe_rcb", "loans"), ("baiyun_rcb", "loans"), ("xinhe_vb", "loans"), ("mediation", "mediation")]
PIECES = (b"", b"\0", b"\xff", b'"', b"|", b"\n", b"\r", b"PK\x03\x04", b"<!DOCTYPE x [", b"\x81\x30", b"\xe4")


@cache
def sound(kind: tuple[str, str]) -> tuple[bytes, Feed, str]:
    """A sound file with its feed and name."""
    entry = Entry("sound", "nothing", kind[0], {}, dataset=kind[1])
    return entry.content(), entry.agreed_feed(), entry.file_name


def damaged(content: bytes, seed: int, wounds: int) -> bytes:
    """The bytes with a few pieces replaced, taken out, put in or cut off, most of them near the ends."""
    chance, octets = random.Random(seed), bytearray(content)
    for _ in range(wounds):
        near = chance.choice((0, len(octets), chance.randrange(len(octets) + 1)))
        at = min(max(near + chance.randint(-200, 200), 0), len(octets))
        size = chance.choice((0, 1, 1, 4, 40))
        octets[at : at + size] = chance.choice((*PIECES, chance.randbytes(size), bytes(octets[:size])))
    return bytes(octets[: chance.choice((len(octets), len(octets), chance.randrange(len(octets) + 1)))])


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), wounds=st.integers(1, 6))
def test_random_damage_is_answered(kind: tuple[str, str], seed: int, wounds: int) -> None:
    content, feed, name = sound(kind)
    case = case_of(damaged(content, seed, wounds), feed, kind[1], [], name)
    for found in diagnose(case):
        assert found.message_zh
    assert case.strings.rows_read >= 0


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_beginning_of_a_file_is_answered(kind: tuple[str, str]) -> None:
    content, feed, name = sound(kind)
    for end in range(0, len(content), max(len(content) // 60, 1)):
        case = case_of(content[:end], feed, kind[1], [], name)
        assert case.strings.rows_read <= 30
        diagnose(case)


def test_nothing_but_the_sound_file_is_sound() -> None:
    """The test above would notice: the sound file itself has no finding."""
    for kind in KINDS:
        content, feed, name = sound(kind)
        assert case_of(content, feed, kind[1], [], name).strings.file_findings == []
