"""What a supplier is told besides receipts: files that are being worked on, and, once, that its files have to wait."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from etl.intake.arrivals import REASONS, printable
from etl.vocabulary import STEP_LABELS

SHOWN_NAMES = 20


def write_notice(
    outbox: Path, supplier: str, occasion: str, reason: str, names: Sequence[str], contact: Mapping[str, str]
) -> bool:
    """Tell a supplier once that files wait: `outbox/<supplier>/notices/<occasion>.<reason>.txt`.

    `occasion` is the day (or the month) it is about and `reason` a key of REASONS. Returns whether it is new: the same
    notice is never written again, by whichever process.
    """
    place = outbox / supplier / "notices" / f"{occasion}.{reason}.txt"
    if place.exists():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    return _write_once(place, _notice(occasion, reason, names, contact))


def _notice(occasion: str, reason: str, names: Sequence[str], contact: Mapping[str, str]) -> str:
    says, shown = REASONS[reason], sorted(names)[:SHOWN_NAMES]
    more = f"… (+{len(names) - len(shown)})\n" if len(names) > len(shown) else ""
    return (
        f"{occasion}\n"
        f"文件尚未受理：{says['zh']}。文件请留在原处，不必重新投递；受理后另有回执。\n"
        f"Not taken yet: {says['en']}. Leave the files where they are; each gets its receipt once it is taken.\n"
        f"{''.join(f'- {printable(name)}{chr(10)}' for name in shown)}{more}"
        f"联系 contact: {contact['zh']} {contact['en']} {contact['phone']}\n"
    )


def write_arrival_notes(
    outbox: Path, suppliers: Collection[str], in_progress: Iterable[tuple[str, str, str, str]]
) -> None:
    """Say in `outbox/<supplier>/arrived.txt` which files are being worked on; no file when none is.

    `in_progress` are (supplier, file name, step, delivery id). The note is the state when it is written.
    """
    lines: dict[str, list[str]] = {supplier: [] for supplier in suppliers}
    for supplier, name, step, delivery_id in in_progress:
        label = STEP_LABELS[step]
        lines.setdefault(supplier, []).append(f"{printable(name)}\t{label['zh']} {label['en']}\t{delivery_id}\n")
    for supplier, said in lines.items():
        _keep_note(outbox / supplier / "arrived.txt", "".join(sorted(said)))


def _keep_note(place: Path, text: str) -> None:
    if not text:
        place.unlink(missing_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    _scratch(place, text).replace(place)


def _write_once(place: Path, text: str) -> bool:
    """A finished file appears under its name, for the first of two writers only."""
    scratch = _scratch(place, text)
    try:
        os.link(scratch, place)
    except FileExistsError:
        return False
    finally:
        scratch.unlink()
    return True


def _scratch(place: Path, text: str) -> Path:
    scratch = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    scratch.write_text(text, encoding="utf-8")
    return scratch
