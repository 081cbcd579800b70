"""How the code looks, as far as a linter does not say it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PRODUCT = ("etl", "dags", "simulator")
LONGEST_FUNCTION = 60


def _of(modules: dict[Path, str], root: Path, *folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for path, source in modules.items():
        relative = path.relative_to(root)
        if relative.parts[0] in folders:
            yield relative, ast.parse(source)


def _calls_of(tree: ast.Module, name: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


@pytest.mark.parametrize("name", ["print", "breakpoint", "eval", "exec", "input"])
def test_the_product_talks_through_its_console_and_logs(
    modules: dict[Path, str], project_root: Path, name: str
) -> None:
    found = [f"{path}:{line}" for path, tree in _of(modules, project_root, *PRODUCT) for line in _calls_of(tree, name)]
    assert not found


def test_functions_stay_short(modules: dict[Path, str], project_root: Path) -> None:
    found = []
    for path, tree in _of(modules, project_root, *PRODUCT, "benchmarks", "tests", ".ci"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    found.append(f"{path}:{node.lineno} {node.name} has {lines} lines")
    assert not found


def test_every_module_says_what_it_is(modules: dict[Path, str], project_root: Path) -> None:
    trees = _of(modules, project_root, *PRODUCT, "benchmarks")
    silent = [str(path) for path, tree in trees if tree.body and not ast.get_docstring(tree)]
    assert not silent


def test_every_public_class_and_function_of_etl_with_a_long_body_has_a_docstring(
    modules: dict[Path, str], project_root: Path
) -> None:
    silent = []
    for path, tree in _of(modules, project_root, "etl"):
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > 8 and not ast.get_docstring(node):
                silent.append(f"{path}:{node.lineno} {node.name}")
    assert not silent


def test_no_handler_swallows_everything_unnamed(modules: dict[Path, str], project_root: Path) -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in _of(modules, project_root, *PRODUCT, "benchmarks")
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not found


def test_only_the_command_line_and_the_dags_read_the_clock(modules: dict[Path, str], project_root: Path) -> None:
    allowed = {"cli", "local", "console"}
    found = []
    for path, tree in _of(modules, project_root, "etl", "simulator"):
        if len(path.parts) > 1 and path.parts[1] in allowed:
            continue
        found += [f"{path}:{node.lineno}" for node in ast.walk(tree) if _reads_the_clock(node)]
    assert not found


def _reads_the_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value
    name = owner.id if isinstance(owner, ast.Name) else ""
    return (name, node.func.attr) in {
        ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time"),
    }  # fmt: skip
