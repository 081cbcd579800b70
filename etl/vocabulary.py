"""The words of the project: states, outcomes, families, grades, and the errors that speak them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FAMILIES: Final = ("syntax", "validity", "quality", "macro")
ACTIONS: Final = ("reject_file", "reject_row", "warn", "shadow")
GRADES: Final = ("AAA", "AA", "A", "B", "C", "D")
INPUT_STATES: Final = ("complete", "carried_forward", "withheld")
PRIVACY_CLASSES: Final = ("open", "personal", "identity")
STEPS: Final = ("arrived", "settling", "claimed", "landed", "validating")
OUTCOMES: Final = ("accepted", "accepted_with_warnings", "rejected", "duplicate", "unreadable", "expired")

VERDICTS: Final = ("pass", "unjudged", "warn", "block")  # of a gate, from the best to the worst

STEP_LABELS: Final = {
    "arrived": {"zh": "已到达", "en": "arrived"},
    "settling": {"zh": "等待写完", "en": "settling"},
    "claimed": {"zh": "已受理", "en": "claimed"},
    "landed": {"zh": "已落地", "en": "landed"},
    "validating": {"zh": "校验中", "en": "validating"},
}
OUTCOME_LABELS: Final = {
    "accepted": {"zh": "接收", "en": "accepted"},
    "accepted_with_warnings": {"zh": "接收（有提示或拒收行）", "en": "accepted with warnings"},
    "rejected": {"zh": "整份退回", "en": "rejected"},
    "duplicate": {"zh": "重复报送", "en": "duplicate"},
    "unreadable": {"zh": "无法读取", "en": "unreadable"},
    "expired": {"zh": "超期未完成", "en": "expired"},
}
VERDICT_LABELS: Final = {
    "pass": {"zh": "通过", "en": "pass"},
    "unjudged": {"zh": "不判", "en": "not judged"},
    "warn": {"zh": "提示", "en": "warning"},
    "block": {"zh": "拦截", "en": "held"},
}
BREACH_LABELS: Final = {
    "missing": {"zh": "逾期未收到", "en": "missing"},
    "late": {"zh": "逾期收到", "en": "late"},
}

CASE_KIND_LABELS: Final = {
    "objection": {"zh": "异议", "en": "objection"},
    "correction": {"zh": "更正", "en": "correction"},
    "repair": {"zh": "信用修复", "en": "repair"},
    "override": {"zh": "人工核定", "en": "override"},
    "opt_out": {"zh": "退出评定", "en": "opt-out"},
    "bank_confirmation": {"zh": "银行核实", "en": "bank confirmation"},
}
CASE_STEP_LABELS: Final = {
    "opened": {"zh": "已受理", "en": "opened"},
    "marked": {"zh": "已标注异议", "en": "marked"},
    "asked": {"zh": "已送银行核实", "en": "bank asked"},
    "proposed": {"zh": "已提出处理意见", "en": "proposed"},
    "answered": {"zh": "已答复", "en": "answered"},
    "closed": {"zh": "已办结", "en": "closed"},
    "notified": {"zh": "已通知", "en": "notified"},
    "told_unmarked": {"zh": "逾期未标注", "en": "not marked in time"},
    "told_due": {"zh": "临近答复期限", "en": "answer falls due"},
    "told_overdue": {"zh": "逾期未答复", "en": "answer overdue"},
    "told_healed": {
        "zh": "来源已不同，更正不再适用",
        "en": "the source says otherwise now, the correction applies no longer",
    },
}
CASE_VERDICT_LABELS: Final = {
    "upheld": {"zh": "予以采纳", "en": "upheld"},
    "refused": {"zh": "不予采纳", "en": "refused"},
    "confirmed": {"zh": "银行确认无误", "en": "confirmed by the bank"},
    "mistaken": {"zh": "银行更正", "en": "mended by the bank"},
    "lapsed": {"zh": "已无需核实", "en": "lapsed"},
}
CASE_KINDS: Final = tuple(CASE_KIND_LABELS)
CASE_STEPS: Final = tuple(CASE_STEP_LABELS)
CASE_VERDICTS: Final = tuple(CASE_VERDICT_LABELS)
GRADE_STAGES: Final = ("reviewed", "noticed")


class CreditVillageError(Exception):
    """Anything of ours that ends a command; `exit_code` is what the command line returns."""

    exit_code = 3


class ConfigurationError(CreditVillageError):
    """A file of config/, expectations/ or sql/ is wrong: one line with file, key and mend."""

    exit_code = 2

    def __init__(self, file: str | Path, key: str, problem: str, mend: str) -> None:
        self.file, self.key, self.problem, self.mend = str(file), key, problem, mend
        super().__init__(file, key, problem, mend)

    def __str__(self) -> str:
        place = f"{self.file}: {self.key}" if self.key else self.file
        return " ".join(f"{place}: {self.problem} — {self.mend}".split())


class DataError(CreditVillageError):
    """What was delivered or computed is not fit: one line with the place and the mend."""

    exit_code = 1

    def __init__(self, message: str, mend: str) -> None:
        self.message, self.mend = message, mend
        super().__init__(message, mend)

    def __str__(self) -> str:
        return f"{self.message} — {self.mend}"
