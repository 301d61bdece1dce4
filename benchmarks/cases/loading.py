"""Prompts from disk: how long until the first token, and what many of them take in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

import softprompt as sp
from benchmarks.cases.memory import peak_bytes
from benchmarks.cases.training import METHODS
from benchmarks.lines import Line, Plan
from benchmarks.peers import TASK, Ours
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS
from benchmarks.timing import alternate

__all__ = ["ALLOWED_S", "FROM_DISK", "IN_MEMORY", "loading"]

FROM_DISK, IN_MEMORY, COMPILED = "from disk", "in memory", "compiled before"
"""The prompt's rows go through the model for the first token, unless that was done before."""
ALLOWED_S = 0.020
"""A first token from a prompt on disk may take so much longer than from one in memory."""


def loading(plan: Plan) -> Iterator[Line]:
    """The first token behind prompts from disk and in memory; then time and memory of many prompts."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        for method in METHODS:
            yield _first_token(plan, shape, method)
        for count in (1,) if plan.quick else (1, 100):
            with tempfile.TemporaryDirectory() as folder:
                ours, paths = _stored(shape, "prompt tuning", count, Path(folder))
                _load_all(ours, paths)
                seconds = alternate({FROM_DISK: partial(_load_all, ours, paths)}, plan.rounds)
            yield Line(
                case="loading",
                shape=shape,
                setting=f"prompts of length 100 loaded and compiled: {count}",
                base=FROM_DISK,
                seconds=seconds,
                memory={FROM_DISK: peak_bytes(partial(_loading, count), shape)[0]},
            )


def _first_token(plan: Plan, shape: str, method: str) -> Line:
    with tempfile.TemporaryDirectory() as folder:
        ours, (path,) = _stored(shape, method, 1, Path(folder))
        row = make_rows(draw_lengths("sentences", 1), ours.backbone.spec, prompt=TASK)[0]
        ids = torch.tensor([row.input])

        def first_token(prompt: sp.SoftPrompt) -> None:
            sp.Prompted(ours.backbone, {TASK: prompt}).generate(input_ids=ids, prompts=TASK, max_new_tokens=1)

        ways = {
            IN_MEMORY: lambda: first_token(ours.model.prompts[TASK]),
            FROM_DISK: lambda: first_token(sp.SoftPrompt.load(path)),
            COMPILED: partial(ours.model.generate, input_ids=ids, prompts=TASK, max_new_tokens=1),
        }
        for work in ways.values():
            work()
        seconds = alternate(ways, 3 * plan.rounds)
    setting = f"first token behind a prompt of {method}, length 100"
    return Line(case="loading", shape=shape, setting=setting, base=IN_MEMORY, seconds=seconds)


def _stored(shape: str, method: str, count: int, folder: Path) -> tuple[Ours, list[Path]]:
    """A backbone, and the folders of so many prompts for it."""
    ours = Ours(shape, [METHODS[method](100)] * count)
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


def _loading(count: int, shape: str) -> Callable[[], object]:
    folder = tempfile.TemporaryDirectory()
    ours, paths = _stored(shape, "prompt tuning", count, Path(folder.name))
    ours.model = sp.Prompted(ours.backbone)
    kept: list[object] = [folder]
    return lambda: kept.append(_load_all(ours, paths))
