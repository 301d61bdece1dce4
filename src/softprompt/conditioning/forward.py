"""The forward pass of a backbone that generates text, by kind: loss at labelled positions, logits of real tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried
from softprompt.conditioning import splitting
from softprompt.conditioning.input_cache import InputCache
from softprompt.conditioning.joining import Applied, Joined, Rows, check_target, join
from softprompt.conditioning.losses import IGNORED, Output, token_losses
from softprompt.conditioning.padding import last_column_before_next, token_columns
from softprompt.errors import ShapeError, UnsupportedError

__all__ = ["continue_text", "count_inputs", "decoder_start", "only_kept", "translate"]


def count_inputs(mask: Bool[Tensor, "batch seq"], labels: Int[Tensor, "batch seq"] | None) -> Int[Tensor, " batch"]:
    """How many of a row's tokens stand before its first label: all of them without labels."""
    if labels is None:
        return mask.sum(-1)
    labelled = (labels != IGNORED) & mask
    before = (labelled.long().cumsum(-1) == 0) & mask
    return before.sum(-1)


def continue_text(
    backbone: Backbone,
    prompts: Sequence[Applied],
    rows: Rows,
    labels: Int[Tensor, "batch seq"] | None,
    *,
    return_logits: bool,
    checkpointing: bool,
    known: InputCache | None = None,
) -> Output:
    """The pass of a decoder-only model.

    Args:
        backbone: The frozen model.
        prompts: The batch's distinct prompts.
        rows: The batch: inputs, and their targets behind them.
        labels: Token ids to predict, `IGNORED` where there is no loss; a row's first token is never predicted.
        return_logits: Whether logits of every real token are wanted.
        checkpointing: Whether layers are recomputed in the backward pass.
        known: Inputs that were read before, if what stands before prompts is kept.
    """
    joined = join(backbone, prompts, rows)
    if labels is None:
        return Output(logits=_real_logits(backbone, joined, rows, checkpointing))
    labelled = (labels != IGNORED) & rows.mask & (token_columns(rows.mask) > 0)
    row_of, column = labelled.nonzero(as_tuple=True)
    kept = torch.zeros_like(joined.mask)
    kept[row_of, joined.columns[row_of, column] - 1] = True
    targets = labels[row_of, column]
    if return_logits:
        logits, full = None, _all_logits(backbone, joined, checkpointing)
        chosen, logits = full[kept], _gather_real(full, joined, rows)
    elif not checkpointing and splitting.pays(backbone, joined):
        output, wanted = splitting.read_in_two_parts(backbone, joined, rows, kept, known)
        chosen, logits = only_kept(output.logits, wanted), None
    else:
        chosen, logits = _kept_logits(backbone, joined.injection, kept, joined.model_inputs, checkpointing), None
    return _with_loss(chosen, targets, row_of, logits)


def translate(
    backbone: Backbone,
    prompts: Sequence[Applied],
    rows: Rows,
    labels: Int[Tensor, "batch target"] | None,
    decoder_input_ids: Int[Tensor, "batch target"] | None,
    *,
    return_logits: bool,
    checkpointing: bool,
) -> Output:
    """The pass of an encoder-decoder.

    Args:
        backbone: The frozen model.
        prompts: The batch's distinct prompts.
        rows: The inputs of the encoder.
        labels: Target token ids, `IGNORED` at padding.
        decoder_input_ids: What the decoder reads; the labels moved by one place if None.
        return_logits: Whether logits of the whole target are wanted.
        checkpointing: Whether layers are recomputed in the backward pass.
    """
    if decoder_input_ids is None:
        if labels is None:
            raise ShapeError("An encoder-decoder needs labels or decoder_input_ids; give one of them.")
        decoder_input_ids = decoder_start(backbone, labels)
    check_target(backbone, decoder_input_ids.shape[1])
    joined = join(backbone, prompts, rows)
    inputs = {**joined.model_inputs, "decoder_input_ids": decoder_input_ids}
    if labels is None or return_logits:
        full = _call(backbone, joined.injection, None, inputs, checkpointing)
        if labels is None:
            return Output(logits=full)
    kept = labels != IGNORED
    chosen = full[kept] if return_logits else _kept_logits(backbone, joined.injection, kept, inputs, checkpointing)
    row_of = kept.nonzero(as_tuple=True)[0]
    return _with_loss(chosen, labels[kept], row_of, full if return_logits else None)


def decoder_start(backbone: Backbone, labels: Int[Tensor, "batch target"]) -> Int[Tensor, "batch target"]:
    """What the decoder reads to predict the labels: the family's start token, then the labels but for the last.

    Raises:
        UnsupportedError: If the family does not say how its targets start.
    """
    shift = getattr(backbone.model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        raise UnsupportedError(f"{backbone.name} does not say how its targets start; pass decoder_input_ids.")
    shifted: Tensor = shift(labels=labels)
    return shifted


def _with_loss(chosen: Tensor, targets: Tensor, row_of: Tensor, logits: Tensor | None) -> Output:
    if not len(targets):
        raise ShapeError("No token is labelled; expected at least one label besides -100 behind a row's first token.")
    losses = token_losses(chosen, targets)
    return Output(loss=losses.mean(), logits=logits, losses=losses, rows=row_of)


def _call(
    backbone: Backbone, injection: Any, kept: Tensor | None, inputs: dict[str, Any], checkpointing: bool
) -> Tensor:
    carried = Carried(injection=injection, kept=kept)
    logits: Tensor = backbone.call(carried, checkpointing=checkpointing, use_cache=False, **inputs).logits
    return logits


def _kept_logits(
    backbone: Backbone, injection: Any, kept: Tensor, inputs: dict[str, Any], checkpointing: bool
) -> Tensor:
    """Logits `[kept, vocab]` of the wanted positions; the output head runs on no others where it can be told so."""
    told = kept if backbone.head_is_separable else None
    return only_kept(_call(backbone, injection, told, inputs, checkpointing), kept)


def only_kept(logits: Tensor, kept: Bool[Tensor, "batch seq"]) -> Float[Tensor, "kept vocab"]:
    """Logits of the wanted positions, from a head that was told to see no others or could not be told."""
    return logits[kept] if logits.shape[:2] == kept.shape else logits[0]


def _all_logits(backbone: Backbone, joined: Joined, checkpointing: bool) -> Tensor:
    return _call(backbone, joined.injection, None, joined.model_inputs, checkpointing)


def _real_logits(backbone: Backbone, joined: Joined, rows: Rows, checkpointing: bool) -> Tensor:
    return _gather_real(_all_logits(backbone, joined, checkpointing), joined, rows)


def _gather_real(logits: Tensor, joined: Joined, rows: Rows) -> Tensor:
    """`[batch, seq, vocab]`: for each real token what predicts its successor; zero at padding."""
    read = last_column_before_next(joined.columns, joined.mask)
    picked = logits.gather(1, read[:, :, None].expand(-1, -1, logits.shape[2]))
    return picked.masked_fill(~rows.mask[:, :, None], 0)
