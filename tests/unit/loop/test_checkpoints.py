"""Checkpoints come back exactly, are complete or absent, and let a training go on as if it had never stopped."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from softprompt.errors import ArtefactError
from softprompt.loop.checkpoints import flatten, latest_checkpoint, load_checkpoint, prune, save_checkpoint, unflatten
from softprompt.loop.optimizers import build_optimizer
from softprompt.loop.schedules import build_schedule

plain = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
keys = st.integers() | st.text() | st.tuples(st.integers(), st.text())
nests = st.recursive(
    plain,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(nests)
def test_plain_values_come_back_as_they_were(state: object) -> None:
    tensors, nest = flatten(state)
    back = unflatten(tensors, nest)
    assert back == state
    assert repr(back) == repr(state)  # also the difference between -0.0 and 0.0, 1 and True, list and tuple


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_floats_that_json_lacks_are_kept(tmp_path: Path, value: float) -> None:
    """The best metric so far starts at minus infinity."""
    path = save_checkpoint(tmp_path, 1, {"best": value})
    assert repr(load_checkpoint(path)["best"]) == repr(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_tensors_keep_dtype_shape_and_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = [torch.tensor([[0, 1], [1, 0]], dtype=dtype), torch.tensor(1, dtype=dtype), torch.zeros(0, dtype=dtype)]
    back = load_checkpoint(save_checkpoint(tmp_path, 1, {"all": tensors}))["all"]
    assert [tensor.dtype for tensor in back] == [dtype] * 3
    assert all(torch.equal(a, b) for a, b in zip(tensors, back, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_diverged_training_can_still_be_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    """Folders refuse NaN and infinity; one diverged run would have kept all runs of a session from being saved."""
    value = torch.tensor([1.5, math.nan, -math.inf], dtype=dtype)
    back = load_checkpoint(save_checkpoint(tmp_path, 1, {"x": value, "y": np.array([math.inf])}))
    assert back["x"].dtype == dtype
    assert torch.equal(back["x"].isnan(), value.isnan())
    assert back["x"][[0, 2]].tolist() == [1.5, -math.inf]
    assert back["y"].tolist() == [math.inf]


def test_random_states_come_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    state = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": generator.bit_generator.state}
    path = save_checkpoint(tmp_path, 7, state)
    expected = (torch.rand(3).tolist(), random.random(), generator.random(3).tolist())
    back = load_checkpoint(path)
    torch.set_rng_state(back["torch"])
    random.setstate(back["python"])
    generator.bit_generator.state = back["numpy"]
    assert (torch.rand(3).tolist(), random.random(), generator.random(3).tolist()) == expected


def test_arrays_come_back_as_arrays(tmp_path: Path) -> None:
    back = load_checkpoint(save_checkpoint(tmp_path, 1, {"order": np.arange(5, dtype=np.uint16)}))["order"]
    assert isinstance(back, np.ndarray)
    assert back.dtype == np.uint16
    assert back.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_five_steps_saved_and_five_more_are_ten(tmp_path: Path, name: str, schedule: str) -> None:
    def fresh() -> tuple[nn.Sequential, torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
        optimizer = build_optimizer(name, model.parameters(), learning_rate=0.1, weight_decay=0.01)
        return model, optimizer, build_schedule(schedule, optimizer, warmup_steps=2, total_steps=10)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, lr: object, numbers: range) -> None:
        for number in numbers:
            generator = torch.Generator().manual_seed(number)
            loss = model(torch.randn(4, 5, generator=generator)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            lr.step()

    whole = fresh()
    steps(*whole, range(10))
    first = fresh()
    steps(*first, range(5))
    model, optimizer, lr = first
    path = save_checkpoint(
        tmp_path, 5, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr": lr.state_dict()}
    )
    second = fresh()
    state = load_checkpoint(path)
    for part, key in zip(second, ("model", "optimizer", "lr"), strict=True):
        part.load_state_dict(state[key])
    steps(*second, range(5, 10))
    for a, b in zip(whole[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole[2].get_last_lr() == second[2].get_last_lr()


def test_the_newest_complete_checkpoint_is_the_latest(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "none") is None
    assert latest_checkpoint(tmp_path) is None
    for step in (9, 1000000000, 10):
        save_checkpoint(tmp_path, step, {"step": step})
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert load_checkpoint(latest) == {"step": 1000000000}


@pytest.mark.parametrize("lost", ["checkpoint.json", "checkpoint.safetensors"])
def test_a_half_written_checkpoint_is_never_chosen(tmp_path: Path, lost: str) -> None:
    good = save_checkpoint(tmp_path, 1, {"x": torch.ones(2)})
    (save_checkpoint(tmp_path, 2, {"x": torch.ones(2)}) / lost).unlink()
    assert latest_checkpoint(tmp_path) == good


def test_a_kill_while_saving_leaves_the_last_complete_one(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, torch
        from softprompt.loop.checkpoints import save_checkpoint
        for step in range(1, 10**6):
            save_checkpoint(sys.argv[1], step, {"x": torch.full((200_000,), step), "step": step})
            print(step, flush=True)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 5:
        pass
    time.sleep(random.random() * 0.02)
    process.kill()
    process.communicate()
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    state = load_checkpoint(latest)
    assert state["step"] >= 5
    assert (state["x"] == state["step"]).all()


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for step in (3, 1, 20):
        save_checkpoint(tmp_path, step, {})
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "step-000000003", "step-000000020"]
    prune(tmp_path, keep=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_prune_removes_what_a_killed_training_was_writing(tmp_path: Path) -> None:
    (tmp_path / ".step-000000004.x7d2").mkdir()
    save_checkpoint(tmp_path, 3, {})
    prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003"]


def test_what_cannot_be_stored_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"cannot hold object \(at state\.runs\.0\)"):
        save_checkpoint(tmp_path, 1, {"runs": [object()]})
    assert latest_checkpoint(tmp_path) is None


def test_a_foreign_state_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"x": 1})
    file = path / "checkpoint.json"
    file.write_text(file.read_text().replace('"items"', '"pickle"'))
    with pytest.raises(ArtefactError, match="does not hold the state of a training"):
        load_checkpoint(path)
    file.write_text("{}")
    with pytest.raises(ArtefactError, match="does not hold the state of a training"):
        load_checkpoint(path)
