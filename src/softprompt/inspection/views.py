"""Which columns of a pass are a prompt's, and who looks at them, in each stack of attention layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Site
from softprompt.conditioning.joining import Applied, Joined, join
from softprompt.conditioning.losses import IGNORED
from softprompt.conditioning.padding import token_columns
from softprompt.errors import UnsupportedError
from softprompt.inspection.samples import Batch

__all__ = ["View", "prompt_views"]

_FAR = torch.iinfo(torch.long).max


@final
@dataclass(frozen=True, kw_only=True)
class View:
    """One layer's attention in a pass, without its weights.

    Attributes:
        prompt: True where a column is the prompt's, `[batch, keys]`.
        text: Which of its row's tokens a column is, `[batch, keys]`; -1 of prompts and padding.
        looks: True where a token of the text looks, `[batch, seq]`.
        is_target: Whether it is one of the target's, `[batch, seq]`.
        index: Which of its row's tokens it is, `[batch, seq]`.
        distance: How many tokens of the text stand between it and the prompt, `[batch, seq]`; None where the two stand
            in different texts.
        even: The prompt's share of the columns that it may look at, windows aside, `[batch, seq]`.
    """

    prompt: Bool[Tensor, "batch keys"]
    text: Int[Tensor, "batch keys"]
    looks: Bool[Tensor, "batch seq"]
    is_target: Bool[Tensor, "batch seq"]
    index: Int[Tensor, "batch seq"]
    distance: Int[Tensor, "batch seq"] | None
    even: Float[Tensor, "batch seq"]


@final
@dataclass(frozen=True, kw_only=True)
class _Line:
    """The columns of one text of a batch, with rows of prompts among them where they were inserted.

    Attributes:
        real: True where a column is real, `[batch, cols]`.
        token: Which of its row's tokens a column is, `[batch, cols]`; -1 for others.
        inputs: How many of a row's tokens are input, `[batch]`; None where all are target.
    """

    real: Bool[Tensor, "batch cols"]
    token: Int[Tensor, "batch cols"]
    inputs: Int[Tensor, " batch"] | None


def prompt_views(backbone: Backbone, prompts: Sequence[Applied], batch: Batch) -> dict[Site, View]:
    """By layer, where the prompt stands in it; layers of stacks that no prompt reaches are left out.

    Args:
        backbone: The frozen model.
        prompts: The batch's distinct prompts.
        batch: The rows.

    Raises:
        UnsupportedError: If the model's attention does not go through the attention interface.
    """
    if not backbone.sites:
        raise UnsupportedError(
            f"{backbone.name} does not show its attention, because {backbone.spec.no_prefix}; look at its words, norms"
            " and similarity, or leave out rows."
        )
    joined = join(backbone, prompts, batch.rows)
    kind = backbone.spec.kind
    inserted = joined.mask & (_tokens(joined, batch) < 0)  # [batch, joined]
    first = _Line(
        real=joined.mask,
        token=_tokens(joined, batch),
        inputs=batch.rows.inputs if kind == "decoder-only" else batch.rows.mask.sum(-1),
    )
    lines = {"encoder": (first, first), "decoder": (first, first)}
    if kind == "encoder-decoder":
        assert batch.labels is not None
        real = batch.labels != IGNORED
        second = _Line(real=real, token=token_columns(real).where(real, -1), inputs=None)
        lines = {"encoder": (first, first), "cross": (second, first), "decoder": (second, second)}
    reached = {site.stack for site in (joined.injection.keys if joined.injection else ())}
    if bool(inserted.any()):
        reached |= {"encoder", "cross"} if kind == "encoder-decoder" else set(lines)
    shared: dict[tuple[str, bool], View] = {}
    views = {}
    for site in backbone.sites.values():
        if site.stack in reached:
            front = joined.injection is not None and site in joined.injection.keys
            if (site.stack, front) not in shared:
                shared[site.stack, front] = _view(site.stack, *lines[site.stack], joined, front=front)
            views[site] = shared[site.stack, front]
    return views


def _tokens(joined: Joined, batch: Batch) -> Int[Tensor, "batch joined"]:
    """Which of its row's tokens stands in each joined column; -1 in those of prompts and padding."""
    width = joined.mask.shape[1]
    spread = torch.full((len(joined.mask), width + 1), -1, device=joined.mask.device)
    at = joined.columns.where(joined.columns >= 0, width)
    return spread.scatter(1, at, token_columns(batch.rows.mask))[:, :width].where(joined.mask, -1)


def _view(stack: str, looking: _Line, seen: _Line, joined: Joined, *, front: bool) -> View:
    """Put together what is known of one stack; `front` says whether prompts stand in front of its own columns."""
    looks = looking.token >= 0  # [batch, seq]
    own = seen.real & (seen.token < 0)  # [batch, cols]
    width, injection = 0, joined.injection
    columns = own[:, :0]
    if front and injection is not None:
        columns, width = injection.columns, injection.columns.shape[1]
    prompt = torch.cat([columns, own], dim=1)  # [batch, keys]
    text = torch.cat([torch.full_like(columns, -1, dtype=torch.long), seen.token], dim=1)
    causal = stack == "decoder"
    places = torch.arange(seen.real.shape[1], device=looks.device)
    lengths = columns.sum(-1, keepdim=True)  # [batch, 1]
    starts = injection.starts[:, None] if injection is not None else torch.zeros_like(lengths)
    seen_columns = own.sum(-1, keepdim=True).expand(looks.shape) + lengths
    texts = (seen.token >= 0).sum(-1, keepdim=True).expand(looks.shape)
    if causal:
        in_front = lengths * (looking.token >= starts)
        seen_columns = own.cumsum(-1) + in_front
        texts = looking.token + 1
    distance = None
    if stack != "cross":
        gaps = (places[:, None] - places).abs() - 1  # [seq, cols]
        apart = gaps.expand(len(own), -1, -1).masked_fill(~own[:, None], _FAR).min(-1).values
        after = looking.token - starts  # [batch, seq]
        beside = after.where(after >= 0, -1 - after) if width else torch.full_like(apart, _FAR)
        distance = apart.minimum(beside)
        distance = distance.where(looks & prompt.any(-1, keepdim=True), -1)
    is_target = looks if looking.inputs is None else looks & (looking.token >= looking.inputs[:, None])
    return View(
        prompt=prompt,
        text=text,
        looks=looks,
        is_target=is_target,
        index=looking.token,
        distance=distance,
        even=seen_columns / (seen_columns + texts).clamp(min=1),
    )
