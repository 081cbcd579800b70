"""What a supplier reads when a fact of a column is broken, from the column's label unless overridden."""

from __future__ import annotations

from collections.abc import Mapping

from etl.registry import Bilingual

_SAYS: Mapping[str, tuple[str, str]] = {
    "required": ("{zh}不得为空", "{en} must not be empty"),
    "type_date": ("{zh}不是约定格式的真实日期", "{en} is not a real date in the agreed form"),
    "type_decimal": ("{zh}不是数字，或小数位数、整数位数过多", "{en} is not a number, or has too many digits"),
    "type_integer": ("{zh}不是整数", "{en} is not a whole number"),
    "type_boolean": ("{zh}不是“是/否”值", "{en} is not a yes/no value"),
    "codes": ("{zh}不在代码表中", "{en} is not in the code list"),
    "min": ("{zh}不得小于 {min}", "{en} must not be below {min}"),
    "max": ("{zh}不得大于 {max}", "{en} must not be above {max}"),
    "range": ("{zh}应在 {min} 至 {max} 之间", "{en} must be between {min} and {max}"),
    "pattern": ("{zh}格式不符", "{en} has the wrong form"),
    "resident_id": (
        "{zh}不是有效的 18 位居民身份号码（位数、出生日期或校验码不符）",
        "{en} is not a valid 18-character resident number (length, birth date or check character)",
    ),
    "credit_code": (
        "{zh}不是有效的 18 位统一社会信用代码（位数、字符或校验码不符）",
        "{en} is not a valid 18-character unified social credit code (length, characters or check character)",
    ),
    "unique": ("{zh}在本次报送中重复", "{en} occurs more than once in this delivery"),
    "key": ("{table} 的主键应唯一且不为空", "the key of {table} must be unique and not null"),
    "reference": ("{columns} 应存在于 {target}", "{columns} must exist in {target}"),
}
_FIX: Mapping[str, tuple[str, str]] = {
    "required": ("请补填{zh}后重报", "fill in {en} and deliver again"),
    "type_date": ("请按约定的日期格式填写真实日期", "write a real date in the agreed form"),
    "type_decimal": (
        "请填半角数字，不带千分位和单位；金额换算为元后最多两位小数",
        "write plain digits without separators or units; amounts have at most two decimals in yuan",
    ),
    "type_integer": ("请填半角整数", "write plain digits"),
    "type_boolean": ("请按代码表填写是或否", "write the agreed code for yes or no"),
    "codes": ("请按约定的代码表填写；新代码请先告知数据组", "use the agreed code list; announce new codes first"),
    "min": ("请核对{zh}及其单位", "check {en} and its unit"),
    "max": ("请核对{zh}及其单位", "check {en} and its unit"),
    "range": ("请核对{zh}及其单位", "check {en} and its unit"),
    "pattern": ("请按编号规则填写{zh}", "write {en} as the numbering rule says"),
    "resident_id": (
        "请与证件原件核对；勿用科学计数法、全角数字或 15 位旧号",
        "compare with the card; no scientific notation, full-width digits or old 15-digit numbers",
    ),
    "credit_code": (
        "请与登记证照核对；代码中没有 I、O、Z、S、V，字母应大写",
        "compare with the certificate; the code has no I, O, Z, S or V, and capital letters only",
    ),
    "unique": ("请只保留一行，或更正编号", "keep one row, or correct the number"),
    "key": ("请检查生成该表的 SQL", "check the SQL that computes the table"),
    "reference": (
        "请检查生成该表的 SQL 和被引用的表",
        "check the SQL that computes the table and the table it refers to",
    ),
}


def says(kind: str, label: Bilingual, **facts: object) -> Bilingual:
    """The message of one kind of fact for a column of that label."""
    return _filled(_SAYS[kind], label, facts)


def fix(kind: str, label: Bilingual, **facts: object) -> Bilingual:
    """The mend of one kind of fact for a column of that label."""
    return _filled(_FIX[kind], label, facts)


def _filled(pair: tuple[str, str], label: Bilingual, facts: Mapping[str, object]) -> Bilingual:
    zh, en = (text.format(zh=label.zh, en=label.en, **facts) for text in pair)
    return Bilingual(zh=zh, en=en)
