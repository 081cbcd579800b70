"""Every model stays inside the SQL that both engines understand alike; prints what does not and exits 1."""

import sys
from pathlib import Path

from etl.engine.models import lint

findings = [
    f"{path}: {finding}" for path in sorted(Path("sql").rglob("*.sql")) for finding in lint(path.read_text("utf-8"))
]
sys.stdout.writelines(f"{finding}\n" for finding in findings)
sys.exit(bool(findings))
