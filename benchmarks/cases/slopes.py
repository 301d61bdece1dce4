"""What cost grows with: the lengths of prompt and input, the batch, the runs of a session, the tasks of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.cases.tasks import mixed_batch
from benchmarks.cases.training import METHODS, runs_at_once
from benchmarks.lines import DEFAULT, OURS, Line, Plan, compare
from benchmarks.peers import TASK, Ours, Peft
from benchmarks.rows import Length, draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS

__all__ = ["AXES", "slopes"]

AXES = {
    "prompt": "virtual tokens",
    "input": "tokens of an input, on average",
    "batch": "rows of a batch",
    "runs": "runs of a session",
    "tasks": "tasks of a batch",
}


def slopes(plan: Plan) -> Iterator[Line]:
    """A training step by each length and by its rows, and what is done together by how much it is."""
    for shape in (*plan.shapes(DECODERS[:1]), *plan.shapes(ENCODER_DECODERS[:1], quick=0)):
        rows = draw_lengths("sentences", plan.rows(16))
        for length in (8, 100) if plan.quick else (1, 8, 20, 50, 100, 200):
            yield _step(plan, shape, "prompt", length, length=length, lengths=rows)
        for scale in () if plan.quick else (0.5, 1, 2, 4, 8, 12):
            scaled = [(max(1, round(before * scale)), after) for before, after in rows]
            mean = sum(before for before, _ in scaled) / len(scaled)
            yield _step(plan, shape, "input", mean, length=100, lengths=scaled)
        for batch in (1, 8) if plan.quick else (1, 2, 4, 8, 16, 32, 64):
            yield _step(plan, shape, "batch", batch, length=100, lengths=draw_lengths("sentences", batch))
        for count in (1, 4) if plan.quick else (1, 2, 4, 8, 16):
            yield runs_at_once(plan, shape, 20, count, case="slopes: runs")
        for count in () if plan.quick else (1, 4, 16, 32, 64):
            yield mixed_batch(plan, shape, count, case="slopes: tasks")


def _step(plan: Plan, shape: str, axis: str, x: float, *, length: int, lengths: list[Length]) -> Line:
    ours = Ours(shape, [METHODS["prompt tuning"](length)], plan.weights)
    rows = make_rows(lengths, ours.backbone.spec, prompt=TASK)
    ways: dict[str, Callable[[], object]] = {OURS: lambda: ours.step({TASK: rows})}
    if plan.peers and not plan.quick:
        theirs = Peft(shape, ours.model.prompts[TASK], plan.weights)
        ways[DEFAULT] = lambda: theirs.step(rows, best=False)
    setting = f"a training step of {len(rows)} sentences, {x:.0f} {AXES[axis]}"
    return compare(ways, plan, case=f"slopes: {axis}", shape=shape, setting=setting, x=x)
