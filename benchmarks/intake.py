"""Our side of `intake` and `large`: drop zones in, outcomes and receipts out, with ledger and landing; no grading.

scan and claim in one process, then others take deliveries in until none is left: what `intake` and `submissions` do under
the scheduler, without the scheduler. As there, workers are forked with the code loaded, and there are more of them than
cores: every delivery waits for the disk a dozen times.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from etl import pipeline
from etl.intake.sealing import create_master_key
from etl.settings import Settings
from etl.tokens import TokenKey
from etl.workspace import Workspace

NOW = datetime(2024, 3, 6, 1, 0, tzinfo=UTC)


def run(home: Path) -> dict[str, int]:
    """Every file in the drop zones of a home to its outcome; gives files and rows. Raises SystemExit for a refused one."""
    settings = Settings.from_environment()
    ws = Workspace(settings)
    create_master_key(ws.master_key_path)
    TokenKey.create(settings.token_key_path)
    ws.ledger.migrate()
    claimed = pipeline.scan(settings, now=NOW, quiet_seconds=0)
    ws.ledger.close()  # no worker inherits a connection
    with ProcessPoolExecutor((os.cpu_count() or 1) + 1, multiprocessing.get_context("fork")) as pool:
        taken = list(pool.map(take_in, [delivery.delivery_id for delivery in claimed]))
    outcomes = Counter(outcome for outcome, _ in taken)
    receipts = len(list((home / "outbox").rglob("*.receipt.json")))
    if set(outcomes) - {"accepted", "accepted_with_warnings"} or receipts != len(claimed):
        raise SystemExit(f"intake: {json.dumps(outcomes)}, {receipts} receipts for {len(claimed)} files")
    return {"files": len(taken), "rows": sum(rows for _, rows in taken)}


def take_in(delivery_id: str) -> tuple[str, int]:
    """One delivery to its outcome; gives it, and the rows read."""
    ws = _workspace()
    done = pipeline.take_in(ws.settings, delivery_id, now=NOW, ws=ws)
    return str(done.outcome), int(done.rows_read or 0)


@cache
def _workspace() -> Workspace:
    return Workspace(Settings.from_environment())
