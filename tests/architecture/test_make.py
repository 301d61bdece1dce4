"""What `make` and `.ci/run` promise, with stand-ins for Python and make: nothing is installed here."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def run(*command: str | Path, path_first: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "CI"}
    if path_first:
        environment["PATH"] = f"{path_first}:{environment['PATH']}"
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def installed(tmp_path):
    """An environment that counts as complete; its Python is for a test to write."""
    venv = tmp_path / "venv"
    script(venv / "bin" / "python", "exit 1")
    later = time.time() + 60
    for stamp in (".runtime-complete", ".dev-complete"):
        (venv / stamp).touch()
        os.utime(venv / stamp, (later, later))
        later += 1
    return venv


def test_a_missing_python_is_named(tmp_path):
    done = run("make", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python", "test")
    assert done.returncode == 2
    assert "'no-such-python' was not found. softprompt needs Python 3.11 or newer." in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_named_with_its_version(tmp_path):
    old = script(tmp_path / "old-python", 'test "$1" = --version && echo Python 3.8.10 && exit 0\nexit 1')
    done = run("make", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}", "test")
    assert done.returncode == 2
    assert f"'{old}' is Python 3.8.10. softprompt needs Python 3.11 or newer." in done.stderr
    assert "make PYTHON=python3.12" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_failed_install_leaves_no_stamp(tmp_path):
    venv = tmp_path / "venv"
    script(venv / "bin" / "python", 'case "$*" in *--editable*) exit 1 ;; esac')
    done = run("make", f"VENV={venv}", "test")
    assert done.returncode == 2
    assert sorted(path.name for path in venv.iterdir()) == ["bin"]


def test_nothing_is_installed_again(installed):
    script(installed / "bin" / "python", 'echo "python $*"')
    done = run("make", f"VENV={installed}", "test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["python -m pytest -n 2 --dist worksteal --durations=5"]


def test_the_slow_tier_reads_the_files_that_hold_its_tests(installed):
    script(installed / "bin" / "python", 'echo "$*"')
    done = run("make", f"VENV={installed}", "test-slow")
    assert done.returncode == 0, done.stderr
    called = done.stdout.split()
    read = {word for word in called if word.endswith(".py")}
    holding = {
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "mark.slow" in path.read_text()
    }
    assert read == holding


@pytest.mark.parametrize(("fails", "calls"), [("none", ["lint", "test", "test-slow"]), ("test", ["lint", "test"])])
def test_ci_runs_each_tier_until_one_fails(tmp_path, fails, calls):
    script(tmp_path / "make", f'echo "$1 CI=$CI input=$(cat)"\ntest "$1" != {fails}')
    done = run(ROOT / ".ci" / "run", path_first=tmp_path, stdin="a terminal")
    assert done.stdout.splitlines() == [f"{call} CI=true input=" for call in calls]
    assert done.returncode == (0 if fails == "none" else 1)


def test_make_lists_its_targets():
    listed = {line.partition(":")[0] for line in run("make").stdout.splitlines()}
    assert listed == {"help", "demo", "test", "test-slow", "lint", "format", "bench"}
