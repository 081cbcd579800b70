"""An explanation as one page to read on a phone or to print: Chinese first, the English below or alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from html import escape
from typing import Any, Final

from etl.reports import explain_words as words
from etl.reports.page import Markup, page

Document = Mapping[str, Any]
_LANGUAGE_TAGS: Final = {"zh": "zh-CN", "en": "en", "both": "zh-CN"}
_STYLE: Final = """
body { max-width: 46rem; }
.top { display: flex; gap: 1.25rem; align-items: center; margin: 1rem 0; padding: 1rem; background: var(--head); border-radius: 8px; }
.grade { font-size: 2.6rem; font-weight: 700; line-height: 1; color: var(--accent); min-width: 6rem; text-align: center; }
.grade.none { font-size: 1.3rem; color: var(--soft); } .top > div:last-child { flex: 1; min-width: 0; }
.notice { padding: .5rem .75rem; border-left: 4px solid #b7791f; background: #fdf6e7; margin: .6rem 0; }
.good { border-color: var(--accent); background: #eef7f4; }
.line { padding: .5rem 0; border-bottom: 1px solid var(--line); break-inside: avoid; }
.line > p { margin: 0; } .line > p:first-child { display: flex; justify-content: space-between; gap: .75rem; }
.line b { font-weight: 600; } .line .points { white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { display: block; height: .5rem; margin: .25rem 0; background: var(--line); border-radius: 3px; overflow: hidden;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.bar i { display: block; height: 100%; background: var(--accent); } .bar.low i { background: #b7791f; }
.soft { color: var(--soft); font-size: .87em; overflow-wrap: anywhere; } h2 { break-after: avoid; }
ol, ul { padding-left: 1.3rem; margin: .4rem 0; } li { margin: .3rem 0; }
@media (max-width: 40rem) { .top { gap: .75rem; padding: .75rem; } .grade { font-size: 2rem; min-width: 4rem; } }
@media print { .top { margin: .4rem 0; } h2 { margin: .9rem 0 .3rem; } .line { padding: .2rem 0; } }
"""
_HEADINGS: Final = {
    "indicators": {"zh": "得分明细", "en": "Points, one by one"},
    "advice": {"zh": "怎样提升等级", "en": "What would lift the grade"},
    "endings": {"zh": words.ENDINGS.zh, "en": words.ENDINGS.en},
    "peers": {"zh": "同类比较", "en": "Among peers"},
    "sources": {"zh": "数据从哪里来", "en": "Where the data come from"},
    "objection": {"zh": "有异议怎么办", "en": "How to object"},
    "rights": {"zh": "您的权利", "en": "Your rights"},
    "vetoes": {"zh": "一票否决事项", "en": "Vetoes"},
    "audit": {"zh": "核查信息", "en": "For the audit"},
}


def as_page(found: Document, language: str) -> str:
    """The page of one document, in zh, en or both."""
    sections = (_head, _notices, _indicators, _vetoes, _advice, _endings, _peers, _sources, _objection, _rights, _audit)
    parts = [part for section in sections for part in section(found, language)]
    title = words.in_language({"zh": words.TITLE.zh, "en": words.TITLE.en}, language)
    return page(title, parts, style=_STYLE, language=_LANGUAGE_TAGS[language])


def _text(text: Mapping[str, str] | None, language: str) -> str:
    """A text as HTML; in both languages the English stands below, small."""
    if text is None:
        return ""
    if language != "both":
        return escape(text[language])
    same = text["zh"] == text["en"]
    return escape(text["zh"]) if same else f'{escape(text["zh"])}<span class="en">{escape(text["en"])}</span>'


def _inline(text: Mapping[str, str] | None, language: str) -> str:
    return escape(words.in_language(text, language))


def _heading(name: str, language: str) -> Markup:
    return Markup(f"<h2>{_inline(_HEADINGS[name], language)}</h2>")


def _bar(points: Decimal, most: Decimal) -> str:
    share = max(0, min(100, int(points * 100 / most))) if most > 0 else 0
    return f'<span class="bar{" low" if share < 50 else ""}"><i style="width:{share}%"></i></span>'


def _list(kind: str, items: Iterable[str]) -> Markup:
    return Markup(f"<{kind}>{''.join(f'<li>{item}</li>' for item in items)}</{kind}>")


def _say(language: str, zh: str, en: str) -> str:
    return _inline({"zh": zh, "en": en}, language)


def _head(found: Document, language: str) -> Iterator[Markup]:
    grade, place = found["grade"], found["place"]
    where = " ".join(filter(None, (place["town_name"], place["village_name"])))
    title = {"zh": words.TITLE.zh, "en": words.TITLE.en}
    yield Markup(f"<h1>{_text(title, language)}</h1>")
    who = f"{_inline(found['subject_says'], language)} {escape(found['number'])}"
    yield Markup(f"<p class='soft'>{who} · {found['period']} · {escape(where)}</p>")
    shown = grade["effective"] or _inline({"zh": words.NOT_RATED_GRADE.zh, "en": words.NOT_RATED_GRADE.en}, language)
    kind = "grade" if grade["effective"] else "grade none"
    yield Markup(f'<div class="top"><div class="{kind}">{shown}</div><div>{_grade_lines(found, language)}</div></div>')


def _grade_lines(found: Document, language: str) -> str:
    grade = found["grade"]
    lines = []
    if grade["effective"]:
        since = grade["effective_from_on"]
        now = (
            _say(language, "现行等级，自", "grade in effect since")
            if since
            else _say(language, "现行等级", "grade in effect")
        )
        lines.append(f"<p>{now} {since or ''}</p>")
    if grade["not_rated_reason"]:
        lines.append(f"<p>{_text(grade['not_rated_says'], language)}</p>")
    if grade.get("score") is not None:
        score = _say(language, "总分", "score")
        of_total = f" / {_number(grade['total'])}" if grade["total"] else ""
        lines.append(f"<p>{score} <b>{_number(grade['score'])}</b>{of_total}</p>")
        lines.append(_bar(grade["score"], grade["total"]) if grade["total"] else "")
        bounds = "　".join(
            f"{cut['grade']} ≥ {cut['at_least']}" for cut in grade["cut_offs"] if cut["at_least"] is not None
        )
        lines.append(f"<p class='soft'>{bounds}</p>")
    if grade.get("computed") != grade["effective"] and grade.get("computed"):
        lines.append(f"<p>{_say(language, '本月计算等级', 'grade computed this month')} <b>{grade['computed']}</b></p>")
    return "".join(lines)


def _number(value: Decimal) -> str:
    return words.number_text(Decimal(value))


def _notices(found: Document, language: str) -> Iterator[Markup]:
    policy = found["policy"]
    if found["synthetic"]:
        yield Markup(f'<div class="notice">{_text(found["synthetic"], language)}</div>')
    if found["known"]:
        yield Markup(f'<div class="notice">{escape(words.known_text(found["known"], language))}</div>')
    name = _say(language, "评定办法", "policy")
    status = _inline(policy["status_says"], language)
    yield Markup(
        f'<div class="notice">{name} {escape(policy["name"])} {escape(policy["version"])}{words.colon(language)}{status}</div>'
    )
    if found["hold"]:
        hold = found["hold"]
        ends = f"<p class='soft'>{_inline(hold['ends'], language)}</p>"
        yield Markup(f'<div class="notice">{_text(hold["says"], language)}{ends}</div>')
    for case in found["cases"]:
        yield Markup(f'<div class="notice">{_case(case, language)}</div>')
    if found["note"]:
        yield Markup(f'<div class="notice">{_text(found["note"], language)}</div>')


def _case(case: Document, language: str) -> str:
    opened, due = _say(language, "受理", "opened"), _say(language, "答复期限", "to be answered by")
    ends = f"{_inline(case['verdict_says'], language)}" if case["verdict"] else f"{due} {case['answer_due_on']}"
    kind = _inline(case["kind_says"], language)
    return f"{kind} <code>{escape(case['case_id'])}</code> · {opened} {case['opened_on']} · {ends}"


def _indicators(found: Document, language: str) -> Iterator[Markup]:
    if not found["indicators"]:
        return
    yield _heading("indicators", language)
    for block in found["blocks"]:
        sums = f"{_number(block['points'])} / {_number(block['max_points'])}"
        yield Markup(f"<h3>{_inline(block['label'], language)} <small>{sums}</small></h3>")
        for line in found["indicators"]:
            if line["block"] == block["id"]:
                yield _line(line, language)


def _line(line: Document, language: str) -> Markup:
    says = _inline(line["value_says"], language)
    band = _inline(line["band_says"], language)
    evidence = _inline(line["evidence"]["says"], language)
    references = " ".join(map(escape, line["evidence"]["references"]))
    until = _until(line, language)
    points = f"{_number(line['points'])} / {_number(line['max_points'])}"
    rest = " · ".join(filter(None, (evidence, references, until, escape(line["clause"]))))
    return Markup(
        f'<div class="line"><p><b>{_inline(line["label"], language)}</b><span class="points">{points}</span></p>'
        f"{_bar(line['points'], line['max_points'])}"
        f"<p>{' · '.join(dict.fromkeys(filter(None, (says, band))))}</p><p class='soft'>{rest}</p></div>"
    )


def _until(line: Document, language: str) -> str:
    until = line["counts_until"]
    return f"{_say(language, '计至', 'counts until')} {until}" if until else ""


def _vetoes(found: Document, language: str) -> Iterator[Markup]:
    if found["vetoes"]:
        yield _heading("vetoes", language)
        capped = _say(language, "最高等级", "at most")
        yield _list(
            "ul",
            (
                f"{_inline(veto['label'], language)}（{capped} {veto['cap']}） · <span class='soft'>{escape(veto['clause'])}</span>"
                for veto in found["vetoes"]
            ),
        )


def _advice(found: Document, language: str) -> Iterator[Markup]:
    advice = found["advice"]
    if advice is None:
        return
    yield _heading("advice", language)
    kind = "notice good" if advice["outcome"] == "found" else "notice"
    yield Markup(f'<div class="{kind}">{_text(advice["says"], language)}</div>')
    if advice["steps"]:
        yield _list("ol", (_step(step, language) for step in advice["steps"]))
        after = _say(language, "重新计算的总分", "score when computed again")
        yield Markup(f"<p>{after} <b>{_number(advice['score_after'])}</b> → <b>{advice['grade_after']}</b></p>")


def _step(step: Document, language: str) -> str:
    points = f"{_number(step['points_now'])} → {_number(step['points_then'])}"
    unit = _say(language, "分", "points")
    return f"{_text(step['says'], language)}<p class='soft'>{_inline(step['label'], language)}{words.colon(language)}{points} {unit}</p>"


def _endings(found: Document, language: str) -> Iterator[Markup]:
    endings = found["endings"]
    if endings is None:
        return
    yield _heading("endings", language)
    yield _list("ul", (_ending(item, language) for item in endings["items"]))
    if endings["together"]:
        all_of_them = _say(language, "全部消除后", "without any of them")
        yield Markup(f"<p>{all_of_them} · {escape(words.then_text(endings['together'], language))}</p>")


def _ending(item: Document, language: str) -> str:
    ways = "".join(
        f"<li>{_text(way, language)} <span class='soft'>{escape(way['clause'])}</span></li>" for way in item["ways"]
    )
    then = escape(words.then_text(item["then"], language))
    return f"<b>{escape(words.item_text(item, language))}</b><ul>{ways}</ul><p>{then}</p>"


def _peers(found: Document, language: str) -> Iterator[Markup]:
    peers = found["peers"]
    if not peers:
        return
    yield _heading("peers", language)
    names = {block["id"]: block["label"] for block in found["blocks"]} | {"score": {"zh": "总分", "en": "score"}}
    says, size = peers["group_says"], peers["size"]
    group = _say(language, f"{says['zh']}已评 {size} 个", f"{size} that are rated in {says['en']}")
    yield Markup(f"<p>{group}</p>")
    quartile = partial(_quartile, language=language)
    yield _list("ul", (quartile(names[name], one) for name, one in peers["quartiles"].items()))


def _quartile(name: Mapping[str, str], one: Document, *, language: str) -> str:
    bounds = " / ".join(_number(one[bound]) for bound in ("low", "median", "high"))
    says = _inline(one["says"], language)
    quarters = _say(language, "四分位", "quartiles")
    return f"{_inline(name, language)} {_number(one['own'])}{words.colon(language)}{says} <span class='soft'>{quarters} {bounds}</span>"


def _sources(found: Document, language: str) -> Iterator[Markup]:
    if found["sources"]:
        yield _heading("sources", language)
        labels = {line["id"]: line["label"] for line in found["indicators"]}
        yield _list("ul", (_source(source, labels, language) for source in found["sources"]))


def _source(source: Document, labels: Mapping[str, Mapping[str, str]], language: str) -> str:
    suppliers = words.listed((_inline(name, language) for name in source["suppliers"]), language)
    used = words.listed(
        (_inline(labels[name], "en" if language == "en" else "zh") for name in source["indicators"]), language
    )
    return f"{suppliers or escape(source['dataset'])} <span class='soft'>{used}</span>"


def _objection(found: Document, language: str) -> Iterator[Markup]:
    objection = found["rights"]["objection"]
    yield _heading("objection", language)
    yield _list("ol", (_text(route, language) for route in objection["routes"]))
    days = (objection["marked_within_days"], objection["answered_within_days"])
    zh = f"收到异议后 {days[0]} 日内作出标注，{days[1]} 日内书面答复"
    en = f"marked within {days[0]} day, answered in writing within {days[1]} days"
    yield Markup(f"<p>{_text({'zh': zh, 'en': en}, language)}</p>")
    contact = objection["contact"]
    yield Markup(f"<p>{_text(contact, language)} {escape(contact['phone'])}</p>")


def _rights(found: Document, language: str) -> Iterator[Markup]:
    yield _heading("rights", language)
    rights = found["rights"]["all"]
    yield _list(
        "ul", (f"{_text(right, language)} <span class='soft'>{escape(right['clause'])}</span>" for right in rights)
    )


def _audit(found: Document, language: str) -> Iterator[Markup]:
    audit = found["audit"]
    if audit is None:
        return
    yield _heading("audit", language)
    plain = {name: value for name, value in audit.items() if isinstance(value, str)}
    yield _list("ul", (f"{escape(name)} <code>{escape(str(value))}</code>" for name, value in plain.items()))
    yield _list(
        "ul",
        (
            f"{escape(one['supplier'])}/{escape(one['dataset'])} <code>{one['delivery_id']}</code> <code>{one['sha256']}</code>"
            for one in audit["deliveries"]
        ),
    )
