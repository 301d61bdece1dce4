"""Peak memory of a training step: each way in a process of its own, beside the model and what loading it took."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.cases.training import DEFAULT, METHODS
from benchmarks.lines import OURS, Line, Plan
from benchmarks.peers import TASK, Ours, Peft
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS

__all__ = ["memory", "peak_bytes"]

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(plan: Plan) -> Iterator[Line]:
    """One step of prompt tuning against PEFT, and eight runs at once against eight processes."""
    for shape in plan.shapes(DECODERS):
        found = {OURS: peak_bytes(_one_step, shape)[0]}
        if plan.peers:
            found[DEFAULT] = peak_bytes(_peft_step, shape)[0]
        yield Line(
            case="memory",
            shape=shape,
            setting="a step of prompt tuning, length 100, sentences, batch 16: beside the model",
            memory=found,
            goals={DEFAULT: 3.0},
        )
        if plan.quick:
            continue
        together, alone = peak_bytes(_eight_runs, shape), peak_bytes(_a_run, shape)
        yield Line(
            case="memory",
            shape=shape,
            setting="a step of 8 runs of prompt tuning, length 100, sentences, batch 4 each: with the model",
            base="together",
            memory={"together": sum(together), "eight processes": 8 * sum(alone)},
            goals={"eight processes": 3.0},
        )


def peak_bytes(start: Callable[[str], Callable[[], object]], shape: str) -> tuple[int, int]:
    """Bytes at the peak of some work beside what was there before, and what was there before.

    Models are on the CPU, and what is resident counts.

    Args:
        start: From a shape to the work, in a new process.
        shape: The backbone's shape.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(start, shape, there, torch.get_num_threads()))
    process.start()
    there.close()
    try:
        found: tuple[int, int] = here.recv()
    finally:
        process.join()
    return found


def _measure(start: Callable[[str], Callable[[], object]], shape: str, pipe: object, threads: int) -> None:
    torch.set_num_threads(threads)
    work = start(shape)
    before = _reset()
    work()
    pipe.send((max(0, _peak() - before), before))  # type: ignore[attr-defined]


def _reset() -> int:
    if _FORGET.exists():
        _FORGET.write_text("5")
    return _peak()


def _peak() -> int:
    if _STATUS.exists():
        line = next(text for text in _STATUS.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _one_step(shape: str) -> Callable[[], object]:
    return _steps(shape, runs=1, batch=16)


def _a_run(shape: str) -> Callable[[], object]:
    return _steps(shape, runs=1, batch=4)


def _eight_runs(shape: str) -> Callable[[], object]:
    return _steps(shape, runs=8, batch=4)


def _steps(shape: str, *, runs: int, batch: int) -> Callable[[], object]:
    ours = Ours(shape, [METHODS["prompt tuning"](100)] * runs)
    batches = {
        name: make_rows(draw_lengths("sentences", batch, seed=index), ours.backbone.spec, prompt=name)
        for index, name in enumerate(map(Ours.name_of, range(runs)))
    }
    return lambda: ours.step(batches)


def _peft_step(shape: str) -> Callable[[], object]:
    ours = Ours(shape, [METHODS["prompt tuning"](100)])
    theirs = Peft(shape, ours.model.prompts[TASK])
    rows = make_rows(draw_lengths("sentences", 16), ours.backbone.spec, prompt=TASK)
    return lambda: theirs.step(rows, best=False)
