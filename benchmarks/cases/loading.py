"""Prompts from disk: how long until the first token, and what many of them take in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

import softprompt as sp
from benchmarks.cases.training import METHODS
from benchmarks.lines import Line, Plan
from benchmarks.peaks import measure_peak
from benchmarks.peers import TASK, Ours
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS, Weights
from benchmarks.timing import alternate

__all__ = ["COMPILED", "FROM_DISK", "READ_ANEW", "loading"]

COMPILED, READ_ANEW, FROM_DISK = "compiled before", "in memory, read anew", "from disk"
"""Behind a prompt that is ready, a first token takes its own time. The other prompts' rows go through the model first:
of one that is in memory, and of one that is loaded."""


def loading(plan: Plan) -> Iterator[Line]:
    """The first token behind prompts from disk and in memory; then time and memory of many prompts."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        for method in METHODS:
            if plan.wants(_token_behind(method)):
                yield _first_token(plan, shape, method)
        for count in (1,) if plan.quick else (1, 100):
            if plan.wants(_loaded(count)):
                yield _many(plan, shape, count)


def _token_behind(method: str) -> str:
    return f"first token behind a prompt of {method}, length 100"


def _loaded(count: int) -> str:
    return f"prompts of length 100 loaded and compiled: {count}"


def _many(plan: Plan, shape: str, count: int) -> Line:
    with tempfile.TemporaryDirectory() as folder:
        ours, paths = _stored(shape, plan.weights, "prompt tuning", count, Path(folder))
        _load_all(ours, paths)
        seconds = alternate({FROM_DISK: partial(_load_all, ours, paths)}, plan.rounds)
    held = measure_peak(_loading, count, shape, plan.weights).added
    return Line(
        case="loading",
        shape=shape,
        setting=_loaded(count),
        base=FROM_DISK,
        seconds=seconds,
        memory={FROM_DISK: held},
    )


def _first_token(plan: Plan, shape: str, method: str) -> Line:
    with tempfile.TemporaryDirectory() as folder:
        ours, (path,) = _stored(shape, plan.weights, method, 1, Path(folder))
        row = make_rows(draw_lengths("sentences", 1), ours.backbone.spec, prompt=TASK)[0]
        ids = torch.tensor([row.input], device=ours.backbone.device)

        def first_token(prompt: sp.SoftPrompt) -> None:
            sp.Prompted(ours.backbone, {TASK: prompt}).generate(input_ids=ids, prompts=TASK, max_new_tokens=1)

        ours.model.compile()
        ways = {
            COMPILED: partial(ours.model.generate, input_ids=ids, prompts=TASK, max_new_tokens=1),
            READ_ANEW: lambda: first_token(ours.model.prompts[TASK]),
            FROM_DISK: lambda: first_token(sp.SoftPrompt.load(path)),
        }
        for work in ways.values():
            work()
        seconds = alternate(ways, 3 * plan.rounds)
    return Line(case="loading", shape=shape, setting=_token_behind(method), base=COMPILED, seconds=seconds)


def _stored(shape: str, weights: Weights, method: str, count: int, folder: Path) -> tuple[Ours, list[Path]]:
    """A backbone, and the folders of so many prompts for it."""
    ours = Ours(shape, [METHODS[method](100)] * count, weights)
    paths = [folder / name for name in ours.model.prompts]
    for path, prompt in zip(paths, ours.model.prompts.values(), strict=True):
        prompt.save(path)
    return ours, paths


@torch.no_grad()
def _load_all(ours: Ours, paths: list[Path]) -> sp.Prompted:
    """Every prompt from its folder, ready to answer: those of rows are recorded."""
    model = sp.Prompted(ours.backbone, {path.name: sp.SoftPrompt.load(path) for path in paths})
    model.compile(list(model.prompts))
    return model


def _loading(count: int, shape: str, weights: Weights) -> Callable[[], object]:
    folder = tempfile.TemporaryDirectory()
    ours, paths = _stored(shape, weights, "prompt tuning", count, Path(folder.name))
    ours.model = sp.Prompted(ours.backbone)
    kept: list[object] = [folder]
    return lambda: kept.append(_load_all(ours, paths))
