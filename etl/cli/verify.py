"""`creditvillage verify`: one line that says what holds; needs no server, database or configuration."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from etl.intake.receipt_words import visible
from etl.intake.verify import Verified, verify_receipt


def verify_one(receipt: Path, raw: Path | None, key: Path | None, console: Console) -> None:
    """Print what was checked; whatever does not hold is raised by `verify_receipt`."""
    found = verify_receipt(receipt, raw=raw, key=key)
    console.print(f"[green]✓[/] {escape(_says(found))}", soft_wrap=True, highlight=False)


def _says(found: Verified) -> str:
    document = found.document
    name = visible(str(document.get("confirmation_id") or document.get("delivery_id")))
    present = "、".join(sorted({file.rsplit(".", 1)[-1] for file in found.files})) or "—"
    absent = "、".join(sorted({file.rsplit(".", 1)[-1] for file in found.absent}))
    parts = [
        f"回执有效 the receipt holds: {name} {document.get('outcome')}",
        f"密钥 key {found.key_id}",
        f"同组文件 files {present}" + (f"（未见 not there: {absent}）" if absent else ""),
    ]
    if found.raw_checked:
        parts.append("原文件一致 raw file agrees")
    return "; ".join(parts)
