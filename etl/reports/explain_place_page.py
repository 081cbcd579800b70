"""The explanation of a village's or town's grade as one page to read on a phone or to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from etl.reports import explain_words as words
from etl.reports.page import Markup, page

Document = Mapping[str, Any]
_LANGUAGE_TAGS = {"zh": "zh-CN", "en": "en", "both": "zh-CN"}
_STYLE = """
body { max-width: 46rem; }
.grade { font-size: 2.6rem; font-weight: 700; color: var(--accent); }
.notice { padding: .5rem .75rem; border-left: 4px solid #b7791f; background: #fdf6e7; margin: .6rem 0; }
.soft { color: var(--soft); font-size: .87em; } ul, ol { padding-left: 1.3rem; } .not { font-weight: 600; }
"""


def as_place_page(found: Document, language: str) -> str:
    """The page of one document, in zh, en or both."""
    sections = (_head, _notices, _shares, _grades, _advice, _villages, _peers, _objection)
    parts = [part for section in sections for part in section(found, language)]
    title = words.in_language({"zh": words.TITLE.zh, "en": words.TITLE.en}, language)
    return page(title, parts, style=_STYLE, language=_LANGUAGE_TAGS[language])


def _say(text: Mapping[str, str] | None, language: str) -> str:
    return escape(words.in_language(text, language))


def _heading(zh: str, en: str, language: str) -> Markup:
    return Markup(f"<h2>{_say({'zh': zh, 'en': en}, language)}</h2>")


def _list(items: Iterator[str]) -> Markup:
    return Markup(f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>")


def _head(found: Document, language: str) -> Iterator[Markup]:
    grade = found["grade"]
    yield Markup(f"<h1>{escape(words.place_title(found, language))}</h1>")
    yield Markup(f'<p class="grade">{grade["effective"] or _say(grade["not_rated_says"], language)}</p>')


def _notices(found: Document, language: str) -> Iterator[Markup]:
    policy = found["policy"]
    status = f"{escape(policy['name'])} {escape(policy['version'])}{words.colon(language)}{_say(policy['status_says'], language)}"
    said = [
        _say(part, language) for part in (found["synthetic"], found["note"], found["grade"]["input_state_says"]) if part
    ]
    if found["known"]:
        said.append(escape(words.known_text(found["known"], language)))
    yield from (Markup(f'<div class="notice">{one}</div>') for one in (status, *said))


def _shares(found: Document, language: str) -> Iterator[Markup]:
    yield _heading("占比与依据", "Shares and the counts behind them", language)
    yield _list(
        f"{_say(share['label'], language)} <b>{_say(share['pct_says'], language)}</b> "
        f"<span class='soft'>{escape(words.counts_text(share, language))} · {escape(share['clause'])}</span>"
        for share in found["shares"]
    )


def _grades(found: Document, language: str) -> Iterator[Markup]:
    yield _heading("各等级的条件", "What each grade asks for", language)
    for grade in found["grades"]:
        yield Markup(f"<h3>{escape(grade['grade'])}</h3>")
        yield _list(_condition(one, grade, language) for one in grade["conditions"])


def _condition(one: Document, grade: Document, language: str) -> str:
    mark = "✓" if one["is_met"] else "✗"
    says = f"{mark} {_say(one['label'], language)} {_say(one['says'], language)}"
    first = one["share"] == grade["first_failed"]
    short = f" <span class='soft'>{_say(one['short_says'], language)}</span>" if one["short_says"] else ""
    return (f'<span class="not">{says}</span>' if first else says) + short


def _advice(found: Document, language: str) -> Iterator[Markup]:
    advice = found["advice"]
    if advice is None:
        return
    yield _heading("怎样提升等级", "What would lift the grade", language)
    yield Markup(f'<div class="notice">{_say(advice["says"], language)}</div>')
    if advice["steps"]:
        yield _list(_say(step["says"], language) for step in advice["steps"])


def _villages(found: Document, language: str) -> Iterator[Markup]:
    if found["villages"]:
        yield _heading("所辖各村", "Its villages", language)
        yield Markup(f"<p>{escape(words.villages_text(found['villages']))}</p>")


def _peers(found: Document, language: str) -> Iterator[Markup]:
    peers = found["peers"]
    if peers:
        labels = {share["id"]: share["label"] for share in found["shares"]}
        yield _heading("同类比较", "Among peers", language)
        yield _list(
            escape(words.quartiles_text(peers, labels[name], one, language)) for name, one in peers["quartiles"].items()
        )


def _objection(found: Document, language: str) -> Iterator[Markup]:
    objection = found["rights"]["objection"]
    yield _heading("有异议怎么办", "How to object", language)
    yield _list(_say(route, language) for route in objection["routes"])
    yield Markup(f"<p>{escape(words.objection_text(objection, language))}</p>")
