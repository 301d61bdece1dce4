"""Processes that share each batch end where one process does, stop together, and go on in another number."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.launching import launch, workers

from softprompt.loop.checkpoints import latest_checkpoint, load_checkpoint
from softprompt.pretraining import PretrainConfig, pretrain

pytestmark = pytest.mark.slow

STEPS = 40


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A file of settings, beside its text; the tokenizer is learned from it."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghilmnoprstuv", k=rng.randint(1, 7))) for _ in range(600)]
    texts = [" ".join(rng.choices(words, k=60)) for _ in range(200)]
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    values = {
        "train": [str(tmp_path / "text.jsonl")],
        "cache_dir": str(tmp_path / "cache"),
        "vocab_size": 650,
        "preset": "t5-tiny",
        "objective": "prefix_lm",
        "precision": "fp32",
        "steps": STEPS,
        "batch_size": 4,
        "window": 32,
        "warmup_steps": 10,
        "evaluate_every": 15,
        "held_out_windows": 4,
        "snapshots": [7],
    }
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def start(settings: Path, output_dir: Path, *, count: int, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """`softprompt pretrain` in a number of processes."""
    command = ["softprompt", "pretrain", "--config", str(settings), "--output_dir", str(output_dir), *options]
    return launch(*command, count=count)


def run_alone(settings: Path, output_dir: Path, **changes: object) -> dict:
    values = yaml.safe_load(settings.read_text())
    return pretrain(PretrainConfig(**{**values, "output_dir": str(output_dir), "threads": 1, **changes}))


def assert_close(first: Path, second: Path) -> None:
    """The weights, as they are stored, differ by the rounding of sums in another order, which steps make larger."""
    ours, theirs = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight.float(), theirs[name].float(), rtol=0.02, atol=2e-4)
    equal = sum((weight == theirs[name]).sum().item() for name, weight in ours.items())
    assert equal > 0.99 * sum(weight.numel() for weight in ours.values())


def test_two_processes_learn_what_one_does(settings: Path, tmp_path: Path) -> None:
    pair = start(settings, tmp_path / "pair", count=2)
    said, _ = pair.communicate(timeout=300)
    assert pair.returncode == 0, said
    for once in ("Learning a tokenizer", "Preparing the text.", "step 15: held-out", "held_out_bits_per_byte"):
        assert said.count(once) == 1, said
    alone = run_alone(settings, tmp_path / "alone")
    card = json.loads((tmp_path / "pair" / "card.json").read_text())
    assert (card["processes"], alone["processes"]) == (2, 1)
    for fact in ("steps", "tokens_seen", "flops", "parameters", "held_out_tokens"):
        assert card[fact] == alone[fact], fact
    for entry, other in zip(card["history"], alone["history"], strict=True):
        assert entry == pytest.approx(other, rel=1e-4)
    assert_close(tmp_path / "pair", tmp_path / "alone")
    assert_close(tmp_path / "pair" / "snapshots" / "step-7", tmp_path / "alone" / "snapshots" / "step-7")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("which", [0, 1])
def test_a_signal_to_one_stops_all_and_another_number_goes_on(settings: Path, tmp_path: Path, which: int) -> None:
    folder = tmp_path / "pair"
    options = ("--checkpoint_every_s", "0")
    pair = start(settings, folder, count=2, options=(*options, "--steps", "100000", "--schedule", "constant"))
    try:
        deadline_s = time.monotonic() + 120
        while latest_checkpoint(folder / "checkpoints") is None and time.monotonic() < deadline_s:
            time.sleep(0.05)
        os.kill(sorted(workers(pair.pid))[which], signal.SIGTERM)
        said, _ = pair.communicate(timeout=120)
    finally:
        if pair.poll() is None:
            os.killpg(pair.pid, signal.SIGKILL)
    stopped = load_checkpoint(latest_checkpoint(folder / "checkpoints"))["counts"]["step"]
    assert said.count(f"Stopped after step {stopped} of 100000; the state is saved in") == 2, said
    steps = stopped + 10
    changes = {"schedule": "constant", "steps": steps, "snapshots": [7] if stopped > 7 else []}
    card = run_alone(settings, folder, **changes)
    assert (card["steps"], card["processes"]) == (steps, 1)
    run_alone(settings, tmp_path / "alone", **changes)
    assert_close(folder, tmp_path / "alone")
