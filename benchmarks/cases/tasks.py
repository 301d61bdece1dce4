"""Requests to many tasks answered together, whatever their prompts, against one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.cases.training import METHODS
from benchmarks.lines import Line, Plan, compare
from benchmarks.peers import Ours
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS
from softprompt.training.data import TrainRow

__all__ = ["ALONE", "mixed", "mixed_batch"]

TOGETHER, ALONE = "mixed", "task by task"

Answer = Callable[[Ours, Sequence[TrainRow]], object]
"""Does what is asked of rows, all in one batch."""


def _rank(ours: Ours, rows: Sequence[TrainRow]) -> object:
    return ours.answer(rows, [[7, 1], [8, 1]])


def _write(ours: Ours, rows: Sequence[TrainRow]) -> object:
    return ours.generate(rows, 16)


_ASKED: dict[str, Answer] = {"two labels": _rank, "16 tokens": _write}


def mixed(plan: Plan) -> Iterator[Line]:
    """A request to each of 16 tasks: two labels to score, or text to generate."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        for asked in _ASKED:
            if plan.wants(_described(16, asked)):
                yield mixed_batch(plan, shape, 16, asked=asked)


def mixed_batch(plan: Plan, shape: str, count: int, *, asked: str = "two labels", case: str = "tasks") -> Line:
    """A request to each of so many tasks, answered together and one by one."""
    answer = _ASKED[asked]
    ours = Ours(shape, [METHODS["prompt tuning"](20 if index % 2 else 100) for index in range(count)], plan.weights)
    ours.model.compile()
    rows = [
        make_rows([length], ours.backbone.spec, prompt=Ours.name_of(index), seed=index)[0]
        for index, length in enumerate(draw_lengths("sentences", count))
    ]
    ways = {
        TOGETHER: lambda: answer(ours, rows),
        ALONE: lambda: [answer(ours, [row]) for row in rows],
    }
    return compare(ways, plan, case=case, shape=shape, setting=_described(count, asked), x=count)


def _described(count: int, asked: str) -> str:
    return f"{count} tasks (lengths 100 and 20), a sentence each, {asked}"
