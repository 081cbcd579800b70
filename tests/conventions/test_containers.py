"""No container engine runs where the project is built: the files are parsed and held against what they refer to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def instructions(project_root: Path) -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined."""
    text = (project_root / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


@pytest.fixture(scope="module")
def compose(project_root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((project_root / "docker-compose.yml").read_text("utf-8")))


def test_the_image_is_built_from_the_lock_by_the_same_installer(instructions: list[tuple[str, str]]) -> None:
    assert instructions[0] == ("FROM", "python:3.12-slim")
    assert any(name == "RUN" and "sh .ci/install" in arguments for name, arguments in instructions)
    copied = " ".join(arguments for name, arguments in instructions if name == "COPY")
    assert "requirements.lock" in copied


def test_the_image_copies_what_exists_and_is_let_through(
    instructions: list[tuple[str, str]], project_root: Path
) -> None:
    allowed = set(re.findall(r"^!(.+)$", (project_root / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    sources = {source for name, arguments in instructions if name == "COPY" for source in arguments.split()[:-1]}
    assert sources == allowed
    for source in sources:
        assert (project_root / source).exists(), source


def test_the_image_runs_the_command_without_root(instructions: list[tuple[str, str]], project_root: Path) -> None:
    scripts = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    [entry] = [arguments for name, arguments in instructions if name == "ENTRYPOINT"]
    assert yaml.safe_load(entry) == ["creditvillage"]
    assert "creditvillage" in scripts
    users = [arguments for name, arguments in instructions if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")


def test_compose_has_the_database_and_all_processes_of_airflow(compose: dict[str, Any]) -> None:
    commands = {name: service.get("command", [None])[0] for name, service in compose["services"].items()}
    assert commands == {
        "postgres": None,
        "migrate": "db",
        "api-server": "api-server",
        "scheduler": "scheduler",
        "dag-processor": "dag-processor",
    }
    for name, service in compose["services"].items():
        assert service.get("build") == "." or name == "postgres"


def test_compose_refers_to_services_and_volumes_it_has(compose: dict[str, Any]) -> None:
    services, volumes = set(compose["services"]), set(compose["volumes"])
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= services
        assert {mount.split(":")[0] for mount in service.get("volumes", [])} <= volumes
        assert {entry["source"] for entry in service.get("configs", [])} <= set(compose["configs"])


def test_compose_shows_nothing_to_the_network_and_holds_no_secret(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY", name):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), name
            if "://" in str(value) and "@" in value:
                assert ":${POSTGRES_PASSWORD:?" in value, name


def test_compose_makes_every_database_the_services_use(compose: dict[str, Any]) -> None:
    text = str([service["environment"] for service in compose["services"].values()])
    used = set(re.findall(r"@postgres:5432/([a-z]+)", text))
    made = set(re.findall(r"CREATE DATABASE ([a-z]+);", compose["configs"]["databases"]["content"]))
    assert used == made | {compose["services"]["postgres"]["environment"]["POSTGRES_DB"]}
