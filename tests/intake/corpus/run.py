"""Takes in everything that lies in the drop zones, as one process, and says at what memory: `python -m … DELIVERIES`.

The environment says where (`$CREDITVILLAGE_*`). `then` of an entry is played here, because it happens between claim and
answer: `rewritten_after_landing` and `rewritten_before_landing` write through a handle opened before the scan,
`replaced_before_landing` puts another file in its place, `removed_before_landing` takes it away.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from etl import pipeline
from etl.ledger.records import Delivery
from etl.registry import SecondOpinion
from etl.settings import Settings
from etl.workspace import Workspace
from tests.intake.corpus.entries import Entry, entries

# it is what the corpus would otherwise wait for
SECOND_OPINION = SecondOpinion(share_pct=8)
NOW = datetime(2024, 4, 5, 3, 0, tzinfo=UTC)


def main(answer_to: Path) -> None:
    """Scan, claim and take in; write which deliveries failed in the open and the peak memory in KiB."""
    settings = Settings.from_environment()
    ws = Workspace(settings)
    object.__setattr__(ws.registry.county, "second_opinion", SECOND_OPINION)
    by_place = {str(settings.drop / entry.zone / entry.file_name): entry for entry in entries()}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        handles = {
            place: stack.enter_context(Path(place).open("r+b"))
            for place, entry in by_place.items()
            if entry.then and Path(place).exists()
        }
        claimed = [
            *pipeline.scan(settings, now=NOW, quiet_seconds=0.0, closed_too=True),
            *pipeline.collect_late(settings, now=NOW),
        ]
        for delivery in claimed:
            _take_in(ws, delivery, by_place.get(delivery.address), handles, failures)
    answer_to.write_text(json.dumps({"failures": failures, "peak_kib": _peak_kib()}), encoding="utf-8")


def _take_in(
    ws: Workspace, delivery: Delivery, entry: Entry | None, handles: dict[str, BinaryIO], failures: dict[str, str]
) -> None:
    try:
        if entry is not None and entry.then:
            if entry.then.endswith("after_landing"):
                pipeline.land(ws, delivery, now=NOW)
            PLAYS[entry.then](Path(delivery.address), handles[delivery.address])
        pipeline.take_in(ws.settings, delivery.delivery_id, now=NOW, ws=ws)
    except Exception:  # whatever escapes is what the test is about
        failures[delivery.delivery_id] = traceback.format_exc()


def _rewrite(place: Path, handle: BinaryIO) -> None:
    handle.seek(0)
    handle.write(b"rewritten after the bank had said it was complete")
    handle.truncate()
    handle.flush()


def _replace(place: Path, handle: BinaryIO) -> None:
    other = place.with_name(".other")
    other.write_bytes(place.read_bytes() + b"more")
    other.replace(place)


PLAYS: dict[str, Callable[[Path, BinaryIO], None]] = {
    "rewritten_after_landing": _rewrite,
    "rewritten_before_landing": _rewrite,
    "replaced_before_landing": _replace,
    "removed_before_landing": lambda place, handle: place.unlink(),
}


def _peak_kib() -> int:
    """The peak of this process alone; `getrusage` would begin with that of the process it was started from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
