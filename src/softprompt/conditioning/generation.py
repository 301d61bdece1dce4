"""Generation: transformers' own `generate`, with prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from softprompt.backbones import Backbone
from softprompt.backbones.attention import Carried, carrying
from softprompt.conditioning.joining import Applied, Joined, Rows, join
from softprompt.conditioning.padding import repad

__all__ = ["decode", "encode", "generate"]


def generate(backbone: Backbone, prompts: Sequence[Applied], rows: Rows, options: Mapping[str, Any]) -> Any:
    """Generate for a batch with prompts.

    Args:
        backbone: The frozen model.
        prompts: The batch's distinct prompts.
        rows: The inputs.
        options: What `transformers` knows.

    Returns:
        What `transformers` returns. In a decoder-only model the sequences begin with the input's ids, padded on
        the left; virtual tokens are never among them.
    """
    options = _with_ends(backbone, options)
    if backbone.spec.kind == "encoder-decoder":
        return _generate_target(backbone, prompts, rows, dict(options))
    room = int(options.get("max_new_tokens") or 0)
    joined = join(backbone, prompts, rows, side="left", room=room)
    with carrying(Carried(injection=joined.injection)):
        made = backbone.model.generate(**joined.model_inputs, **options)
    if "input_ids" in joined.model_inputs:
        return made
    ids, _, _ = repad(rows.ids, rows.mask, side="left")
    return _behind(ids, made)


def _with_ends(backbone: Backbone, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the token that closes targets to those that end a text, where the model's own settings lack it."""
    own = backbone.model.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [] if own is None else [own]
    if backbone.end_id is None or backbone.end_id in ends or options.keys() & {"eos_token_id", "generation_config"}:
        return options
    return {**options, "eos_token_id": [*ends, backbone.end_id]}


def _generate_target(backbone: Backbone, prompts: Sequence[Applied], rows: Rows, options: dict[str, Any]) -> Any:
    joined = join(backbone, prompts, rows)
    deeper = backbone.spec.decoder_layers > backbone.spec.layers
    if deeper and options.get("use_cache", True) and not options.keys() & {"past_key_values", "cache_implementation"}:
        # transformers sizes the cache of a bare T5 by its encoder, and fails beyond
        options["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
    encoded = encode(backbone, joined)
    mask = joined.model_inputs["attention_mask"]
    with carrying(Carried(injection=joined.injection)):
        return backbone.model.generate(encoder_outputs=encoded, attention_mask=mask, **options)


def encode(backbone: Backbone, joined: Joined) -> BaseModelOutput:
    """The encoder's output, `[batch, joined, hidden]`."""
    with carrying(Carried(injection=joined.injection)):
        output = backbone.model.get_encoder()(**joined.model_inputs)
    return BaseModelOutput(last_hidden_state=output.last_hidden_state)


def _behind(ids: Int[Tensor, "batch seq"], made: Any) -> Any:
    """Put the input's ids before generated ones, as transformers does when it is given ids."""

    def join_ids(new: Tensor) -> Tensor:
        return torch.cat([ids.repeat_interleave(new.shape[0] // ids.shape[0], dim=0), new], dim=1)

    if torch.is_tensor(made):
        return join_ids(made)
    made.sequences = join_ids(made.sequences)
    return made


def decode(backbone: Backbone, made: Any, width: int) -> list[str]:
    """The texts of generated ids, without special tokens and without the blank that a continuation begins with.

    Args:
        backbone: What generated them.
        made: What `generate` returned.
        width: Columns of the inputs' ids, which begin the sequences of a decoder-only model.
    """
    sequences: Tensor = made if torch.is_tensor(made) else made.sequences
    if backbone.spec.kind == "decoder-only":
        sequences = sequences[:, width:]
    texts = backbone.need_tokenizer().batch_decode(sequences, skip_special_tokens=True)
    return [text.removeprefix(" ") for text in texts]
