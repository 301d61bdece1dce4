"""Generation: transformers' own `generate`, with prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, RepetitionPenaltyLogitsProcessor
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
    ids, mask, _ = repad(rows.ids, rows.mask, side="left")
    # beside embeddings, what reads tokens (penalties, n-grams, streamers) still has the input's, whatever the pass
    inputs = {**joined.model_inputs, "input_ids": ids.where(mask, backbone.pad_id)}
    if "inputs_embeds" in inputs:
        options = _with_penalty(backbone, options, mask)
    with carrying(Carried(injection=joined.injection)):
        return backbone.model.generate(**inputs, **options)


def _with_ends(backbone: Backbone, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the token that closes targets to those that end a text, where the model's own settings lack it."""
    own = backbone.model.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [] if own is None else [own]
    if backbone.end_id is None or backbone.end_id in ends or options.keys() & {"eos_token_id", "generation_config"}:
        return options
    return {**options, "eos_token_id": [*ends, backbone.end_id]}


def _with_penalty(backbone: Backbone, options: Mapping[str, Any], mask: Bool[Tensor, "batch seq"]) -> Mapping[str, Any]:
    """Tell a repetition penalty where the input's ids begin; transformers would take it from the joined mask."""
    settings = options.get("generation_config") or backbone.model.generation_config
    asked = {
        name: options.get(name, getattr(settings, name))
        for name in ("repetition_penalty", "num_beams", "num_return_sequences")
    }
    if (asked["repetition_penalty"] or 1.0) == 1.0:
        return options
    copies = max(asked["num_beams"] or 1, asked["num_return_sequences"] or 1)
    padding = (~mask).sum(-1).repeat_interleave(copies)
    penalty = RepetitionPenaltyLogitsProcessor(asked["repetition_penalty"], prompt_ignore_length=padding)
    return {**options, "logits_processor": [*(options.get("logits_processor") or ()), penalty]}


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
