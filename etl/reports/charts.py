"""Small charts as SVG for the pages: nothing to load, sharp at every width, readable without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Final

from etl.reports.page import Markup

WIDTH: Final = 460
_LABEL, _VALUE, _ROW, _BAR = 130, 62, 22, 14
_INK, _SOFT, _BEFORE, _AFTER = "#1b1f24", "#5a6472", "#b9c3cf", "#0b5d4b"
_VERDICT_COLOURS: Final = {"pass": _AFTER, "unjudged": "#b9c3cf", "warn": "#c77d0a", "block": "#b3261e"}


def pairs(title: str, rows: Sequence[tuple[str, int, int]], names: tuple[str, str]) -> Markup:
    """Two bars a row, before and after, with their numbers."""
    most = max((max(before, after) for _, before, after in rows), default=0) or 1
    parts = [_legend(names)]
    for number, (label, before, after) in enumerate(rows):
        top = 30 + number * (2 * _BAR + 12)
        parts.append(_text(0, top + _BAR + 4, label, _INK))
        for place, (count, colour) in enumerate(((before, _BEFORE), (after, _AFTER))):
            length = _length(Decimal(count), Decimal(most))
            y = top + place * _BAR
            parts.append(_bar(y, length, colour))
            parts.append(_text(_LABEL + length + 6, y + 10, f"{count:,}", _SOFT))
    return _svg(title, 36 + len(rows) * (2 * _BAR + 12), parts)


def bars(title: str, rows: Sequence[tuple[str, Decimal, str]], marks: Mapping[str, Decimal]) -> Markup:
    """One bar a row, coloured by its verdict, against bounds that are drawn as lines (name -> value)."""
    most = max([value for _, value, _ in rows] + list(marks.values()), default=Decimal(0)) or Decimal(1)
    height = 30 + len(rows) * _ROW
    parts = [_mark(name, _length(bound, most), height) for name, bound in marks.items()]
    for number, (label, value, verdict) in enumerate(rows):
        y = 26 + number * _ROW
        length = _length(value, most)
        parts += [_text(0, y + 11, label, _INK), _bar(y, length, _VERDICT_COLOURS[verdict])]
        parts.append(_text(_LABEL + length + 6, y + 11, str(value.quantize(Decimal("0.0001"))), _SOFT))
    return _svg(title, height + 6, parts)


def _length(value: Decimal, most: Decimal) -> int:
    return int(value * (WIDTH - _LABEL - _VALUE) / most)


def _svg(title: str, height: int, parts: Sequence[str]) -> Markup:
    body = "\n".join(parts)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" font-size="12">\n'
        f"<title>{escape(title)}</title>\n{body}\n</svg>"
    )


def _bar(y: int, length: int, colour: str) -> str:
    return f'<rect x="{_LABEL}" y="{y}" width="{max(length, 1)}" height="{_BAR - 1}" fill="{colour}"/>'


def _text(x: int, y: int, text: str, colour: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}">{escape(text)}</text>'


def _mark(name: str, length: int, height: int) -> str:
    x = _LABEL + length
    line = f'<line x1="{x}" y1="18" x2="{x}" y2="{height}" stroke="{_SOFT}" stroke-dasharray="3 3"/>'
    return f'{line}<text x="{x}" y="12" fill="{_SOFT}" text-anchor="middle">{escape(name)}</text>'


def _legend(names: tuple[str, str]) -> str:
    found = []
    for place, (name, colour) in enumerate(zip(names, (_BEFORE, _AFTER), strict=True)):
        x = _LABEL + place * 130
        found.append(f'<rect x="{x}" y="6" width="12" height="12" fill="{colour}"/>{_text(x + 18, 16, name, _SOFT)}')
    return "".join(found)
