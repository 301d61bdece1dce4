"""Generation: transformers' own `generate`, with prompts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Carried, Injection, carrying
from softprompt.backbones.prompt_cache import prompt_cache, with_stored
from softprompt.backbones.sharding import gather_outer
from softprompt.conditioning.chat import closing_id
from softprompt.conditioning.joining import Applied, Joined, Rows, check_target, join
from softprompt.conditioning.padding import repad
from softprompt.conditioning.probe import probe
from softprompt.errors import LengthError, UnsupportedError

__all__ = ["decode", "decoder_start_id", "encode", "end_ids", "generate", "logits_processors", "room_for"]

_LENGTHS = ("max_length", "max_new_tokens", "min_length", "min_new_tokens")
_CACHE_INPUTS, _CACHE_SETTINGS = (
    ("past_key_values", "assistant_model"),
    ("cache_implementation", "prompt_lookup_num_tokens"),
)
"""For which transformers has a cache of another kind, or takes back what it wrote to it."""
_UNASKED = 20
"""New tokens where neither options nor model say how many, as in transformers."""


def generate(backbone: Backbone, prompts: Sequence[Applied], rows: Rows, options: Mapping[str, Any]) -> Any:
    """Generate for a batch with prompts.

    Args:
        backbone: The frozen model.
        prompts: The batch's distinct prompts.
        rows: The inputs.
        options: What `transformers` knows.

    Returns:
        What `transformers` returns. In a decoder-only model the sequences begin with the input's ids, padded on
        the left; virtual tokens are never among them, and `max_length` and `min_length` do not count them.

    Raises:
        LengthError: If a row, its prompt and what is to be generated are longer than the backbone's positions, or
            `max_length` leaves nothing to generate.
    """
    options = _with_ends(backbone, options)
    if backbone.spec.kind == "encoder-decoder":
        return _generate_target(backbone, prompts, rows, options)
    most, options = _with_lengths(backbone, options, rows.ids.shape[1])
    joined = join(backbone, prompts, rows, side="left", room=most)
    ids, mask, _ = repad(rows.ids, rows.mask, side="left")
    # beside embeddings, what reads tokens (penalties, n-grams, streamers) still has the input's, whatever the pass
    inputs = {**joined.model_inputs, "input_ids": ids.where(mask, backbone.pad_id)}
    if "inputs_embeds" in inputs:
        options = _with_penalty(backbone, options, mask)
    options, load = _with_cache(backbone, joined.injection, options, most)
    with carrying(load):
        return backbone.model.generate(**inputs, **options)


def logits_processors(
    backbone: Backbone, ids: Sequence[int], options: Mapping[str, Any]
) -> tuple[LogitsProcessorList, list[int]]:
    """What changes the logits of one row's next tokens before one is chosen, as `generate` has it for that row alone.

    The model's own settings count where the options say nothing. Guidance without the input is left out: it takes
    passes of its own.

    Args:
        backbone: The frozen model.
        ids: The input's token ids.
        options: Settings of transformers' `GenerationConfig`; `max_new_tokens` among them.

    Returns:
        The processors, for the CPU, and the ids that they read before the first token.

    Raises:
        UnsupportedError: If an encoder-decoder does not say how its targets start.
    """
    model = backbone.model
    seen = [decoder_start_id(backbone)] if backbone.spec.kind == "encoder-decoder" else list(ids)
    most, settings = _with_lengths(backbone, _with_ends(backbone, options), len(seen))
    config = copy.copy(model.generation_config)  # whose own values are set anew, and never changed
    least = settings.get("min_new_tokens")
    settings |= {"max_length": len(seen) + most, "min_length": len(seen) + least if least else None}
    for name, value in {**settings, "guidance_scale": None, "num_beams": 1}.items():
        setattr(config, name, value)
    model._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")
    processors = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=len(seen),
        encoder_input_ids=None if backbone.spec.kind == "encoder-decoder" else torch.tensor([seen]),
        logits_processor=LogitsProcessorList([_BelowZero()] if config.do_sample else []),
        device="cpu",
    )
    return processors, seen


class _BelowZero(LogitsProcessor):
    """The same distribution with its largest logit at 0, so that no temperature makes it infinite."""

    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        return scores - scores.amax(-1, keepdim=True)


def room_for(backbone: Backbone, options: Mapping[str, Any]) -> int:
    """Positions to leave free behind an input that is not tokenized yet: the most new tokens that options ask for.

    Under `max_length` they are what the input leaves of it, one at least.
    """
    most = _asked(backbone, options, "max_new_tokens")
    if most is not None:
        return int(most)
    return _UNASKED if _asked(backbone, options, "max_length") is None else 1


def _asked(backbone: Backbone, options: Mapping[str, Any], name: str) -> Any:
    """A setting as transformers finds it: among the options, in their `generation_config`, or in the model's."""
    configs = (options.get("generation_config"), backbone.model.generation_config)
    found = (options.get(name), *(getattr(config, name) for config in configs if config is not None))
    return next((value for value in found if value is not None), None)


def _with_lengths(backbone: Backbone, options: Mapping[str, Any], width: int) -> tuple[int, dict[str, Any]]:
    """The most new tokens, and the options with lengths in new tokens alone.

    Beside embeddings transformers would subtract inserted virtual tokens from `max_length` and `min_length`, and
    the longest prompt of a batch would shorten what every row gets.

    Args:
        backbone: Whose own settings stand behind the options.
        options: What `transformers` knows.
        width: Columns of the ids that the sequences begin with.
    """
    most, total = _asked(backbone, options, "max_new_tokens"), _asked(backbone, options, "max_length")
    if most is None:
        most = _UNASKED if total is None else total - width
    if most < 1:
        raise LengthError(
            f"max_length={total} counts the {width} tokens of the longest input too, and leaves none to generate; "
            "raise it, or pass max_new_tokens."
        )
    least = _asked(backbone, options, "min_new_tokens")
    if least is None:
        shortest = _asked(backbone, options, "min_length")
        least = max(shortest - width, 0) if shortest else None
    lengths = {"max_new_tokens": most, "max_length": None}
    if least is not None:
        lengths |= {"min_new_tokens": least, "min_length": None}
    return most, _with_settings({name: value for name, value in options.items() if name not in _LENGTHS}, lengths)


def _with_settings(options: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options with further settings; in their `generation_config` if they bring one, as transformers wants it."""
    config = options.get("generation_config")
    if config is None:
        return {**options, **settings}
    config = copy.deepcopy(config)
    config.update(**settings)
    return {**options, "generation_config": config}


def _with_ends(backbone: Backbone, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the tokens that close targets to those that end a text, unless the options say themselves what ends one."""
    config = options.get("generation_config")
    if "eos_token_id" in options or (config is not None and config.eos_token_id is not None):
        return options
    ends = end_ids(backbone)
    return _with_settings(options, {"eos_token_id": ends}) if ends else options


def _with_penalty(backbone: Backbone, options: Mapping[str, Any], mask: Bool[Tensor, "batch seq"]) -> Mapping[str, Any]:
    """Tell a repetition penalty where the input's ids begin; transformers would take it from the joined mask."""
    strength = _asked(backbone, options, "repetition_penalty") or 1.0
    if strength == 1.0:
        return options
    copies = max(_asked(backbone, options, name) or 1 for name in ("num_beams", "num_return_sequences"))
    padding = (~mask).sum(-1).repeat_interleave(copies)
    penalty = RepetitionPenaltyLogitsProcessor(strength, prompt_ignore_length=padding)
    return {**options, "logits_processor": [*(options.get("logits_processor") or ()), penalty]}


def _with_cache(
    backbone: Backbone, injection: Injection | None, options: Mapping[str, Any], most: int
) -> tuple[Mapping[str, Any], Carried]:
    """Keep prompts in the cache, where nobody asks for another one; and what the call carries.

    A cache that an earlier call returned holds its prompts already, which must be those of this call.
    """
    if injection is not None and options.get("past_key_values") is not None:
        return options, Carried(injection=with_stored(options["past_key_values"], injection))
    other = any(options.get(name) is not None for name in _CACHE_INPUTS)
    other |= any(_asked(backbone, options, name) is not None for name in _CACHE_SETTINGS)
    other |= _asked(backbone, options, "use_cache") is False
    if injection is None or other or not probe(backbone).stored:
        return options, Carried(injection=injection)
    cache, injection = prompt_cache(backbone.model.config, injection, room=most)
    return {**options, "past_key_values": cache}, Carried(injection=injection)


def _generate_target(backbone: Backbone, prompts: Sequence[Applied], rows: Rows, options: Mapping[str, Any]) -> Any:
    begun = options.get("decoder_input_ids")
    width = 1 if begun is None else begun.shape[1]
    most, options = _with_lengths(backbone, options, width)
    check_target(backbone, width - 1 + most)  # the last token is never read
    joined = join(backbone, prompts, rows)
    deeper = backbone.spec.decoder_layers > backbone.spec.layers
    if deeper and options.get("use_cache", True) and not options.keys() & {"past_key_values", "cache_implementation"}:
        # transformers sizes the cache of a bare T5 by its encoder, and fails beyond
        options["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
    encoded = encode(backbone, joined)
    mask = joined.model_inputs["attention_mask"]
    unread = torch.full_like(mask, -100, dtype=torch.long)  # transformers' own stands where the table does: on disk
    with carrying(Carried(injection=joined.injection)):
        return backbone.model.generate(unread, encoder_outputs=encoded, attention_mask=mask, **options)


def encode(backbone: Backbone, joined: Joined) -> BaseModelOutput:
    """The encoder's output, `[batch, joined, hidden]`."""
    gather_outer(backbone.model)
    with carrying(Carried(injection=joined.injection)):
        output = backbone.model.get_encoder()(**joined.model_inputs)
    return BaseModelOutput(last_hidden_state=output.last_hidden_state)


def end_ids(backbone: Backbone) -> list[int]:
    """The tokens that end a text: the model's own, and those that close targets."""
    own = backbone.model.generation_config.eos_token_id
    ends = list(own) if isinstance(own, list) else [] if own is None else [own]
    closing = {token for token in (backbone.end_id, closing_id(backbone)) if token is not None and token not in ends}
    return [*ends, *sorted(closing)]


def decoder_start_id(backbone: Backbone) -> int:
    """The token that an encoder-decoder's targets begin behind.

    Raises:
        UnsupportedError: If the model does not say.
    """
    model = backbone.model
    found = (getattr(config, "decoder_start_token_id", None) for config in (model.generation_config, model.config))
    start = next((one for one in found if one is not None), model.generation_config.bos_token_id)
    if not isinstance(start, int):
        raise UnsupportedError(f"{backbone.name} does not say how its targets start; set decoder_start_token_id.")
    return start


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
