"""What the README shows works: its Python runs, its commands are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
HUB = "google/t5-v1_1-small"
COMMANDS = [line for line in README.splitlines() if line.startswith("softprompt ") and "--backbone" in line]


def test_the_python_example_runs(backbone, tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(program.strip().splitlines()) <= 16
    monkeypatch.chdir(tmp_path)
    shorter = program.replace(HUB, backbone).replace("task=task", "task=task, steps=2, truncate=True")
    shorter = shorter.replace('split="test"', 'split="test", rows=10, truncate=True')
    exec(compile(shorter, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "runs/polarity/prompts/rows" in out
    assert (tmp_path / "runs" / "polarity" / "prompts" / "keys" / "prompt.json").is_file()


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_understood(run, line):
    code, out, err = run(*shlex.split(line)[1:], "--print_config")
    assert code == 0, err
    assert HUB in out
