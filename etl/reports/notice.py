"""Notices of cases that have ended: the grade before, the grade after, why, and the points that changed.

Two texts for each: the village's, in its outbox, with the blocks and vetoes that `config/explain.yml` lets a village see and
no value of a bank; and the household's own, whole, for the county's desk to hand over (`outbox/county/notices/`). Neither
speaks of anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from etl import months
from etl.casework import SYSTEM, Standing, graded_month, standing_of, text_of
from etl.grading.policy import ScorecardVersion, load_policies
from etl.ledger import cases as ledger
from etl.ledger.cases import Case, Step
from etl.ledger.records import Grading
from etl.period import Period
from etl.registry import Bilingual
from etl.reports.explain_guide import Sight, load_guide
from etl.reports.explain_words import number_text
from etl.vocabulary import CASE_KIND_LABELS, CASE_VERDICT_LABELS
from etl.workspace import Workspace

DESK: Final = "county"
_GRADES, _POINTS = "core_household_grades", "core_household_points"
_CHANGED = """
SELECT
  coalesce(a.indicator, b.indicator) AS indicator, coalesce(a.block, b.block) AS block, b.points AS was, a.points AS now
FROM (SELECT * FROM points_before WHERE household_key = $key) AS b
FULL JOIN (SELECT * FROM points_after WHERE household_key = $key) AS a ON a.indicator = b.indicator
WHERE b.points IS DISTINCT FROM a.points
ORDER BY block, indicator
"""
_VETOES = "SELECT coalesce(veto_ids, '') FROM {relation} WHERE household_key = $key"


@dataclass(frozen=True)
class Change:
    """An indicator whose points are others than before; None where the household had no score."""

    indicator: str
    block: str
    was: Decimal | None
    now: Decimal | None


@dataclass(frozen=True)
class Outcome:
    """What a case came to for its household: where it stands, and what changed since the case was opened."""

    standing: Standing
    before: str | None
    changes: Sequence[Change] = ()
    vetoes_lifted: Sequence[str] = ()
    vetoes_new: Sequence[str] = ()


def notify(ws: Workspace, *, now: datetime) -> list[Path]:
    """Write the notices of cases that have ended, once the grades that follow from them are there."""
    waiting = [case for case in ledger.all_cases(ws.ledger) if _is_settled(case) and "notified" not in case.steps]
    if not waiting:
        return []
    graded = graded_month(ws, None)
    if months.inputs_of(ws, graded.period).fingerprint != graded.fingerprint:
        return []
    due = [case for case in waiting if _has_followed(case, Period.parse(graded.period))]
    written = (_notice(ws, case, graded, now=now) for case in due)
    return [path for path in written if path is not None]


def _is_settled(case: Case) -> bool:
    return not case.is_open or (case.case_kind == "override" and case.verdict is not None)


def _has_followed(case: Case, graded: Period) -> bool:
    """Whether the grade that follows is there: of a repair the first one after the day of its decision."""
    decided_on = case.on("answered") if case.case_kind == "repair" and case.verdict == "upheld" else None
    return decided_on is None or decided_on <= graded.end


def _notice(ws: Workspace, case: Case, graded: Grading, *, now: datetime) -> Path | None:
    """The village's notice, with the household's own beside it; None where nobody gave the household's number."""
    today = now.astimezone(ZoneInfo(ws.registry.county.timezone)).date()
    household_no = text_of(ws, case, "household_no")
    standing = standing_of(ws, graded, case.household_key)
    path = None
    if household_no is not None and standing is not None:
        outcome, why = outcome_of(ws, case, graded, standing), text_of(ws, case, "answer")
        sight = (
            load_guide(ws.settings.config).audiences.get("village", {}).get("household", Sight(blocks=[], vetoes=[]))
        )
        path = ws.settings.outbox / standing.village_code / "notices" / f"{case.case_id}.txt"
        _write(path, notice_text(ws, case, household_no, outcome, why=why, sight=sight))
        own = ws.settings.outbox / DESK / "notices" / f"{case.case_id}.household.txt"
        _write(own, notice_text(ws, case, household_no, outcome, why=why, sight=None))
    ledger.add_step(ws.ledger, case.case_id, Step("notified", today, SYSTEM), now=now)
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8-sig", newline="\r\n")


def outcome_of(ws: Workspace, case: Case, graded: Grading, standing: Standing) -> Outcome:
    """What changed between the grading that stood when the case was opened and this one."""
    known = {one.grading_id: one for one in ws.ledger.gradings()} if case.grading_id else {}
    before = known.get(case.grading_id or 0)
    if before is None:
        return Outcome(standing, None)
    with ws.engine() as engine:
        for when, grading in (("before", before), ("after", graded)):
            months.register_staged(engine, ws, f"points_{when}", _POINTS, [grading])
            months.register_staged(engine, ws, f"grades_{when}", _GRADES, [grading])
        key = {"key": case.household_key}
        changes = [Change(*row) for row in engine.fetch(_CHANGED, key)]
        was, now = (
            {veto for (ids,) in engine.fetch(_VETOES.format(relation=f"grades_{when}"), key) for veto in ids.split(",")}
            for when in ("before", "after")
        )
    return Outcome(standing, before.period, changes, sorted(was - now - {""}), sorted(now - was - {""}))


def notice_text(
    ws: Workspace, case: Case, household_no: str, outcome: Outcome, *, why: str | None, sight: Sight | None
) -> str:
    """What is read by the household (`sight` None: all of it) or by its village. Chinese first."""
    county, standing = ws.registry.county, outcome.standing
    kind, verdict = CASE_KIND_LABELS[case.case_kind], CASE_VERDICT_LABELS.get(case.verdict or "", {"zh": "", "en": ""})
    lines = [
        *(["合成数据 synthetic data"] if county.synthetic else []),
        f"{county.name.zh}信用等级事项办理结果通知 Outcome of a case about a credit grade",
        "",
        f"事项编号 case: {case.case_id}（{kind['zh']} {kind['en']}）",
        f"户号 household: {household_no}",
        f"受理日期 opened on: {case.opened_on}",
        f"答复日期 answered on: {case.on('answered') or '—'}",
        f"结论 outcome: {verdict['zh']} {verdict['en']}".rstrip(),
        f"办理前等级 grade before: {_said(case.grade_before, None)}{f'（{outcome.before}）' if outcome.before else ''}",
        f"办理后等级 grade after: {_said(standing.effective_grade, standing.not_rated_reason)}（{standing.period}）",
        f"理由 why: {why or '—'}",
        "",
        *_changes(ws, outcome, sight),
        f"如有不同意见，可再次提出异议 You may object again: {county.contact.zh} {county.contact.phone}",
    ]
    return "\n".join(lines) + "\n"


def _said(grade: str | None, reason: str | None) -> str:
    return grade or f"不予评定 not rated{f' ({reason})' if reason else ''}"


def _changes(ws: Workspace, outcome: Outcome, sight: Sight | None) -> Iterator[str]:
    """A line for each indicator whose points changed, and each veto that came or went, as far as the reader sees them."""
    if outcome.before is None:
        return
    yield "得分变化 points that changed（办理前 before → 办理后 after）:"
    lines = list(_changed_lines(outcome, sight, *_labels(ws, Period.parse(outcome.standing.period))))
    yield from lines or ["  无 none"]
    if sight is not None:
        yield "  银行等其他方面的变化只告知农户本人 other changes, of bank data say, are told to the household alone"
    yield ""


def _changed_lines(
    outcome: Outcome, sight: Sight | None, labels: Mapping[str, Bilingual], vetoes: Mapping[str, Bilingual]
) -> Iterator[str]:
    for one in outcome.changes:
        if sight is None or one.block in sight.blocks:
            label = labels.get(one.indicator, Bilingual(zh=one.indicator, en=one.indicator))
            yield f"  {label.zh} {label.en}: {_points(one.was)} → {_points(one.now)}"
    for says, ids in (("解除 lifted", outcome.vetoes_lifted), ("适用 in force", outcome.vetoes_new)):
        for veto in ids:
            if sight is None or veto in sight.vetoes:
                label = vetoes.get(veto, Bilingual(zh=veto, en=veto))
                yield f"  一票否决 veto {says}: {label.zh} {label.en}"


def _points(points: Decimal | None) -> str:
    return "—" if points is None else number_text(points)


def _labels(ws: Workspace, period: Period) -> tuple[Mapping[str, Bilingual], Mapping[str, Bilingual]]:
    """{indicator: label} and {veto: label} of the month's scorecards of households, those of single towns included."""
    scopes = load_policies(ws.settings.config, period, ws.registry).in_force["household"].values()
    versions = [version for version in scopes if isinstance(version, ScorecardVersion)]
    return (
        {one.id: one.label for version in versions for one in version.indicators},
        {one.id: one.label for version in versions for one in version.veto},
    )
