"""Sessions in processes of their own, which may be killed.

The processes are forked from a server that has imported everything already, so that each starts at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import sklearn.metrics  # noqa: F401  # imported late by a metric: the server should have it already
import torch
from tests.training.sessions import calm_backbone, describing, sentiment

from softprompt import artefact
from softprompt.errors import TrainingInterrupted
from softprompt.loop import checkpoints
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training import Run, TrainConfig, train

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])

MOMENTS = ("half-written tensors", "before the rename", "after the rename", "before old ones are removed")


def two_runs(steps: int, evaluate_every: int) -> list[Run]:
    """One run for each optimizer, of two methods, on two tasks."""
    settings = {"steps": steps, "evaluate_every": evaluate_every}
    return [
        Run(
            name="rows",
            method=PromptTuning(length=4),
            task=sentiment(),
            optimizer="adafactor",
            learning_rate=0.3,
            batch_size=3,
            **settings,
        ),
        Run(
            name="keys",
            method=PrefixTuning(length=3, hidden=8),
            task=describing(),
            optimizer="adamw",
            learning_rate=0.01,
            schedule="cosine",
            warmup_steps=3,
            batch_size=2,
            max_new_tokens=4,
            seed=1,
            **settings,
        ),
    ]


def session(folder: str, steps: int, evaluate_every: int, checkpoint_every: int, moment: str, count: int) -> None:
    """Train in `folder`, and write what an interruption says to `interrupted.txt`.

    Args:
        folder: Its `output_dir`.
        steps: Of both runs.
        evaluate_every: Of both runs.
        checkpoint_every: Of the session.
        moment: One of `MOMENTS` at which the process kills itself, or nothing.
        count: At which checkpoint.
    """
    torch.set_num_threads(1)
    kill_at(moment, count)
    config = TrainConfig(output_dir=folder, checkpoint_every=checkpoint_every, progress=False)
    try:
        train(calm_backbone("decoder-only"), two_runs(steps, evaluate_every), config)
    except TrainingInterrupted as stop:
        Path(folder, "interrupted.txt").write_text(str(stop), encoding="utf-8")


def kill_at(moment: str, count: int) -> None:
    """Have the process kill itself at a moment of writing its checkpoint number `count`."""
    seen = 0

    def dying(call: Callable, ours: Callable[..., bool], *, first: Callable = lambda *_: None) -> Callable:
        def wrapped(*arguments, **keywords):
            nonlocal seen
            seen += ours(*arguments)
            if seen == count and ours(*arguments):
                first(call, *arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return wrapped

    def write_half(save: Callable, tensors: dict, file: Path) -> None:
        save(tensors, file)
        os.truncate(file, file.stat().st_size // 2)

    match moment:
        case "half-written tensors":
            artefact.save_file = dying(artefact.save_file, lambda *_: True, first=write_half)
        case "before the rename":
            os.rename = dying(os.rename, lambda *_: True)
        case "after the rename":
            os.rename = dying(os.rename, lambda *_: True, first=lambda rename, *paths: rename(*paths))
        case "before old ones are removed":
            checkpoints.shutil.rmtree = dying(
                checkpoints.shutil.rmtree, lambda path, *_: Path(path).name.startswith("step-")
            )


def start(folder: Path, *, steps: int = 12, evaluate_every: int = 5, checkpoint_every: int = 1, moment: str = "",
          count: int = 0) -> multiprocessing.process.BaseProcess:  # fmt: skip
    """Start `session`."""
    process = CONTEXT.Process(
        target=session, args=(str(folder), steps, evaluate_every, checkpoint_every, moment, count)
    )
    process.start()
    return process


def finish(process: multiprocessing.process.BaseProcess) -> int | None:
    """Wait for its end; its exit code, negative for a signal."""
    process.join(timeout=120)
    return process.exitcode
