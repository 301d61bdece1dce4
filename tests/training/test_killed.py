"""A session that is killed or interrupted, and called again, ends bit for bit as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.processes import MOMENTS, finish, start

NAMES = ("rows", "keys")


def outcome(folder: Path) -> dict[str, object]:
    """What a session left: each run's tensors, scores, settings and history."""
    found: dict[str, object] = {}
    for name in NAMES:
        prompt = folder / "prompts" / name
        found[name] = load_file(prompt / "prompt.safetensors")
        found[f"{name}.json"] = json.loads((prompt / "prompt.json").read_text())
        found[f"{name}.history"] = (folder / "runs" / f"{name}.jsonl").read_text()
    return found


def assert_same(found: dict[str, object], wanted: dict[str, object]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name in NAMES:
            assert found[name].keys() == value.keys()
            assert all(torch.equal(found[name][key], value[key]) for key in value), name
        else:
            assert found[name] == value, name


def wait_for(path: Path, process) -> None:
    """Wait until a file is there, while a process lives."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.exitcode is None, f"{path} never came"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What the session leaves that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole") / "session"
    assert finish(start(folder)) == 0
    return outcome(folder)


@pytest.mark.parametrize(("moment", "count"), [*((moment, 6) for moment in MOMENTS), (MOMENTS[0], 1)])
def test_killed_while_a_checkpoint_is_written(moment, count, tmp_path, uninterrupted):
    assert finish(start(tmp_path / "a", moment=moment, count=count)) == -signal.SIGKILL
    assert not (tmp_path / "a" / "prompts").exists()
    assert finish(start(tmp_path / "a")) == 0
    assert_same(outcome(tmp_path / "a"), uninterrupted)


def kill_and_resume(folder: Path, source: random.Random, kills: int, **settings) -> int:
    """Kill a session at random moments, then let it end; how many kills came before its end."""
    killed = 0
    for _ in range(kills):
        process = start(folder, **settings)
        wait_for(folder / "session.json", process)
        time.sleep(source.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        killed += finish(process) == -signal.SIGKILL
    assert finish(start(folder, **settings)) == 0
    return killed


def test_killed_at_random_steps(tmp_path, uninterrupted):
    kill_and_resume(tmp_path / "a", random.Random(0), 3)
    assert_same(outcome(tmp_path / "a"), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_every", [1, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_killed_often_at_random_steps(seed, checkpoint_every, tmp_path):
    settings = {"steps": 120, "evaluate_every": 25, "checkpoint_every": checkpoint_every}
    assert finish(start(tmp_path / "whole", **settings)) == 0
    assert kill_and_resume(tmp_path / "a", random.Random(seed), 8, **settings) >= 3
    assert_same(outcome(tmp_path / "a"), outcome(tmp_path / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_says_how_to_go_on(number, tmp_path, uninterrupted):
    folder = tmp_path / "a"
    process = start(folder)
    wait_for(folder / "checkpoints" / f"step-{3:09d}", process)
    os.kill(process.pid, number)
    assert finish(process) == 0
    said = (folder / "interrupted.txt").read_text()
    newest = max(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").glob("step-*"))
    assert said == (
        f"Stopped after step {newest}; the state is saved in {folder}. To go on, run the same command, or call train "
        "with the same settings, again."
    )
    assert 3 <= newest < 12
    assert finish(start(folder)) == 0
    assert_same(outcome(folder), uninterrupted)


def test_no_drafts_are_left_behind(tmp_path):
    """A killed process cannot remove what it was writing; the next one does."""
    folder = tmp_path / "a"
    assert finish(start(folder, moment="half-written tensors", count=4)) == -signal.SIGKILL
    assert list((folder / "checkpoints").glob(".step-*"))
    assert finish(start(folder)) == 0
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [f"step-{step:09d}" for step in (11, 12)]
