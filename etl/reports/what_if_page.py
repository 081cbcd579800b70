"""The what-if report as one page: matrix, reasons, lists, drift and gates, Chinese first, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from etl.gates import LABELS
from etl.grading.gates import BANK, NOT_RATED, OVERALL, TOWN
from etl.ledger.records import Report
from etl.publish.manifest import SYNTHETIC_MARK
from etl.reports import charts, page
from etl.reports.migration import OFFERS, total
from etl.reports.page import Markup
from etl.vocabulary import GRADES, VERDICT_LABELS

ORDER: Final = (*GRADES, NOT_RATED)
CAUSE_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "points": ("得分变化", "points"),
    "cut_offs": ("等级线变化", "cut-offs"),
    "veto": ("一票否决变化", "vetoes"),
    "rating": ("参评资格变化", "rated or not"),
    "hold": ("暂缓变化", "holds"),
}
LIST_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "coupons": ("信易享（AA 级以上）", "coupons (AA and above)"),
    OFFERS: ("授信额度", "credit lines"),
    "mart_honour_eligibility": ("荣誉评选", "honours"),
}
_HEAT = "11, 93, 75"
_STYLE = Markup(
    "<style>.chart { width: 100%; max-width: 40rem; height: auto; } .heat td, .heat th { text-align: right; } "
    ".heat th:first-child { text-align: left; } td.same { outline: 1px solid #9aa5b1; } details { margin: .5rem 0; } "
    ".verdict { font-weight: 600; } .block { color: #b3261e; } .warn { color: #8a5600; }</style>"
)


def what_if_html(report: Report) -> str:
    """The whole page of a report."""
    return page.page(f"试算 What if {report.period}", _parts(report))


def _parts(report: Report) -> Iterator[Markup]:
    content = report.content
    mark = f"{SYNTHETIC_MARK} · " if content["synthetic"] else ""
    yield _STYLE
    yield page.heading(
        1, f"{mark}办法试算 {report.period}", "What a candidate policy would change; nothing is published"
    )
    yield _facts(report)
    yield page.heading(2, "变动矩阵", "Migration: rows now, columns under the candidate", "matrix")
    yield _heat(total(content["matrix"], OVERALL, ""))
    yield _distribution(content["matrix"])
    yield from _reasons(content)
    yield page.heading(2, "名单增减", "Lists gained and lost", "lists")
    yield from (_list(name, rows, content["names"]) for name, rows in content["lists"].items())
    yield from _places(content)
    yield from _drift(content)
    yield page.heading(2, "门槛", "Gates", "gates")
    yield _gates(content)
    for kind, zh, en in ((TOWN, "各镇矩阵", "Migration by town"), (BANK, "各行矩阵", "Migration by bank")):
        yield page.heading(2, zh, en, kind)
        yield from _folded(content, kind)
    yield Markup(f"<footer>{page.both('报告哈希：批准以此为准', 'Hash of this report, which an approval names')}"
                 f"{page.code(report.report_hash)}</footer>")  # fmt: skip


def _facts(report: Report) -> Markup:
    policy, movers = report.content["policy"], report.content["movers"]
    changes = f"{movers['households']:,}（升 up {movers['up']:,}，降 down {movers['down']:,}）"
    return page.facts(
        [
            ("办法 policy", f"{policy['name']} · {policy['file']}"),
            ("现行 → 试算 versions", f"{_said(policy['standing'])} → {_said(policy['candidate'])}"),
            (
                "性质 status",
                "、".join("示意 illustrative" if one == "illustrative" else one for one in policy["status"]),
            ),
            ("等级变动户 households that move", changes),
            ("新评／不再评 newly, no longer rated", f"{movers['newly_rated']:,} / {movers['no_longer_rated']:,}"),
            ("门槛结论 verdict", _verdict(report.verdict)),
            ("批准 to approve", page.code(f"creditvillage release approve {report.report_hash[:12]} --reason …")),
        ]
    )


def _said(versions: Mapping[str, str]) -> str:
    return ", ".join(version if scope == "county" else f"{scope}: {version}" for scope, version in versions.items())


def _verdict(verdict: str) -> Markup:
    label = VERDICT_LABELS[verdict]
    return Markup(f'<span class="verdict {verdict}">{label["zh"]} {label["en"]}</span>')


def _grade(grade: str) -> str:
    return "不评 n/r" if grade == NOT_RATED else grade


def _heat(cells: Mapping[tuple[str, str], int]) -> Markup:
    """The matrix, each row's shares as heat; the diagonal, where nothing changes, is framed."""
    head = "".join(f"<th>{_grade(grade)}</th>" for grade in ("→", *ORDER))
    rows = "\n".join(f"<tr><th>{_grade(before)}</th>{_heat_row(cells, before)}</tr>" for before in ORDER)
    table = f'<table class="heat"><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
    return Markup(f'<div class="scroll">{table}</div>')


def _heat_row(cells: Mapping[tuple[str, str], int], before: str) -> str:
    counts = [cells.get((before, after), 0) for after in ORDER]
    whole = sum(counts) or 1
    return "".join(
        f'<td{" class=same" if after == before else ""} style="background: rgba({_HEAT}, {count * 60 // whole / 100})">'
        f"{f'{count:,}' if count else '·'}</td>"
        for after, count in zip(ORDER, counts, strict=True)
    )


def _distribution(matrix: Sequence[Mapping[str, Any]]) -> Markup:
    cells = total(matrix, OVERALL, "")
    rows = [
        (
            _grade(grade),
            sum(count for (before, _), count in cells.items() if before == grade),
            sum(count for (_, after), count in cells.items() if after == grade),
        )
        for grade in ORDER
    ]
    return charts.pairs("各等级户数 households by grade", rows, ("现行 now", "试算 candidate"))


def _reasons(content: Mapping[str, Any]) -> Iterator[Markup]:
    reasons = content["reasons"]
    yield page.heading(2, "变动原因", "Why households move", "reasons")
    causes = [[_causes(one["cause"]), one["households"], one["up"], one["down"]] for one in reasons["causes"]]
    yield page.table(["原因 cause", "户 households", "升 up", "降 down"], causes)
    yield page.heading(3, "指标", "Indicators whose points differ, of households rated both times")
    columns = [
        "指标 indicator",
        "户 households",
        "得分升 gaining",
        "得分降 losing",
        "升分合计 gained",
        "降分合计 lost",
        "其中等级变动 movers",
    ]
    keys = ("indicator", "households", "gaining", "losing", "points_gained", "points_lost", "movers")
    yield page.table(columns, [[one[key] for key in keys] for one in reasons["indicators"]])
    yield page.heading(3, "最常见的变动", "Most frequent moves: from, to, causes, points moved")
    rows = [
        [f"{_grade(one['before'])} → {_grade(one['after'])}", one["households"], _causes(one["causes"]), one["reasons"]]
        for one in reasons["patterns"]
    ]
    yield page.table(["变动 move", "户 households", "原因 causes", "分项得分变化 points moved"], rows)


def _causes(causes: str) -> str:
    return "、".join(" ".join(CAUSE_LABELS[cause]) for cause in causes.split(",") if cause)


def _list(name: str, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Markup:
    zh, en = LIST_LABELS[name]
    columns = ["范围 group", "现行 now", "试算 candidate", "新增 gained", "退出 lost"]
    keys = ["before", "after", "gained", "lost"]
    if name == OFFERS:
        columns += ["提额 raised", "降额 lowered", "现行额度（元）limits now", "试算额度（元）limits then"]
        keys += ["raised", "lowered", "limit_before_yuan", "limit_after_yuan"]
    listed = [[names.get(row["code"], row["code"]), *(f"{Decimal(row[key]):,}" for key in keys)] for row in rows]
    return Markup(page.heading(3, zh, en) + page.table(columns, listed))


def _places(content: Mapping[str, Any]) -> Iterator[Markup]:
    yield page.heading(2, "村镇等级变动", "Villages and towns whose grade changes", "places")
    rows = [
        [row["name"] or row["code"], row["code"], f"{_grade(row['before'])} → {_grade(row['after'])}"]
        for row in content["places"]
    ]
    yield page.table(["村镇 place", "代码 code", "变动 move"], rows) if rows else page.paragraph("没有变动", "none")


def _drift(content: Mapping[str, Any]) -> Iterator[Markup]:
    yield page.heading(2, "分布漂移", "Drift: population stability index, candidate against now", "drift")
    for gate in ("grade_stability", "score_stability"):
        found = [one for one in content["gates"] if one["gate"] == gate and one["value"] is not None]
        rows = [(_group(one, content["names"]), Decimal(one["value"]), one["verdict"]) for one in found]
        bounds = {"提示 warn": "warn_from", "拦截 hold": "block_from"}
        marks = {name: Decimal(found[0]["bounds"][key]) for name, key in bounds.items()} if found else {}
        yield page.heading(3, LABELS[gate]["zh"], LABELS[gate]["en"])
        yield charts.bars(LABELS[gate]["en"], rows, marks)


def _group(gate: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return "全县 overall" if gate["kind"] == OVERALL else names.get(gate["code"], gate["code"])


def _gates(content: Mapping[str, Any]) -> Markup:
    shown = [one for one in content["gates"] if one["kind"] == OVERALL or one["verdict"] in ("warn", "block")]
    rows = [
        [
            page.both(LABELS[one["gate"]]["zh"], LABELS[one["gate"]]["en"]), _group(one, content["names"]), one["households"],
            one["value"], _bounds(one["bounds"]), _verdict(one["verdict"]),
        ]
        for one in shown
    ]  # fmt: skip
    return page.table(["门槛 gate", "范围 group", "户 households", "值 value", "界限 bounds", "结果 verdict"], rows)


def _bounds(bounds: Mapping[str, str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in bounds.items())


def _folded(content: Mapping[str, Any], kind: str) -> Iterable[Markup]:
    """One matrix a group, folded: its line says how many move."""
    codes = sorted({row["code"] for row in content["matrix"] if row["kind"] == kind})
    for code in codes:
        cells = total(content["matrix"], kind, code)
        moved = sum(count for (before, after), count in cells.items() if before != after)
        line = f"{content['names'].get(code, code)}：{sum(cells.values()):,} 户，变动 {moved:,} move"
        yield Markup(f"<details><summary>{page.html(line)}</summary>{_heat(cells)}</details>")
