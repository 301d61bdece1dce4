"""Generating behind a prompt: so many tokens for each of a batch's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.cases.training import DEFAULT, METHODS
from benchmarks.lines import OURS, Line, Plan, compare
from benchmarks.peers import TASK, Ours, Peft, check_alike
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS

__all__ = ["generation"]

_SIZES = ((16, 16), (64, 8), (8, 1), (64, 1), (8, 8), (8, 64), (64, 64))
_SMALL = (DECODERS[0], ENCODER_DECODERS[0])
"""Tokens to generate, and rows of the batch; of the larger shapes the first two alone."""


def generation(plan: Plan) -> Iterator[Line]:
    """Greedy generation without an early end."""
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        ours = Ours(shape, [METHODS["prompt tuning"](100)])
        ours.model.compile()
        theirs = Peft(shape, ours.model.prompts[TASK]) if plan.peers else None
        if theirs is not None:
            alike = make_rows([(20, 2)] * 4, ours.backbone.spec, prompt=TASK)
            mine, other = ours.generate(alike, 8)[:, -8:], theirs.generate(alike, 8)[:, -8:]
            check_alike("text of rows of one length", mine.float(), other.float())
        for tokens, batch in _SIZES[:1] if plan.quick else _SIZES if shape in _SMALL else _SIZES[:2]:
            rows = make_rows(draw_lengths("sentences", plan.rows(batch)), ours.backbone.spec, prompt=TASK)
            ways: dict[str, Callable[[], object]] = {OURS: partial(ours.generate, rows, tokens)}
            if theirs is not None:
                ways[DEFAULT] = partial(theirs.generate, rows, tokens)
            yield compare(
                ways,
                plan,
                case="generation",
                shape=shape,
                setting=f"{tokens} tokens, length 100, sentences, batch {plan.rows(batch)}",
                goals={DEFAULT: 1.7} if (tokens, batch) == (16, 16) and shape in DECODERS and not plan.quick else {},
            )
