"""The words of an explanation, in Chinese and English: bands, states, holds, reasons, outcomes of the search for advice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from etl.grading.bands import Band
from etl.registry import Bilingual


def _words(zh: str, en: str) -> Bilingual:
    return Bilingual(zh=zh, en=en)


ENDINGS: Final = _words("清单事项如何消除", "How list items end")
TITLE: Final = _words("信用等级说明", "Why this credit grade")
SYNTHETIC: Final = _words("合成数据，仅供演示", "synthetic data, for demonstration only")
POLICY_STATUS: Final[Mapping[str, Bilingual]] = {
    "illustrative": _words("示意办法，非官方口径", "illustrative, not an official policy"),
    "adopted": _words("已正式采用", "adopted"),
}
NOT_RATED: Final[Mapping[str, Bilingual]] = {
    "no_consent": _words(
        "未评级：未取得（或已过期）评级所需的书面同意", "not rated: consent is missing or has expired"
    ),
    "opted_out": _words(
        "未评级：本户选择不参加，或已撤回同意", "not rated: the household opted out or withdrew consent"
    ),
    "absent": _words("未评级：举家外出一年以上", "not rated: the household has been away for over a year"),
    "incomplete": _words("未评级：所需数据尚不完整", "not rated: data needed for a grade are incomplete"),
    "manual_review": _words("未评级：等待人工复核", "not rated: waiting for a person's review"),
}
NOT_RATED_GRADE: Final = _words("未评级", "not rated")
HOLDS: Final[Mapping[str, Bilingual]] = {
    "awaiting_input": _words(
        "部分数据尚未到齐，暂不上调，保持原等级",
        "some data are still awaited: the grade does not rise and stays as it was",
    ),
    "awaiting_bank_confirmation": _words(
        "大幅下调只依据一家银行的数据，未经该行确认不生效，保持原等级",
        "a deep fall that rests on one bank's data takes effect only once that bank confirms it; the grade stays as it was",
    ),
    "awaiting_notice": _words(
        "新等级正在公示，公示期满前保持原等级",
        "the new grade is being noticed; until that is over the grade stays as it was",
    ),
    "disputed": _words("异议处理期间不下调，保持原等级", "while an objection is open the grade does not fall"),
    "overridden": _words("经两人核定，暂按核定等级执行", "two people set another grade for a time"),
}
HOLD_ENDS: Final[Mapping[str, Bilingual]] = {
    "awaiting_input": _words("数据补齐后的下一次评定时解除", "ends with the next grading after the data have come"),
    "awaiting_bank_confirmation": _words(
        "该行确认或更正数据后解除", "ends when the bank confirms or corrects its data"
    ),
    "awaiting_notice": _words("公示期满、无异议时生效", "ends when the notice has run out without an objection"),
    "disputed": _words("异议办结后解除", "ends when the objection is closed"),
    "overridden": _words("核定期满后解除", "ends when that time is over"),
}
HELD: Final = _words("等级暂缓变动，保持原等级", "the grade is on hold and stays as it was")
HELD_ENDS: Final = _words("复核完成后解除", "ends when the review is finished")
SPECIAL_BANDS: Final[Mapping[str, Bilingual]] = {
    "missing": _words("无数据，按中性分计", "no data: the neutral score counts"),
    "no_consent": _words(
        "未同意使用，按中性分计，不减分", "no consent to use it: the neutral score counts, nothing is deducted"
    ),
    "events": _words("按事件计分", "points by single events"),
    "held": _words("数据核实中，沿用上月得分", "data under review: last month's points stay"),
    "held_lower": _words("数据未更新，不上调", "data not renewed: the points do not rise"),
}
INPUT_STATES: Final[Mapping[str, Bilingual]] = {
    "complete": _words("数据齐全", "data complete"),
    "carried_forward": _words("部分数据沿用上期", "some data are carried forward"),
    "withheld": _words("部分数据被退回，核实中", "some data were refused and are under review"),
}
OUTCOMES: Final[Mapping[str, Bilingual]] = {
    "found": _words("按评定办法重新计算：做到以下各项，可升至 {target} 级", "the policy, run again, gives {target} once this is done"),
    "best_grade": _words("已是最高等级，或评定结果已达最高等级", "already the best grade there is"),
    "not_rated": _words("尚未评级，先解决未评级的原因", "not rated: what stands in the way of a grade comes first"),
    "on_hold": _words("数据核实期间等级不上调，待数据补齐后再算", "no rise while data are awaited or under review"),
    "vetoed": _words("一票否决事项未消除前，任何改进都不能升级", "while the veto stands no change can lift the grade"),
    "out_of_reach": _words(
        "目前可自行改进的事项尚不足以升至 {target} 级", "what a household can change does not suffice for {target} at present"
    ),
    "unavailable": _words(
        "本月数据或办法在评定之后有变动，重新评定后才能计算改进建议", "inputs changed after grading: advice needs a new grading first"
    ),
    "past": _words("此为当时所知，改进建议请查询最新一期", "as it was known then: for advice ask for the newest month"),
}  # fmt: skip
GROUPS: Final[Mapping[str, Bilingual]] = {
    "village": _words("同村", "the village"),
    "town": _words("同乡镇", "the town"),
    "county": _words("全县", "the county"),
}
POSITIONS: Final[Mapping[str, Bilingual]] = {
    "top_quarter": _words("高于其中四分之三", "above three quarters of them"),
    "above_middle": _words("高于中位数", "above the middle"),
    "middle": _words("等于中位数", "in the middle"),
    "below_middle": _words("低于中位数", "below the middle"),
    "bottom_quarter": _words("低于其中四分之三", "below three quarters of them"),
}
VILLAGE_SIGHT: Final = _words(
    "村级只看到村级数据：银行数据、总分、计算等级与改进建议只告知本人",
    "a village sees village data: bank data, total, computed grade and advice are for the subject alone",
)
PLACE_SIGHT: Final = _words(
    "村镇只看到由公示等级统计的占比：贷款与逾期数据、整体结论与改进建议由县级掌握",
    "a place sees the shares counted from posted grades: what banks report, and what follows from it, is for the county",
)
PLACE_OUTCOMES: Final[Mapping[str, Bilingual]] = {
    "found": OUTCOMES["found"],
    "best_grade": _words("已是最高等级", "already the best grade there is"),
    "not_rated": OUTCOMES["not_rated"],
    "out_of_reach": _words("目前条件下尚不能升至 {target} 级", "at present nothing suffices for {target}"),
    "past": OUTCOMES["past"],
}
SUBJECTS: Final[Mapping[str, Bilingual]] = {
    "village": _words("信用村", "village"),
    "town": _words("信用镇", "town"),
    "household": _words("农户", "household"),
    "business": _words("新型农业经营主体", "farm business"),
    "collective": _words("村集体", "village collective"),
    "merchant": _words("商户", "merchant"),
}
YES: Final = _words("是", "yes")
NO: Final = _words("否", "no")
LANGUAGES: Final = ("zh", "en", "both")
OTHERWISE: Final = _words("其他情形", "anything else")


def subject_words(subject: str) -> Bilingual:
    """What is graded; a subject of the county's own by its name."""
    return SUBJECTS.get(subject, _words(subject, subject))


def hold_words(reason: str) -> tuple[Bilingual, Bilingual]:
    """What a hold is, and what ends it."""
    return HOLDS.get(reason, HELD), HOLD_ENDS.get(reason, HELD_ENDS)


def number_text(value: Decimal) -> str:
    """A number without needless zeros.

    >>> number_text(Decimal("85.50")), number_text(Decimal("120"))
    ('85.5', '120')
    """
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def value_words(value: str | None, unit: Bilingual | None) -> Bilingual | None:
    """A value as it stands in core_household_points, with its unit; None for none."""
    if value is None:
        return None
    if value in ("true", "false"):
        return YES if value == "true" else NO
    return with_unit(number_text(Decimal(value)) if _is_number(value) else value, unit)


def with_unit(text: str, unit: Bilingual | None) -> Bilingual:
    """A number with its unit behind it."""
    if unit is None:
        return _words(text, text)
    return _words(f"{text} {unit.zh}", f"{text} {unit.en}")


def band_words(band: Band, unit: Bilingual | None) -> Bilingual:
    """A band's condition in words."""
    if band.categories:
        named = [value_words(one, None) or OTHERWISE for one in band.categories]
        return _words("、".join(one.zh for one in named), ", ".join(one.en for one in named))
    low, high, below = (_bound(bound, unit) for bound in (band.at_least, band.at_most, band.below))
    if low and below:
        return _words(f"{low.zh}（含）至 {below.zh}", f"from {low.en} to below {below.en}")
    if low:
        return _words(f"不低于 {low.zh}", f"at least {low.en}")
    if high:
        return high if band.at_most == 0 else _words(f"不超过 {high.zh}", f"at most {high.en}")
    return _words(f"低于 {below.zh}", f"below {below.en}") if below else OTHERWISE


def _bound(bound: Decimal | None, unit: Bilingual | None) -> Bilingual | None:
    return None if bound is None else with_unit(number_text(bound), unit)


def too_small(minimum: int) -> Bilingual:
    """Why a place is not rated."""
    return _words(f"未评级：在册户不足 {minimum} 户", f"not rated: fewer than {minimum} households in the register")


def pct_words(pct: Decimal | None, *, is_met: bool) -> Bilingual:
    """A share; of nothing, what the policy makes of it."""
    if pct is not None:
        return _words(f"{pct} %", f"{pct} %")
    return (
        _words("无（视为达标）", "none (counts as met)")
        if is_met
        else _words("无（视为未达标）", "none (counts as not met)")
    )


def bound_words(at_least: Decimal | None, below: Decimal | None) -> Bilingual:
    """The one bound of a condition on a share."""
    if at_least is not None:
        return _words(f"不低于 {number_text(at_least)}%", f"at least {number_text(at_least)} %")
    text = number_text(below or Decimal(0))
    return _words(f"低于 {text}%", f"below {text} %")


def as_of_words(day: date) -> Bilingual:
    """As of which day a past state is told."""
    return _words(f"截至 {day} 当时所知", f"as it was known on {day}")


def until_words(day: date | None) -> Bilingual:
    """When a list item stops counting at the latest."""
    if day is None:
        return _words("未登记公示截止日期，请认定单位补登", "no end of its term is on record: ask the issuer to add it")
    return _words(f"最迟计至 {day}", f"counts until {day} at the latest")


def known_text(known: Mapping[str, Any], language: str) -> str:
    """As of which day a past state is told, and in which release it was read."""
    return f"{in_language(known['says'], language)}  {known['release_id']}"


def item_text(item: Mapping[str, Any], language: str) -> str:
    """A list item in one line: list, what, document, issuer, and when it ends at the latest."""
    parts = [item["list_says"], item["label"], item["issuer_says"]]
    named = [in_language(part, language) for part in parts if part]
    number = item["document_no"] or item["reference"]
    return "  ".join([*named, number, in_language(item["until_says"], language)])


def then_text(then: Mapping[str, Any], language: str) -> str:
    """The grade without an item, as the policy gives it."""
    says = in_language({"zh": "消除后重新计算", "en": "computed again without it"}, language)
    hold = in_language(then["hold_says"], language) if then["hold_says"] else ""
    return f"{says} → {number_text(then['score'])}  {then['grade']}  {hold}".rstrip()


def objection_text(objection: Mapping[str, Any], language: str) -> str:
    """How soon an objection is answered, and by whom."""
    contact = objection["contact"]
    zh = f"异议：{objection['answered_within_days']} 日内答复，{contact['zh']} {contact['phone']}"
    en = f"objections are answered within {objection['answered_within_days']} days: {contact['en']} {contact['phone']}"
    return in_language({"zh": zh, "en": en}, language)


def place_title(found: Mapping[str, Any], language: str) -> str:
    """Which place in which month is explained."""
    where = dict.fromkeys(filter(None, (found["town_name"], found["name"])))
    title = in_language({"zh": TITLE.zh, "en": TITLE.en}, language)
    return f"{title} · {in_language(found['subject_says'], language)} {found['number']} · {found['period']} · {' '.join(where)}"


def counts_text(share: Mapping[str, Any], language: str) -> str:
    """The two counts behind a share."""
    over, under = share["numerator"], share["denominator"]
    return " / ".join(f"{in_language(one['says'], language)} {number_text(one['value'])}" for one in (over, under))


def villages_text(villages: Iterable[Mapping[str, Any]]) -> str:
    """The villages of a town with their grades."""
    return "  ".join(f"{one['village_name'] or one['village_code']} {one['grade'] or '—'}" for one in villages)


def quartiles_text(peers: Mapping[str, Any], label: Mapping[str, str], one: Mapping[str, Any], language: str) -> str:
    """Where one stands among its peers, with the bounds of the quarters."""
    bounds = " / ".join(number_text(one[bound]) for bound in ("low", "median", "high"))
    group = f"{in_language(peers['group_says'], language)} {peers['size']}"
    own = f"{in_language(label, language)} {number_text(one['own'])}"
    return f"{group}  {own}{colon(language)}{in_language(one['says'], language)}  ({bounds})"


def in_language(text: Mapping[str, str] | None, language: str) -> str:
    """A text of a document in one language, or in both, Chinese first; nothing for None."""
    if text is None:
        return ""
    if language in text:
        return text[language]
    return text["zh"] if text["zh"] == text["en"] else f"{text['zh']} {text['en']}"


def colon(language: str) -> str:
    """The colon of a language; both languages go with the Chinese one."""
    return ": " if language == "en" else "："


def listed(items: Iterable[str], language: str) -> str:
    """Items one after the other, with the comma of a language."""
    return (", " if language == "en" else "、").join(items)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()
