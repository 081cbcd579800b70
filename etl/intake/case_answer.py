"""A bank's answer to a question about its notes: `<case>.answer.csv`, the file of the question filled in, read strictly.

Every line is one note of the question: `answer` says confirmed (确认) or mistaken (更正); what was mistaken gives the days
overdue as they should have been and, if it was wrong too, the five-tier class. UTF-8, or the bank's receipt encoding.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from etl.intake.confirmation import MAX_PROBLEMS, Problem, decoded

ANSWERS: Final = ".answer.csv"
FOLDER: Final = "cases"
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "case": {"zh": "事项编号"},
    "period": {"zh": "月份"},
    "loan_no": {"zh": "借据号"},
    "overdue_days": {"zh": "报送的逾期天数"},
    "five_class": {"zh": "报送的五级分类"},
    "answer_due_on": {"zh": "答复期限"},
    "answer": {"zh": "答复（确认/更正）"},
    "correct_overdue_days": {"zh": "应为逾期天数"},
    "correct_five_class": {"zh": "应为五级分类"},
}
_WORDS: Final = {"confirmed": False, "确认": False, "mistaken": True, "更正": True}
_DAYS: Final = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class AnsweredNote:
    """What one line says of a note of the bank."""

    line: int
    loan_no: str
    is_mistaken: bool
    overdue_days: int | None
    five_class: str | None


def parse(
    content: bytes, encoding: str, case_id: str, classes: Mapping[str, Mapping[str, str]]
) -> tuple[list[AnsweredNote], list[Problem]]:
    """The answered notes, and what is wrong with the lines; no text of the file stands in a problem."""
    text = decoded(content, encoding)
    if text is None:
        return [], [Problem(None, "文件编码无法识别", "the encoding is not known", "请另存为 UTF-8 的 CSV")]
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, row) for row in reader]
    except csv.Error:
        return [], [Problem(None, "不是 CSV 文件", "not a CSV file", "请检查引号和分隔符")]
    if list(reader.fieldnames or ()) != list(COLUMNS):
        fix = "请在原文件上填写后三列，不要增删列"
        return [], [Problem(None, "列与核实文件不同", "the columns are not those of the question", fix)]
    names = {label["zh"]: code for code, label in classes.items()} | {code: code for code in classes}
    found = [_answered(line, row, case_id, names) for line, row in lines[:MAX_PROBLEMS]]
    problems = [one for one in found if isinstance(one, Problem)]
    notes = [one for one in found if isinstance(one, AnsweredNote)]
    return notes, problems or list(_twice(notes))


def _answered(
    line: int, row: Mapping[str, str | None], case_id: str, classes: Mapping[str, str]
) -> AnsweredNote | Problem:
    if None in row or None in row.values():
        return Problem(line, "列数不对", "the number of cells is wrong", "请在原文件上填写")
    cells = {name: str(value).strip().removeprefix("'") for name, value in row.items()}
    if cells["case"] != case_id:
        return Problem(line, "事项编号与文件名不符", "the case is not that of the file name", "一个文件只答复一个事项")
    if cells["answer"] not in _WORDS:
        return Problem(line, "答复应为 确认 或 更正", "the answer must be confirmed or mistaken", "请逐行填写答复")
    is_mistaken = _WORDS[cells["answer"]]
    days, five_class = cells["correct_overdue_days"], cells["correct_five_class"]
    if not is_mistaken and (days or five_class):
        return Problem(line, "确认的行不填更正值", "a confirmed line corrects nothing", "请清空后两列，或改填更正")
    if is_mistaken and not _DAYS.fullmatch(days):
        return Problem(line, "更正须填应为逾期天数", "a correction needs the days overdue", "没有逾期请填 0")
    if five_class and five_class not in classes:
        return Problem(
            line, "五级分类无法识别", "the five-tier class is not known", "请填 正常、关注、次级、可疑 或 损失"
        )
    return AnsweredNote(line, cells["loan_no"], is_mistaken, int(days) if days else None, classes.get(five_class))


def _twice(notes: list[AnsweredNote]) -> Iterator[Problem]:
    seen: set[str] = set()
    for note in notes:
        if note.loan_no in seen:
            yield Problem(note.line, "同一借据答复了两次", "a note is answered twice", "每笔借据只填一行")
        seen.add(note.loan_no)
