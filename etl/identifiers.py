"""Chinese identifiers: the same check in Python and as DuckDB SQL.

Resident identity numbers follow GB 11643-1999: 6 area digits, 8 birth digits, 3 sequence digits (odd male), one check
character with weights 7 9 10 5 8 4 2 1 6 3 7 9 10 5 8 4 2 and remainders `10X98765432` (ISO 7064 MOD 11-2).
python-stdnum refuses 341181 with a birth year before 1993, so the area is never part of the check: people keep the
area code of their first registration. Unified social credit codes follow GB 32100-2015; python-stdnum refuses the
N1/N2/N3 codes of collectives, so that check is our own too.
"""

from __future__ import annotations

import re
from datetime import datetime

RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_CHECKS = "10X98765432"
RESIDENT_FORM = "[1-9][0-9]{5}(18|19|20)[0-9]{9}[0-9X]"
ID_DIGEST_FORM = "[0-9A-F]{32}"
_RESIDENT = re.compile(RESIDENT_FORM)
CREDIT_CODE_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
CREDIT_CODE_FORM = "[0-9A-HJ-NPQRTUWXY]{18}"
CREDIT_CODE_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_CREDIT_CODE = re.compile(CREDIT_CODE_FORM)


def resident_check_character(first_17: str) -> str:
    """The check character of 17 digits.

    >>> resident_check_character("34118119800101001")
    '6'
    """
    total = sum(int(digit) * weight for digit, weight in zip(first_17, RESIDENT_WEIGHTS, strict=True))
    return RESIDENT_CHECKS[total % 11]


def normalise_id(text: str) -> str:
    """Trim ASCII blanks and raise a lower-case x; nothing else is repaired."""
    return text.strip(" \t\r\n").replace("x", "X")


def resident_id_is_valid(text: str) -> bool:
    """18 characters, a real date of birth and the right check character (GB 11643-1999).

    >>> resident_id_is_valid("341181198001010016")
    True
    >>> resident_id_is_valid("341181198002300012")
    False
    """
    value = normalise_id(text)
    if not _RESIDENT.fullmatch(value):
        return False
    try:
        datetime.strptime(value[6:14], "%Y%m%d")
    except ValueError:
        return False
    return resident_check_character(value[:17]) == value[17]


def normalise_id_sql(expression: str) -> str:
    """`normalise_id` as DuckDB SQL."""
    return f"replace(trim({expression}, ' ' || chr(9) || chr(13) || chr(10)), 'x', 'X')"


def resident_id_sql(expression: str, digits: str | None = None) -> str:
    """`resident_id_is_valid` as a DuckDB SQL boolean over an already normalised expression; NULL stays NULL.

    `digits` names its first 17 digits as a BIGINT where somebody has them already. The digit in place k from the right
    weighs 2^k modulo 11 (the weights above). With q(k) = digits // 10^k that digit is q(k) - 10 q(k+1), so the sum of
    digit x 2^k is q(0) - 8 x the sum of 2^(k-1) q(k): no digit is ever cut out.
    """
    whole = digits or f"TRY_CAST(substr({expression}, 1, 17) AS BIGINT)"
    higher = " + ".join(f"{2 ** (k - 1)} * ({whole} // {10**k})" for k in range(1, 17))
    remainder = f"CAST((2 * ({whole} - 8 * ({higher}))) % 11 AS INTEGER)"
    return (
        f"CASE WHEN {expression} IS NULL THEN NULL "
        f"WHEN NOT regexp_full_match({expression}, '{RESIDENT_FORM}') THEN FALSE "
        f"WHEN try_strptime(substr({expression}, 7, 8), '%Y%m%d') IS NULL THEN FALSE "
        f"ELSE substr('{RESIDENT_CHECKS}', {remainder} + 1, 1) = substr({expression}, 18, 1) END"
    )


def id_digest_sql(expression: str) -> str:
    """The digest that stands for a normalised identity number where a bank delivers none: MD5, upper-case hexadecimal."""
    return f"upper(md5({expression}))"


def id_digest_is_valid_sql(expression: str) -> str:
    """Whether a text has the form of such a digest, as DuckDB SQL; NULL stays NULL."""
    return f"regexp_full_match({expression}, '{ID_DIGEST_FORM}')"


def credit_code_check_character(first_17: str) -> str:
    """The check character of the first 17 characters of a unified social credit code.

    >>> credit_code_check_character("91110000600037341")
    'L'
    """
    places = map(CREDIT_CODE_ALPHABET.index, first_17)
    total = sum(place * weight for place, weight in zip(places, CREDIT_CODE_WEIGHTS, strict=True))
    return CREDIT_CODE_ALPHABET[-total % 31]


def credit_code_is_valid(text: str) -> bool:
    """18 characters of the alphabet without I O Z S V and the right check character (GB 32100-2015).

    >>> credit_code_is_valid("91110000600037341L")
    True
    >>> credit_code_is_valid("N2341181MF99000013")
    True
    """
    return bool(_CREDIT_CODE.fullmatch(text)) and credit_code_check_character(text[:17]) == text[17]


def credit_code_sql(expression: str) -> str:
    """`credit_code_is_valid` as a DuckDB SQL boolean; NULL stays NULL.

    A character's value is its place in the alphabet; strpos counts places from 1.
    """
    places = (f"(strpos('{CREDIT_CODE_ALPHABET}', substr({expression}, {place}, 1)) - 1)" for place in range(1, 18))
    total = " + ".join(f"{weight} * {value}" for weight, value in zip(CREDIT_CODE_WEIGHTS, places, strict=True))
    return (
        f"CASE WHEN {expression} IS NULL THEN NULL "
        f"WHEN NOT regexp_full_match({expression}, '{CREDIT_CODE_FORM}') THEN FALSE "
        f"ELSE substr('{CREDIT_CODE_ALPHABET}', CAST((31 - ({total}) % 31) % 31 AS INTEGER) + 1, 1) "
        f"= substr({expression}, 18, 1) END"
    )
