"""Models of known shapes with random weights: what a step costs does not depend on what a model knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

__all__ = ["DECODERS", "ENCODER_DECODERS", "SHAPES", "build_shape"]


def _small_llama() -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32000, hidden_size=512, intermediate_size=1376, num_hidden_layers=6, num_attention_heads=8
        )
    )


def _gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config())


def _t5(**settings: object) -> Callable[[], PreTrainedModel]:
    return lambda: T5ForConditionalGeneration(T5Config(vocab_size=32128, decoder_start_token_id=0, **settings))


SHAPES: Mapping[str, Callable[[], PreTrainedModel]] = {
    "small": _small_llama,
    "gpt2": _gpt2,
    "small-t5": _t5(feed_forward_proj="gated-gelu", d_ff=1024, tie_word_embeddings=False),
    "t5-small": _t5(),
}
"""`small` is Llama-shaped, of 6 layers, width 512 and 32,000 tokens; `small-t5` is T5 1.1 of as many layers and that
width; `gpt2` and `t5-small` are the models of these names."""
DECODERS = ("small", "gpt2")
ENCODER_DECODERS = ("small-t5", "t5-small")


def build_shape(name: str) -> PreTrainedModel:
    """A model in evaluation mode, without dropout, so that all libraries compute the same."""
    torch.manual_seed(0)
    return SHAPES[name]().eval()
