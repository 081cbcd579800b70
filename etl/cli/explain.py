"""`creditvillage explain`: why a grade is what it is, at a glance, as JSON, or as a page for the household."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from etl.cli import tables
from etl.cli.explain_place import place_parts
from etl.reports import explain_words as words
from etl.reports.explain import explain
from etl.reports.explain_page import as_page
from etl.reports.explain_place import PLACE_SCHEMA
from etl.reports.explain_place_page import as_place_page
from etl.settings import Settings
from etl.vocabulary import ConfigurationError
from etl.workspace import Workspace

Document = Mapping[str, Any]
_BAR: Final = 12
_COLOURS: Final = {"AAA": "bold green", "AA": "green", "A": "cyan", "B": "yellow", "C": "yellow", "D": "red"}


def explain_grade(
    settings: Settings,
    number: str,
    period: str | None,
    *,
    as_of: date | None,
    subject: str | None,
    audience: str,
    language: str,
    html_path: Path | None,
    as_json: bool,
    console: Console,
) -> None:
    """Print the explanation of one grade; with `html_path` also write it as a page.

    Raises ConfigurationError for an unknown audience, subject, language or folder, DataError for an unknown number or month,
    or a day on which nothing was known.
    """
    if language not in words.LANGUAGES:
        raise ConfigurationError("--lang", language, "no such language", f"use one of {', '.join(words.LANGUAGES)}")
    if html_path is not None and not html_path.resolve().parent.is_dir():
        raise ConfigurationError("--html", str(html_path), "no such folder", "name a file in a folder that is there")
    ws = Workspace(settings)
    ws.ledger.migrate()
    found = explain(ws, number, period, audience, subject=subject, as_of=as_of)
    is_place = found["schema"] == PLACE_SCHEMA
    if html_path is not None:
        html_path.write_text((as_place_page if is_place else as_page)(found, language), encoding="utf-8")
    if as_json:
        console.out(tables.as_json_text(found), highlight=False)
        return
    for part in (place_parts if is_place else _parts)(found, language):
        console.print(part, highlight=False)


def _parts(found: Document, language: str) -> Iterator[object]:
    yield _summary(found, language)
    if found["indicators"]:
        yield _table(found, language)
    for veto in found["vetoes"]:
        yield Text(f"✗ {_say(veto['label'], language)} → {veto['cap']}  {veto['clause']}", style="red")
    if found["advice"]:
        yield _advice(found["advice"], language)
    if found["endings"]:
        yield _endings(found["endings"], language)
    yield from _closing(found, language)


def _say(text: Mapping[str, str] | None, language: str) -> str:
    return words.in_language(text, language)


def _summary(found: Document, language: str) -> Panel:
    grade, place, policy = found["grade"], found["place"], found["policy"]
    shown = grade["effective"] or "—"
    lines = [Text.assemble((f" {shown} ", f"reverse {_COLOURS.get(shown, 'dim')}"), "  ", *_standing(found, language))]
    if grade.get("score") is not None:
        lines.append(_score(grade["score"], grade["total"]))
    if found["hold"]:
        hold = found["hold"]
        lines.append(Text(f"‖ {_say(hold['says'], language)}；{_say(hold['ends'], language)}", style="yellow"))
    lines += [Text(_case(case, language), style="yellow") for case in found["cases"]]
    if found["note"]:
        lines.append(Text(_say(found["note"], language), style="yellow"))
    if found["known"]:
        lines.append(Text(words.known_text(found["known"], language), style="yellow"))
    status = _say(policy["status_says"], language)
    lines.append(Text(f"{policy['name']} {policy['version']}{words.colon(language)}{status}", style="dim"))
    if found["synthetic"]:
        lines.append(Text(_say(found["synthetic"], language), style="dim"))
    where = " ".join(filter(None, (place["town_name"], place["village_name"])))
    title = f"{_say({'zh': words.TITLE.zh, 'en': words.TITLE.en}, language)} · {found['number']} · {found['period']} · {where}"
    return Panel(Text("\n").join(lines), title=escape(title), title_align="left")


def _case(case: Document, language: str) -> str:
    due = _say(
        {"zh": f"答复期限 {case['answer_due_on']}", "en": f"to be answered by {case['answer_due_on']}"}, language
    )
    ends = _say(case["verdict_says"], language) if case["verdict"] else due
    return f"※ {_say(case['kind_says'], language)} {case['case_id']}  {case['opened_on']}  {ends}"


def _score(score: Decimal, total: Decimal | None) -> Text:
    if not total:
        return Text(_number(score))
    return Text(f"{_number(score)} / {_number(total)}  {tables.bar(float(score / total), 40)}")


def _standing(found: Document, language: str) -> Iterator[str]:
    grade = found["grade"]
    if grade["not_rated_reason"]:
        yield _say(grade["not_rated_says"], language)
        return
    since = grade["effective_from_on"]
    zh, en = (f"，自 {since}", f" since {since}") if since else ("", "")
    yield _say({"zh": f"现行等级{zh}", "en": f"grade in effect{en}"}, language)
    if grade.get("computed") and grade["computed"] != grade["effective"]:
        yield "  " + _say({"zh": f"（计算等级 {grade['computed']}）", "en": f"computed {grade['computed']}"}, language)


def _table(found: Document, language: str) -> Table:
    table = Table(header_style="bold cyan", show_lines=False)
    headings = {
        "label": {"zh": "指标", "en": "indicator"}, "value": {"zh": "情况", "en": "value"},
        "points": {"zh": "得分", "en": "points"}, "band": {"zh": "档次", "en": "band"},
        "evidence": {"zh": "依据", "en": "evidence"}, "clause": {"zh": "条款", "en": "clause"},
    }  # fmt: skip
    for name, heading in headings.items():
        table.add_column(_say(heading, language), overflow="fold", no_wrap=name == "points")
    for block in found["blocks"]:
        table.add_row(
            Text(_say(block["label"], language), style="bold"),
            "",
            _bar(block["points"], block["max_points"]),
            "",
            "",
            "",
        )
        for line in (line for line in found["indicators"] if line["block"] == block["id"]):
            table.add_row(*_line(line, language))
        table.add_section()
    return table


def _line(line: Document, language: str) -> list[Text | str]:
    evidence = line["evidence"]
    references = [evidence["raw"]] if evidence["raw"] else evidence["references"]
    until = (
        [_say({"zh": f"计至 {line['counts_until']}", "en": "counts until then"}, language)]
        if line["counts_until"]
        else []
    )
    return [
        Text(f"  {_say(line['label'], language)}"),
        Text(_say(line["value_says"], language)),
        _bar(line["points"], line["max_points"]),
        Text(_say(line["band_says"], language)),
        Text(" ".join([_say(evidence["says"], language), *references, *until])),
        Text(line["clause"], style="dim"),
    ]


def _bar(points: Decimal, most: Decimal) -> Text:
    share = float(points / most) if most > 0 else 0.0
    colour = "green" if share >= 0.75 else "yellow" if share >= 0.4 else "red"
    return Text.assemble((tables.bar(share, _BAR), colour), f" {_number(points):>4} / {_number(most)}")


def _number(value: Decimal) -> str:
    return words.number_text(Decimal(value))


def _advice(advice: Document, language: str) -> Panel:
    lines = [Text(_say(advice["says"], language), style="bold")]
    for position, step in enumerate(advice["steps"], start=1):
        gain = f"{_number(step['points_now'])} → {_number(step['points_then'])}"
        lines.append(Text(f"{position}. {_say(step['says'], language)}  [{gain}]"))
    if advice["steps"]:
        lines.append(Text(f"→ {_number(advice['score_after'])}  {advice['grade_after']}", style="green"))
    if advice["problem"]:
        lines.append(Text(advice["problem"], style="dim"))
    return Panel(
        Text("\n").join(lines),
        title=_say({"zh": "怎样提升等级", "en": "What would lift the grade"}, language),
        title_align="left",
        border_style="green" if advice["outcome"] == "found" else "yellow",
    )


def _endings(endings: Document, language: str) -> Panel:
    """Each list item against the household: what it stands on, what ends it, and the grade without it."""
    lines = []
    for item in endings["items"]:
        lines.append(Text(words.item_text(item, language), style="bold"))
        lines += [Text(f"  · {_say(way, language)}  {way['clause']}") for way in item["ways"]]
        lines.append(Text(f"  {words.then_text(item['then'], language)}", style="green"))
    if endings["together"]:
        all_of_them = _say({"zh": "全部消除后", "en": "without any of them"}, language)
        lines.append(Text(f"{all_of_them}  {words.then_text(endings['together'], language)}", style="green"))
    title = _say({"zh": words.ENDINGS.zh, "en": words.ENDINGS.en}, language)
    return Panel(Text("\n").join(lines), title=title, title_align="left", border_style="yellow")


def _closing(found: Document, language: str) -> Iterator[Text]:
    peers, objection = found["peers"], found["rights"]["objection"]
    if peers:
        for name, one in peers["quartiles"].items():
            yield Text(words.quartiles_text(peers, {"zh": name, "en": name}, one, language), style="dim")
    yield Text(words.objection_text(objection, language))
    if found["audit"]:
        yield Text(tables.as_json_text(found["audit"]), style="dim")
