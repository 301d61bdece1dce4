"""What README and docs show works: Python runs, commands are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HUB = "google/t5-v1_1-small"
COMMANDS = [line for line in README.splitlines() if line.startswith("softprompt ") and "--backbone" in line]


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(program.strip().splitlines()) <= 16
    monkeypatch.chdir(tmp_path)
    shorter = program.replace("steps=300", "steps=2, evaluate_rows=10").replace('split="test"', 'split="test", rows=10')
    assert "steps=2," in shorter
    assert "rows=10," in shorter
    exec(compile(shorter, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "runs/subj/prompts/words" in out
    assert (tmp_path / "runs" / "subj" / "prompts" / "keys" / "prompt.json").is_file()


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_understood(run, line):
    code, out, err = run(*shlex.split(line)[1:], "--print_config")
    assert code == 0, err
    assert HUB in out


DOCUMENTED = sorted(
    {
        line
        for page in (ROOT / "docs").glob("*.md")
        for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("softprompt ")
    }
)


@pytest.mark.parametrize("line", DOCUMENTED)
def test_the_commands_of_the_docs_are_understood(run, line):
    code, _, err = run(*shlex.split(line, comments=True)[1:], "--print_config")
    assert code == 0, err
