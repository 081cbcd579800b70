"""Literals and types that compiled grading SQL is written with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from sqlglot import exp

DIALECT: Final = "duckdb"
POINTS: Final = "DECIMAL(7,2)"
VALUE: Final = "DECIMAL(18,2)"


def text(value: str) -> str:
    """A text literal."""
    return exp.Literal.string(value).sql(dialect=DIALECT)


def number(value: Decimal) -> str:
    """A decimal literal written out."""
    return format(value, "f")


def enum(words: Iterable[str]) -> str:
    """The type of a column that holds only these words."""
    return f"ENUM({', '.join(text(word) for word in sorted(set(words)))})"


def word(value: str, kind: str) -> str:
    """One word of an ENUM."""
    return f"CAST({text(value)} AS {kind})"


def chosen(code: str, words: Mapping[int, str], kind: str, otherwise: str | None = None) -> str:
    """The word of a code, as an ENUM."""
    steps = " ".join(f"WHEN {position} THEN {word(value, kind)}" for position, value in words.items())
    return f"CASE {code} {steps} {f'ELSE {word(otherwise, kind)} ' if otherwise else ''}END"


def added(terms: Sequence[str]) -> str:
    """The sum of decimals, added in pairs: each addition widens the type by a digit, and 38 is the end."""
    if len(terms) < 2:
        return terms[0] if terms else "0"
    middle = len(terms) // 2
    return f"({added(terms[:middle])} + {added(terms[middle:])})"


def floored(numerator: str, denominator: str) -> str:
    """Whole part of a quotient of integers, downwards also below zero; the denominator is positive."""
    rest = f"(({numerator}) % ({denominator}) + ({denominator})) % ({denominator})"
    return f"(({numerator}) - ({rest})) // ({denominator})"


def ceiled(numerator: str, denominator: str) -> str:
    """The quotient of integers rounded upwards; the denominator is positive."""
    return f"-({floored(f'-({numerator})', denominator)})"
