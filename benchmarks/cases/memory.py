"""Peak memory of a training step: each way in a process of its own, beside the model and what loading it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.cases.training import METHODS, TOGETHER
from benchmarks.lines import DEFAULT, OURS, Line, Plan
from benchmarks.peaks import measure_peak
from benchmarks.peers import TASK, Ours, Peft
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS, Weights

__all__ = ["PROCESSES", "memory"]

PROCESSES = "eight processes"
_STEP = "a step of prompt tuning, length 100, sentences, batch 16: beside the model"
_RUNS = "a step of 8 runs of prompt tuning, length 100, sentences, batch 4 each: with the model"


def memory(plan: Plan) -> Iterator[Line]:
    """One step of prompt tuning against PEFT, and eight runs at once against eight processes."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        if plan.wants(_STEP):
            found = {OURS: measure_peak(_steps, shape, plan.weights, 1, 16).added}
            if plan.peers:
                found[DEFAULT] = measure_peak(_peft_step, shape, plan.weights).added
            yield Line(case="memory", shape=shape, setting=_STEP, memory=found)
        if plan.wants(_RUNS) and not plan.quick:
            found = {
                TOGETHER: measure_peak(_steps, shape, plan.weights, 8, 4).of_processes(1),
                PROCESSES: measure_peak(_steps, shape, plan.weights, 1, 4).of_processes(8),
            }
            yield Line(case="memory", shape=shape, setting=_RUNS, base=TOGETHER, memory=found)


def _steps(shape: str, weights: Weights, runs: int, batch: int) -> Callable[[], object]:
    ours = Ours(shape, [METHODS["prompt tuning"](100)] * runs, weights)
    batches = {
        name: make_rows(draw_lengths("sentences", batch, seed=index), ours.backbone.spec, prompt=name)
        for index, name in enumerate(map(Ours.name_of, range(runs)))
    }
    return lambda: ours.step(batches)


def _peft_step(shape: str, weights: Weights) -> Callable[[], object]:
    ours = Ours(shape, [METHODS["prompt tuning"](100)], weights)
    theirs = Peft(shape, ours.model.prompts[TASK], weights)
    rows = make_rows(draw_lengths("sentences", 16), ours.backbone.spec, prompt=TASK)
    return lambda: theirs.step(rows, best=False)
