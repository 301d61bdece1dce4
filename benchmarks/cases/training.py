"""Training: an epoch of real lengths, softprompt against PEFT; many runs at once against each alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

import softprompt as sp
from benchmarks.lines import OURS, Line, Plan, compare
from benchmarks.peers import TASK, Ours, Peft, check_alike
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS
from softprompt.prompts.registry import Method
from softprompt.training.data import Batches, TrainRow, collate

__all__ = ["DEFAULT", "METHODS", "epoch_batches", "runs", "steps"]

DEFAULT, BEST = "PEFT, default use", "PEFT, best use"
_BATCHES = {"small": 4, "small-t5": 4, "gpt2": 2, "t5-small": 2}
"""Of an epoch, by shape: more take longer and change the ratios little."""

METHODS: dict[str, Callable[[int], Method]] = {
    "prompt tuning": lambda length: sp.PromptTuning(length=length, init="vocab"),
    "prefix tuning": lambda length: sp.PrefixTuning(length=length, hidden=None),
}

Setting = tuple[str, int, str, int]
"""Method, length, data, rows of a batch."""

_GOALS: dict[tuple[str, Setting], float] = {
    ("small", ("prompt tuning", 100, "sentences", 16)): 8,
    ("gpt2", ("prompt tuning", 100, "sentences", 16)): 4.5,
    ("small", ("prompt tuning", 100, "long", 16)): 1.4,
    ("gpt2", ("prompt tuning", 100, "long", 16)): 1.4,
    ("small", ("prefix tuning", 100, "sentences", 16)): 2,
    ("gpt2", ("prefix tuning", 100, "sentences", 16)): 1.5,
    **{
        (shape, ("prompt tuning", 100, data, 16)): goal
        for shape in ENCODER_DECODERS
        for data, goal in (("sentences", 1.1), ("qed", 1.4))
    },
}
_QUICK: list[Setting] = [("prompt tuning", 100, "sentences", 8)]


def steps(plan: Plan) -> Iterator[Line]:
    """Training steps, of an epoch in which each library batches the same rows as it does."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS)):
        for setting in _QUICK if plan.quick else _settings(shape):
            yield _epoch(plan, shape, setting)


def _settings(shape: str) -> list[Setting]:
    if shape in DECODERS:
        methods, data = ("prompt tuning", "prefix tuning"), ("sentences", "e2e")
    else:  # PEFT's prefix of an encoder-decoder is another one
        methods, data = ("prompt tuning",), ("sentences", "qed")
    some = [(method, length, what, 16) for method in methods for length in (20, 100) for what in data]
    long = [("prompt tuning", 100, "long", 16)] if shape in DECODERS else []
    return [*some, *long, ("prompt tuning", 100, "sentences", 32)]


def _epoch(plan: Plan, shape: str, setting: Setting) -> Line:
    method, length, data, batch = setting
    ours = Ours(shape, [METHODS[method](length)])
    rows = make_rows(
        draw_lengths(data, batch * (1 if plan.quick else _BATCHES[shape])), ours.backbone.spec, prompt=TASK
    )
    grouped = epoch_batches(rows, batch)
    ways: dict[str, Callable[[], object]] = {OURS: lambda: [ours.step({TASK: one}) for one in grouped]}
    if plan.peers:
        theirs = Peft(shape, ours.model.prompts[TASK])
        with torch.no_grad():
            mine = ours.model(**collate(ours.backbone, grouped[0]), prompts=TASK).loss
            check_alike("loss", mine, theirs.loss(grouped[0], best=False))
            alike = make_rows([(20, 2)] * 4, ours.backbone.spec, prompt=TASK)
            mine = ours.model(**collate(ours.backbone, alike), prompts=TASK).loss
            check_alike("loss of rows of one length", mine, theirs.loss(alike, best=True))
        shuffled = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        ways[DEFAULT] = lambda: [theirs.step(one, best=False) for one in shuffled]
        ways[BEST] = lambda: [theirs.step(one, best=True) for one in grouped]
    goal = _GOALS.get((shape, setting))
    return compare(
        ways,
        plan,
        case="steps",
        shape=shape,
        setting=f"{method}, length {length}, {data}, batch {batch}: an epoch of {len(grouped)} steps",
        goals={DEFAULT: goal} if goal else {},
    )


def epoch_batches(rows: Sequence[TrainRow], batch: int) -> list[list[TrainRow]]:
    """An epoch as a run of softprompt draws it: rows of like length share a batch."""
    batches = Batches(rows, batch_size=batch, batch_tokens=None, seed=0)
    return [batches.draw() for _ in range(-(-len(rows) // batch))]


def runs(plan: Plan) -> Iterator[Line]:
    """Eight runs in one session against each in its own: seconds of a step of all."""
    goals = {("small", 100): 1.1, ("small", 8): 1.5, ("gpt2", 100): 1.1, ("gpt2", 8): 1.3}
    for shape in plan.shapes(DECODERS):
        for length in (8,) if plan.quick else (100, 8):
            yield runs_at_once(plan, shape, length, 8, goal=goals.get((shape, length)))
    for shape in plan.shapes(ENCODER_DECODERS, quick=0):
        yield runs_at_once(plan, shape, 100, 8)


def runs_at_once(
    plan: Plan, shape: str, length: int, count: int, *, goal: float | None = None, case: str = "runs"
) -> Line:
    """A step of `count` runs together and one by one, four rows each."""
    ours = Ours(shape, [METHODS["prompt tuning"](length)] * count)
    batches = {
        name: make_rows(draw_lengths("sentences", plan.rows(4), seed=index), ours.backbone.spec, prompt=name)
        for index, name in enumerate(map(Ours.name_of, range(count)))
    }
    ways = {
        "together": lambda: ours.step(batches),
        "one by one": lambda: [ours.step({name: rows}) for name, rows in batches.items()],
    }
    setting = f"{count} runs of prompt tuning, length {length}, sentences, batch {plan.rows(4)} each: a step of all"
    goals = {} if goal is None else {"one by one": goal}
    return compare(ways, plan, case=case, shape=shape, setting=setting, goals=goals, x=count)
