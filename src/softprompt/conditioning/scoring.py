"""Log-probabilities of candidate targets: prompt and input once per row, candidates batched after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried
from softprompt.conditioning import generation, splitting
from softprompt.conditioning.forward import decoder_start, only_kept
from softprompt.conditioning.input_cache import InputCache, keeps_all
from softprompt.conditioning.joining import Applied, Joined, Rows, check_target, join
from softprompt.conditioning.losses import IGNORED, candidate_scores
from softprompt.conditioning.padding import pad_rows, repad
from softprompt.conditioning.texts import RenderedInput, encode_targets, follows_directly

__all__ = ["encode", "judge", "score"]

_MOST_PACKED = 512
"""Tokens of candidates side by side in a row: each is masked from all others, so many cost more than a copied cache."""

Targets = Sequence[Sequence[list[int]]]
"""For each row, the token ids of its candidates."""


def encode(backbone: Backbone, inputs: Sequence[RenderedInput], candidates: Sequence[Sequence[str]]) -> Targets:
    """Tokenize each row's candidates as they continue its input; a candidate is tokenized once."""
    pairs = {
        (before.chat, follows_directly(before), candidate): (before, candidate)
        for before, row in zip(inputs, candidates, strict=True)
        for candidate in row
    }
    known = dict(zip(pairs, encode_targets(backbone, list(pairs.values())), strict=True))
    return [
        [known[before.chat, follows_directly(before), one] for one in row]
        for before, row in zip(inputs, candidates, strict=True)
    ]


def score(
    backbone: Backbone,
    prompts: Sequence[Applied],
    rows: Rows,
    targets: Targets,
    known: InputCache | None = None,
) -> Float[Tensor, "batch candidates"]:
    """Log-probabilities of each row's candidates, in nats; -inf beyond the end of a row's list.

    Args:
        backbone: A model that generates text.
        prompts: The batch's distinct prompts.
        rows: The inputs.
        targets: Token ids of each row's candidates.
        known: Inputs that were read before, if what stands before prompts is kept.
    """
    distinct, places = _distinct(targets, backbone.device)
    logits, ids, mask = _candidate_logits(backbone, prompts, rows, distinct, known)
    scores = candidate_scores(logits, ids, mask).view(len(targets), -1).gather(1, places)
    return scores.masked_fill(~_real(targets, scores), float("-inf"))


def judge(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, targets: Targets
) -> tuple[Float[Tensor, "batch candidates"], Bool[Tensor, "batch candidates"]]:
    """`score`, and whether each candidate is what the model would say by itself: its likeliest token at every place."""
    distinct, places = _distinct(targets, backbone.device)
    logits, ids, mask = _candidate_logits(backbone, prompts, rows, distinct)
    scores = candidate_scores(logits, ids, mask).view(len(targets), -1).gather(1, places)
    greedy = ((logits.argmax(-1) == ids) | ~mask).all(-1).view(len(targets), -1).gather(1, places)
    real = _real(targets, scores)
    return scores.masked_fill(~real, float("-inf")), greedy & real


def _distinct(targets: Targets, device: torch.device) -> tuple[Targets, Int[Tensor, "batch candidates"]]:
    """Each row's candidates without repetition, and which of these each one is: equal candidates score equally."""
    found = [{tuple(candidate): None for candidate in row} for row in targets]
    index = [{candidate: place for place, candidate in enumerate(row)} for row in found]
    places = [[known[tuple(candidate)] for candidate in row] for known, row in zip(index, targets, strict=True)]
    padded, _ = pad_rows(places, fill=0)
    return [[list(candidate) for candidate in row] for row in found], padded.to(device)


def _real(targets: Targets, scores: Float[Tensor, "batch candidates"]) -> Bool[Tensor, "batch candidates"]:
    """True where a row's list has a candidate."""
    counts = torch.tensor([len(row) for row in targets], device=scores.device)
    return torch.arange(scores.shape[1], device=scores.device) < counts[:, None]


def _candidate_logits(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, targets: Targets, known: InputCache | None = None
) -> tuple[
    Float[Tensor, "candidates target vocab"], Int[Tensor, "candidates target"], Bool[Tensor, "candidates target"]
]:
    """What the model says at each candidate's tokens, their ids and mask; short lists repeat their first candidate."""
    most = max(len(row) for row in targets)
    filled = [[*row, *[row[0]] * (most - len(row))] for row in targets]
    ids, mask = pad_rows([candidate for row in filled for candidate in row], fill=backbone.pad_id)
    ids, mask = ids.to(backbone.device), mask.to(backbone.device)  # [batch*candidates, target]
    labels = ids.where(mask, IGNORED)
    if backbone.spec.kind == "encoder-decoder":
        return _score_targets(backbone, prompts, rows, labels, most), ids, mask
    if not splitting.divides(backbone):
        return _score_each(backbone, prompts, rows, labels, most), ids, mask
    return _score_continuations(backbone, prompts, rows, labels, most, known), ids, mask


def _score_targets(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, labels: Int[Tensor, "candidates target"], repeats: int
) -> Tensor:
    """An encoder-decoder: the encoder runs once per row, and so does what the decoder makes of its output."""
    check_target(backbone, labels.shape[1])
    joined = join(backbone, prompts, rows)
    hidden = generation.encode(backbone, joined).last_hidden_state
    mask = joined.model_inputs["attention_mask"]
    ids = decoder_start(backbone, labels)  # [candidates, target]

    def decode(read: Tensor, copies: int, past: Any, *, cached: bool) -> Any:
        return backbone.call(
            Carried(injection=joined.injection),
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden.repeat_interleave(copies, dim=0)),
            attention_mask=mask.repeat_interleave(copies, dim=0),
            decoder_input_ids=read,
            past_key_values=past,
            use_cache=cached,
        )

    first = ids[::repeats, :1]  # [batch, 1]
    if repeats == 1 or not torch.equal(ids[:, :1], first.repeat_interleave(repeats, dim=0)):
        whole: Tensor = decode(ids, repeats, None, cached=False).logits
        return whole
    begun = decode(first, 1, None, cached=True)
    logits: Tensor = begun.logits.repeat_interleave(repeats, dim=0)  # [candidates, 1, vocab]
    if labels.shape[1] == 1:
        return logits
    past = begun.past_key_values
    past.batch_repeat_interleave(repeats)
    following = decode(ids[:, 1:], repeats, past, cached=True).logits  # [candidates, target-1, vocab]
    return torch.cat([logits, following], dim=1)


def _score_each(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, labels: Int[Tensor, "candidates target"], repeats: int
) -> Tensor:
    """A decoder-only model whose text cannot be read in parts: each candidate from its row's start."""
    real = labels != IGNORED
    ids = torch.cat([rows.ids.repeat_interleave(repeats, dim=0), labels.clamp(min=0)], dim=1)
    mask = torch.cat([rows.mask.repeat_interleave(repeats, dim=0), real], dim=1)
    ids, mask, places = repad(ids, mask, side="right")
    index, inputs, marks = (part.repeat_interleave(repeats, dim=0) for part in (rows.index, rows.inputs, rows.marks))
    joined = join(backbone, prompts, Rows(ids=ids, mask=mask, index=index, inputs=inputs, marks=marks))
    row_of, token = real.nonzero(as_tuple=True)
    column = joined.columns[row_of, places[row_of, rows.ids.shape[1] + token]]
    kept = torch.zeros_like(joined.mask)
    kept[row_of, column - 1] = True
    load = Carried(injection=joined.injection, kept=kept if backbone.head_is_separable else None)
    chosen = only_kept(backbone.call(load, use_cache=False, **joined.model_inputs).logits, kept)  # [real, vocab]
    spread = chosen.new_zeros(labels.numel(), chosen.shape[1])
    return spread.index_copy(0, row_of * labels.shape[1] + token, chosen).view(*labels.shape, -1)


def _score_continuations(
    backbone: Backbone,
    prompts: Sequence[Applied],
    rows: Rows,
    labels: Int[Tensor, "candidates target"],
    repeats: int,
    known: InputCache | None,
) -> Tensor:
    """A decoder-only model: the input runs once per row, and its cache serves all candidates."""
    joined = join(backbone, prompts, rows, side="left", room=labels.shape[1])
    last = torch.zeros_like(joined.mask)
    last[:, -1] = True
    mask = joined.mask
    if splitting.pays(backbone, joined) and splitting.ends_alike(joined):
        first, last = splitting.read_in_two_parts(backbone, joined, rows, last, known)
        mask = mask[:, -int(mask.sum(-1).max()) :]  # which leaves out columns that are padding in every row
    else:
        kept = last if backbone.head_is_separable else None
        first = backbone.call(Carried(injection=joined.injection, kept=kept), use_cache=True, **joined.model_inputs)
    seen = only_kept(first.logits, last)  # [batch, vocab]
    logits = seen.repeat_interleave(repeats, dim=0)[:, None]  # [candidates, 1, vocab]
    if labels.shape[1] == 1:
        return logits
    past = first.past_key_values
    packed = int((labels != IGNORED)[:, 1:].reshape(-1, repeats * (labels.shape[1] - 1)).sum(-1).max())
    if repeats > 1 and packed <= _MOST_PACKED and keeps_all(past):
        following = _score_branches(backbone, joined, mask, past, labels)
        return torch.cat([logits, following], dim=1)
    past.batch_repeat_interleave(repeats)
    ids, real = labels.clamp(min=0)[:, :-1], (labels != IGNORED)[:, :-1]
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.cat([mask.repeat_interleave(repeats, dim=0), real], dim=1).long(),
        "past_key_values": past,
    }
    if "position_ids" in joined.model_inputs:
        ends = joined.model_inputs["position_ids"][:, -1:].repeat_interleave(repeats, dim=0)
        inputs["position_ids"] = ends + 1 + torch.arange(ids.shape[1], device=ids.device)
    following = backbone.call(Carried(injection=joined.injection), use_cache=True, **inputs).logits
    return torch.cat([logits, following], dim=1)


def _score_branches(
    backbone: Backbone,
    joined: Joined,
    mask: Bool[Tensor, "batch joined"],
    past: Any,
    labels: Int[Tensor, "candidates target"],
) -> Tensor:
    """Logits `[candidates, target-1, vocab]` behind all but each candidate's last token; no cache is copied.

    A row's candidates stand side by side behind what was read, and do not see each other. A window would count their
    columns, of which there are more than positions.
    """
    batch = joined.mask.shape[0]
    read = (labels != IGNORED)[:, 1:].reshape(batch, -1)  # [batch, candidates*(target-1)]: what has a successor
    width = labels.shape[1] - 1
    order = read.long().argsort(dim=1, descending=True, stable=True)[:, : int(read.sum(-1).max())]  # [batch, packed]
    real = read.gather(1, order)
    ends = joined.model_inputs["position_ids"][:, -1:]
    output = backbone.call(
        Carried(
            injection=joined.injection,
            kept=real if backbone.head_is_separable else None,
            branches=(order // width).where(real, -1),
        ),
        use_cache=True,
        input_ids=labels.clamp(min=0)[:, :-1].reshape(batch, -1).gather(1, order),
        position_ids=ends + 1 + order % width,
        attention_mask=torch.cat([mask, real], dim=1).long(),
        past_key_values=past,
    )
    chosen = only_kept(output.logits, real)  # [real, vocab]
    row_of, place = real.nonzero(as_tuple=True)
    spread = chosen.new_zeros(batch * read.shape[1], chosen.shape[1])
    spread = spread.index_copy(0, row_of * read.shape[1] + order[row_of, place], chosen)
    return spread.view(len(labels), width, -1)
