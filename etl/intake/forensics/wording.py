"""What a diagnosis says: one entry for each cause, Chinese first, with the repair it proposes.

Placeholders: `n` how many rows or lines show it, `of` out of how many looked at, `place` the first of them, `column` the
column as delivered; others are named by the diagnosis. No placeholder is ever filled with a cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

_MAX_PLACES = 5


class Text(NamedTuple):
    """Cause and repair in both languages."""

    zh: str
    en: str
    repair_zh: str
    repair_en: str


TEXTS: Final[Mapping[str, Text]] = {
    # -- the file
    "encoding": Text(
        "文件是 {found} 编码，约定为 {agreed}（抽样的 {n} 个字符按 {found} 解码无误）",
        "the file is written in {found}, agreed is {agreed} (the {n} characters of the sample read as {found})",
        "导出时选择 {agreed} 编码",
        "export in {agreed}",
    ),
    "other_kind_of_file": Text(
        "内容是 {found}，约定为 {agreed}",
        "the content is {found}, agreed is {agreed}",
        "请按约定的格式导出，不要只改扩展名",
        "export in the agreed format; renaming a file does not convert it",
    ),
    "nul_tail": Text(
        "文件末尾至少 {n} 字节全为空字节（NUL），像是复制或下载未完成",
        "the last {n} bytes at least are all NUL, as after a copy that was not finished",
        "请重新复制并核对文件大小",
        "copy the file again and compare its size",
    ),
    "nul_bytes": Text(
        "抽样中有 {n} 个空字节（NUL），其余为普通文本",
        "{n} NUL byte(s) in the sample, otherwise plain text",
        "请在导出程序中去掉空字节（常见于定长字段的填充）",
        "strip NUL bytes in the export (often the padding of fixed-length fields)",
    ),
    "truncated_zip": Text(
        "压缩包开头正常而结尾缺失，像是传输中断",
        "the zip begins well and its end is missing, as after a broken transfer",
        "请重新传输，传完后再改为正式文件名",
        "transfer it again, and rename it only when it is complete",
    ),
    "line_ends_converted": Text(
        "与随附文件所写大小之差恰为换行符个数（{n}），像是以文本方式传输改动了换行",
        "the size differs from the one stated by exactly the number of line ends ({n}): a text-mode transfer changed them",
        "请以二进制方式传输，或在传输后再生成 .log",
        "transfer in binary mode, or write the .log after the transfer",
    ),
    "truncated_last_line": Text(
        "最后一行不完整：前面各行字段数相符，最后一行少 {n} 个分隔符且没有换行",
        "the last line is cut off: the lines before it are as agreed, it lacks a line end and {n} delimiter(s)",
        "请重新导出或重新传输整个文件",
        "export or transfer the whole file again",
    ),
    "wrong_delimiter": Text(
        "分隔符是“{found}”，约定为“{agreed}”（{n}/{of} 行符合）",
        "the delimiter is “{found}”, agreed is “{agreed}” ({n} of {of} lines fit)",
        "导出时改用约定的分隔符",
        "export with the agreed delimiter",
    ),
    "header_missing": Text(
        "首行是数据而不是表头：前 {of} 行（含首行）中 {n} 行含约定个数的日期",
        "the first line is data, not the header: like it, {n} of the first {of} lines hold as many dates as agreed",
        "请在首行写约定的字段名",
        "write the agreed column names into the first line",
    ),
    "header_lower_down": Text(
        "约定的表头在第 {line} 行，约定为第 {agreed} 行",
        "the agreed header stands in line {line} instead of line {agreed}",
        "请删去表头以上的行，或补足约定的行数",
        "take out the lines above it, or add those that were agreed",
    ),
    "header_spelled_otherwise": Text(
        "有 {n} 个字段名只在空格、全角或大小写上与约定不同",
        "{n} column name(s) unlike the agreed ones only in blanks, full-width forms or case",
        "请完全按约定书写字段名",
        "spell the column names exactly as agreed",
    ),
    "header_unexpected": Text(
        "首行像是表头（约定无表头）：{of} 个日期或数字列中 {n} 个不含数字",
        "the first line looks like a header (none is agreed): {n} of its {of} date and number cells hold no digit",
        "导出时去掉表头行",
        "export without the header line",
    ),
    "unbalanced_quote": Text(
        "第 {line} 行的引号没有配对，其后 {n} 行被并入同一行",
        "a quote in line {line} is not closed and swallows {n} line(s) after it",
        "文本中的引号请写两个，或从文本中去掉",
        "double the quotes inside a text, or take them out",
    ),
    "line_break_in_text": Text(
        "有 {n} 行被文本中的换行截成两行（{place}）",
        "{n} row(s) broken in two by a line end inside a text ({place})",
        "导出时把文本中的换行换成空格",
        "replace line ends inside texts by blanks",
    ),
    "delimiter_in_text": Text(
        "有 {n} 行分隔符多于约定，文本中可能含有分隔符（{place}）",
        "{n} line(s) with more delimiters than agreed, probably inside a text ({place})",
        "导出时去掉文本中的分隔符，或按约定加引号",
        "take delimiters out of texts, or quote them where quotes are agreed",
    ),
    # -- rows
    "total_row": Text(
        "文件末尾有合计行（{place}）",
        "there is a total row at the end ({place})",
        "请删去合计、小计等汇总行",
        "take out total and subtotal rows",
    ),
    "rows_repeated": Text(
        "编号重复的 {of} 行中有 {n} 行各字段完全相同，像是重复粘贴或拼接（{place}）",
        "of {of} rows with a repeated number {n} are alike in every column, as after pasting twice ({place})",
        "请去掉重复的行",
        "take out the repeated rows",
    ),
    "columns_reordered": Text(
        "有 {n} 列的内容放错了位置（各列 90% 以上的值符合另一列的约定）",
        "{n} columns stand in each other's place (more than 90% of the cells of each fit another one)",
        "请按约定的顺序排列各列",
        "put the columns into the agreed order",
    ),
    "other_month": Text(
        "{n}/{of} 行的“{column}”是另一个月的月末，内容可能是其他月份的数据",
        "{column} is the end of another month in {n} of {of} rows: the content may belong to another period",
        "请核对文件名与数据的所属月份",
        "check which month name and content belong to",
    ),
    "date_system_1904": Text(
        "{n}/{of} 行的“{column}”恰好相差 1462 天，是 Excel 1904 与 1900 日期系统混用所致",
        "{column} is off by exactly 1462 days in {n} of {of} rows: Excel's 1904 and 1900 date systems were mixed",
        "请在 Excel 选项中关闭“使用 1904 日期系统”，重新粘贴日期后再报",
        "switch off the 1904 date system in Excel, paste the dates again and deliver anew",
    ),
    # -- columns
    "percent_as_fraction": Text(
        "“{column}”{n}/{of} 行小于 1：像是把百分数写成了小数",
        "{column} is below 1 in {n} of {of} rows: percent was probably given as a fraction",
        "请按百分数报送（5.65 表示 5.65%）",
        "deliver percent (5.65 means 5.65 percent)",
    ),
    "fraction_as_percent": Text(
        "“{column}”{n}/{of} 行不小于 1：像是把小数写成了百分数",
        "{column} is 1 or more in {n} of {of} rows: a fraction was probably given as percent",
        "请按小数报送（0.0565 表示 5.65%）",
        "deliver fractions (0.0565 means 5.65 percent)",
    ),
    "amount_in_10k_yuan": Text(
        "“{column}”{n}/{of} 行金额均不超过 {limit} 元：像是以万元填报",
        "{column} is at most {limit} yuan in {n} of {of} rows: the amounts were probably given in 万元 (10,000 yuan)",
        "请以元为单位报送",
        "deliver amounts in yuan",
    ),
    "amount_in_yuan": Text(
        "“{column}”{n}/{of} 行不小于 {limit} 万元：像是以元填报（约定为万元）",
        "{column} is {limit} 万元 or more in {n} of {of} rows: the amounts were probably given in yuan",
        "请以万元为单位报送",
        "deliver amounts in 万元 (10,000 yuan)",
    ),
    "digits_lost": Text(
        "“{column}”有 {n}/{of} 个值第 16 位起全为 0：长号码在 Excel 中丢失了末尾数字（{place}）",
        "{n} of {of} refused cells of {column} end in zeros from the 16th digit on: Excel lost the last digits ({place})",
        "请从源系统重新导出，并先把该列设为文本；已丢失的数字无法恢复",
        "export from the source again with the column set to text; the lost digits cannot be recovered",
    ),
    "scientific_notation": Text(
        "“{column}”有 {n}/{of} 个值是科学计数法（{place}）",
        "{n} of {of} refused cells of {column} are in scientific notation ({place})",
        "请先把该列设为文本或普通数字再导出",
        "set the column to text or plain numbers before exporting",
    ),
    "fullwidth_characters": Text(
        "“{column}”有 {n}/{of} 个值含全角数字或符号（{place}）",
        "{n} of {of} refused cells of {column} hold full-width digits or signs ({place})",
        "请改为半角",
        "write them half-width",
    ),
    "leading_apostrophe": Text(
        "“{column}”有 {n}/{of} 个值以撇号开头（{place}），是 Excel 文本标记被一并导出",
        "{n} of {of} refused cells of {column} begin with an apostrophe, Excel's mark of text ({place})",
        "导出时去掉前导撇号",
        "export without the leading apostrophe",
    ),
    "thousands_separators": Text(
        "“{column}”有 {n}/{of} 个值带千分位（{place}）",
        "{n} of {of} refused cells of {column} hold thousands separators ({place})",
        "请去掉千分位",
        "write numbers without separators",
    ),
    "unit_in_cell": Text(
        "“{column}”有 {n}/{of} 个值带单位、货币符号或百分号（{place}）",
        "{n} of {of} refused cells of {column} carry a unit, currency or percent sign ({place})",
        "请只填数字，单位以约定为准",
        "write the number alone, in the agreed unit",
    ),
    "float_noise": Text(
        "“{column}”有 {n}/{of} 个值带浮点误差的尾数（{place}）",
        "{n} of {of} refused cells of {column} end in the rounding noise of binary numbers ({place})",
        "请先按约定的小数位数四舍五入再导出",
        "round to the agreed decimals before exporting",
    ),
    "excel_serial_date": Text(
        "“{column}”有 {n}/{of} 个值是 Excel 的日期序号（{place}）",
        "{n} of {of} refused cells of {column} are Excel's day numbers ({place})",
        "请把该列设为日期并按约定格式写成文本",
        "format the column as a date and write it in the agreed form",
    ),
    "day_month_swapped": Text(
        "“{column}”有 {n}/{of} 个值月与日颠倒（{place}）",
        "day and month are swapped in {n} of {of} refused cells of {column} ({place})",
        "请按约定的年月日顺序导出",
        "export year, month and day in the agreed order",
    ),
    "time_in_date": Text(
        "“{column}”有 {n}/{of} 个值在日期后带有时间（{place}）",
        "{n} of {of} refused cells of {column} carry a time after the date ({place})",
        "请只报日期",
        "deliver the date alone",
    ),
    "other_date_form": Text(
        "“{column}”有 {n}/{of} 个值是日期，但写法不是约定的形式（{place}）",
        "{n} of {of} refused cells of {column} are dates in another form than agreed ({place})",
        "请按约定的日期格式导出",
        "export dates in the agreed form",
    ),
    "old_id_number": Text(
        "“{column}”有 {n}/{of} 个值是 15 位旧居民身份号码（{place}）",
        "{n} of {of} refused cells of {column} are old numbers of 15 digits ({place})",
        "请按证件原件填 18 位号码，不要自行推算",
        "write the 18 characters of the present card; do not compute them",
    ),
    "masked_number": Text(
        "“{column}”有 {n}/{of} 个值已被掩码（{place}）",
        "{n} of {of} refused cells of {column} are masked ({place})",
        "请从未脱敏的源数据导出；报送通道本身已受保护",
        "export from the source that is not masked; the channel itself is protected",
    ),
    "blanks_inside": Text(
        "“{column}”有 {n}/{of} 个值中间含空格（{place}）",
        "{n} of {of} refused cells of {column} hold blanks inside ({place})",
        "请去掉中间的空格",
        "take out the blanks",
    ),
    "other_coding": Text(
        "“{column}”有 {n}/{of} 个值属于另一套代码（{found}），约定为 {agreed}（{place}）",
        "{n} of {of} refused cells of {column} are codes of another coding ({found}), agreed is {agreed} ({place})",
        "请按约定的代码表转换",
        "use the agreed code list",
    ),
    "leading_zeros_lost": Text(
        "“{column}”有 {n}/{of} 个代码丢失了前导 0（{place}）",
        "{n} of {of} refused cells of {column} are codes that lost their leading zeros ({place})",
        "请先把该列设为文本再导出",
        "set the column to text before exporting",
    ),
    "label_with_code": Text(
        "“{column}”有 {n}/{of} 个值在代码后附有名称（{place}）",
        "{n} of {of} refused cells of {column} are codes followed by their names ({place})",
        "请只填代码",
        "write the code alone",
    ),
    "text_lost": Text(
        "“{column}”有 {n}/{of} 行含乱码替换符，原文在到达前已丢失（{place}）",
        "{n} of {of} rows hold replacement characters in {column}: text was lost before it reached us ({place})",
        "请从源系统按约定编码重新导出",
        "export from the source again in the agreed encoding",
    ),
}


@dataclass(frozen=True)
class Diagnosis:
    """One cause with its evidence. `rows` of `of_rows` looked at show it, `places` are the first row or line numbers."""

    code: str
    message_zh: str
    message_en: str
    repair_zh: str
    repair_en: str
    member: str = ""
    field: str | None = None
    column_as_delivered: str | None = None
    rows: int | None = None
    of_rows: int | None = None
    places: tuple[int, ...] = ()
    explains: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As it stands in a receipt."""
        return {**vars(self), "places": list(self.places), "explains": list(self.explains)}


def diagnosis(
    code: str,
    *,
    member: str = "",
    field: str | None = None,
    column: str | None = None,
    n: int | None = None,
    of: int | None = None,
    places: Sequence[int] = (),
    is_line: bool = False,
    explains: Sequence[str] = (),
    words: Mapping[str, object] | None = None,
) -> Diagnosis:
    """A diagnosis in its words; `places` are row numbers, or line numbers where `is_line`."""
    text, first = TEXTS[code], tuple(int(place) for place in places[:_MAX_PLACES])
    zh = {"n": n, "of": of, "column": column, "place": _places_zh(first, is_line=is_line)} | dict(words or {})
    en = {**zh, "place": _places_en(first, is_line=is_line)}
    return Diagnosis(
        code=code,
        message_zh=text.zh.format(**zh),
        message_en=text.en.format(**en),
        repair_zh=text.repair_zh.format(**zh),
        repair_en=text.repair_en.format(**en),
        member=member,
        field=field,
        column_as_delivered=column,
        rows=n,
        of_rows=of,
        places=first,
        explains=tuple(explains),
    )


def _places_zh(places: Sequence[int], *, is_line: bool) -> str:
    return f"如第 {'、'.join(map(str, places))} {'行' if is_line else '条'}"


def _places_en(places: Sequence[int], *, is_line: bool) -> str:
    return f"such as {'line' if is_line else 'row'} {', '.join(map(str, places))}"
