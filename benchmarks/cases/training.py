"""Training: an epoch of real lengths, softprompt against PEFT; many runs at once against each alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import softprompt as sp
from benchmarks.alike import check_losses, rows_of_one_length
from benchmarks.lines import BEST, DEFAULT, OURS, Line, Plan, compare
from benchmarks.peers import TASK, Ours, Peft
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS
from softprompt.prompts.registry import Method
from softprompt.training.data import Batches, TrainRow

__all__ = ["ALONE", "METHODS", "TOGETHER", "epoch_batches", "runs", "runs_at_once", "steps"]

TOGETHER, ALONE = "together", "one by one"
_BATCHES = {"small": 4, "small-t5": 4}
"""Of an epoch, by shape, else two: more take longer and change the ratios little."""

METHODS: dict[str, Callable[[int], Method]] = {
    "prompt tuning": lambda length: sp.PromptTuning(length=length, init="vocab"),
    "prefix tuning": lambda length: sp.PrefixTuning(length=length, hidden=None),
}

Setting = tuple[str, int, str, int]
"""Method, length, data, rows of a batch."""

_QUICK: list[Setting] = [("prompt tuning", 100, "sentences", 8)]


def steps(plan: Plan) -> Iterator[Line]:
    """Training steps, of an epoch in which each library batches the same rows as it does."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS)):
        for setting in _QUICK if plan.quick else _settings(shape):
            if plan.wants(_described(plan, shape, setting)):
                yield _epoch(plan, shape, setting)


def _settings(shape: str) -> list[Setting]:
    sixteen = [("prompt tuning", length, data, 16) for length in (20, 100) for data in _data(shape)]
    if shape in DECODERS:
        sixteen += [("prefix tuning", length, data, 16) for length in (20, 100) for data in _data(shape)]
        sixteen += [("prompt tuning", 100, "long", 16)]
    else:
        sixteen += [("prefix tuning", 100, "sentences", 16)]
    return [*sixteen, ("prompt tuning", 100, "sentences", 32)]


def _data(shape: str) -> tuple[str, str]:
    return ("sentences", "e2e") if shape in DECODERS else ("sentences", "qed")


def _described(plan: Plan, shape: str, setting: Setting) -> str:
    method, length, data, batch = setting
    return f"{method}, length {length}, {data}, batch {batch}: an epoch of {_count(plan, shape)} steps"


def _count(plan: Plan, shape: str) -> int:
    return 1 if plan.quick or plan.profiled else _BATCHES.get(shape, 2)


def _epoch(plan: Plan, shape: str, setting: Setting) -> Line:
    method, length, data, batch = setting
    ours = Ours(shape, [METHODS[method](length)], plan.weights)
    rows = make_rows(draw_lengths(data, batch * _count(plan, shape)), ours.backbone.spec, prompt=TASK)
    grouped = epoch_batches(rows, batch)
    ways: dict[str, Callable[[], object]] = {OURS: lambda: [ours.step({TASK: one}) for one in grouped]}
    if plan.peers and (method == "prompt tuning" or shape in DECODERS):  # PEFT's prefix of a T5 is another one
        theirs = Peft(shape, ours.model.prompts[TASK], plan.weights)
        check_losses(ours, theirs, grouped[0][:4], best=False)
        check_losses(ours, theirs, rows_of_one_length(ours), best=True)
        shuffled = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        ways[DEFAULT] = lambda: [theirs.step(one, best=False) for one in shuffled]
        ways[BEST] = lambda: [theirs.step(one, best=True) for one in grouped]
    return compare(ways, plan, case="steps", shape=shape, setting=_described(plan, shape, setting))


def epoch_batches(rows: Sequence[TrainRow], batch: int) -> list[list[TrainRow]]:
    """An epoch as a run of softprompt draws it: rows of like length share a batch."""
    batches = Batches(rows, batch_size=batch, batch_tokens=None, seed=0)
    return [batches.draw() for _ in range(-(-len(rows) // batch))]


def runs(plan: Plan) -> Iterator[Line]:
    """Eight runs in one session against each in its own: seconds of a step of all."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        for length in (8,) if plan.quick else (100, 8):
            if plan.wants(_together(plan, length, 8)):
                yield runs_at_once(plan, shape, length, 8)


def runs_at_once(plan: Plan, shape: str, length: int, count: int, *, case: str = "runs") -> Line:
    """A step of `count` runs together and one by one, four rows each."""
    ours = Ours(shape, [METHODS["prompt tuning"](length)] * count, plan.weights)
    batches = {
        name: make_rows(draw_lengths("sentences", plan.rows(4), seed=index), ours.backbone.spec, prompt=name)
        for index, name in enumerate(map(Ours.name_of, range(count)))
    }
    ways = {
        TOGETHER: lambda: ours.step(batches),
        ALONE: lambda: [ours.step({name: rows}) for name, rows in batches.items()],
    }
    return compare(ways, plan, case=case, shape=shape, setting=_together(plan, length, count), x=count)


def _together(plan: Plan, length: int, count: int) -> str:
    return f"{count} runs of prompt tuning, length {length}, sentences, batch {plan.rows(4)} each: a step of all"
