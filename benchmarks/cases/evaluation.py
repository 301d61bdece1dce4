"""What evaluation adds to a run: the same training with and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import softprompt as sp
from benchmarks.cases.training import METHODS
from benchmarks.lines import Line, Plan, compare
from benchmarks.shapes import DECODERS, ENCODER_DECODERS, build_backbone

__all__ = ["evaluation"]

_WITHOUT, _WITH = "without evaluation", "with it"


def evaluation(plan: Plan) -> Iterator[Line]:
    """A training whose labels are ranked half-way and at the end; each way starts anew, and so counts its start."""
    steps, rows = (4, 16) if plan.quick else (20, 64)
    setting = f"{steps} steps of batch 16, {rows} sentences ranked twice"
    for shape in (*plan.shapes(DECODERS, quick=0), *plan.shapes(ENCODER_DECODERS, quick=0)):
        if not plan.wants(setting):
            continue
        tokenizer = "gpt-mini" if shape in DECODERS else "t5-tiny"
        known = sp.Backbone.from_pretrained(f"bundled:{tokenizer}", device="cpu")
        backbone = build_backbone(shape, plan.weights, known.tokenizer)
        ways: dict[str, Callable[[], object]] = {
            _WITHOUT: partial(_train, backbone, steps, rows, evaluate_every=0),
            _WITH: partial(_train, backbone, steps, rows, evaluate_every=steps // 2),
        }
        yield compare(ways, plan, case="evaluation", shape=shape, setting=setting)


def _train(backbone: sp.Backbone, steps: int, rows: int, *, evaluate_every: int) -> None:
    run = sp.Run(
        name="run",
        method=METHODS["prompt tuning"](100),
        task=sp.load_task("sentence_polarity"),
        batch_size=16,
        steps=steps,
        evaluate_every=evaluate_every,
        evaluate_rows=rows,
    )
    sp.train(backbone, [run], sp.TrainConfig(progress=False))
