"""Identity numbers as MD5: only their form is checked, and the register's map gives back the person's token."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from etl.contract.predicates import (
    accepted_select,
    active_rules,
    digests_select,
    person_tokens,
    without_digests_select,
)
from etl.contract.suite import second_opinion
from etl.registry import Layout
from etl.tokens import TokenKey, token
from tests.contract.delivery import ANOTHER, MALE, REGISTRY, SAMPLES, Sample, checked

KEY = TokenKey(b"k" * 32)


def digest(number: str) -> str:
    return hashlib.md5(number.encode()).hexdigest().upper()


@dataclass(frozen=True)
class Digested(Sample):
    """A sample whose bank delivers digests."""

    @cached_property
    def layout(self) -> Layout:
        return super().layout.model_copy(update={"id_form": "md5"})


PLAIN = SAMPLES["east"]
EAST = Digested(
    PLAIN.supplier,
    PLAIN.dataset,
    {**PLAIN.good, "borrower_id_no": digest(MALE), "co_borrower_id_no": digest(ANOTHER).lower()},
)


@pytest.mark.parametrize(
    ("cells", "rules"),
    [
        ({}, []),
        ({"borrower_id_no": " " + digest(MALE).lower() + "\t"}, []),
        ({"borrower_id_no": MALE}, ["L131"]),
        ({"borrower_id_no": MALE, "id_type": "其他"}, []),
        ({"borrower_id_no": digest(MALE)[:-1]}, ["L131"]),
        ({"borrower_id_no": digest(MALE)[:-1] + "G"}, ["L131"]),
        ({"borrower_id_no": digest(MALE) + "\n1"}, ["L131"]),
        ({"borrower_id_no": ""}, ["L102"]),
        ({"co_borrower_id_no": ANOTHER}, ["L133"]),
        ({"co_borrower_id_no": ""}, []),
    ],
)
def test_the_form_of_a_digest_is_checked_by_both_opinions(cells: dict[str, str], rules: list[str]) -> None:
    made = checked(EAST, [EAST.row(**cells)])
    assert sorted(made.counts) == rules
    opinion = second_opinion(made.typed, EAST.contract, EAST.layout, REGISTRY.codes, EAST.context)
    assert +Counter(opinion) == made.counts


def test_rules_that_look_into_a_number_cannot_run() -> None:
    plain, digested = (
        {rule.id for rule in active_rules(one.contract, one.layout, one.context)} for one in (PLAIN, EAST)
    )
    assert plain - digested == {"L132"}


def test_the_registers_map_gives_a_digest_its_person() -> None:
    member = SAMPLES["member"]
    register = checked(member, [member.good, member.row(member_no="M0002", id_no="341181198001010017")]).connection
    params = KEY.params()
    register.execute(f"CREATE TABLE digests AS {digests_select(member.contract)}", params)
    known = register.execute("SELECT digest_key, person_key FROM digests").fetchall()
    assert known == [(token(KEY, "person", digest(MALE)), token(KEY, "person", MALE))]  # the second number is invalid

    bank = checked(EAST, [EAST.good]).connection
    bank.execute(f"CREATE TABLE accepted AS {accepted_select(EAST.contract, EAST.context)}", params)
    bank.execute("CREATE TABLE digests (digest_key VARCHAR, person_key VARCHAR)")
    bank.executemany("INSERT INTO digests VALUES (?, ?)", known)
    persons = person_tokens(EAST.contract)
    columns = [name for name, *_ in bank.execute("DESCRIBE accepted").fetchall()]
    select = without_digests_select(columns, persons, relation="accepted", digests="digests")
    (row,) = bank.sql(select).to_arrow_table().to_pylist()
    plain: Any = checked(PLAIN, [PLAIN.good]).connection
    plain.execute(f"CREATE TABLE accepted AS {accepted_select(PLAIN.contract, PLAIN.context)}", params)
    (expected,) = plain.sql("FROM accepted").to_arrow_table().to_pylist()
    assert persons == ["person_key", "co_person_key"]
    assert row == {**expected, "co_person_key": token(KEY, "person", digest(ANOTHER))}  # nobody on the register
