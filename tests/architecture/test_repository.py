"""What holds for every tracked file: no paths of one machine, no leftovers, no test that does not test."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = {"", ".cfg", ".html", ".j2", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
PROSE_AND_CODE = TEXT - {".json", ".txt"}

# Brackets keep the patterns from matching this file.
MACHINE_PATH = re.compile(r"(?<![\w.~}])(?:/(?:[h]ome|[r]oot|[U]sers|[w]ork|[m]nt|[o]pt)/\w|[A-Z]:\\+[U]sers)")
WAY_UP = re.compile(r"(?:\.\./)+[\w][\w./-]*")
LEFTOVER = re.compile(r"\b(?:[T]ODO|[F]IXME|[X]XX|[l]orem ipsum)\b")
VAGUE = re.compile(r"^_?(?:utils?|common|helpers?|misc|managers?)$")
VAGUE_CLASS = re.compile(r"(?:Utils?|Helpers?|Manager)$")


def tracked(*suffixes: str) -> list[Path]:
    """The files that git tracks, relative to the root; all of them, or those with one of the suffixes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    files = [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return [file for file in files if not suffixes or file.suffix in suffixes]


def tree(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=str(file))


def found(pattern: re.Pattern[str], suffixes: set[str]) -> list[str]:
    """`file:line text` for each match in the tracked files."""
    return [
        f"{file}:{number} {match.group()}"
        for file in tracked(*suffixes)
        for number, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), start=1)
        for match in pattern.finditer(line)
    ]


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATH, 'path = "/' + 'home/me/data"'),
        (MACHINE_PATH, "C:\\" + "Users\\me"),
        (WAY_UP, "see .." + "/shared/DESIGN.md"),
        (LEFTOVER, "# TO" + "DO: later"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, line):
    assert pattern.search(line)


def test_the_repository_is_listed():
    assert Path("pyproject.toml") in tracked()


def test_no_path_of_one_machine():
    assert found(MACHINE_PATH, TEXT) == []


def test_no_path_leaves_the_repository():
    """A path with `../` is read from its file's folder and leads to a file of the repository."""
    astray = [hit for hit in found(WAY_UP, TEXT) if not leads_inside(hit)]
    assert astray == []


def leads_inside(hit: str) -> bool:
    place, _, path = hit.partition(" ")
    target = ((ROOT / place.partition(":")[0]).parent / path.rstrip(".")).resolve()
    return target.is_relative_to(ROOT) and target.exists()


def test_no_leftovers():
    assert found(LEFTOVER, PROSE_AND_CODE) == []


def test_no_vague_names():
    files = [str(file) for file in tracked() if any(VAGUE.match(part.partition(".")[0]) for part in file.parts)]
    classes = [
        f"{file}:{node.lineno} {node.name}"
        for file in tracked(".py")
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name)
    ]
    assert files + classes == []


def test_every_module_has_a_docstring():
    assert [str(file) for file in tracked(".py") if not ast.get_docstring(tree(file))] == []


def test_no_test_module_without_tests():
    empty = [str(file) for file in tracked(".py") if file.name.startswith("test_") and not names_of_tests(tree(file))]
    assert empty == []


def test_no_test_outside_a_test_module():
    """pytest collects `test_*.py` alone: a test in any other file would never run."""
    files = [file for file in tracked(".py") if file.parts[0] == "tests" and not file.name.startswith("test_")]
    assert [f"{file} {name}" for file in files for name in names_of_tests(tree(file))] == []


def names_of_tests(module: ast.Module) -> list[str]:
    """Names of the test functions and methods."""
    functions = (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [function.name for function in functions if function.name.startswith("test_")]


def test_no_pickle_is_read():
    """Stored tensors are read with safetensors; what only torch can read is read as plain weights.

    The error that torch raises then is pickle's.
    """
    unsafe = []
    for file in (file for file in tracked(".py") if file.parts[0] == "src"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                modules = names | {getattr(node, "module", None)}
                if names != {"UnpicklingError"} and modules & {"pickle", "cloudpickle", "dill", "joblib"}:
                    unsafe.append(f"{file}:{node.lineno}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if arguments.get("weights_only") != "True":
                    unsafe.append(f"{file}:{node.lineno}")
    assert unsafe == []


def test_no_attribute_is_guessed():
    """Rule 5: no `hasattr`; a class says what it has."""
    guesses = [
        f"{file}:{node.lineno}"
        for file in tracked(".py")
        if file.parts[0] == "src"
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr"
    ]
    assert guesses == []
