"""Models of known shapes with random weights: what a step costs does not depend on what a model knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

import softprompt as sp
from softprompt.backbones.quantization import quantize

__all__ = ["DECODERS", "DEFAULT_SHAPES", "ENCODER_DECODERS", "SHAPES", "Weights", "build_backbone", "build_model"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where a model's weights lie, and in how many bits.

    Attributes:
        device: A torch device.
        dtype: Name of a torch dtype.
        quantize: `int8` or `nf4` for the layers' weights; None keeps them in `dtype`.
    """

    device: str = "cpu"
    dtype: str = "float32"
    quantize: str | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def described(self) -> str:
        """What is unusual about them, in words that follow others."""
        unlike = (
            [self.dtype] * (self.dtype != "float32") + [self.quantize or ""] + [self.device] * (self.device != "cpu")
        )
        return "".join(f", {word}" for word in unlike if word)


def _llama(dim: int, hidden: int, layers: int, heads: int) -> Callable[[], PreTrainedModel]:
    return lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32000,
            hidden_size=dim,
            intermediate_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
        )
    )


def _gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config())


def _t5(**settings: object) -> Callable[[], PreTrainedModel]:
    return lambda: T5ForConditionalGeneration(T5Config(vocab_size=32128, decoder_start_token_id=0, **settings))


def _t5_1_1(**settings: object) -> Callable[[], PreTrainedModel]:
    return _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **settings)


SHAPES: Mapping[str, Callable[[], PreTrainedModel]] = {
    "small": _llama(512, 1376, 6, 8),
    "gpt2": _gpt2,
    "small-t5": _t5_1_1(d_ff=1024),
    "t5-small": _t5(),
    "llama-1b": _llama(2048, 5504, 18, 16),
    "llama-7b": _llama(4096, 11008, 32, 32),
    "t5-1b": _t5_1_1(d_model=2048, d_ff=5120, num_heads=32, num_layers=8),
    "t5-7b": _t5_1_1(d_model=4096, d_ff=10240, num_heads=64, num_layers=15),
}
"""`small` is Llama-shaped, of 6 layers, width 512 and 32,000 tokens; `small-t5` is T5 1.1 of as many layers and that
width; `gpt2` and `t5-small` are the models of these names. For GPUs: Llama's first model of 7 B and a narrower one of
1 B; T5 1.1's layers of XL and XXL, as many as are 1 B and 7 B."""
DEFAULT_SHAPES = ("small", "gpt2", "small-t5", "t5-small")
DECODERS = ("small", "gpt2", "llama-1b", "llama-7b")
ENCODER_DECODERS = ("small-t5", "t5-small", "t5-1b", "t5-7b")


def build_model(name: str, weights: Weights) -> PreTrainedModel:
    """A model in evaluation mode, without dropout, so that all libraries compute the same."""
    model = _build(name, weights)
    if weights.quantize is not None:
        quantize(model, weights.quantize)
    return model


def build_backbone(name: str, weights: Weights, tokenizer: PreTrainedTokenizerBase | None = None) -> sp.Backbone:
    """The same model as a backbone, known by its weights as they were before they were quantised."""
    backbone = sp.Backbone.from_model(_build(name, weights), tokenizer)
    if weights.quantize is not None:
        _ = backbone.fingerprint
        quantize(backbone.model, weights.quantize)
        backbone.quantized = weights.quantize
    return backbone


def _build(name: str, weights: Weights) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device(weights.device):
        return SHAPES[name]().to(weights.torch_dtype).eval()
