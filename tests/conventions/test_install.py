"""The promise that one command on a bare machine is enough, as far as files can show it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

TARGETS = {"install", "demo", "test", "check", "bench", "up", "down", "backfill", "lock", "clean"}


@pytest.fixture(scope="module")
def makefile(project_root: Path) -> str:
    return (project_root / "Makefile").read_text("utf-8")


@pytest.fixture(scope="module")
def readme(project_root: Path) -> str:
    return (project_root / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def lock(project_root: Path) -> str:
    return (project_root / "requirements.lock").read_text("utf-8")


def _targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def test_the_makefile_has_its_targets(makefile: str) -> None:
    assert _targets(makefile) >= TARGETS


def test_every_make_command_of_the_readme_exists(readme: str, makefile: str) -> None:
    named = set(re.findall(r"\bmake ([a-z]+)\b(?= *(?:[`#\n]|[A-Z]+=))", readme))
    assert {"demo", "test"} <= named
    assert named - _targets(makefile) == set()


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "up", "down"])
def test_each_target_installs_first(makefile: str, target: str) -> None:
    needs = {name: line.split() for name, line in re.findall(r"^([a-z]+):([^#\n]*)", makefile, re.MULTILINE)}
    reached = [target]
    while reached and "$(STAMP)" not in reached:
        reached = [need for name in reached for need in needs.get(name, [])]
    assert "$(STAMP)" in reached


def test_ci_runs_the_test_command_of_the_readme(project_root: Path, readme: str) -> None:
    script = (project_root / ".ci" / "run").read_text("utf-8")
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"
    assert "make test" in readme


@pytest.mark.parametrize("name", ["run", "install", "system", "check"])
def test_scripts_can_be_run(project_root: Path, name: str) -> None:
    script = project_root / ".ci" / name
    assert script.stat().st_mode & 0o111
    shell = "bash" if "bash" in script.read_text("utf-8").splitlines()[0] else "sh"
    assert subprocess.run([shell, "-n", script], capture_output=True).returncode == 0


def test_the_lock_has_a_hash_for_every_package_and_names_no_index(lock: str) -> None:
    entries = re.split(r"\n(?=[a-zA-Z0-9])", lock)
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._\[\],-]+==\S+", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
    assert "://" not in lock
    assert "index-url" not in lock


def test_the_lock_has_every_direct_dependency(project_root: Path, lock: str) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[=<>~! ;]", line)[0].lower() for line in direct}
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE))
    assert names - {name.lower() for name in locked} == set()


def test_spark_is_an_extra_and_not_installed_by_default(project_root: Path, lock: str) -> None:
    extras = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert any(line.startswith("pyspark") for line in extras["spark"])
    assert not re.search(r"^pyspark==", lock, re.MULTILINE)


def test_all_places_claim_the_same_python_versions(project_root: Path, readme: str, makefile: str) -> None:
    settings = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))
    assert settings["project"]["requires-python"] == ">=3.11,<3.13"
    assert settings["tool"]["ruff"]["target-version"] == "py311"
    assert settings["tool"]["mypy"]["python_version"] == "3.11"
    assert "--python-version 3.11" in makefile
    installer = (project_root / ".ci" / "install").read_text("utf-8")
    assert "(3, 11) <= sys.version_info[:2] <= (3, 12)" in installer
    assert "FROM python:3.12-slim" in (project_root / "Dockerfile").read_text("utf-8")
    assert "3.11" in readme
    assert "3.12" in readme


@pytest.mark.parametrize(
    "path",
    [
        ".venv/bin/python",
        ".creditvillage/secrets/token.key",
        "benchmarks/results/latest.json",
        "etl/__pycache__/period.pyc",
        ".mypy_cache/x",
        ".pytest_cache/x",
        ".ruff_cache/x",
        ".hypothesis/x",
    ],
)
def test_runtime_state_is_ignored(project_root: Path, path: str) -> None:
    if not shutil.which("git") or not (project_root / ".git").exists():
        pytest.skip("needs git and a clone")
    asked = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=project_root, capture_output=True)
    assert asked.returncode == 0
