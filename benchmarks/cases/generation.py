"""Generating behind a prompt: so many tokens for each of a batch's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.alike import check_scores, check_texts, rows_of_one_length
from benchmarks.cases.training import METHODS
from benchmarks.lines import DEFAULT, OURS, Line, Plan, compare
from benchmarks.peers import TASK, Ours, Peft
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS

__all__ = ["generation"]

_SIZES = ((16, 16), (64, 8), (8, 1), (64, 1), (8, 8), (8, 64), (64, 64))
"""Tokens to generate, and rows of the batch; of the larger shapes the first two alone."""
_SMALL = (DECODERS[0], ENCODER_DECODERS[0])


def generation(plan: Plan) -> Iterator[Line]:
    """Greedy generation without an early end."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        sizes = _SIZES[:1] if plan.quick else _SIZES if shape in _SMALL else _SIZES[:2]
        wanted = [(tokens, plan.rows(batch)) for tokens, batch in sizes]
        wanted = [size for size in wanted if plan.wants(_described(*size))]
        if wanted:
            yield from _generated(plan, shape, wanted)


def _described(tokens: int, batch: int) -> str:
    return f"{tokens} tokens, length 100, sentences, batch {batch}"


def _generated(plan: Plan, shape: str, sizes: Sequence[tuple[int, int]]) -> Iterator[Line]:
    ours = Ours(shape, [METHODS["prompt tuning"](100)], plan.weights)
    ours.model.compile()
    theirs = Peft(shape, ours.model.prompts[TASK], plan.weights) if plan.peers else None
    if theirs is not None:
        check_scores(ours, theirs, rows_of_one_length(ours), [[7, 1], [8, 1]], best=True)
        check_texts(ours, theirs, rows_of_one_length(ours), 8)
    for tokens, batch in sizes:
        rows = make_rows(draw_lengths("sentences", batch), ours.backbone.spec, prompt=TASK)
        ways: dict[str, Callable[[], object]] = {OURS: partial(ours.generate, rows, tokens)}
        if theirs is not None:
            ways[DEFAULT] = partial(theirs.generate, rows, tokens)
        yield compare(ways, plan, case="generation", shape=shape, setting=_described(tokens, batch))
