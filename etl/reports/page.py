"""One self-contained HTML page for readers outside: no script, no font and no picture from elsewhere, Chinese first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

_WIDE: Final = 5
_STYLE: Final = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #5a6472; --line: #d9dee5; --head: #f2f5f8; --accent: #0b5d4b; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; color: var(--ink); background: #fff;
  font: 15px/1.6 "Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; color: var(--accent); border-bottom: 2px solid var(--accent); }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
p { margin: .4rem 0; }
a { color: var(--accent); }
small, .en { color: var(--soft); font-size: .87em; }
.en { display: block; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { background: var(--head); white-space: nowrap; font-weight: 600; }
td { min-width: 3rem; max-width: 28rem; overflow-wrap: break-word; }
code { font: .87em/1.5 "SF Mono", Consolas, "DejaVu Sans Mono", monospace; background: var(--head); padding: 0 .25em;
  border-radius: 3px; overflow-wrap: anywhere; }
td code { white-space: nowrap; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
nav ul { padding-left: 1.2rem; margin: .3rem 0; }
footer { margin-top: 2.5rem; color: var(--soft); border-top: 1px solid var(--line); padding-top: .6rem; }
@media (max-width: 40rem) { body { padding: 1rem .75rem; font-size: 14px; } .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .5rem; } h1 { font-size: 1.25rem; } .wide { min-width: 60rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; border: 0; } }
"""


class Markup(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()


def both(zh: str, en: str) -> Markup:
    """A text in Chinese with its English below."""
    return Markup(f'{escape(zh)}<span class="en">{escape(en)}</span>' if en else escape(zh))


def code(text: str) -> Markup:
    """A name or value as it is written; nothing for nothing."""
    return Markup(f"<code>{escape(text)}</code>" if text else "")


def link(target: str, text: str) -> Markup:
    """A link within the page."""
    return Markup(f'<a href="{escape(target)}">{escape(text)}</a>')


def html(value: object) -> str:
    """A value as HTML: what is not markup is escaped, nothing for null."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else escape(str(value))


def heading(level: int, zh: str, en: str, anchor: str = "") -> Markup:
    """A heading in both languages."""
    place = f' id="{escape(anchor)}"' if anchor else ""
    return Markup(f"<h{level}{place}>{escape(zh)} <small>{escape(en)}</small></h{level}>")


def paragraph(zh: str, en: str = "") -> Markup:
    return Markup(f"<p>{both(zh, en)}</p>")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table that scrolls sideways by itself on a narrow screen."""
    head = "".join(f"<th>{html(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="wide"' if len(header) > _WIDE else ""
    head = f"<thead><tr>{head}</tr></thead>"
    return Markup(f'<div class="scroll"><table{kind}>{head}\n<tbody>\n{body}\n</tbody></table></div>')


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Names and values in two columns, one below the other on a phone."""
    listed = "\n".join(f"<dt>{html(name)}</dt><dd>{html(value)}</dd>" for name, value in pairs)
    return Markup(f'<dl class="facts">\n{listed}\n</dl>')


def page(title: str, parts: Iterable[Markup], *, style: str = "", language: str = "zh-CN") -> str:
    """The whole page; `style` comes after the common one."""
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
