"""Small feeds, layouts and files that the tests of intake are made of."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import pyarrow as pa

from etl.intake.reader import open_delivery
from etl.intake.strings import Strings, strings_schema
from etl.registry import Feed, Layout

NAMES = ["loan_no", "borrower_name", "balance_yuan"]
HEADINGS = {"借据号": "loan_no", "姓名": "borrower_name", "余额": "balance_yuan"}
DELIVERY = "qinghe_rcb-loans-2024-03-0001"


def make_layout(**changes: Any) -> Layout:
    """A comma-separated UTF-8 layout of three columns, unless changed."""
    base = {"from": "2024-01", "format": "delimited", "codes": "pboc", "columns": NAMES}
    return Layout.model_validate({**base, **changes})


def make_feed(package: str = "bare", *, empty: str = "refused", **changes: Any) -> Feed:
    base = {
        "files": "LOANS_{period:%Y%m}*.csv",
        "package": package,
        "provides": [],
        "accept": {"rows": {"min": 0}, "max_rejected_share": 1, "empty": empty},
        "layouts": [make_layout()],
    }
    return Feed.model_validate({**base, **changes})


def read_delivery(*where: Any, **beside: Any) -> Strings:
    """A whole (small) delivery at once; arguments as for `open_delivery`."""
    with open_delivery(*where, **beside) as reading:
        pieces = reading.pieces(1 << 62)
        return reading.result(pa.concat_tables([strings_schema(reading.layout).empty_table(), *pieces]))


def read_bytes(
    content: bytes, layout: Layout, feed: Feed | None = None, name: str = "loans.csv", **more: Any
) -> Strings:
    """What intake makes of a file of these bytes."""
    return read_delivery(io.BytesIO(content), name, feed or make_feed(), layout, DELIVERY, **more)


def make_zip(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def make_log(content: bytes, rows: int, *, name: str = "CLGRDK_1.dat", **changes: str) -> bytes:
    """The five lines of the PBoC convention; each may be changed by name, or the whole text by `text`."""
    lines = {
        "name": name,
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest() if content else "",
        "size": str(len(content)),
        "at": "2024-04-03 10:00:00",
        "count": str(rows),
    }
    lines.update({key: value for key, value in changes.items() if key in lines})
    return changes.get("text", "\n".join(lines.values())).encode()


def make_pboc(content: bytes, rows: int, **changes: str) -> bytes:
    return make_zip({"CLGRDK_1.dat": content, "CLGRDK_1.log": make_log(content, rows, **changes)})


def rules_of(strings: Strings) -> list[str]:
    return [finding.rule for finding in strings.file_findings]


def cells_of(strings: Strings, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of the table as tuples of the columns named."""
    return [tuple(row[column] for column in columns) for row in strings.table.to_pylist()]
