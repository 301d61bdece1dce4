"""Log-probabilities of candidate targets: prompt and input once per row, beside all of its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried
from softprompt.conditioning import generation, splitting
from softprompt.conditioning.forward import decoder_start, only_kept
from softprompt.conditioning.input_cache import InputCache
from softprompt.conditioning.joining import Applied, Rows, check_target, join
from softprompt.conditioning.losses import IGNORED, candidate_scores
from softprompt.conditioning.padding import pad_rows, repad
from softprompt.conditioning.probe import probe
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


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a model says wherever a token of a candidate is predicted.

    Attributes:
        logits: `[places, vocab]`.
        at: At which of these places each candidate's tokens are predicted, `[candidates, target]`; any at padding.
    """

    logits: Float[Tensor, "places vocab"]
    at: Int[Tensor, "candidates target"]


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
    said, ids, mask = _predict(backbone, prompts, rows, distinct, known)
    scores = candidate_scores(said.logits, said.at, ids, mask).view(len(targets), -1).gather(1, places)
    return scores.masked_fill(~_real(targets, scores), float("-inf"))


def judge(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, targets: Targets
) -> tuple[Float[Tensor, "batch candidates"], Bool[Tensor, "batch candidates"]]:
    """`score`, and whether each candidate is what the model would say by itself: its likeliest token at every place."""
    distinct, places = _distinct(targets, backbone.device)
    said, ids, mask = _predict(backbone, prompts, rows, distinct)
    scores = candidate_scores(said.logits, said.at, ids, mask).view(len(targets), -1).gather(1, places)
    greedy = ((said.logits.argmax(-1)[said.at] == ids) | ~mask).all(-1).view(len(targets), -1).gather(1, places)
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


def _predict(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, targets: Targets, known: InputCache | None = None
) -> tuple[_Said, Int[Tensor, "candidates target"], Bool[Tensor, "candidates target"]]:
    """What the model says at each candidate's tokens, their ids and mask.

    Short lists are filled up: in an encoder-decoder, whose targets may begin with their last token, by their shortest
    candidate; elsewhere by what has no tokens.
    """
    most = max(len(row) for row in targets)
    alike = backbone.spec.kind == "encoder-decoder"
    filled = [[*row, *[min(row, key=len) if alike else []] * (most - len(row))] for row in targets]
    ids, mask = pad_rows([candidate for row in filled for candidate in row], fill=backbone.pad_id)
    ids, mask = ids.to(backbone.device), mask.to(backbone.device)  # [batch*candidates, target]
    labels = ids.where(mask, IGNORED)
    if backbone.spec.kind == "encoder-decoder":
        return _score_targets(backbone, prompts, rows, labels, most), ids, mask
    if not splitting.divides(backbone):
        return _score_each(backbone, prompts, rows, labels, most), ids, mask
    if most == 1 or _fit_side_by_side(backbone, prompts, rows, labels):
        return _score_side_by_side(backbone, prompts, rows, labels, known), ids, mask
    return _score_continuations(backbone, prompts, rows, labels, most), ids, mask


def _sharing_starts(first: Float[Tensor, "batch vocab"], following: Float[Tensor, "candidates others vocab"]) -> _Said:
    """A row's candidates begin at one place, and each goes on at places of its own."""
    batch, (candidates, others) = len(first), following.shape[:2]
    row_of = torch.arange(batch, device=first.device).repeat_interleave(candidates // batch)
    own = torch.arange(candidates * others, device=first.device).view(candidates, others) + batch
    return _Said(
        logits=torch.cat([first, following.flatten(0, 1)]) if others else first,
        at=torch.cat([row_of[:, None], own], dim=1),
    )


def _score_targets(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, labels: Int[Tensor, "candidates target"], repeats: int
) -> _Said:
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
        return _Said(logits=whole.flatten(0, 1), at=torch.arange(labels.numel(), device=labels.device).view_as(labels))
    begun = decode(first, 1, None, cached=True)
    said: Tensor = begun.logits[:, 0]  # [batch, vocab]
    if labels.shape[1] == 1:
        return _sharing_starts(said, said.new_zeros(len(labels), 0, said.shape[1]))
    past = begun.past_key_values
    past.batch_repeat_interleave(repeats)
    return _sharing_starts(said, decode(ids[:, 1:], repeats, past, cached=True).logits)


def _score_each(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, labels: Int[Tensor, "candidates target"], repeats: int
) -> _Said:
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
    at = torch.zeros_like(labels).masked_scatter(real, torch.arange(len(row_of), device=labels.device))
    return _Said(logits=chosen, at=at)


def _fit_side_by_side(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, labels: Int[Tensor, "candidates target"]
) -> bool:
    """Whether candidates may stand side by side.

    A window would count their columns, of which there are more than positions; and of very many each would be masked
    from all others.
    """
    packed = int((labels != IGNORED)[:, 1:].reshape(len(rows.ids), -1).sum(-1).max())
    longest = rows.ids.shape[1] + max((prompt.length for prompt in prompts), default=0) + packed
    window = probe(backbone).window
    return packed <= _MOST_PACKED and (window is None or longest <= window)


def _score_side_by_side(
    backbone: Backbone,
    prompts: Sequence[Applied],
    rows: Rows,
    labels: Int[Tensor, "candidates target"],
    known: InputCache | None,
) -> _Said:
    """A decoder-only model, in one pass: behind each input its candidates, which do not see each other."""
    batch, width = len(rows.ids), labels.shape[1] - 1
    real = (labels != IGNORED)[:, 1:].reshape(batch, -1)  # [batch, candidates*(target-1)]: what has a successor
    order = real.long().argsort(dim=1, descending=True, stable=True)[:, : int(real.sum(-1).max())]  # [batch, packed]
    ids = labels.clamp(min=0)[:, :-1].reshape(batch, -1).gather(1, order)
    packed = real.gather(1, order)
    branches = torch.cat([torch.zeros_like(rows.ids), order // max(width, 1) + 1], dim=1)
    ids, mask = torch.cat([rows.ids, ids], dim=1), torch.cat([rows.mask, packed], dim=1)
    ids, mask, places = repad(ids, mask, side="right")
    branches = torch.zeros_like(ids).scatter(1, places.clamp(min=0), branches.masked_fill(places < 0, 0))
    whole = replace(rows, ids=ids, mask=mask, branches=branches)
    joined = join(backbone, prompts, whole, room=labels.shape[1])
    columns = joined.columns.gather(1, places[:, rows.ids.shape[1] :].clamp(min=0))  # [batch, packed]
    last = joined.mask.sum(-1, keepdim=True) - packed.sum(-1, keepdim=True) - 1  # [batch, 1]: of what all continue
    columns = torch.cat([last, columns.where(packed, last)], dim=1)  # [batch, 1+packed]
    kept = torch.zeros_like(joined.mask).scatter(1, columns, value=True)
    if splitting.pays(backbone, joined):
        output, wanted = splitting.read_in_two_parts(backbone, joined, rows, kept, known)
    else:
        told = kept if backbone.head_is_separable else None
        load = Carried(injection=joined.injection, kept=told, branches=joined.branches)
        output, wanted = backbone.call(load, use_cache=False, **joined.model_inputs), kept
    rank = (kept.flatten().cumsum(0) - 1).view_as(kept).gather(1, columns)  # [batch, 1+packed]
    following = torch.zeros_like(real, dtype=torch.long).scatter(1, order, rank[:, 1:]).view(len(labels), width)
    first = rank[:, :1].repeat_interleave(len(labels) // batch, dim=0)
    return _Said(logits=only_kept(output.logits, wanted), at=torch.cat([first, following], dim=1))


def _score_continuations(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, labels: Int[Tensor, "candidates target"], repeats: int
) -> _Said:
    """A decoder-only model: the input runs once per row, and a copy of its cache serves each candidate."""
    joined = join(backbone, prompts, rows, side="left", room=labels.shape[1])
    last = torch.zeros_like(joined.mask)
    last[:, -1] = True
    kept = last if backbone.head_is_separable else None
    first = backbone.call(Carried(injection=joined.injection, kept=kept), use_cache=True, **joined.model_inputs)
    said = only_kept(first.logits, last)  # [batch, vocab]
    ids, real = labels.clamp(min=0)[:, :-1], (labels != IGNORED)[:, :-1]
    if not ids.shape[1]:
        return _sharing_starts(said, said.new_zeros(len(labels), 0, said.shape[1]))
    past = first.past_key_values
    past.batch_repeat_interleave(repeats)
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.cat([joined.mask.repeat_interleave(repeats, dim=0), real], dim=1).long(),
        "past_key_values": past,
    }
    if "position_ids" in joined.model_inputs:
        ends = joined.model_inputs["position_ids"][:, -1:].repeat_interleave(repeats, dim=0)
        inputs["position_ids"] = ends + 1 + torch.arange(ids.shape[1], device=ids.device)
    return _sharing_starts(said, backbone.call(Carried(injection=joined.injection), use_cache=True, **inputs).logits)
