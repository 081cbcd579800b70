"""`creditvillage explain` of a village or town: its shares, each grade's conditions, and what stands in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from etl.cli import tables
from etl.reports import explain_words as words

Document = Mapping[str, Any]


def place_parts(found: Document, language: str) -> Iterator[object]:
    """What is printed, one after the other."""
    yield _summary(found, language)
    yield _shares(found, language)
    yield _grades(found, language)
    if found["advice"]:
        yield _advice(found["advice"], language)
    if found["villages"]:
        yield Text(words.villages_text(found["villages"]))
    for name, one in (found["peers"] or {"quartiles": {}})["quartiles"].items():
        yield Text(_quartiles(found, name, one, language), style="dim")
    yield Text(words.objection_text(found["rights"]["objection"], language))
    if found["audit"]:
        yield Text(tables.as_json_text(found["audit"]), style="dim")


def _say(text: Mapping[str, str] | None, language: str) -> str:
    return words.in_language(text, language)


def _summary(found: Document, language: str) -> Panel:
    grade, policy = found["grade"], found["policy"]
    lines = [Text(f" {grade['effective'] or '—'} ", style="reverse")]
    if grade["not_rated_reason"]:
        lines.append(Text(_say(grade["not_rated_says"], language)))
    if grade["input_state_says"]:
        lines.append(Text(_say(grade["input_state_says"], language)))
    for part in filter(None, (found["note"], found["known"] and found["known"]["says"])):
        lines.append(Text(_say(part, language), style="yellow"))
    status = f"{policy['name']} {policy['version']}{words.colon(language)}{_say(policy['status_says'], language)}"
    lines.append(Text(status, style="dim"))
    if found["synthetic"]:
        lines.append(Text(_say(found["synthetic"], language), style="dim"))
    return Panel(Text("\n").join(lines), title=escape(words.place_title(found, language)), title_align="left")


def _table(language: str, *headings: tuple[str, str]) -> Table:
    table = Table(header_style="bold cyan")
    for zh, en in headings:
        table.add_column(_say({"zh": zh, "en": en}, language), overflow="fold")
    return table


def _shares(found: Document, language: str) -> Table:
    table = _table(language, ("占比", "share"), ("数值", "value"), ("依据", "counts"), ("条款", "clause"))
    for share in found["shares"]:
        label, pct = _say(share["label"], language), _say(share["pct_says"], language)
        table.add_row(label, pct, words.counts_text(share, language), Text(share["clause"], style="dim"))
    return table


def _grades(found: Document, language: str) -> Table:
    table = _table(language, ("等级", "grade"), ("条件", "condition"), ("差距", "short by"))
    for grade in found["grades"]:
        for one in grade["conditions"]:
            mark = "✓" if one["is_met"] else "✗✗" if one["share"] == grade["first_failed"] else "✗"
            says = f"{mark} {_say(one['label'], language)} {_say(one['says'], language)}"
            condition = Text(says, style="green" if one["is_met"] else "red")
            table.add_row(grade["grade"], condition, _say(one["short_says"], language))
        table.add_section()
    return table


def _advice(advice: Document, language: str) -> Panel:
    lines = [Text(_say(advice["says"], language), style="bold")]
    lines += [Text(f"{number}. {_say(step['says'], language)}") for number, step in enumerate(advice["steps"], start=1)]
    if advice["grade_after"]:
        lines.append(Text(f"→ {advice['grade_after']}", style="green"))
    title = _say({"zh": "怎样提升等级", "en": "What would lift the grade"}, language)
    return Panel(Text("\n").join(lines), title=title, title_align="left")


def _quartiles(found: Document, name: str, one: Document, language: str) -> str:
    label = next(share["label"] for share in found["shares"] if share["id"] == name)
    return words.quartiles_text(found["peers"], label, one, language)
