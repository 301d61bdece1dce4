"""`softprompt study --workers 2` as it is started from a shell, killed, and started again."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.studies.grids import small_grid
from tests.studies.tables import lasting

from softprompt.config import plain_values
from softprompt.studies import ResultsTable, load_grid, run_grid

PATIENCE_S = 300

pytestmark = pytest.mark.slow


def children(pid: int) -> set[int]:
    """Processes that one has started, and theirs."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid and state != "Z":
            found |= {int(stat.parent.name)} | children(int(stat.parent.name))
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(holds, study: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        assert study is None or study.poll() is None, "it ended before it was killed"
        time.sleep(0.02)


def test_a_command_that_was_killed_goes_on(tmp_path):
    """With processes that are started as in production, from nothing: each imports all, and is told what to do."""
    grid = small_grid(tmp_path)
    moved = {"task": "reviews", "method": "prompt tuning"}
    methods = {
        **grid.methods,
        "moved": {"method": "prompt_tuning", "length": 3, "learning_rate": 0.1, "starts_from": moved},
        "bare": {"method": "text_prompt"},
    }
    grid = dataclasses.replace(
        grid, methods=methods, run={**grid.run, "steps": 60}, session={"progress": False, "checkpoint_every": 5}
    )
    file, folder = tmp_path / "grid.yaml", tmp_path / "cut"
    file.write_text(yaml.safe_dump(plain_values(vars(grid))), encoding="utf-8")
    whole = lasting(run_grid(load_grid(file), tmp_path / "whole", device="cpu", say=lambda line: None))
    assert len(whole) == len(grid.cells())
    command = [sys.executable, "-m", "softprompt", "study", "--grid", str(file), "--output_dir", str(folder)]
    command += ["--workers", "2", "--device", "cpu"]

    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: list(folder.glob("sessions/*/session/checkpoints/step-*")), study)
    started = children(study.pid)
    os.killpg(study.pid, signal.SIGKILL)
    assert study.wait() == -signal.SIGKILL
    assert len(started) >= 2
    wait_until(lambda: all(map(gone, started)))
    assert len(ResultsTable(folder / "results.jsonl")) < len(whole)
    assert list(folder.glob("sessions/*/session/checkpoints/step-*"))

    again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert again.returncode == 0, again.stderr
    assert lasting(ResultsTable(folder / "results.jsonl")) == whole
    assert not list((folder / "sessions").iterdir())
    assert "prompt tuning" in again.stdout
    assert "[worker 2]" in again.stderr
