"""A session that is killed or interrupted, and called again, ends bit for bit as if nothing had happened."""

from __future__ import annotations

import json
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


def newest(folder: Path) -> int:
    """The step of the newest checkpoint; 0 without any."""
    found = (folder / "checkpoints").glob("step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What the session leaves that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole") / "session"
    assert finish(start(folder)) == 0
    return outcome(folder)


@pytest.mark.parametrize(
    ("moment", "count"), [*((moment, 6) for moment in MOMENTS), (MOMENTS[0], 1), ("before the rename", 13)]
)
def test_killed_while_a_folder_is_written(moment, count, tmp_path, uninterrupted):
    """The sixth checkpoint, the first, and the first prompt."""
    assert finish(start(tmp_path / "a", moment=moment, count=count)) == -signal.SIGKILL
    assert not (tmp_path / "a" / "prompts" / "rows").exists()
    assert finish(start(tmp_path / "a")) == 0
    assert_same(outcome(tmp_path / "a"), uninterrupted)


def kill_and_resume(folder: Path, source: random.Random, kills: int, **settings) -> int:
    """Kill a session at random moments, then let it end; how many kills came before its end."""
    killed = 0
    for _ in range(kills):
        step, pause_s = newest(folder) + source.randint(0, 5), source.uniform(0, 0.05)
        process = start(folder, **settings)
        while newest(folder) < step and process.is_alive():
            time.sleep(0.002)
        time.sleep(pause_s)
        process.kill()
        killed += finish(process) == -signal.SIGKILL
    assert finish(start(folder, **settings)) == 0
    return killed


def test_killed_at_random_steps(tmp_path, uninterrupted):
    kill_and_resume(tmp_path / "a", random.Random(0), 3)
    assert_same(outcome(tmp_path / "a"), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "checkpoint_every"), [(0, 1), (1, 3), (2, 7), (3, 3)])
def test_killed_often_at_random_steps(seed, checkpoint_every, tmp_path):
    settings = {"steps": 120, "evaluate_every": 25, "checkpoint_every": checkpoint_every}
    assert finish(start(tmp_path / "whole", **settings)) == 0
    assert kill_and_resume(tmp_path / "a", random.Random(seed), 12, **settings) >= 6
    assert_same(outcome(tmp_path / "a"), outcome(tmp_path / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_says_how_to_go_on(number, tmp_path, uninterrupted):
    """The signal comes while checkpoint 3 is written; the step after it is the last."""
    folder = tmp_path / "a"
    assert finish(start(folder, moment="before the rename", count=3, number=number)) == 0
    assert (folder / "interrupted.txt").read_text() == (
        f"Stopped after step 4; the state is saved in {folder}. To go on, run the same command, or call train with the "
        "same settings, again."
    )
    assert newest(folder) == 4
    assert finish(start(folder)) == 0
    assert_same(outcome(folder), uninterrupted)


def test_no_drafts_are_left_behind(tmp_path):
    """A killed process cannot remove what it was writing; the next one does."""
    folder = tmp_path / "a"
    assert finish(start(folder, moment="half-written tensors", count=4)) == -signal.SIGKILL
    assert list((folder / "checkpoints").glob(".step-*"))
    assert finish(start(folder)) == 0
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [f"step-{step:09d}" for step in (11, 12)]
