"""Lower floors never import upper ones, and rooms on one floor do not import each other."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "softprompt"
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
FLOORS = [[room.strip(" ()") for room in floor.split("|")] for floor in CONTRACT["layers"]]


def lint_imports(root: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Check the contract of `root` against the package under `source`."""
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--config", root / "pyproject.toml"],
        cwd=root,
        env={"PYTHONPATH": str(source), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def house(tmp_path):
    """A package with every room of the contract, all of them empty."""
    for room in (room for floor in FLOORS for room in floor):
        folder = tmp_path / "softprompt" / room
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (tmp_path / "softprompt" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return tmp_path


def test_the_floors_are_kept():
    checked = lint_imports(ROOT, ROOT / "src")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_contract_accepts_an_import_from_below(house):
    (house / "softprompt" / "training" / "__init__.py").write_text("import softprompt.conditioning\n")
    checked = lint_imports(house, house)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("room", "line"),
    [
        pytest.param("backbones", "import softprompt.conditioning", id="from above"),
        pytest.param("errors", "def late():\n    import softprompt.cli", id="from above, inside a function"),
        pytest.param("prompts", "import softprompt.tasks", id="from the same floor"),
        pytest.param("attic", "", id="a room that is in no plan"),
    ],
)
def test_the_contract_refuses(house, room, line):
    (house / "softprompt" / room).mkdir(exist_ok=True)
    (house / "softprompt" / room / "__init__.py").write_text(f"{line}\n")
    checked = lint_imports(house, house)
    assert checked.returncode == 1, checked.stdout + checked.stderr


def test_only_the_top_floor_imports_the_public_face():
    """The public face leads to every floor, so an import of it further down would pass the contract and break it."""
    importers = grimp.build_graph("softprompt", cache_dir=None).find_modules_that_directly_import("softprompt")
    assert {name for name in importers if not name.startswith("softprompt.cli.")} == set()


def test_no_module_names_an_upper_room_in_a_string():
    """An import by name (`import_module("softprompt.cli")`) is out of the contract's sight."""
    level = {f"softprompt.{room}": height for height, floor in enumerate(reversed(FLOORS)) for room in floor}
    upward = []
    for file in sorted(SOURCE.rglob("*.py")):
        room = f"softprompt.{file.relative_to(SOURCE).parts[0].removesuffix('.py')}"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and room in level:
                named = ".".join(node.value.partition(":")[0].split(".")[:2])
                if level.get(named, 0) > level[room]:
                    upward.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.value}")
    assert upward == []
