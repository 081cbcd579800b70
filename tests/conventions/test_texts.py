"""What stands in no file of the project: somebody's machine, a package host, a half-done thought."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

# Words are put together at run time, so that this file does not find itself.
FORBIDDEN = {
    "a path of one machine": re.compile("/(root|work)/[a-z.]|/tmp/" + "spec|/home" + "/[a-z][a-z0-9_-]*/"),
    "a package or image registry": re.compile(
        "|".join(
            f"{name}\\.{end}"
            for name, end in (
                ("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"), ("npmjs", "org"), ("ghcr", "io"),
                ("quay", "io"), ("docker", "io"), ("gcr", "io"), ("azurecr", "io"), ("maven", "org"),
            )
        )
    ),
    "an index option": re.compile("--(extra-)?" + "index-url|--find" + r"-links|index" + "-url ?="),
    "something left to do": re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b"),
    "a tool that wrote it": re.compile("Chat" + "GPT|Clau" + "de|Co" + "pilot|Anthro" + "pic|Open" + "AI"),
    "a merge left behind": re.compile(r"^(<{7}|>{7}) ", re.MULTILINE),
}  # fmt: skip
OWN_WORDS = {
    # make lock must say that the lock names no index, CONTRIBUTING and the design's words are free
    "an index option": {"Makefile", "test_install.py"},
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str, texts: dict[Path, str], project_root: Path) -> None:
    found = []
    for path, text in texts.items():
        if path.name in OWN_WORDS.get(what, ()):
            continue
        for hit in FORBIDDEN[what].finditer(text):
            line = text.count("\n", 0, hit.start()) + 1
            found.append(f"{path.relative_to(project_root)}:{line}: {hit[0]}")
    assert not found


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see /" + "root/notes"),
        ("a package or image registry", "FROM gh" + "cr.io/x"),
        ("an index option", "pip install --ind" + "ex-url x"),
        ("something left to do", "# TO" + "DO later"),
        ("a merge left behind", "<" * 7 + " HEAD"),
    ],
)
def test_the_patterns_find_what_they_are_for(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


def test_text_files_end_in_one_newline_and_have_no_stray_blanks(texts: dict[Path, str], project_root: Path) -> None:
    kinds = {".py", ".sql", ".yml", ".toml", ".md", ".sh"}
    found = []
    for path, text in texts.items():
        if path.suffix not in kinds or not text:
            continue
        if not text.endswith("\n") or text.endswith("\n\n") or re.search(r"[ \t]+$", text, re.MULTILINE):
            found.append(str(path.relative_to(project_root)))
    assert not found


def test_the_top_level_is_what_the_design_says(project_root: Path) -> None:
    allowed = {
        "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "requirements.lock",
        "requirements-spark.lock", "Makefile", "Dockerfile", "docker-compose.yml", "config", "dags", "etl",
        "expectations", "sql", "simulator", "benchmarks", "tests", "docs", "dist", "build",
    }  # fmt: skip
    visible = {path.name for path in project_root.iterdir() if not path.name.startswith((".", "__pycache__"))}
    assert visible - allowed == set()
