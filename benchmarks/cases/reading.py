"""Scoring labels and classifying: prompt and input are read once per row, whatever the number of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from benchmarks.alike import check_scores, rows_of_one_length
from benchmarks.cases.training import METHODS
from benchmarks.lines import BEST, DEFAULT, OURS, Line, Plan, compare
from benchmarks.peers import TASK, Ours, Peft
from benchmarks.rows import draw_lengths, make_rows
from benchmarks.shapes import DECODERS, ENCODER_DECODERS

__all__ = ["classification", "scoring"]

_ROWS, _BATCH = 32, 16


def scoring(plan: Plan) -> Iterator[Line]:
    """Log-probabilities of two labels."""
    yield from _labelled(plan, "scoring", labels=2)


def classification(plan: Plan) -> Iterator[Line]:
    """The likeliest of five labels."""
    yield from _labelled(plan, "classification", labels=5)


def _labelled(plan: Plan, case: str, *, labels: int) -> Iterator[Line]:
    for shape in (*plan.shapes(DECODERS), *plan.shapes(ENCODER_DECODERS, quick=0)):
        setting = f"{labels} labels of 2 tokens, length 100, sentences, {_rows(plan)} rows, batch {plan.rows(_BATCH)}"
        if plan.wants(setting):
            yield _line(plan, shape, case, labels, setting)


def _rows(plan: Plan) -> int:
    return plan.rows(_BATCH) if plan.quick else _ROWS


def _line(plan: Plan, shape: str, case: str, labels: int, setting: str) -> Line:
    ours = Ours(shape, [METHODS["prompt tuning"](100)], plan.weights)
    ours.model.compile()
    said = _labels(labels, ours.backbone.spec.vocab)
    rows = make_rows(draw_lengths("sentences", _rows(plan)), ours.backbone.spec, prompt=TASK)
    shuffled = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    ordered = sorted(rows, key=lambda row: len(row.input))
    grouped = [ordered[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    ways: dict[str, Callable[[], object]] = {
        OURS: lambda: [scores.argmax(-1) for scores in ours.answer(rows, said, batch=_BATCH)]
    }
    if plan.peers:
        theirs = Peft(shape, ours.model.prompts[TASK], plan.weights)
        check_scores(ours, theirs, grouped[0], said, best=False)
        check_scores(ours, theirs, rows_of_one_length(ours), said, best=True)
        ways[DEFAULT] = lambda: [theirs.score(one, said, best=False).argmax(-1) for one in shuffled]
        ways[BEST] = lambda: [theirs.score(one, said, best=True).argmax(-1) for one in grouped]
    return compare(ways, plan, case=case, shape=shape, setting=setting)


def _labels(count: int, vocab: int) -> list[list[int]]:
    """Labels of a word and the end, as most tasks have."""
    words = torch.randperm(vocab - 10, generator=torch.Generator().manual_seed(0))[:count] + 5
    return [[word, 1] for word in words.tolist()]
