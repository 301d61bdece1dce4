"""Sessions in processes of their own, which may be killed.

The processes are forked from a server that has imported everything already, so that each starts at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sklearn.metrics  # noqa: F401  # imported late by a metric: the server should have it already
import torch
from tests.training.sessions import calm_backbone, describing, sentiment
from torch.distributed.fsdp._fully_shard import _fsdp_param_group

from softprompt import artefact
from softprompt.backbones import Backbone
from softprompt.errors import LostProcessError, TrainingInterrupted
from softprompt.loop import checkpoints
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training import Run, TrainConfig, train

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])

MOMENTS = ("half-written tensors", "before the rename", "after the rename", "before old ones are removed")
GATHERING = "while a layer is gathered"


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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a session is started with.

    Attributes:
        steps: Of both runs.
        evaluate_every: Of both runs.
        checkpoint_every: Of the session.
        moment: One of `MOMENTS`, at which the process sends itself a signal, or `GATHERING`; none if empty.
        count: Which folder is being written then, counted from 1: checkpoints first, prompts at the end; or which
            layer is gathered.
        number: The signal.
    """

    steps: int = 12
    evaluate_every: int = 5
    checkpoint_every: int = 1
    moment: str = ""
    count: int = 0
    number: int = signal.SIGKILL


def session(folder: str, settings: Settings) -> None:
    """Train in `folder`, and write what an interruption says to `interrupted.txt`."""
    torch.set_num_threads(1)
    signal_at(settings.moment, settings.count, settings.number)
    config = TrainConfig(output_dir=folder, checkpoint_every=settings.checkpoint_every, progress=False)
    try:
        train(calm_backbone("decoder-only"), two_runs(settings.steps, settings.evaluate_every), config)
    except TrainingInterrupted as stop:
        Path(folder, "interrupted.txt").write_text(str(stop), encoding="utf-8")


def member(folder: str, backbone: str, index: int, port: int, settings: Settings) -> None:
    """Train a sharded backbone as one of two processes; the first sends itself the signal.

    What the other says when it is lost is written to `lost-INDEX.txt`.
    """
    torch.set_num_threads(1)
    if index == 0:
        signal_at(settings.moment, settings.count, settings.number)
    own = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()})
    config = TrainConfig(output_dir=folder, checkpoint_every=settings.checkpoint_every, progress=False)
    runs = two_runs(settings.steps, settings.evaluate_every)
    try:
        train(Backbone.from_pretrained(backbone, sharded=True), runs, config)
    except LostProcessError as lost:
        Path(folder, f"lost-{index}.txt").write_text(str(lost), encoding="utf-8")


def signal_at(moment: str, count: int, number: int) -> None:
    """Have the process send itself a signal at a moment of writing its folder number `count`, or at a gather."""
    seen = 0

    def signalling(call: Callable, ours: Callable[..., bool], *, first: Callable = lambda *_: None) -> Callable:
        def wrapped(*arguments, **keywords):
            nonlocal seen
            seen += ours(*arguments)
            if seen == count and ours(*arguments):
                first(call, *arguments)
                os.kill(os.getpid(), number)
            return call(*arguments, **keywords)

        return wrapped

    def write_half(save: Callable, tensors: dict, file: Path) -> None:
        save(tensors, file)
        os.truncate(file, file.stat().st_size // 2)

    match moment:
        case "half-written tensors":
            artefact.save_file = signalling(artefact.save_file, lambda *_: True, first=write_half)
        case "before the rename":
            os.rename = signalling(os.rename, lambda *_: True)
        case "after the rename":
            os.rename = signalling(os.rename, lambda *_: True, first=lambda rename, *paths: rename(*paths))
        case "before old ones are removed":
            checkpoints.shutil.rmtree = signalling(
                checkpoints.shutil.rmtree, lambda path, *_: Path(path).name.startswith("step-")
            )
        case "while a layer is gathered":
            _fsdp_param_group.foreach_all_gather = signalling(_fsdp_param_group.foreach_all_gather, lambda *_: True)


def start(folder: Path, **settings: Any) -> multiprocessing.process.BaseProcess:
    """Start `session` with some `Settings`."""
    process = CONTEXT.Process(target=session, args=(str(folder), Settings(**settings)))
    process.start()
    return process


def start_pair(folder: Path, backbone: Path, **settings: Any) -> list[multiprocessing.process.BaseProcess]:
    """Start two processes of `member` with some `Settings`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (port, Settings(**settings))
    pair = [CONTEXT.Process(target=member, args=(str(folder), str(backbone), index, *given)) for index in range(2)]
    for process in pair:
        process.start()
    return pair


def finish(process: multiprocessing.process.BaseProcess) -> int | None:
    """Wait for its end; its exit code, negative for a signal."""
    process.join(timeout=120)
    return process.exitcode
