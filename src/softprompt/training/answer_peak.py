"""What a batch of an evaluation takes at most, where only shapes are computed."""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from softprompt.backbones.allocations import Allocations
from softprompt.conditioning import Prompted
from softprompt.inference.generating import read_off
from softprompt.inference.queries import EncodedQuery, collate, prompts_of
from softprompt.inference.ranking import choose_among

__all__ = ["answer_peak"]

_GENERATED = 4
"""Tokens that are generated; what further ones add is the same each time."""


def answer_peak(model: Prompted, count: Allocations, rows: list[EncodedQuery]) -> int:
    """The most bytes that answering a batch takes beside what is there before.

    Args:
        model: Without values.
        count: Counts what is allocated, and is entered.
        rows: The batch, all asked alike.
    """
    before = count.live_bytes
    count.begin_peak()
    if rows[0].candidates and model.backbone.spec.kind == "encoder-only":
        ids, mask, marks = collate(model, rows)  # that a head has as many classes is seen in values alone
        logits = model(ids, mask, prompts=prompts_of(rows), marks=marks).logits
        assert logits is not None
        logits.float().softmax(-1)
    elif rows[0].targets or rows[0].candidates:
        choose_among(model, rows)
    elif model.backbone.spec.kind == "encoder-only":
        read_off(model, rows)
    else:
        return _generation_peak(model, count, rows) - before
    return count.peak_bytes - before


def _generation_peak(model: Prompted, count: Allocations, rows: list[EncodedQuery]) -> int:
    """That of the first token, or of the last one, by what each adds to the one before."""
    ids, mask, marks = collate(model, rows)
    peaks = _PeakByToken(count)
    model.generate(
        input_ids=ids,
        attention_mask=mask,
        marks=marks,
        prompts=prompts_of(rows),
        max_new_tokens=rows[0].room,
        do_sample=False,
        num_beams=1,
        logits_processor=[peaks],
        stopping_criteria=[_AfterSome()],
    )
    peaks.note()
    return max(*peaks.found, peaks.after(rows[0].room))


@final
class _PeakByToken(LogitsProcessor):
    """Notes what was held at most for each token that is generated."""

    def __init__(self, count: Allocations) -> None:
        self._count = count
        self.found: list[int] = []

    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """The scores as they are."""
        self.note()
        return scores

    def note(self) -> None:
        """End a token's peak, and begin that of the next."""
        self.found.append(self._count.peak_bytes)
        self._count.begin_peak()

    def after(self, tokens: int) -> int:
        """The peak of a later token, which takes as much more as the last one did."""
        if len(self.found) <= _GENERATED:
            return self.found[-1]
        *_, before, last, _ = self.found  # behind the last token nothing is computed
        return last + (tokens - _GENERATED) * (last - before)


@final
class _AfterSome(StoppingCriteria):
    """Ends generation after some tokens, whatever room was made for more."""

    def __init__(self) -> None:
        self._made = 0

    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"] | None, **options: Any
    ) -> Bool[Tensor, " rows"]:
        """Whether each row is done."""
        self._made += 1
        return torch.full((len(input_ids),), self._made >= _GENERATED, device=input_ids.device)
