"""Causes that show in single cells: each refused cell is given the first cause whose form it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.contract.casts import date_pattern
from etl.contract.model import Column
from etl.identifiers import resident_id_is_valid
from etl.intake.forensics.rows import Cells, Delivered
from etl.intake.forensics.wording import Diagnosis, diagnosis

_KINDS: Final = ("type", "codes", "resident_id", "pattern", "min", "max", "range")
_FULLWIDTH: Final = "[\uff01-\uff5e\u3000]"
_APOSTROPHE: Final = "^['\u2018\u2019`\u00b4]"
_ANY: Final = {"fullwidth_characters": _FULLWIDTH, "leading_apostrophe": _APOSTROPHE}
_DATE_FORMS: Final = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y")
_YEAR, _MONTH, _DAY = "(?:19|20)[0-9]{2}", "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_SHORT_FORMS: Final = rf"^{_YEAR}(?:[-/.]|年)[01]?[0-9](?:[-/.]|月)[0-3]?[0-9]日?$"
_SERIAL: Final = "^(?:2[5-9]|3[0-9]|4[0-9]|5[0-5])[0-9]{3}(?:[.]0+)?$"  # 1968 to 2053
_SCIENTIFIC: Final = "^[+-]?[0-9](?:[.][0-9]+)?[eE][+-]?[0-9]{1,3}$"
_LOST: Final = "^[1-9][0-9]{14}0{3,}$"
_OLD_ID: Final = rf"^[1-9][0-9]{{7}}{_MONTH}{_DAY}[0-9]{{3}}$"
_NUMBER: Final = {
    "thousands_separators": "^[+-]?[0-9]{1,3}(?:[,，][0-9]{3})+(?:[.][0-9]+)?$",
    "scientific_notation": _SCIENTIFIC,
    "float_noise": "^[+-]?[0-9]+[.][0-9]*(?:0{6,}[1-9]{1,2}|9{6,}[0-9]{0,2})$",
    "unit_in_cell": "^[￥¥$]? ?[+-]?[0-9,]+(?:[.][0-9]+)? ?(?:元|万元|万|%|％|天|RMB|CNY)?$",
}
_PLAIN_NUMBER: Final = "^[+-]?[0-9,]+(?:[.][0-9]+)?$"
_IDENTITY: Final = {
    "scientific_notation": _SCIENTIFIC,
    "digits_lost": _LOST,
    "old_id_number": _OLD_ID,
    "masked_number": "[*＊]{2,}",
    "blanks_inside": r"^[0-9Xx]+(?:\s[0-9Xx]+)+$",
}
_TEXT: Final = {"scientific_notation": _SCIENTIFIC, "masked_number": "[*＊]{2,}", "blanks_inside": r"\S\s+\S"}
_Mask = npt.NDArray[np.bool_]


def diagnose_cells(delivered: Delivered) -> Iterator[Diagnosis]:
    """One diagnosis for each column and cause, in the contract's order of columns."""
    for column in delivered.columns:
        refused = delivered.refused(column, _KINDS)
        if refused.count:
            yield from _causes_of(refused, delivered)


def _causes_of(cells: Cells, delivered: Delivered) -> Iterator[Diagnosis]:
    left = np.ones(cells.count, dtype=bool)
    for code, mask, more in _tests(cells, delivered):
        hit = mask & left
        left &= ~hit
        if hit.any():
            yield diagnosis(
                code,
                field=cells.column.name,
                column=delivered.heading(cells.column.name),
                n=int(hit.sum()),
                of=cells.count,
                places=cells.rows[hit].tolist()[:5],
                explains=cells.rules,
                words=more,
            )


def _tests(cells: Cells, delivered: Delivered) -> Iterator[tuple[str, _Mask, dict[str, str]]]:
    """Causes to try on a column's refused cells, the most telling first."""
    column = cells.column
    forms, left = dict(_ANY), np.ones(cells.count, dtype=bool)
    if column.codes is not None:
        yield from ((code, _matches(cells.texts, form), {}) for code, form in forms.items())
        yield from _code_tests(cells, column, delivered)
        return
    if column.type == "date":
        forms |= _date_forms(delivered.layout.dates)
        left = ~_matches(cells.texts, date_pattern(delivered.layout.dates)[0])  # no real date, but in the agreed form
    elif not column.is_text:
        forms |= _NUMBER
    else:
        forms |= _IDENTITY if column.is_validated else _TEXT
    for code, form in forms.items():
        mask = _matches(cells.texts, form) & (left | (code == "day_month_swapped"))
        if code == "unit_in_cell":
            mask &= ~_matches(cells.texts, _PLAIN_NUMBER)
        elif code == "digits_lost":
            mask &= ~_holding(cells.texts, mask)
        yield code, mask, {}


def _matches(texts: pa.Array, form: str) -> _Mask:
    return pc.match_substring_regex(texts, form).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _holding(texts: pa.Array, among: _Mask) -> _Mask:
    """Which of the identity numbers hold although they end in zeros, as one in a thousand does."""
    holding = np.zeros(len(texts), dtype=bool)
    chosen = np.flatnonzero(among)
    holding[chosen] = [resident_id_is_valid(text) for text in texts.take(pa.array(chosen)).to_pylist()]
    return holding


def _date_forms(agreed: str) -> dict[str, str]:
    """Forms of a date that is not the agreed one, most telling first."""
    own = date_pattern(agreed)[0].strip("^$")
    others = "|".join(_strict(form) for form in _DATE_FORMS if form != agreed)
    return {
        "time_in_date": rf"^{own}[ T][0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.][0-9]+)?)?$",
        "day_month_swapped": f"^{_swapped(agreed)}$",
        "other_date_form": f"^(?:{others})$|{_SHORT_FORMS}",
        "excel_serial_date": _SERIAL,
    }


def _strict(form: str) -> str:
    return _filled(form, {"%Y": _YEAR, "%m": _MONTH, "%d": _DAY})


def _swapped(form: str) -> str:
    """The agreed form with a day above 12 where the month should stand."""
    return _filled(form, {"%Y": _YEAR, "%m": "(?:1[3-9]|2[0-9]|3[01])", "%d": _MONTH})


def _filled(form: str, parts: dict[str, str]) -> str:
    return re.sub(r"%[Ymd]", lambda found: parts[found[0]], form.replace(".", "[.]"))


def _code_tests(cells: Cells, column: Column, delivered: Delivered) -> Iterator[tuple[str, _Mask, dict[str, str]]]:
    agreed = delivered.layout.codes
    codings = delivered.codes.lists[str(column.codes)]["codings"]
    own = list(codings.get(agreed, {}))
    bare = [code.lstrip("0") for code in own if code.startswith("0") and code.lstrip("0") not in own]
    yield "leading_zeros_lost", _is_one_of(cells.texts, bare), {}
    labelled = "^(?:" + "|".join(map(re.escape, own)) + r")[\s:：\-—._(（]+[^0-9A-Za-z].*$"
    yield "label_with_code", _matches(cells.texts, labelled), {}
    for coding, mapping in codings.items():
        if coding != agreed:
            others = [code for code in mapping if code not in own]
            yield "other_coding", _is_one_of(cells.texts, others), {"found": coding, "agreed": agreed}


def _is_one_of(texts: pa.Array, codes: list[str]) -> _Mask:
    return pc.is_in(texts, pa.array(codes, pa.string())).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
