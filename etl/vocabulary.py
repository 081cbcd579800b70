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
