"""What the conventions are checked on: the project's own files, without environment, caches and runtime state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

_FOREIGN = {"dist", "build", "results", "node_modules"}


def _own_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir() or path.name == ".git"  # a file in a worktree
        hidden_state = path.name.startswith(".") and is_folder and path.name != ".ci"
        if hidden_state or path.name in _FOREIGN or path.name.startswith("__pycache__") or path.is_symlink():
            continue
        if path.is_dir():
            yield from _own_files(path)
        elif not path.name.endswith((".pyc", ".egg-info")):
            yield path


@pytest.fixture(scope="session")
def own_files(project_root: Path) -> list[Path]:
    """Every file of the project."""
    return list(_own_files(project_root))


@pytest.fixture(scope="session")
def texts(own_files: list[Path]) -> dict[Path, str]:
    """Every file that is UTF-8 text, with its content."""
    found = {}
    for path in own_files:
        try:
            found[path] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


@pytest.fixture(scope="session")
def modules(texts: dict[Path, str]) -> dict[Path, str]:
    """Every Python file with its source."""
    return {path: text for path, text in texts.items() if path.suffix == ".py"}
