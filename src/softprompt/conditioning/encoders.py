"""The forward pass of an encoder: each row's logits and losses by the head of its prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried
from softprompt.backbones.heads import TokenHead, token_head_of, token_logits
from softprompt.conditioning.joining import Applied, Joined, Rows, join
from softprompt.conditioning.losses import IGNORED, Output, token_losses
from softprompt.errors import ShapeError

__all__ = ["read_heads"]


@dataclass(frozen=True)
class _Read:
    """What one head reads off the rows of a batch that are its own.

    Attributes:
        rows: Which they are.
        logits: `[rows, classes]`, or `[rows, seq, outputs]` of real tokens.
        kind: What a head over tokens reads; None of one over classes.
    """

    rows: Int[Tensor, " rows"]
    logits: Tensor
    kind: TokenHead | None = None


def read_heads(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, labels: Tensor | None, *, checkpointing: bool
) -> Output:
    """The pass of an encoder.

    Rows whose prompt brings a head get that one, others the model's own. Where heads have different numbers of classes
    or tags, what a row lacks of the most has the logit -inf.

    Args:
        backbone: The frozen model.
        prompts: The batch's distinct prompts.
        rows: The batch.
        labels: A class for each row, `[batch]`; or `[batch, targets]`, behind a row's own padded with `IGNORED`: its
            class, a tag for each token, or first and last token of a span.
        checkpointing: Whether layers are recomputed in the backward pass.

    Raises:
        ShapeError: If rows of heads over classes and over tokens are mixed without labels, labels are not what a head
            is over, or nothing is labelled.
    """
    joined = join(backbone, prompts, rows)
    carried = Carried(injection=joined.injection)
    if any(prompt.head for prompt in prompts):
        output = backbone.call(carried, checkpointing=checkpointing, headless=True, **joined.model_inputs)
        read = list(_by_heads(backbone, prompts, rows, output, joined))
    else:
        logits = backbone.call(carried, checkpointing=checkpointing, **joined.model_inputs).logits  # [batch, classes]
        read = [_Read(torch.arange(len(logits), device=logits.device), logits)]
    alike = len({one.logits.ndim for one in read}) == 1
    if labels is None:
        if not alike:
            raise ShapeError(
                "Some rows have logits of classes, others of tokens; call the model once for each, or give labels."
            )
        return Output(logits=_in_order(read))
    losses, row_of = zip(*(_losses(one, rows.mask, labels) for one in read), strict=True)
    joint, order = torch.cat(losses), torch.cat(row_of).argsort(stable=True)
    if not len(joint):
        raise ShapeError("No token is labelled; expected at least one label besides -100.")
    return Output(
        loss=joint.mean(),
        logits=_in_order(read) if alike else None,
        losses=joint[order],
        rows=torch.cat(row_of)[order],
    )


def _by_heads(
    backbone: Backbone, prompts: Sequence[Applied], rows: Rows, output: Any, joined: Joined
) -> Iterator[_Read]:
    for number in (-1, *range(len(prompts))):
        own = (rows.index == number).nonzero()[:, 0]
        if not len(own):
            continue
        weights = prompts[number].head if number >= 0 else {}
        kind = token_head_of(weights)
        if kind is None:
            yield _Read(own, backbone.head(weights, output, joined.model_inputs, own))
        else:
            states = _real_states(output.last_hidden_state, joined, own)
            logits = token_logits(kind, weights, states).masked_fill(~rows.mask[own, :, None], 0)
            yield _Read(own, logits, kind)


def _real_states(states: Tensor, joined: Joined, own: Int[Tensor, " rows"]) -> Float[Tensor, "rows seq dim"]:
    """The last layer's states at the tokens of some rows, without those at virtual ones."""
    if states.shape[:2] != joined.mask.shape:
        raise ShapeError(
            f"The encoder gives {list(states.shape[:2])} states for {list(joined.mask.shape)} columns, so no head can"
            " be over its tokens; use another encoder."
        )
    columns = joined.columns[own].clamp(min=0)[:, :, None]  # [rows, seq, 1]
    return states[own].gather(1, columns.expand(-1, -1, states.shape[2]))


def _in_order(read: Sequence[_Read]) -> Tensor:
    """Logits of a whole batch, padded to the head with the most classes or tags."""
    widest = max(one.logits.shape[-1] for one in read)
    padded = [nn.functional.pad(one.logits, (0, widest - one.logits.shape[-1]), value=-torch.inf) for one in read]
    return torch.cat(padded)[torch.cat([one.rows for one in read]).argsort()]


def _losses(
    one: _Read, mask: Bool[Tensor, "batch seq"], labels: Tensor
) -> tuple[Float[Tensor, " labelled"], Int[Tensor, " labelled"]]:
    """The losses of one head, and the rows that they are of."""
    own = labels[one.rows] if labels.ndim == 2 else labels[one.rows, None]  # [rows, targets]
    match one.kind:
        case None:
            if bool((own[:, 1:] != IGNORED).any()):
                raise ShapeError(
                    f"Rows of a head over classes have labels {list(own.shape)}, but encoder-only models take labels"
                    " [batch], a class for each row, padded with -100 beside rows of heads over tokens."
                )
            return token_losses(one.logits, own[:, 0]), one.rows
        case "span":
            if own.shape[1] < 2:
                raise ShapeError("A head over spans takes labels [batch, 2]: each answer's first and last token.")
            ends = one.logits.masked_fill(~mask[one.rows, :, None], -torch.inf).mT  # [rows, 2, seq]
            return token_losses(ends.flatten(0, 1), own[:, :2].flatten()), one.rows.repeat_interleave(2)
    seq = one.logits.shape[1]
    tags = nn.functional.pad(own, (0, max(0, seq - own.shape[1])), value=IGNORED)[:, :seq]
    labelled = tags != IGNORED
    return token_losses(one.logits[labelled], tags[labelled]), one.rows[labelled.nonzero()[:, 0]]
