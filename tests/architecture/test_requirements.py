"""pyproject.toml gives lower bounds, constraints.txt the tested versions, and both cover what is imported."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OPTIONAL = [line for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]
SHIPPED = [*PROJECT["project"]["dependencies"], *OPTIONAL]
BUILD_AND_DEV = [*PROJECT["build-system"]["requires"], *PROJECT["dependency-groups"]["dev"]]


def by_name(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by canonical name."""
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


REQUIRED = by_name(SHIPPED + BUILD_AND_DEV)
BUILD = set(by_name(PROJECT["build-system"]["requires"]))


def pins() -> dict[str, str]:
    """The tested versions of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pinned}


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_each_requirement_has_a_lower_bound_and_a_tested_version(name):
    requirement = REQUIRED[name]
    assert any(bound.operator == ">=" for bound in requirement.specifier)
    assert requirement.specifier.contains(pins()[name])


def test_the_tested_versions_name_no_build_of_one_machine():
    assert pins()["torch"] == "2.13.0"
    assert [version for version in pins().values() if "+" in version or "@" in version] == []


def reached() -> dict[str, str]:
    """What the requirements bring along in this environment: canonical name and version."""
    versions: dict[str, str] = {}
    waiting = [requirement for name, requirement in REQUIRED.items() if name not in BUILD]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            versions[name] = importlib.metadata.version(name)
            brought = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [r for r in brought if not r.marker or r.marker.evaluate({"extra": extra})]
    return versions


def test_what_runs_here_is_the_tested_set():
    """A pin that the environment does not follow says nothing; a local build (`2.13.0+cpu`) does follow."""
    pinned = pins()
    # A CUDA build of torch brings libraries that it pins by itself.
    brought = {
        name: version for name, version in reached().items() if not name.startswith(("nvidia-", "cuda-", "triton"))
    }
    assert {name: version.partition("+")[0] for name, version in brought.items()} == {
        name: pinned.get(name, "no pin") for name in brought
    }


def test_no_pin_is_left_over():
    build_time = BUILD | {"editables", "pip", "setuptools", "tomlkit", "trove-classifiers"}
    assert set(pins()) - set(reached()) - build_time == set()


def imported(file: Path) -> set[str]:
    """Top-level packages that a module imports, the standard library and softprompt aside."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"softprompt"}


def test_everything_imported_is_required():
    """A library that comes only along with another one goes away with it."""
    homes = importlib.metadata.packages_distributions()
    shipped = set(by_name(SHIPPED))
    missing = [
        f"{file.relative_to(ROOT)}: {package}"
        for file in sorted((ROOT / "src").rglob("*.py"))
        for package in imported(file)
        if not {canonicalize_name(home) for home in homes.get(package, [])} & shipped
    ]
    assert missing == []
