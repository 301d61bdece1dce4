"""What a training was estimated to take in memory, against what it took: each in a process of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import softprompt as sp
from benchmarks.lines import Line, Plan
from benchmarks.peaks import measure_peak
from benchmarks.shapes import DECODERS, ENCODER_DECODERS, Weights, build_backbone
from softprompt.loop.allocator import keep_freed_memory
from softprompt.prompts.registry import Method

__all__ = ["SETTINGS", "estimate", "measured", "setting_bytes"]

TOOK, KEPT, ESTIMATED = "took", "took, keeping what was freed", "estimated"
_GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""With this in the environment, glibc keeps little of what is freed."""


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """A training of two steps and an evaluation.

    Attributes:
        shape: Of which backbone.
        tokenizer: The bundled backbone whose tokenizer reads the rows.
        method: Of its runs.
        runs: How many at once.
        task: Name of the task.
        settings: Of the session.
    """

    shape: str
    tokenizer: str
    method: Method
    runs: int = 1
    task: str = "sentence_polarity"
    settings: Mapping[str, Any]

    def backbone(self, weights: Weights) -> sp.Backbone:
        tokenizer = sp.Backbone.from_pretrained(f"bundled:{self.tokenizer}", device="cpu").tokenizer
        return build_backbone(self.shape, weights, tokenizer)

    def all_runs(self, *, rows: int, steps: int) -> list[sp.Run]:
        return [
            sp.Run(
                name=f"run{seed}",
                method=self.method,
                task=sp.load_task(self.task),
                seed=seed,
                batch_size=rows,
                steps=steps,
                evaluate_rows=rows,
                max_new_tokens=32,
            )
            for seed in range(self.runs)
        ]

    def config(self) -> sp.TrainConfig:
        return sp.TrainConfig(progress=False, **self.settings)


_ROWS = sp.PromptTuning(length=100, init="vocab")
SETTINGS: Mapping[str, _Setting] = {
    "prompt tuning of T5": _Setting(shape="t5-small", tokenizer="t5-tiny", method=_ROWS, settings={}),
    "prompt tuning of GPT-2, bf16": _Setting(
        shape="gpt2", tokenizer="gpt-mini", method=_ROWS, settings={"precision": "bf16"}
    ),
    "prompt tuning of a Llama, E2E": _Setting(
        shape="small", tokenizer="gpt-mini", method=_ROWS, task="e2e_sample", settings={}
    ),
    "prefix tuning of T5 1.1, 4 runs": _Setting(
        shape="small-t5", tokenizer="t5-tiny", method=sp.PrefixTuning(length=20, hidden=256), runs=4, settings={}
    ),
    "prompt tuning of GPT-2, layers recomputed": _Setting(
        shape="gpt2", tokenizer="gpt-mini", method=_ROWS, settings={"gradient_checkpointing": True}
    ),
}
ROWS, STEPS = 16, 2


def estimate(plan: Plan) -> Iterator[Line]:
    """Trainings of several shapes, beside what the process holds that has trained a little."""
    shapes = plan.shapes([*DECODERS, *ENCODER_DECODERS])
    chosen = [name for name, setting in SETTINGS.items() if setting.shape in shapes and plan.wants(_described(name))]
    for name in chosen[:1] if plan.quick else chosen:
        took = {TOOK: measured(name, plan.weights, keeps=False)}
        if not plan.quick and plan.weights.device == "cpu":
            took[KEPT] = measured(name, plan.weights, keeps=True)
        yield Line(
            case="estimate",
            shape=SETTINGS[name].shape,
            setting=_described(name),
            base=TOOK,
            memory={**took, ESTIMATED: setting_bytes(name, plan.weights)},
        )


def _described(name: str) -> str:
    return f"{name}: batches of {ROWS}, beside the model"


def setting_bytes(name: str, weights: Weights) -> int:
    """What a setting is estimated to take beside what is held."""
    setting = SETTINGS[name]
    runs = setting.all_runs(rows=ROWS, steps=STEPS)
    return sp.estimate_memory(setting.backbone(weights), runs, setting.config()).added_bytes


def measured(name: str, weights: Weights, *, keeps: bool) -> int:
    """What it takes, in a new process.

    Args:
        name: Of the setting.
        weights: Where they lie, and in how many bits.
        keeps: Whether the process keeps the memory that it frees, as commands do, or gives it back.
    """
    with _environment({} if keeps else _GIVES_BACK):
        return measure_peak(_training, name, weights, keeps).added


def _training(name: str, weights: Weights, keeps: bool) -> Callable[[], object]:
    if keeps:
        keep_freed_memory()
    setting = SETTINGS[name]
    backbone = setting.backbone(weights)
    sp.train(backbone, setting.all_runs(rows=2, steps=1), setting.config())
    runs = setting.all_runs(rows=ROWS, steps=STEPS)
    return lambda: sp.train(backbone, runs, setting.config())


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
